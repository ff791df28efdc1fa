--- What words of `perigee call` mean.
local call = require("perigee.cli.call")
local caller = require("perigee.caller")
local config = require("perigee.config")
local core = require("perigee.core")
local json = require("perigee.cli.json")
local rig = require("tests.spec.support.rig")

local function array(list)
  return setmetatable(list, core.array_mt)
end

local function refused(word, fn, ...)
  local value, message = fn(...)
  assert.is_nil(value)
  rig.has(word, message)
end

describe("parameters", function()
  it("have names, text after = and JSON after :=", function()
    assert.same({ a = "1", b = 1, c = "x=y", ["d-e"] = true, f = "" },
      call.read_params { "a=1", "b:=1", "c=x=y", "d-e:=true", "f=" })
    assert.same({ a = array { 1, { b = core.null } } }, call.read_params { 'a:=[1,{"b":null}]' })
  end)

  it("stand in order, as JSON or else text", function()
    assert.same(array { 1, "two", true, "4", core.null, "a b" },
      call.read_params { "1", "two", "true", '"4"', "null", "a b" })
    assert.same(array { "007", "1=2", "-5x", -5 }, call.read_params { "007", "1=2", "-5x", "-5" })
    assert.equal("integer", math.type(call.read_params({ "3" })[1]))
  end)

  it("are one object or list", function()
    assert.same({ a = 1 }, call.read_params { '{"a":1}' })
    assert.same(array { 1, 2 }, call.read_params { " [1,2]" })
    assert.same(array { array { 1 } }, call.read_params { "[[1]]" })
    assert.same(array { array {}, 1 }, call.read_params { "[]", "1" })
    assert.is_nil(call.read_params {})
  end)

  it("are refused with what to write instead", function()
    refused("is not JSON", call.read_params, { "a:=text" })
    refused("a=text", call.read_params, { "a:=text" })
    refused("is not JSON", call.read_params, { "{a:1}" })
    refused("'a' is given twice", call.read_params, { "a=1", "a=2" })
    refused("give all or none a name", call.read_params, { "a=1", "2" })
  end)
end)

describe("calls", function()
  it("are separated by commas of their own", function()
    assert.same({
      { method = "join", params = { room = "lobby" } }, { method = "say", params = array { "a, b" } }, { method = "x" },
    }, call.read_calls { "join", "room=lobby", ",", "say", "a, b", ",", "x" })
    assert.same({}, call.read_calls {})
    refused("a method is needed", call.read_calls, { "a", "," })
    refused("a method is needed", call.read_calls, { ",", "a" })
    refused("a method is needed", call.read_calls, { "a", ",", ",", "b" })
  end)
end)

describe("a URL", function()
  local values = config.defaults()

  local function reads(expected, word)
    local url, message = call.read_url(word, values)
    assert.is_truthy(url, message)
    assert.equal(expected, ("%s %s %d %s"):format(url.scheme, url.host, url.port, url.path))
  end

  it("is whole, or an address, or a path on this project's server", function()
    reads("ws a.example 80 /", "ws://a.example")
    reads("http 127.0.0.1 8080 /chat?x=1", "HTTP://127.0.0.1:8080/chat?x=1#part")
    reads("ws ::1 8080 /chat", "ws://[::1]:8080/chat")
    reads("ws localhost 8080 /chat", "localhost:8080/chat")
    reads("ws 127.0.0.1 8081 /chat", ":8081/chat")
    reads("ws 127.0.0.1 8080 /chat", "chat")
    reads("ws 127.0.0.1 8080 /room/7", "/room/7")
    values.listen = { { address = "0.0.0.0", port = 90 } }
    reads("ws 127.0.0.1 90 /chat", "chat")
    values.listen = { { address = "::", port = 90 } }
    reads("ws ::1 90 /chat", "chat")
  end)

  it("that cannot be called is refused with a cure", function()
    refused("a proxy in front does; call the server behind it, ws://HOST:PORT/chat", caller.parse_url, "wss://a/chat")
    refused("http://HOST:PORT/", caller.parse_url, "https://a")
    refused("-H 'Authorization", caller.parse_url, "ws://me:pw@a/chat")
    refused("is no URL", caller.parse_url, "ftp://a/chat")
    for _, word in ipairs { "ws://a:0/", "ws://a:99999/", "ws://a:b/", "ws://", "ws://[::1/", "ws://a/b c" } do
      refused("HOST:PORT", caller.parse_url, word)
    end
  end)
end)

describe("what is shown", function()
  it("cannot move a terminal's cursor", function()
    assert.equal("a\\u001b[31m b", caller.clean "  a\27[31m\nb \r\n")
    assert.equal("a\\u009bb", caller.clean "a\xc2\x9bb")
    assert.equal(200 + #"…", #caller.clean(("x"):rep(300)))
    assert.equal("\\u202ecod.exe\\ufffd", caller.clean "\u{202e}cod.exe\xff")
    assert.equal('"\\u202e"', json.compact "\u{202e}")
    assert.equal('"\\u001b[31m\\u009b\\u007fé"', json.compact "\27[31m\xc2\x9b\127é")
  end)

  it("is JSON with its keys in order, and on one line when it is short", function()
    local value = { b = array { 1, 2.5, core.null }, a = { c = "x" }, e = array {}, d = {} }
    assert.equal('{"a":{"c":"x"},"b":[1,2.5,null],"d":{},"e":[]}', json.compact(value))
    assert.equal('{ "a": { "c": "x" }, "b": [1, 2.5, null], "d": {}, "e": [] }', json.pretty(value))
    assert.equal(('{\n  "a": "%s",\n  "b": [1, 2]\n}'):format(("x"):rep(80)),
      json.pretty { a = ("x"):rep(80), b = array { 1, 2 } })
    assert.same(value, core.json_decode(json.pretty(value)))
    rig.has("\27[34m\"a\"\27[0m", json.compact({ a = 1 }, true))
  end)
end)
