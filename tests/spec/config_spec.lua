--- Settings: values with units, perigee.conf.lua in its sandbox, and what wins.
local config = require("perigee.config")
local configfile = require("perigee.configfile")
local project = require("perigee.project")
local rig = require("tests.spec.support.rig")
local settings = require("perigee.settings")

after_each(rig.clean)

local function key(type, more)
  local one = { name = "x", type = type, doc = "", section = "" }
  for name, value in pairs(more or {}) do one[name] = value end
  return one
end

describe("a value", function()
  local function reads(expected, kind, text, more)
    local value, why = config.parse(key(kind, more), text)
    assert.same(expected, value, why)
  end

  local function refuses(kind, text, word, more)
    local value, why = config.parse(key(kind, more), text)
    assert.is_nil(value)
    rig.has(word, why)
  end

  it("that is an address is one, and nothing else is", function()
    local networks = config.by_name.trusted_proxies
    assert.same({ { "10.0.0.0/8", "::1" } }, { config.parse(networks, "10.0.0.0/8,::1") })
    for _, text in ipairs { "proxy", "10.0.0.0/33", "300.0.0.1", "10.0.0.0/8,proxy" } do
      assert.is_nil((config.parse(networks, text)), text)
    end
    local listen = config.by_name.listen
    for text, is_one in pairs {
      ["127.0.0.1:0"] = true, ["127.0.0.1:65535"] = true, [":80"] = true, ["80"] = true, ["[::1]:1"] = true,
      ["127.0.0.1:65536"] = false, ["127.0.0.1:-1"] = false, ["127.0.0.1:x"] = false, ["65536"] = false,
    } do
      assert.equal(is_one, config.parse(listen, text) ~= nil, text)
    end
  end)

  it("has units", function()
    reads(100, "size", "100")
    reads(1536, "size", "1.5KiB")
    reads(2000000, "size", "2 MB")
    reads(3 << 30, "size", "3g")
    reads(0.5, "duration", "500ms")
    reads(90, "duration", "1.5m")
    reads(7200, "duration", "2h")
    reads(14 * 86400, "duration", "14d")
    reads(7, "duration", "7")
    reads(true, "boolean", "Yes")
    reads(false, "boolean", "off")
    reads("auto", "workers", "auto")
    reads(4, "workers", "4")
    reads({ { address = "::1", port = 80 }, { address = "127.0.0.1", port = 8080 } }, "addresses", "[::1]:80, 8080")
    reads({ { address = "127.0.0.1", port = 65535 }, { address = "127.0.0.1", port = 0 } }, "addresses", "65535 0")
    reads(("k"):rep(32), "secret", ("k"):rep(32))
    reads(("k"):rep(33), "secret", ("k"):rep(33))
  end)

  it("of the wrong kind is refused with what is expected", function()
    refuses("size", "2 miles", "2MiB")
    refuses("size", "", "2MiB")
    refuses("size", "-1", "2MiB")
    refuses("size", "0x10", "2MiB")
    refuses("size", ("9"):rep(400), "2MiB")
    refuses("duration", "10 years", "500ms")
    refuses("duration", "5M", "500ms") -- not minutes, not months
    refuses("integer", "1.5", "whole number")
    refuses("integer", "1e3", "whole number")
    refuses("boolean", "maybe", "true or false")
    refuses("addresses", "localhost", "ADDRESS:PORT")
    refuses("addresses", " , ", "ADDRESS:PORT")
    refuses("addresses", "65536", "ADDRESS:PORT")
    refuses("addresses", "[::1]:65536", "ADDRESS:PORT")
    refuses("secret", ("k"):rep(31), "at least 32 bytes")
    refuses("string", "", "not empty")
    refuses("choice", "jsno", "did you mean 'json'?", { choices = { "text", "json" } })
  end)

  it("stays within its range, which is told with units", function()
    local range = { min = 1024, max = 2 << 20 }
    reads(1024, "size", "1KiB", range)
    refuses("size", "1023", "at least 1KiB", range)
    refuses("size", "2049KiB", "at most 2MiB", range)
    refuses("duration", ("9"):rep(400), "at most 1d", { max = 86400 })
  end)

  it("is shown as it is written", function()
    for _, one in ipairs(config.keys) do
      local text = config.show(one, one.default)
      assert.same(one.default, (config.parse(one, text)), one.name .. " " .. text)
    end
  end)
end)

