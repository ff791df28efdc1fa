--- Waiting without blocking: sleep, spawn, await, all, timers.
local core = require("perigee.core")
local errors = require("perigee.errors")
local report = require("perigee.report")

local M = {}

--- Waits end after this many seconds unless somebody says otherwise.
M.DEFAULT_TIMEOUT = 30

---@param seconds any
---@param what string
local function check_seconds(seconds, what)
  if type(seconds) ~= "number" or seconds ~= seconds or seconds < 0 then
    error(("%s takes a number of seconds, not %s"):format(what, tostring(seconds)), 3)
  end
end

local function check_function(fn, what)
  if type(fn) ~= "function" then
    error(("%s takes a function, not a %s"):format(what, type(fn)), 3)
  end
end

--- Seconds on a clock that only goes forward; its zero means nothing.
---@return number
function M.now()
  return core.now()
end

--- Suspends this handler; everything else goes on.
---@param seconds number
function M.sleep(seconds)
  check_seconds(seconds, "perigee.sleep")
  core.park(seconds)
end

--- Turns a callback into a wait: calls start(done) and suspends until done(...) is called, whose
--- values it returns.
---@param start fun(done: fun(...))
---@param timeout? number seconds, default 30
---@return any ... what done got, or nil, "timeout"
function M.await(start, timeout)
  check_function(start, "perigee.await")
  timeout = timeout == nil and M.DEFAULT_TIMEOUT or timeout
  check_seconds(timeout, "perigee.await's timeout")
  local result, task, wait
  start(function(...)
    if result then return end
    result = table.pack(...)
    if wait then core.wake(task, wait) end
  end)
  if not result then -- start may have waited itself: only now does this wait begin
    task, wait = core.wait_open()
    core.park(timeout, wait)
    wait = nil
    result = result or { nil, "timeout", n = 2 }
  end
  return table.unpack(result, 1, result.n)
end

--- Stands where a function's results would be that was ended.
local ENDED = {}

--- Runs functions at the same time and waits for all of them.
---@param fns function[]
---@return table[] results packed as table.pack does, in the order of fns; raises the first error
---after all have ended
function M.all(fns)
  if type(fns) ~= "table" then
    error("perigee.all takes a list of functions, not a " .. type(fns), 2)
  end
  for i = 1, #fns do check_function(fns[i], "perigee.all") end
  local results, left, failed, failure = {}, #fns, false, nil
  if left == 0 then return results end
  local task, wait = core.wait_open()
  local ends = { __close = function()
    left = left - 1
    if left == 0 then core.wake(task, wait) end
  end }
  for i, fn in ipairs(fns) do
    results[i] = ENDED
    core.spawn(function()
      -- told in any case: code that runs on and on is ended where it is, and nothing after it runs
      local _ <close> = setmetatable({}, ends)
      local result = table.pack(pcall(fn))
      if result[1] then
        results[i] = table.pack(table.unpack(result, 2, result.n))
      elseif not failed then
        failed, failure = true, result[2]
      end
    end)
  end
  core.park(nil, wait)
  if failed then error(failure, 0) end
  for _, result in ipairs(results) do
    if result == ENDED then
      error(errors.new { code = errors.codes.timeout, message = "A function given to perigee.all ran for too long" })
    end
  end
  return results
end

--- A module of an app's that failed on a thread: its code is the app's, though nothing has loaded it here.
---@param owner { sources: table<string, string>? }
---@param path string of its file, without ".lua" or "/init.lua"
---@param err any
local function note_module(owner, path, err)
  local file = type(err) == "string" and report.place(err)
  if owner.sources and (file == path .. ".lua" or file == path .. "/init.lua") then
    owner.sources[file] = owner.sources[file] or ""
  end
end

--- Runs a function of one of the app's modules on a thread, in a Lua state of its own, and waits for
--- it: for what would hold everybody up. Only plain values cross; an error is raised here.
---@param owner { name: string, dir: string?, sources: table<string, string>? }
---@param module string "chat.thumbnails"
---@param name string of a function in the table that the module returns
---@param ... any
---@return any ...
function M.blocking(owner, module, name, ...)
  if type(module) ~= "string" or type(name) ~= "string" then
    error("perigee.blocking takes a module's name and a function's name", 2)
  end
  -- modules are found as require finds them: "chat.x" below the folder that holds chat/
  local folder = owner.dir and owner.dir:match("^(.*)/[^/]+$") or "."
  local task, wait = core.wait_open()
  local job = core.blocking(task, wait, folder, module, name, ...)
  if not job then
    error(errors.new { code = errors.codes.unavailable, message = "Too many blocking functions wait already" })
  end
  core.park(nil, wait)
  local function settle(ok, ...)
    if ok then return ... end
    note_module(owner, folder .. "/" .. module:gsub("%.", "/"), ...)
    error((...), 0)
  end
  return settle(job())
