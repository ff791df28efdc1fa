--- A JSON-RPC client for the command line: one connection to a server, over WebSocket or HTTP. Everything
--- that goes wrong with the connection is told in one line; every wait has an end.
local client = require("perigee.client")
local config = require("perigee.config")
local core = require("perigee.core")
local uv = require("luv")

local M = {}

-- ---- addresses ----------------------------------------------------------------------------------

---@class perigee.Url
---@field scheme "ws"|"http"
---@field host string
---@field port integer
---@field path string
---@field authority string host and port as in the Host field

--- Reads ws://HOST[:PORT][/PATH] or http://…
---@param text string
---@return perigee.Url?
---@return string? message what is wrong with it
function M.parse_url(text)
  local scheme, authority, path = text:match("^(%a[%w+.-]*)://([^/?#]*)([^#]*)")
  scheme = scheme and scheme:lower()
  if scheme == "wss" or scheme == "https" then
    return nil, ("perigee speaks no TLS, and neither does its client: a proxy in front does; call the server behind "
      .. "it, %s://HOST:PORT%s"):format(scheme == "wss" and "ws" or "http", path ~= "" and path or "/")
  elseif scheme ~= "ws" and scheme ~= "http" then
    return nil, ("'%s' is no URL of a consumer, such as ws://127.0.0.1:8080/chat"):format(text)
  elseif authority:find("@", 1, true) then
    return nil, "a name and password go into a header: -H 'Authorization: ...'"
  end
  local host, port = authority:match("^%[([%x:.]+)%]:?(%d*)$")
  if not host then host, port = authority:match("^([^:%[%]]+):?(%d*)$") end
  port = port == "" and 80 or math.tointeger(tonumber(port))
  if not host or not port or port < 1 or port > 65535 or text:find("[%c ]") then
    return nil, ("'%s': after :// comes HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080"):format(text)
  end
  if path:sub(1, 1) ~= "/" then path = "/" .. path end
  return { scheme = scheme, host = host, port = port, path = path, authority = authority }
end

--- A text of the server's as one short line that a terminal may be given.
---@param text string
---@return string
function M.clean(text)
  text = text:gsub("^%s+", ""):gsub("%s+$", ""):gsub("[\r\n\t]+", " ")
  if #text > 200 then text = text:sub(1, 200):gsub("[\x80-\xff]*$", "") .. "…" end
  return core.printable(text)
end

-- ---- waiting ------------------------------------------------------------------------------------

---@class perigee.Caller
---@field url perigee.Url
---@field timeout number seconds that each step may take
---@field on_message? fun(message: table) notifications, and calls from the server
---@field on_other? fun(text: string) a message that is not JSON-RPC; without it one ends the connection
---@field package client perigee.Client
---@field package response? perigee.Response
---@field package ended? string how the connection ended
---@field package pending? integer id of the call that is waited for
---@field package method? string
---@field package answers table<integer, table>
---@field package held table[] messages that came behind an answer
---@field package waiter? { task: integer, wait: integer }
local Caller = {}
Caller.__index = Caller

--- Something has come: whoever waits looks again.
---@param self perigee.Caller
local function changed(self)
  if self.waiter then core.wake(self.waiter.task, self.waiter.wait) end
end

--- Waits until pred() gives something, or the time is over.
---@param self perigee.Caller
---@param seconds number?
---@param pred fun(): any
---@return any
local function wait_for(self, seconds, pred)
  local deadline = seconds and core.now() + seconds
  while true do
    local value = pred()
    if value then return value end
    local left = deadline and deadline - core.now()
    if left and left <= 0 then return nil end
    local task, wait = core.wait_open()
    self.waiter = { task = task, wait = wait }
    core.park(left, wait)
    self.waiter = nil
  end
end

--- Waits for a callback of libuv: start(done) begins, done(...) ends it.
---@return any ... what done got, or nothing when the time was over
local function await(seconds, start)
  local task, wait = core.wait_open()
  start(function(...) core.wake(task, wait, ...) end)
  local function settle(is_woken, ...)
    if is_woken then return ... end
  end
  return settle(core.park(seconds, wait))
end

---@param seconds number
---@return string
local function show_time(seconds)
  return config.show_number({ type = "duration" }, seconds)
end

-- ---- connecting ---------------------------------------------------------------------------------

--- What libuv's names of errors mean for somebody who wants to connect.
---@param err string
---@param url perigee.Url
---@return string
local function explain(err, url)
  local where = ("%s:%d"):format(url.host, url.port)
  local code = err:match("^%u+")
  if code == "ECONNREFUSED" then return ("nothing listens at %s: is the server running?"):format(where) end
  if code == "EAI_NONAME" or code == "EAI_NODATA" or code == "EAI" then
    return ("there is no host called '%s'"):format(url.host)
  end
  return ("%s cannot be reached: %s"):format(where, err)
