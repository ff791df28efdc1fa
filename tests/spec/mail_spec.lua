--- Mail between workers: each kind goes to whom it concerns, what nobody knows to nobody.
local mail = require("perigee.mail")

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

  it("that is none is for nobody", function()
    for _, text in ipairs { "", "x", "5", "null", "[]", "{}", '{"kind":5}', '{"kind":"nobody"}', '{"kind":null}' } do
      assert.is_false(mail.deliver(text, 0, {}), text)
    end
  end)
end)
