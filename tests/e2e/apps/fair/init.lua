--- Work of a known length, in every way a client can ask for it; and what others see of it meanwhile.
local perigee = require "perigee"
local uv = require "luv"

local done = 0 -- pieces of work so far

local function busy(ms)
  local ends = uv.hrtime() + ms * 1e6
  repeat until uv.hrtime() >= ends
  done = done + 1
end

local gates = {}

local function wait_for_gate()
  perigee.await(function(open) gates[#gates + 1] = open end)
end

local function declare(C)
  C:rpc_method("busy", function(_, ms) busy(ms) end)
  C:rpc_notification("busy", function(_, ms) busy(ms) end)
  C:rpc_method("gated", function(_, ms) -- all go on at once when the gate opens
    wait_for_gate()
    busy(ms)
  end)
  C:rpc_method("busy_then_hold", function(_, ms)
    busy(ms)
    wait_for_gate()
  end)
  C:rpc_method("storm", function(_, n, ms)
    for _ = 1, n do perigee.spawn(busy, ms) end
  end)
  C:rpc_method("timers", function(_, n, ms)
    for _ = 1, n do perigee.after(0.01, function() busy(ms) end) end
  end)
  C:rpc_method("done", function() return done end)
  C:rpc_method("ping", function() return "pong" end)
  C:rpc_method("hold", function(_, _) wait_for_gate() end)
  C:rpc_notification("hold", function() wait_for_gate() end)
  C:rpc_method("waiting", function() return #gates end)
  C:rpc_method("open", function()
    local all = gates
    gates = {}
    for _, open in ipairs(all) do open() end
    return #all
  end)
  C:rpc_method("join", function(ctx, from, to)
    for i = from, to do ctx:group_add("group-" .. i) end
  end)
  C:rpc_method("length", function(_, text) return #text end)
  C:rpc_method("ask", function(ctx) return ctx:call("answer", {}) end)
  return C
end

local Fair = declare(perigee.consumer {})
local Strict = declare(perigee.consumer { path = "/fair/strict", strict_ordering = true })

local Raw = perigee.consumer { path = "/fair/raw", raw = true }
Raw.receive = function(self, data)
  if #data < 10 then return busy(tonumber(data)) end
  wait_for_gate()
  self:send("received")
end

Fair:post("plain", function(ctx)
  if ctx.query.hold then wait_for_gate() end
  return tostring(#ctx.body)
end)

local Both = perigee.consumer { path = "/fair/both" }
Both.receive = function(self, data)
  if data:find("^hold") then wait_for_gate() end
  self:send("received " .. #data)
end

return { Fair, Strict, Raw, Both }
