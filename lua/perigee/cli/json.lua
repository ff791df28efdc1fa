--- JSON for people: keys in order, one member a line, colours on a terminal.
local core = require("perigee.core")

local M = {}

--- What each kind of token looks like: SGR parameters.
local colours = { key = "34", string = "32", number = "36", word = "35" }

---@param text string
---@param kind string
---@param is_coloured boolean?
local function paint(text, kind, is_coloured)
  if not is_coloured then return text end
  return ("\27[%sm%s\27[0m"):format(colours[kind], text)
end

--- A string as JSON. What a terminal would obey is escaped; the rest of Unicode stays readable.
local function quote(text)
  return core.printable(core.json_encode(text))
end

---@param value any
---@return string
local function scalar(value, is_coloured)
  if type(value) == "string" then return paint(quote(value), "string", is_coloured) end
  local text = core.json_encode(value) or tostring(value)
  return paint(text, type(value) == "number" and "number" or "word", is_coloured)
end

local function is_array(value)
  return getmetatable(value) == core.array_mt or #value > 0
end

local function sorted_keys(value)
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

--- Is everything in it short and flat enough for one line?
---@param value any
---@param budget integer
---@return integer left negative when it is not
local function fits(value, budget)
  if type(value) ~= "table" then
    return budget - (type(value) == "string" and #value + 2 or 8)
  end
  for key, item in pairs(value) do
    budget = fits(item, budget - (type(key) == "string" and #key + 6 or 2))
    if budget < 0 then return budget end
  end
  return budget
end

---@param out string[]
local function write(out, value, indent, width, is_coloured)
  if type(value) ~= "table" then
    out[#out + 1] = scalar(value, is_coloured)
    return
  end
  local array = is_array(value)
  local keys = not array and sorted_keys(value) or nil
  local n = array and #value or #keys
  local open, close = array and "[" or "{", array and "]" or "}"
  if n == 0 then
    out[#out + 1] = open .. close
    return
  end
  local is_flat = width == nil or fits(value, width - #indent) >= 0
  local space = width and is_flat and " " or ""
  local inner = indent .. "  "
  out[#out + 1] = open .. (array and "" or space)
  for i = 1, n do
    if not is_flat then out[#out + 1] = "\n" .. inner end
    if keys then
      out[#out + 1] = paint(quote(keys[i]), "key", is_coloured) .. (width and ": " or ":")
    end
    write(out, value[keys and keys[i] or i], inner, width, is_coloured)
    if i < n then out[#out + 1] = is_flat and "," .. (width and " " or "") or "," end
  end
  out[#out + 1] = (is_flat and (array and "" or space) or "\n" .. indent) .. close
end

--- Several lines, unless the value fits into one.
---@param value any a decoded JSON value
---@param is_coloured? boolean
---@return string
function M.pretty(value, is_coloured)
  local out = {}
  write(out, value, "", 76, is_coloured)
  return table.concat(out)
end

--- One line without spaces.
---@param value any
---@param is_coloured? boolean
---@return string
function M.compact(value, is_coloured)
  local out = {}
  write(out, value, "", nil, is_coloured)
  return table.concat(out)
end

return M
