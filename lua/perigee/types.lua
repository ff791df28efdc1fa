--- Types of Perigee's API for editors (LuaLS), made from the annotations in its own sources: what is
--- told to editors is what is there.
local core = require("perigee.core")

local M = {}

---@class perigee.Block a doc comment and the line below it
---@field doc string[] lines that begin with ---
---@field code string the line below, without indentation

--- Doc comments of a source file, each with the line below it.
---@param text string
---@return perigee.Block[]
local function blocks_of(text)
  local blocks, doc = {}, {}
  for line in (text .. "\n"):gmatch("(.-)\n") do
    local bare = line:match("^%s*(.-)%s*$")
    if bare:find("^%-%-%-") then
      doc[#doc + 1] = bare
    else
      if #doc > 0 or bare:find("^function ") then blocks[#blocks + 1] = { doc = doc, code = bare } end
      doc = {}
    end
  end
  return blocks
end

---@param module string "perigee.wait"
---@return string "" when it is not written in Lua
local function source_of(module)
  local path = module:gsub("%.", "/")
  return core.embedded(path .. ".lua") or core.embedded(path .. "/init.lua") or "" --[[@as string]]
end

--- Lines of a doc comment that are for readers of the API.
---@param doc string[]
---@return string[]
local function public_lines(doc)
  local lines = {}
  for _, line in ipairs(doc) do
    local is_inner = line:find("^%-%-%-@field package ") or line:find("^%-%-%-@field private ")
    if not is_inner and not line:find("^%-%-%-@see ") then
      lines[#lines + 1] = line
    end
  end
  return lines
end

local function add(out, ...)
  for _, line in ipairs { ... } do out[#out + 1] = line end
end

---@class perigee.TypeEntry a class, alias or enum, and what is declared on it
---@field name string
---@field text string

--- The types that a source file declares.
---@param text string
---@return perigee.TypeEntry[]
local function entries_of(text)
  local entries, by_local = {}, {}
  for _, block in ipairs(blocks_of(text)) do
    local doc = table.concat(block.doc, "\n")
    local object = block.code:match("^function ([%w_]+)[:.]") or block.code:match("^([%w_]+)%.[%w_]+ = ")
    local has_type = doc:find("%-%-%-@class perigee%.") or doc:find("%-%-%-@alias perigee%.")
      or doc:find("%-%-%-@enum perigee%.")
    if has_type then
      -- several may stand in one comment: each begins with its own tag
      local out, entry
      for _, line in ipairs(public_lines(block.doc)) do
        local name = line:match("^%-%-%-@class (perigee%.[%w_]+)") or line:match("^%-%-%-@alias (perigee%.[%w_]+)")
          or line:match("^%-%-%-@enum (perigee%.[%w_]+)")
        if name and entry and entry.name then
          entry.text = table.concat(out, "\n")
          entry = nil
        end
        if not entry then
          entry, out = {}, { "" }
          entries[#entries + 1] = entry
        end
        entry.name = entry.name or name
        out[#out + 1] = line
      end
      local name = block.code:match("^local ([%w_]+) = ")
      if doc:find("%-%-%-@enum ") then
        out[#out + 1] = "local codes = " .. text:match("\nM%.codes = (%b{})") -- its keys are the point
      elseif name then
        out[#out + 1] = ("local %s = {}"):format(name)
        by_local[name] = entry
      end
      entry.text = table.concat(out, "\n")
    elseif by_local[object] then
      local out = { by_local[object].text, "" }
      if block.code:find("^function ") then
        add(out, table.unpack(public_lines(block.doc)))
        add(out, (block.code:gsub("%s*%-%-.*$", "")) .. " end")
      elseif #block.doc > 0 then
        add(out, block.doc[#block.doc], block.code:match("^[%w_.]+ = ") .. "nil")
      end
      if #out > 2 then by_local[object].text = table.concat(out, "\n") end
    end
  end
  return entries
end

--- All types of the server's Lua part, in the order of their files.
---@return perigee.TypeEntry[]
local function all_entries()
  local all = {}
  for _, name in ipairs(core.embedded() --[[@as string[] ]]) do
    if name:find("^perigee/[%w_]+%.lua$") and name ~= "perigee/init.lua" then
      local entries = entries_of(core.embedded(name) --[[@as string]])
      table.move(entries, 1, #entries, #all + 1, all)
    end
  end
  return all
end

--- Those of them that a text speaks of, and what these speak of in turn.
---@param text string
---@param skip? table<string, true>
---@return string[] texts
---@return table<string, true> names
local function reachable(text, skip)
  local all, wanted, queue = all_entries(), {}, { text }
  local by_name = {}
  for _, entry in ipairs(all) do by_name[entry.name] = entry end
  while #queue > 0 do
    for name in table.remove(queue):gmatch("perigee%.[%w_]+") do
      if by_name[name] and not wanted[name] and not (skip and skip[name]) then
        wanted[name] = true
        queue[#queue + 1] = by_name[name].text
      end
    end
  end
  local texts = {}
  for _, entry in ipairs(all) do
    if wanted[entry.name] then texts[#texts + 1] = entry.text end
  end
  return texts, wanted
end

--- The doc comment and head of a function of a module.
---@param module string
---@param name string
---@return perigee.Block?
local function find_function(module, name)
  for _, block in ipairs(blocks_of(source_of(module))) do
    if block.code:find("^function M%." .. name .. "%(") then return block end
  end
end

--- What fields of the module are that are no functions.
local field_types = {
  version = "string", null = "lightuserdata", log = "perigee.Log",
}

local json_type = "{ encode: (fun(value: any): string?, string?), decode: (fun(text: string): any, string?) }"

--- The module itself, as perigee.for_app makes it.
---@param out string[]
local function write_module(out)
  local text = source_of("perigee")
  local modules = {}
  for name, module in text:gmatch('local ([%w_]+) = require%("(perigee%.[%w_.]+)"%)') do modules[name] = module end
  add(out, "", "---@class perigee", "local perigee = {}")
  local fields = text:match("local perigee = (%b{})")
  local doc = {}
  for line in fields:gmatch("[^\n]+") do
    local bare = line:match("^%s*(.-),?%s*$")
    if bare:find("^%-%-%-") then doc[#doc + 1] = bare end
    local name, module, fn = bare:match("^([%w_]+) = ([%w_]+)%.([%w_]+)$")
    local block = name and modules[module] and find_function(modules[module], fn)
    if block then
      add(out, "", table.unpack(public_lines(block.doc)))
      add(out, ("function perigee.%s%s end"):format(name, block.code:match("%b()")))
    elseif bare:find("^[%w_]+ = ") then
      name = bare:match("^[%w_]+")
      add(out, "", table.unpack(doc))
      if name == "errors" then
        add(out, "perigee.errors = codes")
      else
        add(out, "---@type " .. (field_types[name] or "any"), ("perigee.%s = nil"):format(name))
      end
    end
    if not bare:find("^%-%-%-") then doc = {} end
  end
  for _, block in ipairs(blocks_of(text)) do
    if block.code:find("^function perigee%.") then
      add(out, "", table.unpack(public_lines(block.doc)))
      add(out, block.code .. " end")
    end
  end
  add(out, "", "---@type " .. json_type, "perigee.json = nil")
end

---@param name string
---@param what string
---@param types string[]
---@param module string[]
---@return string
local function file(name, what, types, module)
  local out = {
    "---@meta " .. name,
    ("--- %s of Perigee %s, for editors; never executed. Written by 'perigee new'."):format(what, core.version),
  }
  add(out, table.unpack(types))
  add(out, table.unpack(module))
  return table.concat(out, "\n")
end

--- Text of a file that tells editors what require "perigee" gives.
---@return string text
---@return table<string, true> names of types
function M.perigee()
  local module = {}
  write_module(module)
  add(module, "", "return perigee", "")
  local types, names = reachable(table.concat(module, "\n"))
  return file("perigee", "The API", types, module), names
end

--- Text of a file that tells editors what require "perigee.testing" gives.
---@return string
function M.testing()
  local module = { "", "local testing = {}" }
  for _, block in ipairs(blocks_of(source_of("perigee.testing"))) do
    if block.code:find("^function M%.") then
      add(module, "", table.unpack(public_lines(block.doc)))
      add(module, (block.code:gsub("^function M%.", "function testing.")) .. " end")
    end
  end
  add(module, "", "return testing", "")
  local _, known = M.perigee()
  return file("perigee.testing", "Testing apps", (reachable(table.concat(module, "\n"), known)), module)
end

return M
