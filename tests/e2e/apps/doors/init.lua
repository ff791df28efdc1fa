--- What a connect hook may do: one path for each, chosen by the last part of the path.
local perigee = require "perigee"

local Doors = perigee.consumer { path = "/doors/:kind", subprotocols = { "plain" } }

local held = {} -- handshakes that wait: name -> function that lets them go on

local kinds = {}

function kinds.open() end

function kinds.shut() return false end

function kinds.teapot(self)
  self:reject(418, "no coffee\n", { ["X-Kind"] = "teapot" })
end

function kinds.broken(self)
  return self.nothing.at_all -- a fault: the client is told 500, the log why
end

--- Waits until somebody lets it in, or not.
function kinds.held(self)
  local answer = perigee.await(function(done) held[self.scope.query.name] = done end)
  return answer
end

--- Accepts, and goes on working.
function kinds.early(self)
  self:accept { subprotocol = "fancy", headers = { ["X-Greeting"] = "hello" } }
  self:notify("welcome", { "before the hook has ended" })
  perigee.sleep(0.01)
  self:notify("welcome", { "after a wait" })
end

--- Takes a while.
function kinds.slow() perigee.sleep(0.3) end

--- Accepts, and fails afterwards: the connection is open and stays so.
function kinds.late(self)
  self:accept()
  perigee.sleep(0.01)
  error("after accepting")
end

--- Headers that would break the answer's head.
function kinds.injecting(self)
  self:accept { headers = { ["X-Bad"] = "one\r\nSet-Cookie: two" } }
end

function Doors:connect()
  self.kind = self.scope.path_params.kind
  local enter = kinds[self.kind]
  if not enter then return false end
  return enter(self)
end

function Doors:disconnect(code)
  perigee.log:info("left", { kind = self.kind, who = self.scope.query.name, code = code })
end

Doors:rpc_method("kind", function(ctx) return ctx.consumer.kind end)

local Keeper = perigee.consumer { path = "/keeper" }

Keeper:rpc_method("held", function(_, name) return held[name] ~= nil end)
Keeper:rpc_method("let_in", function(_, name, is_welcome)
  held[name](is_welcome)
  held[name] = nil
  return true
end)

return { Doors, Keeper }
