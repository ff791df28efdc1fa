local testing = require "perigee.testing"

describe("echo", function()
  local app, client

  before_each(function()
    app = testing.app("apps/echo")
    client = app:connect("/echo")
  end)

  it("returns what it gets", function()
    assert.equal("hi", client:call("echo", "hi"))
    assert.equal(0.1, client:call("echo", 0.1))
    assert.equal(math.maxinteger, client:call("echo", math.maxinteger))
    assert.equal("", client:call("echo", ""))
    assert.same({ a = { 1, { b = false } } }, client:call("echo", { a = { 1, { b = false } } }))
  end)

  it("does so over HTTP, byte by byte", function()
    for _, value in ipairs { "null", "[]", "{}", "[[],{}]", "1.5", '"\\u0000"', '"日本"' } do
      local answer = app:post("/echo", ('{"jsonrpc":"2.0","id":1,"method":"echo","params":[%s]}'):format(value))
      assert.equal(200, answer.status)
      assert.equal(('{"jsonrpc":"2.0","result":%s,"id":1}'):format(value), answer.body)
    end
  end)

  it("reverses characters, not bytes", function()
    assert.equal("cba", client:call("reverse", "abc"))
    assert.equal("本日 ë", client:call("reverse", "ë 日本"))
    assert.equal("", client:call("reverse", ""))
    assert.equal(("ba"):rep(50000), client:call("reverse", ("ab"):rep(50000)))
    local ok, err = client:try("reverse", 7)
    assert.is_false(ok)
    assert.equal(-32602, err.code)
  end)

  it("takes its time without holding up others", function()
    client:send '{"jsonrpc":"2.0","id":"slow","method":"later","params":["there"]}'
    local other = app:connect("/echo")
    assert.equal("here", other:call("echo", "here"))
    assert.equal("there", client:call("later", "there"))
  end)

  it("echoes frames as they are", function()
    local raw = app:connect("/echo/raw")
    for _, text in ipairs { "hello", "", '{"neither":"call nor answer"}', "日本" } do
      raw:send(text)
      assert.equal(text, (raw:receive()))
    end
    raw:send("\0\xFF\1", true)
    local data, is_binary = raw:receive()
    assert.equal("\0\xFF\1", data)
    assert.is_true(is_binary)
  end)
end)
