--- Users: identify, who gets what is sent to them, who is closed, and bearer tokens.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")
local visits = require("tests.spec.support.visits")

local has, raises = rig.has, rig.raises

local function declare(C, perigee)
  C:rpc_method("sign_in", function(ctx, user) ctx.consumer:identify(user) end)
  C:rpc_method("sign_out", function(ctx) ctx.consumer:identify(nil) end)
  C:rpc_method("who", function(ctx) return { ctx = ctx.user, consumer = ctx.consumer.user } end)
  C:rpc_method("set", function(ctx, key, value) ctx.session[key] = value end)
  C:rpc_method("get", function(ctx, key) return ctx.session[key] end)
  C:rpc_method("destroy", function(ctx) ctx.session:destroy() end)
  C:rpc_method("tell", function(ctx, user, text, is_other)
    C:notify_user(user, "told", { text = text }, is_other and { except = ctx } or nil)
  end)
  C:rpc_method("kick", function(ctx, what)
    if what.except then what.except = ctx end
    perigee.kick(what)
  end)
  C:rpc_method("groups", function(ctx) return perigee.array(ctx.consumer:groups()) end)
  C:rpc_method("join", function(ctx, name) return ctx:group_add(name) end)
  C:rpc_method("leave", function(ctx, name) return ctx.consumer:group_discard(name) end)
  C:rpc_method("channel", function(ctx) return ctx.consumer.channel_name end)
end

local function app(options)
  options = options or { http_user = true }
  return rig.app(options, declare)
end

