--- Discovery: what a consumer offers, as an OpenRPC 1.3 document.
local core = require("perigee.core")
local errors = require("perigee.errors")
local schema = require("perigee.schema")

local M = {}

local function list(items)
  return setmetatable(items, core.array_mt)
end

---@param m perigee.Method
---@return string[]
local function transports(m)
  local names = list {}
  if m.websocket then names[#names + 1] = "websocket" end
  if m.http then names[#names + 1] = "http" end
  return names
end

--- Everything that is known of a method, for tools and tests.
---@class perigee.MethodInfo
---@field name string
---@field is_notification boolean
---@field params { name: string, required: boolean, schema: table }[]
---@field is_vararg boolean
---@field signature string "say(room, text)"
---@field doc? string
---@field transports string[]
---@field timeout number seconds; 0: none
---@field deprecated boolean
---@field permission boolean is there one?

---@param m perigee.Method
---@param is_notification boolean
---@return perigee.MethodInfo
function M.method_info(m, is_notification)
  local given = list {}
  for i, name in ipairs(m.names) do
    local one = m.schemas and m.schemas[i]
    given[i] = {
      name = name,
      required = one ~= nil and not one.optional,
      schema = one and schema.to_json_schema(one) or {},
    }
  end
  local words = { table.unpack(m.names) }
  if m.is_vararg then words[#words + 1] = "..." end
  return {
    name = m.name,
    is_notification = is_notification,
    params = given,
    is_vararg = m.is_vararg,
    signature = ("%s(%s)"):format(m.name, table.concat(words, ", ")),
    doc = m.doc,
    transports = transports(m),
    timeout = m.timeout,
    deprecated = m.deprecated or false,
    permission = m.permission ~= nil,
  }
end

--- One method as OpenRPC's method object. A notification is one without a result.
local function method_object(m, is_notification)
  local info = M.method_info(m, is_notification)
  local given = list {}
  for i, param in ipairs(info.params) do
    given[i] = { name = param.name, required = param.required, schema = param.schema }
  end
  if info.is_vararg then
    given[#given + 1] = { name = "rest", required = false, schema = {}, description = "any number of further values" }
  end
  local object = {
    name = m.name,
    description = m.doc,
    params = given,
    paramStructure = info.is_vararg and "by-position" or "either",
    deprecated = m.deprecated or nil,
    ["x-transports"] = info.transports,
  }
  if not is_notification then
    object.result = { name = "result", schema = m.result and schema.to_json_schema(m.result) or {} }
  end
  if m.errors then
    object.errors = list {}
    for i, err in ipairs(m.errors) do
      object.errors[i] = { code = err.code, message = err.message, data = err.data }
    end
  end
  if m.examples then
    object.examples = list {}
    for i, example in ipairs(m.examples) do
      local pairing = {
        name = example.name or ("example %d"):format(i), description = example.description, params = list {},
      }
      for k, value in ipairs(example.params or {}) do
        pairing.params[k] = { name = m.names[k] or "rest", value = value }
      end
      if example.result ~= nil then pairing.result = { name = "result", value = example.result } end
      object.examples[i] = pairing
    end
  end
  return object
end

--- The document. `allows` decides which methods are in it.
---@param record perigee.Record
---@param allows? fun(m: perigee.Method): boolean
---@return table
function M.document(record, allows)
  local methods, seen = list {}, {}
  for _, kind in ipairs { "requests", "notifications" } do
    local registry = record[kind]
    for _, name in ipairs(registry.order) do
      local m = registry.all[name]
      if not allows or allows(m) then
        if seen[name] then
          -- OpenRPC wants names to be unique: the call stands for both
          seen[name]["x-notification"] = true
        else
          local object = method_object(m, kind == "notifications")
          seen[name] = object
          methods[#methods + 1] = object
        end
      end
    end
  end
  return {
    openrpc = "1.3.2",
    info = { title = record.app, version = core.version },
    methods = methods,
  }
end

--- May the caller see this method: over its transport, and with its permissions?
local function is_visible(record, ctx, m)
  if not m[ctx.transport] then return false end
  if not m.permission then return true end
  if not m.hidden then return true end
  local permission = m.permission
  local ok, allowed
  if type(permission) == "function" then
    ok, allowed = pcall(permission, ctx)
  else
    ok, allowed = pcall(record.class.has_permission, ctx, permission)
  end
  return ok and allowed and true or false
end

--- Handler of rpc.discover.
---@param record perigee.Record
---@return fun(ctx: perigee.Ctx): table
function M.handler(record)
  return function(ctx)
    return M.document(record, function(m) return is_visible(record, ctx, m) end)
  end
end

--- For opts.errors: { { code =, message =, data = }, ... }.
---@param given any
---@return boolean
function M.are_errors(given)
  if type(given) ~= "table" then return false end
  for _, err in ipairs(given) do
    local is_one = type(err) == "table" and math.type(err.code) == "integer" and type(err.message) == "string"
    if not is_one and not errors.is(err) then return false end
  end
  return true
end

return M
