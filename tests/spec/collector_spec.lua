--- Finalizers run whenever C makes a Lua value: what C walks through meanwhile must bear that they
--- change it.
local rig = require("tests.spec.support.rig")

describe("a finalizer that runs in the middle", function()
  local app, client
  local is_on

  --- Repeats what makes values until fn was called a few times at the end of a collection.
  local function at_collections(fn, make_values)
    local n = 0
    is_on = true
    local function arm()
      setmetatable({}, {
        __gc = function()
          if not is_on then return end
          n = n + 1
          fn(n)
          arm()
        end,
      })
    end
    arm()
    collectgarbage("incremental", 10, 1000)
    while n < 5 do make_values() end
    is_on = false
    return n
  end

  local function run(fn)
    app = rig.app(function(C, perigee)
      C:rpc_method("m", { timeout = false }, function(ctx) return fn(ctx, perigee) end)
    end)
    client = app:connect("/test")
    return client:call("m")
  end

  after_each(function()
    is_on = false
    collectgarbage("incremental", 200, 100)
    rig.clean()
  end)

  it("may read shared values while one is read", function()
    local n = run(function(_, perigee)
      local shared, list = perigee.shared("test"), {}
      for i = 1, 1000 do list[i] = { ["key" .. i] = "value" .. i } end
      shared:set("long", list)
      shared:set("short", "x")
      return at_collections(function() shared:get("short") end, function()
        list = shared:get("long")
        assert(list[1000].key1000 == "value1000")
      end)
    end)
    assert.is_true(n >= 5)
  end)

  it("may leave groups while they are listed", function()
    local left = run(function(ctx)
      local self = ctx.consumer
      for i = 1, 1000 do self:group_add("a group with a name that is long enough " .. i) end
      return at_collections(function(n)
        for i = 1, 1000 do
          if i % 5 == n % 5 then self:group_discard("a group with a name that is long enough " .. i) end
        end
      end, function() self:groups() end)
    end)
    assert.is_true(left >= 5)
  end)

  it("may make others leave a group while its members are listed", function()
    local members = {}
    app = rig.app(function(C, perigee)
      C:rpc_method("join", function(ctx) members[#members + 1] = ctx.consumer end)
      C:rpc_method("m", { timeout = false }, function()
        return at_collections(function()
          for _, self in ipairs(members) do self:group_discard("g") end
        end, function()
          for _, self in ipairs(members) do self:group_add("g", ("x"):rep(4000)) end
          for _ = 1, 10 do perigee.group("g"):members() end
        end)
      end)
    end)
    for _ = 1, 30 do
      client = app:connect("/test")
      client:call("join")
    end
    assert.is_true(client:call("m") >= 5)
  end)
end)
