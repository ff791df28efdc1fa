--- Plain HTTP: what tests of handlers ask.
local perigee = require "perigee"

local Desk = perigee.http_routes { limits = { body = 100000 } }

local marks = 0 -- how often "mark" ran: a request that must not be understood tries to call it

Desk:get("ping", function() return "pong" end)
Desk:post("echo", function(ctx) return 200, ctx.body, { ["Content-Type"] = "application/octet-stream" } end)
Desk:put("echo", function(ctx) return 200, ctx.body end)
Desk:get("item/:id", function(ctx) return { id = ctx.params.id, client = ctx.scope.client.address } end)
Desk:get("sleep/:ms", function(ctx)
  perigee.sleep(tonumber(ctx.params.ms) / 1000)
  return ctx.params.ms
end)
Desk:get("long/:n", function(ctx) return ("x"):rep(tonumber(ctx.params.n)) end)
Desk:get("header", function(ctx) return 200, "", { ["X-Said"] = ctx.query.say } end)
Desk:get("fault", function() return nil + 1 end)
Desk:get("spin", function() while true do end end) -- luacheck: ignore
Desk:get("eat", function()
  local all = {}
  while true do all[#all + 1] = ("x"):rep(1000000) .. #all end
end)
Desk:post("mark", function() marks = marks + 1 end)
Desk:get("marks", function() return tostring(marks) end)
Desk:get("gone", function()
  perigee.sleep(0.05)
  marks = marks + 1
end)
Desk:get("both.txt", function() return "handler" end)

local Strict = perigee.http_routes { path = "/desk/strict", limits = { body = 10 }, timeout = 0.1 }
Strict:post("", function(ctx) return ctx.body end)
Strict:get("slow", function() perigee.sleep(60) end)

local Open = perigee.http_routes { path = "/desk/open", origins = { ".localhost", "http://127.0.0.1", "*" } }
Open:get("who", function(ctx) return 200, { cookie = ctx.cookies.visitor or "none" }, { ["X-Secret"] = "1" } end)
Open:post("form", function(ctx) return { name = ctx:form().name } end)
Open:put("thing", function(ctx) return { thing = ctx:json(), key = ctx.headers["x-key"] } end)

-- Beside JSON-RPC.
local Both = perigee.consumer { path = "/desk/both" }
Both:get("", function() return "page" end)
Both:post("form", function(ctx) return "hello " .. ctx:form().name end)
Both:rpc_method("ping", function() return "pong" end)

return { Desk, Strict, Open, Both }
