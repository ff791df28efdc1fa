--- Header fields that apps give: checked, and made lines of a head.
local M = {}

--- A name, as RFC 9110 has it.
local TOKEN <const> = "^[%w!#$%%&'*+.^_`|~-]+$"

--- Fields an app may not set: they are the server's own, and a second one could be read in two ways.
local reserved = {
  ["connection"] = "the connection is the server's", ["content-length"] = "the server counts",
  ["date"] = "the server dates its answers", ["keep-alive"] = "the connection is the server's",
  ["sec-websocket-accept"] = "the handshake is the server's",
  ["sec-websocket-extensions"] = "the handshake is the server's",
  ["te"] = "the connection is the server's", ["trailer"] = "there are none",
  ["transfer-encoding"] = "the connection is the server's", ["upgrade"] = "the connection is the server's",
  ["access-control-allow-origin"] = "see the option origins",
  ["access-control-allow-credentials"] = "see the option origins",
}

M.MAX_BYTES = 16 * 1024

---@param value any
---@return boolean
function M.is_token(value)
  return type(value) == "string" and value:find(TOKEN) ~= nil
end

--- One line of a head, or nil and what is wrong.
---@param name any
---@param value any
---@return string? line
---@return string? wrong
local function line(name, value)
  if not M.is_token(name) then return nil, ("'%s' is not a header's name"):format(tostring(name)) end
  local why = reserved[name:lower()]
  if why then return nil, ("header %s: it cannot be set (%s)"):format(name, why) end
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" then
    return nil, ("header %s: its value must be a text, a number or a list of them, not a %s"):format(name, kind)
  end
  value = tostring(value)
  if value:find("[%z\1-\8\10-\31\127]") then
    return nil, ("header %s: its value has control characters"):format(name)
  end
  return ("%s: %s\r\n"):format(name, value)
end

--- Header lines of a table: name = value, or name = { value, ... } for several lines.
---@param headers table<string, any>?
---@return string? lines nil when there are none
---@return string? wrong what would break the head
function M.check(headers)
  if headers == nil then return nil end
  if type(headers) ~= "table" then return nil, "headers must be a table, not a " .. type(headers) end
  local lines, bytes = {}, 0
  for name, value in pairs(headers) do
    local values = type(value) == "table" and value or { value }
    for i = 1, math.max(#values, 1) do
      local text, wrong = line(name, values[i])
      if not text then return nil, wrong end
      lines[#lines + 1] = text
      bytes = bytes + #text
    end
  end
  if bytes > M.MAX_BYTES then return nil, ("headers of more than %d bytes"):format(M.MAX_BYTES) end
  table.sort(lines)
  return #lines > 0 and table.concat(lines) or nil
end

--- The same; raises what would break the head, where the caller was called.
---@param headers table<string, any>?
---@return string? lines
function M.lines(headers)
  local lines, wrong = M.check(headers)
  if wrong then error(wrong, 3) end
  return lines
end

return M
