--- Code that never ends, and code that takes all memory, in every place where an app's code runs.
local perigee = require "perigee"

local function spin()
  while true do end
end

local Runaway = perigee.consumer {}

local function loop_in_pcall()
  while true do pcall(spin) end
end

local function shared_tables() -- 2^60 values, in 60 tables
  local t = { 1 }
  for _ = 1, 60 do t = { t, t } end
  return t
end
local spaces = "x" .. (" "):rep(200000) .. "x"

local ways = {
  plainly = spin,
  in_pcall = loop_in_pcall,
  in_xpcall = function()
    while true do xpcall(spin, spin) end
  end,
  in_a_coroutine = function() coroutine.wrap(spin)() end,
  in_nested_coroutines = function()
    coroutine.wrap(function()
      while true do pcall(coroutine.wrap(function() pcall(spin) end)) end
    end)()
  end,
  in_a_metamethod = function() return setmetatable({}, { __index = spin }).x end,
  in_a_comparison = function() table.sort({ 3, 2, 1 }, spin) end,
  in_a_replacement = function() return (("x"):gsub("x", spin)) end,
  in_tostring = function() return tostring(setmetatable({}, { __tostring = spin })) end,
  in_close = function()
    local _ <close> = setmetatable({}, { __close = spin })
    error("now")
  end,
  in_close_of_a_coroutine = function()
    local co = coroutine.create(function()
      local _ <close> = setmetatable({}, { __close = spin })
      coroutine.yield()
    end)
    coroutine.resume(co)
    coroutine.close(co)
  end,
  after_a_wait = function()
    perigee.sleep(0.001)
    spin()
  end,
  in_a_pattern = function() return #spaces:match("^%s*(.-)%s*%d$") end,
  in_a_pattern_in_pcall = function()
    while true do pcall(spaces.find, spaces, ".-.-.-%d") end
  end,
  in_a_pattern_in_a_coroutine = function() coroutine.wrap(spaces.find)(spaces, ".-.-.-%d") end,
  in_a_pattern_in_a_comparison = function()
    table.sort({ 3, 2, 1 }, function() return pcall(spaces.find, spaces, ".-.-.-%d") end)
    spin()
  end,
  in_gsub = function() return (spaces:gsub(".-.-.-%d", "")) end,
  in_gmatch = function()
    for _ in spaces:gmatch(".-.-.-%d") do spin() end
  end,
  in_sort = function()
    local t = setmetatable({}, { __len = function() return 1 << 30 end, __index = rawlen, __newindex = rawequal })
    table.sort(t)
  end,
  in_move = function() table.move({}, 1, 1 << 60, 2) end,
  in_concat = function() table.concat(setmetatable({}, { __index = rawlen }), "", 1, 1 << 60) end,
  in_load = function()
    while true do load(("a=1 "):rep(100000)) end
  end,
  in_a_result = shared_tables,
  in_a_notification = function() perigee.notify_group("nobody", "x", { shared_tables() }) end,
  in_shared = function() perigee.shared("runaway"):set("x", shared_tables()) end,
  in_blocking = function() perigee.blocking("runaway.nothing", "f", shared_tables()) end,
  in_all = function() perigee.all { spin, function() end } end,
}

Runaway:rpc_method("spin", function(_, way) return ways[way]() end)
Runaway:rpc_method("ping", function() return "pong" end)
Runaway:rpc_notification("spin", function(_, way) ways[way]() end)

local slow_text = { "string", pattern = ".-.-.-%d" }
Runaway:rpc_method("spin_in_a_schema", { params = { { "text", slow_text } } }, function(_, text)
  return #text
end)

Runaway:rpc_method("hold", function(_, pipe) -- no hook and no look reaches this
  local file = io.open(pipe) -- the line that holds: until somebody writes
  return file ~= nil
end)
local Held = setmetatable({}, { __gc = function()
  local started = os.clock()
  while os.clock() - started < 1 do end
end })
Runaway:rpc_method("hold_in_gc", function()
  Held = nil
  collectgarbage()
  return Held == nil
end)

Runaway:rpc_method("spawn", function()
  perigee.spawn(loop_in_pcall)
  return true
end)
Runaway:rpc_method("after", function()
  perigee.after(0.001, loop_in_pcall)
  return true
end)
Runaway:rpc_method("long", function(_, seconds) -- over the warning, under the end
  local started = os.clock()
  while os.clock() - started < seconds do end -- the slow line
  return true
end)

local hoard = {}
Runaway:rpc_method("hoard", function()
  local mine = {}
  while true do mine[#mine + 1] = ("x"):rep(10000) .. #mine end
end)
Runaway:rpc_method("hoard_in_pcall", function()
  local mine = {}
  for _ = 1, 3 do
    pcall(function()
      while true do mine[#mine + 1] = ("x"):rep(10000) .. #mine end
    end)
  end
  return "survived"
end)
Runaway:rpc_method("hoard_for_good", function()
  while true do hoard[#hoard + 1] = ("x"):rep(10000) .. #hoard end
end)
Runaway:rpc_method("one_long_text", function() return #("x"):rep(1 << 40) end)
Runaway:rpc_method("deep", function()
  local function down() return down() + 1 end
  return down()
end)

local Doors = perigee.consumer { path = "/runaway/doors" }

function Doors:connect()
  if self.scope.query.at == "connect" then spin() end
end

function Doors:disconnect()
  if self.scope.query.at == "disconnect" then spin() end
end

function Doors:receive()
  if self.scope.query.at == "receive" then spin() end
end

Doors:rpc_method("ping", function() return "pong" end)
Doors:on_event("spin", spin)
Doors:rpc_method("event", function(ctx)
  Doors:send(ctx.consumer.channel_name, { type = "spin" })
  return true
end)

local Around = perigee.consumer { path = "/runaway/around", json_default = spin }
Around:use(function(ctx, next)
  if ctx.method == "in_middleware" then spin() end
  return next()
end)
Around:on_error(spin)
Around:rpc_method("in_middleware", function() end)
Around:rpc_method("in_on_error", function() error("now") end)
Around:rpc_method("in_json_default", function() return print end)
Around:rpc_method("in_permission", { permission = spin }, function() end)
Around:rpc_method("ping", function() return "pong" end)

return { Runaway, Doors, Around }
