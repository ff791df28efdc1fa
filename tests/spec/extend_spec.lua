--- C:extend: a new consumer that starts with another's methods, hooks, middleware and options.
local rig = require("tests.spec.support.rig")
local testing = require("perigee.testing")

local TIMEOUT, NOT_FOUND = -32002, -32601

describe("C:extend", function()
  local app, parent, child

  --- An app with a base consumer at /test and one that extends it at /child.
  local function given(declare, options, more)
    app = testing.app(function(perigee)
      local Base = perigee.consumer { timeout = 2 }
      declare(Base, perigee)
      options = options or {}
      options.path = "/child"
      local Child = Base:extend(options)
      if more then more(Child, perigee, Base) end
      return { Base, Child }
    end)
    parent, child = app:connect("/test"), app:connect("/child")
  end

  it("takes methods and notifications over, in their order", function()
    local Child
    given(function(C)
      C:rpc_method("b", function(ctx) return ctx.scope.path end)
      C:rpc_method("a", function() end)
      C:rpc_notification("n", function(ctx) ctx:notify("heard") end)
    end, nil, function(class) Child = class end)
    assert.equal("/test", parent:call("b"))
    assert.equal("/child", child:call("b"))
    child:notify("n")
    child:expect("heard")
    assert.same({ "b", "a" }, Child:get_rpc_methods())
    assert.same({ "n" }, Child:get_rpc_notifications())
  end)

  it("takes hooks and functions of the class over", function()
    local seen = {}
    given(function(C)
      function C:connect() self.name = self:make_name() end
      function C:make_name() return "from " .. self.scope.path end -- luacheck: no self
      function C:disconnect() seen[#seen + 1] = self.name end
      C:rpc_method("name", function(ctx) return ctx.consumer.name end)
    end)
    assert.equal("from /child", child:call("name"))
    child:close()
    assert.same({ "from /child" }, seen)
  end)

  it("lets the new consumer have hooks of its own", function()
    given(function(C)
      function C:connect() self.name = "parent" end
      C:rpc_method("name", function(ctx) return ctx.consumer.name end)
    end, nil, function(C)
      function C:connect() self.name = "child" end
    end)
    assert.equal("child", child:call("name"))
    assert.equal("parent", parent:call("name"))
  end)

  it("keeps what is added later apart, both ways", function()
    given(function() end, nil, function(Child, _, Base)
      Child:rpc_method("only_child", function() return 1 end)
      Base:rpc_method("only_parent", function() return 1 end)
      Child:use(function() return "from the child's middleware" end)
      Base:rpc_method("m", function() return "plain" end)
    end)
    assert.equal("from the child's middleware", child:call("only_child"))
    rig.refused(NOT_FOUND, child, "only_parent")
    rig.refused(NOT_FOUND, parent, "only_child")
    assert.equal("plain", parent:call("m"))
  end)

  it("puts the new consumer's middleware inside the other's", function()
    local log = {}
    local function layer(name)
      return function(_, next)
        log[#log + 1] = name
        return next()
      end
    end
    given(function(C)
      C:use(layer "base")
      C:rpc_method("m", function() end)
    end, { middleware = { layer "option" } }, function(C) C:use(layer "child") end)
    child:call("m")
    assert.same({ "base", "option", "child" }, log)
  end)

  it("takes on_error, events and has_permission over", function()
    local seen = {}
    local Child
    given(function(C)
      C:on_error(function(ctx, err) seen[#seen + 1] = ctx.scope.path .. " " .. err.message end)
      C:on_event("e", function(self) self:notify("event") end)
      function C.has_permission(_, name) return name == "yes" end
      C:rpc_method("fail", { permission = "yes" }, function() return nil, "failed" end)
      C:rpc_method("never", { permission = "no" }, function() end)
      C:rpc_method("channel", function(ctx) return ctx.consumer.channel_name end)
    end, nil, function(class) Child = class end)
    rig.refused(-32000, child, "fail")
    rig.refused(-32003, child, "never")
    assert.same({ "/child failed" }, seen)
    Child:send(child:call("channel"), { type = "e" })
    child:expect("event")
  end)

  it("asks the new consumer's has_permission for methods it took over", function()
    given(function(C)
      function C.has_permission() return false end
      C:rpc_method("m", { permission = "x" }, function() return 1 end)
    end, nil, function(C)
      function C.has_permission() return true end
    end)
    rig.refused(-32003, parent, "m")
    assert.equal(1, child:call("m"))
  end)

  it("takes options over, unless it is given others", function()
    local function declare(C, perigee)
      C:rpc_method("sleep", function(_, s)
        perigee.sleep(s)
        return s
      end)
      C:rpc_method("own", { timeout = 5 }, function(_, s)
        perigee.sleep(s)
        return s
      end)
    end
    given(declare)
    assert.near(2, rig.duration(function() rig.refused(TIMEOUT, child, "sleep", 10) end), 0.01)
    given(declare, { timeout = 4 })
    assert.near(2, rig.duration(function() rig.refused(TIMEOUT, parent, "sleep", 10) end), 0.01)
    assert.near(4, rig.duration(function() rig.refused(TIMEOUT, child, "sleep", 10) end), 0.01)
    assert.near(5, rig.duration(function() rig.refused(TIMEOUT, child, "own", 10) end), 0.01)
  end)

  it("extends what extends", function()
    app = testing.app(function(perigee)
      local A = perigee.consumer {}
      A:rpc_method("a", function() return "a" end)
      local B = A:extend { path = "/b" }
      B:rpc_method("b", function() return "b" end)
      local C = B:extend { path = "/c" }
      C:rpc_method("c", function() return "c" end)
      return { A, B, C }
    end)
    local c = app:connect("/c")
    assert.equal("abc", c:call("a") .. c:call("b") .. c:call("c"))
    rig.refused(NOT_FOUND, app:connect("/b"), "c")
  end)

  it("may make consumers of one that is not served itself", function()
    app = testing.app(function(perigee)
      local Base = perigee.consumer {}
      Base:rpc_method("m", function() return "from the base" end)
      return Base:extend { path = "/child" }
    end)
    assert.equal("from the base", app:connect("/child"):call("m"))
    assert.is_nil((app:try_connect("/test")))
  end)

  it("refuses a method the other has already: two methods of one name", function()
    rig.raises(function()
      given(function(C) C:rpc_method("m", function() end) end, nil, function(C) C:rpc_method("m", function() end) end)
    end, "'m' was registered already, at ", "extend_spec.lua:")
  end)

  it("needs a path of its own, and options that are known", function()
    local function raises(options, ...)
      rig.raises(function() rig.app(function(C) C:extend(options) end) end, ...)
    end
    raises({}, "extend: the new consumer needs a path of its own")
    raises(nil, "extend takes a table of options")
    raises({ path = "/x", http_usr = true }, "has no option 'http_usr' (did you mean 'http_user'?)")
    rig.raises(function() rig.app(function(C) C.extend { path = "/x" } end) end, "extend is called on a consumer")
  end)
end)
