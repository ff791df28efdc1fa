--- JSON-RPC 2.0 and 1.0, as clients see them on the wire.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

local null = core.null
local PARSE, INVALID_REQUEST, NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
local TOO_LARGE = -32001

--- The methods of the specification's examples, and some of our own.
local function declare(noted)
  return function(C, perigee)
    C:rpc_method("subtract", function(_, minuend, subtrahend) return minuend - subtrahend end)
    C:rpc_method("sum", function(_, ...)
      local sum = 0
      for _, n in ipairs { ... } do sum = sum + n end
      return sum
    end)
    C:rpc_method("get_data", function() return { "hello", 5 } end)
    C:rpc_method("echo", function(_, value) return value end)
    C:rpc_method("sleep", function(_, seconds)
      perigee.sleep(seconds)
      return seconds
    end)
    C:rpc_method("fail", function() return nil, "fake_error" end)
    C:rpc_notification("note", function(_, ...) noted[#noted + 1] = { ... } end)
    C:rpc_notification("update", function() end)
    C:rpc_notification("notify_hello", function() end)
    C:rpc_notification("notify_sum", function() end)
    C:rpc_notification("broken", function() error("nobody hears this") end)
  end
end

describe("JSON-RPC", function()
  local app, client, noted

  before_each(function()
    noted = {}
    app = rig.app(declare(noted))
    client = app:connect("/test")
  end)

  --- The body of the answer over HTTP, byte by byte.
  local function body(text) return app:post("/test", text).body end

  --- Asserts that a text is answered with an error, and returns it.
  local function refused(code, id, text)
    local answer = client:exchange(text)
    assert.not_nil(answer, "no answer to " .. text)
    assert.equal("2.0", answer.jsonrpc)
    assert.is_nil(answer.result)
    assert.not_nil(answer.error, "a result for " .. text)
    assert.equal(code, answer.error.code, text)
    assert.equal(id, answer.id)
    return answer.error
  end

  --- Asserts that a text is not answered, over neither transport.
  local function silent(text)
    assert.is_nil(client:exchange(text), text)
    local response = app:post("/test", text)
    assert.equal(204, response.status, text)
    assert.equal("", response.body)
  end

  describe("2.0", function()
    it("answers with the result and the id, in this order", function()
      assert.equal('{"jsonrpc":"2.0","result":19,"id":1}', body(rig.request("subtract", "[42,23]")))
      assert.equal('{"jsonrpc":"2.0","result":null,"id":"x"}', body(rig.request("echo", "[null]", '"x"')))
    end)

    it("answers with an error of code, message and data, in this order", function()
      assert.equal('{"jsonrpc":"2.0","error":{"code":-32000,"message":"fake_error","data":["fake_error"]},"id":1}',
        body(rig.request("fail")))
    end)

    it("does what the specification's examples show", function()
      local examples = {
        { rig.request("subtract", "[42,23]"), '{"jsonrpc":"2.0","result":19,"id":1}' },
        { rig.request("subtract", "[23,42]", "2"), '{"jsonrpc":"2.0","result":-19,"id":2}' },
        { rig.request("subtract", '{"subtrahend":23,"minuend":42}', "3"), '{"jsonrpc":"2.0","result":19,"id":3}' },
        { rig.request("subtract", '{"minuend":42,"subtrahend":23}', "4"), '{"jsonrpc":"2.0","result":19,"id":4}' },
        { rig.notification("update", "[1,2,3,4,5]"), "" },
        { rig.notification("foobar"), "" },
        { rig.request("get_data", nil, '"9"'), '{"jsonrpc":"2.0","result":["hello",5],"id":"9"}' },
      }
      for _, example in ipairs(examples) do assert.equal(example[2], body(example[1])) end
      refused(NOT_FOUND, "1", rig.request("foobar", nil, '"1"'))
      refused(PARSE, null, '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]')
      refused(INVALID_REQUEST, null, '{"jsonrpc": "2.0", "method": 1, "params": "bar"}')
      refused(PARSE, null, '[{"jsonrpc":"2.0","method":"sum","params":[1,2,4],"id":"1"},{"jsonrpc":"2.0","method"]')
      refused(INVALID_REQUEST, null, "[]")
    end)

    it("does what the specification's example of a mixed batch shows", function()
      local answer = client:exchange(([=[
        [ {"jsonrpc":"2.0","method":"sum","params":[1,2,4],"id":"1"},
          {"jsonrpc":"2.0","method":"notify_hello","params":[7]},
          {"jsonrpc":"2.0","method":"subtract","params":[42,23],"id":"2"},
          {"foo":"boo"},
          {"jsonrpc":"2.0","method":"foo.get","params":{"name":"myself"},"id":"5"},
          {"jsonrpc":"2.0","method":"get_data","id":"9"} ]
      ]=]))
      assert.equal(5, #answer)
      assert.same({ jsonrpc = "2.0", result = 7, id = "1" }, answer[1])
      assert.same({ jsonrpc = "2.0", result = 19, id = "2" }, answer[2])
      assert.equal(INVALID_REQUEST, answer[3].error.code)
      assert.equal(null, answer[3].id)
      assert.equal(NOT_FOUND, answer[4].error.code)
      assert.equal("5", answer[4].id)
      assert.same({ jsonrpc = "2.0", result = { "hello", 5 }, id = "9" }, answer[5])
    end)

    it("ignores white space around a message and members it does not know", function()
      assert.equal('{"jsonrpc":"2.0","result":1,"id":1}',
        body(' \t\r\n{"x":[{}],"jsonrpc" : "2.0","method":"echo","meta":null, "params":[1],"id":1}\n '))
    end)

    it("reads the names of members and methods as JSON strings: escapes do not matter", function()
      assert.equal('{"jsonrpc":"2.0","result":1,"id":1}',
        body('{"\\u006asonrpc":"2.\\u0030","meth\\u006fd":"\\u0065cho","params":[1],"id":1}'))
    end)

    it("takes the last of equal members", function()
      assert.equal('{"jsonrpc":"2.0","result":2,"id":4}', body('{"jsonrpc":"1.5","method":"fail","id":[],"params":[1],'
        .. '"jsonrpc":"2.0","method":"echo","params":[2],"id":4}'))
    end)

    it("needs the string \"2.0\" when there is a member jsonrpc", function()
      for _, version in ipairs { "2.0", "2", '"2"', '"2.00"', '" 2.0"', '"1.0"', "null", "true", '["2.0"]' } do
        local err = refused(INVALID_REQUEST, 5, ('{"jsonrpc":%s,"method":"echo","id":5}'):format(version))
        rig.has("jsonrpc", err.message)
      end
    end)

    it("needs a method that is a string", function()
      refused(INVALID_REQUEST, 3, '{"jsonrpc":"2.0","id":3}')
      refused(INVALID_REQUEST, 3, '{"jsonrpc":"2.0","id":3,"Method":"echo"}')
      for _, method in ipairs { "1", "null", "true", '{"name":"echo"}', '["echo"]' } do
        refused(INVALID_REQUEST, 3, ('{"jsonrpc":"2.0","id":3,"method":%s}'):format(method))
      end
    end)

    it("refuses what is call and answer at once", function()
      refused(INVALID_REQUEST, 1, '{"jsonrpc":"2.0","method":"echo","result":1,"id":1}')
      refused(INVALID_REQUEST, 1, '{"jsonrpc":"2.0","method":"echo","error":{},"id":1}')
    end)

    it("refuses messages that are no object", function()
      for _, text in ipairs { "null", "1", "true", '"ping"' } do refused(INVALID_REQUEST, null, text) end
      refused(INVALID_REQUEST, null, "{}")
      refused(INVALID_REQUEST, null, '{"foo":"boo"}')
    end)

    it("does not know methods that nobody registered", function()
      local err = refused(NOT_FOUND, 1, rig.request("nope"))
      assert.equal("Method not found", err.message)
      assert.same({ method = "nope" }, err.data)
      for _, name in ipairs { "", "Echo", "echo\\n", "echo\\u0000", "_echo", "rpc.echo", "os.exit", "__index", "😀" } do
        refused(NOT_FOUND, 1, rig.request(name))
      end
    end)

    it("keeps requests and notifications apart", function()
      refused(NOT_FOUND, 1, rig.request("note", "[1]"))
      silent(rig.notification("echo", "[1]"))
      assert.same({}, noted)
    end)

    it("refuses params that are neither array nor object", function()
      for _, params in ipairs { "null", "1", '"text"', "true", '""' } do
        local err = refused(INVALID_PARAMS, 1, rig.request("echo", params))
        assert.equal("params", err.data.param)
      end
    end)

    it("refuses a method's name that is longer than the limit", function()
      assert.same({ limit = "method", max = 256 }, refused(TOO_LARGE, 1, rig.request(("x"):rep(257))).data)
      refused(NOT_FOUND, 1, rig.request(("x"):rep(256)))
    end)
  end)

  describe("ids", function()
    it("come back byte for byte", function()
      local long = '"' .. ("x"):rep(254) .. '"'
      for _, id in ipairs {
        "1", "0", "-1", "-0", "1.50", "1e2", "1E+2", "9223372036854775807", "10000000000000000000001", "2.0",
        '""', '"a"', '"null"', '"\\u00e9"', '"é"', '"\\ud83d\\ude00"', '"\\u0000"', long,
      } do
        assert.equal(('{"jsonrpc":"2.0","result":true,"id":%s}'):format(id), body(rig.request("echo", "[true]", id)))
      end
    end)

    it("come back byte for byte after a wait, and in errors", function()
      local answer = app:post("/test", rig.request("sleep", "[0.5]", "1.50e1"))
      assert.equal('{"jsonrpc":"2.0","result":0.5,"id":1.50e1}', answer.body)
      rig.has('"id":1.50e1}', body(rig.request("nope", nil, "1.50e1")))
    end)

    it("of null make a request, not a notification", function()
      assert.equal('{"jsonrpc":"2.0","result":1,"id":null}', body(rig.request("echo", "[1]", "null")))
      refused(NOT_FOUND, null, rig.request("note", "[1]", "null"))
    end)

    it("must be strings, numbers or null, of at most 256 bytes", function()
      for _, id in ipairs { "true", "false", "[]", "[1]", "{}", '"' .. ("x"):rep(257) .. '"', ("1"):rep(257) } do
        refused(INVALID_REQUEST, null, rig.request("echo", "[1]", id))
      end
    end)

    it("may be used again, even while the call before is under way", function()
      assert.equal(1, client:call("echo", 1))
      client:send(rig.request("sleep", "[1]", '"same"'))
      local answer = client:exchange(rig.request("echo", "[2]", '"same"'))
      assert.same({ jsonrpc = "2.0", result = 2, id = "same" }, answer)
    end)
  end)

  describe("notifications", function()
    it("are run and never answered", function()
      silent(rig.notification("note", "[1,2]"))
      assert.same({ { 1, 2 }, { 1, 2 } }, noted)
    end)

    it("are not answered when they fail, whatever is wrong with them", function()
      silent(rig.notification("nope"))
      silent(rig.notification("broken"))
      silent(rig.notification("update", "{}"))
      silent(rig.notification("update", "[1,2,3]"))
      silent(rig.notification("update", '{"unknown":1}'))
      silent(rig.notification("update", "5"))
      silent(rig.notification("note", "[1e400]"))
      silent(rig.notification("note", ("["):rep(30) .. ("]"):rep(30)))
      silent(rig.notification(("x"):rep(300)))
    end)

    it("that are malformed are answered: they may have been meant as requests", function()
      refused(INVALID_REQUEST, null, '{"jsonrpc":"2.0","method":1,"params":"bar"}')
      refused(INVALID_REQUEST, null, '{"jsonrpc":"2.0","params":[1]}')
      refused(INVALID_REQUEST, null, '{"jsonrpc":"3.0","method":"note"}')
      refused(INVALID_REQUEST, null, '{"jsonrpc":"2.0","method":"note","id":{}}')
      assert.same({}, noted)
    end)
  end)

  describe("text that is not JSON", function()
    it("is a parse error with id null", function()
      for _, text in ipairs {
        "sqwdw", "{", "[", "]", '"', '{"jsonrpc":"2.', "{'a':1}", "{1:2}", "// hi", "nul", "True", "\0",
        '{"jsonrpc":"2.0","method":"echo","id":1}{"jsonrpc":"2.0","method":"echo","id":2}',
        rig.request("echo", "[1,]"), rig.request("echo", "[,1]"), rig.request("echo", '{"a":1,}'),
        rig.request("echo", "[007]"), rig.request("echo", "[.5]"), rig.request("echo", "[1.]"),
        rig.request("echo", "[0x10]"), rig.request("echo", "[NaN]"), rig.request("echo", "[Infinity]"),
        rig.request("echo", "[+1]"), rig.request("echo", '["\\x"]'), rig.request("echo", '["\\ud83d"]'),
        rig.request("echo", '["a\nb"]'), "\u{FEFF}" .. rig.request("echo", "[1]"), rig.request("echo", "[1]") .. ",",
      } do
        refused(PARSE, null, text)
      end
    end)

    it("says what is wrong and at which byte", function()
      local err = refused(PARSE, null, '{"jsonrpc":"2.0",}')
      assert.equal(17, err.data.at)
      rig.has(err.data.reason, err.message)
    end)

    it("is a parse error when it is empty, or not UTF-8", function()
      refused(PARSE, null, "")
      refused(PARSE, null, " \n")
      assert.equal(PARSE, core.json_decode(body("")).error.code)
      assert.equal(PARSE, core.json_decode(body('{"jsonrpc":"2.0","method":"\xFF","id":1}')).error.code)
    end)
  end)

  it("never closes the connection for an error", function()
    for _, text in ipairs { "", "{", "[]", "1", "{}", rig.request("nope"), rig.request("fail") } do
      client:exchange(text)
    end
    rig.still_serves(client, "echo", 1)
  end)

  describe("values", function()
    it("come back as they were sent", function()
      for _, value in ipairs {
        "null", "[]", "{}", "[[],{}]", '{"":1}', "[null,1,null]", '{"a":[null,{"b":null}]}', "0.1", "1.5", "-0.0",
        "3.0", "9223372036854775807", "-9223372036854775808", "9007199254740993", "1e+300", "5e-324", "false",
        '"\\u0000"', '"日本"', '"😀"', '"\\u001f\\"\\\\"',
      } do
        local answer = ('{"jsonrpc":"2.0","result":%s,"id":1}'):format(value)
        assert.equal(answer, body(rig.request("echo", "[" .. value .. "]")))
      end
    end)

    it("beyond 64 bits are refused with their path", function()
      local err = refused(INVALID_PARAMS, 1, rig.request("echo", '[{"a":[1,9223372036854775808]}]'))
      rig.has("a", err.data.param)
      rig.has("64 bits", err.data.expected)
      refused(INVALID_PARAMS, 1, rig.request("echo", "[1e400]"))
    end)

    it("over a limit are refused with the limit's name and bound", function()
      local function limit(params)
        local err = refused(TOO_LARGE, 1, rig.request("echo", params))
        return { err.data.limit, err.data.max }
      end
      assert.same({ "array", 10000 }, limit("[[" .. ("1,"):rep(10000) .. "1]]"))
      assert.same({ "string", 1048576 }, limit('["' .. ("x"):rep(1048577) .. '"]'))
      assert.same({ "string", 1048576 }, limit('[{"' .. ("x"):rep(1048577) .. '":1}]'))
      assert.same({ "depth", 20 }, limit(("["):rep(22) .. ("]"):rep(22)))
      assert.equal(10000, #client:exchange(rig.request("echo", "[[" .. ("1,"):rep(9999) .. "1]]")).result)
      assert.equal(1048576, #client:exchange(rig.request("echo", '["' .. ("x"):rep(1048576) .. '"]')).result)
    end)

    it("have limits that a consumer may set for itself", function()
      app = rig.app({ limits = { array = 2, string = 3, depth = 2, batch = 1, method = 12 } }, declare(noted))
      client = app:connect("/test")
      local function limit(params) return refused(TOO_LARGE, 1, rig.request("echo", params)).data.max end
      assert.equal(2, limit("[[1,2,3]]"))
      assert.equal(3, limit('["four"]'))
      assert.equal(2, limit("[[[[]]]]"))
      assert.equal(12, refused(TOO_LARGE, 1, rig.request("subtract_more")).data.max)
      assert.equal(1, refused(INVALID_REQUEST, null, "[1,2]").data.max)
    end)
  end)

  describe("batches", function()
    it("are answered once, in the order of the request, whichever member ends first", function()
      local answer = client:exchange(("[%s,%s,%s]"):format(
        rig.request("sleep", "[0.3]", "1"), rig.request("sleep", "[0.1]", "2"), rig.request("echo", "[3]", "3")))
      assert.same({ 1, 2, 3 }, { answer[1].id, answer[2].id, answer[3].id })
      assert.equal(3, #answer)
    end)

    it("run their members at the same time", function()
      local text = ("[%s,%s,%s]"):format(
        rig.request("sleep", "[0.3]", "1"), rig.request("sleep", "[0.3]", "2"), rig.request("sleep", "[0.3]", "3"))
      local took = rig.duration(function() assert.equal(3, #client:exchange(text)) end)
      assert.near(0.3, took, 0.05)
    end)

    it("leave notifications out of the answer", function()
      local answer = client:exchange(("[%s,%s,%s]"):format(
        rig.notification("note", "[1]"), rig.request("echo", "[2]", "2"), rig.notification("note", "[3]")))
      assert.same({ { jsonrpc = "2.0", result = 2, id = 2 } }, answer)
      assert.same({ { 1 }, { 3 } }, noted)
    end)

    it("of notifications only are not answered", function()
      silent(("[%s,%s]"):format(rig.notification("note", "[1]"), rig.notification("nope")))
    end)

    it("of one member are answered with an array of one", function()
      assert.equal('[{"jsonrpc":"2.0","result":1,"id":1}]', body("[" .. rig.request("echo", "[1]") .. "]"))
    end)

    it("that are empty, unreadable or too long are answered with one error, and nothing runs", function()
      refused(INVALID_REQUEST, null, " [ ] ")
      refused(PARSE, null, "[" .. rig.notification("note", "[1]") .. ",]")
      local long = "[" .. (rig.notification("note", "[1]") .. ","):rep(100) .. rig.notification("note", "[1]") .. "]"
      assert.same({ limit = "batch", max = 100 }, refused(INVALID_REQUEST, null, long).data)
      assert.same({}, noted)
    end)

    it("may have a hundred members", function()
      local answer = client:exchange("[" .. (rig.request("echo", "[1]") .. ","):rep(99) .. rig.request("echo") .. "]")
      assert.equal(100, #answer)
    end)

    it("have an error for each member that is no request; the others run", function()
      local answer = client:exchange("[1,null,[]," .. rig.request("echo", "[4]", "4") .. "]")
      assert.equal(4, #answer)
      for i = 1, 3 do
        assert.equal(INVALID_REQUEST, answer[i].error.code)
        assert.equal(null, answer[i].id)
      end
      assert.equal(4, answer[4].result)
    end)

    it("are not known to JSON-RPC 1.0", function()
      local answer = client:exchange('[{"method":"echo","params":[1],"id":1}]')
      assert.equal(INVALID_REQUEST, answer[1].error.code)
      assert.equal("2.0", answer[1].jsonrpc)
    end)

    it("end when the client leaves: members that have not begun never do", function()
      client:send("[" .. (rig.request("sleep", "[1]") .. ","):rep(40) .. rig.notification("note", "[1]") .. "]")
      client:abort()
      app:advance(100)
      assert.same({}, noted)
    end)

    it("work over HTTP as over WebSocket", function()
      local text = ("[%s,%s,7]"):format(rig.request("sleep", "[0.1]", "1"), rig.notification("note", "[1]"))
      assert.equal('[{"jsonrpc":"2.0","result":0.1,"id":1},'
        .. '{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request: not an object",'
        .. '"data":{"reason":"not an object"}},"id":null}]', body(text))
    end)
  end)

  describe("1.0", function()
    it("is a message without jsonrpc; answers have result and error, one of them null", function()
      assert.equal('{"result":19,"error":null,"id":1}', body('{"method":"subtract","params":[42,23],"id":1}'))
      assert.equal('{"result":null,"error":{"code":-32000,"message":"fake_error","data":["fake_error"]},"id":1}',
        body('{"method":"fail","params":[],"id":1}'))
      rig.has('{"result":null,"error":{"code":-32601,', body('{"method":"nope","params":[],"id":1}'))
    end)

    it("has notifications with an id that is null or not there", function()
      silent('{"method":"note","params":[1],"id":null}')
      silent('{"method":"note","params":[1]}')
      silent('{"method":"nope","params":[1],"id":null}')
      assert.equal(4, #noted)
    end)

    it("has params in an array only", function()
      local answer = client:exchange('{"method":"subtract","params":{"minuend":5,"subtrahend":3},"id":1}')
      assert.is_nil(answer.jsonrpc)
      assert.equal(null, answer.result)
      assert.equal(INVALID_PARAMS, answer.error.code)
    end)

    it("returns ids as they came", function()
      assert.equal('{"result":1,"error":null,"id":"\\u00e9"}', body('{"method":"echo","params":[1],"id":"\\u00e9"}'))
      assert.equal('{"result":1,"error":null,"id":9007199254740993}',
        body('{"method":"echo","params":[1],"id":9007199254740993}'))
    end)

    it("reports malformed messages in its own way once it can be told", function()
      local answer = client:exchange('{"method":"echo","params":[1],"id":[]}')
      assert.is_nil(answer.jsonrpc)
      assert.equal(INVALID_REQUEST, answer.error.code)
      assert.equal(null, answer.result)
    end)
  end)

  describe("the option versions", function()
    it("of 2.0 refuses 1.0", function()
      app = rig.app({ versions = { "2.0" } }, declare(noted))
      local answer = rig.post(app, '{"method":"echo","params":[1],"id":1}')
      assert.equal(INVALID_REQUEST, answer.error.code)
      rig.has("1.0", answer.error.message)
      assert.equal(1, rig.post_call(app, "echo", "[1]").result)
    end)

    it("of 1.0 refuses 2.0, and notifies clients in the form of 1.0", function()
      app = rig.app({ versions = { "1.0" } }, function(C, perigee)
        declare(noted)(C, perigee)
        C:rpc_method("poke", function(ctx)
          ctx:notify("poked", { 1 })
          ctx:notify("bare")
        end)
      end)
      assert.equal(INVALID_REQUEST, rig.post_call(app, "echo", "[1]").error.code)
      client = app:connect("/test")
      client:send('{"method":"poke","params":[],"id":1}')
      assert.same({ 1 }, client:expect("poked"))
      assert.same({}, client:expect("bare"))
    end)
  end)

  describe("the option http_status", function()
    local texts = {
      { '{"jsonrpc":"2.0","id":1}', 400 },
      { "[]", 400 },
      { rig.request("nope"), 404 },
      { "{", 500 },
      { rig.request("echo", "5"), 500 },
      { rig.request("fail"), 500 },
      { rig.request("echo", "[1]"), 200 },
      { "[" .. rig.request("nope") .. "]", 200 },
      { rig.notification("update"), 204 },
      { rig.notification("nope"), 204 },
    }

    it("of ok answers everything with 200, and notifications with 204", function()
      for _, one in ipairs(texts) do
        assert.equal(one[2] == 204 and 204 or 200, app:post("/test", one[1]).status, one[1])
      end
    end)

    it("of mapped tells errors by the status", function()
      app = rig.app({ http_status = "mapped" }, declare(noted))
      for _, one in ipairs(texts) do
        local response = app:post("/test", one[1])
        assert.equal(one[2], response.status, one[1])
        assert.equal(one[2] == 204, response.body == "")
      end
    end)
  end)

  describe("answers to no call of ours", function()
    it("are ignored", function()
      silent('{"jsonrpc":"2.0","result":1,"id":5}')
      silent('{"jsonrpc":"2.0","error":{"code":1,"message":"x"},"id":"perigee-1"}')
      silent('{"result":1,"error":null,"id":5}')
      rig.still_serves(client, "echo", 1)
    end)

    it("without an id are malformed", function()
      refused(INVALID_REQUEST, null, '{"jsonrpc":"2.0","result":1}')
    end)
  end)
end)
