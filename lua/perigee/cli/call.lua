--- perigee call: methods of a running server, from the terminal.
local app = require("perigee.app")
local caller = require("perigee.caller")
local config = require("perigee.config")
local core = require("perigee.core")
local json = require("perigee.cli.json")
local settings = require("perigee.settings")
local spelling = require("perigee.spelling")
local terminal = require("perigee.cli.terminal")
local uv = require("luv")

local UNREACHED = 3 -- exit code: no answer came
local SECONDS = 35 -- a little longer than a method may take

-- ---- words --------------------------------------------------------------------------------------

---@class perigee.CallWords one call of a command line
---@field method string
---@field params any

--- A parameter without a name: JSON, or else plain text.
local function positional(word)
  local value = core.json_decode(word)
  if value == nil then return word end
  return value
end

--- Parameters from words: name=text, name:=JSON, values in order, or one object or list that is all.
---@param words string[]
---@return any params nil: none
---@return string? message
local function read_params(words)
  if #words == 0 then return nil end
  local first = words[1]
  if #words == 1 and first:find("^%s*[%[{]") then
    local value, err = core.json_decode(first)
    if value == nil then return nil, ("'%s' is not JSON: %s"):format(first, err) end
    return value
  end
  local named, list, name_seen = {}, setmetatable({}, core.array_mt), nil
  for _, word in ipairs(words) do
    local name, sign, text = word:match("^([%a_][%w_.-]*)(:?=)(.*)$")
    if name then
      local value = text
      if sign == ":=" then
        local err
        value, err = core.json_decode(text)
        if value == nil then
          return nil, ("%s: '%s' is not JSON: %s (text goes with =, as in %s=%s)"):format(word, text, err, name, text)
        end
      end
      if named[name] ~= nil then return nil, ("'%s' is given twice"):format(name) end
      named[name], name_seen = value, name
    else
      list[#list + 1] = positional(word)
    end
  end
  if name_seen and #list > 0 then
    return nil, ("some parameters have names ('%s') and some have not ('%s'): give all or none a name"):format(
      name_seen, type(list[1]) == "string" and list[1] or json.compact(list[1]))
  end
  return name_seen and named or list
end

--- Calls from words: METHOD [PARAMETER ...] [, METHOD ...].
---@param words string[]
---@return perigee.CallWords[]?
---@return string? message
local function read_calls(words)
  local calls, group = {}, {}
  for i = 1, #words + 1 do
    local word = words[i]
    if word == nil or word == "," then
      if #group == 0 then
        if word == nil and #calls == 0 then return calls end
        return nil, "a method is needed before and after ','"
      end
      local params, message = read_params(table.move(group, 2, #group, 1, {}))
      if message then return nil, message end
      calls[#calls + 1] = { method = group[1], params = params }
      group = {}
    else
      group[#group + 1] = word
    end
  end
  return calls
end

---@param lines string[]?
---@return table<string, string>?
---@return string? message
local function read_headers(lines)
  local headers = {}
  for _, line in ipairs(lines or {}) do
    local name, value = line:match("^([%w!#$%%&'*+.^_`|~-]+):[ \t]*(.-)%s*$")
    if not name or value:find("%c") then
      return nil, ("--header: '%s' is not 'Name: value'"):format(line)
    end
    headers[name] = value
  end
  return headers
end

--- The URL that a word means: itself, HOST:PORT/PATH, or a path on the server of this project.
---@param word string
---@param values table<string, any> settings
---@return perigee.Url?
---@return string? message
local function read_url(word, values)
  if word:find("://", 1, true) then return caller.parse_url(word) end
  if word:find("^[^/]*:%d") then return caller.parse_url("ws://" .. (word:gsub("^:", "127.0.0.1:"))) end
  local at = values.listen[1]
  local any = { ["0.0.0.0"] = "127.0.0.1", ["::"] = "::1" }
  local address = config.show_address { address = any[at.address] or at.address, port = at.port }
  return caller.parse_url(("ws://%s/%s"):format(address, (word:gsub("^/", ""))))
end

-- ---- output -------------------------------------------------------------------------------------

---@class perigee.CallScreen
---@field is_json boolean
---@field is_coloured boolean
---@field is_gone? boolean nobody reads any more
local Screen = {}
Screen.__index = Screen

---@param text string
function Screen:line(text)
  if self.is_gone then return end
  local ok = io.stdout:write(text, "\n")
  ok = ok and io.stdout:flush()
  if not ok then self.is_gone = true end
end

--- A value: over several lines on a terminal, in one elsewhere.
---@param value any
---@return string
function Screen:value(value)
  if self.is_terminal then return json.pretty(value, self.is_coloured) end
  return json.compact(value, self.is_coloured)
end

--- A notification, or a call from the server.
---@param message table
function Screen:notification(message)
  if self.is_json then return self:line(json.compact(message)) end
  local params = message.params == nil and "" or " " .. json.compact(message.params, self.is_coloured)
  self:line(terminal.paint("← " .. caller.clean(message.method), "green", self.is_coloured) .. params)
end

--- An answer. Returns whether it is a result.
---@param answer table
---@param hint string
---@return boolean
function Screen:answer(answer, hint)
  local err = answer.error
  local is_error = err ~= nil and err ~= core.null
  if self.is_json then
    self:line(json.compact(answer))
    return not is_error
  end
  if not is_error then
    self:line(self:value(answer.result))
    return true
  end
  local is_coloured = terminal.has_colours(2)
  local code = type(err) == "table" and err.code ~= nil and json.compact(err.code) or "?"
  local text = type(err) == "table" and type(err.message) == "string" and caller.clean(err.message)
    or json.compact(err)
  io.stderr:write(terminal.paint(("error %s"):format(code), "red", is_coloured), " ", text, hint, "\n")
  local data = type(err) == "table" and err.data
  if data == nil or data == false or data == core.null then return false end
  local dev = type(data) == "table" and type(data.dev) == "table" and data.dev
  if dev and type(dev.message) == "string" then -- what a server in dev knows of a fault
    io.stderr:write("  ", caller.clean(dev.message), "\n")
    if type(dev.excerpt) == "string" then
      io.stderr:write(core.printable(dev.excerpt), "\n")
    end
  else
    io.stderr:write("  ", json.compact(data, is_coloured), "\n")
  end
  return false
end

-- ---- hints --------------------------------------------------------------------------------------

--- The method that was probably meant, when the server tells which there are.
---@param connection perigee.Caller
---@param method string
---@return string
local function method_hint(connection, method)
  local answer = connection:call("rpc.discover", nil, 2)
  local methods = answer and type(answer.result) == "table" and answer.result.methods
  local names = {}
  for _, one in ipairs(type(methods) == "table" and methods or {}) do
    if type(one) == "table" and type(one.name) == "string" then names[#names + 1] = caller.clean(one.name) end
  end
  return spelling.hint(method, names)
end

--- The path that was probably meant, when the apps are here.
---@param url perigee.Url
---@param values table<string, any>
---@return string
local function path_hint(url, values)
  local ok, places = pcall(app.find, values.apps)
  local paths = {}
  for i, place in ipairs(ok and places or {}) do paths[i] = "/" .. place.name end
  return spelling.hint(url.path, paths)
end

-- ---- running ------------------------------------------------------------------------------------

---@class perigee.CallPlan
---@field url perigee.Url
---@field calls perigee.CallWords[]
---@field options table<string, any>
---@field headers table<string, string>
---@field values table<string, any>

---@param plan perigee.CallPlan
---@param why string
---@param is_missing boolean?
---@return integer
local function give_up(plan, why, is_missing)
  io.stderr:write("perigee call: ", why, is_missing and path_hint(plan.url, plan.values) or "", "\n")
  return UNREACHED
end

--- Follows notifications until Ctrl-C, the end of the connection, or as many as were asked for.
---@param connection perigee.Caller
---@param screen perigee.CallScreen
---@param is_enough fun(): boolean
---@return string? ended
local function follow(connection, screen, is_enough)
  local is_interrupted = false
  local signals = {}
  for _, name in ipairs { "sigint", "sigterm" } do
    local signal = uv.new_signal()
    signals[#signals + 1] = signal
    signal:start(name, function()
      is_interrupted = true
      connection:wake()
    end)
  end
  local ended = connection:follow(function() return is_interrupted or screen.is_gone or is_enough() end)
  for _, signal in ipairs(signals) do signal:close() end
  return ended
end

---@param plan perigee.CallPlan
---@return integer exit code
local function run(plan)
  local options = plan.options
  local screen = setmetatable({
    is_json = options.json or false, is_coloured = not options.json and terminal.has_colours(1),
    is_terminal = uv.guess_handle(1) == "tty",
  }, Screen)
  local n_notifications = 0
  local function open()
    return caller.open(plan.url, {
      timeout = options.timeout or SECONDS,
      headers = plan.headers,
      on_message = function(message)
        if not options.watch or options.count and n_notifications >= options.count then return end
        n_notifications = n_notifications + 1
        screen:notification(message)
      end,
      on_other = options.watch and function(text)
        screen:line("← " .. json.compact(text, screen.is_coloured))
      end or nil,
    })
  end
  local connection, why, is_missing = open()
  for _, one in ipairs(plan.calls) do
    if connection and connection.ended and plan.url.scheme == "http" then connection, why, is_missing = open() end
    if not connection then break end
    if options.notify then
      why, is_missing = connection:notify(one.method, one.params)
      if why then
        connection:close()
        connection = nil
        break
      end
    else
      local answer
      answer, why, is_missing = connection:call(one.method, one.params)
      if not answer then
        connection:close()
        if not why then
          io.stderr:write("perigee call: the server answered without a result (204)\n")
          return UNREACHED
        end
        connection = nil
        break
      end
      local code = type(answer.error) == "table" and answer.error.code
      local hint = code == -32601 and method_hint(connection, one.method) or ""
      if not screen:answer(answer, hint) then
        connection:close()
        return 1
      end
    end
  end
  if not connection then return give_up(plan, why or "the connection ended", is_missing) end
  local ended
  if options.watch then
    ended = follow(connection, screen, function() return options.count ~= nil and n_notifications >= options.count end)
  end
  connection:close()
  return ended and give_up(plan, ended) or 0
end

---@type perigee.Command
local M = {
  summary = "call methods of a running server",
  usage = "perigee call URL [METHOD [PARAMETER ...] [, METHOD ...]] [flags]",
  about = [[
Calls methods over one connection, one after the other, and prints each result; ',' stands between calls.
URL is ws://HOST:PORT/PATH or http://HOST:PORT/PATH, or only the path or app: then the server is the one
that this project's settings listen on.

A PARAMETER is name=text or name:=JSON; or values in order, JSON or text; or one object or list, which is
all of params.

Exit code 0, 1 after an answer that is an error (no further call is made), 2 for a wrong command line, 3
when no answer came: the server is down, speaks something else, refuses, or never answers.]],
  examples = {
    "perigee call chat rooms",
    "perigee call ws://127.0.0.1:8080/chat join room=lobby name=Ann , say 'hello there'",
    "perigee call http://127.0.0.1:8080/counter increment by:=5",
    "perigee call chat join lobby --watch",
  },
  flags = {
    { name = "--watch", doc = "Go on and print notifications as they come, until Ctrl-C (ws only)." },
    { name = "--count", value = "N", type = "integer", min = 1, doc = "With --watch: until so many have come." },
    { name = "--notify", doc = "Send notifications: no answer is waited for." },
    { name = "--json", doc = "Print each message that comes, as JSON, one a line." },
    { name = "--timeout", value = "TIME", type = "duration", min = 0.001, max = 86400, default = "35s",
      doc = "How long connecting, the handshake, and each answer may take." },
    { name = "--header", short = "-H", value = "'NAME: VALUE'", many = true,
      doc = "A field of the request, such as Cookie or Origin; may be given several times." },
    { name = "--config", value = "FILE", completes = "file",
      doc = "Configuration file that tells where the server of this project listens." },
  },
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("call", args, math.huge)
    if not parsed then return code end
    local words, options = parsed.words, parsed.options
    if not words[1] then return cli.usage_error("call", "a URL is needed, such as ws://127.0.0.1:8080/chat") end
    local found, problems, partial = settings.resolve(cli.given(parsed))
    local values = (found or partial).values
    if not found and not words[1]:find("://", 1, true) then
      for _, problem in ipairs(problems) do io.stderr:write("perigee call: ", cli.show_problem(problem), "\n") end
      return 2
    end
    local url, message = read_url(words[1], values)
    if not url then return cli.usage_error("call", message) end
    local calls, headers
    calls, message = read_calls(table.move(words, 2, #words, 1, {}))
    if not calls then return cli.usage_error("call", message) end
    headers, message = read_headers(options.header)
    if not headers then return cli.usage_error("call", message) end
    if #calls == 0 and not options.watch then
      return cli.usage_error("call", "a METHOD is needed (or --watch, to follow notifications alone)")
    elseif options.watch and url.scheme == "http" then
      return cli.usage_error("call", ("notifications come over WebSocket: --watch needs ws://%s%s"):format(
        url.authority, url.path))
    elseif options.count and not options.watch then
      return cli.usage_error("call", "--count goes with --watch")
    end
    local plan = { url = url, calls = calls, options = options, headers = headers, values = values }
    return function() return run(plan) end, config.defaults()
  end,
}

M.read_params, M.read_calls, M.read_url = read_params, read_calls, read_url

return M
