--- Permissions, hidden methods and methods for one transport only.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

local FORBIDDEN, NOT_FOUND, INTERNAL = -32003, -32601, -32603

describe("permissions", function()
  local app, client, ran

  --- An app with a method m of these options, and one of each kind that is not to be seen.
  local function given(options, has_permission)
    ran = 0
    app = rig.app(function(C)
      C.has_permission = has_permission
      local function run()
        ran = ran + 1
        return "ran"
      end
      C:rpc_method("m", options, run)
      C:rpc_notification("m", options, run)
      C:rpc_method("login", function(ctx)
        ctx.consumer.is_admin = true
        return true
      end)
    end)
    client = app:connect("/test")
  end

  it("of a function let those through for whom it returns true", function()
    given { permission = function(ctx) return ctx.consumer.is_admin end }
    rig.refused(FORBIDDEN, client, "m")
    assert.equal(0, ran)
    client:call("login")
    assert.equal("ran", client:call("m"))
  end)

  it("of a name ask the consumer's has_permission", function()
    local asked
    given({ permission = "ban" }, function(ctx, name)
      asked = { ctx.method, name }
      return ctx.consumer.is_admin
    end)
    assert.same({ permission = "ban" }, rig.refused(FORBIDDEN, client, "m").data)
    assert.same({ "m", "ban" }, asked)
    client:call("login")
    assert.equal("ran", client:call("m"))
  end)

  it("hold over HTTP and in batches", function()
    given { permission = function() return false end }
    assert.equal(FORBIDDEN, rig.post_call(app, "m").error.code)
    assert.equal(FORBIDDEN, client:exchange("[" .. rig.request("m") .. "]")[1].error.code)
    assert.equal(0, ran)
  end)

  it("hold for notifications, in silence", function()
    given { permission = function() return false end }
    client:notify("m")
    client:expect_nothing()
    assert.equal(0, ran)
  end)

  it("are asked before params are looked at: who may not call learns nothing of them", function()
    app = rig.app(function(C)
      C:rpc_method("m", { permission = function() return false end, params = { { "n", "integer" } } },
        function(_, n) return n end)
    end)
    rig.refused(FORBIDDEN, app:connect("/test"), "m", "no integer")
    rig.refused(FORBIDDEN, app:connect("/test"), "m", 1, 2, 3)
  end)

  it("may wait", function()
    app = rig.app(function(C, perigee)
      C:rpc_method("m", { permission = function()
        perigee.sleep(1)
        return true
      end }, function() return "ran" end)
    end)
    assert.equal("ran", app:connect("/test"):call("m"))
  end)

  it("that fail let nobody through, and are logged", function()
    given { permission = function() return 1 + nil end }
    rig.refused(INTERNAL, client, "m")
    assert.equal(0, ran)
    rig.has("attempt to perform arithmetic", rig.the_error(app).fields.error)
  end)

  it("that are refused are no error of the app's: nothing is logged, on_error is not asked", function()
    local asked = 0
    app = rig.app(function(C)
      C:rpc_method("m", { permission = function() return false end }, function() end)
      C:on_error(function() asked = asked + 1 end)
    end)
    rig.refused(FORBIDDEN, app:connect("/test"), "m")
    rig.no_errors(app)
    assert.equal(0, asked)
  end)
end)

describe("what a client must not see", function()
  local app, client

  --- Every way to ask for a method, over both transports; `nobody` stands for the name.
  local messages = {
    '{"jsonrpc":"2.0","method":"nobody","id":1}',
    '{"jsonrpc":"2.0","method":"nobody","params":[1,2,3],"id":1}',
    '{"jsonrpc":"2.0","method":"nobody","params":{"x":1},"id":"a"}',
    '{"jsonrpc":"2.0","method":"nobody","params":5,"id":1}',
    '{"jsonrpc":"2.0","method":"nobody","params":[1e400],"id":1}',
    '{"jsonrpc":"2.0","method":"nobody","id":null}',
    '{"method":"nobody","params":[],"id":1}',
    '[{"jsonrpc":"2.0","method":"nobody","id":1},{"jsonrpc":"2.0","method":"nobody"}]',
    '{"jsonrpc":"2.0","method":"nobody"}',
  }

  --- Everything that comes back over a transport: status, headers and body.
  local function ask(transport, text)
    if transport == "http" then
      local answer = app:post("/test", text)
      answer.headers.date = nil -- a second may pass between two of them
      return answer
    end
    return { body = core.json_encode(client:exchange(text) or "no answer") }
  end

  --- Asserts that a method of that name (as long as `nobody`) cannot be told from one that is not there.
  local function is_unseen(name, transport)
    assert.equal(#"nobody", #name)
    for _, text in ipairs(messages) do
      local unknown = ask(transport, text)
      local hidden = ask(transport, (text:gsub("nobody", name)))
      hidden.body = hidden.body:gsub(name, "nobody")
      assert.same(unknown, hidden, text)
    end
  end

  local function given(options, consumer_options)
    app = rig.app(consumer_options or {}, function(C)
      local function handler(_, a) return a end
      C:rpc_method("hidden", options, handler)
      C:rpc_notification("hidden", options, handler)
      C:rpc_method("public", handler)
    end)
    client = app:connect("/test")
  end

  after_each(rig.clean)

  it("is a hidden method without permission", function()
    given { hidden = true, permission = function() return false end }
    is_unseen("hidden", "websocket")
    is_unseen("hidden", "http")
    rig.no_errors(app)
  end)

  it("is a hidden method with a schema", function()
    given { hidden = true, permission = function() return false end, params = { { "a", "string" } } }
    is_unseen("hidden", "websocket")
    is_unseen("hidden", "http")
  end)

  it("is a method of the other transport", function()
    given { http = false }
    is_unseen("hidden", "http")
    assert.equal(1, client:call("hidden", 1))
    given { websocket = false }
    is_unseen("hidden", "websocket")
    assert.equal(1, rig.post_call(app, "hidden", "[1]").result)
  end)

  it("stays unseen where errors have HTTP statuses of their own", function()
    given({ hidden = true, permission = function() return false end }, { http_status = "mapped" })
    is_unseen("hidden", "http")
    assert.equal(404, app:post("/test", rig.request("hidden")).status)
  end)

  it("may be seen by those who are allowed to", function()
    given { hidden = true, permission = function() return true end }
    assert.equal(1, client:call("hidden", 1))
  end)

  it("is seen when it is forbidden only, not hidden", function()
    given { permission = function() return false end }
    assert.equal(FORBIDDEN, rig.post_call(app, "hidden").error.code)
  end)

  it("is told in dev when a method is there for the other transport", function()
    local is_dev = core.is_dev
    core.is_dev = true
    finally(function() core.is_dev = is_dev end)
    given { http = false }
    rig.has("it is registered for websocket only", rig.post_call(app, "hidden").error.data.dev)
    assert.is_nil(rig.post_call(app, "nobody").error.data.dev)
    given { http = false, hidden = true }
    assert.is_nil(rig.post_call(app, "hidden").error.data.dev)
  end)

  it("has NOT_FOUND as its code", function()
    given { hidden = true, permission = function() return false end }
    rig.refused(NOT_FOUND, client, "hidden")
  end)
end)
