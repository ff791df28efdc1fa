--- Limits of doors into C, each with what is at it, one below and one above.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("a limit of a door", function()
  --- `call` is given numbers: `most` and one less are taken, one more is refused with `why`.
  ---@param most integer
  ---@param why string
  ---@param call fun(n: integer)
  local function is_most(most, why, call)
    call(most - 1)
    call(most)
    rig.raises(function() call(most + 1) end, why)
  end

  --- The same for `least`.
  ---@param least integer
  ---@param why string
  ---@param call fun(n: integer)
  local function is_least(least, why, call)
    call(least + 1)
    call(least)
    rig.raises(function() call(least - 1) end, why)
  end

  it("is that of random bytes", function()
    local function call(n) assert.is_true(#core.random_id(n) >= n) end
    is_most(256, "1 to 256 bytes", call)
    is_least(1, "1 to 256 bytes", call)
  end)

  it("is that of pages", function()
    local pages = {
      function(n) core.conns(0, n) end,
      function(n) core.groups(n) end,
      function(n) core.members_after("g", 0, n) end,
    }
    for _, page in ipairs(pages) do
      is_most(1000, "1 to 1000", page)
      is_least(1, "1 to 1000", page)
    end
    local function from(n) assert.same({}, (core.conns(n, 1))) end
    is_most(0xffffffff, "a place that conns returned, or 0", from)
    is_least(0, "a place that conns returned, or 0", from)
  end)

  it("is that of a WebSocket client's control frames", function()
    is_most(125, "at most 125 bytes", function(n) core.ws_client():ping(("p"):rep(n)) end)
    is_most(123, "at most 123 bytes", function(n) core.ws_client():close(4001, ("r"):rep(n)) end)
  end)

  it("is that of a password's hash", function()
    local app = rig.app(function(C)
      C:rpc_method("verify", function(_, n)
        local task, wait = core.wait_open()
        local job = core.password_verify(task, wait, "p", ("h"):rep(n))
        core.park(nil, wait)
        return { job() }
      end)
    end)
    local client = app:connect("/test")
    for _, n in ipairs { 126, 127 } do assert.is_false(client:call("verify", n)[1]) end
    rig.raises(function() core.password_verify(1, 1, "p", ("h"):rep(128)) end, "that is no password hash")
    app:stop()
  end)

  it("is that of a format", function()
    local mib, why = 1 << 20, "a format longer than 1 MiB"
    is_most(mib, why, function(n) assert.equal("", string.pack((" "):rep(n))) end)
    is_most(mib, why, function(n) assert.equal(0, string.packsize((" "):rep(n))) end)
    is_most(mib, why, function(n) assert.equal(1, (string.unpack((" "):rep(n), ""))) end)
    is_most(mib, why, function(n) assert.equal(n, #os.date((" "):rep(n))) end)
  end)
end)
