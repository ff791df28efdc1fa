--- Errors: what a handler does, what its caller gets, what the log says.
local core = require("perigee.core")
local errors = require("perigee.errors")
local report = require("perigee.report")
local rig = require("tests.spec.support.rig")
local testing = require("perigee.testing")

local APPLICATION, INTERNAL = -32000, -32603

describe("errors", function()
  local app, client

  after_each(rig.clean)

  --- An app in a file whose method m has this body; the caller of m.
  local function given(body, options)
    app = rig.source(('C:rpc_method("m", function(ctx, ...)\n  %s\nend)'):format(body), options)
    client = app:connect("/test")
  end

  --- The error that a call of m is answered with.
  local function error_of(body, ...)
    given(body)
    local ok, err = client:try("m", ...)
    assert.is_false(ok)
    return err
  end

  --- Asserts that this body is a fault: the caller gets an id only, the log all there is to know.
  local function fault(body, ...)
    local err = error_of(body)
    assert.equal(INTERNAL, err.code)
    assert.equal("Internal error", err.message)
    local entry = rig.the_error(app)
    assert.equal("handler failed", entry.event)
    assert.same({ error_id = entry.fields.error_id }, err.data)
    for _, text in ipairs { ... } do rig.has(text, entry.fields.error .. "\n" .. entry.block) end
    return entry
  end

  --- Asserts that this body gives the caller exactly this error, and that nothing is logged.
  local function gives(expected, body)
    assert.same(expected, error_of(body))
    rig.no_errors(app)
  end

  local function application(message, data)
    return { code = APPLICATION, message = message, data = { data or message } }
  end

  it("error('text') of an app that is a function in a spec is an answer, and a library's error is a fault", function()
    app = rig.app(function(C)
      C:rpc_method("text", function() error("sorry") end)
      C:rpc_method("bare", function() error("sorry", 0) end)
      C:rpc_method("library", function() string.rep() end)
      C:rpc_method("own", function(ctx) ctx:notify(5) end)
    end)
    client = app:connect("/test")
    for _, method in ipairs { "text", "bare" } do
      local _, err = client:try(method)
      assert.same({ code = APPLICATION, message = "sorry", data = { "sorry" } }, err, method)
    end
    rig.no_errors(app)
    for _, method in ipairs { "library", "own" } do rig.refused(INTERNAL, client, method) end
  end)

  describe("an app raises for its clients", function()
    it("with error(\"text\"): the text, without a position", function()
      gives(application("no such room"), 'error("no such room")')
    end)

    it("with error(\"text\", level): the level does not matter", function()
      for level = 0, 3 do gives(application("text"), ('error("text", %d)'):format(level)) end
    end)

    it("with error of an empty text, and of one that looks like a position", function()
      gives(application(""), 'error("")')
      gives(application("chat.lua: 12: no"), 'error("chat.lua: 12: no")')
    end)

    it("from functions it calls, and after a wait", function()
      gives(application("deep"), 'local function f() error("deep") end f()')
      gives(application("late"), 'perigee.sleep(1) error("late")')
    end)

    it("through coroutines of its own", function()
      gives(application("inner"), 'coroutine.wrap(function() error("inner") end)()')
      gives(application("inner"), 'coroutine.wrap(function() coroutine.wrap(function() error("inner") end)() end)()')
      gives(application("waited"), 'coroutine.wrap(function() perigee.sleep(1) error("waited") end)()')
    end)

    it("after pcall has caught it", function()
      gives(application("again"), 'local ok, err = pcall(function() error("again", 0) end) error(err)')
      gives(application("again"), 'local ok, err = pcall(function() error("again") end) error(err, 0)')
      gives(application("again"), 'local ok, err = pcall(function() error("again") end) error(err)')
      gives(application("again"), [[
        local ok, err = pcall(coroutine.wrap(function() error("again") end))
        pcall(error, "something else")
        error(err)]])
    end)

    it("with words of a client's that look like a place, or like a place and something raised before", function()
      for _, words in ipairs {
        "a.lua:1: x", "x.lua:12: y.lua:3: z", "perigee/nothing.lua:1: x", "/usr/share/lua/5.4/nothing.lua:1: x",
        "string.lua:1: x", "[string \"x\"]:1: x", "  a.lua:1:", "...nowhere/a.lua:7: x", "a.lua:1: before",
      } do
        for _, body in ipairs {
          "pcall(error, 'before', 0) error((...))", "error((...), 0)", "local ok, err = pcall(error, (...)) error(err)",
          "coroutine.wrap(error)((...))",
        } do
          assert.same(application(words), error_of(body, words))
          rig.no_errors(app)
        end
      end
    end)

    it("through perigee.all, which raises the first of several", function()
      gives(application("one of them"), 'perigee.all { function() error("one of them") end, function() end }')
      gives(application("first"), 'perigee.all { function() error("first") end, function() error("second") end }')
    end)

    it("with error(perigee.error { … }): exactly that", function()
      gives({ code = 7, message = "Taken", data = { name = "Ann" } },
        'error(perigee.error { code = 7, message = "Taken", data = { name = "Ann" } })')
      gives({ code = -32099, message = "x" }, 'error(perigee.error { code = -32099, message = "x" })')
    end)

    it("with return nil, \"text\"", function()
      gives(application("no such room"), 'return nil, "no such room"')
    end)

    it("with return nil, perigee.error { … }", function()
      gives({ code = 7, message = "Taken" }, 'return nil, perigee.error { code = 7, message = "Taken" }')
    end)

    it("with return nil and a plain table that has code and message", function()
      gives({ code = 7, message = "Taken", data = 1 }, 'return nil, { code = 7, message = "Taken", data = 1 }')
    end)

    it("with return nil and any other value: that is the data", function()
      gives(application("Application error", 42), "return nil, 42")
      gives(application("Application error", { why = "x" }), "return nil, { why = 'x' }")
      gives(application("Application error", true), "return nil, true")
    end)

    it("but not with return nil, nil or false: that is a result of null", function()
      for _, body in ipairs { "return", "return nil", "return nil, nil", "return nil, false" } do
        given(body)
        assert.equal(core.null, client:call("m"))
      end
    end)

    it("and not when there is a result as well", function()
      given('return false, "text"')
      assert.is_false(client:call("m"))
    end)
  end)

  describe("perigee.error", function()
    it("takes any integer as its code, -32000 if none is given", function()
      for _, code in ipairs { 0, 1, -1, math.maxinteger, math.mininteger, -32700 } do
        gives({ code = code, message = "x" }, ("error(perigee.error { code = 0x%x, message = 'x' })"):format(code))
      end
      gives({ code = APPLICATION, message = "x" }, "error(perigee.error { message = 'x' })")
    end)

    it("has a message for each code of its own", function()
      gives({ code = -32003, message = "Forbidden" }, "error(perigee.error { code = perigee.errors.forbidden })")
      gives({ code = 12345, message = "Application error" }, "error(perigee.error { code = 12345 })")
    end)

    it("names the codes", function()
      for name, code in pairs {
        parse = -32700, invalid_request = -32600, method_not_found = -32601, invalid_params = -32602,
        internal = -32603, application = -32000, too_large = -32001, timeout = -32002, forbidden = -32003,
        unauthenticated = -32004, rate_limited = -32005, unavailable = -32006, cancelled = -32800,
      } do
        assert.equal(code, errors.codes[name])
      end
    end)

    it("turns into a text that tells message and code", function()
      assert.equal("Taken (7)", tostring(errors.new { code = 7, message = "Taken" }))
    end)

    it("refuses what is no error", function()
      rig.raises(function() errors.new("text") end, "perigee.error takes a table")
      rig.raises(function() errors.new { code = "7" } end, "code must be an integer, not 7")
      rig.raises(function() errors.new { code = 1.5 } end, "code must be an integer")
      rig.raises(function() errors.new { message = {} } end, "message must be a string, not a table")
    end)
  end)

  describe("a fault", function()
    it("is told to the caller as an id, and to the log with place, lines and traceback", function()
      local entry = fault("local t\n  return t.x")
      assert.equal("m", entry.fields.method)
      assert.equal("/test", entry.fields.path)
      rig.has("test.lua:3: attempt to index a nil value (local 't')", entry.fields.error)
      rig.has(">    3 |   return t.x", entry.block)
      rig.has("     2 |   local t", entry.block)
      rig.has("stack traceback:", entry.block)
      rig.lacks("perigee/rpc.lua", entry.block)
    end)

    it("is what assert raises", function()
      fault("assert(false)", "assertion failed!")
      fault('assert(nil, "no such row")', "no such row")
    end)

    it("is what Lua and its libraries raise", function()
      fault("return 1 + {}", "attempt to perform arithmetic")
      fault("return nope()", "undeclared global 'nope'")
      fault('return ("x"):rep(-1, 2, 3):bad()', "attempt to call a nil value (method 'bad')")
      fault('return require("cjson").decode("{")', "Expected object key")
      fault("local function f() return f() .. '' end return f()", "stack overflow")
    end)

    it("is an error value that is neither text nor perigee.error", function()
      fault("error({ why = 'x' })", "table: ")
      fault("error({ code = 7, message = 'plain table' })", "table: ")
      fault("error(42)", "42")
      fault("error(nil)", "nil")
      fault("error()", "nil")
      fault("error(true)", "true")
      fault("error(print)", "function: ")
      fault("error(io.stdout)", "file (")
      fault("error(coroutine.create(print))", "thread: ")
    end)

    it("may be a table that cannot be turned into text", function()
      fault("error(setmetatable({}, { __tostring = function() error('no text') end }))",
        "an error value of type table that cannot be turned into text")
      fault("error(setmetatable({}, { __tostring = function() return {} end }))",
        "an error value of type table that cannot be turned into text")
      fault("error(setmetatable({}, { __tostring = function() return 'well' end }))", "well")
    end)

    it("in a coroutine of the app's own is one as well", function()
      fault("coroutine.wrap(function() local t; return t.x end)()", "attempt to index a nil value")
    end)

    it("stays one when pcall has caught it and it is raised again", function()
      fault("local ok, err = pcall(function() local t; return t.x end) error(err, 0)", "attempt to index a nil value")
      fault("local ok, err = pcall(function() local t; return t.x end) error(err)", "attempt to index a nil value")
    end)

    it("stays one when a module of the app's, the machine's or the server's raised it, or a thread", function()
      local folder = rig.folder {
        ["test/init.lua"] = [[
          local perigee = require "perigee"
          local C = perigee.consumer {}
          local work = require "test.work"
          local calls = {
            module = work.fail,
            machine = function() require("luassert.assert").unknown() end,
            server = function() perigee.sleep("x") end,
            thread = function() perigee.blocking("test.slow", "fail") end,
            inner = function() perigee.blocking("test.deep", "fail") end,
          }
          C:rpc_method("m", function(_, what)
            local ok, err = pcall(calls[what])
            error(err)
          end)
          return C]],
        ["test/work.lua"] = "return { fail = function() local t; return t.x end }",
        ["test/slow.lua"] = "return { fail = function() local t; return t.x end }",
        ["test/deep/init.lua"] = "return { fail = function() local t; return t.x end }",
      }
      for _, what in ipairs { "module", "machine", "server", "thread", "inner" } do
        app = testing.app(folder .. "/test")
        client = app:connect("/test")
        rig.refused(INTERNAL, client, "m", what)
        rig.the_error(app)
      end
    end)

    it("stays one when a module raised it that the app has from the machine", function()
      local path = package.path
      local folder = rig.folder { ["of_the_machine.lua"] = "return { fail = function() local t; return t.x end }" }
      package.path = folder .. "/?.lua;" .. path
      finally(function()
        package.path, package.loaded.of_the_machine = path, nil
      end)
      given([[
        local _, err = pcall(require("of_the_machine").fail)
        error(err)]])
      rig.refused(INTERNAL, client, "m")
      rig.has("of_the_machine.lua:1:", rig.the_error(app).fields.error)
    end)

    it("names no place that only words of a client's name", function()
      for words, line in pairs { ["a.lua:1: x"] = 3, ["perigee/errors.lua:1: x"] = 3, ["no place"] = 3 } do
        local is_dev = core.is_dev
        core.is_dev = true
        local ok, err = pcall(error_of,
          "local words = ...\n  error(setmetatable({}, { __tostring = function() return words end }))", words)
        core.is_dev = is_dev
        assert(ok, err)
        assert.same({ INTERNAL, words }, { err.code, err.data.dev.message })
        rig.has("test.lua", err.data.dev.file)
        assert.equal(line, err.data.dev.line)
      end
    end)

    it("is not mistaken for a text that the app raised before", function()
      fault([[
        pcall(error, "nil value (local 't')", 0)
        local t
        return t()]], "attempt to call a nil value")
    end)

    it("runs to-be-closed variables, whose own error is told too", function()
      given([[
        local guard <close> = setmetatable({}, { __close = function() ctx:notify("closed") end })
        return nil + 1]])
      client:try("m")
      client:expect("closed")
      fault([[
        local guard <close> = setmetatable({}, { __close = function() error("while closing") end })
        return nil + 1]], "attempt to perform arithmetic", "while closing")
    end)

    it("runs those of a coroutine that is closed without having been told, and says what they raise, once", function()
      local function died(raise)
        local co = coroutine.create(function()
          local _ <close> = setmetatable({}, { __close = function() raise() end })
          coroutine.yield()
        end)
        coroutine.resume(co)
        return co
      end
      local told, log = {}, core.log
      core.log = function(level, event, fields) told[#told + 1] = { level, event, fields.error } end
      finally(function() core.log = log end)
      report.close(died(function() error("while closing", 0) end), "stopped")
      assert.same({ { "error", "closing a variable failed", "while closing" } }, told)
      told = {}
      report.close(died(function() error({}) end), "stopped")
      assert.same({ { "error", "closing a variable failed", "an error value of type table" } }, told)
      told = {}
      report.close(died(function() end), "stopped")
      report.close(died(function() error("stopped", 0) end), "stopped") -- its own, again
      local says = { __tostring = function() return "stopped" end }
      report.close(died(function() error(setmetatable({}, says)) end), setmetatable({}, says))
      assert.same({}, told)
    end)

    it("shows lines as they were when the newest version of the app was loaded", function()
      local old, new = { ["x.lua"] = "old" }, { ["x.lua"] = "new" }
      report.know(old)
      report.know(new)
      rig.has("1 | new", report.excerpt("x.lua", 1))
      report.forget(new)
      rig.has("1 | old", report.excerpt("x.lua", 1))
      report.forget(old)
      assert.is_nil(report.excerpt("x.lua", 1))
    end)

    it("has an id of its own each time", function()
      given("return nil + 1")
      local _, one = client:try("m")
      local _, two = client:try("m")
      assert.not_equal(one.data.error_id, two.data.error_id)
      assert.equal(2, #app:logged("handler failed"))
    end)

    it("is one in a hook, too, when it is a client's table that says it was none", function()
      app = rig.source([[
        function C:receive(data) error(require("cjson").decode(data)) end
        C:rpc_method("later", function(ctx, value) ctx:spawn(function() error(value) end) end)]])
      client = app:connect("/test")
      client:send('"no": {"is_end":true}')
      client:send('{"is_end":true,"code":-32800,"message":"x"}')
      client:try("later", { is_end = true })
      rig.settle()
      assert.equal(2, #rig.errors(app))
    end)

    it("is answered though on_error does not come to an end, five seconds later", function()
      app = rig.source([[
        C:on_error(function() perigee.sleep(1800) end)
        C:on_error(function() perigee.sleep(1800) end)
        C:rpc_method("over", { timeout = 1 }, function() perigee.sleep(1800) end)
        C:rpc_method("kept", { timeout = 1 }, function() return pcall(perigee.sleep, 1800) end)
        C:rpc_method("fails", function() perigee.sleep(1) error("no") end)
        C:rpc_method("faults", { timeout = false }, function() perigee.sleep(1) return nil + 1 end)]])
      client = app:connect("/test")
      local timeouts = core.metrics().call_timeouts
      for method, code in pairs { over = -32002, kept = -32002, fails = APPLICATION, faults = INTERNAL } do
        local began = core.now()
        local _, err = client:try(method)
        assert.equal(code, err.code)
        assert.equal(6, core.now() - began)
      end
      assert.equal(8, #app:logged("on_error failed"))
      assert.equal(timeouts + 2, core.metrics().call_timeouts)
    end)

    it("of a notification is logged, not answered", function()
      app = rig.source('C:rpc_notification("n", function() return nil + 1 end)')
      client = app:connect("/test")
      client:notify("n")
      rig.has("attempt to perform arithmetic", rig.the_error(app).fields.error)
      assert.is_nil(next(client.answers))
    end)

    it("over HTTP is answered like any error", function()
      given("return nil + 1")
      local answer, response = rig.post(app, rig.request("m"))
      assert.equal(200, response.status)
      assert.equal(INTERNAL, answer.error.code)
    end)

    it("tells the caller more in dev", function()
      local is_dev = core.is_dev
      core.is_dev = true
      finally(function() core.is_dev = is_dev end)
      local err = error_of("return nil + 1")
      local dev = err.data.dev
      rig.has("attempt to perform arithmetic", dev.message)
      assert.equal(2, dev.line)
      rig.has("test.lua", dev.file)
      rig.has(">    2 |", dev.excerpt)
      rig.has("stack traceback", dev.traceback)
    end)
  end)

  describe("on_error", function()
    --- What on_error saw of a call of m, as { code, message } each.
    local function seen_by(body)
      app = rig.source(([[
        local seen = {}
        C:rpc_method("m", function() %s end)
        C:rpc_method("typed", { params = { { "n", "integer" } } }, function(_, n) return n end)
        C:rpc_method("seen", function() return seen end)
        C:on_error(function(ctx, err) seen[#seen + 1] = { ctx.method, err.code, err.message } end)
      ]]):format(body))
      client = app:connect("/test")
      client:try("m")
      return client:call("seen")
    end

    it("sees what a handler raised or returned", function()
      assert.same({ { "m", APPLICATION, "text" } }, seen_by('error("text")'))
      assert.same({ { "m", APPLICATION, "text" } }, seen_by('return nil, "text"'))
      assert.same({ { "m", 7, "x" } }, seen_by('error(perigee.error { code = 7, message = "x" })'))
    end)

    it("sees faults, with their id and place", function()
      local seen = seen_by("return nil + 1")
      assert.equal(INTERNAL, seen[1][2])
      rig.has("attempt to perform arithmetic", seen[1][3])
    end)

    it("does not see calls that were refused before the handler ran", function()
      assert.same({}, seen_by("return 1"))
      client:try("nope")
      client:try("typed", "x")
      client:try("m", 1)
      assert.same({}, client:call("seen"))
    end)

    it("runs before the reply, in the order of registration", function()
      app = rig.source([[
        C:rpc_method("m", function() error("text") end)
        C:on_error(function(ctx) ctx:notify("first") perigee.sleep(1) end)
        C:on_error(function(ctx) ctx:notify("second") end)]])
      client = app:connect("/test")
      local took = rig.duration(function() client:try("m") end)
      assert.near(1, took, 0.01)
      client:expect("first")
      client:expect("second")
    end)

    it("that fails is logged: the others run and the caller gets its answer", function()
      app = rig.source([[
        C:rpc_method("m", function() error("text") end)
        C:on_error(function() return nil + 1 end)
        C:on_error(function(ctx) ctx:notify("second") end)]])
      client = app:connect("/test")
      local err = rig.refused(APPLICATION, client, "m")
      assert.equal("text", err.message)
      assert.equal("on_error failed", rig.the_error(app).event)
      client:expect("second")
    end)

    it("sees errors of notifications", function()
      app = rig.source([[
        C:rpc_notification("n", function() error("text") end)
        C:on_error(function(ctx, err) ctx:notify("seen", { ctx.method, err.message }) end)]])
      client = app:connect("/test")
      client:notify("n")
      assert.same({ "n", "text" }, client:expect("seen"))
    end)
  end)

  describe("a result that has no form in JSON", function()
    --- Asserts that it is refused, with this logged as what and where.
    local function refuses(what, at, body)
      local err = error_of(body)
      assert.equal(INTERNAL, err.code)
      local entry = rig.the_error(app)
      assert.equal("result cannot be encoded", entry.event)
      assert.same({ error_id = entry.fields.error_id }, err.data)
      assert.equal(what, entry.fields.what)
      assert.equal(at, entry.fields.at)
      assert.equal("m", entry.fields.method)
    end

    it("is a fault, logged with the path of the offending value", function()
      refuses("a function", "result", "return print")
      refuses("a function", "result.a.b[1].c", "return { a = { b = { 1, { c = print } } } }")
      refuses("a userdata", "result[0]", "return { io.stdout }")
      refuses("a coroutine", "result.co", "return { co = coroutine.create(print) }")
      refuses("NaN", "result.x", "return { x = 0/0 }")
      refuses("an infinite number", "result", "return math.huge")
      refuses("a table with a metatable", "result", "return setmetatable({}, {})")
      refuses("a string that is not UTF-8", "result.s", 'return { s = "\\xFF" }')
      refuses("a key that is not UTF-8", "result", 'return { ["\\xFF"] = 1 }')
      refuses("a table with both string and integer keys", "result", "return { 1, a = 2 }")
      refuses("a table with integer keys that are not 1 to n (a sparse array?)", "result", "return { 1, [3] = 3 }")
      refuses("a table with keys other than strings", "result", "return { [true] = 1 }")
      refuses("an array with a hole", "result[1]", "return perigee.array { [1] = 1, [3] = 3 }")
      refuses("an array with a hole", "result.list[0]", "return { list = perigee.array { [2] = 2 } }")
      refuses("an array with a text key", "result.total", "return perigee.array { 1, 2, total = 2 }")
      refuses("an array with keys that are not 1 to n", "result", "return perigee.array { [0] = 0, 1 }")
    end)

    it("may be a table that holds itself", function()
      local err = error_of("local t = {} t.t = t return t")
      assert.equal(INTERNAL, err.code)
      rig.has("cycle", rig.the_error(app).fields.what)
    end)

    it("may be the data of an error", function()
      local err = error_of("error(perigee.error { code = 7, data = { print } })")
      assert.equal(INTERNAL, err.code)
      local entry = rig.the_error(app)
      assert.equal("error data cannot be encoded", entry.event)
      assert.equal("error.data[0]", entry.fields.at)
    end)

    it("does no harm to the rest of a batch", function()
      given("return print")
      local answer = client:exchange(("[%s,%s]"):format(rig.request("m", nil, "1"), rig.request("nope", nil, "2")))
      assert.equal(INTERNAL, answer[1].error.code)
      assert.equal(-32601, answer[2].error.code)
    end)

    it("is nothing for a notification", function()
      app = rig.source('C:rpc_notification("n", function() return print end)')
      client = app:connect("/test")
      client:notify("n")
      rig.no_errors(app)
    end)
  end)

  describe("json_default", function()
    local function result(default, body)
      given(body, ("{ json_default = function(v) %s end }"):format(default))
      return client:try("m")
    end

    it("makes something of what JSON has no form for, wherever it stands", function()
      local ok, value = result("return type(v)", "return { print, { x = setmetatable({}, {}) }, 'plain' }")
      assert.is_true(ok)
      assert.same({ "function", { x = "table" }, "plain" }, value)
    end)

    it("may return something that has to be made something of in turn", function()
      local _, value = result("return type(v) == 'function' and { setmetatable({}, {}) } or 'end'", "return print")
      assert.same({ "end" }, value)
    end)

    it("is not asked for what has a form", function()
      local ok, value = result("error('asked')", "return { 1, 'x', { a = perigee.null, e = perigee.array() } }")
      assert.is_true(ok)
      assert.same({ 1, "x", { a = core.null, e = {} } }, value)
    end)

    it("is asked for params of notifications too", function()
      result("return type(v)", [[
        ctx:notify("n", { f = print })
        C:notify_channel(ctx.consumer.channel_name, "c", { print })]])
      assert.same({ f = "function" }, client:expect("n"))
      assert.same({ "function" }, client:expect("c"))
    end)

    it("that fails, or helps nothing, makes a fault: one answer, one entry", function()
      for _, default in ipairs { "return nil + 1", "return v", "return 0/0", "error({})" } do
        local ok, err = result(default, "return { print }")
        assert.is_false(ok)
        assert.equal(INTERNAL, err.code)
        rig.the_error(app)
      end
    end)
  end)

  describe("bad apps:", function()
    --- Asserts that m is answered once with that code, that the log has one entry, and that the
    --- connection goes on.
    local function survives(code, body, more)
      app = rig.source(('C:rpc_method("m", function(ctx)\n%s\nend) C:rpc_method("ok", function() return 1 end) %s')
        :format(body, more or ""))
      client = app:connect("/test")
      local answer = client:exchange(rig.request("m"))
      assert.equal(code, answer.error and answer.error.code)
      app:advance(100)
      assert.is_nil(next(client.answers), "a second answer")
      client:expect_nothing()
      assert.is_nil(client.closed)
      assert.equal(1, client:call("ok"))
      return rig.the_error(app)
    end

    it("yielding to nobody", function()
      local entry = survives(INTERNAL, "coroutine.yield(1)")
      rig.has("coroutine.yield outside of a coroutine of your own", entry.fields.error)
    end)

    it("yielding to nobody from a metamethod", function()
      local entry = survives(INTERNAL,
        "return setmetatable({}, { __index = function() coroutine.yield() end }).x")
      rig.has("coroutine.yield outside of a coroutine of your own", entry.fields.error)
    end)

    it("yielding to nobody from table.sort", function()
      local entry = survives(INTERNAL, "table.sort({ 2, 1 }, function() coroutine.yield() end)")
      rig.has("attempt to yield across a C-call boundary", entry.fields.error)
    end)

    it("waiting in table.sort", function()
      local entry = survives(INTERNAL, "table.sort({ 2, 1 }, function(a, b) perigee.sleep(1) return a < b end)")
      rig.has("cannot wait here: a C function", entry.fields.error)
    end)

    it("waiting in a callback of string.gsub", function()
      local entry = survives(INTERNAL, 'return ("ab"):gsub(".", function() perigee.sleep(1) end)')
      rig.has("cannot wait here: a C function", entry.fields.error)
    end)

    it("failing in on_error as well", function()
      local entry = survives(APPLICATION, "error('text')", "C:on_error(function() error('again') end)")
      assert.equal("on_error failed", entry.event)
    end)

    it("failing in middleware after next()", function()
      survives(INTERNAL, "return 1", [[
        C:use(function(ctx, next)
          local result = next()
          if ctx.method == "m" then return nil + 1 end
          return result
        end)]])
    end)

    it("calling next() twice", function()
      local entry = survives(INTERNAL, "return 1", [[
        C:use(function(ctx, next)
          if ctx.method == "m" then next() end
          return next()
        end)]])
      rig.has("next() was called twice", entry.fields.error)
    end)

    it("replacing ctx by nonsense", function()
      survives(INTERNAL, "setmetatable(ctx, nil) return ctx.consumer.session")
    end)

    it("failing in a signal", function()
      local entry = survives(nil, "return 1", [[
        perigee.on("rpc_method_completed", function(event)
          if event.ctx.method == "m" then return nil + 1 end
        end)]])
      assert.equal("signal receiver failed", entry.event)
    end)

    it("ending in an endless chain of errors while closing", function()
      survives(INTERNAL, [[
        local a <close> = setmetatable({}, { __close = function() error(setmetatable({}, { __tostring = 5 })) end })
        local b <close> = setmetatable({}, { __close = function() return nil + 1 end })
        error(setmetatable({}, { __tostring = function() return nil + 1 end }))]])
    end)

    it("calling a client that is gone", function()
      app = rig.source([[
        C:rpc_method("m", function(ctx)
          perigee.sleep(1)
          local result, err = ctx:call("are you there?")
          C:notify_group("others", "tried", { result == nil, err.code, ctx:notify("x"), ctx:close() })
        end)
        C:rpc_method("join", function(ctx) return ctx:group_add("others") end)]])
      local other = app:connect("/test")
      other:call("join")
      client = app:connect("/test")
      client:send(rig.request("m"))
      client:abort()
      assert.same({ true, -32006, false, false }, other:expect("tried", 5))
      rig.no_errors(app)
    end)

    it("closing their own connection", function()
      app = rig.source('C:rpc_method("m", function(ctx) ctx:close(4001, "bye") return ctx:close(4002) end)')
      client = app:connect("/test")
      assert.is_nil(client:exchange(rig.request("m")))
      assert.same({ code = 4001, reason = "bye" }, client.closed)
      rig.no_errors(app)
    end)
  end)
end)
