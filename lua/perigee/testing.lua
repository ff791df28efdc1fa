--- Tests of apps: straight lines, no ports, a clock that only the test moves.
---
---   local app = testing.app("apps/chat")
---   local ann = app:connect("/chat")
---   assert.equal("pong", ann:call("ping"))
---
--- Connections are real ones, over socket pairs: what a test sends goes through the same framing,
--- codec and dispatch as a client's bytes. For `perigee test` only.
local apps = require("perigee.app")
local call = require("perigee.call")
local client = require("perigee.client")
local core = require("perigee.core")
local perigee = require("perigee") --[[@as perigee.Face]]
local reload = require("perigee.reload")
local signals = require("perigee.signals")
local testcore = require("perigee.core.testing")
local uv = require("luv")

local M = {}

signals.announce("server_started", {}) -- nobody listens yet: each app is told when it is served

-- Specs may require "perigee" as apps do: what they start there ends with the app they test.
local spec = { name = "spec", file = "spec", timers = {}, tasks = {} }
setmetatable(perigee, { __index = perigee.for_app(spec) })

-- results are held against their schemas, as in dev
call.checks_results = true

--- Virtual seconds a call may take before it counts as unanswered.
M.CALL_SECONDS = 60
--- Virtual seconds an expected notification may take.
M.EXPECT_SECONDS = 1

-- ---- time and quiet -----------------------------------------------------------------------------

--- Lets everything happen that can happen without time passing.
local function settle()
  testcore.settle()
end

--- Moves the clock, one deadline after the other, until pred() or the time is over.
---@param seconds number
---@param pred fun(): any
---@return any
local function run_until(seconds, pred)
  local deadline = core.now() + seconds
  repeat
    settle()
    local result = pred()
    if result then return result end
  until not testcore.advance(deadline)
  settle()
  return pred()
end

-- ---- logs ---------------------------------------------------------------------------------------

---@type { level: string, event: string, fields: table?, block: string? }[]
local logs = {}

local write_log = core.log
local shows_logs = os.getenv("PERIGEE_TEST_LOG")

