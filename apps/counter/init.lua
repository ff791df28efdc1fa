--- A counter that all visitors share.
local perigee = require "perigee"

-- Whoever has the page open is in this group, from connect to disconnect, and hears of every change.
local Counter = perigee.consumer { groups = { "counter" } }
local watchers = perigee.group "counter"

-- Everything this app remembers is in one table.
local state = { value = 0 }

-- ---- helpers ------------------------------------------------------------------------------------

--- Sets the value and tells everyone, the caller too: its notification arrives before its result.
local function set(value)
  state.value = value
  watchers:notify("changed", { value = value })
  return value
end

local function tell_how_many_watch()
  watchers:notify("watching", { count = watchers:count() })
end

-- ---- connections --------------------------------------------------------------------------------

Counter.connect = tell_how_many_watch
Counter.disconnect = tell_how_many_watch

-- ---- methods ------------------------------------------------------------------------------------

Counter:rpc_method("get", { doc = "The value, and how many watch it." }, function()
  return { value = state.value, watching = watchers:count() }
end)

-- What `by` may be; a client that sends anything else gets an error that says so.
local params = { { "by", { "integer?", min = 1, max = 1000 } } }

Counter:rpc_method("increment", {
  doc = "Adds 1, or `by`. Returns the new value.",
  params = params,
}, function(_, by)
  return set(state.value + (by or 1))
end)

Counter:rpc_method("decrement", {
  doc = "Takes 1 away, or `by`. Returns the new value.",
  params = params,
}, function(_, by)
  return set(state.value - (by or 1))
end)

Counter:rpc_method("reset", { doc = "Starts again at 0." }, function()
  return set(0)
end)

return Counter
