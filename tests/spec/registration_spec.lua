--- What an app declares is checked when it is loaded: each mistake names its place and the cure.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")
local testing = require("perigee.testing")

describe("registration", function()
  after_each(rig.clean)

  --- Asserts that declaring this raises an error with all these texts in it.
  local function raises(declare, ...) return rig.raises(function() rig.app(declare) end, ...) end

  --- The same for an app in a file, line by line.
  local function load_raises(text, ...) return rig.raises(function() rig.load(text) end, ...) end

  local function handler() end

  describe("of methods", function()
    it("refuses a name twice, and tells both places", function()
      load_raises([[
local perigee = require "perigee"
local C = perigee.consumer {}
C:rpc_method("say", function() end)
C:rpc_method("tell", function() end)
C:rpc_method("say", function() end)
return C]], "test.lua:5: ", "'say' was registered already, at ", "test.lua:3")
    end)

    it("refuses the name of a notification twice as well", function()
      raises(function(C)
        C:rpc_notification("typing", handler)
        C:rpc_notification("typing", handler)
      end, "rpc_notification 'typing' was registered already, at ", "registration_spec.lua:")
    end)

    it("lets a request and a notification share a name", function()
      local app = rig.app(function(C)
        C:rpc_method("both", handler)
        C:rpc_notification("both", handler)
      end)
      local client = app:connect("/test")
      assert.equal(core.null, client:call("both"))
      client:notify("both")
    end)

    it("reserves names that begin with _ or rpc.", function()
      for _, name in ipairs { "_secret", "__index", "rpc.discover", "rpc." } do
        raises(function(C) C:rpc_method(name, handler) end, name, "reserved")
        raises(function(C) C:rpc_notification(name, handler) end, name, "reserved")
      end
    end)

    it("takes any other name", function()
      local names = { "say", "chat.say", "$/x", "rpcx", "a_", "日本", "with space", ("x"):rep(256) }
      local app = rig.app(function(C)
        for _, name in ipairs(names) do C:rpc_method(name, function() return name end) end
      end)
      local client = app:connect("/test")
      for _, name in ipairs(names) do assert.equal(name, client:call(name)) end
    end)

    it("refuses names that are no strings, empty, or longer than the limit", function()
      for _, name in ipairs { 1, true, {}, "" } do
        raises(function(C) C:rpc_method(name, handler) end, "the name must be a string that is not empty")
      end
      raises(function(C) C:rpc_method(nil, handler) end, "the name must be a string that is not empty")
      raises(function(C) C:rpc_method(("x"):rep(257), handler) end, "at most 256 bytes")
    end)

    it("needs a handler", function()
      raises(function(C) C:rpc_method("say") end, "rpc_method 'say'", "the handler must be a function, not a nil")
      raises(function(C) C:rpc_method("say", { http = false }) end, "the handler must be a function, not a table")
      raises(function(C) C:rpc_method("say", {}, "say") end, "the handler must be a function, not a string")
      raises(function(C) C:rpc_method("say", 5, handler) end, "options must be a table, not a number")
    end)

    it("knows its options, and suggests the nearest", function()
      raises(function(C) C:rpc_method("say", { websockets = true }, handler) end,
        "rpc_method 'say' has no option 'websockets' (did you mean 'websocket'?)")
      raises(function(C) C:rpc_method("say", { timout = 1 }, handler) end, "(did you mean 'timeout'?)")
      rig.lacks("did you mean", raises(function(C) C:rpc_method("say", { frobnicate = 1 }, handler) end, "frobnicate"))
      raises(function(C) C:rpc_method("say", { "http" }, handler) end, "has no option '1'")
    end)

    it("checks the type of each option", function()
      for option, bad in pairs {
        websocket = "yes", http = 1, timeout = "one second", params = "room", result = 5, doc = {}, permission = "",
        hidden = 0, deprecated = "since 2020", errors = { { code = "x" } }, examples = { 1 },
      } do
        raises(function(C) C:rpc_method("say", { [option] = bad }, handler) end, ("option '%s' must be"):format(option))
      end
      raises(function(C) C:rpc_method("say", { timeout = -1 }, handler) end,
        "a number of seconds, a text such as \"500ms\", or false for none")
      raises(function(C) C:rpc_method("say", { permission = true }, handler) end, "a name, or a function")
    end)

    it("tells the line of the mistake", function()
      load_raises([[
local perigee = require "perigee"
local C = perigee.consumer {}

C:rpc_method("say", { htp = true }, function() end)
return C]], "test.lua:4: ", "'htp' (did you mean 'http'?)")
    end)

    it("is called on a consumer, with a colon", function()
      raises(function(C) C.rpc_method("say", handler) end, "rpc_method is called on a consumer, with a colon")
      raises(function(C) C.get_rpc_methods() end, "get_rpc_methods is called on a consumer, with a colon")
      raises(function(C) C.notify_group("lobby", "x") end, "notify_group is called on a consumer, with a colon")
    end)

    it("suggests the word for a function that is misspelled", function()
      raises(function(C) C:rpc_metod("say", handler) end, "a consumer has no 'rpc_metod' (did you mean 'rpc_method'?)")
      raises(function(C) C:on_eror(handler) end, "(did you mean 'on_error'?)")
    end)

    it("keeps fields of the app's own on the class", function()
      rig.app(function(C)
        assert.is_nil(C.counter)
        C.counter = 1
        assert.equal(1, C.counter)
      end)
    end)
  end)

  describe("of schemas", function()
    local function params(given, ...)
      local texts = table.pack(...)
      raises(function(C) C:rpc_method("say", { params = given }, function(_, _) end) end,
        "rpc_method 'say': ", table.unpack(texts))
    end

    it("refuses what is no list of names and schemas", function()
      params({ "room" }, "item 1 must be { name, schema }")
      params({ { 1, "string" } }, "item 1 must be { name, schema }")
      params({ room = "string" }, "params is a list of { name, schema }; what is 'room'?")
      params({ { "room", "string" }, { "room", "string" } }, "'room' is there twice")
      params({ { "room", "string" }, { "text", "string" } }, "declares 2 parameters, but the handler takes 1")
      params({ { "room" } }, "the parameter room", "not a nil")
    end)

    it("suggests the nearest type and option", function()
      params({ { "room", "strng" } }, "there is no type 'strng' (did you mean 'string'?)")
      params({ { "room", "int" } }, "there is no type 'int'")
      params({ { "room", { "string", mx = 1 } } }, "type string has no option 'mx' (did you mean 'max'?)")
      params({ { "room", { "boolean", min = 1 } } }, "type boolean has no option 'min'")
    end)

    it("checks what types' options are", function()
      params({ { "n", { "integer", min = "1" } } }, "min must be a number")
      params({ { "n", { "integer", min = 2, max = 1 } } }, "min is above max")
      params({ { "s", { "string", pattern = "[" } } }, "pattern must be a Lua pattern")
      params({ { "s", { "string", enum = {} } } }, "enum must be a list")
      params({ { "s", { min = 1 } } }, "the type is missing")
      params({ { "o", { "object", fields = "name" } } }, "fields must be a table")
      params({ { "o", { "object", fields = { { "a", "any" }, { "a", "any" } } } } }, "the field 'a' is there twice")
    end)

    it("tells where in a nested schema the mistake is", function()
      params({ { "list", { "array", items = "strng" } } }, "the parameter list[]: there is no type")
      params({ { "o", { "object", fields = { a = { "object", fields = { b = "x" } } } } } }, "the parameter o.a.b:")
    end)

    it("checks the schema of the result as well", function()
      raises(function(C) C:rpc_method("say", { result = "strin" }, handler) end,
        "rpc_method 'say': schema of the result: there is no type 'strin' (did you mean 'string'?)")
    end)
  end)

  describe("of consumers", function()
    local function options(given, ...)
      return rig.raises(function() rig.app(given, handler) end, ...)
    end

    it("knows its options, and suggests the nearest", function()
      options({ http_usr = true }, "perigee.consumer has no option 'http_usr' (did you mean 'http_user'?)")
      options({ orgins = {} }, "(did you mean 'origins'?)")
      options({ "/chat" }, "has no option '1'")
    end)

    it("checks the type of each option", function()
      for option, bad in pairs {
        path = "chat", versions = { "1.1" }, http_user = "yes", groups = { 1 }, origins = { "not an origin" },
        subprotocols = { "two words" }, strict_ordering = 1, raw = "yes", codec = { decode = handler },
        json_default = {}, limits = 5, timeout = -1, http_status = "status", middleware = { "log" }, discover = "dev",
      } do
        options({ [option] = bad }, ("perigee.consumer: option '%s' must be"):format(option))
      end
      options({ versions = {} }, '"2.0" and "1.0"')
      options({ codec = "cjson" }, "a table with a function encode")
    end)

    it("takes a table of options or nothing", function()
      rig.raises(function() rig.app("/chat", handler) end, "perigee.consumer takes a table of options, not a string")
      assert.not_nil(rig.app(handler):connect("/test"))
    end)

    it("knows the limits", function()
      options({ limits = { calls = 0 } }, "limit 'calls' must be at least 1, not 0")
      options({ limits = { calls = math.maxinteger } }, "limit 'calls' must be at most 1000000")
      options({ limits = { message = 1 << 32 } }, "limit 'message' must be at most 1GiB, not 4294967296")
      for name, most in pairs { calls = 1000000, message = 1 << 30, depth = 100, batch = 100000 } do
        assert.not_nil(rig.app({ limits = { [name] = most } }, handler):connect("/test"))
        options({ limits = { [name] = most + 1 } }, ("limit '%s' must be at most"):format(name))
      end
      options({ limits = { depth = 1000 } }, "limit 'depth' must be at most 100")
      options({ limits = { batch = 1.5 } }, "limit 'batch' must be a whole number, not 1.5")
      options({ limits = { message = "6 MiBs" } },
        "limit 'message' must be a size, such as 512KiB, 2MiB or 1GiB, not \"6 MiBs\"")
      options({ limits = { body = "2GiB" } }, "limit 'body' must be at most 1GiB, not \"2GiB\"")
      options({ limits = { calls = "1KiB" } }, "limit 'calls' must be a whole number, not \"1KiB\"")
      options({ limits = { mesage = 1 } }, "no limit is called 'mesage' (did you mean 'message'?)")
    end)

    it("takes sizes and times as the settings take them", function()
      local app = rig.app({ limits = { string = "1KiB", method = "8B", values = 5, message = 2 * 1024.0 } }, function(C)
        C:rpc_method("len", { timeout = "1500ms" }, function(_, text) return #text end)
        C:rpc_method("slow", { timeout = "2m" }, function() return true end)
        C:rpc_method("own", function() return true end)
        assert.equal(1.5, C:get_method_info("len").timeout)
        assert.equal(120, C:get_method_info("slow").timeout)
      end)
      local client = app:connect("/test")
      assert.equal(1024, client:call("len", ("x"):rep(1024)))
      local _, err = client:try("len", ("x"):rep(1025))
      assert.same({ limit = "string", max = 1024, path = "[0]" }, err.data)
      _, err = client:try("nine.more")
      assert.same({ limit = "method", max = 8 }, err.data)
      _, err = client:try("eight.ch")
      assert.equal(-32601, err.code)
      local timed
      rig.app({ timeout = "1h" }, function(C)
        C:rpc_method("m", function() end)
        C:rpc_method("none", { timeout = false }, function() end)
        timed = { C:get_method_info("m").timeout, C:get_method_info("none").timeout }
      end)
      assert.same({ 3600, 0 }, timed)
      options({ timeout = "soon" }, "option 'timeout' must be a number of seconds, a text such as")
    end)

    it("refuses two consumers on one path, and tells both places", function()
      load_raises([[
local perigee = require "perigee"
local A = perigee.consumer { path = "/same" }
local B = perigee.consumer { path = "/same" }
return { A, B }]], "two consumers on the path /same: ", "test.lua:2", "test.lua:3")
    end)

    it("needs a receive hook where every frame goes to one", function()
      load_raises([[
local perigee = require "perigee"
local C = perigee.consumer { raw = true }
return C]], "test.lua:2: a raw consumer needs a receive hook")
    end)

    it("needs has_permission where a permission is a name", function()
      load_raises([[
local perigee = require "perigee"
local C = perigee.consumer {}
C:rpc_method("ban", { permission = "admin" }, function() end)
return C]], "test.lua:3: 'ban' asks for the permission 'admin'", "no function C.has_permission")
    end)

    it("needs no has_permission where it is a function", function()
      rig.app(function(C) C:rpc_method("ban", { permission = function() return true end }, handler) end)
    end)

    it("warns of functions that look like a misspelled hook: they would never be called", function()
      local app = rig.app(function(C)
        function C:disconect() end -- luacheck: no self
        function C:helper() end -- luacheck: no self
      end)
      local warnings = app:logged("a function that looks like a misspelled hook")
      assert.equal(1, #warnings)
      assert.equal("warn", warnings[1].level)
      assert.equal("disconect", warnings[1].fields.name)
      assert.equal("disconnect", warnings[1].fields.hook)
    end)

    it("takes hooks, events, middleware and receivers only as functions", function()
      raises(function(C) C:use("log") end, "the middleware must be a function(ctx, next)")
      raises(function(C) C:on_error({}) end, "on_error takes a function(ctx, err)")
      raises(function(C) C:on_event("kick") end, "the handler must be a function")
      raises(function(C) C:on_event("", handler) end, "the type must be a string that is not empty")
      raises(function(C)
        C:on_event("kick", handler)
        C:on_event("kick", handler)
      end, "'kick' has a handler already")
      raises(function(_, perigee) perigee.on("app_loaded", 5) end, "the receiver must be a function")
      raises(function(_, perigee) perigee.on("app_load", handler) end, "(did you mean 'app_loaded'?)")
    end)
  end)

  describe("of apps", function()
    it("needs a consumer, or a list of them", function()
      load_raises("local x = 1", "an app returns its consumer, or a list of them; this one returns nothing")
      load_raises("return {}", "this one returns an empty table")
      load_raises("return 5", "this one returns a number")
      load_raises("return { 'x' }", "item 1 of the returned list is no consumer")
      load_raises('local p = require "perigee"; return { p.consumer {}, {} }', "item 2 of the returned list")
    end)

    it("takes a list of consumers on several paths", function()
      local app = rig.load([[
local perigee = require "perigee"
local A, B = perigee.consumer {}, perigee.consumer { path = "/b" }
A:rpc_method("who", function() return "a" end)
B:rpc_method("who", function() return "b" end)
return { A, B }]])
      assert.equal("a", app:connect("/test"):call("who"))
      assert.equal("b", app:connect("/b"):call("who"))
    end)

    it("tells the line of a syntax error, with the lines around it", function()
      load_raises("local a = 1\nlocal b = = 2\nreturn a", "test.lua:2: unexpected symbol near '='",
        ">    2 | local b = = 2", "     1 | local a = 1")
    end)

    it("tells the line of an error while loading, with the lines around it", function()
      load_raises("local t\n\nt.x = 1", "test.lua:3: attempt to index a nil value (local 't')", ">    3 | t.x = 1")
      load_raises("error('I refuse')", "test.lua:1: I refuse", ">    1 | error('I refuse')")
      load_raises("error({ code = 5 })", "table")
    end)

    it("tells what require did not find", function()
      load_raises('local x = require "nowhere"', "test.lua:1: module 'nowhere' not found",
        "modules of this app are called 'test.…', others must be installed")
      load_raises('local x = require "test.store"', "test.lua:1: module 'test.store': the app test is a single file")
      load_raises("local function f() local x = require(5) end\nf()", "test.lua:1: require takes a module's name")
    end)

    it("names the file even where Lua does not know the line: after a tail call", function()
      load_raises('return require "nowhere"', "test.lua: module 'nowhere' not found")
      load_raises('return require("perigee").consumer { pth = "/" }', "test.lua: perigee.consumer has no option 'pth'")
      load_raises('return require("perigee").consumer { raw = true }', "test.lua: a raw consumer needs a receive")
    end)

    it("tells which files it looked for, for a module of the app's own", function()
      local folder = rig.folder { ["shop/init.lua"] = 'return require "shop.stor"' }
      rig.raises(function() testing.app(folder .. "/shop") end,
        "module 'shop.stor' not found: no file ", "/shop/stor.lua", "/shop/stor/init.lua")
    end)

    it("finds the app's own modules, once each", function()
      local folder = rig.folder {
        ["shop/init.lua"] = [[
local perigee = require "perigee"
local C = perigee.consumer {}
C:rpc_method("get", function() return require("shop.store").value + require("shop.deep.one") end)
require("shop.store").value = 40
return C]],
        ["shop/store.lua"] = "return {}",
        ["shop/deep/one/init.lua"] = "return 2",
      }
      local app = testing.app(folder .. "/shop")
      assert.equal(42, app:connect("/shop"):call("get"))
    end)

    it("does not leave the app's folder", function()
      local folder = rig.folder { ["shop/init.lua"] = 'return require "shop...secret"', ["secret.lua"] = "return 1" }
      rig.raises(function() testing.app(folder .. "/shop") end, "not found")
    end)

    it("suggests the name for a part of perigee that is misspelled", function()
      load_raises('local perigee = require "perigee"\nperigee.consumr {}',
        "test.lua:2: perigee has no 'consumr' (did you mean 'consumer'?)")
      load_raises('local perigee = require "perigee"\nperigee.frobnicate()', "perigee has no 'frobnicate'")
    end)

    it("says that nothing can wait while an app is loaded", function()
      -- run beside this test: a wait must not hold it up
      local done, err
      core.spawn(function()
        done = table.pack(pcall(rig.load, 'local p = require "perigee"; p.sleep(1); return p.consumer {}'))
        err = done[2]
      end)
      rig.settle()
      assert.not_nil(done, "loading waits")
      assert.is_false(done[1])
      rig.has("cannot wait here: this code runs while its app is loaded", err)
    end)
  end)

  describe("of globals", function()
    it("lets an app set them while it is loaded", function()
      local app = rig.source("rooms = { 'lobby' } C:rpc_method('get', function() return rooms end)")
      assert.same({ "lobby" }, app:connect("/test"):call("get"))
    end)

    it("tells the place of one that is read but not there, and the nearest", function()
      load_raises("local a\na = pirnt", "test.lua:2: undeclared global 'pirnt' (did you mean 'print'?)")
      load_raises("return frobnicate()", "test.lua:1: undeclared global 'frobnicate'")
    end)

    it("tells the place of one that is set by a handler", function()
      local app = rig.source("C:rpc_method('set', function()\n  total = 1\nend)")
      rig.refused(-32603, app:connect("/test"), "set")
      local fault = rig.the_error(app)
      rig.has("test.lua:2: undeclared global 'total' is assigned", fault.fields.error)
      rig.has(">    2 |   total = 1", fault.block)
    end)

    it("are each app's own", function()
      rig.source("shared = 1")
      local app = rig.source("C:rpc_method('get', function() return shared end)")
      rig.refused(-32603, app:connect("/test"), "get")
    end)

    it("are without what would end or harm the process", function()
      for _, name in ipairs { "os.exit", "os.execute", "os.setlocale", "io.popen", "debug.sethook", "string.nope" } do
        load_raises(("return %s.x"):format(name), "attempt to index a nil value")
      end
      for _, name in ipairs { "dofile", "loadfile", "package", "collectgarbag" } do
        load_raises("return " .. name, "undeclared global '" .. name .. "'")
      end
    end)

    it("have a load that takes text only, in the app's own environment", function()
      local app = rig.source([[
        x = 40
        C:rpc_method("text", function() return load("return x + 2")() end)
        C:rpc_method("bytes", function() return (load(string.dump(function() end))) == nil end)]])
      assert.equal(42, app:connect("/test"):call("text"))
      assert.is_true(app:connect("/test"):call("bytes"))
    end)

    it("have a print that goes to the log", function()
      local app = rig.source("C:rpc_method('p', function() print('a', 1, nil) end)")
      app:connect("/test"):call("p")
      assert.equal(1, #app:logged("a\t1\tnil"))
    end)
  end)
end)
