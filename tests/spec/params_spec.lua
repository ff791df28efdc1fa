--- How params reach a handler, and what is refused before it runs.
local call = require("perigee.call")
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

local null = core.null
local INVALID_PARAMS, INTERNAL = -32602, -32603

describe("params", function()
  local app, client, seen

  --- A client of an app with one method, m.
  local function given(options, fn)
    if not fn then options, fn = nil, options end
    app = rig.app(function(C) C:rpc_method("m", options or {}, fn) end)
    client = app:connect("/test")
    seen = nil
  end

  local function refused(...) return rig.refused(INVALID_PARAMS, client, "m", ...) end

  local function refused_named(params)
    local ok, err = client:try_named("m", params)
    assert.is_false(ok)
    assert.equal(INVALID_PARAMS, err.code)
    return err
  end

  describe("in an array", function()
    before_each(function()
      given(function(ctx, a, b, c)
        seen = { a, b, c, params = ctx.params }
        return seen ~= nil
      end)
    end)

    it("bind by position", function()
      client:call("m", 1, "two", { 3 })
      assert.same({ 1, "two", { 3 } }, { seen[1], seen[2], seen[3] })
    end)

    it("that are fewer than the parameters leave the rest nil", function()
      client:call("m", 1)
      assert.same({ 1 }, { seen[1], seen[2], seen[3] })
      client:exchange(rig.request("m", "[]"))
      assert.is_nil(seen[1])
    end)

    it("that are more than the parameters are refused", function()
      local err = refused(1, 2, 3, 4, 5)
      assert.same({ param = 4, expected = "at most 3 values (a, b, c)", got = 5 }, err.data)
      assert.is_nil(seen)
    end)

    it("keep null, which is not nil", function()
      client:call("m", null, false)
      assert.equal(null, seen[1])
      assert.is_false(seen[2])
    end)
  end)

  describe("in an object", function()
    before_each(function()
      given(function(_, room, count, ...)
        seen = { room = room, count = count, rest = select("#", ...) }
        return true
      end)
    end)

    it("bind by the handler's own names, in any order", function()
      client:call_named("m", { count = 2, room = "lobby" })
      assert.same({ room = "lobby", count = 2, rest = 0 }, seen)
    end)

    it("that are left out are nil", function()
      client:call_named("m", { count = 2 })
      assert.same({ count = 2, rest = 0 }, seen)
      client:exchange(rig.request("m", "{}"))
      assert.same({ rest = 0 }, seen)
    end)

    it("with an unknown name are refused, with the nearest known one", function()
      local err = refused_named { rooom = "lobby" }
      assert.equal("Invalid params: unknown parameter 'rooom' (did you mean 'room'?)", err.message)
      assert.same({ param = "rooom", expected = "room, count, ...", got = "string" }, err.data)
      for value, got in pairs { [1] = "integer", [1.5] = "number", [true] = "boolean", [null] = "null" } do
        assert.equal(got, refused_named({ x = value }).data.got)
      end
      assert.is_nil(seen)
    end)

    it("do not reach ctx or anything else of the handler's", function()
      given(function(ctx, a)
        local b = ctx and a
        return b
      end)
      for _, name in ipairs { "ctx", "b", "_ENV", "__index", "" } do refused_named { [name] = 1 } end
    end)
  end)

  it("that are not there bind nothing", function()
    given(function(ctx, a)
      seen = { a = a, params = ctx.params }
      return true
    end)
    client:call("m")
    assert.same({}, seen)
  end)

  it("of a handler without parameters must be empty", function()
    given(function() return "ok" end)
    assert.equal("ok", client:call("m"))
    assert.equal("ok", client:exchange(rig.request("m", "[]")).result)
    assert.equal("ok", client:exchange(rig.request("m", "{}")).result)
    assert.equal("at most 0 values (no parameters)", refused(1).data.expected)
    assert.equal("no parameters", refused_named({ a = 1 }).data.expected)
  end)

  it("all reach a handler with ...", function()
    given(function(_, first, ...) return { first = first, n = select("#", ...), rest = { ... } } end)
    assert.same({ first = 1, n = 4, rest = { 2, null, 4, 5 } }, client:call("m", 1, 2, null, 4, 5))
    assert.equal(9999, client:exchange(rig.request("m", "[1" .. (",1"):rep(9999) .. "]")).result.n)
  end)

  it("are found in ctx.params as they were sent", function()
    given(function(ctx) return ctx.params end)
    assert.equal('{"jsonrpc":"2.0","result":[],"id":1}', app:post("/test", rig.request("m", "[]")).body)
    assert.equal('{"jsonrpc":"2.0","result":{},"id":1}', app:post("/test", rig.request("m", "{}")).body)
  end)

  it("of notifications bind in the same way", function()
    app = rig.app(function(C)
      C:rpc_notification("n", function(_, a, b) seen = { a, b } end)
    end)
    client = app:connect("/test")
    client:notify("n", 1, 2)
    assert.same({ 1, 2 }, seen)
    client:notify_named("n", { b = 3 })
    assert.same({ nil, 3 }, seen)
    client:notify("n", 1, 2, 3)
    assert.same({ nil, 3 }, seen)
  end)

  describe("with a schema", function()
    --- Data of the refusal of these values for { "x", schema }, or "ok".
    local function try(schema, ...)
      given({ params = { { "x", schema } } }, function(_, x)
        seen = x
        return true
      end)
      local ok, err = client:try("m", ...)
      if ok then return "ok" end
      assert.equal(INVALID_PARAMS, err.code)
      return err.data
    end

    local function accepts(schema, ...)
      for _, value in ipairs { ... } do
        assert.equal("ok", try(schema, value), core.json_encode(value))
        assert.same(value, seen)
      end
    end

    local function refuses(schema, expected, values)
      for _, one in ipairs(values) do
        assert.same({ param = "x", expected = expected, got = one[2] }, try(schema, one[1]))
      end
    end

    it("have its names and order, whatever the handler calls them", function()
      given({ params = { { "room", "string" }, { "count", "integer?" } } }, function(_, r, c)
        return ("%s %s"):format(r, c)
      end)
      assert.equal("lobby 2", client:call("m", "lobby", 2))
      assert.equal("lobby 3", client:call_named("m", { room = "lobby", count = 3 }))
      assert.equal("room, count", refused_named({ room = "x", c = 1 }).data.expected)
      assert.same({ param = 3, expected = "at most 2 values (room, count)", got = 3 }, refused("x", 1, 2).data)
    end)

    it("that are required must be there", function()
      assert.same({ param = "x", expected = "string", got = "nothing" }, try("string"))
      local err = refused_named({})
      assert.equal("Invalid params: x must be string", err.message)
    end)

    it("that are optional may be left out or null, which is nil then", function()
      assert.equal("ok", try("string?"))
      assert.equal("ok", try("string?", null))
      assert.is_nil(seen)
      accepts("string?", "text")
      refuses("string?", "string", { { 1, "integer" } })
    end)

    it("of type string", function()
      accepts("string", "", "a", "日本", "\0")
      refuses("string", "string", { { 1, "integer" }, { true, "boolean" }, { null, "null" }, { { 1 }, "array" } })
    end)

    it("of type integer", function()
      accepts("integer", 0, -1, math.maxinteger, math.mininteger)
      refuses("integer", "integer", { { 1.5, "number" }, { 1.0, "number" }, { "1", "string" }, { null, "null" } })
    end)

    it("of type number", function()
      accepts("number", 0, 1.5, -0.0)
      refuses("number", "number", { { "1", "string" }, { false, "boolean" } })
    end)

    it("of type boolean", function()
      accepts("boolean", true, false)
      refuses("boolean", "boolean", { { 0, "integer" }, { "true", "string" }, { null, "null" } })
    end)

    it("of type array", function()
      accepts("array", { 1, 2 })
      assert.equal("ok", try("array", setmetatable({}, core.array_mt)))
      refuses("array", "array", { { {}, "object" }, { { a = 1 }, "object" }, { "x", "string" } })
    end)

    it("of type object", function()
      accepts("object", {}, { a = 1 })
      refuses("object", "object", { { { 1 }, "array" }, { setmetatable({}, core.array_mt), "array" } })
    end)

    it("of type any", function()
      accepts("any", 1, "x", false, { 1 }, { a = 1 }, null)
      assert.same({ param = "x", expected = "any", got = "nothing" }, try("any"))
    end)

    it("with min and max bound numbers by value", function()
      local percent = { "integer", min = 0, max = 100 }
      accepts(percent, 0, 100)
      refuses(percent, "integer from 0 to 100", { { -1, -1 }, { 101, 101 } })
      refuses({ "number", min = 0.5 }, "number of at least 0.5", { { 0.4, 0.4 } })
      refuses({ "integer", max = 3 }, "integer of at most 3", { { 4, 4 } })
    end)

    it("with min and max bound strings by characters", function()
      local name = { "string", min = 2, max = 3 }
      accepts(name, "éé", "日本語")
      refuses(name, "string from 2 to 3 characters", { { "é", "é" }, { "abcd", "abcd" } })
    end)

    it("with min and max bound arrays by items", function()
      accepts({ "array", min = 1, max = 2 }, { 1 }, { 1, 2 })
      refuses({ "array", max = 1 }, "array of at most 1 items", { { { 1, 2 }, "array" } })
    end)

    it("with a pattern match as Lua does", function()
      accepts({ "string", pattern = "^%a+$" }, "abc")
      refuses({ "string", pattern = "^%a+$" }, "string that matches ^%a+$", { { "a1", "a1" } })
    end)

    it("with an enum are one of its values, types included", function()
      accepts({ "string", enum = { "a", "b" } }, "a", "b")
      refuses({ "string", enum = { "a", "b" } }, 'one of "a", "b"', { { "c", "c" } })
      refuses({ "any", enum = { 1, "x" } }, 'one of 1, "x"', { { "1", "1" }, { 2, 2 }, { 1.0, 1.0 } })
      accepts({ "any", enum = { 1.0, 2 } }, 1.0, 2)
      refuses({ "any", enum = { 1.0, 2 } }, "one of 1.0, 2", { { 1, 1 }, { 2.0, 2.0 } })
    end)

    it("with items tell which one is wrong, counted from 0 as clients do", function()
      local list = { "array", items = "string" }
      accepts(list, { "a", "b" })
      assert.same({ param = "x[1]", expected = "string", got = "integer" }, try(list, { "a", 2 }))
      accepts({ "array", items = "string?" }, { "a", null })
      assert.same({ param = "x[0]", expected = "string", got = "null" }, try(list, { null }))
    end)

    it("with fields tell which one is wrong", function()
      local user = { "object", fields = { { "name", "string" }, { "age", { "integer?", min = 0 } } } }
      accepts(user, { name = "Ann" }, { name = "Ann", age = 3 })
      assert.equal("ok", try(user, { name = "Ann", age = null }))
      assert.same({ param = "x.name", expected = "string", got = "nothing" }, try(user, {}))
      local data = try(user, { name = "Ann", age = -1 })
      assert.same({ param = "x.age", expected = "integer of at least 0", got = -1 }, data)
      data = try(user, { name = "Ann", nam = 1 })
      assert.equal("x.nam", data.param)
      rig.has("(did you mean 'name'?)", data.expected)
    end)

    it("may give fields as a table as well", function()
      accepts({ "object", fields = { name = "string", age = "integer?" } }, { name = "Ann" })
    end)

    it("nest, with the whole path in what is refused", function()
      local schema = { "array", items = { "object", fields = { { "tags", { "array", items = "string" } } } } }
      accepts(schema, { { tags = { "a" } }, { tags = { "b", "c" } } })
      local data = try(schema, { { tags = { "a" } }, { tags = { "b", "c", 7 } } })
      assert.same({ param = "x[1].tags[2]", expected = "string", got = "integer" }, data)
    end)

    it("say the type of a long value, not the value", function()
      assert.equal("string", try({ "string", max = 1 }, ("x"):rep(41)).got)
      assert.equal(("x"):rep(40), try({ "string", max = 1 }, ("x"):rep(40)).got)
    end)

    it("reach a handler with ... by their number", function()
      given({ params = { { "a", "integer" }, { "b", "integer?" } } }, function(_, ...) return select("#", ...) end)
      assert.equal(2, client:call("m", 1))
      assert.same(3, refused(1, 2, 3).data.param)
    end)

    it("hold for notifications too, in silence", function()
      app = rig.app(function(C)
        C:rpc_notification("n", { params = { { "a", "integer" } } }, function(_, a) seen = a end)
      end)
      client = app:connect("/test")
      client:notify("n", "x")
      assert.is_nil(seen)
      client:notify("n", 5)
      assert.equal(5, seen)
      rig.no_errors(app)
    end)
  end)

  -- calls of a method with a schema go one way when nothing else is around them, and another otherwise
  for _, way in ipairs { "alone", "with middleware" } do
    describe("with a schema, " .. way .. ",", function()
      local ALL = { { "a", "string" }, { "b", "integer?" }, { "c", "any?" }, { "d", "boolean?" } }

      --- A client of methods that take the first 0 to 4 of these and tell what they got.
      before_each(function()
        app = rig.app({ middleware = way == "alone" and {} or { function(_, next) return next() end } }, function(C)
          for n = 0, #ALL do
            C:rpc_method("m" .. n, { params = table.move(ALL, 1, n, 1, {}) }, function(ctx, ...)
              local got = table.pack(...)
              for i = 1, got.n do got[i] = tostring(got[i]) end
              return { got = table.concat(got, " "), sent = ctx.params }
            end)
          end
        end)
        client = app:connect("/test")
        assert.equal(way == "alone" and call.checked or call.guarded,
          require("perigee.consumer").record(app.app.consumers[1].class).requests.all.m1.run)
      end)

      it("each gets as many values as it declares, whatever came", function()
        local expected = { "x", "x nil", "x nil nil", "x nil nil nil" }
        for n = 1, #ALL do
          assert.equal(expected[n], client:call("m" .. n, "x").got)
          assert.equal(expected[n], client:call_named("m" .. n, { a = "x" }).got)
        end
        assert.equal("", client:call("m0").got)
        assert.equal("x 1 y false", client:call("m4", "x", 1, "y", false).got)
      end)

      it("null of an optional one becomes nil, and stays what it was in ctx.params", function()
        for n = 2, #ALL do
          local answer = client:call("m" .. n, "x", null)
          assert.equal("x nil", answer.got:sub(1, 5))
          assert.same({ "x", null }, answer.sent)
          answer = client:call_named("m" .. n, { b = null, a = "x" })
          assert.equal("x nil", answer.got:sub(1, 5))
          assert.same({ a = "x", b = null }, answer.sent)
        end
      end)

      it("each place is held", function()
        local values = { { 1, "string" }, { "x", "integer" }, nil, { 0, "boolean" } }
        for n = 1, #ALL do
          for i, bad in pairs(values) do
            if i <= n then
              local sent = { "x", 1, "y", true }
              sent[i] = bad[1]
              local ok, err = client:try("m" .. n, table.unpack(sent, 1, n))
              assert.is_false(ok)
              assert.equal(INVALID_PARAMS, err.code)
              assert.equal(ALL[i][1], err.data.param)
              assert.equal(bad[2], err.data.expected)
            end
          end
          local ok, err = client:try("m" .. n)
          assert.is_false(ok)
          assert.equal("nothing", err.data.got)
          ok, err = client:try("m" .. n, "x", 1, "y", true, "more")
          assert.is_false(ok)
          assert.equal(n + 1, err.data.param)
        end
      end)
    end)
  end

  describe("and results with a schema", function()
    local checks = call.checks_results

    after_each(function() call.checks_results = checks end)

    local function result(schema, value)
      given({ result = schema }, function() return value end)
      return client:try("m")
    end

    it("are checked in tests, as in dev", function()
      assert.is_true(call.checks_results)
    end)

    it("are passed on when they fit", function()
      call.checks_results = true
      assert.is_true((result("string", "x")))
      assert.is_true((result("string?", nil)))
      assert.is_true((result("string?", null)))
      assert.is_true((result({ "object", fields = { { "n", "integer" } } }, { n = 1 })))
    end)

    it("are a fault of the app's when they do not: the log tells where", function()
      call.checks_results = true
      local ok, err = result({ "object", fields = { list = { "array", items = "integer" } } }, { list = { 1, "2" } })
      assert.is_false(ok)
      assert.equal(INTERNAL, err.code)
      rig.has("the result of 'm' does not fit its schema: result.list[1] must be integer, got string",
        rig.the_error(app).fields.error)
      assert.is_false((result("string", nil)))
    end)

    it("are not checked in production", function()
      call.checks_results = false
      assert.is_true((result("string", 5)))
    end)
  end)
end)
