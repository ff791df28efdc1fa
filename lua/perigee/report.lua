--- Errors for people: where, what, the source around it, how the code got there.
local core = require("perigee.core")
local errors = require("perigee.errors")

local M = {}

--- Random part that tells this process's error ids from those of others.
local run = core.node:sub(1, 6)
local count = 0

--- A short id that is in the log and in the client's answer.
---@return string
function M.new_id()
  count = count + 1
  return ("%s-%d.%d"):format(run, core.worker, count)
end

--- File and line that a text begins with, whoever wrote it: for texts that no client has a hand in.
---@param text string
---@return string? file
---@return integer? line
function M.place(text)
  local file, line = text:match("^%s*([^\n:]+%.lua):(%d+):")
  return file, tonumber(line)
end

--- Source files of apps as they were loaded, by chunk name: what is on the disk may have changed. The
--- newest version of an app comes first.
---@type table<string, string>[]
local sources = {}

---@param texts table<string, string> may still grow
function M.know(texts)
  table.insert(sources, 1, texts)
end

---@param texts table<string, string>
function M.forget(texts)
  for i = #sources, 1, -1 do
    if sources[i] == texts then table.remove(sources, i) end
  end
end

---@param file string
---@return string?
local function source(file)
  for _, texts in ipairs(sources) do
    if texts[file] then return texts[file] end
  end
end

