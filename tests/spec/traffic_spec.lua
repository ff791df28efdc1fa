--- Traffic: calls are counted and timed while somebody watches, and go their own way otherwise.
local rig = require("tests.spec.support.rig")
local traffic = require("perigee.traffic")

describe("traffic", function()
  local ended

  after_each(function()
    traffic.watch(nil)
    rig.clean()
  end)

  local function watch()
    ended = {}
    traffic.watch(function(one) ended[#ended + 1] = one end)
  end

  local function app()
    return rig.app(function(C, perigee)
      C:rpc_method("ping", function() return "pong" end)
      C:rpc_method("none", function() end)
      C:rpc_method("wait", function(_, seconds) perigee.sleep(seconds) end)
      C:rpc_method("refuse", function() return nil, perigee.error { code = 7, message = "no" } end)
      C:rpc_method("raise", function() error(perigee.error { message = "text" }) end)
      C:rpc_method("fault", function() return nil .. "x" end)
      C:rpc_method("typed", { params = { { "n", "integer" } } }, function(_, n) return n end)
      C:rpc_method("slow", { timeout = 1 }, function() perigee.sleep(10) end)
      C:rpc_notification("note", function() end)
    end)
  end

  --- What was counted, by method.
  local function counted()
    local by_method = {}
    for _, one in ipairs(traffic.take(true)) do by_method[one.method] = one end
    return by_method
  end

  it("counts nothing while nobody watches", function()
    local client = app():connect("/test")
    client:call("ping")
    watch()
    assert.same({}, traffic.take(true))
    client:call("ping")
    assert.equal(1, counted().ping.calls)
    traffic.watch(nil)
    client:call("ping")
    assert.same({}, traffic.take(true))
    assert.equal(1, #ended)
  end)

  it("counts every way a call can end", function()
    watch()
    local client = app():connect("/test")
    client:call("ping")
    client:call("none")
    client:call("wait", 2)
    client:notify("note")
    local codes = { refuse = 7, raise = -32000, fault = -32603, typed = -32602, slow = -32002 }
    for method in pairs(codes) do client:try(method, method == "typed" and "x" or nil) end
    local found = counted()
    for _, method in ipairs { "ping", "none", "wait", "note" } do
      assert.equal(1, found[method].calls)
      assert.equal(0, found[method].errors)
    end
    for method, code in pairs(codes) do
      assert.equal(1, found[method].calls, method)
      assert.equal(1, found[method].errors, method)
      for _, one in ipairs(ended) do
        if one.method == method then assert.equal(code, one.err.code) end
      end
    end
    assert.equal(9, #ended)
  end)

  it("takes times", function()
    watch()
    local client = app():connect("/test")
    for _ = 1, 5 do client:call("ping") end
    local one = counted().ping
    assert.is_true(one.max > 0 and one.seconds >= one.max and one.seconds < 60)
    local n = 0
    for bucket, calls in pairs(one.buckets) do
      assert.is_true(bucket >= 0 and bucket <= 40)
      n = n + calls
    end
    assert.equal(5, n)
  end)

  it("has a bucket for every time", function()
    assert.equal(0, traffic.bucket(0))
    assert.equal(0, traffic.bucket(0.9e-6))
    assert.equal(1, traffic.bucket(1e-6))
    assert.equal(2, traffic.bucket(2e-6))
    assert.equal(2, traffic.bucket(3.9e-6))
    assert.equal(10, traffic.bucket(1e-3))
    assert.equal(20, traffic.bucket(1))
    assert.equal(40, traffic.bucket(1e30))
  end)

  it("gives what has changed once", function()
    watch()
    local client = app():connect("/test")
    client:call("ping")
    assert.equal(1, #traffic.take(false))
    assert.equal(0, #traffic.take(false))
    client:call("none")
    local list = traffic.take(false)
    assert.equal(1, #list)
    assert.equal("none", list[1].method)
    assert.equal(2, #traffic.take(true))
  end)

  it("tells of names that nobody registered, and does not count them one by one", function()
    watch()
    local client = app():connect("/test")
    for i = 1, 20 do client:try("no such " .. i) end
    assert.equal(20, #ended)
    assert.equal("no such 1", ended[1].method)
    assert.equal(-32601, ended[1].err.code)
    assert.same({}, traffic.take(true))
  end)

  it("lets calls end that began before", function()
    local client = app():connect("/test")
    client:send('{"jsonrpc":"2.0","id":1,"method":"wait","params":[2]}')
    watch()
    client.app:advance(5)
    assert.same({}, ended)
    client:send('{"jsonrpc":"2.0","id":2,"method":"wait","params":[2]}')
    traffic.watch(nil)
    client.app:advance(5)
    assert.same({}, ended)
  end)

  it("counts HTTP and batches, too", function()
    watch()
    local one = app()
    one:post("/test", '{"jsonrpc":"2.0","id":1,"method":"ping"}')
    one:connect("/test"):exchange('[{"jsonrpc":"2.0","id":1,"method":"ping"},'
      .. '{"jsonrpc":"2.0","id":2,"method":"fault"}]')
    local found = counted()
    assert.equal(2, found.ping.calls)
    assert.equal(1, found.fault.errors)
  end)
end)
