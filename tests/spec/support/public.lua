--- What apps may use, twice: as the annotations in lua/perigee tell it, and as it is at run time.
local uv = require("luv")

local M = {}

-- ---- the guide ----------------------------------------------------------------------------------

--- Text of a README, and the code in it: blocks, and what stands in backticks.
---@param path string
---@return { text: string, code: string }
function M.read(path)
  local file = assert(io.open(path))
  local text = file:read("a")
  file:close()
  local code = {}
  local rest = text:gsub("```[^\n]*\n(.-)\n```", function(block)
    code[#code + 1] = block
    return ""
  end)
  for span in rest:gmatch("`([^`\n]+)`") do code[#code + 1] = span end
  return { text = text, code = table.concat(code, "\n") }
end

-- ---- run time -----------------------------------------------------------------------------------

---@param t table
---@return table<string, any>
function M.keys(t)
  local names = {}
  for name, value in pairs(t) do
    if type(name) == "string" then names[name] = value end
  end
  return names
end

--- Names and values that a value's metatable offers: a table, or tables that its __index function
--- looks into (methods, and functions that make fields).
---@param value table
---@return table<string, any>
function M.members(value)
  local names, index = {}, (getmetatable(value) or {}).__index
  local function add(t, is_maker)
    for name, member in pairs(t) do
      if type(name) == "string" and not name:find("^_") then names[name] = not is_maker and member or true end
    end
  end
  if type(index) == "table" then
    add(index)
  else
    for i = 1, math.huge do
      local name, upvalue = debug.getupvalue(index, i)
      if not name then break end
      -- by convention: a class has a capital, what makes fields is called `fields`
      if type(upvalue) == "table" and name:find("^%u") then add(upvalue) end
      if type(upvalue) == "table" and name == "fields" then add(upvalue, true) end
    end
  end
  return names
end

--- An empty table with one of the metatables that a consumer's record has.
---@param class perigee.Consumer
---@param which "instance_mt"|"ctx_mt"
---@return table
function M.made_by(class, which)
  return setmetatable({}, require("perigee.consumer").record(class)[which])
end

--- The upvalue of that name of a function, or of functions that are its upvalues, or are in a metatable
--- that is one.
---@param fn function
---@param wanted string
---@return any
function M.upvalue(fn, wanted)
  local seen = {}
  local function search(one)
    if seen[one] then return nil end
    seen[one] = true
    local functions = {}
    for i = 1, math.huge do
      local name, value = debug.getupvalue(one, i)
      if not name then break end
      if name == wanted then return value end
      for _, candidate in pairs(type(value) == "table" and name:find("_mt$") and value or { value }) do
        if type(candidate) == "function" then functions[#functions + 1] = candidate end
      end
    end
    for _, next_one in ipairs(functions) do
      local found = search(next_one)
      if found ~= nil then return found end
    end
  end
  return assert(search(fn), "no upvalue " .. wanted)
end

--- A function that all consumers have.
---@param name string
---@return function
function M.class_function(name)
  local Consumer = M.upvalue(require("perigee.consumer").new, "Consumer")
  return Consumer[name]
end

---@param list string[]
---@return table<string, true>
function M.set(list)
  local names = {}
  for _, name in ipairs(list) do names[name] = true end
  return names
end

-- ---- annotations --------------------------------------------------------------------------------

---@class spec.Class
---@field fields table<string, string> type by name; fields of a table constructor, too
---@field functions table<string, spec.Function>

---@class spec.Function
---@field doc string
---@field params string[]
---@field annotated table<string, true>
---@field place string

--- Classes by name; aliases and enums; and every perigee.X that a type names, with one place.
M.classes, M.aliases, M.used = {}, {}, {}

---@param path string
local function read_annotations(path)
  local comments, owner, owners, depth = {}, nil, {}, nil
  local number = 0

  local function class(name)
    M.classes[name] = M.classes[name] or { fields = {}, functions = {} }
    return M.classes[name]
  end

  --- What the comments above say: doc, annotated parameters.
  local function describe_function(params)
    local fn = { doc = "", params = {}, annotated = {}, place = ("%s:%d"):format(path, number) }
    for param in params:gmatch("[%w_.]+") do
      if param ~= "self" then fn.params[#fn.params + 1] = param end
    end
    for _, comment in ipairs(comments) do
      local param = comment:match("^@param ([%w_.]+)")
      if param then fn.annotated[param] = true end
      if comment:find("^@see") or not comment:find("^@") then fn.doc = fn.doc .. comment end
    end
    return fn
  end

  for line in io.lines(path) do
    number = number + 1
    local comment = line:match("^%s*%-%-%-%s?(.*)$")
    if comment then
      comments[#comments + 1] = comment
      local name, parents = comment:match("^@class ([%w_.]+):?%s*(.*)$")
      if name then
        owner = class(name)
        owner.parents = parents
      end
      local field, kind = comment:match("^@field ([%w_]+%??) (.+)$")
      if field == "package" or field == "private" then field, kind = nil, nil end
      if field and owner then owner.fields[field:gsub("%?$", "")] = kind end
      local alias = comment:match("^@alias ([%w_.]+)") or comment:match("^@enum ([%w_.]+)")
      if alias then M.aliases[alias] = true end
      if comment:find("^@") then
        for used in comment:gmatch("%f[%w]perigee%.%u[%w_]*") do
          M.used[used] = M.used[used] or ("%s:%d"):format(path, number)
        end
      end
    else
      local variable = line:match("^%s*local ([%w_]+) = {") or line:match("^%s*local ([%w_]+) = setmetatable")
      if variable and owner then
        owners[variable] = owner
        depth = line:find("{%s*$") and line:match("^%s*") or nil
      elseif depth then
        -- fields of the constructor whose class this is
        local field = line:match("^" .. depth .. "  ([%w_]+) =")
        if field then owners.constructor.fields[field] = "" end
        if line == depth .. "}" then depth = nil end
      end
      if variable and owner then owners.constructor = owner end
      local object, name, params = line:match("^%s*function ([%w_]+)[.:]([%w_]+)%((.-)%)")
      if object and owners[object] then
        owners[object].functions[name] = describe_function(params)
      end
      -- Log.info = method("info"), perigee.json = { … }
      local assigned, key = line:match("^%s*([%w_]+)%.([%w_]+) = ")
      if assigned and owners[assigned] then
        owners[assigned].fields[key] = ""
      end
      comments, owner = {}, nil
    end
  end
end

local function each_file(folder)
  local handle = assert(uv.fs_scandir(folder))
  local names = {}
  while true do
    local name, kind = uv.fs_scandir_next(handle)
    if not name then break end
    names[#names + 1] = { name = name, kind = kind }
  end
  table.sort(names, function(a, b) return a.name < b.name end)
  for _, entry in ipairs(names) do
    local path = folder .. "/" .. entry.name
    if entry.kind == "directory" then
      each_file(path)
    elseif path:find("%.lua$") then
      read_annotations(path)
    end
  end
end

each_file("lua/perigee")

return M
