--- Every feature of schemas and of what methods say about themselves.
local perigee = require "perigee"

local Schemas = perigee.consumer { discover = true, http_status = "mapped" }

--- One method for each schema: it takes a value of that kind and returns it.
local kinds = {
  text = "string",
  text_or_null = "string?",
  short = { "string", min = 2, max = 4 },
  color = { "string", enum = { "red", "green" } },
  digits = { "string", pattern = "^%d+$" },
  whole = "integer",
  percent = { "integer", min = 0, max = 100 },
  level = { "integer?", enum = { 1, 2, 3 } },
  number = "number",
  share = { "number", min = 0, max = 1 },
  ratio = { "number?", min = 0.5 },
  half = { "number", enum = { 0.5, 1.5 } },
  flag = "boolean",
  flag_or_null = "boolean?",
  list = "array",
  words = { "array", items = "string", min = 1, max = 3 },
  gaps = { "array", items = "integer?" },
  matrix = { "array", items = { "array", items = "number" } },
  thing = "object",
  person = { "object", fields = {
    { "name", { "string", min = 1 } },
    { "age", { "integer?", min = 0 } },
    { "address", { "object?", fields = { street = "string", floors = { "array?", items = "integer" } } } },
  } },
  anything = "any",
  anything_or_nothing = "any?",
  one_of = { "any", enum = { 1, "one", true } },
  one_of_or_null = { "any?", enum = { 1, "one" } },
  with_type = { type = "string", max = 3 },
}

for name, schema in pairs(kinds) do
  Schemas:rpc_method(name, { params = { { "value", schema } }, result = schema }, function(_, value)
    return value
  end)
end

Schemas:rpc_method("told", {
  doc = "Says *all* there is to say.",
  params = { { "first", "string" }, { "second", { "integer?", min = 1 } } },
  result = { "object", fields = { { "sum", "integer" } } },
  deprecated = true,
  timeout = 2.5,
  permission = function() return true end,
  errors = {
    { code = 1, message = "Too much" },
    perigee.error { code = 2, message = "Too little", data = { least = 1 } },
  },
  examples = {
    { name = "both", description = "with both parameters", params = { "a", 2 }, result = { sum = 3 } },
    { params = { "b" } },
    {},
  },
}, function(_, first, second) return { sum = #first + (second or 0) } end)

Schemas:rpc_method("untold", function(_, a, b) return { a, b } end)
Schemas:rpc_method("any_number", function(_, first, ...) return { first, ... } end)
Schemas:rpc_method("by_socket", { http = false }, function() return true end)
Schemas:rpc_method("by_post", { websocket = false }, function() return true end)
Schemas:rpc_method("secret", { hidden = true, permission = function() return false end }, function() return true end)
Schemas:rpc_method("refused", { permission = function() return false end }, function() return true end)
Schemas:rpc_notification("told", { doc = "The same name, without an answer." }, function() end)
Schemas:rpc_notification("noted", { params = { { "value", "any" } } }, function(_, _) end)

return Schemas
