--- Everything that can go wrong in a handler.
local perigee = require "perigee"

local Faults = perigee.consumer {}

Faults:rpc_method("ping", function() return "pong" end)

-- errors on purpose
Faults:rpc_method("text", function() error("that is not possible") end)
Faults:rpc_method("text_level_2", function() error("not from here", 2) end)
Faults:rpc_method("returned_text", function() return nil, "that is not possible either" end)
Faults:rpc_method("object", function()
  error(perigee.error { code = 4711, message = "out of stock", data = { left = 0 } })
end)
Faults:rpc_method("returned_object", function()
  return nil, perigee.error { code = -32003, message = "not yours" }
end)
Faults:rpc_method("coded", function(_, name) error(perigee.error { code = perigee.errors[name] }) end)
Faults:rpc_method("after_a_wait", function()
  perigee.sleep(0.01)
  error("too late")
end)

-- mistakes
Faults:rpc_method("index_nil", function(_, value) return value.field.field end)
Faults:rpc_method("call_nil", function() return (nil)() end) -- luacheck: ignore
Faults:rpc_method("assertion", function() assert(1 == 2, "it does not add up") end) -- luacheck: ignore
Faults:rpc_method("arithmetic", function() return {} + 1 end) -- luacheck: ignore
Faults:rpc_method("library", function() return ("x"):rep(-1, 5, {}) .. string.format("%d", "x") end)
Faults:rpc_method("table", function() error({ 1, 2, 3 }) end)
Faults:rpc_method("error_nil", function() error(nil) end)
Faults:rpc_method("bad_tostring", function()
  error(setmetatable({}, { __tostring = function() error("no text") end }))
end)
Faults:rpc_method("recursion", function()
  local function down() return 1 + down() end
  return down()
end)
Faults:rpc_method("undeclared", function() return undeclared_thing end) -- luacheck: ignore
Faults:rpc_method("own_coroutine", function()
  return coroutine.wrap(function() error("inside") end)()
end)
Faults:rpc_method("yields", function() coroutine.yield() end)
Faults:rpc_method("fault_after_a_wait", function(_, value)
  perigee.sleep(0.01)
  return value.field.field
end)

-- results without a form in JSON
Faults:rpc_method("function_result", function() return { list = { 1, function() end } } end)
Faults:rpc_method("userdata_result", function() return io.stderr end)
Faults:rpc_method("nan_result", function() return { value = 0 / 0 } end)
Faults:rpc_method("infinite_result", function() return math.huge end)
Faults:rpc_method("bytes_result", function() return "\xff\xfe" end)
Faults:rpc_method("endless_result", function()
  local t = {}
  t.t = t
  return t
end)
Faults:rpc_method("odd_keys_result", function() return { [1.5] = true } end)
Faults:rpc_method("unencodable_data", function() error(perigee.error { code = 1, data = { print } }) end)

-- beside a call
Faults:rpc_method("spawned", function(ctx)
  ctx:spawn(function() error("in a spawned function") end)
  perigee.after(0, function() error("in a timer") end)
  return true
end)

Faults:rpc_notification("notified", function(_, value) return value.field.field end)
Faults:rpc_notification("notified_text", function() error("nobody hears this") end)

return Faults
