--- JSON for people: on one line when it fits, else a member a line, keys in order.
local core = require("perigee.core")
local json = require("perigee.cli.json")

describe("JSON for people", function()
  local function array(list) return setmetatable(list, core.array_mt) end

  it("is on one line as long as it fits", function()
    assert.equal('{ "a": 1, "b": [2, "c", true, null] }', json.pretty { b = array { 2, "c", true, core.null }, a = 1 })
    assert.equal("{}", json.pretty {})
    assert.equal("[]", json.pretty(array {}))
    assert.equal("5", json.pretty(5))
    assert.equal('"x"', json.pretty("x"))
    assert.equal('["é"]', json.pretty { "é" })
  end)

  it("has a member a line when it does not, to the byte", function()
    for n, is_flat in pairs { [71] = true, [72] = true, [73] = false } do
      local text = ("x"):rep(n)
      local flat, long = ('["%s"]'):format(text), ('[\n  "%s"\n]'):format(text)
      assert.equal(is_flat and flat or long, json.pretty { text }, n)
    end
    for n, is_flat in pairs { [66] = true, [67] = true, [68] = false } do
      local text = ("x"):rep(n)
      local flat, long = ('{ "a": "%s" }'):format(text), ('{\n  "a": "%s"\n}'):format(text)
      assert.equal(is_flat and flat or long, json.pretty { a = text }, n)
    end
    local x, y = ("x"):rep(80), ("y"):rep(80)
    assert.equal(('{\n  "a": [1, 2],\n  "b": "%s",\n  "c": {\n    "d": "%s"\n  }\n}'):format(x, y),
      json.pretty { c = { d = y }, a = array { 1, 2 }, b = x })
    local deep = { { { ("x"):rep(69) } } } -- what stands in front of it counts
    assert.equal('[\n  [\n    [\n      "' .. ("x"):rep(69) .. '"\n    ]\n  ]\n]', json.pretty(deep))
  end)

  it("is without spaces when it is for programs", function()
    local value = { b = array { 2, "c" }, a = 1, d = { e = core.null } }
    assert.equal('{"a":1,"b":[2,"c"],"d":{"e":null}}', json.compact(value))
    assert.equal('["' .. ("x"):rep(200) .. '"]', json.compact { ("x"):rep(200) })
  end)

  it("is coloured by what it is", function()
    assert.equal('{ \27[34m"a"\27[0m: \27[36m1\27[0m }', json.pretty({ a = 1 }, true))
    assert.equal('[\27[32m"s"\27[0m,\27[35mtrue\27[0m,\27[35mnull\27[0m]', json.compact({ "s", true, core.null }, true))
  end)

  it("has nothing that a terminal would obey", function()
    assert.equal([["\u001b[2J\u009b\u202e"]], json.pretty("\27[2J\u{9b}\u{202e}"))
    assert.equal([[{ "\u001b": 1 }]], json.pretty { ["\27"] = 1 })
  end)
end)
