--- Time limits of calls, and calls that their client takes back.
local rig = require("tests.spec.support.rig")

local NOT_FOUND, TIMEOUT, CANCELLED = -32601, -32002, -32800

describe("time limits", function()
  local app, client, ended

  --- An app with a method m that sleeps as long as it is told, then says so.
  local function given(options, consumer_options)
    app = rig.app(consumer_options or {}, function(C, perigee)
      C:rpc_method("m", options or {}, function(_, seconds)
        perigee.sleep(seconds)
        ended = true
        return "in time"
      end)
    end)
    client = app:connect("/test")
    ended = false
  end

  --- Seconds after which a call of m that would take `seconds` is answered with a timeout.
  local function times_out(seconds)
    local err
    local took = rig.duration(function() err = rig.refused(TIMEOUT, client, "m", seconds) end)
    assert.equal("Timeout", err.message)
    assert.near(took, err.data.timeout, 0.01)
    return took
  end

  it("are 30 seconds", function()
    given()
    assert.equal("in time", client:call("m", 29.9))
    assert.near(30, times_out(31), 0.01)
  end)

  it("are 30 seconds for a connect hook too, as its client waits for the handshake", function()
    local seconds
    app = rig.app(function(C, perigee)
      C.connect = function() perigee.sleep(seconds) end
    end)
    seconds = 29.9
    assert.truthy(app:try_connect("/test"))
    seconds = 30.1
    local _, refusal
    local took = rig.duration(function() _, refusal = app:try_connect("/test") end)
    assert.equal(500, refusal.status)
    assert.near(30, took, 0.01)
  end)

  it("may be set for a consumer", function()
    given(nil, { timeout = 2 })
    assert.equal("in time", client:call("m", 1.9))
    assert.near(2, times_out(3), 0.01)
  end)

  it("may be set for a method", function()
    given({ timeout = 0.25 }, { timeout = 2 })
    assert.equal("in time", client:call("m", 0.2))
    assert.near(0.25, times_out(1), 0.01)
  end)

  it("may be none", function()
    given { timeout = false }
    assert.equal("in time", client:call("m", 55))
    given(nil, { timeout = false })
    assert.equal("in time", client:call("m", 55))
    given({ timeout = 1 }, { timeout = false })
    assert.near(1, times_out(2), 0.01)
  end)

  it("of 0 are none", function()
    given { timeout = 0 }
    assert.equal("in time", client:call("m", 55))
  end)

  it("stop the handler where it waits", function()
    given { timeout = 1 }
    times_out(2)
    app:advance(10)
    assert.is_false(ended)
    rig.no_errors(app)
  end)

  it("run over all waits of a call together", function()
    app = rig.app({ timeout = 1 }, function(C, perigee)
      C:rpc_method("m", function()
        for _ = 1, 10 do perigee.sleep(0.3) end
      end)
    end)
    client = app:connect("/test")
    assert.near(1, times_out(nil), 0.01)
  end)

  it("count what middleware and permission wait", function()
    app = rig.app({ timeout = 1 }, function(C, perigee)
      C:use(function(_, next)
        perigee.sleep(0.6)
        return next()
      end)
      C:rpc_method("m", { permission = function()
        perigee.sleep(0.6)
        return true
      end }, function() return "in time" end)
    end)
    client = app:connect("/test")
    assert.near(1, times_out(nil), 0.01)
  end)

  it("cannot be caught: the caller is told at the end, and no result counts", function()
    app = rig.app({ timeout = 1 }, function(C, perigee)
      C:rpc_method("m", function(ctx)
        local ok, err = pcall(perigee.sleep, 5)
        ctx:notify("caught", { ok, err.code })
        return "a result all the same"
      end)
    end)
    client = app:connect("/test")
    assert.near(1, times_out(nil), 0.01)
    assert.same({ false, TIMEOUT }, client:expect("caught"))
  end)

  it("that were caught end every wait that follows, at once", function()
    app = rig.app({ timeout = 1 }, function(C, perigee)
      C:rpc_method("m", function(ctx)
        for i = 1, 3 do
          pcall(perigee.sleep, 5)
          ctx:notify("woken", { i })
        end
        perigee.sleep(5)
      end)
    end)
    client = app:connect("/test")
    assert.near(1, times_out(nil), 0.01)
    for i = 1, 3 do assert.same({ i }, client:expect("woken")) end
  end)

  it("run to-be-closed variables of what they stop", function()
    app = rig.app({ timeout = 1 }, function(C, perigee)
      C:rpc_method("m", function(ctx)
        local guard <close> = setmetatable({}, { __close = function() ctx:notify("closed") end })
        perigee.sleep(5)
        return guard
      end)
    end)
    client = app:connect("/test")
    times_out(nil)
    client:expect("closed")
  end)

  it("hold for a batch's members one by one", function()
    given { timeout = 1 }
    local answer = client:exchange(("[%s,%s]"):format(rig.request("m", "[5]", "1"), rig.request("m", "[0.5]", "2")))
    assert.equal(TIMEOUT, answer[1].error.code)
    assert.equal("in time", answer[2].result)
  end)

  it("hold over HTTP", function()
    given { timeout = 1 }
    assert.equal(TIMEOUT, rig.post_call(app, "m", "[5]").error.code)
  end)

  it("hold for notifications, in silence", function()
    app = rig.app(function(C, perigee)
      C:rpc_notification("n", { timeout = 1 }, function()
        perigee.sleep(5)
        ended = true
      end)
    end)
    ended = false
    client = app:connect("/test")
    client:notify("n")
    app:advance(10)
    assert.is_false(ended)
    assert.is_nil(next(client.answers))
  end)

  it("are told to on_error", function()
    app = rig.app({ timeout = 1 }, function(C, perigee)
      C:rpc_method("m", function() perigee.sleep(5) end)
      C:rpc_method("stubborn", function() pcall(perigee.sleep, 5) end)
      C:on_error(function(ctx, err)
        perigee.sleep(0.1)
        ctx:notify("failed", { ctx.method, err.code })
      end)
    end)
    client = app:connect("/test")
    rig.refused(TIMEOUT, client, "m")
    assert.same({ "m", TIMEOUT }, client:expect("failed"))
    rig.refused(TIMEOUT, client, "stubborn")
    assert.same({ "stubborn", TIMEOUT }, client:expect("failed"))
  end)

  it("do not hold for what a handler spawns", function()
    app = rig.app({ timeout = 1 }, function(C, perigee)
      C:rpc_method("m", function()
        perigee.spawn(function()
          perigee.sleep(50)
          ended = true
        end)
      end)
    end)
    ended = false
    app:connect("/test"):call("m")
    app:advance(51)
    assert.is_true(ended)
  end)

  describe("in ctx.deadline", function()
    local function deadline(options)
      app = rig.app(function(C, perigee)
        C:rpc_method("m", options, function(ctx)
          local at_first, now = ctx.deadline, perigee.now()
          perigee.sleep(1)
          return { at_first and at_first - now, ctx.deadline and ctx.deadline - now }
        end)
      end)
      return app:connect("/test"):call("m")
    end

    it("are the time at which the call ends, by perigee.now()", function()
      local given_deadline = deadline { timeout = 10 }
      assert.near(10, given_deadline[1], 0.01)
      assert.near(10, given_deadline[2], 0.01)
    end)

    it("are nil when there is none", function()
      assert.same({}, deadline { timeout = false })
    end)
  end)
end)

