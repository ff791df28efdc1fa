--- Strings of any bytes in a value, as JSON can carry them: JSON's own strings are Unicode.
local core = require("perigee.core")

local M = {}

local MARK = "\0" -- a string that begins so is one of ours
local DEPTH <const> = 128 -- as deep as JSON goes

---@param value any
---@param string_of fun(text: string): string
---@param depth integer
---@return any
local function map(value, string_of, depth)
  if type(value) == "string" then return string_of(value) end
  local mt = getmetatable(value)
  if type(value) ~= "table" or mt ~= nil and mt ~= core.array_mt or depth > DEPTH then return value end
  local copy = setmetatable({}, mt)
  for key, item in next, value do copy[map(key, string_of, DEPTH)] = map(item, string_of, depth + 1) end
  return copy
end

---@param text string
---@return string
local function escaped(text)
  if text:sub(1, 1) ~= MARK and utf8.len(text) then return text end
  return MARK .. core.base64url(text)
end

---@param text string
---@return string
local function restored(text)
  return text:sub(1, 1) == MARK and core.from_base64url(text:sub(2)) or text
end

--- JSON of a value whose strings, keys as well, may hold any bytes; and whether it takes M.restore to read it. Nil and
--- what cannot be encoded and where.
---@param value any
---@return string? text
---@return boolean|string is_escaped or the error
function M.encode(value)
  local text, err = core.json_encode(value)
  if text then return text, false end
  if not err:find("not UTF-8", 1, true) then return nil, err end
  text, err = core.json_encode(map(value, escaped, 0))
  if not text then return nil, err end
  return text, true
end

--- What the text of M.encode stood for, out of what JSON makes of it.
---@param value any
---@return any
function M.restore(value)
  return map(value, restored, 0)
end

return M
