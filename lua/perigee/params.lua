--- Parameters: from what the client sent to what the handler takes.
local core = require("perigee.core")
local errors = require("perigee.errors")

local M = {}

local null = core.null
local INVALID = errors.codes.invalid_params

---@class perigee.Signature
---@field names string[] after ctx
---@field index table<string, integer> name -> position
---@field arity integer
---@field is_vararg boolean

--- A handler's own parameter names, found once, at registration.
---@param fn function
---@return perigee.Signature
function M.signature(fn)
  local info = debug.getinfo(fn, "u")
  local names, index = {}, {}
  for i = 2, info.nparams do
    local name = debug.getlocal(fn, i)
    names[i - 1] = name
    index[name] = i - 1
  end
  return { names = names, index = index, arity = #names, is_vararg = info.isvararg }
end

--- "a, b, ..." for messages.
---@param signature perigee.Signature
---@return string
function M.describe(signature)
  local names = { table.unpack(signature.names) }
  if signature.is_vararg then names[#names + 1] = "..." end
  return table.concat(names, ", ")
end

--- What a JSON value is called.
---@param value any
---@return string
function M.type_name(value)
  local kind = type(value)
  if kind == "nil" or value == null then return "null" end
  if kind == "table" then return getmetatable(value) == core.array_mt and "array" or "object" end
  if kind == "number" then return math.type(value) == "integer" and "integer" or "number" end
  return kind
end

--- The error for more values than parameters.
---@param signature perigee.Signature
---@param n integer values that came
---@return table
function M.too_many(signature, n)
  return errors.wire(INVALID, ("Invalid params: %d values for %d parameters"):format(n, signature.arity), {
    param = signature.arity + 1,
    expected = ("at most %d values (%s)"):format(signature.arity, M.describe(signature)),
    got = n,
  })
end

--- Puts named values in the order of the parameters. Returns a table with values 1..arity, some of
--- them nil, or nil and an error.
---@param signature perigee.Signature
---@param params table<string, any>
---@return table? values
---@return table? err
function M.by_name(signature, params)
  local index, values = signature.index, {}
  for name, value in next, params do
    local at = index[name]
    if not at then
      return nil, errors.wire(INVALID, ("Invalid params: unknown parameter '%s'"):format(name), {
        param = name,
        expected = #signature.names > 0 and M.describe(signature) or "no parameters",
        got = M.type_name(value),
      })
    end
    values[at] = value
  end
  return values
end

return M
