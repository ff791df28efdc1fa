--- The console: in dev, what a developer sees of each call and of each error; elsewhere, with the log
--- level debug, a log line per call.
local call = require("perigee.call")
local core = require("perigee.core")
local report = require("perigee.report")
local signals = require("perigee.signals")
local uv = require("luv")

local M = {}

--- Where the server listens, "127.0.0.1:8080", once it does.
---@type string?
M.authority = nil

local codes = { red = "31", yellow = "33", dim = "2", bold = "1" }
local is_coloured = false

---@param colour "red"|"yellow"|"dim"|"bold"
---@param text string
---@return string
local function paint(colour, text)
  return is_coloured and ("\27[%sm%s\27[0m"):format(codes[colour], text) or text
end

--- Writes lines in one piece; what clients sent must not steer the terminal.
---@param text string
local function say(text)
  io.stderr:write(text)
end

local plain = core.printable

--- For a line of its own: a break in it would let a client write the next.
---@param text string
---@return string
local function one_line(text)
  return (plain(text):gsub("[\n\t]", " "))
end

---@return string
local function clock()
  local seconds, micros = uv.gettimeofday()
  return ("%s.%03d"):format(os.date("%H:%M:%S", seconds), micros // 1000)
end

-- ---- calls --------------------------------------------------------------------------------------

--- Who called: the number of a connection, or "http".
---@param ctx perigee.Ctx
---@return string
local function who(ctx)
  if ctx.transport == "http" then return "http" end
  return ("#%d"):format(ctx[1] & 0xffffff)
end

---@param seconds number
---@return string
local function duration(seconds)
  if seconds < 0.01 then return ("%.1f ms"):format(seconds * 1000) end
  if seconds < 1 then return ("%.0f ms"):format(seconds * 1000) end
  return ("%.1f s"):format(seconds)
end

---@param path string
---@param method string
---@param from string
---@param time string
---@param outcome string
---@param colour? "red"|"yellow"
local function say_line(path, method, from, time, outcome, colour)
  local line = ("%s  %-14s %-18s %-5s %8s  "):format(clock(), one_line(path), one_line(method), from, time)
  outcome = one_line(outcome)
  say((colour and line .. paint(colour, outcome) or paint("dim", line .. outcome)) .. "\n")
end

---@param ctx perigee.Ctx
---@param seconds number
---@param outcome string
---@param colour? "red"|"yellow"
local function say_call(ctx, seconds, outcome, colour)
  say_line(getmetatable(ctx).record.path, ctx.method, who(ctx), duration(seconds), outcome, colour)
end

---@param level "debug"|"info"
local function log_call(level, ctx, seconds, outcome)
  core.log(level, "call", {
    path = getmetatable(ctx).record.path, method = ctx.method, conn = ("%x"):format(ctx[1]), transport = ctx.transport,
    ms = math.floor(seconds * 1e6) / 1000, outcome = outcome,
  })
end

---@param err perigee.Error|perigee.Fault
---@return string
local function outcome_of(err)
  return ("%d %s%s"):format(err.code or -32000, err.traceback and "Internal error" or tostring(err.message),
    err.id and "  " .. err.id or "")
end

-- ---- messages that no handler gets ---------------------------------------------------------------

local HTTP <const> = core.envelope.HTTP

--- Shows them, a few per second of one kind.
---@param is_text boolean on a developer's terminal
---@return fun(record: perigee.Record, conn: integer, bits: integer, method: string?, err: table)
local function refusals(is_text)
  local level = core.is_dev and "info" or "debug"
  return function(record, conn, bits, method, err)
    local fields = {
      path = record.path, method = method and method:sub(1, 256), conn = ("%x"):format(conn),
      transport = bits & HTTP ~= 0 and "http" or "websocket", code = err.code, reason = err.message,
    }
    if not report.is_due(level, fields, ("message refused %s %s"):format(record.path, err.message)) then return end
    if is_text then
      local from = bits & HTTP ~= 0 and "http" or ("#%d"):format(conn & 0xffffff)
      say_line(record.path, fields.method or "-", from, "", ("%d %s"):format(err.code, err.message), "yellow")
    else
      core.log(level, "message refused", fields)
    end
  end
end

-- ---- errors -------------------------------------------------------------------------------------

--- The command that makes this call again, quoted for a shell.
---@param ctx perigee.Ctx
---@return string
function M.command(ctx)
  local function quote(text)
    if text:find("^[%w_.,:=/@%%+-]+$") then return text end
    return "'" .. plain(text):gsub("'", [['\'']]) .. "'"
  end
  local scope = ctx.scope
  local target = scope and scope.raw_path .. (scope.query_string ~= "" and "?" .. scope.query_string or "")
    or getmetatable(ctx).record.path
  local words = { "perigee call", quote(M.authority
    and ("%s://%s%s"):format(ctx.transport == "http" and "http" or "ws", M.authority, target) or target) }
  words[#words + 1] = quote(ctx.method)
  if type(ctx.params) == "table" and next(ctx.params) ~= nil then
    words[#words + 1] = quote(core.json_encode(ctx.params) or "{}")
  end
  return table.concat(words, " ")
end

--- A log entry of an error as a block.
---@param fault perigee.Fault
---@param event string
---@param fields table<string, any>
local function say_fault(fault, event, fields)
  local out = {}
  local function add(text) out[#out + 1] = text end
  local place = { event }
  for _, key in ipairs { "path", "method", "signal" } do place[#place + 1] = fields[key] end
  local more = fields.suppressed and ("  and %d more like it before"):format(fields.suppressed) or ""
  add(("%s  %s  %s"):format(clock(), paint("red", plain(table.concat(place, " "))), paint("dim", fault.id .. more)))
  add("  " .. paint("bold", plain(fault.message):gsub("\n", "\n  ")))
  for line in (fault.excerpt or ""):gmatch("[^\n]+") do
    line = "    " .. plain(line)
    add(line:find("^    >") and paint("yellow", line) or paint("dim", line))
  end
  for _, one in ipairs(fault.locals or {}) do
    add(("    %s = %s"):format(paint("dim", one.name), plain(one.value)))
  end
  for line in ((fault.stack or ""):match("^stack traceback:(.*)$") or ""):gmatch("[^\n]+") do
    line = plain(line):gsub("^%s+", "    ")
    if not line:find("%(%.%.%.tail calls%.%.%.%)") then add(paint("dim", line)) end
  end
  local ctx = call.ctx_of(core.running())
  if ctx then
    local ok, command = pcall(M.command, ctx)
    if ok then add("  again: " .. command) end
  end
  say(table.concat(out, "\n") .. "\n")
end

-- ---- opening it ---------------------------------------------------------------------------------

--- Shows calls from now on, if this server is to show them.
function M.open()
  local level = core.log_level
  if not core.is_dev and level ~= "debug" or level == "warn" or level == "error" then return end
  local show = function(ctx, seconds, outcome) log_call(core.is_dev and "info" or "debug", ctx, seconds, outcome) end
  local is_text = core.is_dev and core.log_format == "text"
  report.show_refusal = refusals(is_text)
  if is_text then
    local no_color = os.getenv("NO_COLOR")
    is_coloured = uv.guess_handle(2) == "tty" and (no_color == nil or no_color == "") and os.getenv("TERM") ~= "dumb"
    show = say_call
    report.show = say_fault
  end
  report.takes_locals = core.is_dev
  local owner = {}
  signals.on(owner, "rpc_method_completed", function(event)
    show(event.ctx, event.seconds, event.ctx.is_notification and "-" or "ok")
  end)
  signals.on(owner, "rpc_method_failed", function(event)
    local err = event.error
    show(event.ctx, event.seconds, outcome_of(err), err.traceback and "red" or "yellow")
  end)
end

return M
