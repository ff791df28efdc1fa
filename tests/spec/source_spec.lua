--- Texts of files: a mark of byte order in front is none of them.
local source = require("perigee.source")

local BOM = "\xEF\xBB\xBF"

describe("a file's text", function()
  it("begins behind the mark of byte order, once", function()
    assert.equal("x", source.text(BOM .. "x"))
    assert.equal("", source.text(BOM))
    assert.equal(BOM, source.text(BOM .. BOM))
    assert.equal("\xEF\xBB", source.text("\xEF\xBB"))
    assert.equal("x" .. BOM, source.text("x" .. BOM))
  end)

  it("is code, without a first line that begins with #", function()
    for _, first in ipairs { "", BOM, "#!/usr/bin/lua\n", BOM .. "# x\n" } do
      local fn = assert(source.load(first .. "return 1, y", "@f", { y = 2 }))
      assert.same({ 1, 2 }, { fn() })
    end
    assert.equal(print, assert(source.load("return print", "@f"))())
    assert.same({ nil, "f:2: syntax error near <eof>" }, { source.load(BOM .. "#!x\nno", "@f") })
    assert.is_nil((source.load("\27Lua", "@f")))
  end)
end)
