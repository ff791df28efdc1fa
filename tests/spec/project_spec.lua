--- Projects: each has a state folder and a cookie of its own, however it is started.
local project = require("perigee.project")
local rig = require("tests.spec.support.rig")
local settings = require("perigee.settings")
local testcore = require("perigee.core.testing")
local uv = require("luv")

after_each(rig.clean)

local HOME <const> = { HOME = "/home/me" }

--- The settings of a project in `folder`.
local function of(folder, given)
  given = given or {}
  local found, problems = settings.resolve {
    dir = folder, environ = given.environ or HOME, flags = given.flags, config = given.config,
  }
  return assert(found, problems and problems[1] and problems[1].message)
end

local function flag(name, value)
  return { key = require("perigee.config").by_name[name], value = value }
end

describe("the state folder", function()
  it("is named after the project and differs between two", function()
    local shop = rig.folder { ["shop/apps/a.lua"] = "", ["admin/apps/a.lua"] = "" }
    local one, two = of(shop .. "/shop"), of(shop .. "/admin")
    assert.matches("^/home/me/%.local/state/perigee/shop%-%x+$", one.values.state)
    assert.matches("^/home/me/%.local/state/perigee/admin%-%x+$", two.values.state)
    assert.equal(one.values.state, of(shop .. "/shop").values.state)
    assert.equal("default", one.sources.state)
  end)

  it("is the same from every folder, by links, with a file and as a folder of apps", function()
    local folder = rig.folder { ["shop/apps/a.lua"] = "", ["x.conf.lua"] = 'return { apps = "shop/apps" }' }
    local state = of(folder .. "/shop").values.state
    assert(uv.fs_symlink(folder .. "/shop", folder .. "/link"))
    assert.equal(state, of(folder .. "/shop/apps").values.state)
    assert.equal(state, of(folder .. "/link").values.state)
    assert.equal(state, of(folder .. "/shop/").values.state)
    assert.equal(state, of(nil, { config = folder .. "/x.conf.lua" }).values.state)
    assert.equal(state, of(nil, { flags = { flag("apps", folder .. "/shop/../shop/apps") } }).values.state)
    local here = uv.cwd()
    testcore.chdir(folder .. "/link")
    local relative = of(nil, { flags = { flag("apps", "apps") } }).values.state
    testcore.chdir(here)
    assert.equal(state, relative)
  end)

  it("of two projects with one name is not one", function()
    local folder = rig.folder { ["a/shop/apps/a.lua"] = "", ["b/shop/apps/a.lua"] = "" }
    assert.not_equal(of(folder .. "/a/shop").values.state, of(folder .. "/b/shop").values.state)
  end)

  it("has a name that is fit for a folder", function()
    local folder = rig.folder { [("x"):rep(60) .. "/a.lua"] = "", ["a b\tc/a.lua"] = "" }
    assert.matches("/" .. ("x"):rep(40) .. "%-%x+$", of(folder .. "/" .. ("x"):rep(60)).values.state)
    assert.matches("/a_b_c%-%x+$", of(folder .. "/a b\tc").values.state)
  end)

  it("is what systemd or the XDG variables say, and what is given wins", function()
    local folder = rig.folder { ["apps/a.lua"] = "" }
    local found = of(folder, { environ = { HOME = "/home/me", XDG_STATE_HOME = "/xdg" } })
    assert.matches("^/xdg/perigee/[%w._-]+$", found.values.state)
    found = of(folder, { environ = { HOME = "/home/me", XDG_STATE_HOME = "not/absolute" } })
    assert.matches("^/home/me/", found.values.state)
    found = of(folder, { environ = { HOME = "/home/me", STATE_DIRECTORY = "/var/lib/shop:/var/lib/other" } })
    assert.equal("/var/lib/shop", found.values.state)
    assert.equal("STATE_DIRECTORY", found.sources.state)
    found = of(folder, { environ = { HOME = "/home/me", PERIGEE_STATE = "/mine" } })
    assert.same({ "/mine", "PERIGEE_STATE" }, { found.values.state, found.sources.state })
    found = of(folder, { environ = {} })
    assert.equal("auto", found.values.state) -- and whoever needs it says that there is no home
  end)
end)

describe("the cookie", function()
  local function cookie(folder, given)
    return of(folder, given).values.session_cookie
  end

  it("differs between projects, and stays with one", function()
    local folder = rig.folder { ["shop/apps/a.lua"] = "", ["admin/apps/a.lua"] = "" }
    local shop, admin = folder .. "/shop", folder .. "/admin"
    for _, sessions in ipairs { "sqlite", "memory" } do
      local flags = { flag("sessions", sessions) }
      assert.matches("^perigee_session_%x+$", cookie(shop, { flags = flags }))
      assert.equal(cookie(shop, { flags = flags }), cookie(shop .. "/apps", { flags = flags }))
      assert.not_equal(cookie(shop, { flags = flags }), cookie(admin, { flags = flags }))
    end
    assert.equal(16, #cookie(shop):match("%x+$"))
  end)

  it("is one for those who share their sessions on purpose", function()
    local folder = rig.folder { ["shop/apps/a.lua"] = "", ["admin/apps/a.lua"] = "" }
    local shop, admin = folder .. "/shop", folder .. "/admin"
    for _, flags in ipairs {
      { flag("state", folder .. "/state") }, { flag("sessions", "sqlite:" .. folder .. "/s.sqlite") },
      { flag("sessions", "redis://h/2") }, { flag("sessions", "unix:/run/redis?db=2") },
    } do
      assert.equal(cookie(shop, { flags = flags }), cookie(admin, { flags = flags }))
    end
    local function of_redis(url, prefix)
      return cookie(shop, { flags = { flag("sessions", url), flag("layer_prefix", prefix or "perigee:") } })
    end
    assert.equal(of_redis("redis://h"), of_redis("redis://u:p@10.0.0.1:6380/0"))
    assert.equal(of_redis("redis://h/2"), of_redis("unix:/run/redis?db=2"))
    assert.not_equal(of_redis("redis://h/1"), of_redis("redis://h/2"))
    assert.not_equal(of_redis("redis://h"), of_redis("redis://h", "shop:"))
    assert.equal("mine", cookie(shop, { flags = { flag("session_cookie", "mine") } }))
  end)

  it("has the same name before and after the folder is made", function()
    local folder = rig.folder { ["apps/a.lua"] = "", ["real/x"] = "" }
    assert(uv.fs_symlink(folder .. "/real", folder .. "/link"))
    local flags = { flag("state", folder .. "/link/deep/state") }
    local before = cookie(folder, { flags = flags })
    assert(uv.fs_mkdir(folder .. "/real/deep", 448))
    assert(uv.fs_mkdir(folder .. "/real/deep/state", 448))
    assert.equal(before, cookie(folder, { flags = flags }))
  end)
end)

describe("a project", function()
  it("is its folder of apps, without links, there or not", function()
    local folder = assert(uv.fs_realpath(rig.folder { ["apps/a.lua"] = "" }))
    assert.equal(folder .. "/apps", project.of(folder .. "/apps/"))
    assert.equal(folder .. "/nothing/here", project.of(folder .. "/nothing/here"))
    assert.equal(assert(uv.fs_realpath(".")) .. "/nothing", project.of("nothing"))
    assert.equal("/nothing-here", project.of("/nothing-here"))
    assert.equal("/", project.of("/"))
  end)
end)
