--- The same method, without a schema and with one of three fields.
local perigee = require "perigee"

local Schema = perigee.consumer()

Schema:rpc_method("unchecked", function(_, text, _, _) return text end)

Schema:rpc_method("checked", {
  params = { { "text", "string" }, { "count", "integer" }, { "is_urgent", "boolean" } },
}, function(_, text, _, _) return text end)

return Schema