end

--- A stream to the first of the host's addresses that takes it; each may take its share of the time that is left.
---@param url perigee.Url
---@param timeout number
---@return any stream
---@return string? why
local function connect(url, timeout)
  local deadline = core.now() + timeout
  local slow = ("%s:%d does not answer: connecting took longer than %s"):format(url.host, url.port, show_time(timeout))
  local has_come, err, addresses = await(timeout, function(done)
    local ok, failure = uv.getaddrinfo(url.host, nil, { socktype = "stream" }, function(...) done(true, ...) end)
    if not ok then done(true, failure) end
  end)
  if not has_come then return nil, slow end
  if err or not addresses or #addresses == 0 then return nil, explain(err or "EAI_NONAME", url) end
  for i, address in ipairs(addresses) do
    local stream = uv.new_tcp()
    local share = math.max(0, deadline - core.now()) / (#addresses - i + 1)
    has_come, err = await(share, function(done)
      local ok, failure = stream:connect(address.addr, url.port, function(e) done(true, e) end)
      if not ok then done(true, failure) end
    end)
    if has_come and not err then return stream end
    stream:close()
  end
  if not has_come then return nil, slow end
  return nil, explain(err, url)
end

-- ---- what comes ---------------------------------------------------------------------------------

---@param self perigee.Caller
---@param why string
local function finish(self, why)
  self.ended = self.ended or why
  self.client:abort()
  changed(self)
end

--- Sorts one decoded message. False when it is not JSON-RPC.
---@param self perigee.Caller
---@return boolean
local function take(self, message)
  if type(message) ~= "table" or getmetatable(message) == core.array_mt then return false end
  local id = message.id
  if type(message.method) == "string" then
    if self.pending and id == self.pending and message.method == self.method then return false end -- an echo
    if self.pending and self.answers[self.pending] then
      self.held[#self.held + 1] = message -- it came after the answer, which nobody has seen yet
    elseif self.on_message then
      self.on_message(message)
    end
    if id ~= nil and id ~= core.null and self.client.ws then
      self.client:send(core.json_encode {
        jsonrpc = "2.0", id = id, error = { code = -32601, message = "Method not found" },
      } --[[@as string]])
    end
  elseif message.result == nil and message.error == nil then
    return false
  elseif math.type(id) == "integer" then
    self.answers[id] = message
  elseif id == core.null and self.pending then
    self.answers[self.pending] = message -- a message of ours that could not be read
  end
  return true
end

---@param self perigee.Caller
local function on_event(self, event)
  if event.type == "close" then
    local reason = M.clean(event.data)
    finish(self, ("the server closed the connection: %d%s"):format(event.code, reason ~= "" and " " .. reason or ""))
  elseif event.type == "text" or event.type == "binary" then
    local message = event.type == "text" and core.json_decode(event.data) or nil
    if not take(self, message) then
      if self.on_other then
        self.on_other(event.data)
      else
        finish(self, ("%s answers, but not in JSON-RPC: %s"):format(self.url.path, M.clean(event.data)))
      end
    end
  end
  changed(self)
end

--- How a response that is not what was asked for is told.
---@param self perigee.Caller
---@param response perigee.Response
---@return string why
---@return boolean? is_missing nothing is on that path
local function refusal(self, response)
  local body = M.clean((response.body:match("^[^\r\n]*") or ""):gsub("^%d%d%d ", ""))
  if (response.headers["content-type"] or ""):find("html", 1, true) then body = "" end
  if response.status == 404 then
    return ("there is no consumer at %s (404)"):format(self.url.path), true
  elseif response.status < 300 then
    return ("%s does not speak JSON-RPC (%d)"):format(self.url.path, response.status)
  end
  return (("%s refuses: %d %s"):format(self.url.path, response.status, body):gsub("%s+$", ""))
end

--- Why a connection ended before an answer came.
---@param self perigee.Caller
---@return string
local function silent(self)
  if self.ended:find("not HTTP", 1, true) then
    return ("%s speaks something else: its answer is not HTTP"):format(self.url.authority)
  end
  return ("%s: %s without an answer"):format(self.url.authority, self.ended)
end

---@class perigee.CallerOptions
---@field timeout number
---@field headers? table<string, string>
---@field on_message? fun(message: table)
---@field on_other? fun(text: string)

--- Connects; over WebSocket the handshake is done when it returns.
---@param url perigee.Url
---@param options perigee.CallerOptions
---@return perigee.Caller?
---@return string? why
---@return boolean? is_missing there is a server, but nothing on that path
function M.open(url, options)
  local stream, why = connect(url, options.timeout)
  if not stream then return nil, why end
  local self = setmetatable({
    url = url, timeout = options.timeout, headers = options.headers, answers = {}, held = {}, last_id = 0,
    on_message = options.on_message, on_other = options.on_other,
  }, Caller)
  self.client = client.open(stream, {
    on_response = function(response)
      self.response = response
      changed(self)
    end,
    on_event = function(event) on_event(self, event) end,
    on_end = function(err)
      self.ended = self.ended or err and "the connection broke: " .. M.clean(err) or "the server closed the connection"
      changed(self)
    end,
  })
  if url.scheme == "http" then return self end
  self.client:upgrade(url.path, url.authority, options.headers)
  wait_for(self, self.timeout, function() return self.response or self.ended end)
  local response = self.response
  if not response then
    if self.ended then return nil, silent(self) end
    self.client:abort()
    return nil, ("%s does not answer the handshake within %s"):format(url.authority, show_time(self.timeout))
  elseif response.status ~= 101 then
    self.client:abort()
    if response.status == 200 then return nil, ("there is no WebSocket at %s (200)"):format(url.path) end
    return nil, refusal(self, response)
  end
  return self
end

-- ---- calling ------------------------------------------------------------------------------------

--- The answer to a POST.
---@param self perigee.Caller
---@return table? answer nil without why: there is none, and none is due
---@return string? why
---@return boolean? is_missing
local function post(self, text, what)
  self.response = nil
  local headers = { ["Content-Type"] = "application/json", Accept = "application/json" }
  for name, value in pairs(self.headers or {}) do headers[name] = value end
  self.client:request {
    method = "POST", path = self.url.path, host = self.url.authority, headers = headers, body = text,
  }
  wait_for(self, self.timeout, function() return self.response or self.ended end)
  local response = self.response
  if not response then
    if self.ended then return nil, silent(self) end
    return nil, ("no answer to %s within %s"):format(what, show_time(self.timeout))
  end
  if response.status == 204 then return nil end
  local message = core.json_decode(response.body)
  local is_answer = type(message) == "table" and (message.result ~= nil or message.error ~= nil)
  if not is_answer then return nil, refusal(self, response) end
  return message
end

---@param method string
---@param params any nil: none
---@param is_notification? boolean
---@return string
function Caller:message(method, params, is_notification)
  if not is_notification then self.last_id = self.last_id + 1 end
  local id = not is_notification and self.last_id or nil
  return core.json_encode { jsonrpc = "2.0", method = method, params = params, id = id } --[[@as string]]
end

--- Passes on what came behind an answer.
---@param self perigee.Caller
local function release(self)
  local held = self.held
  self.held = {}
  for _, message in ipairs(held) do
    if self.on_message then self.on_message(message) end
  end
end

--- Calls a method and waits for the answer: the whole message, with result or error.
---@param method string
---@param params any
---@param timeout? number
---@return table? answer
---@return string? why there is none
---@return boolean? is_missing
function Caller:call(method, params, timeout)
  timeout = timeout or self.timeout
  release(self)
  local text, what = self:message(method, params), ("'%s'"):format(M.clean(method))
  if self.url.scheme == "http" then return post(self, text, what) end
  if self.ended then return nil, self.ended end
  local id = self.last_id
  self.pending, self.method = id, method
  self.client:send(text)
  wait_for(self, timeout, function() return self.answers[id] or self.ended end)
  self.pending = nil
  local answer = self.answers[id]
  self.answers[id] = nil
  if answer then return answer end
  if self.ended then return nil, ("%s, before %s was answered"):format(self.ended, what) end
  return nil, ("no answer to %s within %s"):format(what, show_time(timeout))
end

--- Sends a notification. Returns why it could not be sent, if so.
---@param method string
---@param params any
---@return string? why
---@return boolean? is_missing
function Caller:notify(method, params)
  local text = self:message(method, params, true)
  if self.url.scheme == "http" then return select(2, post(self, text, ("'%s'"):format(M.clean(method)))) end
  if self.ended then return self.ended end
  self.client:send(text)
end

--- Waits until the connection has ended, or is_over says that it is enough.
---@param is_over fun(): any
---@return string? ended
function Caller:follow(is_over)
  release(self)
  wait_for(self, nil, function() return self.ended or is_over() end)
  return self.ended
end

--- Makes follow look again.
function Caller:wake()
  changed(self)
end

--- Ends the connection: over WebSocket with a closing handshake, so that all that was sent is read.
function Caller:close()
  release(self)
  if self.url.scheme == "ws" and not self.ended and self.client.ws then
    self.client:close(1000)
    wait_for(self, math.min(self.timeout, 2), function() return self.ended end)
  end
  self.client:abort()
end

return M
