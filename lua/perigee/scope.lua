--- Facts about a connection: path, query, headers, cookies, client.
local M = {}

---@class perigee.Scope
---@field type "websocket"|"http"
---@field scheme "ws"|"wss"|"http"|"https" what the client speaks: to a trusted proxy, when there is one
---@field method string
---@field path string decoded
---@field raw_path string as sent
---@field query_string string as sent, without the "?"
---@field query table<string, string> decoded; of equal names the last
---@field path_params table<string, string> what the consumer's path, or the route's, captures
---@field headers table<string, string> names in lower case; equal names joined with ", "
---@field cookies table<string, string>
---@field subprotocols string[] what the client offers
---@field host string that the client asked for
---@field origin? string
---@field client { address: string, port: integer } port 0: a proxy did not tell

---@param text string
---@return string
local function decode(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- Names and values of a query or a form (application/x-www-form-urlencoded), decoded, in order.
---@param text string
---@return fun(): string?, string?
function M.pairs_of(text)
  local next_pair = text:gmatch("[^&]+")
  return function()
    local pair = next_pair()
    if not pair then return nil end
    local name, value = pair:match("^([^=]*)=?(.*)$")
    return decode((name:gsub("+", " "))), decode((value:gsub("+", " ")))
  end
end

---@param text string
---@return table<string, string>
local function parse_query(text)
  local query = {}
  for name, value in M.pairs_of(text) do query[name] = value end
  return query
end

--- Without white space at its end, in one pass: a pattern that ends in "%s*$" is tried at each space.
---@param text string
---@return string
local function trim_end(text)
  return text:match("^.*%S") or ""
end

--- RFC 6265 section 5.4 gives the first of equal names the longest path: it wins.
---@param text string
---@return table<string, string>
local function parse_cookies(text)
  local cookies = {}
  for pair in text:gmatch("[^;]+") do
    local name, value = pair:match("^ *([^=%s]+)%s*=%s*(.*)$")
    value = value and trim_end(value)
    if name and cookies[name] == nil then cookies[name] = value:match('^"(.*)"$') or value end
  end
  return cookies
end

--- Captures of "/room/:id" or "/files/*path" in a path that matches it.
---@param pattern string
---@param path string
---@return table<string, string>
local function captures(pattern, path)
  local params, at = {}, 1
  for segment in pattern:gmatch("/[^/]*") do
    local sign, name = segment:match("^/([:*])(.*)$")
    if sign == "*" then
      params[name == "" and "*" or name] = decode(path:sub(at + 1))
      break
    end
    local last = (path:find("/", at + 1, true) or #path + 1) - 1
    if sign then params[name] = decode(path:sub(at + 1, last)) end
    at = last + 1
  end
  return params
end

local function refuse(_, key)
  error(("scope is read-only: scope.%s cannot be set"):format(tostring(key)), 2)
end

--- Reads a head as core.head gives it: a line about the client, then the request.
---@param head string
---@param pattern string the path of the consumer, or of the route
---@return perigee.Scope
function M.read(head, pattern)
  local address, port, scheme, host, method, target, rest =
    head:match("^(%S*) (%d+) (%S+) (%S*)\r\n(%S+) +(%S+)[^\r\n]*\r\n(.*)$")
  local headers = {}
  for name, value in rest:gmatch("([^:\r\n]+):[ \t]*([^\r\n]*)\r\n") do
    name = name:lower()
    value = trim_end(value)
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  local raw_path, query = target:gsub("^%a+://[^/]*", ""):match("^([^?]*)%??(.*)$")
  local is_websocket = (headers.upgrade or ""):lower():find("websocket", 1, true) ~= nil
  local subprotocols = {}
  for name in (headers["sec-websocket-protocol"] or ""):gmatch("[^,%s]+") do
    subprotocols[#subprotocols + 1] = name
  end
  local facts = {
    type = is_websocket and "websocket" or "http",
    scheme = is_websocket and (scheme == "https" and "wss" or "ws") or scheme,
    method = method,
    path = decode(raw_path),
    raw_path = raw_path,
    query_string = query,
    query = parse_query(query),
    path_params = captures(pattern, raw_path),
    headers = headers,
    cookies = parse_cookies(headers.cookie or ""),
    subprotocols = subprotocols,
    host = host,
    origin = headers.origin,
    client = { address = address, port = tonumber(port) },
  }
  return setmetatable({}, {
    __index = facts,
    __newindex = refuse,
    __pairs = function() return next, facts end,
    __name = "perigee.scope",
  })
end

return M
