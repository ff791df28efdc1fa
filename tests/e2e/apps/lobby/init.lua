--- Groups and channels: who hears what.
local perigee = require "perigee"

local Lobby = perigee.consumer {
  groups = function(self) return { "everyone", "lobby of " .. (self.scope.query.name or "nobody") } end,
}

local by_name = {} -- name -> instance

function Lobby:connect()
  self.name = self.scope.query.name or "nobody"
  by_name[self.name] = self
end

Lobby:rpc_method("channel", function(ctx) return ctx.consumer.channel_name end)
Lobby:rpc_method("groups", function(ctx)
  local groups = ctx.consumer:groups()
  table.sort(groups)
  return perigee.array(groups)
end)
Lobby:rpc_method("count", function(_, group) return perigee.group(group):count() end)

Lobby:rpc_method("join", function(ctx, ...)
  local joined = perigee.array {}
  for i, group in ipairs { ... } do joined[i] = ctx:group_add(group) end
  return joined
end)
Lobby:rpc_method("leave", function(ctx, group) return ctx:group_discard(group) end)

--- Tells a group, or several; returns how many heard.
Lobby:rpc_method("tell", function(_, group, text) return Lobby:notify_group(group, "told", { text }) end)

Lobby:rpc_method("tell_others", function(ctx, group, text, how)
  local except = ctx
  if how == "instance" then except = ctx.consumer
  elseif how == "channel" then except = ctx.consumer.channel_name
  elseif how == "list" then except = { ctx, by_name.ann and by_name.ann.channel_name }
  end
  return perigee.notify_group(group, "told", { text }, { except = except })
end)

Lobby:rpc_method("tell_channel", function(_, channel, text) return Lobby:notify_channel(channel, "told", { text }) end)

--- Tells the caller, by every way there is, before it answers.
Lobby:rpc_method("tell_me", function(ctx, text)
  ctx:notify("told", { text .. " 1" })
  ctx.consumer:notify("told", { text .. " 2" })
  perigee.notify_channel(ctx.consumer.channel_name, "told", { text .. " 3" })
  Lobby:notify_group("lobby of " .. ctx.consumer.name, "told", { text .. " 4" })
  return "told"
end)

return Lobby
