--- The channel layer as Lua waits for it: an answer, none in time, an error, no Redis at all.
local core = require("perigee.core")
local layer = require("perigee.layer")
local rig = require("tests.spec.support.rig")

describe("what goes through the layer", function()
  local redis, has_redis, prefix = core.redis, core.has_redis, core.layer_prefix
  local asked, app, client, answer

  before_each(function()
    asked = nil
    core.redis = function(...) -- in place of a Redis: the spec answers
      asked = { ... }
      local task, wait = core.wait_open()
      asked.task, asked.wait = task, wait
      return wait
    end
    app = rig.app(function(C)
      C:rpc_method("redis", { timeout = 100 }, function() answer = { layer.redis("GET", "k", 5) } end)
      C:rpc_method("settle", { timeout = 100 }, function()
        local task, wait = core.wait_open()
        asked = { task = task, wait = wait }
        answer = { layer.settle(wait) }
      end)
      C:rpc_method("counts", { timeout = 100 }, function() answer = layer.counts("g") end)
    end)
    client = app:connect("/test")
  end)

  after_each(function()
    core.redis, core.has_redis, core.layer_prefix = redis, has_redis, prefix
    rig.clean()
  end)

  --- Calls a method that waits for the layer, and answers it.
  local function ask(method, ...)
    answer = nil
    client:send(rig.request(method))
    rig.settle()
    if select("#", ...) > 0 then core.wake(asked.task, asked.wait, ...) end
    rig.settle()
    return answer
  end

  it("is a command with its reply", function()
    assert.same({ true, "value" }, ask("redis", true, "value"))
    assert.same({ "GET", "k", 5 }, { asked[1], asked[2], asked[3] })
    assert.same({ true }, ask("redis", true, nil))
  end)

  it("is an error that says why", function()
    assert.same({ false, "WRONGTYPE" }, ask("redis", false, "WRONGTYPE"))
    assert.same({ false, "Redis cannot be reached" }, ask("redis", false))
  end)

  it("is not waited for longer than layer_timeout", function()
    for method, expected in pairs { redis = { false, "Redis did not answer in time" }, settle = { false } } do
      assert.is_nil(ask(method))
      app:advance(core.layer_timeout - 0.01)
      assert.is_nil(answer)
      app:advance(0.02)
      assert.same(expected, answer)
    end
  end)

  it("is not there without a Redis", function()
    core.redis = function() end
    assert.same({ false, "there is no Redis (setting layer)" }, ask("redis"))
  end)

  it("is known at once, or when it is told", function()
    assert.is_true(layer.settle(true))
    assert.is_false(layer.settle(false))
    assert.same({ true }, ask("settle", true))
    assert.same({ false }, ask("settle", false))
  end)

  it("counts the members in other processes, none of its own", function()
    assert.same({}, ask("counts"))
    assert.is_nil(asked)
    core.has_redis, core.layer_prefix = true, "p:"
    assert.same({ other = 3, third = 12 }, ask("counts", true, { "other", "3", core.node, "7", "third", "12" }))
    assert.same({ 1, "p:nodes", "p:c:", "g" }, table.move(asked, 3, 6, 1, {}))
    assert.equal("EVAL", asked[1])
    assert.same({}, ask("counts", false, "away"))
    assert.same({}, layer.counts("g")) -- outside of a task nothing can be waited for
  end)
end)
