--- Marked arrays: what does not fit into one is an error wherever values are kept or sent, and nothing is lost.
local rig = require("tests.spec.support.rig")

describe("perigee.array", function()
  local app, client, C, perigee

  before_each(function()
    app = rig.app(function(class, module)
      C, perigee = class, module
      C:rpc_method("try", function(ctx, where, kind)
        local value = kind == "text" and perigee.array { 1, total = 1 } or perigee.array { 1, nil, 3 }
        local ok, err = pcall(function()
          if where == "notify" then ctx:notify("x", { value }) end
          if where == "group" then C:notify_group("lobby", "x", value) end
          if where == "event" then C:group_send("lobby", { type = "x", value = value }) end
          if where == "shared" then perigee.shared("array"):set("x", value) end
          if where == "meta" then ctx:group_add("lobby", value) end
          if where == "json" then assert(perigee.json.encode(value)) end
          if where == "call" then ctx:call("x", { value }) end
        end)
        return { ok, ok or tostring(err) }
      end)
      C:rpc_method("total", function(_, list)
        list.total = #list
        return list
      end)
    end)
    client = app:connect("/test")
  end)

  for _, where in ipairs { "notify", "group", "event", "shared", "meta", "json", "call" } do
    it("loses nothing on the way: " .. where, function()
      local ok, err = table.unpack(client:call("try", where, "hole"))
      assert.is_false(ok)
      rig.has("an array with a hole", err)
      ok, err = table.unpack(client:call("try", where, "text"))
      assert.is_false(ok)
      rig.has("an array with a text key", err)
      client:expect_nothing()
    end)
  end

  it("loses nothing in a session", function()
    app = rig.app({ http_user = true }, function(class, module)
      class:rpc_method("keep", function(ctx) ctx.session.x = module.array { 1, nil, 3 } end)
    end)
    local ok, err = app:connect("/test"):try("keep")
    assert.is_false(ok)
    assert.equal(-32603, err.code)
    assert.equal(1, #rig.errors(app))
  end)

  it("loses nothing when it came from a client", function()
    local _, err = client:try("total", { 1, 2 })
    assert.equal(-32603, err.code)
    assert.equal("result.total", rig.the_error(app).fields.at)
  end)
end)