core.log_due = function() return 0 end -- a spec sees all
core.log = function(level, event, fields, block)
  logs[#logs + 1] = { level = level, event = event, fields = fields, block = block }
  if shows_logs then write_log(level, event, fields, block) end
end

---@param value any
---@return string
local function show(value)
  local ok, text = pcall(core.json_encode, value)
  text = ok and text or tostring(value)
  if #text > 300 then text = text:sub(1, 300) .. "…" end
  return text
end

--- What handlers logged, for a failure's text.
---@return string
local function show_logs()
  local lines = {}
  for _, entry in ipairs(logs) do
    if entry.level ~= "debug" then
      local fields = {}
      for key, value in pairs(entry.fields or {}) do fields[#fields + 1] = ("%s=%s"):format(key, tostring(value)) end
      table.sort(fields)
      lines[#lines + 1] = ("  %-5s %s %s"):format(entry.level, entry.event, table.concat(fields, " "))
      if entry.block then lines[#lines + 1] = "        " .. entry.block:gsub("\n", "\n        ") end
    end
  end
  return #lines > 0 and "\nlogged meanwhile:\n" .. table.concat(lines, "\n") or ""
end

-- ---- clients ------------------------------------------------------------------------------------

---@class perigee.TestClient
---@field app perigee.TestApp
---@field closed? { code: integer, reason: string } how the connection ended, once it did
---@field response perigee.Response the answer to the handshake
---@field package inbox { method: string, params: any }[] notifications that nobody expected yet
---@field package frames { data: string, is_binary: boolean }[] messages that are not JSON-RPC
local TestClient = {}
TestClient.__index = TestClient

--- What arrived and was not asked for, for a failure's text.
---@param self perigee.TestClient
---@return string
local function show_inbox(self)
  local lines = {}
  for _, note in ipairs(self.inbox) do lines[#lines + 1] = ("  %s %s"):format(note.method, show(note.params)) end
  for _, frame in ipairs(self.frames) do lines[#lines + 1] = "  message " .. show(frame.data) end
  local text = #lines > 0 and "\narrived instead:\n" .. table.concat(lines, "\n") or "\nnothing arrived"
  if self.closed then
    text = text .. ("\nthe connection was closed: %d %s"):format(self.closed.code, self.closed.reason)
  end
  return text
end

---@param self perigee.TestClient
---@param message string
---@param depth? integer calls between who fails and the spec, default one
local function fail(self, message, depth)
  error(message .. show_inbox(self) .. show_logs(), 2 + (depth or 1))
end

---@param self perigee.TestClient
---@param message any a decoded JSON-RPC message
local function sort_message(self, message)
  local id = message.id
  if message.method ~= nil and (id == nil or id == core.null) then
    self.inbox[#self.inbox + 1] = { method = message.method, params = message.params }
  elseif id ~= nil then
    self.answers[id] = message
  else
    return false
  end
  return true
end

---@param self perigee.TestClient
local function on_event(self, event)
  if event.type == "close" then
    self.closed = { code = event.code, reason = event.data }
  elseif event.type == "pong" then
    self.pongs[#self.pongs + 1] = event.data
  elseif event.type == "text" or event.type == "binary" then
    local is_rpc = event.type == "text" and not self.is_raw
    local message = is_rpc and core.json_decode(event.data) or nil
    if type(message) == "table" and getmetatable(message) == core.array_mt then
      self.batches[#self.batches + 1] = message
    elseif not (type(message) == "table" and sort_message(self, message)) then
      self.frames[#self.frames + 1] = { data = event.data, is_binary = event.type == "binary" }
    end
  end
end

--- Positional params as they go on the wire.
local function positional(...)
  local n = select("#", ...)
  local list = { ... }
  while n > 0 and list[n] == nil do n = n - 1 end -- nil at the end means "not given"
  if n == 0 then return nil end
  for i = 1, n do
    if list[i] == nil then list[i] = core.null end
  end
  return setmetatable(list, core.array_mt)
end

---@param message table
---@param depth? integer calls between here and the spec, default one
local function encode(message, depth)
  local text, err = core.json_encode(message)
  if not text then error(err, 2 + (depth or 1)) end
  return text
end

--- Sends a call and waits for its answer, in virtual time.
---@param self perigee.TestClient
---@return table answer
local function exchange(self, method, params)
  if self.closed then error(("the connection is closed: %d %s"):format(self.closed.code, self.closed.reason), 3) end
  self.last_id = self.last_id + 1
  local id = self.last_id
  self.client:send(encode({ jsonrpc = "2.0", method = method, params = params, id = id }, 2))
  local answer = run_until(M.CALL_SECONDS, function() return self.answers[id] or self.closed and {} end)
  if not answer or answer.id == nil then
    fail(self, ("no answer to the call '%s' within %d s of virtual time"):format(method, M.CALL_SECONDS), 2)
  end
  self.answers[id] = nil
  return answer
end

local function result_of(self, method, answer)
  if answer.error then
    fail(self, ("the call '%s' was answered with an error: %s"):format(method, show(answer.error)))
  end
  return answer.result
end

--- Calls a method with positional parameters and returns its result; an error fails the test.
---@param method string
---@param ... any
---@return any
function TestClient:call(method, ...)
  return result_of(self, method, exchange(self, method, positional(...)))
end

--- Calls a method with named parameters.
---@param method string
---@param params table<string, any>
---@return any
function TestClient:call_named(method, params)
  return result_of(self, method, exchange(self, method, params))
end

--- Calls a method and returns true and the result, or false and the error object.
---@param method string
---@param ... any
---@return boolean ok
---@return any result_or_error
function TestClient:try(method, ...)
  local answer = exchange(self, method, positional(...))
  if answer.error then return false, answer.error end
  return true, answer.result
end

--- As try, with named parameters.
---@param method string
---@param params table<string, any>
---@return boolean ok
---@return any result_or_error
function TestClient:try_named(method, params)
  local answer = exchange(self, method, params)
  if answer.error then return false, answer.error end
  return true, answer.result
end

--- Sends a notification with positional parameters.
---@param method string
---@param ... any
function TestClient:notify(method, ...)
  self.client:send(encode { jsonrpc = "2.0", method = method, params = positional(...) })
  settle()
end

--- Sends a notification with named parameters.
---@param method string
---@param params table<string, any>
function TestClient:notify_named(method, params)
  self.client:send(encode { jsonrpc = "2.0", method = method, params = params })
  settle()
end

--- Sends a message as it is, and lets the server deal with it.
---@param data string
---@param is_binary? boolean
function TestClient:send(data, is_binary)
  self.client:send(data, is_binary)
  settle()
end

--- Sends a JSON text and returns the decoded answer, or nil when none comes: for messages that no
--- client library would send.
---@param text string
---@return any
function TestClient:exchange(text)
  self.answers, self.batches = {}, {}
  self.client:send(text)
  return run_until(M.EXPECT_SECONDS, function()
    local batch = table.remove(self.batches, 1)
    if batch then return batch end
    local id, answer = next(self.answers)
    if id ~= nil then
      self.answers[id] = nil
      return answer
    end
  end)
end

--- The next message that is not JSON-RPC.
---@return string data
---@return boolean is_binary
function TestClient:receive()
  local frame = run_until(M.EXPECT_SECONDS, function() return table.remove(self.frames, 1) end)
  if not frame then fail(self, "no message came") end
  return frame.data, frame.is_binary
end

--- Waits for a notification of that method and returns its params. Others stay for later.
---@param method string
---@param seconds? number virtual time it may take, default 1
---@return any params
function TestClient:expect(method, seconds)
  local note = run_until(seconds or M.EXPECT_SECONDS, function()
    for i, one in ipairs(self.inbox) do
      if one.method == method then return table.remove(self.inbox, i) end
    end
  end)
  if not note then fail(self, ("expected the notification '%s'"):format(method)) end
  return note.params
end

--- Fails when a notification (of that method, if given) has come that was not expected.
---@param method? string
function TestClient:expect_nothing(method)
  settle()
  for _, note in ipairs(self.inbox) do
    if method == nil or note.method == method then
      fail(self, method and ("expected no notification '%s'"):format(method) or "expected nothing")
    end
  end
  if method == nil and #self.frames > 0 then fail(self, "expected nothing") end
end

--- Forgets what has come.
function TestClient:clear()
  settle()
  self.inbox, self.frames = {}, {}
end

--- Closes the connection as a client does, and lets the server deal with it.
---@param code? integer default 1000
---@param reason? string
function TestClient:close(code, reason)
  if not self.closed then self.client:close(code, reason) end
  settle()
  self.client:abort()
  settle()
end

--- Drops the connection without a close frame: the server sees code 1006.
function TestClient:abort()
  self.client:abort()
  settle()
end

--- Waits until the server has closed the connection.
---@param seconds? number virtual time, default 1
---@return integer code
---@return string reason
function TestClient:expect_close(seconds)
  local closed = run_until(seconds or M.EXPECT_SECONDS, function() return self.closed end)
  if not closed then fail(self, "expected the connection to be closed") end
  return closed.code, closed.reason
end

-- ---- apps ---------------------------------------------------------------------------------------

---@param source string|fun(perigee: perigee): any
---@param name string? for a function
---@return perigee.Place
local function find_place(source, name)
  if type(source) == "function" then return apps.place_of_function(name or "test", source) end
  local path = source:gsub("/+$", "")
  if uv.fs_stat(path .. "/init.lua") then
    return { name = path:match("([^/]+)$"), file = path .. "/init.lua", dir = path }
  elseif path:find("%.lua$") and uv.fs_stat(path) then
    return { name = path:match("([^/]+)%.lua$"), file = path }
  end
  error(("testing.app: there is no app at %s (in %s)"):format(path, uv.cwd()), 3)
end

---@class perigee.TestApp
---@field name string
---@field package clients perigee.TestClient[]
local TestApp = {}
TestApp.__index = TestApp

--- The host name that test clients ask for.
local HOST = "test"

---@type perigee.TestApp?
local current

--- One end of a socket pair as a luv stream; the server has the other.
local function new_stream()
  local fds, err = uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true })
  if not fds then error("no socket pair: " .. tostring(err), 0) end
  testcore.adopt(fds[1])
  local pipe = uv.new_pipe(false)
  pipe:open(fds[2])
  return pipe
end

---@param self perigee.TestApp
---@return perigee.TestClient
local function new_client(self)
  local one = setmetatable({
    app = self, inbox = {}, frames = {}, answers = {}, batches = {}, pongs = {}, last_id = 0,
  }, TestClient)
  one.client = client.open(new_stream(), {
    on_response = function(response) one.response = response end,
    on_event = function(event) on_event(one, event) end,
    on_end = function() one.closed = one.closed or { code = 1006, reason = "" } end,
  })
  self.clients[#self.clients + 1] = one
  return one
end

---@class perigee.ConnectOptions
---@field headers? table<string, string>
---@field subprotocols? string[]

--- On a raw path no message is JSON-RPC, whatever it looks like.
local function is_raw(app, path)
  for _, record in ipairs(app.consumers) do
    if record.path == path then return record.options.raw end
  end
end

--- Opens a WebSocket, or returns nil and the response that refused it.
---@param path string
---@param options? perigee.ConnectOptions
---@return perigee.TestClient? client
---@return perigee.Response? refusal
function TestApp:try_connect(path, options)
  options = options or {}
  local one = new_client(self)
  one.client:upgrade(path, HOST, options.headers, options.subprotocols)
  local response = run_until(M.CALL_SECONDS, function() return one.response end)
  if not response then error(("no answer to the handshake on %s"):format(path) .. show_logs(), 2) end
  if response.status == 101 then
    one.is_raw = is_raw(self.app, path)
    return one
  end
  one.client:abort()
  return nil, response
end

--- Opens a WebSocket; a refusal fails the test.
---@param path string
---@param options? perigee.ConnectOptions
---@return perigee.TestClient
function TestApp:connect(path, options)
  local one, refusal = self:try_connect(path, options)
  if not one then
    error(("connecting to %s was refused: %d %s"):format(path, refusal.status, refusal.body) .. show_logs(), 2)
  end
  return one
end

--- Sends an HTTP request on a connection of its own.
---@param method string
---@param path string
---@param body? string
---@param headers? table<string, string>
---@return perigee.Response
function TestApp:request(method, path, body, headers)
  local one = new_client(self)
  one.client:request { method = method, path = path, host = HOST, headers = headers, body = body }
  local response = run_until(M.CALL_SECONDS, function() return one.response or one.closed end)
  one.client:abort()
  settle()
  if not one.response then error(("no answer to %s %s"):format(method, path) .. show_logs(), 2) end
  return response
end

--- POSTs a JSON text.
---@param path string
---@param text string
---@param headers? table<string, string> default Content-Type: application/json
---@return perigee.Response
function TestApp:post(path, text, headers)
  return self:request("POST", path, text, headers or { ["Content-Type"] = "application/json" })
end

--- GETs a path.
---@param path string
---@param headers? table<string, string>
---@return perigee.Response
function TestApp:get(path, headers)
  return self:request("GET", path, nil, headers)
end

--- Calls a method over HTTP; an error fails the test.
---@param path string
---@param method string
---@param ... any
---@return any
function TestApp:post_call(path, method, ...)
  local response = self:post(path, encode { jsonrpc = "2.0", method = method, params = positional(...), id = 1 })
  local answer = core.json_decode(response.body)
  if type(answer) ~= "table" or answer.error then
    error(("the call '%s' was answered with %d %s"):format(method, response.status, response.body) .. show_logs(), 2)
  end
  return answer.result
end

--- Moves the clock: every timer that is due meanwhile fires, in order.
---@param seconds number
function TestApp:advance(seconds) -- luacheck: no self
  run_until(seconds, function() return false end)
end

--- What has been logged since the app was made: { level, event, fields, block } each.
---@param event? string only those
---@return table[]
function TestApp:logged(event) -- luacheck: no self
  settle()
  local found = {}
  for _, entry in ipairs(logs) do
    if event == nil or entry.event == event then found[#found + 1] = entry end
  end
  return found
end

--- One of the app's own modules, as its code gets it from require.
---@param name string "chat.rooms"
---@return any
function TestApp:require(name)
  return apps.require(self.app, name)
end

--- Loads the app anew as a running server does: connections, instances and groups stay, calls that
--- begin from now on run new code.
---@param source? string|fun(perigee: perigee): any another folder, file or function; nil: the same files,
---as they are by now
---@return boolean ok false: the old code serves on
---@return string? err
function TestApp:try_reload(source)
  local place = source == nil and self.place or find_place(source, self.name)
  place.is_changed, place.generation = true, self.app.generation + 1
  place.name = self.name
  local ok, err = reload.build { place }
  if ok then ok, err = reload.swap() end
  if ok then
    reload.keep()
    self.app, self.place = apps.apps[self.name], place
  else
    reload.undo()
  end
  settle()
  return ok, err
end

--- The same; an error fails the test.
---@param source? string|fun(perigee: perigee): any
function TestApp:reload(source)
  local ok, err = self:try_reload(source)
  if not ok then error("the app could not be reloaded: " .. err .. show_logs(), 2) end
end

--- Closes all connections and ends what the app has started. The next testing.app does it as well.
function TestApp:stop()
  for _, one in ipairs(self.clients) do one.client:abort() end
  self.clients = {}
  settle()
  apps.retire(self.app)
  apps.retire(spec)
  settle()
  spec.is_retired = nil -- specs go on
  if current == self then current = nil end
end

--- Loads an app and serves it to this test alone.
---@param source string|fun(perigee: perigee): perigee.Consumer|perigee.Consumer[] folder or file of an
---app, or a function that declares one
---@param name? string for a function; default "test"
---@return perigee.TestApp
function M.app(source, name)
  if current then current:stop() end
  testcore.forget_shared()
  logs = {}
  local place = find_place(source, name)
  local app = apps.load(place)
  reload.serve { app }
  current = setmetatable({ name = app.name, app = app, place = place, clients = {} }, TestApp)
  return current
end

--- Ends the app of the last test. What `perigee test` does after all of them.
function M.stop()
  if current then current:stop() end
end

return M