end

--- What an app runs beside its calls: it ends together when the app is retired.
---@class perigee.TaskOwner
---@field timers table<perigee.Timer, true>
---@field tasks table<integer, true> those that end with it
---@field held? fun()[] while it is loaded: what waits until it is served
---@field is_retired? boolean

--- Owners of the running tasks that end with them.
---@type table<integer, perigee.TaskOwner>
local owners = {}

local leaving = { __close = function(mark)
  owners[mark.task] = nil
  mark.owner.tasks[mark.task] = nil
end }

local function run_owned(fn, ...)
  local task = core.running() --[[@as integer]]
  local _ <close> = setmetatable({ task = task, owner = owners[task] }, leaving)
  fn(...)
end

--- Runs a task that ends with its owner, whoever has begun it.
---@param owner perigee.TaskOwner
---@param fn function
---@param ... any
function M.spawn_for(owner, fn, ...)
  local task = core.spawn(run_owned, fn, ...)
  owners[task], owner.tasks[task] = owner, true
  if owner.is_retired then core.cancel(task) end -- begun by what is ending
end

--- Runs a task, as soon as the app is served: while it is loaded, it may yet fail. What is spawned then,
--- and what that spawns, ends with the app.
---@param owner perigee.TaskOwner
---@param fn function
---@param ... any
function M.start(owner, fn, ...)
  check_function(fn, "perigee.spawn")
  if owner.held then
    local args = table.pack(...)
    owner.held[#owner.held + 1] = function() M.spawn_for(owner, fn, table.unpack(args, 1, args.n)) end
  elseif owners[core.running()] == owner then
    M.spawn_for(owner, fn, ...)
  else
    core.spawn(fn, ...)
  end
end

---@param owner perigee.TaskOwner
---@param fn function
local function start_timer(owner, fn)
  if owner.held then M.start(owner, fn) else M.spawn_for(owner, fn) end
end

---@class perigee.Timer
---@field package owner perigee.TaskOwner
local Timer = {}
Timer.__index = Timer
Timer.__name = "perigee.timer"

--- Stops the timer. A function that runs at the moment runs to its end.
function Timer:cancel()
  self.cancelled = true
  self.owner.timers[self] = nil
  if self.task then core.wake(self.task, self.wait) end
  self.task = nil
end

--- Waits until it is time. False when cancelled meanwhile.
---@param timer perigee.Timer
---@param seconds number
---@return boolean
local function timer_wait(timer, seconds)
  if timer.cancelled then return false end
  timer.task, timer.wait = core.wait_open()
  core.park(seconds, timer.wait)
  timer.task = nil
  return not timer.cancelled
end

---@param owner perigee.TaskOwner
---@return perigee.Timer
local function new_timer(owner)
  local timer = setmetatable({ owner = owner }, Timer)
  owner.timers[timer] = true
  return timer
end

--- Calls fn once, after some seconds.
---@param owner perigee.TaskOwner
---@param seconds number
---@param fn function
---@return perigee.Timer
function M.after(owner, seconds, fn)
  check_seconds(seconds, "perigee.after")
  check_function(fn, "perigee.after")
  local timer = new_timer(owner)
  start_timer(owner, function()
    if not timer_wait(timer, seconds) then return end
    owner.timers[timer] = nil
    fn()
  end)
  return timer
end

--- Calls fn every so many seconds, the first time after as many. Calls do not overlap: one that
--- takes longer swallows the ticks it misses. An error is logged and the next tick comes.
---@param owner perigee.TaskOwner
---@param seconds number more than 0
---@param fn function
---@return perigee.Timer
function M.every(owner, seconds, fn)
  check_seconds(seconds, "perigee.every")
  check_function(fn, "perigee.every")
  if seconds == 0 then error("perigee.every needs more than 0 seconds", 2) end
  local timer = new_timer(owner)
  start_timer(owner, function()
    local task = core.running()
    local due = core.now()
    while true do
      local now = core.now()
      due = math.max(due + seconds, now)
      if not timer_wait(timer, due - now) then return end
      local ok, err = xpcall(fn, function(e) return report.fault(e) end)
      if core.is_stopped(task) then return end -- its owner is retired
      if not ok then report.log(err, "timer failed") end
    end
  end)
  return timer
end

--- Ends what an owner runs: its timers now, its tasks at their next wait.
---@param owner perigee.TaskOwner
function M.end_all(owner)
  owner.is_retired = true
  for timer in pairs(owner.timers) do timer:cancel() end
  for task in pairs(owner.tasks) do core.cancel(task) end
end

return M
