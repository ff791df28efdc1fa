--- Discovery: what a consumer offers, for programs.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

local NOT_FOUND = -32601

describe("discovery", function()
  local app, client, C

  local function declare(class)
    C = class
    C:rpc_method("say", {
      doc = "Says something.",
      params = { { "room", "string" }, { "text", { "string", min = 1, max = 10 } }, { "loud", "boolean?" } },
      result = { "object", fields = { { "id", "integer" } } },
      errors = { { code = 1, message = "There is no such room" } },
      examples = { { name = "hello", params = { "lobby", "hi" }, result = { id = 1 } }, { params = { "lobby" } } },
      deprecated = true,
      timeout = 5,
    }, function(_, room, text, loud) return { id = room and text and loud and 1 or 2 } end)
    C:rpc_method("sum", { http = false }, function(_, first, ...) return first, ... end)
    C:rpc_method("post_only", { websocket = false }, function() end)
    C:rpc_method("admin", { permission = function(ctx) return ctx.consumer.is_admin end }, function() end)
    local function is_admin(ctx) return ctx.consumer.is_admin end
    C:rpc_method("secret", { hidden = true, permission = is_admin }, function() end)
    C:rpc_method("login", function(ctx) ctx.consumer.is_admin = true end)
    C:rpc_notification("typing", function() end)
    C:rpc_notification("say", function() end)
  end

  local function given(options)
    app = rig.app(options or {}, declare)
    client = app:connect("/test")
  end

  --- The method of that name in a document.
  local function find(document, name)
    for _, method in ipairs(document.methods) do
      if method.name == name then return method end
    end
  end

  local function names(document)
    local list = {}
    for i, method in ipairs(document.methods) do list[i] = method.name end
    return list
  end

  describe("by get_rpc_methods and get_rpc_notifications", function()
    it("gives names in the order of registration", function()
      given()
      assert.same({ "say", "sum", "post_only", "admin", "secret", "login" }, C:get_rpc_methods())
      assert.same({ "typing", "say" }, C:get_rpc_notifications())
    end)

    it("gives lists of its own", function()
      given()
      C:get_rpc_methods()[1] = "changed"
      assert.equal("say", C:get_rpc_methods()[1])
    end)

    it("gives nothing of a consumer that has none", function()
      rig.app(function(class) C = class end)
      assert.same({}, C:get_rpc_methods())
      assert.same({}, C:get_rpc_notifications())
    end)
  end)

  describe("by get_method_info", function()
    it("tells all about a method", function()
      given()
      local info = C:get_method_info("say")
      assert.equal("say(room, text, loud)", info.signature)
      assert.equal("Says something.", info.doc)
      assert.is_false(info.is_notification)
      assert.is_true(info.deprecated)
      assert.equal(5, info.timeout)
      assert.same({ "websocket", "http" }, info.transports)
      assert.same({ "room", "text", "loud" }, { info.params[1].name, info.params[2].name, info.params[3].name })
      assert.same({ true, true, false }, { info.params[1].required, info.params[2].required, info.params[3].required })
      assert.same({ type = "string", minLength = 1, maxLength = 10 }, info.params[2].schema)
    end)

    it("tells the handler's own names where there is no schema", function()
      given()
      local info = C:get_method_info("sum")
      assert.equal("sum(first, ...)", info.signature)
      assert.is_true(info.is_vararg)
      assert.same({ "websocket" }, info.transports)
      assert.same({ name = "first", required = false, schema = {} }, info.params[1])
      assert.same({ "http" }, C:get_method_info("post_only").transports)
      assert.is_true(C:get_method_info("admin").permission)
    end)

    it("knows notifications, after methods", function()
      given()
      assert.is_true(C:get_method_info("typing").is_notification)
      assert.is_false(C:get_method_info("say").is_notification)
    end)

    it("suggests the nearest name for one it does not know", function()
      given()
      rig.raises(function() C:get_method_info("tpying") end, "there is no method 'tpying' (did you mean 'typing'?)")
      rig.raises(function() C:get_method_info(nil) end, "there is no method 'nil'")
    end)
  end)

  describe("by describe", function()
    it("is an OpenRPC document of everything", function()
      given()
      local document = C:describe()
      assert.equal("1.3", document.openrpc:sub(1, 3))
      assert.same({ title = "test", version = core.version }, document.info)
      assert.same({ "say", "sum", "post_only", "admin", "secret", "login", "typing" }, names(document))
      assert.is_string(core.json_encode(document))
    end)

    it("describes params, result, errors and examples", function()
      given()
      local say = find(C:describe(), "say")
      assert.equal("Says something.", say.description)
      assert.is_true(say.deprecated)
      assert.equal("either", say.paramStructure)
      assert.same({ name = "loud", required = false, schema = { type = { "boolean", "null" } } }, say.params[3])
      assert.same({ name = "result", schema = {
        type = "object", properties = { id = { type = "integer" } }, required = { "id" }, additionalProperties = false,
      } }, say.result)
      assert.same({ { code = 1, message = "There is no such room" } }, say.errors)
      assert.same({
        name = "hello",
        params = { { name = "room", value = "lobby" }, { name = "text", value = "hi" } },
        result = { name = "result", value = { id = 1 } },
      }, say.examples[1])
      assert.equal("example 2", say.examples[2].name)
      assert.same({ "websocket", "http" }, say["x-transports"])
    end)

    it("says that ... goes by position", function()
      given()
      local sum = find(C:describe(), "sum")
      assert.equal("by-position", sum.paramStructure)
      assert.same({ "first", "rest" }, { sum.params[1].name, sum.params[2].name })
    end)

    it("marks notifications by having no result, and names that are both", function()
      given()
      local document = C:describe()
      assert.is_nil(find(document, "typing").result)
      assert.is_true(find(document, "say")["x-notification"])
      assert.is_nil(find(document, "sum")["x-notification"])
      assert.same({ name = "result", schema = {} }, find(document, "sum").result)
    end)

    it("has schemas as JSON Schema", function()
      local function schema_of(spec)
        rig.app(function(class)
          C = class
          C:rpc_method("m", { params = { { "x", spec } } }, function(_, x) return x end)
        end)
        return C:describe().methods[1].params[1].schema
      end
      assert.same({ type = "string" }, schema_of "string")
      assert.same({}, schema_of "any")
      assert.same({ type = { "integer", "null" }, minimum = 1, maximum = 5 },
        schema_of { "integer?", min = 1, max = 5 })
      assert.same({ type = "string", enum = { "a", "b" } }, schema_of { "string", enum = { "a", "b" } })
      assert.same({ type = { "string", "null" }, enum = { "a", core.null } }, schema_of { "string?", enum = { "a" } })
      assert.same({ type = "array", minItems = 1, items = { type = "string" } },
        schema_of { "array", min = 1, items = "string" })
      assert.same({
        type = "object", additionalProperties = false,
        properties = { a = { type = { "number", "null" } } },
      }, schema_of { "object", fields = { a = "number?" } })
    end)
  end)

  describe("by rpc.discover", function()
    it("is off, unless a consumer asks for it or this is dev", function()
      given()
      rig.refused(NOT_FOUND, client, "rpc.discover")
      given { discover = true }
      assert.equal("test", client:call("rpc.discover").info.title)
    end)

    it("is on in dev, unless a consumer does not want it", function()
      local is_dev = core.is_dev
      core.is_dev = true
      finally(function() core.is_dev = is_dev end)
      given()
      assert.equal("test", client:call("rpc.discover").info.title)
      given { discover = false }
      rig.refused(NOT_FOUND, client, "rpc.discover")
    end)

    it("shows what can be called over the caller's transport", function()
      given { discover = true }
      assert.same({ "say", "sum", "admin", "login", "typing" }, names(client:call("rpc.discover")))
      assert.same({ "say", "post_only", "admin", "login", "typing" },
        names(rig.post_call(app, "rpc.discover").result))
    end)

    it("shows hidden methods to those only who may call them", function()
      given { discover = true }
      client:call("login")
      assert.same({ "say", "sum", "admin", "secret", "login", "typing" }, names(client:call("rpc.discover")))
    end)

    it("shows nobody a hidden method whose permission fails", function()
      app = rig.app({ discover = true }, function(class)
        local function broken() return nil + 1 end
        class:rpc_method("m", { hidden = true, permission = broken }, function() end)
      end)
      assert.same({}, names(app:connect("/test"):call("rpc.discover")))
    end)

    it("does not list what the server brings itself", function()
      given { discover = true }
      local document = client:call("rpc.discover")
      assert.is_nil(find(document, "rpc.discover"))
      assert.is_nil(find(document, "$/cancelRequest"))
      assert.is_nil(find(C:describe(), "rpc.discover"))
    end)

    it("takes no params", function()
      given { discover = true }
      rig.refused(-32602, client, "rpc.discover", 1)
    end)
  end)
end)
