--- The feed: what happens in the server, twice a second to everybody who watches.
---
---   this worker: calls, connections, faults ─┐
---   each of the others, once per tick ───────┴─▶ one tick ─▶ every watcher
---
--- A tick tells a bounded number of events and how many there were beyond that, so however much is going
--- on, watching costs about the same. Counts are sums, so a watcher that has missed a tick misses no call.
local core = require("perigee.core")
local crew = require("perigee.inspector.crew")
local mail = require("perigee.mail")
local report = require("perigee.report")
local shown = require("perigee.inspector.shown")
local signals = require("perigee.signals")
local traffic = require("perigee.traffic")
local wait = require("perigee.wait")

local M = {}

local TICK = 0.5 -- seconds
local MOST_EVENTS = 100 -- in a tick
local MOST_WATCHERS = 16
local MOST_KEPT = 50 -- faults, and reloads, to be looked at later
local MOST_UNSENT = 256 * 1024 -- bytes: a watcher that is so far behind gets no more until it has read
local ASKED_FOR = 2 -- seconds that another worker is told after it has last asked to be

--- What timers and receivers belong to.
---@type { name: string, timers: table }
M.owner = { name = "inspector", timers = {}, tasks = {} }

--- Watchers by connection.
---@type table<integer, { instance: perigee.Instance, needs_all: boolean }>
local watchers, n_watchers = {}, 0

--- Other workers that have watchers, and until when they are told.
---@type table<integer, number>
local askers = {}

local timer
local events, dropped = {}, 0
local faults, reloads = {}, {}

local function list(items)
  return setmetatable(items, core.array_mt)
end

-- ---- what happens ---------------------------------------------------------------------------------

