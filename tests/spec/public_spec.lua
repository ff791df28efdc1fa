--- What apps may use: each name that is there at run time is annotated, for editors, and described in
--- apps/README.md, for people; and what is annotated is there.
local core = require("perigee.core")
local public = require("tests.spec.support.public")
local rig = require("tests.spec.support.rig")

local guide = public.read("apps/README.md")

--- Does the guide have the name in code? As a word of its own, in `…` or in a block.
---@param name string
---@param before? string pattern of what stands before it
local function is_described(name, before)
  return (" " .. guide.code .. " "):find((before or "[^%w_]") .. name .. "%f[^%w_]") ~= nil
end

--- Fails with all that is missing, not with the first of it.
local function nothing(list, what)
  table.sort(list)
  assert(#list == 0, ("%s:\n  %s"):format(what, table.concat(list, "\n  ")))
end

local faces -- what apps get: names at run time, and the class that annotates them

setup(function()
  local app, class, perigee
  app = rig.app(function(C, face)
    class, perigee = C, face
    C:rpc_method("noop", function() end)
  end)
  local client = app:connect("/test")
  faces = {
    { class = "perigee", prefix = "perigee.", names = public.keys(perigee) },
    { class = "perigee.Consumer", prefix = "C:", names = public.members(class) },
    { class = "perigee.Instance", prefix = "self:", names = public.members(public.made_by(class, "instance_mt")) },
    { class = "perigee.Ctx", prefix = "ctx:", names = public.members(public.made_by(class, "ctx_mt")) },
    { class = "perigee.HttpCtx", prefix = "ctx:",
      names = public.members(setmetatable({}, require("perigee.consumer").record(class).web.ctx_mt)) },
    { class = "perigee.Group", prefix = "group:", names = public.members(perigee.group("g")) },
    { class = "perigee.Shared", prefix = "store:", names = public.members(perigee.shared("s")) },
    { class = "perigee.Session", prefix = "session:",
      names = public.upvalue(require("perigee.session").of, "methods") },
    { class = "perigee.Timer", prefix = "timer:", names = public.members(perigee.after(0, function() end)) },
    { class = "perigee.Log", prefix = "log:", names = public.members(perigee.log) },
    { class = "perigee.TestApp", prefix = "app:", names = public.members(app) },
    { class = "perigee.TestClient", prefix = "client:", names = public.members(client) },
  }
  faces[4].names.deadline = true -- asked for anew each time, so no field that is made once
  app:stop()
end)

describe("every public name", function()
  it("is found by this test", function()
    local function has(class, name)
      for _, face in ipairs(faces) do
        if face.class == class then return face.names[name] ~= nil end
      end
    end
    for class, names in pairs {
      ["perigee"] = { "consumer", "sleep", "null", "json", "error" },
      ["perigee.Consumer"] = { "rpc_method", "notify_group", "extend" },
      ["perigee.Instance"] = { "group_add", "accept", "session", "channel_name" },
      ["perigee.Ctx"] = { "notify", "call", "consumer", "deadline", "in_batch" },
      ["perigee.HttpCtx"] = { "form", "json", "body", "consumer" },
      ["perigee.Group"] = { "count" },
      ["perigee.Timer"] = { "cancel" },
      ["perigee.Log"] = { "info" },
      ["perigee.TestApp"] = { "advance", "post" },
      ["perigee.TestClient"] = { "expect", "try" },
    } do
      for _, name in ipairs(names) do assert(has(class, name), class .. " has " .. name) end
    end
  end)

  it("is described in apps/README.md", function()
    local missing = {}
    for _, face in ipairs(faces) do
      for name in pairs(face.names) do
        if not is_described(name, "[.:]") then missing[#missing + 1] = face.prefix .. name end
      end
    end
    nothing(missing, "apps/README.md says nothing of")
  end)

  it("is annotated", function()
    local missing = {}
    for _, face in ipairs(faces) do
      local class = public.classes[face.class]
      assert(class, "no file has ---@class " .. face.class)
      for name, value in pairs(face.names) do
        if not class.fields[name] and not class.functions[name] then
          missing[#missing + 1] = ("%s%s: no ---@field, no function of %s"):format(face.prefix, name, face.class)
        elseif type(value) == "function" and class.functions[name] then
          local fn = class.functions[name]
          if fn.doc == "" then
            missing[#missing + 1] = ("%s%s: not said what it does (%s)"):format(face.prefix, name, fn.place)
          end
          for _, param in ipairs(fn.params) do
            if not fn.annotated[param] then
              missing[#missing + 1] = ("%s%s: no ---@param %s (%s)"):format(face.prefix, name, param, fn.place)
            end
          end
        end
      end
    end
    nothing(missing, "not annotated")
  end)

  it("that is annotated is there", function()
    local extra = {}
    for _, face in ipairs(faces) do
      local class = public.classes[face.class]
      for name in pairs(class.functions) do
        if face.names[name] == nil then extra[#extra + 1] = face.prefix .. name end
      end
    end
    nothing(extra, "annotated, but not there")
  end)
end)

describe("every function in a table of the module", function()
  it("is described in apps/README.md", function()
    local missing, found = {}, 0
    for name, value in pairs(faces[1].names) do
      local is_plain = type(value) == "table" and getmetatable(value) == nil and name ~= "errors"
      for key in pairs(is_plain and value or {}) do
        found = found + 1
        if not is_described(key, "perigee%." .. name .. "%.") then
          missing[#missing + 1] = ("perigee.%s.%s"):format(name, key)
        end
      end
    end
    nothing(missing, "apps/README.md says nothing of")
    assert(found >= 7, "perigee.json, perigee.token … have functions")
  end)
end)

describe("every option", function()
  local tables

  setup(function()
    local consumer = require("perigee.consumer")
    tables = {
      ["perigee.ConsumerOptions"] = public.upvalue(consumer.new, "options"),
      ["perigee.MethodOptions"] = public.upvalue(public.class_function("rpc_method"), "method_options"),
      ["perigee.RouteOptions"] = public.upvalue(public.class_function("get"), "route_options"),
      ["perigee.Limits"] = public.set(public.upvalue(consumer.new, "limit_names")),
    }
  end)

  it("is annotated, and what is annotated is one", function()
    local wrong = {}
    for name, options in pairs(tables) do
      local fields = public.classes[name].fields
      for option in pairs(options) do
        if not fields[option] then wrong[#wrong + 1] = ("%s has no ---@field %s"):format(name, option) end
      end
      for field in pairs(fields) do
        if options[field] == nil then wrong[#wrong + 1] = ("%s.%s is no option"):format(name, field) end
      end
    end
    nothing(wrong, "options and annotations differ")
  end)

  it("is described in apps/README.md", function()
    local missing = {}
    for name, options in pairs(tables) do
      for option in pairs(options) do
        if not is_described(option) then missing[#missing + 1] = name .. "." .. option end
      end
    end
    nothing(missing, "apps/README.md says nothing of")
  end)
end)

describe("every fact", function()
  it("of a scope is annotated and described", function()
    local scope
    local app = rig.app(function(C)
      function C:connect() scope = self.scope end
    end)
    app:connect("/test", { headers = { Origin = "http://test" } })
    local fields, wrong = public.classes["perigee.Scope"].fields, {}
    for name in pairs(scope) do
      if not fields[name] then wrong[#wrong + 1] = "no ---@field " .. name end
      if not is_described(name) then wrong[#wrong + 1] = "not in apps/README.md: " .. name end
    end
    for name in pairs(fields) do
      if scope[name] == nil then wrong[#wrong + 1] = name .. " is annotated, but not there" end
    end
    nothing(wrong, "scope")
  end)

  it("of a method's info is annotated and described", function()
    local info
    rig.app(function(C)
      C:rpc_method("all", { doc = "d", params = { { "a", "string" } } }, function(_, a) return a end)
      info = C:get_method_info("all")
    end)
    local fields, wrong = public.classes["perigee.MethodInfo"].fields, {}
    for name in pairs(info) do
      if not fields[name] then wrong[#wrong + 1] = "no ---@field " .. name end
      if not is_described(name) then wrong[#wrong + 1] = "not in apps/README.md: " .. name end
    end
    for name in pairs(fields) do
      if info[name] == nil then wrong[#wrong + 1] = name .. " is annotated, but not there" end
    end
    nothing(wrong, "method info")
  end)

  it("that is an error code or a signal is described", function()
    local missing = {}
    for name, code in pairs(require("perigee.errors").codes) do
      if not is_described(name) then missing[#missing + 1] = name end
      if not guide.text:find("−" .. -code, 1, true) then missing[#missing + 1] = tostring(code) end
    end
    for _, name in ipairs(require("perigee.signals").names) do
      if not is_described(name) then missing[#missing + 1] = name end
    end
    nothing(missing, "apps/README.md says nothing of")
    assert.equal("userdata", type(core.null))
  end)
end)

describe("annotations", function()
  it("name only classes that there are", function()
    local unknown = {}
    for name, place in pairs(public.used) do
      local is_known = public.classes[name] or public.aliases[name]
      if not is_known then unknown[#unknown + 1] = name .. " (" .. place .. ")" end
    end
    nothing(unknown, "no ---@class, ---@alias or ---@enum")
  end)
end)
