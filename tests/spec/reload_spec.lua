--- Reload: what the next version of an app takes over, what ends with the old one, and what it costs.
local apps = require("perigee.app")
local call = require("perigee.call")
local core = require("perigee.core")
local reload = require("perigee.reload")
local rig = require("tests.spec.support.rig")
local testing = require("perigee.testing")
local uv = require("luv")

--- An app with a consumer at /test; `more(C, perigee)` declares what is different.
local function version(name, more, options)
  return function(perigee)
    local C = perigee.consumer(options)
    C:rpc_method("version", function() return name end)
    if more then more(C, perigee) end
    return C
  end
end

describe("reload", function()
  after_each(rig.clean)

  it("runs new code on connections that stay", function()
    local app = testing.app(version("one"))
    local ann = app:connect("/test")
    assert.equal("one", ann:call("version"))
    app:reload(version("two"))
    assert.equal("two", ann:call("version"))
    assert.equal("two", app:post_call("/test", "version"))
  end)

  it("keeps instances and gives them the new class", function()
    local function counting(name)
      return version(name, function(C)
        function C:name() return name end -- luacheck: no self
        C:rpc_method("count", function(ctx)
          ctx.consumer.n = (ctx.consumer.n or 0) + 1
          return { ctx.consumer.n, ctx.consumer:name() }
        end)
      end)
    end
    local app = testing.app(counting("one"))
    local ann = app:connect("/test")
    assert.same({ 1, "one" }, ann:call("count"))
    app:reload(counting("two"))
    assert.same({ 2, "two" }, ann:call("count"))
    app:reload(version("three"))
    app:reload(counting("four"))
    assert.same({ 3, "four" }, ann:call("count"))
  end)

  describe("ends what the old code has begun by itself:", function()
    --- What is begun while version one is loaded, by `begin(perigee, note, C)`; note(what) is seen.
    local function begun(begin)
      local seen = {}
      local app = testing.app(version("one", function(C, perigee)
        begin(perigee, function(what) seen[what] = (seen[what] or 0) + 1 end, C)
      end))
      local ann = app:connect("/test")
      app:advance(10)
      return seen, app, ann
    end

    --- Asserts that it was seen and is not any more after a reload, and that this is no fault.
    local function ends(begin)
      local seen, app = begun(begin)
      assert.is_true((seen.tick or 0) > 0)
      app:reload(version("two"))
      local before = seen.tick
      app:advance(60)
      assert.equal(before, seen.tick)
      rig.no_errors(app)
      return seen
    end

    it("a loop in spawn", function()
      ends(function(perigee, note)
        perigee.spawn(function() while true do note("tick") perigee.sleep(1) end end)
      end)
    end)

    it("its clean-up runs", function()
      local seen = ends(function(perigee, note)
        perigee.spawn(function()
          local _ <close> = setmetatable({}, { __close = function() note("closed") end })
          while true do note("tick") perigee.sleep(1) end
        end)
      end)
      assert.equal(1, seen.closed)
    end)

    it("what that has spawned, and so on", function()
      ends(function(perigee, note)
        local function generation()
          note("tick")
          perigee.sleep(1)
          perigee.spawn(generation)
        end
        perigee.spawn(generation)
      end)
    end)

    it("what waits for a callback that never comes, with a loop behind it", function()
      ends(function(perigee, note)
        perigee.spawn(function()
          note("tick")
          while true do
            perigee.await(function() end, 5)
            note("tick")
          end
        end)
      end)
    end)

    it("functions that timers are busy with", function()
      ends(function(perigee, note)
        perigee.after(1, function() while true do note("tick") perigee.sleep(1) end end)
      end)
      ends(function(perigee, note)
        perigee.every(1, function() while true do note("tick") perigee.sleep(1) end end)
      end)
    end)

    it("timers, those that calls have begun as well", function()
      ends(function(perigee, note) perigee.every(1, function() note("tick") end) end)
      local seen, app, ann = begun(function(perigee, note, C)
        C:rpc_method("begin", function()
          perigee.every(1, function() note("tick") end)
          perigee.after(1, function() while true do note("tock") perigee.sleep(1) end end)
        end)
      end)
      ann:call("begin")
      app:advance(5)
      assert.is_true(seen.tick > 1 and seen.tock > 1)
      app:reload(version("two"))
      local ticks, tocks = seen.tick, seen.tock
      app:advance(60)
      assert.same({ ticks, tocks }, { seen.tick, seen.tock })
    end)

    it("handles of luv's that were made while it was loaded", function()
      local kept
      local _, app = begun(function() kept = uv.new_timer() end)
      assert.is_false(uv.is_closing(kept))
      app:reload(version("two"))
      assert.is_true(uv.is_closing(kept))
    end)

    it("handles of an app that does not load", function()
      local app, kept = testing.app(version("one")), nil
      assert.is_false(app:try_reload(version("two", function()
        kept = uv.new_timer()
        kept:start(1, 1, function() end)
        error("not today")
      end)))
      assert.is_true(uv.is_closing(kept))
    end)

    it("but not what calls and connections have spawned", function()
      local seen, app, ann = begun(function(perigee, note, C)
        C:rpc_method("begin", function(ctx)
          perigee.spawn(function() perigee.sleep(5) note("spawned") end)
          ctx:spawn(function() perigee.sleep(5) note("of the call") end)
        end)
      end)
      ann:call("begin")
      app:reload(version("two"))
      app:advance(10)
      assert.same({ spawned = 1, ["of the call"] = 1 }, seen)
    end)

    it("and nothing of apps that stay", function()
      local seen, app = begun(function(perigee, note)
        perigee.spawn(function() while true do note("tick") perigee.sleep(1) end end)
      end)
      assert.is_false(app:try_reload(version("two", function() error("not today") end)))
      local before = seen.tick
      app:advance(10)
      assert.equal(before + 10, seen.tick)
    end)
  end)

  it("puts the old code back when it is undone after the swap", function()
    local function named(name)
      return version(name, function(C)
        function C:name() return name end -- luacheck: no self
        C:rpc_method("name", function(ctx) return ctx.consumer:name() end)
      end)
    end
    local app = testing.app(named("one"))
    local ann, kept = app:connect("/test"), nil
    assert.equal("one", ann:call("name"))
    local place = apps.place_of_function("test", function(perigee)
      kept = uv.new_timer()
      return named("two")(perigee)
    end)
    place.is_changed, place.generation = true, 2
    assert.is_true(reload.build { place })
    assert.is_true(reload.swap())
    assert.equal("two", ann:call("name"))
    reload.undo()
    assert.same({ "one", "one" }, { ann:call("name"), ann:call("version") })
    assert.is_true(uv.is_closing(kept))
  end)

  it("loads the modules of blocking functions anew", function()
    local dir = rig.folder {
      ["test/init.lua"] = [[
        local perigee = require "perigee"
        local C = perigee.consumer {}
        C:rpc_method("m", function() return perigee.blocking("test.work", "f") end)
        return C]],
      ["test/work.lua"] = "return { f = function() return 1 end }",
    }
    local app = testing.app(dir .. "/test")
    local ann = app:connect("/test")
    assert.equal(1, ann:call("m"))
    local file = assert(io.open(dir .. "/test/work.lua", "w"))
    file:write("return { f = function() return 2 end }")
    file:close()
    assert.equal(1, ann:call("m"))
    app:reload()
    assert.equal(2, ann:call("m"))
  end)

  it("drops what the new code does not declare", function()
    local app = testing.app(version("one", function(C) C:rpc_method("old", function() return 1 end) end))
    local ann = app:connect("/test")
    assert.equal(1, ann:call("old"))
    app:reload(version("two"))
    rig.refused(-32601, ann, "old")
  end)

  it("ends calls in the code they began in, errors included", function()
    local seen = {}
    local function failing(name)
      return version(name, function(C, perigee)
        C:on_error(function() seen[#seen + 1] = name end)
        C:rpc_method("fail", function()
          perigee.sleep(5)
          error(name)
        end)
      end)
    end
    local app = testing.app(failing("one"))
    local ann = app:connect("/test")
    ann:send(rig.request("fail"))
    app:reload(failing("two"))
    app:advance(6)
    assert.same({ "one" }, seen)
  end)

  it("lets calls to the client be answered", function()
    local function asking(name)
      return version(name, function(C)
        C:rpc_method("ask", function(ctx) return { ctx:call("question"), name } end)
      end)
    end
    local app = testing.app(asking("one"))
    local ann = app:connect("/test")
    ann:send(rig.request("ask", nil, '"x"'))
    local id, asked = next(ann.answers)
    assert.equal("question", asked.method)
    ann.answers[id] = nil
    app:reload(asking("two"))
    ann:send(('{"jsonrpc":"2.0","id":"%s","result":42}'):format(id))
    app:advance(1)
    assert.same({ 42, "one" }, ann.answers["x"].result)
  end)

  it("stops timers and receivers of the old code", function()
    local seen = {}
    local function ticking(name)
      return version(name, function(_, perigee)
        perigee.every(1, function() seen[#seen + 1] = name end)
        perigee.on("rpc_method_completed", function() seen[#seen + 1] = "heard " .. name end)
      end)
    end
    local app = testing.app(ticking("one"))
    local ann = app:connect("/test")
    app:advance(1.5)
    app:reload(ticking("two"))
    app:advance(2.2)
    ann:call("version")
    assert.same({ "one", "two", "two", "heard two" }, seen)
  end)

  it("begins nothing of code that fails to load", function()
    local seen = {}
    local app = testing.app(version("one"))
    local ok, err = app:try_reload(function(perigee)
      perigee.spawn(function() seen[1] = "spawned" end)
      perigee.after(1, function() seen[1] = "timer" end)
      perigee.on("rpc_method_started", function() seen[1] = "receiver" end)
      perigee.consumer()
      error("no")
    end)
    assert.is_false(ok)
    rig.has("no", err)
    app:advance(2)
    assert.equal("one", app:connect("/test"):call("version"))
    assert.same({}, seen)
  end)

  it("closes connections to a path that is gone with 1001, and runs their disconnect hooks", function()
    local codes = {}
    local app = testing.app(version("one", function(C)
      function C:disconnect(code) codes[#codes + 1] = code end -- luacheck: no self
    end))
    local ann = app:connect("/test")
    app:reload(version("two", nil, { path = "/elsewhere" }))
    local code, reason = ann:expect_close()
    assert.equal(1001, code)
    assert.equal("this app is not served any more", reason)
    assert.same({ 1001 }, codes)
    assert.equal("two", app:connect("/elsewhere"):call("version"))
  end)

  describe("on_save and on_restore", function()
    --- Counts in a state that is handed over; save(state) may change what is saved.
    local function keeping(save, restore)
      return function(perigee)
        local C, state = perigee.consumer(), { n = 0 }
        perigee.on_save(function() return save and save(state) or state end)
        perigee.on_restore(function(old)
          if restore then restore(old) end
          state = old
        end)
        C:rpc_method("add", function()
          state.n = state.n + 1
          return state.n
        end)
        return C
      end
    end

    it("hand state over", function()
      local app = testing.app(keeping())
      local ann = app:connect("/test")
      assert.equal(1, ann:call("add"))
      app:reload()
      assert.equal(2, ann:call("add"))
      app:reload()
      assert.equal(3, ann:call("add"))
    end)

    it("pass plain values, arrays, null, instances and groups by reference", function()
      local kept
      local app = testing.app(keeping(function(state)
        state.list, state.null, state.nested = setmetatable({}, core.array_mt), core.null, { [1.5] = { true } }
        state.nested.again = state.nested
        return state
      end, function(old) kept = old end))
      app:reload()
      assert.equal(core.array_mt, getmetatable(kept.list))
      assert.equal(kept.nested, kept.nested.again)
    end)

    for what, make in pairs {
      ["a function at state.deep.fn"] = function() return { deep = { fn = print } } end,
      ["a thread at state[1]"] = function() return { coroutine.create(print) } end,
      ["a userdata at state.file"] = function() return { file = io.stdout } end,
      ['a table with a metatable at state["a b"]'] = function() return { ["a b"] = setmetatable({}, {}) } end,
      ["a function as a key at state"] = function() return { [print] = 1 } end,
    } do
      it("refuse " .. what, function()
        local app = testing.app(keeping(make))
        local ann = app:connect("/test")
        ann:call("add")
        local ok, err = app:try_reload()
        assert.is_false(ok)
        rig.has(what, err)
        rig.has("reload_spec.lua:", err)
        assert.equal(2, ann:call("add"))
      end)
    end

    it("undo everything when one of them fails", function()
      local app = testing.app(keeping())
      local ann = app:connect("/test")
      ann:call("add")
      local ok, err = app:try_reload(keeping(nil, function() error("cannot") end))
      assert.is_false(ok)
      rig.has("cannot", err)
      assert.equal(2, ann:call("add"))
      app:reload()
      assert.equal(3, ann:call("add"))
    end)

    it("are given once per file, while the app is loaded", function()
      rig.raises(function()
        testing.app(version("one", function(_, perigee)
          perigee.on_save(function() end)
          perigee.on_save(function() end)
        end))
      end, "on_save was called in this file already, at ")
      rig.raises(function() testing.app(version("one", function(_, perigee) perigee.on_restore(1) end)) end,
        "perigee.on_restore takes a function, not a number")
      local app = testing.app(version("one", function(C, perigee)
        C:rpc_method("late", function() perigee.on_save(print) end)
      end))
      app:connect("/test"):try("late")
      rig.has("while the app is loaded, not later", rig.the_error(app).block)
    end)
  end)

  it("lets go of calls that have ended, not of those that run", function()
    local seen = setmetatable({}, { __mode = "k" })
    local app = testing.app(version("one", function(C, perigee)
      C:rpc_method("quickly", function(ctx) seen[ctx] = "quickly" end)
      C:rpc_method("slowly", function(ctx)
        seen[ctx] = "slowly"
        perigee.sleep(1)
      end)
    end))
    local ann = app:connect("/test")
    ann:send(rig.request("slowly"))
    ann:call("quickly")
    call.forget_ended()
    collectgarbage()
    collectgarbage()
    local left = {}
    for _, name in pairs(seen) do left[#left + 1] = name end
    assert.same({ "slowly" }, left)
    app:advance(1)
  end)

  it("tells who listens", function()
    local seen = {}
    local listener = version("one", function(_, perigee)
      for _, name in ipairs { "app_loaded", "app_reloaded" } do
        perigee.on(name, function(e) seen[#seen + 1] = name .. e.generation end)
      end
    end)
    local app = testing.app(listener)
    app:reload(listener)
    app:reload(listener)
    assert.same({ "app_loaded1", "app_reloaded2", "app_reloaded3" }, seen)
  end)

  it("leaves nothing behind: memory is the same after 1,000 reloads", function()
    local function heavy(perigee)
      local C = perigee.consumer()
      local ballast = ("x"):rep(50000) .. tostring(perigee)
      C:rpc_method("size", function() return #ballast end)
      C:rpc_method("slow", function()
        perigee.sleep(1)
        return #ballast
      end)
      perigee.every(10, function() return ballast end)
      perigee.on("client_connected", function() return ballast end)
      function C:connect() self.made = true end
      return C
    end
    local app = testing.app(heavy)
    local ann, used = app:connect("/test"), nil
    for i = 1, 1000 do
      ann:call("size")
      if i % 10 == 0 then
        ann:send(rig.request("slow", nil, "7"))
        app:advance(0.5)
      end
      app:reload()
      if i % 100 == 0 then
        app:advance(2)
        ann:clear()
        collectgarbage()
        collectgarbage()
        local now = core.memory()
        if i == 100 then used = now end
        -- one generation weighs 50 kB
        assert.is_true(now < used + 200000, ("%d bytes more after %d reloads"):format(now - (used or 0), i))
      end
    end
  end)
end)

describe("a folder without apps", function()
  it("is an error that names the folder, and no line of the server's", function()
    local ok, err = pcall(reload.load, {}, "/nowhere")
    assert.is_false(ok)
    assert.equal("no apps in /nowhere: an app is a folder with an init.lua, or a file NAME.lua", err)
  end)
end)

describe("apps of one folder", function()
  after_each(rig.clean)

  it("have a name each", function()
    local dir = rig.folder { ["a.lua"] = "", ["a/init.lua"] = "", ["b.lua"] = "" }
    local ok, err = pcall(apps.find, dir)
    assert.is_false(ok)
    rig.has("two apps are called 'a'", err)
  end)

  it("keep no timer that has fired", function()
    local app = testing.app(version("one", function(_, perigee) perigee.after(1, function() end) end))
    app:advance(0.9)
    assert.is_not_nil(next(app.app.timers))
    app:advance(0.2)
    assert.is_nil(next(app.app.timers))
    assert.is_nil(next(app.app.tasks))
  end)
end)

describe("a test client", function()
  it("is not content with nothing when a frame came, and forgets all that did", function()
    local app = testing.app(version("one", function(C)
      C:rpc_method("frame", function(ctx) ctx.consumer:send("no JSON-RPC") end)
    end))
    local ann = app:connect("/test")
    ann:call("frame")
    assert.is_false((pcall(ann.expect_nothing, ann)))
    ann:clear()
    ann:expect_nothing()
  end)
end)
