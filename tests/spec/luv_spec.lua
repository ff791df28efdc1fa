--- require "luv": libuv on the worker's own loop, with callbacks that may wait and may fail.
local rig = require("tests.spec.support.rig")

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

  it("keeps what would stop, re-enter or close the server's loop", function()
    for _, name in ipairs { "run", "stop", "walk", "loop_close" } do
      given(("local ok, err = pcall(uv.%s, print) return { ok, err }"):format(name))
      local got = client:call("m")
      assert.is_false(got[1])
      rig.has(("uv.%s is not for apps"):format(name), got[2])
      rig.still_serves(client, "ping")
    end
  end)
end)
