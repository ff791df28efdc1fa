--- Groups: what is kept of a member, and what is asked of other workers.
local core = require("perigee.core")
local mail = require("perigee.mail")
local rig = require("tests.spec.support.rig")

describe("a group", function()
  after_each(rig.clean)

  it("keeps 4096 bytes of a member as JSON, and no more", function()
    local test = rig.app(function(C, perigee)
      C:rpc_method("join", function(ctx, meta) return ctx:group_add("g", meta) end)
      C:rpc_method("meta", function() return perigee.group("g"):members()[1].meta end)
    end)
    local ann = test:connect("/test")
    for _, n in ipairs { 4093, 4094 } do -- and two quotes
      ann:call("join", ("x"):rep(n))
      assert.equal(n, #ann:call("meta"))
    end
    local ok = ann:try("join", ("x"):rep(4095))
    assert.is_false(ok)
    assert.equal(4094, #ann:call("meta"))
  end)

  it("forgets a question to another worker when it is answered", function()
    local answers = setmetatable({}, { __mode = "v" })
    local test = rig.app(function(C, perigee)
      C:rpc_method("join", function(ctx) return ctx:group_add("g") end)
      C:rpc_method("others", function()
        local found, list = perigee.group("g"):members { cursor = core.node .. ".1.0" }, {}
        for i, one in ipairs(found) do list[i] = one.channel end
        return list
      end)
    end)
    local ann = test:connect("/test")
    ann:call("join")
    local post, decode = core.post, core.json_decode
    core.post = function(to, text)
      if not to:find(core.node .. ".1.0", 1, true) then return post(to, text) end
      mail.deliver(('{"kind":"members_page","id":%s,"members":[{"channel":"c"}]}'):format(text:match('"id":(%d+)')),
        0, {})
      return true
    end
    core.json_decode = function(text)
      local value, err = decode(text)
      if type(value) == "table" and value.kind == "members_page" then answers[1] = value end
      return value, err
    end
    local ok, found = pcall(ann.call, ann, "others")
    core.post, core.json_decode = post, decode
    assert.is_true(ok, found)
    assert.same({ "c" }, found)
    collectgarbage()
    collectgarbage()
    assert.is_nil(answers[1])
  end)
end)