--- The lines around one, with a mark, or nil when the source is not known.
---@param file string
---@param line integer
---@param around? integer lines before and after, default 2
---@return string?
function M.excerpt(file, line, around)
  local text_of_file = source(file)
  if not text_of_file then return nil end
  around = around or 2
  local out, number = {}, 0
  for text in (text_of_file .. "\n"):gmatch("(.-)\r?\n") do
    number = number + 1
    if number > line + around then break end
    if number >= line - around then
      out[#out + 1] = ("%s %4d | %s"):format(number == line and ">" or " ", number, text)
    end
  end
  if #out == 0 then return nil end
  return table.concat(out, "\n")
end

--- What the server's own files begin with: "perigee/", or a folder given as PERIGEE_LUA.
local own = debug.getinfo(1, "S").short_src:match("^(.*)report%.lua$")

--- Files of modules that anything on the machine can require, by name; false: it is none of a file's.
---@type table<string, string|false>
local paths = {}

---@param file string as Lua shows it: long names without their beginning
---@return boolean
local function is_module(file)
  local part = file:sub(1, #own) == own and file:sub(#own + 1, -5):gsub("/init$", ""):gsub("/", ".")
  if part and package.loaded["perigee." .. part] ~= nil then return true end
  for name in pairs(package.loaded) do
    if paths[name] == nil then paths[name] = package.searchpath(name, package.path) or false end
    local path = paths[name]
    if path and (path == file or #path > 59 and "..." .. path:sub(-56) == file) then return true end
  end
  return false
end

--- File and line of code that runs here, if an error text begins with them. Texts of clients can look as if
--- they did: what is no file of an app's, of a module's or of the server's is a part of the text.
---@param text string
---@return string? file
---@return integer? line
function M.position(text)
  local file, line = M.place(text)
  if file and (source(file) or is_module(file)) then return file, line end
end

--- Is this what error("text") in an app became? Then the text as it was given. Coroutines in between,
--- and code that catches an error and raises it again, put positions in front.
---@param err any
---@return string?
function M.raised_text(err)
  local rest = type(err) == "string" and err or nil
  while rest do
    local text = core.raised(rest)
    -- a text that begins with a position is a fault that was caught and raised again
    if text and not M.position(text) then return text end
    local after = rest:match("^[^\n:]+:%d+: ()")
    rest = after and rest:sub(after)
  end
end

--- The text of an error value of any type; never raises.
---@param err any
---@return string
function M.text(err)
  if type(err) == "string" then return err end
  local ok, text = pcall(tostring, err)
  if ok and type(text) == "string" then return text end
  return ("an error value of type %s that cannot be turned into text"):format(type(err))
end

--- Does this line of a traceback, or this error, begin with one of the server's own files?
---@param text string
---@return boolean
function M.is_own(text)
  return text:match("^%s*()") == text:find(own, 1, true)
end

--- The innermost line of an app that runs, or that a dead coroutine ran: for errors that come from
--- the server's own Lua or from C.
---@param co thread?
---@param level integer where to begin when co is nil
---@return string? file
---@return integer? line
function M.app_line(co, level)
  for i = co and 0 or level + 1, 200 do
    local info = co and debug.getinfo(co, i, "Sl") or not co and debug.getinfo(i, "Sl")
    if not info then return nil end
    if source(info.short_src) and info.currentline > 0 then return info.short_src, info.currentline end
  end
end

--- Frames of the server itself say nothing about the app.
---@param trace string
---@return string
local function trim(trace)
  local out = {}
  for line in trace:gmatch("[^\n]+") do
    if not M.is_own(line) and not line:find("%[C%]: in %?") then out[#out + 1] = line end
  end
  return table.concat(out, "\n")
end

--- What is known of an error that nobody has caught, from when it was raised.
---@class perigee.Witnessed
---@field err any
---@field trace? string nil: the error is an answer, which needs none
---@field file? string the innermost line of an app
---@field line? integer
---@field locals? { name: string, value: string }[]
---@field closing string[] errors of __close that came after it

--- By coroutine, whose stack is gone when the error is told.
---@type table<thread, perigee.Witnessed>
local witnessed = setmetatable({}, { __mode = "k" })

--- An error of a __close, which nobody can catch any more.
---@param err any
---@param closing string[]
local function note_failure(err, closing)
  core.count("close_failures")
  closing[#closing + 1] = type(err) == "string" and err or ("an error value of type " .. type(err))
end

--- Closes a coroutine that was ended in the middle: its to-be-closed variables run here, and cannot wait.
---@param co thread
---@param err any its own error
---@param closing string[]
local function close(co, err, closing)
  local ok, other = coroutine.close(co)
  -- closing a dead coroutine gives its own error again; anything else came from a __close
  if not ok and other ~= nil and not rawequal(other, err) and M.text(other) ~= M.text(err) then
    note_failure(other, closing)
  end
end

--- Ends what an error has left of a coroutine, for errors that are no faults. What failed meanwhile is
--- logged.
---@param co thread
---@param err any
function M.close(co, err)
  local seen = witnessed[co]
  local closing = seen and seen.closing or {}
  if not seen then close(co, err, closing) end
  for _, text in ipairs(closing) do
    core.log("error", "closing a variable failed", { error = text })
  end
end

--- Traceback of a coroutine that died, which is then closed.
---@param co thread
---@param err any
---@return string
local function bury(co, err)
  local seen = witnessed[co]
  local closing = seen and seen.closing or {}
  local trace = seen and seen.trace or debug.traceback(co)
  if not seen then close(co, err, closing) end
  trace = trim(trace)
  for _, text in ipairs(closing) do
    trace = trace .. "\nand then, while closing its variables: " .. text
  end
  return trace
end

--- Values as a developer wants to see them: one line, and nothing of the app's runs for it.
---@param value any
---@return string
local function show_value(value)
  local kind = type(value)
  if kind == "string" then
    local text = ("%q"):format(value:sub(1, 60)):gsub("\\\n", "\\n")
    return #value > 60 and ("%s… (%d bytes)"):format(text, #value) or text
  elseif kind == "table" and getmetatable(value) == nil or getmetatable(value) == core.array_mt then
    local ok, text = pcall(core.json_encode, value)
    if ok and text and #text <= 100 then return text end
    local n = 0
    for _ in next, value do n = n + 1 end
    return ("a table of %d"):format(n)
  elseif kind == "table" or kind == "userdata" then
    if value == core.null then return "null" end
    local mt = debug.getmetatable(value)
    local name = type(mt) == "table" and rawget(mt, "__name")
    return type(name) == "string" and name or "a " .. kind
  elseif kind == "function" or kind == "thread" then
    return "a " .. kind
  end
  return tostring(value)
end

local LOCALS <const> = 12

--- Local variables where a coroutine failed: in the innermost function of an app.
---@param co thread? nil: the running one
---@return { name: string, value: string }[]
local function locals_of(co)
  local getinfo = co and function(level) return debug.getinfo(co, level, "Sl") end
    or function(level) return debug.getinfo(level + 2, "Sl") end
  local level = 0
  local info = getinfo(level)
  while info and not (source(info.short_src) and info.currentline > 0) do
    level = level + 1
    info = getinfo(level)
  end
  local found, at = {}, {}
  for i = 1, info and 200 or 0 do
    local name, value
    if co then name, value = debug.getlocal(co, level, i) else name, value = debug.getlocal(level + 1, i) end
    if not name then break end
    if not name:find("^%(") then -- of two of one name the inner one counts
      at[name] = at[name] or #found + 1
      found[at[name]] = { name = name, value = show_value(value) }
    end
  end
  return table.move(found, 1, math.min(#found, LOCALS), 1, {})
end

--- Are local variables taken down? In dev; elsewhere they might hold secrets, and logs are kept.
M.takes_locals = false

---@class perigee.Fault
---@field id string
---@field message string
---@field file? string
---@field line? integer
---@field raised_at? string the line of the app that ran: no text of a client's names it, as one can file and line
---@field excerpt? string
---@field traceback string the message, and the stack below it
---@field stack? string
---@field locals? { name: string, value: string }[]

--- Collects what is known of an error that escaped from app code.
---@param err any
---@param co? thread the dead coroutine
---@return perigee.Fault
function M.fault(err, co)
  local message = M.text(err)
  local file, line = M.position(message)
  local seen = co and witnessed[co]
  local app_file, app_line
  if seen then app_file, app_line = seen.file, seen.line else app_file, app_line = M.app_line(co, 2) end
  if app_file and (not file or M.is_own(message)) then file, line = app_file, app_line end
  local locals = seen and seen.locals or co and not seen and M.takes_locals and locals_of(co) or nil
  local stack = co and bury(co, err) or nil
  return {
    locals = locals,
    id = M.new_id(),
    message = message,
    file = file,
    line = line,
    raised_at = app_file and ("%s:%d"):format(app_file, app_line) or nil,
    excerpt = file and line and M.excerpt(file, line) or nil,
    stack = stack,
    traceback = stack and message .. "\n" .. stack or message,
  }
end

--- Lines of one kind per second.
local BURST <const> = 5

--- May one more line of a kind be written that clients can cause again and again? A few per second;
--- then C tells their number.
---@param level "error"|"warn"|"info"|"debug"
---@param fields table<string, any> gets the number of those held back since the last
---@param kind string must hold nothing that a client chose, or each line would be of a kind of its own
---@return boolean
function M.is_due(level, fields, kind)
  local missed = core.log_due(level, kind, BURST)
  if missed and missed > 0 then fields.suppressed = missed end
  return missed ~= nil
end

--- Shows a message that no handler gets, if somebody wants to see it.
---@type fun(record: perigee.Record, conn: integer, bits: integer, method: string?, err: table)?
M.show_refusal = nil

--- Shows faults in place of the log, if set.
---@type fun(fault: perigee.Fault, event: string, fields: table<string, any>)?
M.show = nil

--- Is told of every fault that is logged, if somebody wants to show them.
---@type fun(fault: perigee.Fault, event: string, fields: table<string, any>)?
M.on_fault = nil

--- Logs a fault as one block.
---@param fault perigee.Fault
---@param event string
---@param fields? table<string, any>
function M.log(fault, event, fields)
  core.count("faults")
  if M.on_fault then M.on_fault(fault, event, fields or {}) end
  local all = { error_id = fault.id, error = fault.message }
  for key, value in pairs(fields or {}) do all[key] = value end
  local kind = ("%s %s %s %s"):format(event, all.path or "", all.method or "", fault.raised_at or "")
  if not M.is_due("error", all, kind) then return end
  if M.show then
    M.show(fault, event, all)
    return
  end
  local block = fault.traceback
  if fault.excerpt then block = fault.excerpt .. "\n" .. block end
  core.log("error", event, all, block)
end

--- What C calls where an error is raised that nobody will catch, before anything is closed; and again
--- for errors of what is closed then.
---@param err any
---@param is_closing boolean
function M.witness(err, is_closing)
  local co = coroutine.running()
  local seen = witnessed[co]
  if is_closing and seen then
    note_failure(err, seen.closing)
    return
  end
  seen = { err = err, closing = {} }
  witnessed[co] = seen
  if M.raised_text(err) or errors.is(err) then return end
  seen.trace = debug.traceback("", 2):sub(2)
  seen.file, seen.line = M.app_line(nil, 1)
  if M.takes_locals then seen.locals = locals_of() end
end

--- The error that ended a coroutine: not one of those that came while it was closed.
---@param err any the last one
---@return any
function M.first_error(err)
  local seen = witnessed[coroutine.running()]
  if seen then return seen.err end
  return err
end

--- Is this the end of a task from outside, as by a reload? Then nothing has failed.
---@param err any
---@return boolean
local function is_end(err)
  return errors.is(err) and rawget(err, "is_end") == true -- a client's table can say so, too
end

--- M.fault as a message handler; nil for a task's end.
---@param err any
---@return perigee.Fault?
function M.fault_unless_end(err)
  if is_end(err) then return nil end
  return M.fault(err)
end

--- What C calls for an error that nobody waits for: in a hook, a timer, a spawned function.
---@param err any
---@param co? thread
---@param what string
---@param path? string the consumer's
---@param conn? integer 0: none
function M.report(err, co, what, path, conn)
  if is_end(err) then
    if co then M.close(co, err) end
    return
  end
  M.log(M.fault(err, co), what .. " failed", {
    path = path, conn = conn and conn ~= 0 and ("%x"):format(conn) or nil,
  })
end

return M
