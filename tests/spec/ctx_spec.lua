--- What a call knows of itself.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("a ctx", function()
  local app, client, facts, again

  before_each(function()
    app = rig.app({ versions = { "1.0", "2.0" } }, function(C)
      local function look(ctx, ...) -- luacheck: no unused args
        facts = {
          id = ctx.id, version = ctx.version, transport = ctx.transport, is_notification = ctx.is_notification,
          in_batch = ctx.in_batch, method = ctx.method, params = ctx.params,
        }
        again = ctx.consumer == ctx.consumer and ctx.scope == ctx.consumer.scope and rawequal(ctx.log, ctx.log)
      end
      C:rpc_method("look", look)
      C:rpc_notification("note", look)
    end)
    client = app:connect("/test")
    facts, again = nil, nil
  end)

  after_each(rig.clean)

  local function sent(text)
    facts = nil
    client:send(text)
    return facts
  end

  it("has what the message said", function()
    local list = setmetatable({ 1 }, core.array_mt)
    assert.same({
      id = 7, version = "2.0", transport = "websocket", is_notification = false, in_batch = false, method = "look",
      params = list,
    }, sent('{"jsonrpc":"2.0","method":"look","params":[1],"id":7}'))
    assert.is_true(again)
    assert.same({
      id = "x", version = "1.0", transport = "websocket", is_notification = false, in_batch = false, method = "look",
      params = setmetatable({}, core.array_mt),
    }, sent('{"method":"look","params":[],"id":"x"}'))
  end)

  it("tells calls from notifications, in both versions", function()
    assert.is_true(sent('{"jsonrpc":"2.0","method":"note"}').is_notification)
    assert.is_nil(facts.id)
    assert.is_false(sent('{"jsonrpc":"2.0","method":"look","id":null}').is_notification)
    assert.is_true(sent('{"method":"note","params":[],"id":null}').is_notification)
    assert.equal("1.0", facts.version)
    assert.is_false(sent('{"method":"look","params":[],"id":0}').is_notification)
    assert.equal(0, facts.id)
  end)

  it("knows whether it came in a batch, and over HTTP", function()
    assert.is_true(sent('[{"jsonrpc":"2.0","method":"look","id":1}]').in_batch)
    assert.equal("websocket", facts.transport)
    rig.post(app, rig.request("look"))
    assert.same({ "http", false, "2.0" }, { facts.transport, facts.in_batch, facts.version })
    rig.post(app, "[" .. rig.request("look") .. "]")
    assert.same({ "http", true }, { facts.transport, facts.in_batch })
  end)
end)
