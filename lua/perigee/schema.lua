--- Schemas: what a value must be, checked, and told as JSON Schema.
---
---   "string"  "integer?"  { "integer", min = 1, max = 100 }  { "string", enum = { "a", "b" } }
---   { "array", items = "string", max = 10 }
---   { "object", fields = { { "name", "string" }, { "age", "integer?" } } }
local core = require("perigee.core")
local spelling = require("perigee.spelling")

local M = {}

--- A schema as apps write it: a type's name, with a "?" when it is optional, or a table with the type first.
---@alias perigee.SchemaSpec perigee.TypeName|perigee.SchemaTable
---@alias perigee.TypeName
---| "string" | "integer" | "number" | "boolean" | "array" | "object" | "any"
---| "string?" | "integer?" | "number?" | "boolean?" | "array?" | "object?" | "any?"

---@class perigee.SchemaTable
---@field [1]? perigee.TypeName
---@field type? perigee.TypeName in place of [1]
---@field min? number least value; of strings: characters, of arrays: items
---@field max? number
---@field pattern? string Lua pattern of strings
---@field enum? any[] the only values
---@field items? perigee.SchemaSpec of arrays
---@field fields? perigee.Param[]|table<string, perigee.SchemaSpec> of objects; there may be no others

---@class perigee.Param
---@field [1] string name
---@field [2] perigee.SchemaSpec

local null, array_mt = core.null, core.array_mt
local type, math_type, getmetatable = type, math.type, getmetatable -- checks run in every call

--- What a JSON value is called.
---@param value any
---@return string
function M.type_name(value)
  local kind = type(value)
  if kind == "nil" or value == null then return "null" end
  if kind == "table" then
    if getmetatable(value) == array_mt or #value > 0 then return "array" end
    return "object"
  end
  if kind == "number" then return math.type(value) == "integer" and "integer" or "number" end
  return kind
end

--- The value itself when it is short, else its type: for the `got` of an error.
local function got(value)
  local kind = type(value)
  if kind == "number" or kind == "boolean" then return value end
  if kind == "string" and #value <= 40 then return value end
  return M.type_name(value)
end

local types = { "string", "integer", "number", "boolean", "array", "object", "any" }

