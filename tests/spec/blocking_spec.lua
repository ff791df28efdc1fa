--- perigee.blocking: functions of an app's modules on a thread, in a Lua state of their own.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")
local testing = require("perigee.testing")

describe("perigee.blocking", function()
  local client

  --- An app whose method `run` calls a function of its module work.lua with what it is given.
  ---@param work string body of the module
  ---@param run? string body of the method
  local function given(work, run)
    local dir = rig.folder {
      ["test/init.lua"] = [[
        local perigee = require "perigee"
        local C = perigee.consumer {}
        C:rpc_method("run", function(ctx, ...) ]] .. (run or 'return perigee.blocking("test.work", ...)') .. [[ end)
        C:rpc_method("ping", function() return "pong" end)
        return C]],
      ["test/work.lua"] = work,
    }
    client = testing.app(dir .. "/test"):connect("/test")
  end

  after_each(rig.clean)

  it("takes and gives plain values, nested ones as well", function()
    given("return { echo = function(...) return { n = select('#', ...), values = { ... } } end }")
    assert.equal(0, client:call("run", "echo").n)
    local values = { 1, 2.5, "three", true, { list = { 1, 2 }, deep = { deeper = "x" } } }
    local got = client:call("run", "echo", table.unpack(values))
    assert.equal(5, got.n)
    assert.same(values, got.values)
  end)

  it("returns several values", function()
    given("return { two = function() return 1, 2 end }",
      'local a, b = perigee.blocking("test.work", "two") return { a, b }')
    assert.same({ 1, 2 }, client:call("run"))
  end)

  it("holds nobody up while it runs", function()
    given("return { spin = function() local n = 0 for i = 1, 3e6 do n = n + i end return n end }")
    client:send(rig.request("run", '["spin"]', '"slow"'))
    assert.equal("pong", client:call("ping"))
  end)

  it("keeps a module loaded between calls, but shares nothing with the server", function()
    given("local n = 0; return { count = function() n = n + 1 return n end, "
      .. "see = function() return perigee == nil and package.loaded.perigee == nil end }")
    assert.is_true(client:call("run", "see"))
    assert.equal(1, client:call("run", "count"))
    assert.equal(2, client:call("run", "count"))
  end)

  it("makes an error in it a fault of the caller's, with the place and the traceback of the module", function()
    given("local function inner() error('too bad') end\nreturn { fail = function() inner() end }")
    local err = rig.refused(-32603, client, "run", "fail")
    assert.is_string(err.data.error_id)
    rig.still_serves(client, "ping")
  end)

  it("says what is missing", function()
    for _, case in ipairs {
      { 'perigee.blocking("test.nowhere", "f")', "module 'test.nowhere' not found" },
      { 'perigee.blocking("test.work", "nope")', "has no function 'nope'" },
      { 'perigee.blocking("test.work")', "takes a module's name and a function's name" },
      { 'perigee.blocking("test.work", "id", print)', "cannot cross to another state" },
      { 'perigee.blocking("test.work", "give_function")', "only plain values cross between states" },
      { 'perigee.blocking("test.work", "use_perigee")', "perigee is not there in a blocking function" },
    } do
      given("return { id = function(...) return ... end, give_function = function() return print end,"
        .. "use_perigee = function() require 'perigee' end }",
        "local ok, err = pcall(function() " .. case[1] .. " end) return { ok, tostring(err) }")
      local got = client:call("run")
      assert.is_false(got[1])
      rig.has(case[2], got[2])
      rig.clean()
    end
  end)

  it("keeps what would end the process, change it for all, or run what is no text", function()
    given([[
      local M = {}
      function M.try(code)
        local ok, err = pcall(assert(load(code)))
        return ok, tostring(err)
      end
      return M]], 'local ok, err = perigee.blocking("test.work", "try", ...) return { ok, err }')
    for code, words in pairs {
      ["os.exit(3)"] = "os.exit is not for apps",
      ["os.setlocale('C')"] = "os.setlocale is not for apps",
      ["assert(load(string.dump(function() end)))"] = "attempt to load a binary chunk",
      ["assert(load(string.dump(function() end), '=x', 'b'))"] = "attempt to load a binary chunk",
      ["require('luv').new_thread(print)"] = "uv.new_thread is not for apps",
      ["require('luv').loop_close()"] = "uv.loop_close is not for apps",
      ["local uv = require('luv') uv.kill(uv.os_getpid(), 'sigkill')"] = "the server's own process",
    } do
      local got = client:call("run", code)
      assert.is_false(got[1], code)
      rig.has(words, got[2])
      rig.still_serves(client, "ping")
    end
    assert.is_true(client:call("run", "assert(load('return ...', 'x', 't', {}))")[1])
  end)

  it("loads text from files, and nothing else", function()
    given([[
      local M = {}
      function M.files(text)
        local name = os.tmpname()
        local function write(bytes) local f = assert(io.open(name, "wb")) f:write(bytes) f:close() end
        write(text)
        local value = { dofile(name), loadfile(name)(), loadfile(name, "bt", {})() }
        write(string.dump(function() return 1 end))
        value[4] = { pcall(dofile, name) }
        value[5] = { loadfile(name, "b") }
        os.remove(name)
        return value[1], value[2], value[3], value[4][1], value[4][2], value[5][2]
      end
      return M]], 'return { perigee.blocking("test.work", "files", ...) }')
    local got = client:call("run", "return 42")
    assert.same({ 42, 42, 42, false }, table.move(got, 1, 4, 1, {}))
    rig.has("attempt to load a binary chunk", got[5])
    rig.has("attempt to load a binary chunk", got[6])
  end)

  it("has a luv of its own, whose errors end nothing", function()
    given([[
      local uv = require "luv"
      local M = {}
      function M.go()
        local timer, n = uv.new_timer(), 0
        timer:start(0, 1, function()
          n = n + 1
          if n == 2 then timer:close() end
          error("in a callback")
        end)
        uv.run()
        return n
      end
      return M]], 'return perigee.blocking("test.work", "go")')
    local before = core.metrics().faults
    assert.equal(2, client:call("run"))
    assert.equal(before + 2, core.metrics().faults)
    rig.still_serves(client, "ping")
  end)

  it("refuses more than a thousand at a time, and goes on when they are done", function()
    given("return { quick = function() return 1 end }", [[
      local refused, done = 0, 0
      local fns = {}
      for i = 1, 1100 do
        fns[i] = function()
          local ok, err = pcall(perigee.blocking, "test.work", "quick")
          if ok then done = done + 1 elseif err.code == perigee.errors.unavailable then refused = refused + 1 end
        end
      end
      perigee.all(fns)
      return { done, refused, perigee.blocking("test.work", "quick") }]])
    assert.same({ 1024, 76, 1 }, client:call("run"))
  end)
end)
