--- Callers that wait until somebody else lets them go on: shows perigee.await, and makes tests of
--- waiting handlers independent of time.
local perigee = require "perigee"

local Gate = perigee.consumer {}

local waiting = {} -- name -> list of functions that wake a waiting handler

Gate:rpc_method("ping", function() return "pong" end)

--- Waits at the gate `name` until it is opened.
Gate:rpc_method("wait", function(_, name)
  return perigee.await(function(done)
    waiting[name] = waiting[name] or {}
    table.insert(waiting[name], done)
  end)
end)

--- Lets `count` of those who wait at a gate go on, or all of them; says how many went.
Gate:rpc_method("open", function(_, name, count)
  local list, opened = waiting[name] or {}, 0
  while #list > 0 and opened < (count or math.huge) do
    opened = opened + 1
    table.remove(list, 1)("through " .. name)
  end
  return opened
end)

Gate:rpc_method("waiting", function(_, name) return #(waiting[name] or {}) end)

return Gate
