--- Addresses for `perigee call`, and texts of servers that it shows.
local caller = require("perigee.caller")
local rig = require("tests.spec.support.rig")

describe("an address", function()
  local function parsed(text)
    local url, wrong = caller.parse_url(text)
    assert.is_nil(wrong)
    return ("%s|%s|%d|%s|%s"):format(url.scheme, url.host, url.port, url.path, url.authority)
  end

  it("has a scheme, a host, a port and a path", function()
    assert.equal("ws|127.0.0.1|8080|/chat|127.0.0.1:8080", parsed "ws://127.0.0.1:8080/chat")
    assert.equal("http|example.org|80|/|example.org", parsed "HTTP://example.org")
    assert.equal("ws|::1|81|/a/b?c=d|[::1]:81", parsed "ws://[::1]:81/a/b?c=d#fragment")
    assert.equal("ws|::1|80|/|[::1]", parsed "ws://[::1]")
    assert.equal("ws|h|80|/?q|h", parsed "ws://h?q")
    assert.equal("ws|h|80|/|h:", parsed "ws://h:")
    assert.equal("ws|h|1|/|h:1", parsed "ws://h:1")
    assert.equal("ws|h|65535|/|h:65535", parsed "ws://h:65535")
  end)

  it("that is none is told what comes where", function()
    local function wrong(part, text)
      local url, why = caller.parse_url(text)
      assert.is_nil(url, text)
      rig.has(part, why)
    end
    for _, text in ipairs {
      "ws://h:0", "ws://h:65536", "ws://", "ws://:80", "ws://a:b", "ws://[::1", "ws://a b", "ws://::1", "ws://[::1]x",
      "ws://h/a b", "ws://h/\n",
    } do
      wrong("after :// comes HOST:PORT", text)
    end
    wrong("is no URL of a consumer", "chat")
    wrong("is no URL of a consumer", "ftp://h/")
    wrong("perigee speaks no TLS, and neither does its client", "wss://h/x")
    wrong("ws://HOST:PORT/x", "wss://h/x")
    wrong("http://HOST:PORT/", "https://h")
    wrong("-H 'Authorization: ...'", "ws://me:secret@h/")
  end)
end)

describe("a server's text", function()
  it("is one line of 200 bytes at the most", function()
    assert.equal("a b", caller.clean("  a\r\n\t b  \n"):gsub(" +", " "))
    assert.equal(("x"):rep(199), caller.clean(("x"):rep(199)))
    assert.equal(("x"):rep(200), caller.clean(("x"):rep(200)))
    assert.equal(("x"):rep(200) .. "…", caller.clean(("x"):rep(201)))
    assert.equal(("x"):rep(199) .. "…", caller.clean(("x"):rep(199) .. "éy")) -- no half of a character
    assert.equal("", caller.clean(" \n"))
  end)
end)
