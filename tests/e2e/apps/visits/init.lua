-- Sessions and users, as far as clients can see them.
local perigee = require "perigee"

local Visits = perigee.consumer { http_user = true }
-- the same visitors, without a connect hook to remind the server of them
local Token = perigee.consumer {
  path = "/visits/token",
  auth = function(token) return (perigee.token.verify(token, { purpose = "door" })) end,
}

Visits:rpc_method("set", function(ctx, key, value)
  ctx.session[key] = value
  return true
end)

Visits:rpc_method("get", function(ctx, key) return ctx.session[key] end)

Visits:rpc_method("slowly", function(ctx, key, value, seconds)
  ctx.session[key] = value
  perigee.sleep(seconds)
  return true
end)

Visits:rpc_method("push", function(ctx, key, item)
  local list = ctx.session[key] or perigee.array {}
  list[#list + 1] = item
  ctx.session[key] = list
  return #list
end)

Visits:rpc_method("all", function(ctx)
  local all = {}
  for key, value in pairs(ctx.session) do all[key] = value end
  return all
end)

Visits:rpc_method("destroy", function(ctx)
  ctx.session:destroy()
  return true
end)

Visits:rpc_method("sign_in", function(ctx, user)
  ctx.consumer:identify(user)
  return ctx.user
end)

Visits:rpc_method("who", function(ctx) return ctx.user end)

Visits:rpc_method("tell", function(_, user, text)
  Visits:notify_user(user, "told", { text })
  return true
end)

Visits:rpc_method("kick", function(_, user, reason)
  perigee.kick { user = user, code = 4001, reason = reason }
  return true
end)

Visits:rpc_method("hash", function(_, password) return perigee.password.hash(password) end)
Visits:rpc_method("verify", function(_, password, hash) return (perigee.password.verify(password, hash)) end)
Visits:rpc_method("ticket", function(_, user, seconds)
  return perigee.token.sign(user, { purpose = "door", expires = seconds })
end)

Token:rpc_method("who", function(ctx) return ctx.user end)

return { Visits, Token }
