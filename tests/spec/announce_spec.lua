--- What is told when the server listens: to logs, to apps, and in dev to whoever sits in front of it.
local announce = require("perigee.announce")
local app_module = require("perigee.app")
local console = require("perigee.console")
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("a server that listens", function()
  local was, stdout, apps, authority = core.is_dev, io.stdout, app_module.apps, console.authority
  local written, logged, log

  before_each(function()
    written, logged, log = "", {}, core.log
    io.stdout = { write = function(_, text) written = written .. text end, flush = function() end } -- luacheck: ignore
    core.log = function(_, event, fields) logged[#logged + 1] = event .. " " .. fields.url end
  end)

  after_each(function()
    core.is_dev, core.log, app_module.apps, console.authority = was, log, apps, authority
    io.stdout = stdout -- luacheck: ignore
    rig.clean()
  end)

  it("says each of its addresses, and where the inspector is", function()
    core.is_dev = false
    announce.listening({ { address = "127.0.0.1", port = 80 }, { address = "::1", port = 81 } },
      { address = "::1", port = 82 })
    assert.same({ "listening http://127.0.0.1:80", "listening http://[::1]:81", "inspector http://[::1]:82/-/" },
      logged)
    assert.equal("127.0.0.1:80", console.authority)
    assert.equal("", written)
    announce.listening({ { address = "::", port = 80 } })
    assert.equal("listening http://[::]:80", logged[4])
    assert.equal(4, #logged)
    assert.equal("[::]:80", console.authority)
  end)

  it("says in dev what to open and what to call, app by app", function()
    local folder = rig.folder { ["b/public/index.html"] = "x", ["c/public/other.html"] = "x" }
    core.is_dev = true
    app_module.apps = {
      b = { dir = folder .. "/b", consumers = { { path = "/b" }, { path = "/b/:id" } } },
      a = { consumers = { { path = "/a" } } },
      c = { dir = folder .. "/c", consumers = {} },
    }
    announce.listening({ { address = "::1", port = 8080 }, { address = "127.0.0.1", port = 1 } })
    assert.equal(([[

Perigee %s serves
  a          call ws://[::1]:8080/a
  b          open http://[::1]:8080/b/
  b          call ws://[::1]:8080/b
  b          call ws://[::1]:8080/b/:id
  inspector  open http://[::1]:8080/-/
Ctrl-C stops.

]]):format(core.version), written)
  end)
end)
