--- A client of an HTTP or WebSocket server, on any luv stream that is connected. It moves bytes and
--- tells what comes; whoever uses it decides how to wait.
local core = require("perigee.core")
local uv = require("luv")

local M = {}

--- Bytes of a response's head.
local MAX_HEAD = 256 * 1024

---@class perigee.Response
---@field status integer
---@field headers table<string, string> names in lower case
---@field body string

---@class perigee.Client
---@field stream any luv stream
---@field on_response fun(response: perigee.Response)
---@field on_event fun(event: { type: string, data: string, code?: integer })
---@field on_end fun(err?: string) once: the connection is over
local Client = {}
Client.__index = Client

--- Reads a response head. Returns nil when it is not whole yet.
---@param text string
---@return perigee.Response? response
---@return integer? after position behind the head
local function parse_head(text)
  local start = "HTTP/1."
  if text:sub(1, #start) ~= start:sub(1, #text) then error("the answer is not HTTP", 0) end
  local last = select(2, text:find("\r\n\r\n", 1, true))
  if not last then
    if #text > MAX_HEAD then error("the answer is not HTTP: its head does not end", 0) end
    return nil
  end
  local status = tonumber(text:match("^HTTP/1%.[01] (%d%d%d)"))
  if not status then error("the answer is not HTTP", 0) end
  local headers = {}
  for name, value in text:sub(1, last):gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do
    name = name:lower()
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return { status = status, headers = headers, body = "" }, last + 1
end

--- Body of a chunked response, or nil when it is not whole yet.
---@param text string
---@param at integer
---@return string? body
---@return integer? after
local function parse_chunks(text, at)
  local parts = {}
  while true do
    local first, last, size = text:find("^(%x+)[^\r\n]*\r\n", at)
    if not first then return nil end
    if #size > 15 then error("the answer is not HTTP: a chunk without end", 0) end -- more would wrap around
    local n = tonumber(size, 16)
    if n == 0 then
      local done = select(2, text:find("\r\n", last + 1, true))
      return done and table.concat(parts), done and done + 1
    end
    parts[#parts + 1] = text:sub(last + 1, last + n)
    at = last + n + 3
  end
end

--- Takes a whole response from the front of the input, if it is there.
---@param self perigee.Client
---@return perigee.Response?
local function take_response(self)
  local response, at = parse_head(self.input)
  if not response then return nil end
  if response.status == 100 then
    self.input = self.input:sub(at)
    return take_response(self)
  end
  local body, after
  if response.status == 101 or response.status == 204 or response.status == 304 or self.is_head then
    body, after = "", at
  elseif (response.headers["transfer-encoding"] or ""):lower():find("chunked", 1, true) then
    body, after = parse_chunks(self.input, at)
  else
    local length = tonumber(response.headers["content-length"])
    if not length then -- until the end of the connection
      if not self.is_ended then return nil end
      length = #self.input - at + 1
    end
    if #self.input < at - 1 + length then return nil end
    body, after = self.input:sub(at, at - 1 + length), at + length
  end
  if not body then return nil end
  response.body = body
  self.input = self.input:sub(after)
  return response
end

---@param self perigee.Client
local function finish(self, err)
  if self.is_over then return end
  self.is_over = true
  if not self.stream:is_closing() then self.stream:close() end
  self.on_end(err)
end

---@param self perigee.Client
local function feed_frames(self)
  local input = self.input
  self.input = ""
  local events, output, err = self.ws:feed(input)
  for _, event in ipairs(events) do self.on_event(event) end
  if #output > 0 and not self.stream:is_closing() then self.stream:try_write(output) end
  if err then finish(self, err) end
end

---@param self perigee.Client
local function on_data(self, data)
  self.input = self.input .. data
  while not self.ws do
    local ok, response = pcall(take_response, self)
    if not ok then return finish(self, response) end
    if not response then return end
    if response.status == 101 then self.ws = core.ws_client() end
    self.on_response(response)
  end
  if #self.input > 0 then feed_frames(self) end
end

--- Takes a connected stream over.
---@param stream any
---@param handlers { on_response?: function, on_event?: function, on_end?: function }
---@return perigee.Client
function M.open(stream, handlers)
  local self = setmetatable({
    stream = stream,
    input = "",
    on_response = handlers.on_response or function() end,
    on_event = handlers.on_event or function() end,
    on_end = handlers.on_end or function() end,
  }, Client)
  stream:read_start(function(err, data)
    if data then return on_data(self, data) end
    self.is_ended = true
    if not err and not self.ws and #self.input > 0 then on_data(self, "") end
    finish(self, err)
  end)
  return self
end

---@param bytes string
function Client:write(bytes)
  if self.is_over then return false end
  self.stream:write(bytes)
  return true
end

--- Sends a request.
---@param request { method: string, path: string, host: string, headers?: table<string, string>, body?: string }
function Client:request(request)
  local lines = { ("%s %s HTTP/1.1"):format(request.method, request.path) }
  local names = {}
  for name in pairs(request.headers or {}) do names[#names + 1] = name end
  table.sort(names)
  local has = {}
  for _, name in ipairs(names) do
    lines[#lines + 1] = ("%s: %s"):format(name, request.headers[name])
    has[name:lower()] = true
  end
  if not has.host then table.insert(lines, 2, "Host: " .. request.host) end
  if request.body and not has["content-length"] then
    lines[#lines + 1] = "Content-Length: " .. #request.body
  end
  self.is_head = request.method == "HEAD"
  return self:write(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (request.body or ""))
end

local base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

--- Sixteen random bytes in base64, as RFC 6455 section 4.1 wants them.
---@return string
local function new_key()
  local bytes, out = uv.random(16), {}
  for i = 1, 16, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local v = a << 16 | (b or 0) << 8 | (c or 0)
    for shift = 18, 0, -6 do
      local index = v >> shift & 63
      out[#out + 1] = base64:sub(index + 1, index + 1)
    end
  end
  return table.concat(out):sub(1, 22) .. "=="
end

--- Sends an opening handshake; the answer comes through on_response, 101 when accepted.
---@param path string
---@param host string
---@param headers? table<string, string>
---@param subprotocols? string[]
function Client:upgrade(path, host, headers, subprotocols)
  local all = {
    Upgrade = "websocket",
    Connection = "Upgrade",
    ["Sec-WebSocket-Version"] = "13",
    ["Sec-WebSocket-Key"] = new_key(),
  }
  if subprotocols and #subprotocols > 0 then
    all["Sec-WebSocket-Protocol"] = table.concat(subprotocols, ", ")
  end
  for name, value in pairs(headers or {}) do all[name] = value end
  self:request { method = "GET", path = path, host = host, headers = all }
end

--- Sends a message.
---@param data string
---@param is_binary? boolean
---@return boolean sent
function Client:send(data, is_binary)
  return self:write(self.ws:message(data, is_binary))
end

---@param data? string
function Client:ping(data)
  return self:write(self.ws:ping(data))
end

--- Starts the closing handshake.
---@param code? integer
---@param reason? string
function Client:close(code, reason)
  return self:write(self.ws:close(code, reason))
end

--- Ends the connection without words.
function Client:abort()
  finish(self, nil)
end

return M
