--- Middleware: functions around every call of a consumer.
local rig = require("tests.spec.support.rig")

local APPLICATION, INTERNAL, INVALID_PARAMS, NOT_FOUND = -32000, -32603, -32602, -32601

describe("middleware", function()
  local app, client, log

  before_each(function() log = {} end)

  local function note(text) log[#log + 1] = text end

  --- An app with this middleware around a method m(a, b), a notification n and a client of it.
  local function given(middleware, options)
    app = rig.app({ middleware = middleware }, function(C)
      C:rpc_method("m", options or {}, function(_, a, b)
        note("handler")
        return { a = a, b = b }
      end)
      C:rpc_method("fail", function() return nil, "text" end)
      C:rpc_notification("n", function() note("notified") end)
    end)
    client = app:connect("/test")
  end

  it("runs around the handler, the first outermost", function()
    local function layer(name)
      return function(_, next)
        note(name .. " in")
        local result = next()
        note(name .. " out")
        return result
      end
    end
    given { layer "one", layer "two" }
    assert.same({ a = 1 }, client:call("m", 1))
    assert.same({ "one in", "two in", "handler", "two out", "one out" }, log)
  end)

  it("added with C:use goes inside that of the options", function()
    app = rig.app({ middleware = { function(_, next) note("option") return next() end } }, function(C)
      C:rpc_method("m", function() return true end)
      C:use(function(_, next) note("first") return next() end)
      C:use(function(_, next) note("second") return next() end)
    end)
    app:connect("/test"):call("m")
    assert.same({ "option", "first", "second" }, log)
  end)

  it("sees requests, notifications and members of batches, over both transports", function()
    given { function(ctx, next)
      note(("%s %s %s"):format(ctx.method, ctx.transport, ctx.in_batch))
      return next()
    end }
    client:call("m")
    client:notify("n")
    client:exchange("[" .. rig.request("m") .. "]")
    rig.post_call(app, "m")
    assert.same({
      "m websocket false", "handler", "n websocket false", "notified", "m websocket true", "handler",
      "m http false", "handler",
    }, log)
  end)

  it("does not see calls that no method answers", function()
    given { function(_, next)
      note("seen")
      return next()
    end }
    rig.refused(NOT_FOUND, client, "nope")
    client:notify("nope")
    assert.same({}, log)
  end)

  it("may answer itself: the handler does not run", function()
    given { function() return "from the cache" end }
    assert.equal("from the cache", client:call("m"))
    assert.same({}, log)
  end)

  it("may change the result", function()
    given { function(_, next)
      local result = next()
      result.b = "added"
      return result
    end }
    assert.same({ a = 1, b = "added" }, client:call("m", 1))
  end)

  it("may refuse, as handlers do", function()
    given { function() return nil, "not now" end }
    assert.equal("not now", rig.refused(APPLICATION, client, "m").message)
    given { function() error { code = 1 } end }
    rig.refused(INTERNAL, client, "m")
    given { function() return 1 + nil end }
    rig.refused(INTERNAL, client, "m")
    rig.the_error(app)
    assert.same({}, log)
  end)

  it("sees the errors that handlers return, and may turn them into results", function()
    given { function(_, next)
      local result, err = next()
      if err then return "instead of " .. tostring(err) end
      return result
    end }
    assert.equal("instead of text", client:call("fail"))
    assert.same({ a = 1 }, client:call("m", 1))
  end)

  it("sees the errors of params that do not fit", function()
    given({ function(_, next)
      local result, err = next()
      note(err and err.code)
      return result, err
    end }, { params = { { "a", "integer" }, { "b", "any?" } } })
    rig.refused(INVALID_PARAMS, client, "m", "x")
    assert.same({ INVALID_PARAMS }, log)
  end)

  it("may catch what handlers raise", function()
    app = rig.app(function(C)
      C:use(function(_, next)
        local ok, result = pcall(next)
        return ok and result or "caught"
      end)
      C:rpc_method("m", function() return 1 + nil end)
    end)
    assert.equal("caught", app:connect("/test"):call("m"))
    rig.no_errors(app)
  end)

  it("may wait, before and after", function()
    app = rig.app(function(C, perigee)
      C:use(function(_, next)
        perigee.sleep(1)
        local result = next()
        perigee.sleep(1)
        return result
      end)
      C:rpc_method("m", function()
        perigee.sleep(1)
        return "done"
      end)
    end)
    client = app:connect("/test")
    assert.near(3, rig.duration(function() assert.equal("done", client:call("m")) end), 0.01)
  end)

  it("may leave facts for the handler in ctx", function()
    app = rig.app(function(C)
      C:use(function(ctx, next)
        ctx.visitor = "Ann"
        return next()
      end)
      C:rpc_method("m", function(ctx) return ctx.visitor end)
    end)
    assert.equal("Ann", app:connect("/test"):call("m"))
  end)

  describe("may change ctx.params:", function()
    --- m called with these params when middleware puts others in their place.
    local function replaced(params, with)
      given { function(ctx, next)
        ctx.params = with
        return next()
      end }
      return client:exchange(rig.request("m", params)).result
    end

    it("an array for an array", function()
      assert.same({ a = 3, b = 4 }, replaced("[1,2]", { 3, 4 }))
    end)

    it("an object for an object", function()
      assert.same({ b = 4 }, replaced('{"a":1}', { b = 4 }))
    end)

    it("an array for an object, and the other way round", function()
      assert.same({ a = 3 }, replaced('{"b":1}', { 3 }))
      assert.same({ b = 4 }, replaced("[1,2]", { b = 4 }))
    end)

    it("something for nothing, and an empty list for something", function()
      assert.same({ a = 3 }, replaced(nil, { 3 }))
      assert.same({ b = 4 }, replaced(nil, { b = 4 }))
      assert.same({}, replaced("[1,2]", {}))
    end)

    it("what it puts there is held against the schema", function()
      given({ function(ctx, next)
        ctx.params = { "x" }
        return next()
      end }, { params = { { "a", "integer" } } })
      rig.refused(INVALID_PARAMS, client, "m", 1)
    end)
  end)

  it("must not call next() twice", function()
    given { function(_, next)
      next()
      return next()
    end }
    rig.refused(INTERNAL, client, "m")
    rig.has("middleware: next() was called twice", rig.the_error(app).fields.error)
    assert.same({ "handler" }, log)
  end)

  it("that returns nothing makes the result null", function()
    given { function(_, next) next() end }
    assert.equal(require("perigee.core").null, client:call("m"))
  end)

  it("that fails for a notification is logged; nobody is answered", function()
    given { function() return 1 + nil end }
    client:notify("n")
    rig.the_error(app)
    assert.is_nil(next(client.answers))
    assert.same({}, log)
  end)
end)
