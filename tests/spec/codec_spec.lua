--- The option codec: another JSON encoder for results and notifications.
local cjson = require("cjson")
local rig = require("tests.spec.support.rig")

local INTERNAL = -32603

describe("a consumer's codec", function()
  local app, client

  local function given(codec, result, options)
    options = options or {}
    options.codec = codec
    app = rig.app(options, function(C, perigee)
      C:rpc_method("m", function() return result end)
      C:rpc_method("fail", function() return nil, "text" end)
      C:rpc_method("notify", function(ctx, how)
        local params = { secret = 1 }
        if how == "ctx" then return ctx:notify("n", params) end
        if how == "self" then return ctx.consumer:notify("n", params) end
        if how == "channel" then return C:notify_channel(ctx.consumer.channel_name, "n", params) end
        ctx:group_add("g")
        if how == "group" then return C:notify_group("g", "n", params) end
        return perigee.notify_group("g", "n", params)
      end)
      C:rpc_method("bare", function(ctx) return ctx:notify("n") end)
      C:rpc_notification("n", function() return result end)
    end)
    client = app:connect("/test")
  end

  --- A codec that says who encoded.
  local function tell(value)
    if type(value) == "table" then return '{"by":"the codec"}' end
    return cjson.encode(value)
  end

  --- The body of the answer to m, byte by byte.
  local function body(text) return app:post("/test", text or rig.request("m")).body end

  it("encodes results", function()
    given({ encode = tell }, { 1 })
    assert.equal('{"jsonrpc":"2.0","result":{"by":"the codec"},"id":1}', body())
    assert.same({ by = "the codec" }, client:call("m"))
    assert.equal('[{"jsonrpc":"2.0","result":{"by":"the codec"},"id":1}]', body("[" .. rig.request("m") .. "]"))
    assert.equal('{"result":{"by":"the codec"},"error":null,"id":1}', body('{"method":"m","params":[],"id":1}'))
  end)

  it("may be lua-cjson", function()
    given(cjson, setmetatable({ a = { 1, 2.5, "x", true } }, {}))
    assert.same({ a = { 1, 2.5, "x", true } }, client:call("m"))
    given(cjson, nil)
    assert.equal('{"jsonrpc":"2.0","result":null,"id":1}', body())
  end)

  it("encodes params of notifications, however they are sent on the consumer", function()
    given { encode = tell }
    for _, how in ipairs { "ctx", "self", "channel", "group" } do
      client:call("notify", how)
      assert.same({ by = "the codec" }, client:expect("n"), how)
    end
  end)

  it("is not asked for what belongs to no consumer, nor for params that are not there", function()
    given { encode = tell }
    client:call("notify", "perigee")
    assert.same({ secret = 1 }, client:expect("n"))
    client:call("bare")
    assert.is_nil(client:expect("n"))
  end)

  it("is not asked for errors, nor for the result of a notification", function()
    given({ encode = function() error("asked") end }, 1)
    assert.equal("text", rig.refused(-32000, client, "fail").message)
    client:notify("n")
    rig.no_errors(app)
  end)

  it("may make the same of a value as JSON does not have", function()
    given({ encode = function(value) return cjson.encode(tostring(value)) end }, 1 / 0)
    assert.equal("inf", client:call("m"))
  end)

  describe("that fails", function()
    --- Asserts that m is answered with an internal error, and that this was logged, once.
    local function fails(text)
      rig.refused(INTERNAL, client, "m")
      local entry = rig.the_error(app)
      rig.has(text, ("%s %s"):format(entry.fields.what, entry.fields.error))
      client:expect_nothing()
      assert.equal(INTERNAL, rig.post_call(app, "m").error.code)
      assert.equal("text", rig.refused(-32000, client, "fail").message)
    end

    it("with an error makes a fault", function()
      given({ encode = function(value) return value.nothing.at_all end }, {})
      fails("attempt to index a nil value (field 'nothing')")
      given(cjson, { print })
      fails("type not supported")
    end)

    it("with a text that is no JSON makes a fault: nothing broken is sent", function()
      for _, text in ipairs { "", "{", "nope", "1 2", "[1],\"error\":null", "NaN", "{'a':1}" } do
        given({ encode = function() return text end }, 1)
        fails("a codec's text that is not JSON")
      end
    end)

    it("with bytes that are not UTF-8, or no text at all, makes a fault", function()
      given({ encode = function() return '"\xFF"' end }, 1)
      fails("a codec's text that is not UTF-8")
      given({ encode = function() return { 1 } end }, 1)
      fails("a codec's text that is no string")
      given({ encode = function() end }, 1)
      fails("a codec's text that is no string")
    end)

    it("is not helped by json_default: a text that is no JSON stays one", function()
      given({ encode = function() return "nope" end }, 1, { json_default = function() return "default" end })
      fails("a codec's text that is not JSON")
    end)

    it("in a notification fails the handler that sends it", function()
      given { encode = function(value) return type(value) == "table" and "nope" or cjson.encode(value) end }
      rig.refused(INTERNAL, client, "notify", "ctx")
      rig.has("a codec's text that is not JSON", rig.the_error(app).fields.error)
      client:expect_nothing()
    end)
  end)
end)
