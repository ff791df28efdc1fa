--- Small things said back: what tests of the wire talk to.
local perigee = require "perigee"

local Echo = perigee.consumer {}

local marks = 0 -- how often "mark" ran: a request that must not be understood tries to call it

Echo:rpc_method("ping", function() return "pong" end)
Echo:rpc_method("echo", function(_, value) return value end)
Echo:rpc_method("length", function(_, text) return #text end)
Echo:rpc_method("repeated", function(_, text, n) return text:rep(n) end)

Echo:rpc_method("sleep", function(_, seconds, value)
  perigee.sleep(seconds)
  return value
end)

Echo:rpc_method("mark", function()
  marks = marks + 1
  return marks
end)
Echo:rpc_method("marks", function() return marks end)

--- What the server makes of a request's head.
Echo:rpc_method("scope", function(ctx)
  local scope = ctx.scope
  return {
    type = scope.type, path = scope.path, query = scope.query, cookies = scope.cookies,
    origin = scope.origin, agent = scope.headers["user-agent"], address = scope.client.address,
    transport = ctx.transport,
  }
end)

--- Who asks, for which host.
Echo:rpc_method("client", function(ctx)
  local scope = ctx.scope
  return { scope.client.address, scope.scheme, scope.host, scope.client.port > 0 }
end)

-- The same with other limits and rules for who may ask.
local Small = perigee.consumer {
  path = "/echo/small",
  limits = { message = 300, body = 200, batch = 3, array = 5, string = 20, depth = 3, method = 10 },
}
Small:rpc_method("ping", function() return "pong" end)
Small:rpc_method("echo", function(_, value) return value end)

local Trusting = perigee.consumer {
  path = "/echo/trusting",
  origins = { "https://good.example", ".family.example", "http://local.example:8000" },
}
Trusting:rpc_method("ping", function() return "pong" end)

local Public = perigee.consumer { path = "/echo/public", origins = { "*" } }
Public:rpc_method("ping", function() return "pong" end)

local Speaker = perigee.consumer { path = "/echo/speaker", subprotocols = { "jsonrpc.v2", "jsonrpc.v1" } }
Speaker:rpc_method("ping", function() return "pong" end)

local Modern = perigee.consumer { path = "/echo/modern", versions = { "2.0" } }
Modern:rpc_method("ping", function() return "pong" end)

local Captures = perigee.consumer { path = "/echo/room/:id/seat/:seat" }
Captures:rpc_method("where", function(ctx) return ctx.scope.path_params end)

return { Echo, Small, Trusting, Public, Speaker, Modern, Captures }
