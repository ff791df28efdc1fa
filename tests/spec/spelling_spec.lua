--- Spelling: which word somebody probably meant, and how far off is too far.
local spelling = require("perigee.spelling")

describe("the nearest word", function()
  local function nearest(word, ...) return spelling.nearest(word, { ... }) end

  it("may be one edit away when it is short", function()
    assert.equal("abcd", nearest("abc", "abcd")) -- one more
    assert.equal("abc", nearest("abcd", "abc")) -- one less
    assert.equal("abcd", nearest("abxd", "abcd")) -- another one
    assert.equal("abcd", nearest("abdc", "abcd")) -- two that changed places
    assert.is_nil(nearest("abcd", "abxy"))
    assert.is_nil(nearest("ab", "abcd"))
  end)

  it("may be two away from five letters on, three from nine on", function()
    assert.equal("abxye", nearest("abcde", "abxye"))
    assert.is_nil(nearest("abcde", "axyze"))
    assert.equal("abcdefxy", nearest("abcdefgh", "abcdefxy"))
    assert.is_nil(nearest("abcdefgh", "abcdexyz"))
    assert.equal("abcdefxyz", nearest("abcdefghi", "abcdefxyz"))
    assert.equal("abcdefghi123", nearest("abcdefghi", "abcdefghi123"))
    assert.is_nil(nearest("abcdefghi", "abcdewxyz"))
    assert.is_nil(nearest("abcdefghi", "abcdefghi1234"))
  end)

  it("is the closest, and of two the first by name, whatever their order", function()
    assert.equal("timeout", nearest("timeot", "timers", "timeout", "time"))
    assert.equal("bat", nearest("at", "cat", "bat", "hat"))
    assert.equal("bat", nearest("at", "bat", "cat"))
    assert.is_nil(nearest("timeout"))
  end)

  it("counts changed places once, and does not care for case", function()
    assert.equal("badc", nearest("abdc", "badc"))
    assert.is_nil(nearest("abcd", "badc"))
    assert.equal("ORIGINS", nearest("orgins", "ORIGINS"))
    assert.equal("origins", nearest("ORIGNIS", "origins"))
  end)

  it("is told as a question", function()
    assert.equal(" (did you mean 'limit'?)", spelling.hint("limt", { "limit" }))
    assert.equal("", spelling.hint("x", { "limit" }))
    assert.equal("", spelling.hint(5, { "limit" }))
  end)
end)

describe("the keys of a table", function()
  it("are its texts, in order", function()
    assert.same({ "a", "b", "c" }, spelling.keys { c = 1, a = 2, b = 3, [1] = 4, [true] = 5 })
  end)
end)
