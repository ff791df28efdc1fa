--- Finding mistakes without running into them: bytecode, apps that do not load, and what editors are told.
local bytecode = require("perigee.bytecode")
local check = require("perigee.check")
local perigee = require("perigee")
local rig = require("tests.spec.support.rig")
local types = require("perigee.types")

after_each(rig.clean)

local function globals(text)
  local seen = {}
  for _, one in ipairs(bytecode.globals(assert(load(text)))) do
    seen[#seen + 1] = ("%d%s%s"):format(one.line, one.is_written and "=" or ":", one.name)
  end
  return table.concat(seen, " ")
end

describe("bytecode", function()
  it("tells the globals that code reads and writes, by line", function()
    assert.equal("1:print", globals "local p = print")
    assert.equal("1=x", globals "x = 1")
    assert.equal("1:a 1:b 2:c 3:d", globals "local x = b, a; local f = function()\nreturn c\nend return d")
    assert.equal("2:a 3:b 3=c", globals "local t = {}\nt.k = a\nc = b")
    assert.equal("1:string", globals 'local s = string.rep; return s, ("x"):rep(2), { print = 1 }')
    assert.equal("", globals "local print; return function() return print end")
    assert.equal("2:deep", globals "return function()\nreturn function() return deep end\nend")
    assert.equal("2=f", globals "\nfunction f() end")
  end)

  it("knows the line far into a long file, and long after a short one", function()
    local lines = {}
    for i = 1, 5000 do lines[i] = "local _ = 1; do local a = _ + 1 end" .. (i == 4000 and " gone()" or "") end
    for i = 1, 5000 do if i % 150 == 0 then lines[i] = "do local _ = 2 end" end end
    assert.equal("4000:gone", globals("do " .. table.concat(lines, "\nend do ") .. " end"))
    assert.equal("301:x", globals("local a" .. ("\n"):rep(300) .. "x()"))
  end)
end)

--- Problems of a folder of apps: "file:line level message" each.
local function problems(files, options)
  local folder = rig.folder(files)
  local checked = check.run(folder, options)
  check.retire(checked)
  local seen = {}
  for i, one in ipairs(checked.problems) do
    local file = one.file and one.file:sub(1, #folder) == folder and one.file:sub(#folder + 2) or one.file or "-"
    seen[i] = ("%s:%s %s %s"):format(file, one.line or "-", one.level, (one.message:gsub(folder, "…", 1)))
  end
  return seen, checked
end

local FINE = 'local perigee = require "perigee"\nlocal C = perigee.consumer {}\n%s\nreturn C\n'

describe("check", function()
  it("finds nothing in an app that is fine", function()
    local seen, checked = problems {
      ["a/init.lua"] = FINE:format('shared = 1\nrequire "a.part"\nC:rpc_method("m", function() return shared end)'),
      ["a/part.lua"] = "return { twice = function(x) return 2 * x end }",
      ["a/spec/a_spec.lua"] = 'describe("a", function() it("b", function() assert.is_true(true) end) end)',
      ["a/public/x.lua"] = "this is no Lua",
      ["b.lua"] = FINE:format(""),
    }
    assert.same({}, seen)
    assert.same({ 2, 4 }, { checked.n_apps, checked.n_files })
  end)

  it("tells of all apps at once, by file and line", function()
    assert.same({
      "a/init.lua:3 error rpc_method 'm' was registered already, at …/a/init.lua:3",
      "a/part.lua:2 error unexpected symbol near '='",
      "b/init.lua:2 error perigee.consumer has no option 'pth' (did you mean 'path'?)",
      "c/init.lua:3 error undeclared global 'tostirng' (did you mean 'tostring'?)",
      "c/init.lua:4 error undeclared global 'count' is assigned: declare it with 'local'",
      "d.lua:1 error unexpected symbol near <eof>",
    }, (problems {
      ["a/init.lua"] = FINE:format('for _ = 1, 2 do C:rpc_method("m", function() end) end'),
      ["a/part.lua"] = "local x\nx = = 1",
      ["b/init.lua"] = FINE:format(""):gsub("{}", '{ pth = "/b" }'),
      ["c/init.lua"] = FINE:format('C:rpc_method("m", function() return tostirng(1) end)\n'
        .. 'C:rpc_method("n", function() count = 1 end)'),
      ["d.lua"] = "return {",
    }))
  end)

  it("finds globals in files that nothing has required, and in specs", function()
    assert.same({
      "a/late.lua:1 error undeclared global 'nothing'",
      "a/spec/a_spec.lua:1 warning undeclared global 'descirbe' (did you mean 'describe'?)",
    }, (problems {
      ["a/init.lua"] = FINE:format(""),
      ["a/late.lua"] = "return function() return nothing end",
      ["a/threaded.lua"] = "return { read = function(path) return dofile(path) end }", -- for perigee.blocking
      ["a/spec/a_spec.lua"] = "descirbe()",
    }))
  end)

  it("knows a variable of the file that was probably meant", function()
    assert.same({ "a/init.lua:4 error undeclared global 'romms' (did you mean 'rooms'?)" }, (problems {
      ["a/init.lua"] = FINE:format('local rooms = {}\nC:rpc_method("m", function() return romms, rooms end)'),
    }))
  end)

  it("tells what would fail with Redis only: shared values while an app is loaded", function()
    local seen = problems { ["a.lua"] = FINE:format('perigee.shared("s"):get("x")') }
    assert.equal(1, #seen)
    rig.has("a.lua:3 error get: values of perigee.shared cannot be used while the app is loaded", seen[1])
  end)

  it("knows both consumers of a path", function()
    assert.same({ "b/init.lua:2 error two consumers on the path /a: the other is at …/a/init.lua:2" }, (problems {
      ["a/init.lua"] = FINE:format(""), ["b/init.lua"] = FINE:format(""):gsub("{}", '{ path = "/a" }'),
    }))
  end)

  it("knows both handlers of a route", function()
    local seen = problems {
      ["a/init.lua"] = FINE:format('C:get("/x", function() end)'),
      ["b/init.lua"] = FINE:format('C:get("/x", function() end)'),
    }
    assert.equal(1, #seen)
    rig.has("b/init.lua:3 error two handlers for GET /x", seen[1])
  end)

  it("passes what loading warns of on", function()
    local seen = problems { ["a/init.lua"] = FINE:format("function C:conect() end") }
    assert.equal(1, #seen)
    rig.has("a/init.lua:2 warning a function that looks like a misspelled hook (hook=connect, name=conect", seen[1])
  end)

  it("ends what runs on and on while it is loaded", function()
    check.LOAD_SECONDS = 0.05
    local seen = problems { ["a/init.lua"] = FINE:format("while true do pcall(function() end) end"),
      ["b/init.lua"] = FINE:format("") }
    check.LOAD_SECONDS = 5
    assert.equal(1, #seen)
    rig.has("a/init.lua:3 error this runs on and on while the app is loaded", seen[1])
    assert.is_nil((debug.gethook()))
  end)

  it("reads files as they are served: with a mark of byte order, with a line for the shell", function()
    local seen, checked = problems {
      ["a/init.lua"] = "\xEF\xBB\xBF" .. FINE:format('require "a.b"'), ["a/b.lua"] = "\xEF\xBB\xBFreturn 1",
      ["c.lua"] = "#!/usr/bin/env lua\n" .. FINE:format(""),
    }
    assert.same({}, seen)
    assert.equal(2, checked.n_apps)
    rig.has("a/b.lua:1 error undeclared global 'x'", problems {
      ["a/init.lua"] = FINE:format(""), ["a/b.lua"] = "\xEF\xBB\xBFreturn x",
    }[1])
  end)

  it("tells what is left out, and does not count it", function()
    local seen, checked = problems {
      ["ok/init.lua"] = FINE:format(""), ["v1.2/init.lua"] = "", ["my app/init.lua"] = "", ["my.file.lua"] = "",
      ["node_modules/init.lua"] = "", ["node_modules/x/index.js"] = "", ["plain folder/x.lua"] = "",
      [".git/init.lua"] = "",
    }
    table.sort(seen)
    local name = "this is not served as an app: the name of an app has letters, digits, - and _ only: "
      .. "rename it to have it served"
    assert.same({
      "my app:- warning " .. name, "my.file.lua:- warning " .. name,
      "node_modules:- warning this is not served as an app: node_modules is where npm keeps its packages",
      "v1.2:- warning " .. name,
    }, seen)
    assert.equal(1, checked.n_apps)
  end)

  it("tells of two apps of one name", function()
    local seen = problems { ["a/init.lua"] = FINE:format(""), ["a.lua"] = FINE:format("") }
    rig.has("two apps are called 'a': …/a", seen[1])
  end)

  it("tells when there is nothing to check", function()
    rig.has("no apps in", problems({})[1])
    rig.has("cannot read the apps folder", check.run("/no/such/folder").problems[1].message)
  end)

  it("ends timers that apps have started", function()
    local _, checked = problems { ["a/init.lua"] = FINE:format("perigee.every(1, function() end)") }
    assert.is_nil(next(checked.apps[1].timers))
  end)
end)

describe("types", function()
  --- What the file for editors has in it, as a table.
  local function written(text)
    return assert(load(text))()
  end

  it("tell of every function and field of perigee, and of no other", function()
    local api, real = written((types.perigee())), perigee.for_app { name = "a", file = "a.lua", timers = {} }
    local text = types.perigee()
    for name, value in pairs(real) do
      if type(value) == "function" then
        assert.equal("function", type(api[name]), name)
      else
        rig.has("perigee." .. name .. " = ", text)
      end
    end
    for name in pairs(api) do assert.is_truthy(rawget(real, name), name) end
  end)

  it("name no type that they do not tell of", function()
    local defined = {}
    local both = types.perigee() .. types.testing()
    for name in both:gmatch("%-%-%-@%l+ (perigee%.%u[%w_]*)") do defined[name] = true end
    local n = 0
    for name in both:gmatch("perigee%.%u[%w_]*") do
      n = n + 1
      assert.is_true(defined[name], name)
    end
    assert.is_true(n > 50)
  end)

  it("let apps put fields of their own on what lives as long as a connection", function()
    local n = select(2, types.perigee():gsub("%-%-%-@field %[string%] any", ""))
    assert.equal(2, n)
  end)

  it("tell of every method of consumers, instances, calls and test clients", function()
    local text = types.perigee()
    for _, class in ipairs { "consumer", "instance", "ctx", "group" } do
      local source = require("perigee.core").embedded("perigee/" .. class .. ".lua")
      local n = 0
      for method in source:gmatch("\nfunction (%u%w+[:.][%w_]+)%(") do
        n = n + 1
        rig.has("function " .. method .. "(", text)
      end
      assert.is_true(n > 0, class)
    end
    text = types.testing()
    for method in require("perigee.core").embedded("perigee/testing.lua"):gmatch("\nfunction (Test%w*:[%w_]+)%(") do
      rig.has("function " .. method .. "(", text)
    end
    assert.equal("function", type(written(text).app))
    rig.lacks("package inbox", text)
  end)
end)
