--- The console: the command that makes a call again, and what is shown of local variables.
local core = require("perigee.core")
local console = require("perigee.console")
local report = require("perigee.report")
local rig = require("tests.spec.support.rig")

describe("the command that makes a call again", function()
  after_each(rig.clean)

  --- What it is for a call with these params, over WebSocket.
  local function command(method, params)
    local shown
    local app = rig.app({ path = "/test/:room" }, function(C)
      C:rpc_method(method, function(ctx, text, ...) -- luacheck: no unused args
        shown = console.command(ctx)
      end)
    end)
    app:connect("/test/a%20b?x=1"):send(rig.request(core.json_encode(method):sub(2, -2), params))
    return shown
  end

  for _, case in ipairs {
    { "ping", nil, "ping" },
    { "ping", "[]", "ping" },
    { "say", '["hi",1,null]', [[say '["hi",1,null]']] },
    { "say", '{"text":"hi"}', [[say '{"text":"hi"}']] },
    { "say", [==[["it's $HOME `x` \\ !"]]==], [==[say '["it'\''s $HOME `x` \\ !"]']==] },
    { "a b", nil, "'a b'" },
  } do
    it("is quoted: " .. case[3], function()
      assert.equal("perigee call '/test/a%20b?x=1' " .. case[3], command(case[1], case[2]))
    end)
  end

  it("names the server once it listens", function()
    console.authority = "127.0.0.1:8080"
    finally(function() console.authority = nil end)
    assert.equal("perigee call 'ws://127.0.0.1:8080/test/a%20b?x=1' ping", command("ping"))
  end)
end)

describe("local variables of what has failed", function()
  before_each(function() report.takes_locals = true end)
  after_each(function()
    report.takes_locals = false
    rig.clean()
  end)

  local function locals(body)
    local app = rig.source('C:rpc_method("f", function(ctx) ' .. body .. " end)")
    local seen
    local log = report.log
    report.log = function(fault) seen = fault.locals end -- luacheck: ignore
    finally(function() report.log = log end) -- luacheck: ignore
    app:connect("/test"):try("f")
    local out = {}
    for i, one in ipairs(seen) do out[i] = one.name .. " = " .. one.value end
    return out
  end

  it("are shown in one line each, and the app's metamethods do not run", function()
    assert.same({
      "ctx = perigee.ctx", "a = 1", [[b = "x\ny"]], "c = nil", 'd = {"k":[true]}', "e = a function", "f = a table",
      "g = [1,2]", "h = a table of 1", "i = " .. ('"%s"… (100 bytes)'):format(("y"):rep(60)),
    }, locals [[
      local a, b, c, d, e = 1, "x\ny", nil, { k = perigee.array { true } }, function() end
      local f = setmetatable({}, { __tostring = error, __index = error, __pairs = error, __len = error })
      local g, h, i = { 1, 2 }, { [print] = 1 }, ("y"):rep(100)
      f.x.y.z()
    ]])
  end)

  it("of one name are shown once, the inner one", function()
    assert.same({ "ctx = perigee.ctx", "x = 2" }, locals "local x = 1 do local x = 2 ; (nil)() end")
  end)

  it("are those of the innermost function of the app, and not too many", function()
    local many = {}
    for i = 1, 50 do many[i] = ("local v%d = %d"):format(i, i) end
    local seen = locals("local function inner() " .. table.concat(many, " ") .. " string.rep() end inner()")
    assert.equal(12, #seen)
    assert.equal("v1 = 1", seen[1])
  end)
end)

describe("the console", function()
  local signals = require("perigee.signals")
  local stderr, on, log = io.stderr, signals.on, core.log
  local was = { is_dev = core.is_dev, log_level = core.log_level, log_format = core.log_format }
  local show, show_refusal = report.show, report.show_refusal
  local written, handlers, logged

  before_each(function()
    written, handlers, logged = "", {}, {}
    io.stderr = { write = function(_, text) written = written .. text end } -- luacheck: ignore
    signals.on = function(_, name, fn) handlers[name] = fn end -- luacheck: ignore
    core.log = function(level, event, fields) logged[#logged + 1] = { level, event, fields } end
  end)

  after_each(function()
    io.stderr, signals.on, core.log = stderr, on, log -- luacheck: ignore
    for key, value in pairs(was) do core[key] = value end
    report.show, report.show_refusal, report.takes_locals = show, show_refusal, false
  end)

  local function open(is_dev, level, format)
    core.is_dev, core.log_level, core.log_format = is_dev, level, format or "text"
    console.open()
  end

  --- A call as signals tell of it.
  local function ctx(method, transport, more)
    local facts = { 0xab000007, method = method, transport = transport or "websocket" }
    for key, value in pairs(more or {}) do facts[key] = value end
    return setmetatable(facts, { record = { path = "/chat" } })
  end

  --- What was written, without the time of day.
  local function told()
    local text = written:gsub("%d%d:%d%d:%d%d%.%d%d%d", "TIME")
    written = ""
    return text
  end

  it("is open in dev, and to who debugs", function()
    for _, case in ipairs {
      { true, "info", true }, { true, "debug", true }, { true, "warn", false }, { true, "error", false },
      { false, "info", false }, { false, "debug", true }, { false, "warn", false }, { false, "error", false },
    } do
      handlers = {}
      open(case[1], case[2])
      assert.equal(case[3], handlers.rpc_method_completed ~= nil, table.concat({ tostring(case[1]), case[2] }, " "))
      assert.equal(case[3], handlers.rpc_method_failed ~= nil)
    end
  end)

  it("has a line for each call: where, what, who, how long, how it ended", function()
    open(true, "info")
    for seconds, shown in pairs {
      [0] = "  0.0 ms", [0.0099] = "  9.9 ms", [0.01] = "   10 ms", [0.9994] = "  999 ms", [1] = "   1.0 s",
      [61.26] = "  61.3 s",
    } do
      handlers.rpc_method_completed { ctx = ctx "say", seconds = seconds }
      assert.equal("TIME  /chat          say                #7    " .. shown .. "  ok\n", told())
    end
    handlers.rpc_method_completed { ctx = ctx("note", "http", { is_notification = true }), seconds = 0 }
    assert.equal("TIME  /chat          note               http    0.0 ms  -\n", told())
    handlers.rpc_method_completed { ctx = ctx "a\27[2Jb", seconds = 0 }
    assert.equal([[TIME  /chat          a\u001b[2Jb        #7      0.0 ms  ok]] .. "\n", told())
    local failed = handlers.rpc_method_failed
    failed { ctx = ctx "say", seconds = 0, error = { code = 7, message = "two\nlines" } }
    assert.equal("TIME  /chat          say                #7      0.0 ms  7 two lines\n", told())
    failed { ctx = ctx "say", seconds = 0, error = { message = "no", id = "E1" } }
    assert.equal("TIME  /chat          say                #7      0.0 ms  -32000 no  E1\n", told())
    failed { ctx = ctx "say", seconds = 0, error = { code = -32603, message = "secret", traceback = "x", id = "E2" } }
    assert.equal("TIME  /chat          say                #7      0.0 ms  -32603 Internal error  E2\n", told())
    assert.same({}, logged)
  end)

  it("is lines of the log where nobody sits", function()
    for _, case in ipairs { { true, "info", "json", "info" }, { false, "debug", "text", "debug" } } do
      open(case[1], case[2], case[3])
      handlers.rpc_method_completed { ctx = ctx "say", seconds = 0.0123456 }
      local level, event, fields = table.unpack(table.remove(logged))
      assert.same({ case[4], "call" }, { level, event })
      assert.same({
        path = "/chat", method = "say", conn = "ab000007", transport = "websocket", ms = 12.345, outcome = "ok",
      }, fields)
      assert.equal("", written)
    end
  end)

  it("shows an error as a block", function()
    open(true, "info")
    assert.is_true(report.takes_locals)
    report.show({
      id = "E1", message = "first\nsecond \27", excerpt = "  1 | a\n> 2 | b\n",
      locals = { { name = "x", value = "1\27" } },
      stack = "stack traceback:\n\t[C]: in f\n\t(...tail calls...)\n\tb.lua:2: in g",
    }, "call failed", { path = "/chat", method = "say", suppressed = 3 })
    assert.equal([[
TIME  call failed /chat say  E1  and 3 more like it before
  first
  second \u001b
      1 | a
    > 2 | b
    x = 1\u001b
    [C]: in f
    b.lua:2: in g
]], told())
    report.show({ id = "E2", message = "m", traceback = "m" }, "signal failed", { signal = "layer_up" })
    assert.equal("TIME  signal failed layer_up  E2\n  m\n", told())
    local message = "m\nstack traceback:\n\ta.lua:1: of a client's"
    report.show({
      id = "E3", message = message, stack = "stack traceback:\n\tb.lua:2: in g",
      traceback = message .. "\nstack traceback:\n\tb.lua:2: in g",
    }, "call failed", {})
    assert.equal("TIME  call failed  E3\n  m\n  stack traceback:\n  \ta.lua:1: of a client's\n    b.lua:2: in g\n",
      told())
  end)
end)