describe("identify", function()
  after_each(rig.clean)

  it("says who the visitor is, from then on and on every connection that follows", function()
    local ann = visits.new(app())
    assert.same({}, ann:call("who"))
    ann:call("sign_in", { id = 7, name = "Ann" })
    assert.same({ ctx = { id = 7, name = "Ann" }, consumer = { id = 7, name = "Ann" } }, ann:call("who"))
    assert.same({ ctx = { id = 7, name = "Ann" }, consumer = { id = 7, name = "Ann" } }, ann:connect():call("who"))
    ann:call("sign_out")
    assert.same({}, ann:call("who"))
    assert.same({}, ann:connect():call("who"))
  end)

  it("is seen at once by the call that does it", function()
    local ann = visits.new(rig.app({ http_user = true }, function(C)
      C:rpc_method("both", function(ctx)
        local before = ctx.user
        ctx.consumer:identify("ann")
        return { before = before, ctx = ctx.user, consumer = ctx.consumer.user }
      end)
    end))
    assert.same({ ctx = "ann", consumer = "ann" }, ann:call("both"))
    assert.same({ before = "ann", ctx = "ann", consumer = "ann" }, ann:connect():call("both"))
  end)

  it("is at once what JSON makes of it, apart from the table that was given", function()
    local ann = visits.new(rig.app({ http_user = true }, function(C)
      C:rpc_method("in_and_change", function(ctx)
        local given = { id = 7, name = "Ann" }
        ctx.consumer:identify(given)
        given.name = "Bob"
        return { ctx = ctx.user.name, consumer = ctx.consumer.user.name }
      end)
    end))
    assert.same({ ctx = "Ann", consumer = "Ann" }, ann:call("in_and_change"))
  end)

  it("is known when connect runs", function()
    local seen
    local ann = visits.new(rig.app({ http_user = true }, function(C)
      function C:connect() seen = self.user end
      C:rpc_method("sign_in", function(ctx, user) ctx.consumer:identify(user) end)
    end))
    ann:call("sign_in", 5)
    ann:connect()
    assert.equal(5, seen)
  end)

  it("gives the session a new id, and the old one to nobody: session fixation", function()
    local test = app()
    local attacker = visits.new(test)
    attacker:call("set", "cart", { 1 })
    local planted = attacker.cookie
    local victim = visits.new(test, planted)
    local spy = attacker:connect()
    victim:call("sign_in", "victim")
    assert.are_not.equal(planted, victim.cookie)
    assert.same({ 1 }, victim:call("get", "cart"))
    assert.same({}, attacker:call("who"))
    assert.is_nil(attacker:call("get", "cart"))
    assert.same({}, spy:call("who"))
    assert.equal(core.null, spy:call("get", "cart"))
  end)

  it("also when it is nobody", function()
    local ann = visits.new(app())
    ann:call("sign_in", 1)
    local old = ann.cookie
    ann:call("sign_out")
    assert.are_not.equal(old, ann.cookie)
  end)

  it("is forgotten by the other tabs when one signs out or ends the session", function()
    local test = app()
    for _, how in ipairs { "sign_out", "destroy" } do
      local ann = visits.new(test)
      ann:call("sign_in", "ann")
      local tab = ann:connect()
      assert.equal("ann", tab:call("who").ctx)
      ann:call(how)
      assert.same({}, tab:call("who"))
      ann:call("tell", "ann", "psst")
      tab:expect_nothing("told")
    end
  end)

  it("of another connection leaves the call's own user alone", function()
    local first
    local test = rig.app({}, function(C)
      C:rpc_method("be_first", function(ctx) first = ctx.consumer end)
      C:rpc_method("sign_first_in", function(ctx)
        local before = ctx.user
        first:identify("ann")
        return { before = before, after = ctx.user, first = first.user }
      end)
      C:rpc_method("who", function(ctx) return ctx.user end)
    end)
    local one, two = test:connect("/test"), test:connect("/test")
    one:call("be_first")
    assert.same({ first = "ann" }, two:call("sign_first_in"))
    assert.equal("ann", one:call("who"))
    assert.equal(core.null, two:call("who"))
  end)

  it("is for the connection alone without http_user", function()
    local test = app {}
    local ann = test:connect("/test")
    ann:call("sign_in", "ann")
    assert.equal("ann", ann:call("who").ctx)
    assert.same({}, test:connect("/test"):call("who"))
    test:connect("/test"):call("tell", "ann", "hi")
    assert.same({ text = "hi" }, ann:expect("told"))
  end)

  it("takes an integer, a text, or a table with such an id", function()
    local ann = visits.new(app())
    for _, user in ipairs { 1.5, true, "", ("x"):rep(151), { name = "no id" }, { id = "" }, { id = 1.5 } } do
      assert.equal(-32603, ann:try("sign_in", user).code)
    end
    for _, user in ipairs { 0, -1, "x", ("x"):rep(150), { id = 1 }, { id = "x", more = { 1 } } } do
      ann:call("sign_in", user)
      assert.same(user, ann:call("who").ctx)
    end
  end)
end)

describe("notify_user", function()
  after_each(rig.clean)

  it("reaches all of a user's connections and nobody else's", function()
    local test = app()
    local ann, bob = visits.new(test), visits.new(test)
    ann:call("sign_in", 7)
    bob:call("sign_in", 77)
    local tabs = { ann:connect(), ann:connect() }
    local other, stranger = bob:connect(), test:connect("/test")
    other:call("tell", 7, "hello")
    for _, tab in ipairs(tabs) do assert.same({ text = "hello" }, tab:expect("told")) end
    other:expect_nothing()
    stranger:expect_nothing()
    other:call("tell", "7", "as text")
    assert.same({ text = "as text" }, tabs[1]:expect("told"))
    tabs[2]:clear()
    tabs[1]:call("tell", { id = 7 }, "to the others", true)
    assert.same({ text = "to the others" }, tabs[2]:expect("told"))
    tabs[1]:expect_nothing()
  end)

  it("goes with who the user of a connection is", function()
    local test = app()
    local ann = test:connect("/test")
    ann:call("sign_in", "a")
    ann:call("sign_in", "b")
    ann:call("tell", "a", "no")
    ann:expect_nothing()
    ann:call("tell", "b", "yes")
    ann:expect("told")
    ann:call("sign_out")
    ann:call("tell", "b", "no")
    ann:expect_nothing()
  end)

  it("uses groups that nobody sees and nobody can join", function()
    local test = app()
    local ann, eve = visits.new(test), test:connect("/test")
    ann:call("sign_in", 7)
    assert.same({}, ann:connect():call("groups"))
    local _, err = eve:try("join", "\0user:7")
    assert.equal(-32603, err.code)
    _, err = eve:try("leave", "\0user:7")
    assert.equal(-32603, err.code)
    assert.is_true(eve:call("join", "user:7"))
    ann:call("tell", 7, "secret")
    eve:expect_nothing()
  end)
end)

