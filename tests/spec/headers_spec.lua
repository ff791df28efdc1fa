--- Header fields of apps: what becomes a line, and what would break the head.
local headers = require("perigee.headers")
local rig = require("tests.spec.support.rig")

describe("header fields", function()
  --- What is wrong with one field.
  local function wrong(name, value)
    local lines, why = headers.check { [name] = value }
    assert.is_nil(lines)
    return why
  end

  it("become lines in the order of their names", function()
    assert.equal("A: 1\r\nB: x y\r\nC: 1\r\nC: 2\r\n", (headers.check { C = { 2, 1 }, B = "x y", A = 1 }))
    assert.is_nil(headers.check(nil))
    assert.is_nil(headers.check {})
    assert.equal("X: \r\n", (headers.check { X = "" }))
    assert.equal("X: a\tb\xff\r\n", (headers.check { X = "a\tb\xff" })) -- as RFC 9110 allows
  end)

  it("have names that are tokens", function()
    for _, name in ipairs { "X-Y", "a1", "!#$%&'*+.^_`|~-" } do
      assert.is_string((headers.check { [name] = 1 }), name)
    end
    for _, name in ipairs { "", "a b", "a:", "é", "a\r\n", "(a)", 5, true } do
      assert.equal(("'%s' is not a header's name"):format(tostring(name)), wrong(name, 1))
    end
    assert.is_true(headers.is_token("x"))
    assert.is_false(headers.is_token(""))
    assert.is_false(headers.is_token(5))
  end)

  it("have values without control characters", function()
    for byte = 0, 127 do
      local char = string.char(byte)
      local lines, why = headers.check { X = "a" .. char .. "b" }
      if byte == 9 or byte >= 32 and byte ~= 127 then
        assert.equal("X: a" .. char .. "b\r\n", lines)
      else
        assert.equal("header X: its value has control characters", why, "byte " .. byte)
      end
    end
    for _, value in ipairs { true, print, { {} } } do
      rig.has("header X: its value must be a text, a number or a list of them, not a ", wrong("X", value))
    end
    rig.has("not a nil", wrong("X", {}))
  end)

  it("are none of the server's own, however they are written", function()
    for _, name in ipairs {
      "Connection", "content-length", "DATE", "Keep-Alive", "Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "TE",
      "Trailer", "Transfer-Encoding", "Upgrade", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials",
    } do
      rig.has(("header %s: it cannot be set ("):format(name), wrong(name, "1"))
    end
    assert.is_string((headers.check { ["Sec-WebSocket-Protocol"] = "a" }))
  end)

  it("have 16 KiB together, and not a byte more", function()
    local room = headers.MAX_BYTES - #"A: \r\n" - #"B: \r\n"
    assert.equal(16384, headers.MAX_BYTES)
    for _, case in ipairs { { -1, true }, { 0, true }, { 1, false } } do
      local lines, why = headers.check { A = ("a"):rep(100), B = ("b"):rep(room - 100 + case[1]) }
      if case[2] then assert.equal(headers.MAX_BYTES + case[1], #lines) else assert.is_nil(lines) end
      assert.equal(not case[2] and "headers of more than 16384 bytes" or nil, why)
    end
  end)

  it("are a table, or the caller is told at his own line", function()
    rig.has("headers must be a table, not a number", select(2, headers.check(5)))
    local function respond(fields) headers.lines(fields) end
    local function app() respond { ["a b"] = 1 } end
    local at = debug.getinfo(app, "S").linedefined
    rig.has(("headers_spec.lua:%d: 'a b' is not a header's name"):format(at), rig.raises(app, ""))
    assert.equal("A: 1\r\n", headers.lines { A = 1 })
  end)
end)
