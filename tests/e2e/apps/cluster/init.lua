--- Everything that crosses workers and machines, as methods.
local perigee = require "perigee"

local C = perigee.consumer {}
local store = perigee.shared "cluster"

-- the layer's signals, as this worker saw them
local seen = {}
for _, name in ipairs { "layer_up", "layer_down" } do
  perigee.on(name, function(event)
    seen[#seen + 1] = { name, event.error }
    perigee.log:info("signal", { name = name })
  end)
end
C:rpc_method("signals", function() return perigee.array(seen) end)

C:rpc_method("where", function(ctx) return ctx.consumer.channel_name end)
C:rpc_method("join", function(ctx, group, meta) return ctx:group_add(group, meta) end)
C:rpc_method("leave", function(ctx, group) return ctx:group_discard(group) end)
C:rpc_method("groups", function(ctx) return perigee.array(ctx.consumer:groups()) end)
C:rpc_method("count", function(_, group) return perigee.group(group):count() end)
C:rpc_method("members", { params = { { "group", "string" }, { "limit", "integer?" }, { "cursor", "string?" } } },
function(_, group, limit, cursor)
  local members, following = perigee.group(group):members { limit = limit, cursor = cursor }
  return { members = perigee.array(members), cursor = following }
end)

local function given(ctx, except)
  if except == "me" then return ctx end
  return except
end
C:rpc_method("publish", function(ctx, group, text, except)
  C:notify_group(group, "said", { text }, { except = given(ctx, except) })
end)
C:rpc_method("publish_many", function(_, group, first, last)
  for i = first, last do C:notify_group(group, "said", { i }) end
end)
C:rpc_method("whisper", function(_, channel, text) return C:notify_channel(channel, "said", { text }) end)

C:on_event("shout", function(self, event) self:notify("shouted", { event.text, self.channel_name }) end)
local every_byte = {}
for byte = 0, 255 do every_byte[byte + 1] = string.char(byte) end
every_byte = table.concat(every_byte)
C:on_event("bytes", function(self, event) self:notify("heard", { event.data == every_byte, self.channel_name }) end)
C:rpc_method("group_send_bytes", function(_, group) C:group_send(group, { type = "bytes", data = every_byte }) end)
C:rpc_method("group_send", function(_, group, text) C:group_send(group, { type = "shout", text = text }) end)
C:rpc_method("send", function(_, channel, text) return C:send(channel, { type = "shout", text = text }) end)

C:rpc_method("shared", function(_, verb, ...)
  local result = store[verb](store, ...)
  if result == nil then return perigee.null end
  return result
end)
C:rpc_method("incr_many", function(_, key, n)
  local last
  for _ = 1, n do last = store:incr(key) end
  return last
end)
--- Keeps the worker busy until somebody sets a shared value.
C:rpc_method("spin", { timeout = 300 }, function(_, key)
  store:set(key .. " spins", true)
  while not store:get(key) do end -- without Redis this waits for nothing
end)
return C
