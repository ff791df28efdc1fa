--- To-be-closed variables: what they clean up is cleaned up, whatever has ended the code, and may wait.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("a __close that waits", function()
  local app, client

  after_each(rig.clean)

  --- An app whose method m has this body. guard(seconds) holds a lock until it is closed, which takes
  --- that long; the method held tells how many are held.
  local function given(body, options)
    app = rig.source(([[
      local held, log = 0, {}
      local function guard(seconds, name)
        held = held + 1
        return setmetatable({}, { __close = function(_, err)
          perigee.sleep(seconds)
          held = held - 1
          log[#log + 1] = (name or "closed") .. (err == nil and "" or " after an error")
        end })
      end
      C:rpc_method("held", function() return held end)
      C:rpc_method("log", function() return perigee.array(log) end)
      C:rpc_method("m", %s, function(ctx, ...)
        %s
      end)]]):format(options or "{}", body))
    client = app:connect("/test")
  end

  --- Calls m, which must fail with this code; then nothing must be held.
  local function fails(code, body, options)
    given(body, options)
    local err = rig.refused(code, client, "m")
    assert.equal(0, client:call("held"))
    return err
  end

  it("runs to its end after an error, before its caller is answered", function()
    local err = fails(-32000, 'local _ <close> = guard(1) error("no")')
    assert.equal("no", err.message)
    assert.same({ "closed after an error" }, client:call("log"))
    rig.no_errors(app)
    fails(-32603, "local _ <close> = guard(1) local t t.x = 1")
    rig.has("attempt to index a nil value", rig.the_error(app).fields.error)
    rig.has("local _ <close> = guard(1) local t t.x = 1", rig.the_error(app).block)
  end)

  it("runs to its end after an error in a function that was called", function()
    fails(-32000, 'local a <close> = guard(1) local function f() local b <close> = guard(2) error("no") end f()')
    assert.equal(2, #client:call("log"))
  end)

  it("runs to its end when the call's time is over, caught or not", function()
    fails(-32002, "local _ <close> = guard(2) perigee.sleep(60)", "{ timeout = 1 }")
    fails(-32002, "pcall(function() local _ <close> = guard(2) perigee.sleep(60) end)", "{ timeout = 1 }")
    fails(-32002, "xpcall(function() local _ <close> = guard(2) perigee.sleep(60) end, print)", "{ timeout = 1 }")
    fails(-32002, [[
      pcall(function()
        local _ <close> = guard(2)
        pcall(function() local _ <close> = guard(2) perigee.sleep(60) end)
        perigee.sleep(60)
      end)]], "{ timeout = 1 }")
    assert.equal(2, #client:call("log"))
  end)

  it("runs to its end when the call is cancelled", function()
    given("local _ <close> = guard(2) perigee.sleep(60)", "{ timeout = false }")
    client:send(rig.request("m", "[]", "77"))
    rig.settle()
    client:send('{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":77}}')
    app:advance(3)
    assert.equal(0, client:call("held"))
    assert.same({ "closed after an error" }, client:call("log"))
  end)

  it("runs to its end in spawned functions and timers", function()
    given([[
      perigee.spawn(function() local _ <close> = guard(1) error("no") end)
      perigee.after(1, function() local _ <close> = guard(1) error("no") end)]])
    client:call("m")
    assert.equal(1, client:call("held"))
    app:advance(5)
    assert.equal(0, client:call("held"))
    assert.equal(2, #rig.errors(app))
  end)

  it("is ended when it takes more than five seconds in all, and those behind it still run", function()
    for _, case in ipairs {
      { 4.9, 0, "{}", 'error("no")', -32000 }, { 6, 1, "{}", 'error("no")', -32000 },
      { 4.9, 0, "{ timeout = 1 }", "perigee.sleep(60)", -32002 },
      { 6, 1, "{ timeout = 1 }", "perigee.sleep(60)", -32002 },
    } do
      local seconds, left, options, fail, code = table.unpack(case)
      given(("local a <close> = setmetatable({}, { __close = function() log[#log + 1] = 'first' end }) "
        .. "local b <close> = guard(%s) %s"):format(seconds, fail), options)
      local before = core.metrics().close_failures
      rig.refused(code, client, "m")
      assert.equal(left, client:call("held"))
      assert.equal(before + left, core.metrics().close_failures)
      local log = client:call("log")
      assert.equal("first", log[#log])
    end
  end)

  it("tells and counts what fails, and its caller of the first error", function()
    local bad = "setmetatable({}, { __close = function() error('while closing') end })"
    local before = core.metrics().close_failures
    given(("local a <close> = guard(1) local b <close> = %s local c <close> = %s error('no')"):format(bad, bad))
    assert.equal("no", rig.refused(-32000, client, "m").message)
    assert.equal(0, client:call("held"))
    assert.equal(before + 2, core.metrics().close_failures)
    local errors = rig.errors(app)
    assert.equal(2, #errors)
    for _, entry in ipairs(errors) do
      assert.equal("closing a variable failed", entry.event)
      rig.has("while closing", entry.fields.error)
    end
    given(("local b <close> = %s local t t.x = 1"):format(bad))
    rig.refused(-32603, client, "m")
    assert.equal(before + 3, core.metrics().close_failures)
    local entry = rig.the_error(app)
    rig.has("attempt to index a nil value", entry.fields.error)
    rig.has("and then, while closing its variables: ", entry.block)
  end)

  it("counts the calls whose time was over", function()
    local before = core.metrics().call_timeouts
    fails(-32002, "perigee.sleep(60)", "{ timeout = 1 }")
    assert.equal(before + 1, core.metrics().call_timeouts)
  end)

  it("does not let code that goes on wait again", function()
    given("for _ = 1, 3 do pcall(perigee.sleep, 60) end return held", "{ timeout = 1 }")
    local began = core.now()
    rig.refused(-32002, client, "m")
    assert.is_true(core.now() - began < 1.1)
  end)
end)
