--- What the load generator calls: the same four methods as every peer in peers/.
local perigee = require "perigee"

local Rpc = perigee.consumer()

Rpc:rpc_method("echo", function(_, value) return value end)

Rpc:rpc_method("add", function(_, a, b) return a + b end)

Rpc:rpc_method("join", function(ctx, group) return ctx:group_add(group) end)

Rpc:rpc_method("publish", function(_, group, seq, payload)
  return Rpc:notify_group(group, "message", { group = group, seq = seq, payload = payload })
end)

return Rpc
