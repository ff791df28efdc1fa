--- The client's side of HTTP: where an answer ends, however it comes in pieces.
local client = require("perigee.client")

describe("an answer to the HTTP client", function()
  local stream, got, ended, written

  --- A stream that the spec feeds.
  local function open()
    got, written = {}, ""
    ended = nil
    stream = { is_over = false }
    function stream:read_start(fn) self.feed = fn end
    function stream:is_closing() return self.is_over end
    function stream:close() self.is_over = true end
    function stream.write(_, text) written = written .. text end
    return client.open(stream, {
      on_response = function(response) got[#got + 1] = response end,
      on_end = function(err) ended = err or true end,
    })
  end

  --- Feeds a text in two pieces, cut at each place; all must be read the same.
  local function each_cut(text, fn)
    for cut = 0, #text do
      local one = open()
      if cut > 0 then stream.feed(nil, text:sub(1, cut)) end
      if cut < #text then stream.feed(nil, text:sub(cut + 1)) end
      fn(one, cut)
    end
  end

  it("ends where its length says, and the next begins there", function()
    each_cut("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nx-a:  2\r\n\r\nhello"
      .. "HTTP/1.0 404 No\r\ncontent-length: 0\r\n\r\n", function()
      assert.equal(2, #got)
      assert.equal(200, got[1].status)
      assert.equal("hello", got[1].body)
      assert.equal("1, 2", got[1].headers["x-a"])
      assert.equal(404, got[2].status)
      assert.equal("", got[2].body)
      assert.is_nil(ended)
    end)
  end)

  it("ends with its last chunk", function()
    each_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n"
      .. "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz", function()
      assert.equal("abc0123456789", got[1].body)
      assert.equal("z", got[2].body)
      assert.equal(2, #got)
    end)
  end)

  it("is none when a chunk says a length that no number holds", function()
    for _, size in ipairs { "ffffffffffffffec", "ffffffffffffffff", "10000000000000000" } do
      open()
      stream.feed(nil, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" .. size .. "\r\nabc\r\n0\r\n\r\n")
      assert.equal("the answer is not HTTP: a chunk without end", ended, size)
    end
    open()
    stream.feed(nil, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n000000000000003\r\nabc\r\n0\r\n\r\n")
    assert.equal("abc", got[1].body)
  end)

  it("ends with its head where none has a body", function()
    for _, status in ipairs { 204, 304 } do
      open()
      stream.feed(nil, ("HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n"):format(status))
      stream.feed(nil, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz")
      assert.same({ status, 200 }, { got[1].status, got[2].status })
      assert.equal("", got[1].body)
    end
    local one = open()
    one:request { method = "HEAD", path = "/", host = "h" }
    stream.feed(nil, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert.equal("", got[1].body)
  end)

  it("comes after as many 100s as the server likes", function()
    local go_on = "HTTP/1.1 100 Continue\r\n\r\n"
    each_cut(go_on .. go_on .. "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz", function()
      assert.equal(1, #got)
      assert.equal("z", got[1].body)
    end)
  end)

  it("without a length ends with the connection", function()
    open()
    stream.feed(nil, "HTTP/1.1 200 OK\r\n\r\nsome")
    stream.feed(nil, " text")
    assert.equal(0, #got)
    stream.feed(nil, nil)
    assert.equal("some text", got[1].body)
    assert.is_true(ended)
    assert.is_true(stream.is_over)
  end)

  it("that is no HTTP is told at once", function()
    for _, text in ipairs {
      "SSH-2.0", "X", "HTTP/2", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n", "HTTP/1.1 20\r\n\r\n",
    } do
      open()
      stream.feed(nil, text)
      assert.equal("the answer is not HTTP", ended, text)
      assert.equal(0, #got)
      assert.is_true(stream.is_over)
    end
    open()
    stream.feed(nil, "HTTP/1.")
    assert.is_nil(ended)
  end)

  it("has a head of 256 KiB at the most", function()
    for _, more in ipairs { -1, 0, 1 } do
      open()
      stream.feed(nil, "HTTP/1.1 200 OK\r\nX: " .. ("y"):rep(256 * 1024 + more - #"HTTP/1.1 200 OK\r\nX: "))
      assert.equal(more > 0 and "the answer is not HTTP: its head does not end" or nil, ended)
    end
  end)

  it("is nobody's any more when the connection broke", function()
    local one = open()
    stream.feed("ECONNRESET", nil)
    assert.equal("ECONNRESET", ended)
    assert.is_false(one:write("x"))
    one:abort() -- again: told once
    assert.equal("", written)
    assert.equal("ECONNRESET", ended)
  end)

  it("of a WebSocket is answered where the protocol asks for it, and only there", function()
    open()
    local tried = {}
    function stream.try_write(_, text) tried[#tried + 1] = text end
    stream.feed(nil, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
    stream.feed(nil, "\x81\x02hi") -- text
    assert.same({}, tried)
    stream.feed(nil, "\x89\x02hi") -- ping
    assert.equal(1, #tried)
    assert.equal(0x8a, tried[1]:byte())
    stream.is_over = true
    stream.feed(nil, "\x89\x02hi")
    assert.equal(1, #tried)
  end)

  it("is asked for with what a request has", function()
    local one = open()
    local fields = { B = "2", A = "1" }
    assert.is_true(one:request { method = "POST", path = "/x", host = "h:1", headers = fields, body = "abc" })
    assert.equal("POST /x HTTP/1.1\r\nHost: h:1\r\nA: 1\r\nB: 2\r\nContent-Length: 3\r\n\r\nabc", written)
    one = open()
    one:request { method = "GET", path = "/", host = "h", headers = { HOST = "other", ["Content-Length"] = "9" } }
    assert.equal("GET / HTTP/1.1\r\nContent-Length: 9\r\nHOST: other\r\n\r\n", written)
    one = open()
    one:upgrade("/ws", "h", { Cookie = "a=1" }, { "a", "b" })
    assert.matches("\r\nCookie: a=1\r\n", written)
    assert.matches("\r\nSec%-WebSocket%-Key: [%w+/]+==\r\n", written)
    assert.equal(24, #written:match("Key: (%S+)"))
    assert.matches("\r\nSec%-WebSocket%-Protocol: a, b\r\n", written)
    assert.matches("\r\nSec%-WebSocket%-Version: 13\r\nUpgrade: websocket\r\n", written)
  end)
end)
