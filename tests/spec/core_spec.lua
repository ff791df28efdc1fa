--- What Lua asks C for: random ids, digests, frames of a WebSocket client; and what C does not take.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("random ids", function()
  it("have as many bytes as asked for, from 1 to 256, and are never the same", function()
    for n, letters in pairs { [1] = 2, [2] = 3, [3] = 4, [32] = 43, [255] = 340, [256] = 342 } do
      assert.matches("^[%w_-]+$", core.random_id(n))
      assert.equal(letters, #core.random_id(n))
    end
    assert.are_not.equal(core.random_id(16), core.random_id(16))
    for _, n in ipairs { 0, 257, -1 } do rig.raises(function() core.random_id(n) end, "1 to 256 bytes") end
  end)
end)

describe("digests", function()
  it("are those of the standards", function()
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", core.sha256("abc"))
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", core.sha256(""))
    -- RFC 4231, case 2
    assert.equal("W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM", core.hmac("Jefe", "what do ya want for nothing?"))
  end)

  it("are compared whole", function()
    assert.is_true(core.same("abc", "abc"))
    assert.is_true(core.same("", ""))
    for _, other in ipairs { "abd", "xbc", "ab", "abcd", "", "ab\0" } do assert.is_false(core.same("abc", other)) end
  end)
end)

describe("base64url", function()
  it("comes back as it went, without padding", function()
    local pairs_of = { { "", "" }, { "f", "Zg" }, { "fo", "Zm8" }, { "foo", "Zm9v" }, { "\xff\xfe\xfd", "__79" } }
    for _, pair in ipairs(pairs_of) do
      assert.equal(pair[2], core.base64url(pair[1]))
      assert.equal(pair[1], core.from_base64url(pair[2]))
    end
    for _, text in ipairs { "Z", "Zg=", "Zm9v!", "Zm 8", "__+9" } do assert.is_nil(core.from_base64url(text), text) end
  end)
end)

describe("password hashes", function()
  it("are shorter than 128 bytes, or are none", function()
    rig.raises(function() core.password_verify(1, 1, "p", ("h"):rep(128)) end, "that is no password hash")
  end)

  it("are asked for when they are done, not before", function()
    local early, done
    local app = rig.app(function(C)
      C:rpc_method("hash", function()
        local task, wait = core.wait_open()
        local job = core.password_hash(task, wait, "secret")
        early = { pcall(job) }
        core.park(nil, wait)
        done = job()
      end)
      C:rpc_method("verify", function(_, password)
        local task, wait = core.wait_open()
        local job = core.password_verify(task, wait, password, done)
        core.park(nil, wait)
        return { job() }
      end)
      C:rpc_method("drop", function()
        local task, wait = core.wait_open()
        core.password_hash(task, wait, "nobody waits for it")
        collectgarbage()
      end)
    end)
    local client = app:connect("/test")
    client:call("hash")
    assert.is_false(early[1])
    rig.has("this job is not done", early[2])
    assert.matches("^%$argon2id%$v=19%$m=19456,t=2,p=1%$", done)
    assert.same({ true, false }, client:call("verify", "secret"))
    assert.same({ false, false }, client:call("verify", "Secret"))
    client:call("drop")
    assert.same({ true, false }, client:call("verify", "secret"))
    app:stop()
  end)
end)

describe("a WebSocket client", function()
  --- A server's frame.
  local function frame(first, payload)
    local n = #payload
    if n < 126 then return string.char(first, n) .. payload end
    return string.pack(n < 65536 and ">BBI2" or ">BBI8", first, n < 65536 and 126 or 127, n) .. payload
  end

  --- Opcode and payload of a client's frame.
  local function open(text)
    local first, second, at = text:byte(1), text:byte(2), 3
    assert(second & 0x80 ~= 0, "a client masks")
    local n = second & 0x7f
    if n >= 126 then n, at = string.unpack(n == 126 and ">I2" or ">I8", text, 3) end
    local mask, payload = { text:byte(at, at + 3) }, {}
    for i = 1, n do payload[i] = string.char(text:byte(at + 3 + i) ~ mask[(i - 1) % 4 + 1]) end
    assert.equal(at + 3 + n, #text)
    return first, table.concat(payload)
  end

  it("masks what it sends", function()
    local ws = core.ws_client()
    for _, n in ipairs { 0, 1, 125, 126, 65535, 65536 } do
      assert.same({ 0x81, ("x"):rep(n) }, { open(ws:message(("x"):rep(n))) })
    end
    assert.same({ 0x82, "\0\xff" }, { open(ws:message("\0\xff", true)) })
    assert.same({ 0x89, "" }, { open(ws:ping()) })
    assert.same({ 0x89, ("p"):rep(125) }, { open(ws:ping(("p"):rep(125))) })
    rig.raises(function() ws:ping(("p"):rep(126)) end, "at most 125 bytes")
    assert.are_not.equal(ws:message("x"), ws:message("x"))
  end)

  it("tells what came, whole messages only, and answers pings", function()
    local ws = core.ws_client()
    local bytes = frame(0x81, "one") .. frame(0x82, "\0") .. frame(0x89, "ping") .. frame(0x8a, "pong")
      .. frame(0x01, "in ") .. frame(0x80, "parts")
    local told, sent = {}, ""
    for i = 1, #bytes do
      local events, output, err = ws:feed(bytes:sub(i, i))
      assert.is_nil(err)
      sent = sent .. output
      for _, event in ipairs(events) do told[#told + 1] = event.type .. " " .. event.data end
    end
    assert.same({ "text one", "binary \0", "ping ping", "pong pong", "text in parts" }, told)
    assert.same({ 0x8a, "ping" }, { open(sent) })
    local events, output = ws:feed(bytes)
    assert.equal(5, #events)
    assert.same({ 0x8a, "ping" }, { open(output) })
    assert.same({ {}, "" }, { ws:feed("") })
  end)

  it("closes once", function()
    local ws = core.ws_client()
    assert.same({ 0x88, "\x03\xe8" }, { open(ws:close()) })
    rig.raises(function() ws:message("x") end, "this WebSocket is closing")
    local reason = ("r"):rep(123)
    assert.same({ 0x88, "\x0f\xa1" .. reason }, { open(core.ws_client():close(4001, reason)) })
    rig.raises(function() core.ws_client():close(4001, reason .. "r") end, "at most 123 bytes")
    local ends = { [""] = { 1005, "" }, ["\x03\xe8"] = { 1000, "" }, ["\x0f\xa1bye"] = { 4001, "bye" } }
    for payload, told in pairs(ends) do
      local events, output = core.ws_client():feed(frame(0x88, payload))
      assert.same({ { type = "close", code = told[1], data = told[2] } }, events)
      assert.equal(0x88, (open(output)))
    end
  end)

  it("is told when the server breaks the protocol", function()
    for n, wrong in pairs { [125] = false, [126] = "the server broke the WebSocket protocol" } do
      assert.equal(wrong or nil, (select(3, core.ws_client():feed(frame(0x89, ("p"):rep(n))))))
    end
  end)

  it("lets go of everything, whenever it is collected", function()
    local ws = core.ws_client()
    ws:message(("x"):rep(1e5))
    ws:feed(frame(0x01, "half"))
    local let_go = getmetatable(ws).__gc
    let_go(ws)
    let_go(ws)
  end)
end)
