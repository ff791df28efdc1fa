local testing = require "perigee.testing"

describe("counter", function()
  local app, ann

  before_each(function()
    app = testing.app("apps/counter")
    ann = app:connect("/counter")
  end)

  it("starts at zero", function()
    assert.same({ value = 0, watching = 1 }, ann:call("get"))
  end)

  it("counts up and down, by steps if asked to", function()
    assert.equal(1, ann:call("increment"))
    assert.equal(11, ann:call("increment", 10))
    assert.equal(10, ann:call("decrement"))
    assert.equal(-990, ann:call("decrement", 1000))
    assert.equal(0, ann:call("reset"))
    assert.equal(0, ann:call("get").value)
  end)

  it("is the same for everybody, and tells everybody", function()
    local bob = app:connect("/counter")
    ann:call("increment", 5)
    assert.same({ value = 5 }, ann:expect("changed"))
    assert.same({ value = 5 }, bob:expect("changed"))
    bob:call("reset")
    assert.same({ value = 0 }, ann:expect("changed"))
    assert.equal(0, bob:call("get").value)
  end)

  it("counts over HTTP as well", function()
    local answer = app:post("/counter", '{"jsonrpc":"2.0","id":1,"method":"increment","params":{"by":3}}')
    assert.equal('{"jsonrpc":"2.0","result":3,"id":1}', answer.body)
    assert.same({ value = 3 }, ann:expect("changed"))
  end)

  it("refuses odd steps", function()
    for _, by in ipairs { 0, -1, 1.5, 1001, "1", true } do
      local ok, err = ann:try("increment", by)
      assert.is_false(ok)
      assert.equal(-32602, err.code)
      assert.equal("by", err.data.param)
    end
    assert.equal(0, ann:call("get").value)
    ann:expect_nothing("changed")
  end)

  it("knows how many watch", function()
    assert.same({ count = 1 }, ann:expect("watching"))
    local bob = app:connect("/counter")
    assert.same({ count = 2 }, ann:expect("watching"))
    assert.equal(2, bob:call("get").watching)
    bob:close()
    assert.same({ count = 1 }, ann:expect("watching"))
  end)

  it("keeps its value when its code is loaded anew", function()
    ann:call("increment", 41)
    app:reload()
    assert.equal(42, ann:call("increment"))
  end)
end)