describe("kick", function()
  after_each(rig.clean)

  it("closes a user's connections", function()
    local test = app()
    local ann, bob = visits.new(test), visits.new(test)
    ann:call("sign_in", "ann")
    bob:call("sign_in", "bob")
    local one, two, other = ann:connect(), ann:connect(), bob:connect()
    other:call("kick", { user = "ann", code = 4001, reason = "signed out" })
    for _, tab in ipairs { one, two } do
      local code, reason = tab:expect_close()
      assert.equal(4001, code)
      assert.equal("signed out", reason)
    end
    rig.still_serves(other, "who")
  end)

  it("spares who is excepted", function()
    local test = app()
    local ann = visits.new(test)
    ann:call("sign_in", "ann")
    local one, two = ann:connect(), ann:connect()
    one:call("kick", { user = "ann", except = true })
    local code, reason = two:expect_close()
    assert.equal(1008, code)
    assert.equal("kicked", reason)
    rig.still_serves(one, "who")
  end)

  it("closes a channel, or a group", function()
    local test = app()
    local a, b, c, d = test:connect("/test"), test:connect("/test"), test:connect("/test"), test:connect("/test")
    d:call("kick", { channel = a:call("channel") })
    a:expect_close()
    b:call("join", "room")
    c:call("join", "room")
    d:call("kick", { group = "room", code = 1000, reason = "" })
    assert.equal(1000, (b:expect_close()))
    c:expect_close()
    rig.still_serves(d, "who")
  end)

  it("tells what is wrong with what it is given", function()
    rig.app({}, function(_, perigee)
      for _, wrong in ipairs {
        { 5, "perigee.kick takes a table" },
        { {}, "takes one of user, channel and group" },
        { { user = 1, group = "g" }, "takes one of user, channel and group" },
        { { usr = 1 }, "did you mean 'user'" },
        { { user = 1, code = 1006 }, "the code must be" },
        { { user = 1, reason = ("x"):rep(124) }, "at most 123 bytes" },
        { { channel = 5 }, "the channel must be a string" },
        { { user = true }, "a user is known by" },
      } do raises(function() perigee.kick(wrong[1]) end, wrong[2]) end
    end)
  end)

  it("cannot be forged with an event", function()
    rig.app({}, function(C, perigee)
      raises(function() perigee.group_send("g", { type = "perigee.kick" }) end, "the server's own")
      raises(function() perigee.send("c", { type = "perigee.session_ended" }) end, "the server's own")
      raises(function() C:on_event("perigee.kick", function() end) end, "the server's own")
    end)
  end)
end)

