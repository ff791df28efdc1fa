--- The scope of a connection: what is read out of a request's head, exactly.
local scope = require("perigee.scope")

describe("a scope", function()
  --- Reads a head; `fields` are its header lines.
  local function read(target, fields, pattern, line)
    return scope.read((line or "192.0.2.1 5000 http example.org") .. "\r\nGET " .. target .. " HTTP/1.1\r\n"
      .. (fields or "") .. "\r\n", pattern or "/x")
  end

  it("has the client's address and what it speaks", function()
    local one = read("/x")
    assert.same({ address = "192.0.2.1", port = 5000 }, one.client)
    assert.same({ "http", "http", "GET", "example.org" }, { one.type, one.scheme, one.method, one.host })
    one = read("/x", "Upgrade: WebSocket\r\nOrigin: https://a\r\n", nil, "::1 0 https h:1")
    assert.same({ "websocket", "wss", "h:1", "https://a" }, { one.type, one.scheme, one.host, one.origin })
    assert.equal(0, one.client.port)
    assert.equal("ws", read("/x", "Upgrade: x, websocket\r\n").scheme)
    assert.equal("https", read("/x", nil, nil, "::1 1 https h").scheme)
    assert.equal("", read("/x", nil, nil, "::1 1 http ").host)
  end)

  it("has the path as it was sent, and decoded", function()
    local one = read("/a%20b/%c3%A9%2F%zz?c%3d=d")
    assert.equal("/a%20b/%c3%A9%2F%zz", one.raw_path)
    assert.equal("/a b/é/%zz", one.path)
    assert.equal("c%3d=d", one.query_string)
    one = read("http://other.example/y?z")
    assert.same({ "/y", "z" }, { one.raw_path, one.query_string })
    assert.equal("", read("/x").query_string)
    assert.equal("", read("/x?").query_string)
    assert.equal("a?b", read("/x?a?b").query_string)
  end)

  it("has the last of equal names in a query", function()
    assert.same({ a = "3", b = "", ["c d"] = "e f", ["g="] = "h=i" }, read("/x?a=1&b&a=3&&c+d=e%20f&g%3d=h=i").query)
    assert.same({}, read("/x?").query)
    assert.same({ [""] = "v" }, read("/x?=v").query)
    local list = {}
    for name, value in scope.pairs_of("b=1&a=2&b=3+4&c") do list[#list + 1] = name .. ":" .. value end
    assert.same({ "b:1", "a:2", "b:3 4", "c:" }, list)
  end)

  it("has what the path captures", function()
    local function params(pattern, path) return read(path, nil, pattern).path_params end
    assert.same({}, params("/room", "/room"))
    assert.same({ id = "5" }, params("/room/:id", "/room/5"))
    assert.same({ id = "a b", what = "x/y" }, params("/room/:id/edit/:what", "/room/a%20b/edit/x%2Fy"))
    assert.same({ path = "a/b/c d" }, params("/files/*path", "/files/a/b/c%20d"))
    assert.same({ ["*"] = "" }, params("/files/*", "/files/"))
    assert.same({ id = "1", rest = "2/3" }, params("/:id/*rest", "/1/2/3"))
  end)

  it("has each header once, in lower case, without white space around it", function()
    local one = read("/x", "X-A: 1\r\nx-a:2 \r\nX-B:\t3\t\r\nX-C:\r\nX-D: a  b\r\n")
    assert.same({ ["x-a"] = "1, 2", ["x-b"] = "3", ["x-c"] = "", ["x-d"] = "a  b" }, one.headers)
  end)

  it("has the first of equal cookies, unquoted", function()
    assert.same({ a = "1", b = "x=y", c = "q r", d = "", e = '"' },
      read("/x", 'Cookie: a=1; b=x=y;c="q r"; a=2; d=; e="; =f; g; h i=j\r\n').cookies)
    assert.same({}, read("/x").cookies)
    assert.same({ a = "1" }, read("/x", "Cookie: a = 1  \r\n").cookies)
  end)

  it("has the subprotocols in the client's order", function()
    local field = "Sec-WebSocket-Protocol: "
    assert.same({ "b", "a", "c" }, read("/x", field .. "b, a\r\n" .. field .. "c\r\n").subprotocols)
    assert.same({}, read("/x").subprotocols)
  end)
end)
