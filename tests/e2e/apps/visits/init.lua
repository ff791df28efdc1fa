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

-- What goes on after the answer, and calls that wait: both until "open" names them.
local gates = {}
local function wait_at(gate)
  perigee.await(function(done) gates[gate] = done end)
end

local late = {
  set = function(ctx) ctx.session.mine = "late" end,
  identify = function(ctx) ctx.consumer:identify("mallory") end,
  scope = function(ctx) ctx.session.mine = ctx.scope.headers["x-name"] end,
  notify = function(ctx) ctx:notify("told", { "late" }) end,
  close = function(ctx) ctx:close() end,
  group_add = function(ctx) ctx:group_add("latecomers") end,
}

Visits:rpc_method("later", function(ctx, what, by_app)
  local spawn = by_app and perigee.spawn or function(fn) ctx:spawn(fn) end
  spawn(function()
    wait_at("later")
    local _ <close> = setmetatable({}, { __close = function() gates.done = true end })
    late[what](ctx)
    if by_app then ctx.session:save() end
  end)
end)
Visits:rpc_method("hold", function(ctx)
  wait_at("hold")
  return ctx.session.mine
end)
Visits:rpc_method("waits", function(_, gate) return gates[gate] ~= nil end)
Visits:rpc_method("open", function(_, gate)
  gates[gate](true)
  gates[gate] = nil
end)
Visits:rpc_method("latecomers", function() return perigee.group("latecomers"):count() end)

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
