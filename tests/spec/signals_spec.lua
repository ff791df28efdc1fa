--- Signals: what happens in the server, told to functions that asked for it.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")
local signals = require("perigee.signals")
local testing = require("perigee.testing")

describe("signals", function()
  local app, client, seen

  --- An app that notes these signals as { name, what describe makes of its event }.
  local function given(names, describe_event, more)
    seen = {}
    app = rig.app(function(C, perigee)
      for _, name in ipairs(names) do
        perigee.on(name, function(event) seen[#seen + 1] = { name, describe_event(event) } end)
      end
      C:rpc_method("m", function(_, value) return value end)
      C:rpc_method("fail", function() return nil, "text" end)
      C:rpc_method("fault", function() return 1 + nil end)
      C:rpc_method("sleep", { timeout = 1 }, function() perigee.sleep(2) end)
      C:rpc_method("typed", { params = { { "n", "integer" } } }, function(_, n) return n end)
      C:rpc_method("denied", { permission = function() return false end }, function() end)
      C:rpc_notification("n", function() end)
      if more then more(C, perigee) end
    end)
    client = app:connect("/test")
  end

  local CALLS = { "rpc_method_started", "rpc_method_completed", "rpc_method_failed" }

  local function method_of(event) return event.ctx.method end

  it("of calls: started and completed", function()
    given(CALLS, method_of)
    client:call("m", 1)
    assert.same({ { "rpc_method_started", "m" }, { "rpc_method_completed", "m" } }, seen)
  end)

  it("server_started comes to each app when it is served, and may wait", function()
    seen = {}
    local function declare(perigee)
      perigee.on("server_started", function()
        perigee.sleep(1)
        seen[#seen + 1] = "started"
      end)
      perigee.on("server_started", function() seen[#seen + 1] = "at once" end)
      return perigee.consumer {}
    end
    app = testing.app(declare)
    app:advance(0)
    assert.same({ "at once" }, seen)
    app:advance(1)
    assert.same({ "at once", "started" }, seen)
    app:reload(declare)
    app:advance(1)
    assert.same({ "at once", "started", "at once", "started" }, seen)
    app:reload(function(perigee) return perigee.consumer {} end)
    app:advance(1)
    assert.equal(4, #seen)
  end)

  it("receivers that loop end with their app", function()
    local ticks = 0
    app = testing.app(function(perigee)
      perigee.on("app_loaded", function() while true do ticks = ticks + 1 perigee.sleep(1) end end)
      return perigee.consumer {}
    end)
    app:advance(3)
    assert.is_true(ticks >= 3)
    app:reload(function(perigee) return perigee.consumer {} end)
    ticks = 0
    app:advance(10)
    assert.equal(0, ticks)
    rig.no_errors(app)
  end)

  it("receivers may go while one before them waits", function()
    given({ "rpc_method_started" }, method_of, function(_, perigee)
      perigee.on("rpc_method_started", function() perigee.sleep(5) end)
      perigee.on("rpc_method_started", function() seen[#seen + 1] = "the last" end)
    end)
    client:send(rig.request("m", "[1]", "1"))
    rig.settle()
    app:reload(function(perigee)
      local C = perigee.consumer {}
      C:rpc_method("ping", function() return "pong" end)
      return C
    end)
    app:advance(10)
    rig.no_errors(app)
    rig.still_serves(client, "ping")
    assert.same({ { "rpc_method_started", "m" } }, seen)
  end)

  it("of calls: started and failed, whatever the error", function()
    given(CALLS, function(event) return event.error and event.error.code end)
    for method, code in pairs { fail = -32000, fault = -32603, sleep = -32002, typed = -32602, denied = -32003 } do
      seen = {}
      rig.refused(code, client, method)
      assert.same({ { "rpc_method_started" }, { "rpc_method_failed", code } }, seen)
    end
  end)

  it("of calls that catch their timeout: failed, as their caller is told", function()
    given(CALLS, function(event) return event.error and event.error.code end, function(C, perigee)
      C:rpc_method("stubborn", { timeout = 1 }, function()
        pcall(perigee.sleep, 2)
        return "late"
      end)
    end)
    rig.refused(-32002, client, "stubborn")
    assert.same({ { "rpc_method_started" }, { "rpc_method_failed", -32002 } }, seen)
  end)

  it("of calls come for notifications as well", function()
    given(CALLS, method_of)
    client:notify("n")
    assert.same({ { "rpc_method_started", "n" }, { "rpc_method_completed", "n" } }, seen)
  end)

  it("of calls do not come for methods that do not exist", function()
    given(CALLS, method_of)
    client:try("nope")
    client:notify("nope")
    assert.same({}, seen)
  end)

  it("of completed calls carry the result and the seconds", function()
    given({ "rpc_method_completed" }, function(event)
      return { event.result, type(event.seconds), event.seconds >= 0 }
    end)
    client:call("m", { a = 1 })
    assert.same({ { "rpc_method_completed", { { a = 1 }, "number", true } } }, seen)
  end)

  it("of failed calls carry the fault, with its id", function()
    local id
    given({ "rpc_method_failed" }, function(event) id = event.error.id end)
    assert.equal(rig.refused(-32603, client, "fault").data.error_id, id)
    assert.is_string(id)
  end)

  it("of connections carry the consumer, and how it ended", function()
    given({ "client_connected", "client_disconnected" }, function(event)
      return { event.consumer.name, event.consumer.scope.path, event.code, event.reason }
    end, function(C)
      function C:connect() self.name = "Ann" end
    end)
    client:close(4000, "bye")
    assert.same({
      { "client_connected", { "Ann", "/test" } },
      { "client_disconnected", { "Ann", "/test", 4000, "bye" } },
    }, seen)
  end)

  it("of connections come without any hook, and not for HTTP", function()
    given({ "client_connected", "client_disconnected" }, function(event) return event.consumer.transport end)
    client:abort()
    rig.post_call(app, "m")
    assert.same({ { "client_connected", "websocket" }, { "client_disconnected", "websocket" } }, seen)
  end)

  it("of connections do not come for those that were refused", function()
    seen = {}
    app = rig.app(function(C, perigee)
      function C:connect() return false end -- luacheck: no self
      perigee.on("client_connected", function() seen[#seen + 1] = "connected" end)
      perigee.on("client_disconnected", function() seen[#seen + 1] = "disconnected" end)
    end)
    assert.is_nil((app:try_connect("/test")))
    app:advance(1)
    assert.same({}, seen)
  end)

  it("of apps come when one is loaded", function()
    given({ "app_loaded" }, function(event) return event.app end)
    assert.same({ { "app_loaded", "test" } }, seen)
  end)

  it("reach all receivers, in the order they asked", function()
    given({ "rpc_method_started", "rpc_method_started" }, method_of, function(_, perigee)
      perigee.on("rpc_method_started", function() seen[#seen + 1] = "third" end)
    end)
    client:call("m")
    assert.equal(3, #seen)
    assert.equal("third", seen[3])
  end)

  it("may be asked for while the app runs", function()
    local on
    given({}, method_of, function(_, perigee) on = perigee.on end)
    client:call("m")
    on("rpc_method_started", function() seen[#seen + 1] = "started" end)
    client:call("m")
    assert.same({ "started" }, seen)
  end)

  it("go on when a receiver fails: it is logged, and the call is answered", function()
    given({}, method_of, function(_, perigee)
      for _, name in ipairs(CALLS) do
        perigee.on(name, function() return 1 + nil end)
        perigee.on(name, function() seen[#seen + 1] = name end)
      end
    end)
    assert.equal(1, client:call("m", 1))
    assert.same({ "rpc_method_started", "rpc_method_completed" }, seen)
    local logged = app:logged("signal receiver failed")
    assert.equal(2, #logged)
    assert.equal("rpc_method_started", logged[1].fields.signal)
    rig.has("attempt to perform arithmetic", logged[1].fields.error)
    rig.refused(-32000, client, "fail")
  end)

  it("of a failing receiver refuse no connection", function()
    given({}, method_of, function(_, perigee)
      perigee.on("client_connected", function() error("no") end)
      perigee.on("client_disconnected", function() error("no") end)
    end)
    assert.equal(1, client:call("m", 1))
    client:close()
    assert.equal(2, #app:logged("signal receiver failed"))
  end)

  it("end with the app that asked for them", function()
    given(CALLS, method_of)
    local before = seen
    given({}, method_of)
    client:call("m")
    assert.same({}, before)
    assert.is_false(signals.watches_calls())
  end)

  it("have names that are checked", function()
    given({}, method_of, function(_, perigee)
      rig.raises(function() perigee.on("client_conected", print) end,
        "perigee.on: there is no signal 'client_conected' (did you mean 'client_connected'?)")
      rig.raises(function() perigee.on("app_loaded") end, "the receiver must be a function")
      for _, name in ipairs {
        "client_connected", "client_disconnected", "rpc_method_started", "rpc_method_completed", "rpc_method_failed",
        "app_loaded", "app_reloaded", "app_reload_failed", "layer_down", "layer_up", "server_started",
        "server_draining",
      } do
        perigee.on(name, function() end)
      end
    end)
  end)

  it("cost calls nothing when nobody listens: no receiver, no guard", function()
    given({}, method_of)
    local call = require("perigee.call")
    local record = require("perigee.consumer").record
    local class
    app = rig.app(function(C, perigee)
      class = C
      C:rpc_method("m", function() end)
      perigee.on("client_connected", function() end)
    end)
    assert.equal(call.plain, record(class).requests.all.m.run)
    assert.equal(core.null, app:connect("/test"):call("m"))
  end)
end)
