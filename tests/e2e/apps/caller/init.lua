--- Calls from the server to the client.
local perigee = require "perigee"

local Caller = perigee.consumer {}

function Caller:disconnect() perigee.log:info("caller gone", { who = self.scope.query.name }) end

--- Asks the client `method` and answers with what it said.
Caller:rpc_method("ask", function(ctx, method, params, timeout)
  local result, err = ctx:call(method, params, { timeout = timeout })
  if err then
    perigee.log:info("no answer", { who = ctx.scope.query.name, code = err.code })
    return { code = err.code, message = err.message, data = err.data }
  end
  return { result = result }
end)

Caller:rpc_method("ping", function() return "pong" end)

return Caller
