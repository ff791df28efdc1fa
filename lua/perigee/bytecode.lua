--- Globals that a chunk of Lua uses, with their lines: read from its bytecode, so that also code that
--- has never run can be judged. Knows the format of Lua 5.4 and says nothing about any other.
local M = {}

--- Opcodes of Lua 5.4 that reach a global: lopcodes.h.
local OP_GETTABUP, OP_SETTABUP = 11, 15

--- Constants' types: lobject.h. The number is what follows them in bytes.
local plain_constants = { [0x00] = 0, [0x01] = 0, [0x11] = 0, [0x03] = 8, [0x13] = 8 }
local SHORT_STRING, LONG_STRING = 0x04, 0x14

--- In a function's line information: the line is in the list of absolute ones.
local ABSOLUTE = -128

local HEADER = "\27Lua\x54\0\x19\x93\r\n\x1a\n" .. string.char(4, string.packsize("j"), string.packsize("n"))

---@class perigee.Reader
---@field text string
---@field at integer
local Reader = {}
Reader.__index = Reader

function Reader:byte()
  local value = self.text:byte(self.at)
  self.at = self.at + 1
  return value
end

--- Seven bits a byte, the highest first; the last one has its top bit set.
function Reader:size()
  local value = 0
  while true do
    local byte = self:byte()
    value = value << 7 | byte & 0x7f
    if byte & 0x80 ~= 0 then return value end
  end
end

function Reader:string()
  local size = self:size()
  if size == 0 then return nil end
  local value = self.text:sub(self.at, self.at + size - 2)
  self.at = self.at + size - 1
  return value
end

function Reader:list(read)
  local items = {}
  for i = 1, self:size() do items[i] = read(self) end
  return items
end

local function read_constant(reader)
  local kind = reader:byte()
  if kind == SHORT_STRING or kind == LONG_STRING then return reader:string() or "" end
  reader.at = reader.at + plain_constants[kind]
  return false -- none that a global could be named by
end

local function skip_upvalue(reader)
  reader.at = reader.at + 3
  return true
end

local function read_absolute(reader)
  return { pc = reader:size(), line = reader:size() }
end

local function read_local(reader)
  local name = reader:string()
  reader:size()
  reader:size()
  return name or false
end

---@param found perigee.Global[]
---@param locals table<string, true>
local function read_function(reader, found, locals)
  reader:string() -- source
  local line = reader:size()
  reader:size() -- its last line
  reader.at = reader.at + 3 -- parameters, varargs, registers
  local n_code = reader:size()
  local code_at = reader.at
  reader.at = code_at + 4 * n_code
  local constants = reader:list(read_constant)
  reader:list(skip_upvalue)
  reader:list(function() read_function(reader, found, locals) return true end)
  local steps = reader:list(function() return string.unpack("b", string.char(reader:byte())) end)
  local absolute = {}
  for _, one in ipairs(reader:list(read_absolute)) do absolute[one.pc] = one.line end
  for _, name in ipairs(reader:list(read_local)) do
    if name and name:find("^[%a_]") then locals[name] = true end -- others are Lua's own: "(for state)"
  end
  local upvalues = reader:list(function() return reader:string() or false end)
  for pc = 0, n_code - 1 do
    local step = steps[pc + 1]
    line = step == ABSOLUTE and absolute[pc] or line + (step or 0)
    local instruction = string.unpack("=I4", reader.text, code_at + 4 * pc)
    local op, a = instruction & 0x7f, instruction >> 7 & 0xff
    local b, c = instruction >> 16 & 0xff, instruction >> 24 & 0xff
    if op == OP_GETTABUP and upvalues[b + 1] == "_ENV" then
      found[#found + 1] = { name = constants[c + 1], line = line, is_written = false }
    elseif op == OP_SETTABUP and upvalues[a + 1] == "_ENV" then
      found[#found + 1] = { name = constants[b + 1], line = line, is_written = true }
    end
  end
end

---@class perigee.Global
---@field name string
---@field line integer
---@field is_written boolean

--- Globals that a chunk reads or writes, in the order of their lines; none when the bytecode is of
--- another kind than this file knows.
---@param chunk function as load gives it
---@return perigee.Global[]
---@return table<string, true> locals names of local variables
function M.globals(chunk)
  local text = string.dump(chunk)
  if text:sub(1, #HEADER) ~= HEADER then return {}, {} end
  local reader = setmetatable({ text = text, at = #HEADER + string.packsize("j") + string.packsize("n") + 2 }, Reader)
  local found, locals = {}, {}
  read_function(reader, found, locals)
  table.sort(found, function(x, y)
    if x.line ~= y.line then return x.line < y.line end
    return x.name < y.name
  end)
  return found, locals
end

return M
