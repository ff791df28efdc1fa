--- A feed that some read slowly: each message of the publisher goes to all who follow.
local perigee = require "perigee"

local Feed = perigee.consumer { groups = { "followers" } }

function Feed:connect() self.name = self.scope.query.name or "somebody" end

function Feed:disconnect(code, reason)
  perigee.log:info("unfollowed", { who = self.name, code = code, why = reason })
end

--- Sends one message of `bytes` bytes to every follower, the caller included.
Feed:rpc_method("publish", function(_, number, bytes)
  return Feed:notify_group("followers", "item", { number, ("x"):rep(bytes) })
end)

Feed:rpc_method("followers", function() return perigee.group("followers"):count() end)

return Feed
