--- In which order calls of one connection run, and how many at a time.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

local TIMEOUT = -32002

describe("calls of one connection", function()
  local app, client, log

  --- An app whose method m(name, seconds) logs when it begins and ends.
  local function given(options)
    log = {}
    app = rig.app(options, function(C, perigee)
      local function run(_, name, seconds)
        log[#log + 1] = name .. " begins"
        if seconds then perigee.sleep(seconds) end
        log[#log + 1] = name .. " ends"
        return name
      end
      C:rpc_method("m", run)
      C:rpc_notification("n", run)
      C:rpc_method("ask", function(ctx, name)
        log[#log + 1] = name .. " asks"
        local answer = ctx:call("question")
        log[#log + 1] = name .. " hears " .. tostring(answer)
        return answer
      end)
      C:rpc_method("leave", function(ctx)
        ctx:close(4001)
        perigee.sleep(1)
      end)
      C:rpc_method("fail", function()
        perigee.sleep(1)
        return nil + 1
      end)
      function C:receive(data) -- luacheck: no self
        perigee.sleep(0.5)
        log[#log + 1] = "received " .. data
      end
    end)
    client = app:connect("/test")
  end

  local function send(...)
    for _, text in ipairs { ... } do client:send(text) end
  end

  local function m(name, seconds)
    return rig.request("m", ('["%s"%s]'):format(name, seconds and "," .. seconds or ""), '"' .. name .. '"')
  end

  --- The id of the question that the server has asked the client, once.
  local function question()
    rig.settle()
    for id, message in pairs(client.answers) do
      if message.method == "question" then
        client.answers[id] = nil
        return id
      end
    end
  end

  local function answer(id, value) client:send(('{"jsonrpc":"2.0","result":"%s","id":"%s"}'):format(value, id)) end

  describe("overlap while they wait, unless told otherwise:", function()
    it("answers come as calls end", function()
      given {}
      send(m("a", 2), m("b", 1))
      assert.same({ "a begins", "b begins" }, log)
      app:advance(1.5)
      assert.same({ "a begins", "b begins", "b ends" }, log)
      assert.not_nil(client.answers.b)
      assert.is_nil(client.answers.a)
      app:advance(1)
      assert.not_nil(client.answers.a)
    end)

    it("those that do not wait run one after the other anyway", function()
      given {}
      send(m("a"), m("b"))
      assert.same({ "a begins", "a ends", "b begins", "b ends" }, log)
    end)
  end)

  describe("with strict_ordering", function()
    before_each(function() given { strict_ordering = true } end)

    it("run one after the other, waits included", function()
      send(m("a", 2), m("b", 1), m("c"))
      assert.same({ "a begins" }, log)
      app:advance(4)
      assert.same({ "a begins", "a ends", "b begins", "b ends", "c begins", "c ends" }, log)
    end)

    it("keep notifications and requests in order", function()
      send(rig.notification("n", '["a",1]'), m("b"), rig.notification("n", '["c"]'))
      app:advance(2)
      assert.same({ "a begins", "a ends", "b begins", "b ends", "c begins", "c ends" }, log)
    end)

    it("keep frames that are not JSON-RPC in order as well", function()
      send(m("a", 1), "hello", m("b"))
      app:advance(2)
      assert.same({ "a begins", "a ends", "received hello", "b begins", "b ends" }, log)
    end)

    it("do not hold up other connections", function()
      send(m("a", 5))
      local other = app:connect("/test")
      assert.near(0, rig.duration(function() other:call("m", "b") end), 0.001)
    end)

    it("go on after one that failed, or ran out of time", function()
      send(rig.request("fail", nil, "1"), m("b", 60), m("c"))
      app:advance(40)
      assert.equal(-32603, client.answers[1].error.code)
      assert.equal(TIMEOUT, client.answers.b.error.code)
      assert.equal("c", client.answers.c.result)
    end)

    it("have their time from when they begin, not from when they came", function()
      for i = 1, 5 do send(m(tostring(i), 20)) end
      app:advance(101)
      for i = 1, 5 do assert.equal(tostring(i), client.answers[tostring(i)].result) end
    end)

    it("may call the client: its answer does not queue behind the call that waits for it", function()
      send(rig.request("ask", '["a"]', "1"), m("b"))
      local id = question()
      assert.same({ "a asks" }, log)
      answer(id, "yes")
      assert.same({ "a asks", "a hears yes", "b begins", "b ends" }, log)
      assert.equal("yes", client.answers[1].result)
    end)

    it("run a batch's members in order, and what comes after it later", function()
      send("[" .. m("a", 1) .. "," .. m("b") .. "," .. m("c", 1) .. "]", m("d"))
      app:advance(5)
      assert.same({
        "a begins", "a ends", "b begins", "b ends", "c begins", "c ends", "d begins", "d ends",
      }, log)
      assert.equal(3, #client.batches[1])
    end)

    it("that queue are dropped with their connection", function()
      send(m("a", 1), m("b"))
      client:abort()
      app:advance(5)
      assert.same({ "a begins", "a ends" }, log)
    end)

    it("queue up to the limit of calls; then the connection is not read", function()
      given { strict_ordering = true, limits = { calls = 3 } }
      for i = 1, 10 do send(m(tostring(i), 1)) end
      assert.same({ "1 begins" }, log)
      app:advance(11)
      assert.equal(20, #log)
      assert.equal("10 ends", log[20])
    end)

    it("queue up to the bytes of one message as well", function()
      given { strict_ordering = true, limits = { message = 1000 } }
      local long = rig.notification("n", '["' .. ("x"):rep(600) .. '"]')
      local pauses = core.metrics().call_pauses
      send(m("a", 1), long)
      assert.equal(pauses, core.metrics().call_pauses)
      send(long, m("b"))
      assert.equal(pauses + 1, core.metrics().call_pauses)
      app:advance(2)
      assert.equal(8, #log)
      assert.equal("b ends", log[8])
    end)
  end)

  describe("in flight", function()
    it("are as many as the limit: the connection is not read until one ends", function()
      given { limits = { calls = 2 } }
      local pauses = core.metrics().call_pauses
      send(m("a", 1), m("b", 2), m("c", 1.5), m("d"))
      assert.same({ "a begins", "b begins" }, log)
      assert.is_true(core.metrics().call_pauses > pauses)
      app:advance(1.5)
      assert.same({ "a begins", "b begins", "a ends", "c begins" }, log)
      app:advance(5)
      assert.same({
        "a begins", "b begins", "a ends", "c begins", "b ends", "d begins", "d ends", "c ends",
      }, log)
    end)

    it("are counted for each connection", function()
      given { limits = { calls = 1 } }
      send(m("a", 5))
      assert.near(0, rig.duration(function() app:connect("/test"):call("m", "b") end), 0.001)
    end)

    it("are counted for a batch's members one by one", function()
      given { limits = { calls = 2 } }
      send("[" .. m("a", 1) .. "," .. m("b", 1) .. "," .. m("c", 1) .. "," .. m("d", 1) .. "]")
      assert.same({ "a begins", "b begins" }, log)
      app:advance(1.5)
      assert.same({ "a ends", "b ends" }, { log[3], log[5] })
      app:advance(5)
      assert.equal(4, #client.batches[1])
    end)

    it("do not count while they wait for the client: its answer must be read", function()
      given { limits = { calls = 2 } }
      send(rig.request("ask", '["a"]', "1"), rig.request("ask", '["b"]', "2"), m("c"))
      assert.same({ "a asks", "b asks", "c begins", "c ends" }, log)
      answer(question(), "one")
      answer(question(), "two")
      assert.not_nil(client.answers[1])
      assert.not_nil(client.answers[2])
    end)

    it("count when the client does not answer many of them", function()
      given { limits = { calls = 2 } }
      for i = 1, 20 do send(rig.request("ask", ('["%d"]'):format(i), tostring(i))) end
      assert.equal(8, #log)
    end)

    it("do not keep the answer to a close frame from being read", function()
      given { limits = { calls = 1 } }
      local closed = core.metrics().connections_closed
      send(rig.request("leave", nil, "1"))
      assert.equal(4001, client:expect_close(0))
      rig.settle()
      assert.equal(closed + 1, core.metrics().connections_closed)
    end)

    it("leave the connection as it was when all have ended", function()
      given { limits = { calls = 1 } }
      for i = 1, 5 do send(m(tostring(i), 0.1)) end
      app:advance(1)
      assert.equal("x", client:call("m", "x"))
    end)
  end)
end)
