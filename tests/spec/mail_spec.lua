--- Mail between workers: each kind goes to whom it concerns, what nobody knows to nobody.
local core = require("perigee.core")
local mail = require("perigee.mail")
local rig = require("tests.spec.support.rig")

describe("mail", function()
  it("goes to whoever takes its kind, with all that came with it", function()
    local got
    mail.on("spec", function(...) got = { ... } end)
    local text = '{"kind":"spec","n":1}'
    assert.is_true(mail.deliver(text, 7, { "g" }))
    assert.same({ { kind = "spec", n = 1 }, text, 7, { "g" } }, got)
    mail.on("spec", nil)
    assert.is_false(mail.deliver(text, 0, {}))
  end)

  it("with an event of another worker goes to a connection, or to a group's members here", function()
    local got = {}
    local app = rig.app(function(C)
      C:rpc_method("join", function(ctx)
        ctx:group_add("g")
        return ctx[1]
      end)
      C:on_event("kick", function(self, event) got[#got + 1] = ("%d %s"):format(self._conn, event.why) end)
    end)
    local function event(why) return ('{"kind":"event","event":{"type":"kick","why":"%s"}}'):format(why) end
    local one, two = app:connect("/test"):call("join"), app:connect("/test"):call("join")
    assert.is_true(mail.deliver(event "a", one, {}))
    rig.settle()
    assert.same({ one .. " a" }, got)
    assert.is_true(mail.deliver(event "b", 0, { "g", "nobody's" }))
    assert.is_true(mail.deliver(event "c", 12345, {}))
    rig.settle()
    table.sort(got)
    local expected = { one .. " a", one .. " b", two .. " b" }
    table.sort(expected)
    assert.same(expected, got)
    app:stop()
  end)

  it("is counted when nobody takes it, or when who takes it fails", function()
    local here = ("%s.%d.0"):format(core.node, core.worker)
    local app = rig.app(function() end)
    local function counted(text)
      local before = core.metrics()
      core.post(here, text)
      rig.settle()
      local after = core.metrics()
      return { after.layer_foreign - before.layer_foreign, after.faults - before.faults }
    end
    mail.on("spec", function(letter) if letter.fails then error("no") end end)
    assert.same({ 0, 0 }, counted('{"kind":"spec"}'))
    assert.same({ 1, 0 }, counted('{"kind":"nobody"}'))
    assert.same({ 0, 1 }, counted('{"kind":"spec","fails":true}'))
    mail.on("spec", nil)
    app:stop()
  end)

  it("that is none is for nobody", function()
    for _, text in ipairs { "", "x", "5", "null", "[]", "{}", '{"kind":5}', '{"kind":"nobody"}', '{"kind":null}' } do
      assert.is_false(mail.deliver(text, 0, {}), text)
    end
  end)
end)