describe("the table of settings", function()
  it("has a type, a range and a doc for every key", function()
    for _, one in ipairs(config.keys) do
      assert.is_truthy(one.name:find("^%l[%l_]*$"))
      assert.is_truthy(one.doc ~= "" and one.section, one.name)
      if one.type == "size" or one.type == "duration" or one.type == "integer" then
        assert.is_truthy(one.min and one.max, one.name .. " has no range")
        if one.default ~= nil then assert.is_true(one.min <= one.default and one.default <= one.max) end
      end
    end
  end)
end)

local function resolve(files, given)
  given = given or {}
  local folder = rig.folder(files)
  local found, problems = settings.resolve {
    dir = folder, environ = given.environ or {}, flags = given.flags,
    config = given.config and folder .. "/" .. given.config,
  }
  return found, problems, folder
end

--- The only problem of a configuration file.
local function problem(text, environ)
  local found, problems, folder = resolve({ ["perigee.conf.lua"] = text }, { environ = environ })
  assert.is_nil(found)
  assert.equal(1, #problems)
  assert.equal(folder .. "/perigee.conf.lua", problems[1].file)
  return problems[1]
end

describe("sources", function()
  it("are defaults < file < environment < flags, and each value knows its own", function()
    local found, problems, folder = resolve({ ["perigee.conf.lua"] = [[
return {
  max_head = "20KiB", max_target = "3KiB",
  max_body = "3KiB",
}]] }, {
      environ = { PERIGEE_MAX_TARGET = "4KiB", PERIGEE_MAX_BODY = "4KiB" },
      flags = { { key = config.by_name.max_body, value = 5120 } },
    })
    assert.is_nil(problems)
    local values, sources = found.values, found.sources
    assert.same({ 2 << 20, 20480, 4096, 5120 },
      { values.max_message, values.max_head, values.max_target, values.max_body })
    assert.same({ "default", folder .. "/perigee.conf.lua:2", "PERIGEE_MAX_TARGET", "--max-body" },
      { sources.max_message, sources.max_head, sources.max_target, sources.max_body })
  end)

  it("take several addresses: flags add up, and replace what came before", function()
    local function at(port)
      return { key = config.by_name.listen, value = { { address = "127.0.0.1", port = port } } }
    end
    local found = resolve({ ["perigee.conf.lua"] = 'return { listen = { "0.0.0.0:1", 2 } }' })
    assert.equal("0.0.0.0:1 127.0.0.1:2", config.show(config.by_name.listen, found.values.listen))
    found = resolve({ ["perigee.conf.lua"] = "return { listen = 1 }" }, { flags = { at(3), at(4) } })
    assert.equal("127.0.0.1:3 127.0.0.1:4", config.show(config.by_name.listen, found.values.listen))
  end)

  it("find apps beside the file", function()
    local found, _, folder = resolve({ ["perigee.conf.lua"] = "return {}", ["apps/a.lua"] = "" })
    assert.equal(folder .. "/apps", found.values.apps)
    found, _, folder = resolve { ["perigee.conf.lua"] = 'return { apps = "here" }' }
    assert.equal(folder .. "/here", found.values.apps)
    found, _, folder = resolve({ ["etc/my.conf"] = 'return { apps = "here" }' }, { config = "etc/my.conf" })
    assert.equal(folder, found.values.apps) -- a folder of apps was named
    found, _, folder = resolve { ["a.lua"] = "" }
    assert.equal(folder, found.values.apps)
  end)

  it("in the environment may be empty, or other people's, but not slips", function()
    local found = resolve({}, { environ = {
      PERIGEE_MAX_BODY = "", PERIGEE_PORT = "tcp://10.0.0.1:80", PERIGEE_COLOUR = "1",
    } })
    assert.equal(2 << 20, found.values.max_body)
    local _, problems = resolve({}, { environ = { PERIGEE_MAX_BODI = "1" } })
    assert.equal("PERIGEE_MAX_BODI: there is no such setting (did you mean 'PERIGEE_MAX_BODY'?)", problems[1].message)
    _, problems = resolve({}, { environ = { PERIGEE_MAX_BODY = "much" } })
    rig.has("PERIGEE_MAX_BODY: 'much' is not a size", problems[1].message)
  end)

  it("are held against each other", function()
    local one = problem 'return {\n  output_soft = "2MiB",\n  output_hard = "1MiB",\n}'
    assert.equal("output_hard (1MiB) must not be below output_soft (2MiB)", one.message)
    assert.equal(3, one.line)
  end)
end)

describe("perigee.conf.lua", function()
  it("takes numbers in bytes and seconds, texts with units, and sums", function()
    local found = resolve { ["perigee.conf.lua"] = [[
local MiB = 1024 ^ 2
return { max_body = 4 * MiB, max_head = "32" .. "KiB", grace = 0.5, max_depth = "7", log_level = "warn" } ]] }
    local values = found.values
    assert.same({ 4194304, 32768, 0.5, 7, "warn" },
      { values.max_body, values.max_head, values.grace, values.max_depth, values.log_level })
  end)

  it("names the line, which is neither a comment's nor a text's", function()
    local one = problem 'return {\n  -- max_bodi = 1,\n  max_bodi = 1,\n  log_level = "warn", -- max_bodi = 1\n}'
    assert.equal(3, one.line)
    one = problem('local t = {}\nt.max_bodi = 1\nt.apps = "max_bodi = 2" .. [[\nmax_bodi = 3]]\nreturn t')
    assert.equal(2, one.line)
  end)

  it("tells all that is wrong at once, by line", function()
    local _, problems = resolve { ["perigee.conf.lua"] = [==[
return {
  --[[ max_bodi = 1, ]] max_bodi = 1,
  max_head = "much",
  grace = {},
  max_depth = 0,
  ["log_level"] = "inof", 7,
}]==] }
    local seen = {}
    for _, one in ipairs(problems) do seen[#seen + 1] = ("%s %s"):format(one.line or "-", one.message) end
    assert.same({
      "- item 1 has no name; settings are given as name = value",
      "- log_level: 'inof' is not error, warn, info, debug (did you mean 'info'?)",
      "2 there is no setting 'max_bodi' (did you mean 'max_body'?)",
      "3 max_head: 'much' is not a size, such as 512KiB, 2MiB or 1GiB",
      "4 grace: a table is not a time, such as 500ms, 10s, 5m, 2h or 1d",
      "5 max_depth: 0 is not at least 1",
    }, seen)
  end)

  it("shows the lines around a mistake", function()
    local one = problem 'return {\n  max_body = "much",\n}\n'
    rig.has('>    2 |   max_body = "much",', one.excerpt)
  end)

  it("must be Lua, and return a table", function()
    local one = problem "return {\n  max_body = = 1\n}"
    assert.equal(2, one.line)
    rig.has("unexpected symbol", one.message)
    rig.has("it returns nothing", problem("").message)
    rig.has("it returns a number", problem("return 1").message)
    rig.has("return { max_body = ... }", problem("max_body = 1").message)
    rig.has("binary", problem("\27Lua").message)
  end)

  it("reaches nothing but env and secret", function()
    for _, name in ipairs { "os", "io", "require", "load", "pcall", "setmetatable", "string", "_G", "debug" } do
      local one = problem("local x = 1\nreturn { a = " .. name .. " }")
      assert.equal(2, one.line)
      rig.has(("there is no '%s' here"):format(name), one.message)
    end
    rig.has("did you mean 'secret'?", problem("return { a = secrt 'A' }").message)
    for _, code in ipairs { '("x"):rep(9)', '("x").rep("x", 1e9)', '("x"):find("x")' } do
      local one = problem("return {\n a = " .. code .. " }")
      assert.equal(2, one.line)
      rig.has("strings have no", one.message)
    end
    assert.equal("X", ("x"):upper()) -- and for all others strings are as they were
  end)

  it("comes to an end, in little memory", function()
    local one = problem "local n = 0\nwhile true do\n  n = n + 1\nend"
    rig.has("does not come to an end", one.message)
    assert.is_true(one.line == 2 or one.line == 3)
    rig.has("does not come to an end", problem("::a:: goto a").message)
    rig.has("does not come to an end", problem("local function f() return f() end return f()").message)
    one = problem 'local s = "x"\nwhile true do s = s .. s end'
    rig.has("needs more than 16 MiB of memory", one.message)
    rig.has("does not come to an end", problem("local function f() return 1 + f() end return f()").message)
    assert.is_nil((debug.gethook()))
    rig.has("longer than 1048576 bytes", problem(("-"):rep(1048577)).message)
  end)

  it("reads the environment, with or without a default", function()
    local text = 'return {\n  log_level = env("LEVEL", "warn"),\n}'
    assert.equal("warn", resolve({ ["perigee.conf.lua"] = text }).values.log_level)
    assert.equal("debug", resolve({ ["perigee.conf.lua"] = text }, { environ = { LEVEL = "debug" } }).values.log_level)
    local one = problem 'return {\n\n  log_level = env "LEVEL",\n}'
    assert.equal(3, one.line)
    rig.has('the environment variable LEVEL is not set: set it, or give a default: env("LEVEL", "...")', one.message)
  end)

  it("takes secrets from the environment or a file, and masks them", function()
    local text = 'return {\n  apps = "a-" .. secret "TOKEN" .. "-b",\n}'
    local found, _, folder = resolve({ ["perigee.conf.lua"] = text }, { environ = { TOKEN = "hush" } })
    assert.equal(folder .. "/a-hush-b", found.values.apps)
    assert.equal(folder .. "/a-******-b", settings.masked(found, found.values.apps))
    local file = rig.folder { token = "from a file\nsecond line\n", empty = "", cred = "credential" }
    found = resolve({ ["perigee.conf.lua"] = text }, { environ = { TOKEN_FILE = file .. "/token" } })
    rig.has("a-from a file-b", found.values.apps)
    local named = 'return { apps = secret "cred" }'
    found = resolve({ ["perigee.conf.lua"] = named }, { environ = { CREDENTIALS_DIRECTORY = file } })
    rig.has("/credential", found.values.apps)
    assert.is_nil((configfile.find_secret("../" .. file:match("[^/]+$") .. "/cred", { CREDENTIALS_DIRECTORY = file })))
    assert.equal("credential", (configfile.find_secret("cred", { CREDENTIALS_DIRECTORY = file })))
    for content, value in pairs { ["key\r\nmore"] = "key", ["key\n"] = "key", ["k\rey"] = "k\rey",
      ["\xEF\xBB\xBFkey\r\n"] = "key" } do
      local path = rig.folder { key = content } .. "/key"
      assert.equal(value, (configfile.find_secret("K", { K_FILE = path })))
    end
    local one = problem(text)
    assert.equal(2, one.line)
    rig.has("the secret TOKEN is missing: set the environment variable TOKEN, or TOKEN_FILE", one.message)
    rig.has("empty", problem(text, { TOKEN_FILE = file .. "/empty" }).message)
    rig.has("no-such-file", problem(text, { TOKEN_FILE = file .. "/no-such-file" }).message)
    assert.equal("redis://u:******@h/0", settings.masked(found, "redis://u:p%w@h/0"))
  end)

  it("takes a secret as user or password of a URL, whatever bytes it has", function()
    local function layer(text, environ)
      local file = "return { layer = " .. text .. " }"
      local found, problems = resolve({ ["perigee.conf.lua"] = file }, { environ = environ })
      assert.is_truthy(found, problems and problems[1].message)
      rig.lacks(environ.P, settings.masked(found, found.values.layer))
      return found.values.layer, found
    end
    local recipe = '"redis://:" .. secret "P" .. "@h:1/2"'
    assert.equal("redis://:plain-._~@h:1/2", layer(recipe, { P = "plain-._~" }))
    assert.equal("redis://:Ab%2FCd%2BEf%3D%3D@h:1/2", layer(recipe, { P = "Ab/Cd+Ef==" }))
    assert.equal("redis://:50%2525off@h:1/2", layer(recipe, { P = "50%25off" }))
    assert.equal("redis://:%40%3A%2F%3F%23%5B%20%C3%A9%0A@h:1/2", layer(recipe, { P = "@:/?#[ é\n" }))
    assert.equal("redis://me:a%3Ab@h", layer('"redis://me:" .. secret "P" .. "@h"', { P = "a:b" }))
    assert.equal("redis://m%2Fe:a%2Fb@h", layer('"redis://" .. secret "U" .. ":" .. secret "P" .. "@h"',
      { U = "m/e", P = "a/b" }))
    assert.equal("redis://me:a%2Fb@h", layer('"redis://" .. secret "P" .. "@h"', { P = "me:a/b" }))
    local shared = '"redis://" .. secret "U" .. ":" .. secret "P" .. "@h"'
    assert.equal("redis://m%3Ae:a%3Ab@h", layer(shared, { U = "m:e", P = "a:b" }))
    assert.equal("redis://m:a%3Ab@h", layer('"redis://m:" .. secret "P" .. "@h"', { P = "a:b", U = "m:a" }))
    local text, found = layer(shared, { U = "m/e", P = "a/b" })
    assert.equal("redis://******:******@h", settings.masked(found, text))
    assert.equal("redis://p%2540ss:p%2540ss@h", layer(shared, { U = "p%40ss", P = "p%40ss" })) -- as it is
    local all = {}
    for i = 1, 255 do all[i] = string.char(i) end
    local encoded = layer(recipe, { P = table.concat(all) }):match("^redis://:(.*)@h:1/2$")
    assert.equal(table.concat(all), (encoded:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)))
    -- what is no login of a URL, and a URL that is a secret as a whole, stay what they are
    assert.equal("redis://:a%2Fb@h", layer('secret "P"', { P = "redis://:a%2Fb@h" }))
    assert.equal("unix:/run/a/b", layer('"unix:/run/" .. secret "P"', { P = "a/b" }))
    assert.equal("redis://h:7/1", layer('"redis://" .. secret "P"', { P = "h:7/1" }))
  end)

  it("hides a password whatever it holds", function()
    assert.equal("x redis://me:******@h/0 y", config.without_passwords("x redis://me:a/b@c:d%2@h/0 y"))
    for url, shown in pairs {
      ["redis://me:my pass@h"] = "redis://me:******@h", ["redis://:a\nb@h"] = "redis://:******@h",
      ["redis://m/e:pass@h"] = "redis://m/e:******@h", ["redis://m@e:pass@h/1"] = "redis://m@e:******@h/1",
      ["redis://pass@h"] = "redis://******@h", ["x redis://pa/ss@h y"] = "x redis://******@h y",
      ["redis://h:6379/0"] = "redis://h:6379/0", ["https://a.b http://c:80"] = "https://a.b http://c:80",
    } do
      assert.equal(shown, config.without_passwords(url))
    end
  end)

  it("does not repeat secrets and passwords in what it says of them", function()
    local one = problem('return {\n  secret = "too short a key",\n}')
    rig.lacks("short a key", one.message .. (one.excerpt or ""))
    rig.has("secret: '******' is not", one.message)
    one = problem('return {\n  secret = "hush, at least thirty-two bytes of it",\n  max_bodi = 1\n}')
    rig.lacks("hush", one.excerpt)
    one = problem('return { layer = secret "URL" }', { URL = "ftp://me:hush@host" })
    rig.lacks("hush", one.message)
    local _, problems = resolve({}, { environ = { PERIGEE_LAYER = "ftp://me:hush@host", PERIGEE_SECRET = "hush" } })
    assert.equal(2, #problems)
    for _, each in ipairs(problems) do rig.lacks("hush", each.message) end
    rig.has("'ftp://me:******@host' is not", problems[1].message)
  end)

  it("that is named must be there", function()
    local _, problems = resolve({}, { config = "missing.lua" })
    rig.has("cannot be read: no such file", problems[1].message)
    _, problems = resolve({ ["conf/x"] = "" }, { config = "conf" })
    rig.has("it is a folder", problems[1].message)
  end)

  it("with every default written out is the default", function()
    local text = require("perigee.cli.config").defaults()
    local found = resolve { ["perigee.conf.lua"] = text }
    assert.is_truthy(found)
    local all = text:gsub("\n  %-%- ([%l_]+ = )", "\n  %1")
    local problems, folder
    found, problems, folder = resolve { ["perigee.conf.lua"] = all }
    assert.is_nil(problems)
    local expected = config.defaults()
    expected.apps = folder .. "/apps"
    expected.session_cookie = project.cookie(expected) -- "auto" is one for where the sessions are
    assert.same(expected, found.values)
  end)
end)