describe("bearer tokens", function()
  after_each(rig.clean)

  local asked
  local function with_auth(more)
    local options = {
      auth = function(token)
        asked = asked + 1
        return token:match("^user%-(%w+)$")
      end,
    }
    for key, value in pairs(more or {}) do options[key] = value end
    asked = 0
    return app(options)
  end

  it("are read from Authorization", function()
    local test = with_auth()
    local ann = visits.new(test)
    local answer = ann:post(rig.request("who"), { Authorization = "Bearer user-ann" })
    assert.equal("ann", answer.result.ctx)
    answer = ann:post(rig.request("who"), { Authorization = "bearer  user-ann" })
    assert.equal("ann", answer.result.ctx)
    local socket = test:connect("/test", { headers = { Authorization = "Bearer user-bob" } })
    assert.equal("bob", socket:call("who").ctx)
    ann:call("tell", "bob", "hi")
    socket:expect("told")
  end)

  it("are read from the subprotocol behind 'bearer', which is the answer", function()
    local test = with_auth { subprotocols = { "v2" } }
    local socket = test:connect("/test", { subprotocols = { "bearer", "user-ann" } })
    assert.equal("ann", socket:call("who").ctx)
    assert.equal("bearer", socket.response.headers["sec-websocket-protocol"])
    socket = test:connect("/test", { subprotocols = { "bearer", "user-ann", "v2" } })
    assert.equal("v2", socket.response.headers["sec-websocket-protocol"])
    local _, refusal = test:try_connect("/test", { subprotocols = { "bearer", "nobody" } })
    assert.equal(401, refusal.status)
  end)

  it("are read from the query", function()
    local test = with_auth()
    assert.equal("ann", test:connect("/test?access_token=user-ann"):call("who").ctx)
    local response = test:post("/test?access_token=user-ann", rig.request("who"))
    has('"ctx":"ann"', response.body)
  end)

  it("that are nobody's are refused before anything runs", function()
    local test = with_auth()
    local _, refusal = test:try_connect("/test", { headers = { Authorization = "Bearer x" } })
    assert.equal(401, refusal.status)
    has("invalid_token", refusal.headers["www-authenticate"])
    local answer = visits.new(test):post(rig.request("who"), { Authorization = "Bearer x" })
    assert.equal(-32004, answer.error.code)
    answer = visits.new(test):post(rig.request("who"), { Authorization = "Bearer " .. ("x"):rep(9000) })
    assert.equal(-32004, answer.error.code)
  end)

  it("that are too long are refused unasked", function()
    local test = with_auth()
    for n, times in pairs { [8191] = 1, [8192] = 1, [8193] = 0 } do
      asked = 0
      local answer = visits.new(test):post(rig.request("who"), { Authorization = "Bearer " .. ("x"):rep(n) })
      assert.same({ -32004, times }, { answer.error.code, asked }, n)
    end
  end)

  it("are nobody's when auth says false", function()
    local test = with_auth { auth = function() return false end }
    local answer = visits.new(test):post(rig.request("who"), { Authorization = "Bearer x" })
    assert.equal(-32004, answer.error.code)
    local _, refusal = test:try_connect("/test", { headers = { Authorization = "Bearer x" } })
    assert.equal(401, refusal.status)
  end)

  it("outlast the session they came beside", function()
    local test = with_auth { http_user = true }
    local ann = visits.new(test)
    ann:call("sign_in", "cookie")
    local shown = test:connect("/test", { headers = { Cookie = ann.cookie, Authorization = "Bearer user-token" } })
    local kept = ann:connect()
    assert.same({ "token", "cookie" }, { shown:call("who").ctx, kept:call("who").ctx })
    ann:call("destroy")
    assert.same({ "token" }, { shown:call("who").ctx, kept:call("who").ctx })
  end)

  it("need not be there", function()
    local test = with_auth()
    assert.same({}, visits.new(test):call("who"))
    assert.same({}, visits.new(test):post(rig.request("who"), { Authorization = "Basic dTpw" }).result)
    assert.equal(0, asked)
  end)

  it("are asked about once a request", function()
    local test = with_auth()
    local answer = visits.new(test):post("[" .. rig.request("who") .. "," .. rig.request("who", nil, "2") .. "]",
      { Authorization = "Bearer user-ann" })
    assert.equal("ann", answer[2].result.ctx)
    assert.equal(1, asked)
  end)

  it("go before the session's user", function()
    local test = with_auth { http_user = true }
    local ann = visits.new(test)
    ann:call("sign_in", "cookie")
    assert.equal("cookie", ann:call("who").ctx)
    assert.equal("token", ann:post(rig.request("who"), { Authorization = "Bearer user-token" }).result.ctx)
  end)

  it("are not logged", function()
    local test = with_auth()
    test:try_connect("/test?access_token=secretsecret")
    test:post("/test?access_token=secretsecret", rig.request("nope"))
    for _, entry in ipairs(test:logged()) do
      rig.lacks("secretsecret", core.json_encode(entry.fields or {}) .. entry.event .. (entry.block or ""))
    end
  end)
end)
