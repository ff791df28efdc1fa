--- perigee.testing itself: what its clients keep, forget, wait for, and say when it does not come.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")
local testing = require("perigee.testing")

describe("a test client", function()
  local app, client

  before_each(function()
    app = rig.app(function(C, perigee)
      C:rpc_method("echo", function(_, ...) return { ... } end)
      C:rpc_method("named", { params = { { "a", "integer" } } }, function(_, a) return a end)
      C:rpc_method("refuse", function() return nil, perigee.error { code = 7, message = "no" } end)
      C:rpc_method("later", { timeout = false }, function(_, seconds)
        perigee.sleep(seconds)
        return "done"
      end)
      C:rpc_notification("note", function(ctx, a, b) ctx:notify("noted", { a, b }) end)
      C:rpc_notification("note_in", function(ctx, seconds)
        perigee.sleep(seconds)
        ctx:notify("noted", { seconds })
      end)
      C:rpc_notification("raw", function(ctx, text, is_binary) ctx.consumer:send(text, is_binary) end)
      C:rpc_notification("log", function()
        perigee.log:warn("a warning", { b = 2, a = 1 })
        perigee.log:debug("not told")
      end)
      C:rpc_notification("bye", function(ctx, seconds)
        perigee.sleep(seconds)
        ctx:close(4001, "bye")
      end)
      function C.receive() end
    end)
    client = app:connect("/test")
  end)

  after_each(rig.clean)

  --- The text with which a function fails.
  local function failure(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    return err:gsub("^%S+:%d+: ", "")
  end

  it("calls with positions, with names, and leaves out nil at the end only", function()
    assert.same({ 1, core.null, 3 }, client:call("echo", 1, nil, 3))
    assert.same({ 1 }, client:call("echo", 1, nil, nil))
    assert.same({}, client:call("echo"))
    assert.equal(5, client:call_named("named", { a = 5 }))
    assert.same({ true, 6 }, { client:try_named("named", { a = 6 }) })
    assert.is_false((client:try_named("named", { b = 6 })))
    local ok, err = client:try("refuse")
    assert.same({ false, 7, "no" }, { ok, err.code, err.message })
    local text = failure(client.call, client, "refuse")
    rig.has("the call 'refuse' was answered with an error: {", text)
    rig.has('"code":7', text)
    rig.has("}\nnothing arrived", text)
  end)

  it("waits a virtual minute for an answer, and not longer", function()
    assert.equal("done", client:call("later", 59.9))
    local from = core.now()
    rig.has("no answer to the call 'later' within 60 s of virtual time", failure(client.call, client, "later", 61))
    assert.near(60, core.now() - from, 0.01)
    testing.CALL_SECONDS = 60
  end)

  it("waits a virtual second for a notification, or as long as it is told", function()
    for _, case in ipairs { { 0.9 }, { 4.9, 5 } } do
      client:notify("note_in", case[1])
      assert.same({ case[1] }, client:expect("noted", case[2]))
    end
    for _, case in ipairs { { 1.1, nil, 1 }, { 5.1, 5, 5 } } do
      client:notify("note_in", case[1])
      local from = core.now()
      local text = failure(client.expect, client, "noted", case[2])
      assert.equal("expected the notification 'noted'\nnothing arrived", text)
      assert.near(case[3], core.now() - from, 0.01)
      app:advance(0.2)
      client:clear()
    end
  end)

  it("keeps notifications until they are expected, in their order, and forgets them when told to", function()
    client:notify("note", 1)
    client:notify_named("note", { 2 })
    client:notify("raw", "text")
    assert.equal("expected the notification 'other'\narrived instead:\n  noted [1]\n  noted [2]\n  message \"text\"",
      failure(client.expect, client, "other"))
    assert.same({ 1 }, client:expect("noted"))
    client:expect_nothing("other")
    rig.has("expected no notification 'noted'\narrived instead:", failure(client.expect_nothing, client, "noted"))
    assert.same({ 2 }, client:expect("noted"))
    client:expect_nothing("noted")
    rig.has("expected nothing\narrived instead:\n  message \"text\"", failure(client.expect_nothing, client))
    client:notify("note", 3)
    client:clear()
    client:expect_nothing()
    assert.equal("no message came\nnothing arrived", failure(client.receive, client))
  end)

  it("takes messages that are no JSON-RPC, text and binary", function()
    client:notify("raw", "text")
    client:notify("raw", "\0é", true)
    client:notify("raw", '{"id":1,"result":1}', true)
    assert.same({ "text", false }, { client:receive() })
    assert.same({ "\0é", true }, { client:receive() })
    assert.same({ '{"id":1,"result":1}', true }, { client:receive() })
  end)

  it("says what was logged, but for debug", function()
    client:notify("log")
    assert.equal("no message came\nnothing arrived\nlogged meanwhile:\n  warn  a warning a=1 app=test b=2 generation=1",
      failure(client.receive, client))
    assert.equal(1, #app:logged("a warning"))
    assert.equal(0, #app:logged("another"))
    assert.equal(2, #app:logged())
  end)

  it("shows values, long ones in part", function()
    for n, shown in pairs { [298] = ("x"):rep(298) .. '"', [299] = ("x"):rep(299) .. "…" } do
      client:notify("raw", ("x"):rep(n))
      assert.equal('expected nothing\narrived instead:\n  message "' .. shown, failure(client.expect_nothing, client))
      client:clear()
    end
  end)

  it("knows how its connection ended", function()
    client:notify("bye", 0.9)
    assert.same({ 4001, "bye" }, { client:expect_close() })
    assert.equal("the connection is closed: 4001 bye", failure(client.call, client, "echo"))
    rig.has("nothing arrived\nthe connection was closed: 4001 bye", failure(client.expect, client, "noted"))
    local other = app:connect("/test")
    other:notify("bye", 1.1)
    assert.equal("expected the connection to be closed\nnothing arrived", failure(other.expect_close, other))
    assert.equal(4001, (other:expect_close(1)))
    local third = app:connect("/test")
    third:abort()
    assert.same({ code = 1006, reason = "" }, third.closed)
    third:close()
    client:close()
  end)

  it("exchanges texts that no library would send", function()
    assert.same({ jsonrpc = "2.0", id = 5, result = {} }, client:exchange('{"jsonrpc":"2.0","method":"echo","id":5}'))
    assert.equal(2, #client:exchange(("[%s,%s]"):format(rig.request("echo", nil, "1"), rig.request("echo", nil, "2"))))
    local from = core.now()
    assert.is_nil(client:exchange('{"jsonrpc":"2.0","method":"none"}'))
    assert.near(testing.EXPECT_SECONDS, core.now() - from, 0.01)
  end)
end)

describe("a test app", function()
  after_each(rig.clean)

  it("has one name for each way it is given", function()
    local folder = rig.folder {
      ["shop/init.lua"] = 'return require("perigee").consumer {}',
      ["shop/stock.lua"] = "return { n = 5 }",
      ["desk.lua"] = 'return require("perigee").consumer {}',
    }
    assert.equal("shop", testing.app(folder .. "/shop").name)
    assert.equal(5, testing.app(folder .. "/shop//"):require("shop.stock").n)
    assert.equal("desk", testing.app(folder .. "/desk.lua").name)
    local function declare(perigee) return perigee.consumer {} end
    assert.equal("test", testing.app(declare).name)
    assert.equal("mine", testing.app(declare, "mine").name)
    for _, path in ipairs { folder, folder .. "/desk", folder .. "/none.lua", folder .. "/shop/init" } do
      rig.raises(function() testing.app(path) end, "testing.app: there is no app at " .. path)
    end
  end)

  it("is the only one, and starts with nothing logged or shared", function()
    local first = rig.app(function(C, perigee)
      perigee.log:info("first")
      perigee.spawn(function() perigee.shared("s"):set("k", 1) end)
      C:rpc_method("ping", function() return 1 end)
    end)
    local client = first:connect("/test")
    assert.equal(1, #first:logged("first"))
    local value = 0
    local second = rig.app(function(_, perigee)
      perigee.spawn(function() value = perigee.shared("s"):get("k") end)
    end)
    rig.settle()
    assert.is_nil(value)
    assert.is_not_nil(client.closed)
    assert.equal(0, #second:logged("first"))
  end)

  it("is asked over HTTP with what a client would send", function()
    local app = rig.app(function(C)
      C:rpc_method("add", function(_, a, b) return a + b end)
      C:get("page", function(ctx) return 200, ctx.headers["x-a"] or "none" end)
    end)
    assert.equal(3, app:post_call("/test", "add", 1, 2))
    assert.equal("none", app:get("/test/page").body)
    assert.equal("1", app:get("/test/page", { ["X-A"] = "1" }).body)
    assert.equal(405, app:request("DELETE", "/test/page").status)
    assert.equal(415, app:post("/test", "{}", {}).status)
    rig.raises(function() app:post_call("/test", "none") end, "the call 'none' was answered with 200 {")
    local client, refusal = app:try_connect("/none")
    assert.is_nil(client)
    assert.equal(404, refusal.status)
    assert.equal("a", app:connect("/test", { subprotocols = {}, headers = { ["X-B"] = "a" } }) and "a")
  end)

  it("moves its clock to the end of what it is told, and no further", function()
    local at = {}
    local app = rig.app(function(_, perigee)
      for _, seconds in ipairs { 1, 2, 3 } do
        perigee.after(seconds, function() at[#at + 1] = seconds end)
      end
    end)
    local from = core.now()
    app:advance(0.999)
    assert.same({}, at)
    app:advance(1.001)
    assert.same({ 1, 2 }, at)
    assert.near(2, core.now() - from, 1e-6)
    app:stop()
    app:advance(5)
    assert.same({ 1, 2 }, at)
  end)

  it("goes on with the old code when the new one fails", function()
    local function version(n)
      return function(perigee)
        local C = perigee.consumer { path = "/test" }
        C:rpc_method("version", function() return n end)
        if n == 2 then error("not this one") end
        return C
      end
    end
    local app = testing.app(version(1))
    local client = app:connect("/test")
    local ok, err = app:try_reload(version(2))
    assert.is_false(ok)
    rig.has("not this one", err)
    assert.equal(1, client:call("version"))
    app:reload(version(3))
    assert.equal(3, client:call("version"))
    assert.is_true((app:try_reload()))
    assert.equal(3, client:call("version"))
  end)
end)