describe("$/cancelRequest", function()
  local app, client, log

  before_each(function()
    log = {}
    app = rig.app(function(C, perigee)
      C:rpc_method("m", function(_, seconds)
        log[#log + 1] = "begun"
        perigee.sleep(seconds or 5)
        log[#log + 1] = "ended"
        return "result"
      end)
      C:rpc_method("stubborn", function()
        pcall(perigee.sleep, 5)
        return "result"
      end)
    end)
    client = app:connect("/test")
  end)

  --- Sends these texts and returns the first answer, and the time it took.
  local function race(...)
    for _, text in ipairs { ... } do client:send(text) end
    local answer
    local took = rig.duration(function()
      repeat
        app:advance(0.1)
        answer = table.remove(client.batches, 1)
        if not answer then
          local _, one = next(client.answers)
          answer = one
        end
      until answer
    end)
    return answer, took
  end

  it("ends a call where it waits: the answer is -32800", function()
    local answer, took = race(rig.request("m", nil, "7"), rig.notification("$/cancelRequest", "[7]"))
    assert.equal(7, answer.id)
    assert.equal(CANCELLED, answer.error.code)
    assert.equal("Cancelled", answer.error.message)
    assert.is_true(took < 1)
    app:advance(10)
    assert.same({ "begun" }, log)
    rig.no_errors(app)
  end)

  it("takes the id by name as well, and ids of any type", function()
    local answer = race(rig.request("m", nil, '"x"'), rig.notification("$/cancelRequest", '{"id":"x"}'))
    assert.equal("x", answer.id)
    assert.equal(CANCELLED, answer.error.code)
  end)

  it("cannot be caught either", function()
    local answer, took = race(rig.request("stubborn"), rig.notification("$/cancelRequest", "[1]"))
    assert.equal(CANCELLED, answer.error.code)
    assert.is_true(took < 1)
  end)

  it("reaches members of a batch", function()
    local answer = race("[" .. rig.request("m", nil, "1") .. "," .. rig.request("m", "[1]", "2") .. "]",
      rig.notification("$/cancelRequest", "[1]"))
    assert.equal(CANCELLED, answer[1].error.code)
    assert.equal("result", answer[2].result)
  end)

  it("does not queue behind the call it means on a strictly ordered connection", function()
    app = rig.app({ strict_ordering = true }, function(C, perigee)
      C:rpc_method("m", function() perigee.sleep(5) end)
    end)
    client = app:connect("/test")
    local answer, took = race(rig.request("m", nil, "7"), rig.notification("$/cancelRequest", "[7]"))
    assert.equal(CANCELLED, answer.error and answer.error.code)
    assert.is_true(took < 1)
  end)

  it("of a call that has ended, or never was, is nothing", function()
    assert.equal("result", client:call("m", 0))
    client:notify("$/cancelRequest", client.last_id)
    client:notify("$/cancelRequest", "nobody")
    client:notify("$/cancelRequest")
    client:notify("$/cancelRequest", { 1 })
    client:expect_nothing()
    assert.equal("result", client:call("m", 1))
    rig.no_errors(app)
  end)

  it("does not reach calls of other connections", function()
    local other = app:connect("/test")
    client:send(rig.request("m", "[1]", "7"))
    other:notify("$/cancelRequest", 7)
    app:advance(2)
    assert.equal("result", client.answers[7].result)
  end)

  it("is no method: a request of that name is not found", function()
    rig.refused(NOT_FOUND, client, "$/cancelRequest", 1)
  end)
end)
