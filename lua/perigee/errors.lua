--- Errors that a client gets to see: their codes, and the objects that carry them.
local core = require("perigee.core")

local M = {}

--- Codes by name. The first five are JSON-RPC's own; the others lie in the range it leaves to
--- servers.
---@enum perigee.errors
M.codes = {
  parse = -32700,
  invalid_request = -32600,
  method_not_found = -32601,
  invalid_params = -32602,
  internal = -32603,
  application = -32000,
  too_large = -32001,
  timeout = -32002,
  forbidden = -32003,
  unauthenticated = -32004,
  rate_limited = -32005,
  unavailable = -32006,
  cancelled = -32800,
}

--- Messages for codes that are raised without one.
local messages = {
  [-32700] = "Parse error",
  [-32600] = "Invalid Request",
  [-32601] = "Method not found",
  [-32602] = "Invalid params",
  [-32603] = "Internal error",
  [-32000] = "Application error",
  [-32001] = "Request too large",
  [-32002] = "Timeout",
  [-32003] = "Forbidden",
  [-32004] = "Unauthenticated",
  [-32005] = "Rate limited",
  [-32006] = "Unavailable",
  [-32800] = "Cancelled",
}

---@class perigee.Error
---@field code integer
---@field message string
---@field data any
---@field is_refusal? boolean made by the server before the handler ran: not an error of the app
---@field is_end? boolean the task that it was raised in was ended, as by a reload
local Error = {}
Error.__index = Error
Error.__name = "perigee.error"
Error.__tostring = function(self)
  return ("%s (%d)"):format(self.message, self.code)
end

---@class perigee.ErrorFields
---@field code? integer any integer; default -32000
---@field message? string default: what the code means
---@field data? any anything JSON can hold

--- An error object. Raise it with error(), or return it as `nil, err`: the client gets exactly its
--- code, message and data.
---@param fields perigee.ErrorFields
---@return perigee.Error
function M.new(fields)
  if type(fields) ~= "table" then
    error("perigee.error takes a table { code =, message =, data = }, not a " .. type(fields), 2)
  end
  local code = fields.code == nil and M.codes.application or fields.code
  if math.type(code) ~= "integer" then
    error("perigee.error: code must be an integer, not " .. tostring(code), 2)
  end
  local message = fields.message
  if message == nil then
    message = messages[code] or messages[M.codes.application]
  elseif type(message) ~= "string" then
    error("perigee.error: message must be a string, not a " .. type(message), 2)
  end
  return setmetatable({ code = code, message = message, data = fields.data }, Error)
end

--- Is this an error object?
---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and getmetatable(value) == Error
end

--- An error object out of what a handler returned as its error: one, a text, or a plain table that
--- has what an error object has.
---@param value any
---@return perigee.Error
function M.from(value)
  if M.is(value) then return value end
  if type(value) == "table" and math.type(value.code) == "integer" and type(value.message) == "string" then
    return M.new { code = value.code, message = value.message, data = value.data }
  end
  local message = type(value) == "string" and value or nil
  return M.new { message = message, data = setmetatable({ value }, core.array_mt) }
end

--- An error of the server's own: the call was refused before its handler ran.
---@param code integer
---@param message? string
---@param data? any
---@return perigee.Error
function M.refusal(code, message, data)
  return setmetatable({
    code = code, message = message or messages[code], data = data, is_refusal = true,
  }, Error)
end

--- An error as the plain table that goes on the wire. Allocates one table, no object.
---@param code integer
---@param message? string
---@param data? any
---@return table
function M.wire(code, message, data)
  return { code = code, message = message or messages[code] or messages[-32000], data = data }
end

return M
