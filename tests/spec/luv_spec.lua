--- require "luv": libuv on the worker's own loop, with callbacks that may wait and may fail.
local rig = require("tests.spec.support.rig")
local uv = require("luv")

describe("luv", function()
  local app, client

  local function given(body)
    app = rig.source('local uv = require "luv"; C:rpc_method("m", function(ctx, ...) ' .. body
      .. ' end); C:rpc_method("ping", function() return "pong" end)')
    client = app:connect("/test")
  end

  after_each(rig.clean)

  it("runs on the loop that serves: a callback can be awaited", function()
    given([[
      return perigee.await(function(done)
        uv.fs_stat("/", function(err, stat) done(stat and stat.type or err) end)
      end)]])
    assert.equal("directory", client:call("m"))
  end)

  it("may wait in a callback", function()
    given([[
      uv.fs_stat("/", function() perigee.sleep(1) ctx:notify("done") end)]])
    client:call("m")
    client:expect("done")
  end)

  it("an error in a callback is logged, and nothing else happens", function()
    given('uv.fs_stat("/", function() local t; return t.x end) return true')
    assert.is_true(client:call("m"))
    rig.settle()
    local entry = rig.the_error(app)
    rig.has("luv callback failed", entry.event)
    rig.has("attempt to index a nil value", entry.fields.error)
    rig.still_serves(client, "ping")
  end)

  it("an error that is no text is logged as well", function()
    given('uv.fs_stat("/", function() error({}) end) return true')
    client:call("m")
    rig.settle()
    rig.has("table: ", rig.the_error(app).fields.error)
    rig.still_serves(client, "ping")
  end)

  it("keeps what would stop the loop, change the process for all, or run unguarded on a thread", function()
    for _, name in ipairs {
      "run", "stop", "walk", "loop_close", "loop_configure",
      "chdir", "disable_stdio_inheritance", "os_setenv", "os_unsetenv", "os_setpriority", "set_process_title",
      "setuid", "setgid", "new_thread", "thread_join", "new_work", "queue_work",
    } do
      given(("local ok, err = pcall(uv.%s, print) return { ok, err }"):format(name))
      local got = client:call("m")
      assert.is_false(got[1])
      rig.has(("uv.%s is not for apps"):format(name), got[2])
      rig.still_serves(client, "ping")
    end
  end)

  it("says what to use instead of a thread", function()
    given('local ok, err = pcall(uv.new_thread, print) return err')
    rig.has("perigee.blocking", client:call("m"))
  end)

  --- What a piece of code raises.
  local function refusal(code)
    given("local ok, err = pcall(function() " .. code .. " end) return { ok, tostring(err) }")
    local got = client:call("m")
    rig.still_serves(client, "ping")
    assert.is_false(got[1], code)
    return got[2]
  end

  it("does not end its own process, under none of its numbers", function()
    for _, pid in ipairs { "uv.os_getpid()", "0", "-1" } do
      rig.has("the server's own process", refusal(("uv.kill(%s, 'sigurg')"):format(pid)))
      rig.has("the server's own process", refusal(("uv.kill(%s)"):format(pid)))
    end
    local tasks = assert(uv.fs_scandir("/proc/self/task"))
    while true do
      local id = uv.fs_scandir_next(tasks)
      if not id then break end
      rig.has("the server's own process", refusal(("uv.kill(%s, 23)"):format(id)))
    end
    given("return uv.kill(uv.os_getpid(), 0)") -- only asks whether it is there
    assert.equal(0, client:call("m"))
  end)

  it("ends a process that it has begun", function()
    given([[
      local child, pid = uv.spawn("sleep", { args = { "60" } }, function() end)
      local result = uv.kill(pid, "sigterm")
      child:close()
      return result]])
    assert.equal(0, client:call("m"))
  end)

  it("leaves the server its signals, by name and number, once or for ever", function()
    for _, signal in ipairs { "'sigurg'", "23", "'23'", "'SIGPIPE'", "'sigsegv'", "'sigxfsz'", "'sigabrt'" } do
      for _, start in ipairs {
        "uv.signal_start(s, %s, print)", "s:start(%s, print)", "uv.signal_start_oneshot(s, %s, print)",
      } do
        rig.has("is the server's own", refusal("local s = uv.new_signal() " .. start:format(signal)))
      end
    end
    given([[local s = uv.new_signal() local r = s:start("sigusr2", print) s:close() return r]])
    assert.equal(0, client:call("m"))
  end)

  it("sends an async nine plain values, and no more", function()
    for n = 0, 9 do
      given(([=[
        local async
        local got = table.pack(perigee.await(function(done)
          async = uv.new_async(function(...) done(select("#", ...), ...) end)
          async:send(table.unpack({ "a", 2, true, "d", 5, "f", 7, "h", false }, 1, %d))
        end))
        async:close()
        return got[1] == got.n - 1 and got[1]]=]):format(n))
      assert.equal(n, client:call("m"))
    end
    for _, send in ipairs { "uv.async_send(a, %s)", "a:send(%s)" } do
      local code = "local a = uv.new_async(print) " .. send
      rig.has("at most 9 values, not 10", refusal(code:format("1, 2, 3, 4, 5, 6, 7, 8, 9, 10")))
      rig.has("value 2 is a userdata", refusal(code:format("1, a")))
      rig.has("value 1 is a table", refusal(code:format("{}")))
    end
  end)

  it("sleeps without holding anybody up", function()
    given("uv.sleep(5000) ctx:notify('slept')")
    client:send(rig.request("m", "[]", "1"))
    rig.still_serves(client, "ping")
    client:expect_nothing()
    app:advance(5)
    client:expect("slept")
  end)

  it("shows no finalizers, which would free what luv frees again", function()
    given([[
      local timer, req = uv.new_timer(), uv.fs_stat("/", function() end)
      local shown = { getmetatable(timer), getmetatable(req) }
      timer:close()
      return shown]])
    assert.same({ "uv_handle", "uv_req" }, client:call("m"))
  end)
end)
