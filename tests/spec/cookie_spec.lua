--- Cookies: the one that is ours among what a client sends, and the line that sets it.
local cookie = require("perigee.cookie")

describe("a cookie", function()
  local function find(text) return cookie.find(text, "id") end

  it("is found wherever it stands", function()
    for _, text in ipairs {
      "id=v", "a=1; id=v", "id=v; a=1", "a=1;id=v", "a=1;\tid=v", "a=1; id=v;b=2", "xid=1; id=v", "id=v; xid=1",
    } do
      assert.equal("v", find(text), text)
    end
    assert.equal("", find("id=; a=1"))
    assert.equal("a=b", find("id=a=b"))
    assert.equal("v", find("id=v,id2=w"))
    assert.equal("v", find("id=v x"))
  end)

  it("is none when its name is part of another's", function()
    for _, text in ipairs { "", "xid=1", "a=id", "a=xid=1", "idx=1", "a=1; xid=2", "id", "-id=1" } do
      assert.is_nil(find(text), text)
    end
    assert.is_nil(find(nil))
  end)

  it("is none when it is there twice: one of them is somebody else's", function()
    for _, text in ipairs { "id=1; id=2", "id=1; id=1", "id=1;id=2", "a=1; id=1; b=2; id=2" } do
      assert.is_nil(find(text), text)
    end
    assert.equal("1", find("id=1; xid=2"))
  end)

  it("is bound to the host and to HTTPS when it came by HTTPS", function()
    assert.equal("__Host-id", cookie.name("id", true))
    assert.equal("id", cookie.name("id", false))
    assert.equal("Set-Cookie: id=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure\r\n",
      cookie.line("id", "v", 60, true))
    assert.equal("Set-Cookie: id=v; Path=/; Max-Age=0; HttpOnly; SameSite=Lax\r\n", cookie.line("id", "v", 0, false))
    for from, says in pairs { lax = "Lax", strict = "Strict", none = "None" } do
      assert.equal(("Set-Cookie: id=v; Path=/; Max-Age=60; HttpOnly; SameSite=%s; Secure\r\n"):format(says),
        cookie.line("id", "v", 60, true, from))
    end
    assert.equal("Set-Cookie: id=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict\r\n",
      cookie.line("id", "v", 60, false, "strict"))
    -- which no browser would keep
    assert.equal("Set-Cookie: id=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax\r\n",
      cookie.line("id", "v", 60, false, "none"))
  end)
end)
