--- A counter that all visitors share.
local perigee = require "perigee"

-- Whoever has the page open is in this group, from connect to disconnect, and hears of every change.
local Counter = perigee.consumer { groups = { "counter" } }
local watchers = perigee.group "counter"

-- What this app remembers. A Lua variable would do for one worker, and until the code is loaded anew;
-- this is the same for all workers, and for all versions of the code.
local store = perigee.shared "counter"

-- ---- helpers ------------------------------------------------------------------------------------

--- Tells everyone the new value, the caller too: its notification arrives before its result.
local function changed(value)
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
  return { value = store:get("value") or 0, watching = watchers:count() }
end)

-- What `by` may be; a client that sends anything else gets an error that says so.
local params = { { "by", { "integer?", min = 1, max = 1000 } } }

Counter:rpc_method("increment", {
  doc = "Adds 1, or `by`. Returns the new value.",
  params = params,
}, function(_, by)
  return changed(store:incr("value", by or 1))
end)

Counter:rpc_method("decrement", {
  doc = "Takes 1 away, or `by`. Returns the new value.",
  params = params,
}, function(_, by)
  return changed(store:incr("value", -(by or 1)))
end)

Counter:rpc_method("reset", { doc = "Starts again at 0." }, function()
  store:set("value", 0)
  return changed(0)
end)

return Counter