local function keep(kept, event)
  if #kept == MOST_KEPT then table.remove(kept, 1) end
  kept[#kept + 1] = event
end

--- Something has happened.
---@param kind string
---@param event table
---@return table event
local function add(kind, event)
  event.kind, event.at = kind, event.at or core.now()
  if not timer then return event end
  if #events < MOST_EVENTS then events[#events + 1] = event else dropped = dropped + 1 end
  return event
end

---@param ended perigee.Ended
local function on_call(ended)
  if #events >= MOST_EVENTS then -- before anything is made of it
    dropped = dropped + 1
    return
  end
  local event = add("call", {
    path = ended.record.path, method = shown.text(ended.method), conn = shown.conn(ended.conn),
    seconds = ended.seconds,
  })
  -- what people write is shown to who writes the app, not to who runs it
  if core.is_dev and ended.params ~= nil then event.params = shown.value(ended.params, 200) end
  if ended.err then
    event.code = ended.err.code
    event.message = shown.text(ended.err.message)
    event.error_id = ended.err.id
  end
end

---@param fault perigee.Fault
---@param what string
---@param fields table<string, any>
local function on_fault(fault, what, fields)
  keep(faults, add("fault", {
    id = fault.id, what = shown.text(what), message = shown.text(fault.message, 2000),
    file = fault.file, line = fault.line,
    excerpt = fault.excerpt and shown.text(fault.excerpt, 2000),
    traceback = shown.text(fault.traceback, 8000),
    path = fields.path and shown.text(fields.path), method = fields.method and shown.text(fields.method),
    conn = fields.conn,
  }))
end

--- All workers load apps together: the first one tells.
local function on_reload(kind)
  return function(event)
    if core.worker > 0 then return end
    keep(reloads, add(kind, {
      app = event.app, generation = event.generation,
      message = event.error and shown.text(event.error, 8000) or nil,
    }))
  end
end

--- Begins to keep what may be looked at later.
function M.start()
  report.on_fault = on_fault
  for _, name in ipairs { "app_loaded", "app_reloaded", "app_reload_failed" } do
    signals.on(M.owner, name, on_reload(name))
  end
  for _, name in ipairs { "layer_down", "layer_up" } do
    signals.on(M.owner, name, function(event)
      if core.worker == 0 then add(name, { message = event.error and shown.text(event.error) }) end
    end)
  end
  crew.on("kept", function() return { faults = list(faults), reloads = list(reloads) } end)
end

--- What all workers have kept, oldest first.
---@return table[] faults
---@return table[] reloads
function M.kept()
  local all = { faults = list {}, reloads = list {} }
  for _, one in ipairs(crew.ask_all("kept")) do
    for name, kept in pairs(all) do table.move(one[name], 1, #one[name], #kept + 1, kept) end
  end
  for _, kept in pairs(all) do
    table.sort(kept, function(a, b) return a.at < b.at end)
    while #kept > MOST_KEPT do table.remove(kept, 1) end
  end
  return all.faults, all.reloads
end

-- ---- sums of all workers --------------------------------------------------------------------------

--- What each worker has counted last, by path and method.
---@type table<integer, table<string, perigee.Traffic>>
local counted = {}
---@type table<string, true>
local changed = {}
--- Lua memory of the other workers.
---@type table<integer, integer>
local memory = {}

local function forget_sums()
  counted, changed, memory = {}, {}, {}
end

---@param worker integer
---@param methods perigee.Traffic[]
local function count(worker, methods)
  local of_worker = counted[worker] or {}
  counted[worker] = of_worker
  for _, one in ipairs(methods) do
    local key = one.path .. "\0" .. one.method
    of_worker[key] = one
    changed[key] = true
  end
end

--- One method's traffic in all workers, as it is told.
---@param key string
---@return table
local function sum(key)
  local all = { calls = 0, errors = 0, seconds = 0, max = 0 }
  local buckets, told = {}, list {}
  for _, of_worker in pairs(counted) do
    local one = of_worker[key]
    if one then
      all.path, all.method = one.path, shown.text(one.method)
      all.calls, all.errors = all.calls + one.calls, all.errors + one.errors
      all.seconds, all.max = all.seconds + one.seconds, math.max(all.max, one.max)
      for bucket, n in pairs(one.buckets) do buckets[bucket] = (buckets[bucket] or 0) + n end
    end
  end
  for i = 0, 40 do
    if buckets[i] then told[#told + 1] = list { i, buckets[i] } end
  end
  all.buckets = told
  return all
end

---@param is_all boolean
---@return table[]
local function sums(is_all)
  local out, keys = list {}, changed
  if is_all then
    keys = {}
    for _, of_worker in pairs(counted) do
      for key in pairs(of_worker) do keys[key] = true end
    end
  end
  for key in pairs(keys) do out[#out + 1] = sum(key) end
  return out
end

--- Numbers that go up, of all workers.
---@return table
function M.totals()
  local used, max = core.memory()
  for _, bytes in pairs(memory) do used, max = used + bytes, max + select(2, core.memory()) end
  return { now = core.now(), metrics = core.metrics(true), lua_memory = used, lua_memory_max = max }
end

-- ---- the ticks ------------------------------------------------------------------------------------

--- What this worker has to tell another one.
---@param methods perigee.Traffic[]
---@return table
local function letter_of(methods)
  local out = list {}
  for i, one in ipairs(methods) do
    local copy = {}
    for key, value in pairs(one) do copy[key] = value end
    copy.buckets = list {} -- JSON has no numbers for keys
    for k = 0, 40 do copy.buckets[k + 1] = one.buckets[k] or 0 end
    out[i] = copy
  end
  return { events = list(events), dropped = dropped, methods = out, memory = (core.memory()) }
end

local function take_sightings()
  local seen, unseen = core.sightings(true, dropped)
  for _, one in ipairs(seen) do
    add(one.code and "closed" or "opened", {
      at = one.at, path = one.path, conn = shown.conn(one.conn), code = one.code,
      reason = one.reason and shown.text(one.reason) or nil,
    })
  end
  dropped = dropped + unseen
end

local function tell_watchers()
  local new = M.totals()
  new.events, new.dropped, new.methods = list(events), dropped, sums(false)
  changed = {}
  local all
  for conn, watcher in pairs(watchers) do
    local facts = core.conn_facts(conn)
    if not facts then
      M.unwatch(conn)
    elseif facts.output > MOST_UNSENT then
      watcher.needs_all = true
    elseif watcher.needs_all then
      watcher.needs_all = false
      all = all or sums(true)
      local more = {}
      for key, value in pairs(new) do more[key] = value end
      more.methods = all
      watcher.instance:notify("tick", more)
    else
      watcher.instance:notify("tick", new)
    end
  end
end

--- Stops when nobody watches here or elsewhere.
local function rest()
  if not timer or n_watchers > 0 or next(askers) then return end
  timer:cancel()
  timer = nil
  traffic.watch(nil)
  core.sightings(false)
  forget_sums()
end

local function tick()
  take_sightings()
  local methods = traffic.take(false)
  for worker, last in pairs(askers) do
    if last < core.now() then askers[worker] = nil end
  end
  for worker in pairs(askers) do crew.tell(worker, "inspector_tick", letter_of(methods)) end
  if n_watchers > 0 then
    count(core.worker, methods)
    tell_watchers()
    for worker = 0, crew.count - 1 do
      if worker ~= core.worker then crew.tell(worker, "inspector_watch", {}) end
    end
  end
  events, dropped = {}, 0
  rest()
end

--- Begins, unless it has already.
local function work()
  if timer then return end
  events, dropped = {}, 0
  core.sightings(true)
  traffic.watch(on_call)
  timer = wait.every(M.owner, TICK, tick)
end

mail.on("inspector_watch", function(letter)
  local is_new = not askers[letter.from]
  askers[letter.from] = core.now() + ASKED_FOR
  work()
  -- who is told from now on needs what was counted before, too
  if is_new then crew.tell(letter.from, "inspector_tick", letter_of(traffic.take(true))) end
end)

mail.on("inspector_tick", function(letter)
  if n_watchers == 0 then return end
  for _, event in ipairs(letter.events) do add(event.kind, event) end
  dropped = dropped + letter.dropped
  memory[letter.from] = letter.memory
  for _, one in ipairs(letter.methods) do
    local buckets = {}
    for i, n in ipairs(one.buckets) do
      if n > 0 then buckets[i - 1] = n end
    end
    one.buckets = buckets
  end
  count(letter.from, letter.methods)
end)

--- The connection gets ticks from now on.
---@param conn integer
---@param instance perigee.Instance
---@return boolean watches false: too many do already
function M.watch(conn, instance)
  if watchers[conn] then return true end
  if n_watchers >= MOST_WATCHERS then return false end
  if n_watchers == 0 then
    forget_sums()
    count(core.worker, traffic.take(true))
    for worker = 0, crew.count - 1 do
      if worker ~= core.worker then crew.tell(worker, "inspector_watch", {}) end
    end
  end
  watchers[conn] = { instance = instance, needs_all = true }
  n_watchers = n_watchers + 1
  work()
  return true
end

---@param conn integer
function M.unwatch(conn)
  if not watchers[conn] then return end
  watchers[conn] = nil
  n_watchers = n_watchers - 1
  rest()
end

return M
