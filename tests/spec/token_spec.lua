--- Signed tokens and password hashes.
local core = require("perigee.core")
local passwords = require("perigee.password")
local rig = require("tests.spec.support.rig")

local has, raises = rig.has, rig.raises

describe("a token", function()
  local test, token

  before_each(function()
    test = rig.app(function(_, perigee) token = perigee.token end)
  end)
  after_each(rig.clean)

  it("carries a value until it expires", function()
    for _, value in ipairs { 1, "x", true, { user = 7, roles = { "a" } }, core.null } do
      assert.same(value, (token.verify(token.sign(value))))
    end
    local short = token.sign("x", { expires = 60 })
    test:advance(58)
    assert.equal("x", (token.verify(short)))
    test:advance(3)
    local value, err = token.verify(short)
    assert.is_nil(value)
    assert.equal("expired", err)
  end)

  it("is void from the second on at which it ends", function()
    local clock = require("perigee.clock")
    local wall, now = clock.wall, 1000
    clock.wall = function() return now end
    local one = token.sign("x", { expires = 60 })
    local seen = {}
    for i = 59, 61 do
      now = 1000 + i
      seen[#seen + 1] = token.verify(one) or "void"
    end
    clock.wall = wall
    assert.same({ "x", "void", "void" }, seen)
  end)

  it("is not looked at when it is longer than one can be", function()
    local function verify(n)
      local _, err = token.verify(("x"):rep(n - 44) .. "." .. ("y"):rep(43))
      return err
    end
    assert.equal("forged", verify(4095))
    assert.equal("forged", verify(4096))
    assert.equal("malformed", verify(4097))
  end)

  it("lasts an hour unless told otherwise", function()
    local one = token.sign("x")
    test:advance(3590)
    assert.equal("x", (token.verify(one)))
    test:advance(20)
    assert.is_nil((token.verify(one)))
  end)

  it("is void with any bit changed", function()
    local good = token.sign { user = 7 }
    for i = 1, #good do
      for _, bit in ipairs { 1, 2, 4, 8, 16, 32, 64 } do
        local changed = good:sub(1, i - 1) .. string.char(good:byte(i) ~ bit) .. good:sub(i + 1)
        assert.is_nil((token.verify(changed)), changed)
      end
    end
    assert.same({ user = 7 }, (token.verify(good)))
  end)

  it("is void in any other form", function()
    local good = token.sign(1)
    for _, wrong in ipairs {
      "", ".", "a.b", good .. ".", good .. "A", good .. "=", "." .. good, good:match("^[^.]+"),
      good:match("^[^.]+") .. ".", good:upper(),
      good .. "." .. good, ("x"):rep(100000), 5, true, {}, good:gsub("%.", "\0."),
    } do
      local value, err = token.verify(wrong)
      assert.is_nil(value)
      assert.is_true(err == "malformed" or err == "forged")
    end
    assert.is_nil((token.verify(nil)))
  end)

  it("is made for a purpose", function()
    local reset = token.sign(7, { purpose = "reset" })
    assert.equal(7, (token.verify(reset, { purpose = "reset" })))
    assert.is_nil((token.verify(reset)))
    assert.is_nil((token.verify(reset, { purpose = "login" })))
    assert.is_nil((token.verify(token.sign(7), { purpose = "reset" })))
  end)

  it("can go into a URL, a header and a subprotocol", function()
    assert.is_truthy(token.sign({ text = "é?&=/+ " }):find("^[%w_.-]+$"))
  end)

  it("tells what is wrong with what it is given", function()
    raises(function() token.sign(nil) end, "needs a value")
    raises(function() token.sign(1, { expires = 0 }) end, "above 0")
    raises(function() token.sign(1, { expires = 0 / 0 }) end, "above 0")
    raises(function() token.sign(1, { expire = 5 }) end, "did you mean 'expires'")
    raises(function() token.sign(1, { purpose = 5 }) end, "purpose must be a string")
    raises(function() token.sign(1, 60) end, "options are a table")
    raises(function() token.sign(print) end, "cannot encode")
    raises(function() token.sign(("x"):rep(5000)) end, "more than 4096")
    raises(function() token.verify("x", { expires = 5 }) end, "has no option")
  end)
end)

--- Of "password", with one pass and 8 MiB.
local WEAK = "$argon2id$v=19$m=8192,t=1,p=1$7Fn1vd3Qu5ZqcO7yIjB92Q$NWi2nqnp8F3UqKZtIRhMs0T22B7DZ402FBubm7YY+xE"

describe("a password", function()
  after_each(rig.clean)

  local function app()
    return rig.app(function(C, perigee)
      C:rpc_method("hash", function(_, password) return perigee.password.hash(password) end)
      C:rpc_method("verify", function(_, password, hash)
        local ok, is_weak = perigee.password.verify(password, hash)
        return { ok, is_weak }
      end)
      C:rpc_method("verify_nobody", function(_, password) return (perigee.password.verify(password, nil)) end)
    end)
  end

  it("is hashed with argon2id and a salt of its own", function()
    local client = app():connect("/test")
    local one, two = client:call("hash", "correct horse"), client:call("hash", "correct horse")
    has("$argon2id$v=19$m=19456,t=2,p=1$", one)
    assert.are_not.equal(one, two)
    assert.same({ true, false }, client:call("verify", "correct horse", one))
    assert.same({ true, false }, client:call("verify", "correct horse", two))
    assert.same({ false, false }, client:call("verify", "Correct horse", one))
    assert.same({ false, false }, client:call("verify", "", one))
  end)

  it("may be any text", function()
    local client = app():connect("/test")
    for _, password in ipairs { "", "a\0b", "pässwörd😀", ("x"):rep(1024) } do
      local hash = client:call("hash", password)
      assert.is_true(client:call("verify", password, hash)[1])
      assert.is_false(client:call("verify", password .. "x", hash)[1])
    end
    assert.is_false(client:call("verify", "a", client:call("hash", "a\0b"))[1])
  end)

  it("is found weak when its hash is", function()
    local client = app():connect("/test")
    assert.same({ true, true }, client:call("verify", "password", WEAK))
    assert.same({ false, false }, client:call("verify", "Password", WEAK))
    assert.is_false(client:call("verify", "password", "nonsense")[1])
    assert.is_false(client:call("verify", "password", ("x"):rep(5000))[1])
  end)

  it("of nobody takes as long as another's", function()
    assert.is_false(app():connect("/test"):call("verify_nobody", "x"))
  end)

  it("that is too long is refused", function()
    local client = app():connect("/test")
    assert.equal(-32603, rig.refused(-32603, client, "hash", ("x"):rep(1025)).code)
    assert.same({ false, false }, client:call("verify", ("x"):rep(1025), "x"))
  end)

  it("waits for its turn, and not too many may wait", function()
    local before = passwords.QUEUE_MAX
    passwords.QUEUE_MAX = 5
    local test = app()
    local client = test:connect("/test")
    local batch = {}
    for id = 1, 12 do batch[id] = rig.request("hash", '["x"]', tostring(id)) end
    local hashed, refused = 0, 0
    for _, answer in ipairs(client:exchange("[" .. table.concat(batch, ",") .. "]")) do
      if answer.result then
        hashed = hashed + 1
      else
        assert.equal(-32006, answer.error.code)
        refused = refused + 1
      end
    end
    passwords.QUEUE_MAX = before
    assert.equal(passwords.AT_ONCE + 5, hashed)
    assert.equal(12 - hashed, refused)
    assert.is_string(client:call("hash", "x"))
  end)

  it("gives its turn back when its call is cancelled while it waits", function()
    local test = app()
    local client = test:connect("/test")
    for id = 1001, 1010 do client.client:send(rig.request("hash", '["x"]', tostring(id))) end
    client.client:send(rig.notification("$/cancelRequest", "[1005]"))
    client.client:send(rig.notification("$/cancelRequest", "[1001]"))
    test:advance(1)
    assert.is_table(client.answers[1005].error)
    assert.is_string(client.answers[1010].result)
    assert.is_truthy(client:call("hash", "x"))
  end)
end)