local tests = {
  string = function(v) return type(v) == "string" end,
  integer = function(v) return math_type(v) == "integer" end,
  number = function(v) return type(v) == "number" end,
  boolean = function(v) return type(v) == "boolean" end,
  array = function(v) return type(v) == "table" and (getmetatable(v) == array_mt or #v > 0) end,
  object = function(v)
    return type(v) == "table" and getmetatable(v) ~= array_mt and #v == 0
  end,
  any = function() return true end,
}

--- Options that each type takes.
local takes = {
  string = { min = true, max = true, pattern = true, enum = true },
  integer = { min = true, max = true, enum = true },
  number = { min = true, max = true, enum = true },
  boolean = {},
  array = { min = true, max = true, items = true },
  object = { fields = true },
  any = { enum = true },
}

---@class perigee.Schema
---@field type string
---@field optional boolean
---@field min? number
---@field max? number
---@field pattern? string
---@field enum? any[]
---@field items? perigee.Schema
---@field fields? { name: string, schema: perigee.Schema }[]
---@field by_name? table<string, perigee.Schema>
---@field check fun(value: any): string?, string?, any nil, or what is expected, where, and what came

local function fail(where, message)
  error(("schema of %s: %s"):format(where, message), 0)
end

--- min and max mean: the value of numbers, the characters of strings, the items of arrays.
local function size_of(schema, value)
  if schema.type == "string" then return utf8.len(value) or #value end
  if schema.type == "array" then return #value end
  return value
end

local units = { string = " characters", array = " items" }

local function check_bounds(schema, value)
  local size = size_of(schema, value)
  local min, max, unit = schema.min, schema.max, units[schema.type] or ""
  if min and size < min or max and size > max then
    local bounds = min and max and ("from %s to %s"):format(min, max)
      or min and ("of at least %s"):format(min) or ("of at most %s"):format(max)
    return ("%s %s%s"):format(schema.type, bounds, unit), "", got(value)
  end
  if schema.pattern and not value:find(schema.pattern) then
    return ("string that matches %s"):format(schema.pattern), "", got(value)
  end
end

local function check_enum(schema, value)
  for _, one in ipairs(schema.enum) do
    if one == value and math.type(one) == math.type(value) then return nil end
  end
  local words = {}
  for i, one in ipairs(schema.enum) do words[i] = core.json_encode(one) end
  return "one of " .. table.concat(words, ", "), "", got(value)
end

local function check_items(schema, value)
  local check = schema.items.check
  for i = 1, #value do
    local item = value[i]
    if not (item == null and schema.items.optional) then
      local expected, where, came = check(item)
      if expected then return expected, ("[%d]%s"):format(i - 1, where), came end
    end
  end
end

local function check_fields(schema, value)
  for _, field in ipairs(schema.fields) do
    local item = value[field.name]
    if item == nil or item == null and field.schema.optional then
      if not field.schema.optional then return field.schema.type, "." .. field.name, "nothing" end
    else
      local expected, where, came = field.schema.check(item)
      if expected then return expected, "." .. field.name .. where, came end
    end
  end
  for name in next, value do
    if not schema.by_name[name] then
      return "no such field" .. spelling.hint(name, spelling.keys(schema.by_name)), "." .. tostring(name), "a value"
    end
  end
end

--- Checks of types that ask for nothing more, in one step.
local plain_checks = {
  string = function(v)
    if type(v) == "string" then return nil end
    return "string", "", M.type_name(v)
  end,
  integer = function(v)
    if math_type(v) == "integer" then return nil end
    return "integer", "", M.type_name(v)
  end,
  number = function(v)
    if type(v) == "number" then return nil end
    return "number", "", M.type_name(v)
  end,
  boolean = function(v)
    if v == true or v == false then return nil end
    return "boolean", "", M.type_name(v)
  end,
  any = function() return nil end,
}

--- Makes the function that checks values: no more steps than the schema asks for.
---@param schema perigee.Schema
local function make_check(schema)
  local is_type, kind = tests[schema.type], schema.type
  local has_bounds = schema.min or schema.max or schema.pattern
  local more = schema.items and check_items or schema.fields and check_fields or schema.enum and check_enum
  if not has_bounds and not more then
    return plain_checks[kind] or function(value)
      if is_type(value) then return nil end
      return kind, "", M.type_name(value)
    end
  end
  return function(value)
    if not is_type(value) then return kind, "", M.type_name(value) end
    if has_bounds then
      local expected, where, came = check_bounds(schema, value)
      if expected then return expected, where, came end
    end
    if more then return more(schema, value) end
  end
end

--- Fields of an object: a list of { name, schema }, or a table name -> schema.
local function compile_fields(given, where)
  if type(given) ~= "table" then fail(where, "fields must be a table") end
  local fields, by_name = {}, {}
  local function add(name, spec)
    if type(name) ~= "string" then fail(where, "a field's name must be a string") end
    if by_name[name] then fail(where, ("the field '%s' is there twice"):format(name)) end
    local schema = M.compile(spec, where .. "." .. name)
    fields[#fields + 1] = { name = name, schema = schema }
    by_name[name] = schema
  end
  if #given > 0 then
    for i, field in ipairs(given) do
      if type(field) ~= "table" then fail(where, ("field %d must be { name, schema }"):format(i)) end
      add(field[1], field[2])
    end
  else
    for _, name in ipairs(spelling.keys(given)) do add(name, given[name]) end
  end
  return fields, by_name
end

--- Reads a schema as apps write it. Raises for what is none.
---@param spec any
---@param where string for messages
---@return perigee.Schema
function M.compile(spec, where)
  local given = type(spec) == "string" and { spec } or spec
  if type(given) ~= "table" then fail(where, "a type's name or a table is needed, not a " .. type(spec)) end
  local word = given[1] or given.type
  if type(word) ~= "string" then fail(where, "the type is missing") end
  local kind, mark = word:match("^(%a+)(%??)$")
  if not kind or not tests[kind] then
    fail(where, ("there is no type '%s'%s"):format(word, spelling.hint(word:gsub("%?$", ""), types)))
  end
  local schema = { type = kind, optional = mark == "?" }
  for key, value in pairs(given) do
    if key ~= 1 and key ~= "type" then
      if not takes[kind][key] then
        fail(where, ("type %s has no option '%s'%s"):format(kind, tostring(key),
          spelling.hint(key, spelling.keys(takes[kind]))))
      end
      schema[key] = value
    end
  end
  for _, bound in ipairs { "min", "max" } do
    if schema[bound] ~= nil and type(schema[bound]) ~= "number" then fail(where, bound .. " must be a number") end
  end
  if schema.min and schema.max and schema.min > schema.max then fail(where, "min is above max") end
  if schema.pattern then
    if type(schema.pattern) ~= "string" or not pcall(string.find, "", schema.pattern) then
      fail(where, "pattern must be a Lua pattern")
    end
  end
  if schema.enum and (type(schema.enum) ~= "table" or #schema.enum == 0) then fail(where, "enum must be a list") end
  if schema.items then schema.items = M.compile(schema.items, where .. "[]") end
  if schema.fields then schema.fields, schema.by_name = compile_fields(schema.fields, where) end
  schema.check = make_check(schema)
  return schema
end

--- The same as JSON Schema.
---@param schema perigee.Schema
---@return table
function M.to_json_schema(schema)
  local out = {}
  if schema.type ~= "any" then
    if schema.optional then
      out.type = setmetatable({ schema.type, "null" }, array_mt)
    else
      out.type = schema.type
    end
  end
  if schema.enum then
    out.enum = setmetatable({ table.unpack(schema.enum) }, array_mt)
    if schema.optional then table.insert(out.enum, null) end -- JSON Schema holds null against it as well
  end
  if schema.type == "integer" or schema.type == "number" then
    out.minimum, out.maximum = schema.min, schema.max
  elseif schema.type == "string" then
    out.minLength, out.maxLength = schema.min, schema.max
    out["x-lua-pattern"] = schema.pattern
  elseif schema.type == "array" then
    out.minItems, out.maxItems = schema.min, schema.max
    if schema.items then out.items = M.to_json_schema(schema.items) end
  elseif schema.fields then
    local properties, required = {}, setmetatable({}, array_mt)
    for _, field in ipairs(schema.fields) do
      properties[field.name] = M.to_json_schema(field.schema)
      if not field.schema.optional then required[#required + 1] = field.name end
    end
    out.properties, out.additionalProperties = properties, false
    if #required > 0 then out.required = required end
  end
  return out
end

return M
