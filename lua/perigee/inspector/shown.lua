--- What the inspector shows of values that apps and clients made: short, and text that JSON can hold.
local core = require("perigee.core")

local M = {}

--- Header fields whose values are nobody's business but the app's.
local secret_headers = {
  cookie = true, authorization = true, ["proxy-authorization"] = true, ["sec-websocket-key"] = true,
}

--- Characters that would make a text look like another one: controls but for line ends and tabs, and
--- those that turn its direction around.
local tricks = { "[\x00-\x08\x0b-\x1f\x7f]", "\xe2\x80[\xaa-\xae]", "\xe2\x81[\xa6-\xa9]" }

--- Text that is UTF-8 for certain, cut after some bytes, and looks like what it is.
---@param value any
---@param most? integer bytes, default 300
---@return string
function M.text(value, most)
  local text = type(value) == "string" and value or tostring(value)
  most = most or 300
  local is_cut = #text > most
  if is_cut then text = text:sub(1, most) end
  local ok, at = utf8.len(text)
  if not ok and is_cut and at > most - 4 then -- only the cut went through a character
    text = text:sub(1, at - 1)
    ok = true
  end
  if not ok then text = text:gsub("[\x80-\xff]", function(c) return ("\\x%02x"):format(c:byte()) end) end
  for _, trick in ipairs(tricks) do
    text = text:gsub(trick, function(c) return ok and ("<U+%04X>"):format(utf8.codepoint(c)) or "?" end)
  end
  return is_cut and text .. "…" or text
end

--- Appends a value's JSON, until there is no room left.
---@param value any
---@param out string[]
---@param left integer bytes
---@param depth integer
---@return integer left
local function write(value, out, left, depth)
  local function add(text)
    out[#out + 1] = text
    left = left - #text
  end
  local kind = type(value)
  if value == nil or value == core.null then
    add("null")
  elseif kind == "string" then
    local shown = M.text(value, math.max(left, 1))
    add((core.json_encode(shown)))
  elseif kind == "number" or kind == "boolean" then
    add(tostring(value))
  elseif kind ~= "table" then
    add("(" .. kind .. ")")
  elseif depth > 6 then
    add("…")
  else
    local is_array = getmetatable(value) == core.array_mt or #value > 0
    local is_first = true
    add(is_array and "[" or "{")
    local function item(key, one)
      if left <= 0 then return false end
      if not is_first then add(",") end
      is_first = false
      if key ~= nil then add(core.json_encode(M.text(key, 60)) .. ":") end
      left = write(one, out, left, depth + 1)
      return true
    end
    if is_array then
      for i = 1, #value do
        if not item(nil, value[i]) then break end
      end
    else
      for key, one in next, value do
        if not item(key, one) then break end
      end
    end
    if left <= 0 then add("…") end
    add(is_array and "]" or "}")
  end
  return left
end

--- A value as JSON that is good enough to read, and short whatever the value is.
---@param value any
---@param most integer bytes, more or less
---@return string
function M.value(value, most)
  local out = {}
  write(value, out, most, 1)
  return table.concat(out)
end

--- Headers as a list, secrets left out.
---@param headers table<string, string>
---@return { name: string, value: string }[]
function M.headers(headers)
  local list = setmetatable({}, core.array_mt)
  for name, value in pairs(headers) do
    local shown = secret_headers[name] and ("(%d bytes, not shown)"):format(#value) or M.text(value, 500)
    list[#list + 1] = { name = M.text(name, 100), value = shown }
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- A connection's id as people read it: as in the log, with its worker in front when there are several.
---@param conn integer
---@return string
function M.conn(conn)
  return core.workers > 1 and ("%d:%x"):format(core.worker, conn) or ("%x"):format(conn)
end

--- The worker and the connection of such an id, or nil.
---@param id string
---@return integer? worker
---@return integer? conn
function M.conn_of(id)
  local worker, conn = id:match("^(%d+):(%x+)$")
  if not worker then worker, conn = core.worker, id:match("^%x+$") end
  worker, conn = math.tointeger(tonumber(worker)), conn and tonumber(conn, 16)
  if not conn or worker >= core.workers then return nil end
  return worker, conn
end

return M
