--- Parameters: from what the client sent to what the handler takes.
local core = require("perigee.core")
local errors = require("perigee.errors")
local schema = require("perigee.schema")
local spelling = require("perigee.spelling")

local M = {}

local null = core.null
local INVALID = errors.codes.invalid_params

---@class perigee.Signature
---@field names string[] after ctx
---@field index table<string, integer> name -> position
---@field arity integer
---@field is_vararg boolean
---@field schemas? perigee.Schema[]

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

--- Replaces a signature's names by those of opts.params: { { "room", "string" }, ... }.
--- Raises for what is no schema.
---@param signature perigee.Signature
---@param given any
function M.declare(signature, given)
  if type(given) ~= "table" then error("params must be a list of { name, schema }", 0) end
  local names, index, schemas = {}, {}, {}
  for i, one in ipairs(given) do
    if type(one) ~= "table" or type(one[1]) ~= "string" then
      error(("params: item %d must be { name, schema }"):format(i), 0)
    end
    if index[one[1]] then error(("params: '%s' is there twice"):format(one[1]), 0) end
    names[i], index[one[1]] = one[1], i
    schemas[i] = schema.compile(one[2], "the parameter " .. one[1])
  end
  for key in pairs(given) do
    if math.type(key) ~= "integer" then
      error(("params is a list of { name, schema }; what is '%s'?"):format(tostring(key)), 0)
    end
  end
  if #names > signature.arity and not signature.is_vararg then
    error(("params declares %d parameters, but the handler takes %d after ctx"):format(#names, signature.arity), 0)
  end
  signature.names, signature.index, signature.arity = names, index, #names
  signature.schemas, signature.is_vararg = schemas, false
end

--- "a, b, ..." for messages.
---@param signature perigee.Signature
---@return string
function M.describe(signature)
  local names = { table.unpack(signature.names) }
  if signature.is_vararg then names[#names + 1] = "..." end
  return #names > 0 and table.concat(names, ", ") or "no parameters"
end

--- The error for more values than parameters.
---@param signature perigee.Signature
---@param n integer values that came
---@return perigee.Error
function M.too_many(signature, n)
  return errors.refusal(INVALID, ("Invalid params: %d values for %d parameters"):format(n, signature.arity), {
    param = signature.arity + 1,
    expected = ("at most %d values (%s)"):format(signature.arity, M.describe(signature)),
    got = n,
  })
end

--- Puts named values in the order of the parameters: a table with values 1..arity, some of them nil.
---@param signature perigee.Signature
---@param params table<string, any>
---@return table? values
---@return perigee.Error? err
function M.by_name(signature, params)
  local index, values = signature.index, {}
  for name, value in next, params do
    local at = index[name]
    if not at then
      return nil, errors.refusal(INVALID,
        ("Invalid params: unknown parameter '%s'%s"):format(name, spelling.hint(name, signature.names)), {
        param = name,
        expected = M.describe(signature),
        got = schema.type_name(value),
      })
    end
    values[at] = value
  end
  return values
end

local function wrong(name, where, expected, got)
  local param = name .. where
  return errors.refusal(INVALID, ("Invalid params: %s must be %s"):format(param, expected), {
    param = param, expected = expected, got = got,
  })
end

--- Holds one value against its schema. null counts as missing for an optional parameter.
---@param signature perigee.Signature
---@param i integer
---@param value any
---@return any value nil for an optional one that is missing
---@return perigee.Error? err
local function hold(signature, i, value)
  local one = signature.schemas[i]
  if value == nil or value == null and one.optional then
    if one.optional then return nil end
    return nil, wrong(signature.names[i], "", one.type, "nothing")
  end
  local expected, where, got = one.check(value)
  if expected then return nil, wrong(signature.names[i], where, expected, got) end
  return value
end
M.hold = hold

--- Holds values against the schemas. null counts as missing for an optional parameter. Changes
--- values, which must be the caller's own.
---@param signature perigee.Signature
---@param values table
---@return perigee.Error? err
function M.check(signature, values)
  for i = 1, signature.arity do
    local value, err = hold(signature, i, values[i])
    if err then return err end
    values[i] = value
  end
end

return M
