--- Writes into the log who came, who left and how; and ends connections in every way a handler can.
local perigee = require "perigee"

local Diary = perigee.consumer {}

local present = {} -- name -> instance

function Diary:connect()
  self.name = self.scope.query.name or "anonymous"
  self.calls = 0
  present[self.name] = self
  perigee.log:info("came", { who = self.name })
end

function Diary:disconnect(code, reason)
  if present[self.name] == self then present[self.name] = nil end
  -- everything an instance knows is still there
  perigee.spawn(function() perigee.log:info("mourned", { who = self.name }) end) -- also when the server stops
  perigee.log:info("gone", { who = self.name, code = code, why = reason, path = self.scope.path, calls = self.calls })
end

Diary:rpc_method("ping", function() return "pong" end)

Diary:rpc_method("count", function(ctx)
  ctx.consumer.calls = ctx.consumer.calls + 1
  ctx.session.calls = (ctx.session.calls or 0) + 1
  return { fields = ctx.consumer.calls, session = ctx.session.calls }
end)

--- Closes the caller's connection, and still returns something.
Diary:rpc_method("bye", function(ctx, code, reason)
  ctx:close(code, reason)
  local heard = ctx:notify("too late", {})
  perigee.log:info("after close", { who = ctx.consumer.name, heard = heard })
  return "never sent"
end)

--- Closes somebody else's connection.
Diary:rpc_method("throw_out", function(_, name, code, reason) return present[name]:close(code, reason) end)

--- Sleeps, whatever happens to the connection meanwhile.
Diary:rpc_method("sleep", function(ctx, seconds)
  perigee.sleep(seconds)
  perigee.log:info("slept", { who = ctx.consumer.name, heard = ctx:notify("slept", {}) })
  return "slept"
end)

--- More than anybody wants to read.
Diary:rpc_method("flood", function(ctx, bytes, count)
  local text, sent = ("x"):rep(bytes), 0
  for _ = 1, count do
    if ctx:notify("flood", { text }) then sent = sent + 1 end
  end
  return sent
end)

Diary:rpc_notification("note", function(ctx, text)
  perigee.log:info("noted", { who = ctx.consumer.name, text = text })
end)

return Diary
