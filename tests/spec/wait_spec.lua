--- Waiting without blocking: what waits suspends itself, and nobody else.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

local INTERNAL = -32603

describe("waiting", function()
  local app, client, perigee

  --- An app with one method m; `perigee` is the app's.
  local function given(fn)
    app = rig.app(function(C, module)
      perigee = module
      C:rpc_method("m", { timeout = false }, fn)
      C:rpc_method("ping", function() return "pong" end)
    end)
    client = app:connect("/test")
  end

  --- The result of a call of m, and the seconds it took.
  local function run(fn)
    given(fn)
    local result
    local took = rig.duration(function() result = client:call("m") end)
    return result, took
  end

  after_each(rig.clean)

  describe("a task's own coroutine", function()
    --- What another task hears that lays hands on one: before it is woken, or after.
    local function touch(action, is_late)
      local heard
      local result = run(function()
        local me = coroutine.running()
        return perigee.await(function(done)
          perigee.spawn(function()
            if is_late then done("a", "b", "c") end
            heard = select(2, pcall(action, me)) or "nothing"
            if not is_late then done("a", "b", "c") end
          end)
        end)
      end)
      assert.equal("a", result)
      return heard
    end

    local function resume(co) error(select(2, coroutine.resume(co)), 0) end

    it("cannot be resumed by others", function()
      assert.matches("cannot resume a coroutine that is not yours", touch(resume, false))
      assert.matches("cannot resume a coroutine that is not yours", touch(resume, true))
    end)

    it("cannot be closed by others", function()
      assert.matches("cannot close a coroutine that perigee runs", touch(coroutine.close, false))
      assert.matches("cannot close a coroutine that perigee runs", touch(coroutine.close, true))
    end)
  end)

  describe("perigee.sleep", function()
    it("suspends for as long as it is told", function()
      local _, took = run(function() perigee.sleep(2.5) end)
      assert.near(2.5, took, 0.005)
    end)

    it("holds nobody else up", function()
      given(function() perigee.sleep(5) end)
      client:send(rig.request("m"))
      assert.near(0, rig.duration(function() client:call("ping") end), 0.001)
      assert.near(0, rig.duration(function() app:connect("/test"):call("ping") end), 0.001)
    end)

    it("of 0 lets others go first", function()
      local order = run(function()
        local order = {}
        perigee.spawn(function() order[#order + 1] = "other" end)
        perigee.sleep(0)
        order[#order + 1] = "self"
        return order
      end)
      assert.same({ "other", "self" }, order)
    end)

    it("in a coroutine may be ended by one task and gone on with by another", function()
      local result = run(function()
        local inner
        local outer = coroutine.create(function()
          inner = coroutine.create(function()
            perigee.sleep(1)
            return "went on"
          end)
          coroutine.resume(inner)
        end)
        perigee.spawn(function() coroutine.resume(outer) end)
        perigee.sleep(0.1)
        coroutine.close(outer)
        for _ = 1, 300 do perigee.spawn(perigee.sleep, 0.5) end -- more than are kept: the first task goes
        perigee.sleep(2)
        return select(2, coroutine.resume(inner))
      end)
      assert.equal("went on", result)
    end)

    it("refuses what is no number of seconds", function()
      given(function() end)
      for _, bad in ipairs { "1", {}, true, -1, 0 / 0 } do
        rig.raises(function() perigee.sleep(bad) end, "perigee.sleep takes a number of seconds, not " .. tostring(bad))
      end
      rig.raises(function() perigee.sleep() end, "not nil")
    end)

    it("can be longer than anybody lives", function()
      given(function() perigee.sleep(math.huge) end)
      client:send(rig.request("m"))
      app:advance(3600)
      client:expect_nothing()
      rig.no_errors(app)
    end)
  end)

  describe("perigee.spawn", function()
    it("runs a function beside this one, with its arguments, from the next turn on", function()
      local seen = run(function()
        local seen = {}
        perigee.spawn(function(...) seen[1] = { ... } end, 1, "two")
        local before = #seen
        perigee.sleep(0)
        return { before, seen[1] }
      end)
      assert.same({ 0, { 1, "two" } }, seen)
    end)

    it("logs an error in it, which harms nobody", function()
      run(function() perigee.spawn(function() return nil + 1 end) end)
      local entry = rig.the_error(app)
      rig.has("attempt to perform arithmetic", entry.fields.error)
      rig.has("wait_spec.lua", entry.block)
      rig.still_serves(client, "ping")
    end)

    it("is there as ctx:spawn and self:spawn", function()
      local seen = {}
      given(function(ctx)
        ctx:spawn(function(x) seen[#seen + 1] = x end, 1)
        ctx.consumer:spawn(function(x) seen[#seen + 1] = x end, 2)
      end)
      client:call("m")
      assert.same({ 1, 2 }, seen)
    end)

    it("goes on when the connection is gone", function()
      local ended
      given(function(ctx)
        ctx:spawn(function()
          perigee.sleep(5)
          ended = true
        end)
      end)
      client:call("m")
      client:close()
      app:advance(6)
      assert.is_true(ended)
    end)

    it("needs a function", function()
      given(function(ctx)
        rig.raises(function() ctx:spawn("fn") end, "wait_spec.lua:", ": spawn takes a function, not a string")
        rig.raises(function() ctx.consumer:spawn() end, "wait_spec.lua:", ": spawn takes a function, not a nil")
      end)
      client:call("m")
      rig.raises(function() perigee.spawn("fn") end, "wait_spec.lua:", "perigee.spawn takes a function, not a string")
    end)
  end)

  describe("perigee.all", function()
    it("runs functions at the same time and returns what they return, in their order", function()
      local results, took = run(function()
        local results = perigee.all {
          function()
            perigee.sleep(0.3)
            return "a", nil, "c"
          end,
          function() return "b" end,
          function() perigee.sleep(0.2) end,
        }
        return { results[1].n, results[1][1], results[1][3], results[2][1], results[3].n }
      end)
      assert.near(0.3, took, 0.005)
      assert.same({ 3, "a", "c", "b", 0 }, results)
    end)

    it("of nothing returns nothing, at once", function()
      local count, took = run(function() return #perigee.all {} end)
      assert.equal(0, count)
      assert.near(0, took, 0.001)
    end)

    it("raises the first error, when all have ended", function()
      local results, took = run(function()
        local ended = 0
        local ok, err = pcall(perigee.all, {
          function()
            perigee.sleep(0.2)
            error({ "second" })
          end,
          function() error({ "first" }) end,
          function()
            perigee.sleep(0.5)
            ended = ended + 1
          end,
        })
        return { ok, err[1], ended }
      end)
      assert.near(0.5, took, 0.005)
      assert.same({ false, "first", 1 }, results)
    end)

    it("nests", function()
      local sum = run(function()
        local function pair(a, b)
          local results = perigee.all { function() return a end, function() return b end }
          return results[1][1] + results[2][1]
        end
        local results = perigee.all { function() return pair(1, 2) end, function() return pair(3, 4) end }
        return results[1][1] + results[2][1]
      end)
      assert.equal(10, sum)
    end)

    it("needs a list of functions", function()
      given(function() end)
      rig.raises(function() perigee.all(print) end, "perigee.all takes a list of functions, not a function")
      rig.raises(function() perigee.all { print, 5 } end, "perigee.all takes a function, not a number")
    end)
  end)

  describe("perigee.await", function()
    it("returns what done is called with, later", function()
      local result, took = run(function()
        local a, b, c = perigee.await(function(done)
          perigee.after(1.5, function() done("a", nil, "c") end)
        end)
        return { a, b == nil, c }
      end)
      assert.same({ "a", true, "c" }, result)
      assert.near(1.5, took, 0.005)
    end)

    it("returns at once when done is called at once", function()
      local result, took = run(function()
        return { perigee.await(function(done) done(1, 2) end) }
      end)
      assert.same({ 1, 2 }, result)
      assert.near(0, took, 0.001)
    end)

    it("takes the first call of done only", function()
      local result = run(function()
        local first = perigee.await(function(done)
          done(1)
          done(2)
        end)
        local second = perigee.await(function(done)
          perigee.after(1, function()
            done(3)
            done(4)
          end)
        end)
        local third = perigee.await(function(done) done(5) end)
        return { first, second, third }
      end)
      assert.same({ 1, 3, 5 }, result)
    end)

    it("returns nil and \"timeout\" after 30 seconds, or as many as it is told", function()
      local function await(...)
        local value, why = perigee.await(function() end, ...)
        return { value == nil, why }
      end
      local result, took = run(function() return await() end)
      assert.same({ true, "timeout" }, result)
      assert.near(30, took, 0.005)
      result, took = run(function() return await(2) end)
      assert.same({ true, "timeout" }, result)
      assert.near(2, took, 0.005)
    end)

    it("does not care about a done that comes too late", function()
      local result = run(function()
        local late
        perigee.await(function(done) late = done end, 1)
        late("too late")
        local value = perigee.await(function(done)
          late("still too late")
          perigee.after(1, function() done("right") end)
        end)
        late("much too late")
        return { value, (perigee.await(function(done) done("again") end)) }
      end)
      assert.same({ "right", "again" }, result)
    end)

    it("lets its function wait too", function()
      local result, took = run(function()
        return { perigee.await(function(done)
          perigee.sleep(1)
          done(perigee.await(function(inner) inner("inner") end))
        end) }
      end)
      assert.same({ "inner" }, result)
      assert.near(1, took, 0.005)
    end)

    it("is not done before its function has waited its time", function()
      local result, took = run(function()
        return { perigee.await(function(done)
          perigee.spawn(done, "early")
          perigee.sleep(1)
        end) }
      end)
      assert.same({ "early" }, result)
      assert.near(1, took, 0.005)
    end)

    it("turns a callback of luv into a wait", function()
      local uv = require("luv")
      local result = run(function()
        local err, stat = perigee.await(function(done) uv.fs_stat("/", done) end)
        return err == nil and stat.type
      end)
      assert.equal("directory", result)
    end)

    it("raises what its function raises", function()
      given(function() return perigee.await(function() return nil + 1 end) end)
      rig.refused(INTERNAL, client, "m")
      rig.has("attempt to perform arithmetic", rig.the_error(app).fields.error)
    end)

    it("needs a function and a number of seconds", function()
      given(function() end)
      rig.raises(function() perigee.await(5) end, "perigee.await takes a function, not a number")
      rig.raises(function() perigee.await(print, "1") end, "perigee.await's timeout takes a number of seconds, not 1")
    end)
  end)

  describe("perigee.after", function()
    it("calls once, when it is time", function()
      local calls = 0
      given(function() end)
      perigee.after(2, function() calls = calls + 1 end)
      app:advance(1.99)
      assert.equal(0, calls)
      app:advance(0.02)
      assert.equal(1, calls)
      app:advance(10)
      assert.equal(1, calls)
    end)

    it("can be cancelled, also when it has fired, and twice", function()
      local calls = 0
      given(function() end)
      local timer = perigee.after(2, function() calls = calls + 1 end)
      local fired = perigee.after(1, function() end)
      app:advance(1.5)
      fired:cancel()
      timer:cancel()
      timer:cancel()
      app:advance(10)
      assert.equal(0, calls)
      rig.no_errors(app)
    end)

    it("can be cancelled before it has begun to wait", function()
      local calls = 0
      given(function() perigee.after(0, function() calls = calls + 1 end):cancel() end)
      client:call("m")
      app:advance(1)
      assert.equal(0, calls)
    end)

    it("lets its function wait", function()
      local ended
      given(function() end)
      perigee.after(1, function()
        perigee.sleep(1)
        ended = core.now()
      end)
      local from = core.now()
      app:advance(3)
      assert.near(2, ended - from, 0.005)
    end)

    it("logs an error in its function", function()
      given(function() end)
      perigee.after(1, function() return nil + 1 end)
      app:advance(2)
      rig.has("attempt to perform arithmetic", rig.the_error(app).fields.error)
    end)

    it("may be asked for while an app is loaded", function()
      app = rig.source([[
        local ticks = 0
        perigee.after(1, function() ticks = ticks + 1 end)
        perigee.every(1, function() ticks = ticks + 10 end)
        C:rpc_method("ticks", function() return ticks end)]])
      app:advance(2.5)
      assert.equal(21, app:connect("/test"):call("ticks"))
    end)

    it("ends with its app", function()
      local calls = 0
      given(function() end)
      perigee.after(1, function() calls = calls + 1 end)
      perigee.every(1, function() calls = calls + 1 end)
      given(function() end)
      app:advance(5)
      assert.equal(0, calls)
    end)

    it("needs seconds and a function", function()
      given(function() end)
      rig.raises(function() perigee.after(-1, print) end, "perigee.after takes a number of seconds, not -1")
      rig.raises(function() perigee.after(1) end, "perigee.after takes a function, not a nil")
    end)
  end)

  describe("perigee.every", function()
    --- Times at which a tick began, from 0; each takes as long as its number in `takes` says.
    local function ticks(seconds, takes, total)
      local seen = {}
      given(function() end)
      local from = core.now()
      perigee.every(seconds, function()
        seen[#seen + 1] = math.floor((core.now() - from) * 100 + 0.5) / 100
        if takes[#seen] then perigee.sleep(takes[#seen]) end
      end)
      app:advance(total)
      return seen
    end

    it("calls every so many seconds, the first time after as many", function()
      assert.same({ 1, 2, 3 }, ticks(1, {}, 3.5))
      assert.same({ 0.5, 1, 1.5 }, ticks(0.5, {}, 1.9))
    end)

    it("keeps its pace when a call takes some time", function()
      assert.same({ 1, 2, 3, 4 }, ticks(1, { 0.9, 0.5, 0.1 }, 4.5))
    end)

    it("does not overlap: a long call swallows the ticks it misses", function()
      assert.same({ 1, 4.5, 5.5 }, ticks(1, { 3.5 }, 6))
    end)

    it("logs an error, and the next tick comes", function()
      local calls = 0
      given(function() end)
      perigee.every(1, function()
        calls = calls + 1
        if calls ~= 2 then error("tick " .. calls) end
      end)
      app:advance(3.5)
      assert.equal(3, calls)
      local logged = app:logged("timer failed")
      assert.equal(2, #logged)
      rig.has("tick 1", logged[1].fields.error)
      rig.has("tick 3", logged[2].fields.error)
    end)

    it("can be cancelled, also from within", function()
      local calls = 0
      given(function() end)
      local timer
      timer = perigee.every(1, function()
        calls = calls + 1
        if calls == 2 then timer:cancel() end
      end)
      app:advance(10)
      assert.equal(2, calls)
      timer = perigee.every(1, function() calls = calls + 1 end)
      app:advance(1)
      timer:cancel()
      app:advance(10)
      assert.equal(3, calls)
    end)

    it("lets a tick under way end when it is cancelled", function()
      local ended = 0
      given(function() end)
      local timer = perigee.every(1, function()
        perigee.sleep(1)
        ended = ended + 1
      end)
      app:advance(1.5)
      timer:cancel()
      app:advance(10)
      assert.equal(1, ended)
    end)

    it("needs more than 0 seconds", function()
      given(function() end)
      rig.raises(function() perigee.every(0, print) end, "perigee.every needs more than 0 seconds")
      rig.raises(function() perigee.every("1", print) end, "perigee.every takes a number of seconds")
    end)
  end)

  describe("inside a coroutine of the app's own", function()
    it("waits as it would outside: resume returns when the coroutine yields itself", function()
      local seen, took = run(function()
        local seen = {}
        local co = coroutine.create(function(a)
          perigee.sleep(1)
          local b = coroutine.yield(a + 1)
          perigee.sleep(1)
          return b + 1
        end)
        for i = 1, 2 do
          local ok, value = coroutine.resume(co, i * 10)
          seen[i] = { ok, value }
        end
        seen[3] = coroutine.status(co)
        seen[4] = coroutine.resume(co)
        return seen
      end)
      assert.same({ { true, 11 }, { true, 21 }, "dead", false }, seen)
      assert.near(2, took, 0.005)
    end)

    it("waits in iterators made with coroutine.wrap, and in coroutines within", function()
      local seen, took = run(function()
        local function numbers()
          return coroutine.wrap(function()
            for n in coroutine.wrap(function()
              for n = 1, 3 do
                perigee.sleep(1)
                coroutine.yield(n)
              end
            end) do coroutine.yield(n * 2) end
          end)
        end
        local seen = {}
        for n in numbers() do seen[#seen + 1] = n end
        return seen
      end)
      assert.same({ 2, 4, 6 }, seen)
      assert.near(3, took, 0.005)
    end)

    it("gives await and all their values", function()
      local value = run(function()
        return coroutine.wrap(function()
          local a = perigee.await(function(done) perigee.after(1, function() done(1) end) end)
          local b = perigee.all { function()
            perigee.sleep(1)
            return 2
          end }
          return a + b[1][1]
        end)()
      end)
      assert.equal(3, value)
    end)

    it("returns an error to resume, and closes with coroutine.close", function()
      local seen = run(function()
        local closed = 0
        local co = coroutine.create(function()
          local guard <close> = setmetatable({}, { __close = function() closed = closed + 1 end })
          perigee.sleep(1)
          coroutine.yield(guard ~= nil)
        end)
        coroutine.resume(co)
        local is_closed = coroutine.close(co)
        local ok, err = coroutine.resume(coroutine.create(function()
          perigee.sleep(1)
          error({ "x" })
        end))
        return { is_closed, closed, ok, err[1] }
      end)
      assert.same({ true, 1, false, "x" }, seen)
    end)

    it("is ended with its call when that runs out of time", function()
      app = rig.app(function(C, module)
        C:rpc_method("m", { timeout = 1 }, function()
          coroutine.wrap(function() module.sleep(5) end)()
        end)
      end)
      rig.refused(-32002, app:connect("/test"), "m")
    end)
  end)

  describe("where it cannot be", function()
    --- Asserts that m fails and that the log tells this.
    local function fails(text, fn)
      given(fn)
      rig.refused(INTERNAL, client, "m")
      rig.has(text, rig.the_error(app).fields.error)
      rig.still_serves(client, "ping")
    end

    local C_FUNCTION = "cannot wait here: a C function (a metamethod's, table.sort's or string.gsub's callback)"

    it("says so: in callbacks of table.sort, string.gsub, tostring", function()
      fails(C_FUNCTION, function() table.sort({ 3, 2, 1 }, function() perigee.sleep(1) end) end)
      fails(C_FUNCTION, function() return (("x"):gsub("x", function() perigee.sleep(1) end)) end)
      local slow = setmetatable({}, { __tostring = function() perigee.sleep(1) end })
      fails(C_FUNCTION, function() return tostring(slow) end)
    end)

    it("says so in a coroutine that such a callback resumes", function()
      fails(C_FUNCTION, function()
        table.sort({ 2, 1 }, function() coroutine.wrap(function() perigee.sleep(1) end)() end)
      end)
    end)

    it("can be, in metamethods that Lua itself calls", function()
      local seen, took = run(function()
        local t = setmetatable({}, {
          __index = function(_, key)
            perigee.sleep(1)
            return key
          end,
          __add = function()
            perigee.sleep(1)
            return 5
          end,
          __lt = function()
            perigee.sleep(1)
            return true
          end,
          __concat = function()
            perigee.sleep(1)
            return "joined"
          end,
        })
        local made = { t.x, t + 1, t < t, t .. "y" }
        for _, value in (function() perigee.sleep(1) end) do made[#made + 1] = value end
        return made
      end)
      assert.same({ "x", 5, true, "joined" }, seen)
      assert.near(5, took, 0.005)
    end)

    it("says so for coroutine.yield outside of a coroutine", function()
      fails("coroutine.yield outside of a coroutine of your own", function() coroutine.yield() end)
    end)
  end)

  it("works in hooks, events, signals, middleware and timers alike", function()
    local seen = {}
    app = rig.app(function(C, module)
      local function note(name)
        module.sleep(0.1)
        seen[#seen + 1] = name
      end
      function C:connect() -- luacheck: no self
        note("connect")
      end
      function C:disconnect() -- luacheck: no self
        note("disconnect")
      end
      function C:receive() -- luacheck: no self
        note("receive")
      end
      C:on_event("e", function() note("event") end)
      C:use(function(_, next)
        note("middleware")
        return next()
      end)
      module.on("client_connected", function() note("signal") end)
      C:rpc_method("m", function(ctx)
        note("method")
        C:send(ctx.consumer.channel_name, { type = "e" })
      end)
      module.after(5, function() note("timer") end)
    end)
    client = app:connect("/test")
    client:call("m")
    client:send("not JSON")
    app:advance(1)
    client:close()
    app:advance(10)
    assert.same({ "connect", "signal", "middleware", "method", "event", "receive", "disconnect", "timer" }, seen)
    rig.no_errors(app)
  end)

  it("of a call does not end when its client leaves: a call runs to its end", function()
    local ended
    given(function()
      perigee.sleep(5)
      ended = true
    end)
    client:send(rig.request("m"))
    client:abort()
    app:advance(10)
    assert.is_true(ended)
    rig.no_errors(app)
  end)
end)
