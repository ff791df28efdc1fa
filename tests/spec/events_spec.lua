--- Typed events between consumers: to the code behind a connection, not to its client.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("events", function()
  local app, ann, bob, C, perigee

  before_each(function()
    app = rig.app(function(class, module)
      C, perigee = class, module
      C:on_event("room.kick", function(self, event) self:notify("kicked", event) end)
      C:on_event("wait", function(self, event)
        perigee.sleep(event.seconds)
        self:notify("waited", { event.seconds })
      end)
      C:on_event("fail", function() return 1 + nil end)
      C:rpc_method("join", function(ctx, group)
        ctx:group_add(group)
        return ctx.consumer.channel_name
      end)
    end)
    ann, bob = app:connect("/test"), app:connect("/test")
    ann.channel, bob.channel = ann:call("join", "lobby"), bob:call("join", "lobby")
  end)

  it("reach the consumer of every connection in a group, by their type", function()
    C:group_send("lobby", { type = "room.kick", why = "spam" })
    assert.same({ type = "room.kick", why = "spam" }, ann:expect("kicked"))
    assert.same({ type = "room.kick", why = "spam" }, bob:expect("kicked"))
  end)

  it("reach the consumer of one connection, by its channel", function()
    assert.is_true(C:send(bob.channel, { type = "room.kick" }))
    bob:expect("kicked")
    ann:expect_nothing()
  end)

  it("may be sent by anybody: the functions stand on perigee too", function()
    perigee.group_send("lobby", { type = "room.kick" })
    assert.is_true(perigee.send(ann.channel, { type = "room.kick" }))
    ann:expect("kicked")
    ann:expect("kicked")
    bob:expect("kicked")
  end)

  it("to nobody reach nobody", function()
    C:group_send("empty", { type = "room.kick" })
    assert.is_false(C:send("no.such.channel", { type = "room.kick" }))
    bob:close()
    assert.is_false(C:send(bob.channel, { type = "room.kick" }))
    C:group_send("lobby", { type = "room.kick" })
    ann:expect("kicked")
    ann:expect_nothing()
  end)

  it("carry any string: of bytes, in keys, in lists, and what looks like our own marks", function()
    local got = {}
    C:on_event("bytes", function(self, event)
      got[#got + 1] = event
      self:notify("got")
    end)
    local all = {}
    for byte = 0, 255 do all[#all + 1] = string.char(byte) end
    local sent = {
      type = "bytes", all = table.concat(all),
      list = perigee.array { "\xFF", "\0", "\0eA", "é", "" },
      none = perigee.array {},
      ["\xC3"] = { ["\0key"] = "\xED\xA0\x80" }, n = 1.5, i = math.maxinteger, t = true,
      null = perigee.null, empty = {},
    }
    C:group_send("lobby", sent)
    assert.is_true(C:send(bob.channel, sent))
    ann:expect("got")
    bob:expect("got")
    bob:expect("got")
    assert.equal(3, #got)
    for _, event in ipairs(got) do
      assert.same(sent, event)
      assert.equal(core.array_mt, getmetatable(event.list))
      assert.equal(core.array_mt, getmetatable(event.none))
      assert.is_nil(getmetatable(event.empty))
      assert.equal("integer", math.type(event.i))
    end
    -- bytes excuse nothing else
    for _, bad in ipairs { { print }, { a = 1, 2 }, perigee.array { [2] = 1 }, { setmetatable({}, {}) }, { 0 / 0 } } do
      local function send() C:group_send("lobby", { type = "bytes", x = "\xFF", bad = bad }) end
      assert.error_matches(send, "cannot encode .* at %.bad")
    end
    local cycle = {}
    cycle[1] = cycle
    local function send() C:group_send("lobby", { type = "bytes", list = { "\xFF", cycle } }) end
    assert.error_matches(send, "a value nested too deeply %(a cycle%?%)")
    C:on_event("\xFF\0", function(self) self:notify("heard", {}) end)
    C:send(ann.channel, { type = "\xFF\0" })
    ann:expect("heard")
  end)

  it("are copies: neither sender nor receivers share them", function()
    local got = {}
    C:on_event("copy", function(_, event)
      got[#got + 1] = event
      event.list[1] = "changed"
    end)
    local event = { type = "copy", list = { "as sent" } }
    C:group_send("lobby", event)
    event.list[1] = "changed by the sender"
    rig.settle()
    assert.equal(2, #got)
    assert.not_equal(got[1], got[2])
    C:group_send("lobby", { type = "copy", list = { "as sent" } })
    local seen
    C:on_event("look", function(_, e) seen = e.list end)
    C:send(ann.channel, { type = "look", list = event.list })
    event.list[1] = "too late"
    rig.settle()
    assert.same({ "changed by the sender" }, seen)
  end)

  it("keep what JSON keeps", function()
    local sent = { type = "keep", null = core.null, int = math.maxinteger, float = 0.1, empty = perigee.array() }
    sent.o = {}
    local got
    C:on_event("keep", function(_, event) got = event end)
    C:send(ann.channel, sent)
    rig.settle()
    assert.same(sent, got)
    assert.equal(core.array_mt, getmetatable(got.empty))
    assert.is_nil(getmetatable(got.o))
  end)

  it("come in the order they were sent", function()
    for i = 1, 20 do C:send(ann.channel, { type = "room.kick", i = i }) end
    for i = 1, 20 do assert.equal(i, ann:expect("kicked").i) end
  end)

  it("may be dealt with in time: one that waits holds nobody up", function()
    C:group_send("lobby", { type = "wait", seconds = 5 })
    C:send(ann.channel, { type = "room.kick" })
    ann:expect("kicked")
    ann:expect_nothing()
    assert.same({ 5 }, ann:expect("waited", 6))
    assert.same({ 5 }, bob:expect("waited"))
  end)

  it("that nobody handles do no harm", function()
    C:group_send("lobby", { type = "unknown" })
    rig.settle()
    assert.equal("unknown", app:logged("an event nobody handles")[1].fields.type)
    rig.no_errors(app)
    assert.equal("string", type(ann:call("join", "x")))
  end)

  it("whose handler fails are logged; the connection goes on, others get theirs", function()
    C:on_event("half", function(self)
      if self.channel_name == ann.channel then return 1 + nil end
      self:notify("got it")
    end)
    C:group_send("lobby", { type = "half" })
    bob:expect("got it")
    rig.has("attempt to perform arithmetic", rig.the_error(app).fields.error)
    rig.still_serves(ann, "join", "x")
  end)

  it("find the instance the connection has, also while its connect hook waits", function()
    app = rig.app(function(class, module)
      C = class
      function C:connect()
        self:group_add("opening")
        module.sleep(2)
      end
      C:on_event("mark", function(self) self.mark = "marked" end)
      C:rpc_method("mark", function(ctx) return ctx.consumer.mark end)
      module.after(1, function() C:group_send("opening", { type = "mark" }) end)
    end)
    assert.equal("marked", app:connect("/test"):call("mark"))
  end)

  it("reach connections of other consumers in the group, each with its own handler", function()
    app = require("perigee.testing").app(function(module)
      local A, B = module.consumer { groups = { "both" } }, module.consumer { path = "/b", groups = { "both" } }
      A:on_event("e", function(self) self:notify("a") end)
      B:on_event("e", function(self) self:notify("b") end)
      A:rpc_method("send", function() A:group_send("both", { type = "e" }) end)
      return { A, B }
    end)
    local a, b = app:connect("/test"), app:connect("/b")
    a:call("send")
    a:expect("a")
    b:expect("b")
  end)

  it("need a type, and content that has a form in JSON", function()
    for _, bad in ipairs { "kick", 5, {}, { type = 1 }, { type = "" } } do
      rig.raises(function() C:send(ann.channel, bad) end, "send: an event is a table with a type")
      rig.raises(function() C:group_send("lobby", bad) end, "group_send: an event is a table with a type")
    end
    rig.raises(function() C:send(ann.channel, { type = "x", f = print }) end, "send: cannot encode a function at .f")
    rig.raises(function() C:send(5, { type = "x" }) end, "send: the channel must be a string")
    for _, name in ipairs { "", ("g"):rep(201), 5, {} } do
      local function send() C:group_send(name, { type = "x" }) end
      rig.raises(send, "group_send: a group's name is a string of 1 to 200 bytes")
    end
    C:group_send(("g"):rep(200), { type = "x" })
  end)
end)
