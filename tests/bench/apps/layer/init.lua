--- What tests/bench/layer calls: publishing by the thousand, and groups by the thousand.
local perigee = require "perigee"

local Layer = perigee.consumer {}

Layer:rpc_method("join", function(ctx, prefix, first, last)
  for i = first, last do ctx:group_add(prefix .. i) end
end)

--- Publishes to the groups prefix..1 to prefix..n_groups in turn, a few hundred at a time, so that the
--- worker's other business goes on.
Layer:rpc_method("publish", { timeout = 300 }, function(_, prefix, n_groups, n, text)
  for i = 1, n do
    Layer:notify_group(prefix .. (i % n_groups + 1), "m", { text })
    if i % 200 == 0 then perigee.sleep(0) end
  end
  return n
end)

Layer:rpc_notification("tell", function(_, group, text) Layer:notify_group(group, "m", { text }) end)

return Layer
