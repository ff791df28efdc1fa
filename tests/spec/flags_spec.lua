--- Flags of the command line: which word is what.
local flags = require("perigee.cli.flags")

describe("a command line", function()
  local command = {
    has_settings = true,
    flags = {
      { name = "--json", doc = "Say it in JSON." },
      { name = "--header", short = "-H", value = "'NAME: VALUE'", doc = "A field.", many = true },
      { name = "--count", value = "N", doc = "How many.", type = "integer", min = 1, max = 5, default = 3 },
    },
  }

  local function parse(...)
    local parsed, wrong = flags.parse(command, { ... })
    if not parsed then return nil, wrong end
    return parsed.words, parsed.options, parsed
  end

  local function wrong(text, ...)
    local parsed, why = flags.parse(command, { ... })
    assert.is_nil(parsed)
    assert.equal(text, why)
  end

  it("has words and flags in any order", function()
    local words, options = parse("a", "--json", "b", "--count", "2", "-", "-1", "c")
    assert.same({ "a", "b", "-", "-1", "c" }, words)
    assert.same({ json = true, count = 2 }, options)
    words, options = parse()
    assert.same({}, words)
    assert.same({}, options)
  end)

  it("has only words after --", function()
    local words, options = parse("--json", "--", "--count", "-x", "--")
    assert.same({ "--count", "-x", "--" }, words)
    assert.same({ json = true }, options)
  end)

  it("gives values with = or as the next word, whatever that is", function()
    assert.equal(4, select(2, parse("--count=4")).count)
    assert.equal(4, select(2, parse("--count", "4")).count)
    assert.same({ "a: b=c", "--json" }, select(2, parse("-H", "a: b=c", "--header", "--json")).header)
    assert.equal(2, select(2, parse("--count", "1", "--count=2")).count)
  end)

  it("is refused for what it says wrongly", function()
    wrong("there is no flag --jsno (did you mean '--json'?)", "--jsno")
    wrong("there is no flag --xyz", "--xyz=5")
    wrong("--json takes no value", "--json=1")
    wrong("--count needs a value", "a", "--count")
    wrong("--no-watch takes no value", "--no-watch=1")
    for _, value in ipairs { "0", "6", "x", "1.5" } do
      assert.is_nil((flags.parse(command, { "--count", value })), value)
    end
    for _, value in ipairs { "1", "5" } do assert.is_table((flags.parse(command, { "--count", value })), value) end
  end)

  it("has a flag for each setting, and one that turns it off", function()
    local _, options, parsed = parse("--watch", "--no-deflate", "--max-body", "2KiB", "--watch=false",
      "--config", "x.lua")
    assert.same({}, options)
    assert.equal("x.lua", parsed.config)
    local said = {}
    for i, one in ipairs(parsed.settings) do said[i] = one.key.name .. "=" .. tostring(one.value) end
    assert.same({ "watch=true", "deflate=false", "max_body=2048", "watch=false" }, said)
    local without = flags.parse({ flags = command.flags }, { "--watch" })
    assert.is_nil(without)
  end)

  it("is told in help as it is written", function()
    local help = flags.help { flags = command.flags }
    assert.equal([[

Flags
  --json                               Say it in JSON.
  -H, --header 'NAME: VALUE'           A field.
  --count N                            How many. (default 3)
]], help)
    assert.equal("", flags.help {})
    local all = flags.help { has_settings = true }
    assert.matches("\n  %-%-config FILE +Configuration file", all)
    assert.matches("\n  %-%-%[no%-%]watch ", all)
    for line in all:gmatch("[^\n]+") do assert.is_true(#line <= 2 + 36 + 1 + 80 and not line:find(" $"), line) end
  end)
end)
