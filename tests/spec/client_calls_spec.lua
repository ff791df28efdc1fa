--- Calls from the server to a client: ctx:call and self:call.
local core = require("perigee.core")
local pending = require("perigee.pending")
local rig = require("tests.spec.support.rig")

local TIMEOUT, UNAVAILABLE, CANCELLED, INTERNAL = -32002, -32006, -32800, -32603

describe("ctx:call", function()
  local app, client

  --- An app whose method ask calls the client, and returns what came of it.
  local function given(fn, options)
    app = rig.app(options or {}, function(C, perigee)
      C:rpc_method("ask", { timeout = false }, fn or function(ctx, method, params, opts)
        local result, err = ctx:call(method or "question", params, opts)
        if err then return { err.code, err.message, err.data } end
        return { result }
      end)
      C:rpc_method("ping", function() return "pong" end)
      C.perigee = perigee
    end)
    client = app:connect("/test")
  end

  --- Takes what the server has asked a client from what came.
  local function asked(of)
    rig.settle()
    local first
    for id, message in pairs((of or client).answers) do
      if message.method and (not first or id < first.id) then first = message end
    end
    assert(first, "the server asked nothing")
    of = of or client
    of.answers[first.id] = nil
    return first
  end

  local function answer(id, member, of)
    (of or client):send(('{"jsonrpc":"2.0",%s,"id":%s}'):format(member, core.json_encode(id)))
  end

  --- What ask returns when the client answers its question with this member.
  local function told(member)
    client:send(rig.request("ask", nil, "1"))
    answer(asked().id, member)
    local result = client.answers[1].result
    client.answers[1] = nil
    return result
  end

  --- What waits for an answer, by connection.
  local function by_conn()
    for i = 1, 10 do
      local name, value = debug.getupvalue(pending.abandon, i)
      if name == "by_conn" then return value end
    end
  end

  it("sends a request of JSON-RPC with an id of its own", function()
    given()
    client:send(rig.request("ask", '["what?",{"a":1}]'))
    local one = asked()
    assert.same({ jsonrpc = "2.0", method = "what?", params = { a = 1 }, id = one.id }, one)
    client:send(rig.request("ask", '["what?"]'))
    local two = asked()
    assert.is_nil(two.params)
    assert.not_equal(one.id, two.id)
  end)

  it("returns the client's result", function()
    given()
    assert.same({ 42 }, told '"result":42')
    assert.same({ { a = { 1, 2 } } }, told '"result":{"a":[1,2]}')
    assert.same({ false }, told '"result":false')
    assert.same({ core.null }, told '"result":null')
  end)

  it("returns nil and the client's error", function()
    given()
    assert.same({ 7, "no", { 1 } }, told '"error":{"code":7,"message":"no","data":[1]}')
  end)

  it("returns nil and an error when the client's answer holds what no Lua value can", function()
    given()
    local beyond = { -32000, "The client's answer cannot be read: a number beyond 64 bits" }
    for _, member in ipairs {
      '"result":9223372036854775808', '"result":-9223372036854775809', '"result":{"a":[1,1e999]}',
      '"error":{"code":9223372036854775808,"message":"no"}', '"error":{"code":1,"message":"no","data":1e999}',
      '"result":1e999,"error":null', '"result":null,"error":1e999', '"result":1,"error":{"data":1e999}',
    } do
      assert.same(beyond, told(member), member)
    end
    assert.same({ math.maxinteger }, told '"result":9223372036854775807')
    assert.same({ math.mininteger }, told '"result":-9223372036854775808')
  end)

  it("returns nil and an error when the client answers nothing", function()
    given()
    assert.same({ -32000, "The client's answer has neither a result nor an error" }, told '"error":null')
  end)

  it("reads an answer however its members are ordered, doubled or added to", function()
    given()
    assert.same({ 2 }, told '"error":null,"result":1,"x":1e999,"result":2')
    assert.same({ 3, "no" }, told '"result":null,"error":{"message":"no","code":3}')
    assert.same({ 3, "no" }, told '"result":1,"error":{"message":"no","code":3}')
  end)

  it("returns nil and an error even if the client's has no proper form", function()
    given()
    for _, bad in ipairs {
      '"text"', "5", "{}", "false", "[]", '{"code":"7","message":"no"}', '{"code":1.5,"message":"no"}',
    } do
      local result = told('"error":' .. bad)
      assert.same({ -32000, "The client answered with an error" }, { result[1], result[2] })
    end
  end)

  it("returns an error that a handler may pass on", function()
    given(function(ctx) return ctx:call("question") end)
    client:send(rig.request("ask"))
    answer(asked().id, '"error":{"code":7,"message":"no"}')
    assert.same({ code = 7, message = "no" }, client.answers[1].error)
  end)

  it("takes answers in the form of 1.0", function()
    given()
    client:send(rig.request("ask"))
    client:send(('{"result":5,"error":null,"id":"%s"}'):format(asked().id))
    assert.same({ 5 }, client.answers[1].result)
  end)

  it("takes answers in a batch", function()
    given()
    client:send(rig.request("ask", '["a"]', "1"))
    client:send(rig.request("ask", '["b"]', "2"))
    local a, b = asked().id, asked().id
    client:send(('[{"jsonrpc":"2.0","result":"a","id":"%s"},{"jsonrpc":"2.0","result":"b","id":"%s"}]'):format(a, b))
    assert.same({ "a" }, client.answers[1].result)
    assert.same({ "b" }, client.answers[2].result)
    assert.equal(0, #client.batches)
  end)

  it("is there as self:call, in hooks and events too", function()
    local seen = {}
    app = rig.app(function(C)
      function C:connect()
        self:accept()
        seen[1] = self:call("in connect")
      end
      C:on_event("e", function(self) seen[2] = self:call("in an event") end)
      C:rpc_method("poke", function(ctx) C:send(ctx.consumer.channel_name, { type = "e" }) end)
    end)
    client = app:connect("/test")
    answer(asked().id, '"result":1')
    client:call("poke")
    answer(asked().id, '"result":2')
    assert.same({ 1, 2 }, seen)
  end)

  describe("waits", function()
    it("while the client goes on calling", function()
      given()
      client:send(rig.request("ask", nil, "900"))
      assert.equal("pong", client:call("ping"))
      answer(asked().id, '"result":1')
      assert.same({ 1 }, client.answers[900].result)
    end)

    it("for the answer to its own question, in whichever order answers come", function()
      given()
      client:send(rig.request("ask", '["a"]', "1"))
      client:send(rig.request("ask", '["b"]', "2"))
      local a, b = asked(), asked()
      assert.same({ "a", "b" }, { a.method, b.method })
      answer(b.id, '"result":"to b"')
      answer(a.id, '"result":"to a"')
      assert.same({ "to a" }, client.answers[1].result)
      assert.same({ "to b" }, client.answers[2].result)
    end)

    it("of many at a time", function()
      given(function(ctx, n)
        local asks = {}
        for i = 1, n do asks[i] = function() return ctx:call("square", { i }) end end
        local sum = 0
        for _, result in ipairs(app.C.perigee.all(asks)) do sum = sum + result[1] end
        return sum
      end)
      app.C = app.app.consumers[1].class
      client:send(rig.request("ask", "[50]"))
      rig.settle()
      local questions = {}
      for _, message in pairs(client.answers) do questions[#questions + 1] = message end
      assert.equal(50, #questions)
      for _, q in ipairs(questions) do answer(q.id, ('"result":%d'):format(q.params[1] ^ 2)) end
      assert.equal(42925, client.answers[1].result)
    end)

    it("both ways at once: the client asks back before it answers", function()
      given(function(ctx, depth)
        if depth == 0 then return "the end" end
        return ctx:call("deeper", { depth - 1 })
      end)
      client:send(rig.request("ask", "[2]", '"outer"'))
      local question = asked()
      client:send(rig.request("ask", ("[%d]"):format(question.params[1]), '"inner"'))
      local inner = asked()
      client:send(rig.request("ask", ("[%d]"):format(inner.params[1]), '"innermost"'))
      assert.equal("the end", client.answers.innermost.result)
      answer(inner.id, '"result":"the end"')
      answer(question.id, ('"result":"%s"'):format(client.answers.inner.result))
      assert.equal("the end", client.answers.outer.result)
    end)
  end)

  describe("does not wait for ever:", function()
    local function waits(seconds, opts)
      given(function(ctx)
        local _, err = ctx:call("question", nil, opts)
        return { err.code, err.message, err.data }
      end)
      local result
      assert.near(seconds, rig.duration(function() result = client:call("ask") end), 0.01)
      assert.same({ TIMEOUT, "The client did not answer", { timeout = seconds } }, result)
    end

    it("30 seconds, or as long as it is told", function()
      waits(30)
      waits(2, { timeout = 2 })
    end)

    it("and afterwards nothing is kept of it, however it ended", function()
      given()
      local waiting, real = 0, core.peer_wait
      core.peer_wait = function(conn, n)
        waiting = waiting + n
        return real(conn, n)
      end
      finally(function() core.peer_wait = real end)
      local ends = {
        function(id) answer(id, '"result":1') end,
        function(id) answer(id, '"error":{"code":1,"message":"no"}') end,
        function() app:advance(2) end,
        function() client:send(rig.notification("$/cancelRequest", '{"id":"ask"}')) end,
        function() client:close() end,
      }
      for i, fn in ipairs(ends) do
        client:send(rig.request("ask", '["question",[],{"timeout":1}]', '"ask"'))
        local id = asked().id
        assert.equal(1, waiting, i)
        assert.is_not_nil(next(by_conn()))
        fn(id)
        rig.settle()
        assert.equal(0, waiting, i)
        assert.is_nil(next(by_conn()), i)
      end
    end)

    it("an answer that comes too late is ignored", function()
      given()
      client:send(rig.request("ask", '["question",[],{"timeout":1}]'))
      local id = asked().id
      app:advance(2)
      assert.equal(TIMEOUT, client.answers[1].result[1])
      client.answers = {}
      answer(id, '"result":1')
      assert.is_nil(next(client.answers))
      rig.still_serves(client, "ping")
      rig.no_errors(app)
    end)

    it("a client that leaves is an answer, at once", function()
      local results = {}
      given(function(ctx)
        local result, err = ctx:call("question")
        results[#results + 1] = { result, err.code, err.message }
      end)
      for _, leave in ipairs { "close", "abort" } do
        client:send(rig.request("ask"))
        client[leave](client)
        client = app:connect("/test")
      end
      assert.same({ { nil, UNAVAILABLE, "The client is gone" }, { nil, UNAVAILABLE, "The client is gone" } }, results)
    end)

    it("so is one that has left", function()
      local result
      given(function(ctx)
        app.app.consumers[1].class.perigee.sleep(1)
        local value, err = ctx:call("question")
        result = { value, err.code }
      end)
      client:send(rig.request("ask"))
      client:abort()
      assert.near(1, rig.duration(function() app:advance(1) end), 0.01)
      assert.same({ nil, UNAVAILABLE }, result)
    end)

    it("over HTTP there is nobody to call", function()
      given()
      assert.same({ UNAVAILABLE, "The client is gone" }, rig.post_call(app, "ask").result)
    end)

    it("it ends with the call it is part of", function()
      app = rig.app(function(C)
        C:rpc_method("ask", { timeout = 1 }, function(ctx) return ctx:call("question") end)
      end)
      client = app:connect("/test")
      rig.refused(TIMEOUT, client, "ask")
      client.answers = {}
      client:send(rig.request("ask", nil, "77"))
      local id = asked().id
      client:notify("$/cancelRequest", 77)
      assert.equal(CANCELLED, client.answers[77].error.code)
      answer(id, '"result":1')
      rig.no_errors(app)
    end)
  end)

  it("hears only the client it has asked", function()
    given()
    local other = app:connect("/test")
    client:send(rig.request("ask"))
    local id = asked().id
    answer(id, '"result":"forged"', other)
    assert.is_nil(client.answers[1])
    assert.equal(-32600, rig.post(app, '{"jsonrpc":"2.0","result":1}').error.code)
    rig.post(app, ('{"jsonrpc":"2.0","result":"forged","id":"%s"}'):format(id))
    assert.is_nil(client.answers[1])
    answer(id, '"result":"genuine"')
    assert.same({ "genuine" }, client.answers[1].result)
  end)

  it("refuses what is no call", function()
    --- Asserts that the handler fails with this in the log.
    local function fails(text, fn)
      given(fn)
      rig.refused(INTERNAL, client, "ask")
      rig.has(text, rig.the_error(app).fields.error)
    end
    fails("call: the method must be a string that is not empty", function(ctx) ctx:call() end)
    fails("call: the method must be a string that is not empty", function(ctx) ctx:call("") end)
    fails("call: params must be a table (or nothing), not a number", function(ctx) ctx:call("m", 5) end)
    fails("call: timeout must be a number of seconds above 0", function(ctx) ctx:call("m", {}, { timeout = 0 }) end)
    fails("call: timeout must be a number of seconds above 0", function(ctx) ctx:call("m", {}, { timeout = "0s" }) end)
    fails("call: timeout must be a number of seconds above 0", function(ctx) ctx:call("m", {}, { timeout = "x" }) end)
    fails("cannot encode params[0]: a function", function(ctx) ctx:call("m", { print }) end)
  end)
end)
