--- Passwords: how many are worked on at a time, how many may wait, and what is refused without work.
local core = require("perigee.core")
local errors = require("perigee.errors")
local password = require("perigee.password")
local rig = require("tests.spec.support.rig")

describe("passwords", function()
  local hash, verify = core.password_hash, core.password_verify
  local verdict
  local begun, app, client -- jobs that are worked on: { task, wait, password }

  --- In place of the thread pool: a job is done when the spec says so.
  local function job(what)
    return function(task, wait, text, given)
      begun[#begun + 1] = { task = task, wait = wait, text = text, hash = given }
      return function() return what, false end
    end
  end

  local function finish(i)
    core.wake(begun[i].task, begun[i].wait)
    rig.settle()
  end

  before_each(function()
    begun = {}
    core.password_hash, core.password_verify = job("a hash"), job(true)
    app = rig.app(function(C, perigee)
      C:rpc_method("hash", { timeout = 5 }, function(_, text) return perigee.password.hash(text) end)
      C:rpc_method("verify", function(_, text, given) verdict = { perigee.password.verify(text, given) } end)
      C:rpc_method("many", function(_, n)
        local done, unavailable = 0, 0
        for _ = 1, n do
          perigee.spawn(function()
            local ok, err = pcall(password.hash, "x")
            if ok then done = done + 1 end
            if errors.is(err) and err.code == errors.codes.unavailable then unavailable = unavailable + 1 end
          end)
        end
        perigee.sleep(1)
        return unavailable
      end)
    end)
    client = app:connect("/test")
  end)

  after_each(function()
    local i = 1
    while i <= #begun do -- those that still wait begin when others end
      finish(i)
      i = i + 1
    end
    core.password_hash, core.password_verify = hash, verify
    rig.clean()
  end)

  it("are hashed two at a time, the others in their order", function()
    for i = 1, 4 do client:send(rig.request("hash", ('["p%d"]'):format(i), tostring(i))) end
    rig.settle()
    assert.equal(2, #begun)
    finish(2)
    assert.same({ "p1", "p2", "p3" }, { begun[1].text, begun[2].text, begun[3].text })
    assert.equal(3, #begun)
    finish(1)
    assert.equal("p4", begun[4].text)
    finish(3)
    finish(4)
    client:send(rig.request("hash", '["p5"]', "5"))
    rig.settle()
    assert.equal(5, #begun)
  end)

  it("of callers who are gone give their turn to the next, and take none", function()
    for i = 1, 5 do client:send(rig.request("hash", ('["p%d"]'):format(i), tostring(i))) end
    rig.settle()
    app:advance(4)
    client:send(rig.request("hash", '["p6"]', "6"))
    rig.settle()
    app:advance(1.5) -- those five have timed out; p6 has not
    rig.settle()
    local texts = {}
    for i, one in ipairs(begun) do texts[i] = one.text end
    assert.same({ "p1", "p2", "p6" }, texts)
  end)

  it("wait a hundred at the most", function()
    assert.equal(0, client:call("many", 2 + 99)) -- these stay: two are worked on, 99 wait
    assert.equal(0, client:call("many", 1))
    local err = rig.refused(errors.codes.unavailable, client, "hash", "x")
    rig.has("too many passwords are waiting", err.message)
    finish(1)
    assert.equal(0, client:call("many", 1))
    assert.equal(1, client:call("many", 1))
  end)

  it("have 1024 bytes at the most", function()
    for _, n in ipairs { 0, 1023, 1024 } do
      client:send(rig.request("hash", ('["%s"]'):format(("p"):rep(n)), "1"))
      rig.settle()
      assert.equal(n, #begun[#begun].text)
      finish(#begun)
    end
    rig.raises(function() password.hash(("p"):rep(1025)) end, "password.hash: a password has at most 1024 bytes")
    assert.same({ false, false }, { password.verify(("p"):rep(1025), "h") })
    assert.equal(3, #begun)
  end)

  it("are no numbers, and neither are hashes", function()
    rig.raises(function() password.hash(5) end, "password_spec.lua",
      "password.hash: the password must be a string, not a number")
    rig.raises(function() password.verify(nil, "h") end, "password_spec.lua",
      "password.verify: the password must be a string, not a nil")
    rig.raises(function() password.verify("p", 5) end, "password_spec.lua",
      "password.verify: the hash must be a string or nil, not a number")
  end)

  it("take as long for who is not known: a hash is made all the same", function()
    for i, given in ipairs { "", (',"%s"'):format(("h"):rep(128)) } do
      client:send(rig.request("verify", ('["p"%s]'):format(given), "1"))
      rig.settle()
      assert.is_nil(begun[i].hash)
      finish(i)
      assert.same({ false, false }, verdict)
    end
    client:send(rig.request("verify", ('["p","%s"]'):format(("h"):rep(127)), "1"))
    rig.settle()
    assert.equal(127, #begun[3].hash)
    finish(3)
    assert.same({ true, false }, verdict)
  end)
end)
