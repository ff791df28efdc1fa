--- The console: the command that makes a call again, and what is shown of local variables.
local core = require("perigee.core")
local console = require("perigee.console")
local report = require("perigee.report")
local rig = require("tests.spec.support.rig")

describe("the command that makes a call again", function()
  after_each(rig.clean)

  --- What it is for a call with these params, over WebSocket.
  local function command(method, params)
    local shown
    local app = rig.app({ path = "/test/:room" }, function(C)
      C:rpc_method(method, function(ctx, text, ...) -- luacheck: no unused args
        shown = console.command(ctx)
      end)
    end)
    app:connect("/test/a%20b?x=1"):send(rig.request(core.json_encode(method):sub(2, -2), params))
    return shown
  end

  for _, case in ipairs {
    { "ping", nil, "ping" },
    { "ping", "[]", "ping" },
    { "say", '["hi",1,null]', [[say '["hi",1,null]']] },
    { "say", '{"text":"hi"}', [[say '{"text":"hi"}']] },
    { "say", [==[["it's $HOME `x` \\ !"]]==], [==[say '["it'\''s $HOME `x` \\ !"]']==] },
    { "a b", nil, "'a b'" },
  } do
    it("is quoted: " .. case[3], function()
      assert.equal("perigee call '/test/a%20b?x=1' " .. case[3], command(case[1], case[2]))
    end)
  end

  it("names the server once it listens", function()
    console.authority = "127.0.0.1:8080"
    finally(function() console.authority = nil end)
    assert.equal("perigee call 'ws://127.0.0.1:8080/test/a%20b?x=1' ping", command("ping"))
  end)
end)

describe("local variables of what has failed", function()
  before_each(function() report.takes_locals = true end)
  after_each(function()
    report.takes_locals = false
    rig.clean()
  end)

  local function locals(body)
    local app = rig.source('C:rpc_method("f", function(ctx) ' .. body .. " end)")
    local seen
    local log = report.log
    report.log = function(fault) seen = fault.locals end -- luacheck: ignore
    finally(function() report.log = log end) -- luacheck: ignore
    app:connect("/test"):try("f")
    local out = {}
    for i, one in ipairs(seen) do out[i] = one.name .. " = " .. one.value end
    return out
  end

  it("are shown in one line each, and the app's metamethods do not run", function()
    assert.same({
      "ctx = perigee.ctx", "a = 1", [[b = "x\ny"]], "c = nil", 'd = {"k":[true]}', "e = a function", "f = a table",
      "g = [1,2]", "h = a table of 1", "i = " .. ('"%s"… (100 bytes)'):format(("y"):rep(60)),
    }, locals [[
      local a, b, c, d, e = 1, "x\ny", nil, { k = perigee.array { true } }, function() end
      local f = setmetatable({}, { __tostring = error, __index = error, __pairs = error, __len = error })
      local g, h, i = { 1, 2 }, { [print] = 1 }, ("y"):rep(100)
      f.x.y.z()
    ]])
  end)

  it("of one name are shown once, the inner one", function()
    assert.same({ "ctx = perigee.ctx", "x = 2" }, locals "local x = 1 do local x = 2 ; (nil)() end")
  end)

  it("are those of the innermost function of the app, and not too many", function()
    local many = {}
    for i = 1, 50 do many[i] = ("local v%d = %d"):format(i, i) end
    local seen = locals("local function inner() " .. table.concat(many, " ") .. " string.rep() end inner()")
    assert.equal(12, #seen)
    assert.equal("v1 = 1", seen[1])
  end)
end)
