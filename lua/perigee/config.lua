--- The one table of settings: what each is called, means, defaults to and may be.
local spelling = require("perigee.spelling")

local M = {}

---@class perigee.Key
---@field name string
---@field type "string"|"integer"|"size"|"duration"|"choice"|"addresses"|"workers"
---@field default any
---@field doc string
---@field choices? string[]
---@field min? number
---@field max? number
---@field section string

local MiB, KiB = 1024 * 1024, 1024

--- Sizes are bytes, durations seconds.
---@type perigee.Key[]
M.keys = {
  { name = "apps", type = "string", default = "apps", section = "What is served",
    doc = "Folder with the apps." },
  { name = "listen", type = "addresses", default = { { address = "127.0.0.1", port = 8080 } },
    section = "What is served", doc = "Address and port to listen on; may be given several times." },
  { name = "log_level", type = "choice", choices = { "error", "warn", "info", "debug" },
    default = "info", section = "Logging", doc = "Least important level that is logged." },
  { name = "log_format", type = "choice", choices = { "text", "json" }, default = "text",
    section = "Logging", doc = "Lines for people, or JSON for machines." },
  { name = "grace", type = "duration", default = 10, min = 0, section = "Stopping",
    doc = "Time for calls and connections to end after SIGTERM." },
  { name = "max_connections", type = "integer", default = 0, min = 0, max = 16000000,
    section = "Limits", doc = "Connections per worker; 0: as many as file descriptors allow." },
  { name = "max_message", type = "size", default = 2 * MiB, min = 1, section = "Limits",
    doc = "WebSocket message; a longer one closes with 1009." },
  { name = "max_fragments", type = "integer", default = 4096, min = 1, section = "Limits",
    doc = "Frames of a WebSocket message." },
  { name = "max_head", type = "size", default = 16 * KiB, min = 256, section = "Limits",
    doc = "HTTP request line and header fields; more is answered 431." },
  { name = "max_target", type = "size", default = 8 * KiB, min = 16, section = "Limits",
    doc = "HTTP request target; a longer one is answered 414." },
  { name = "max_body", type = "size", default = 2 * MiB, min = 1, section = "Limits",
    doc = "HTTP request body; more is answered 413." },
  { name = "max_array", type = "integer", default = 10000, min = 1, section = "Limits",
    doc = "Items of an array in params." },
  { name = "max_string", type = "size", default = 1 * MiB, min = 1, section = "Limits",
    doc = "Bytes of a string or key in params." },
  { name = "max_depth", type = "integer", default = 20, min = 1, max = 100, section = "Limits",
    doc = "Nesting of params." },
  { name = "max_method", type = "integer", default = 256, min = 1, section = "Limits",
    doc = "Bytes of a method's name." },
  { name = "max_batch", type = "integer", default = 100, min = 1, max = 100000, section = "Limits",
    doc = "Members of a batch." },
  { name = "max_calls", type = "integer", default = 64, min = 1, section = "Limits",
    doc = "Calls in flight per connection; then it is not read until one ends." },
  { name = "output_soft", type = "size", default = 1 * MiB, min = 1, max = 1024 * MiB,
    section = "Limits", doc = "Unsent output from which on a connection is not read any more." },
  { name = "output_hard", type = "size", default = 8 * MiB, min = 1, max = 1024 * MiB,
    section = "Limits", doc = "Unsent output at which a connection is cut." },
  { name = "output_soft_time", type = "duration", default = 10, min = 0, section = "Limits",
    doc = "Time over output_soft after which a connection is cut." },
  { name = "lua_memory", type = "size", default = 512 * MiB, min = 8 * MiB, section = "Limits",
    doc = "Lua's memory per worker." },
  { name = "slice_warn", type = "duration", default = 0.1, min = 0.05, section = "Timeouts",
    doc = "Time in Lua without waiting after which the line that runs is logged." },
  { name = "slice_stop", type = "duration", default = 1, min = 0.1, section = "Timeouts",
    doc = "Time in Lua without waiting after which the code is ended." },
  { name = "head_timeout", type = "duration", default = 10, min = 0.001, section = "Timeouts",
    doc = "Time for a request's head, and for the first one since connecting." },
  { name = "body_timeout", type = "duration", default = 30, min = 0.001, section = "Timeouts",
    doc = "Time between two pieces of a request's body." },
  { name = "idle_timeout", type = "duration", default = 75, min = 0.001, section = "Timeouts",
    doc = "Time between two requests on a kept-alive connection." },
  { name = "ping_interval", type = "duration", default = 25, min = 0.001, section = "Timeouts",
    doc = "Silence after which a WebSocket is sent a ping." },
  { name = "pong_timeout", type = "duration", default = 10, min = 0.001, section = "Timeouts",
    doc = "Time for an answer to a ping." },
  { name = "close_timeout", type = "duration", default = 3, min = 0.001, section = "Timeouts",
    doc = "Time for an answer to a close frame." },
  { name = "linger_timeout", type = "duration", default = 2, min = 0.001, section = "Timeouts",
    doc = "Time for a client to read the last words of a closing connection." },
}

---@type table<string, perigee.Key>
M.by_name = {}
for _, key in ipairs(M.keys) do M.by_name[key.name] = key end

local size_units = { B = 1, K = KiB, KIB = KiB, KB = 1000, M = MiB, MIB = MiB, MB = 1000000,
  G = 1024 * MiB, GIB = 1024 * MiB, GB = 1000000000 }
local duration_units = { ms = 0.001, s = 1, m = 60, min = 60, h = 3600, d = 86400 }

---@param text string
---@return { address: string, port: integer }? address
local function parse_address(text)
  local address, port = text:match("^%[([%x:.]+)%]:(%d+)$")
  if not address then address, port = text:match("^([%d.]+):(%d+)$") end
  if not address then
    port = text:match("^:?(%d+)$")
    address = port and "127.0.0.1"
  end
  port = math.tointeger(tonumber(port))
  if not port or port > 65535 then return nil end
  return { address = address, port = port }
end

--- Reads a value given as text. Returns nil and what is expected when it is none.
---@param key perigee.Key
---@param text string
---@return any value
---@return string? expected
function M.parse(key, text)
  local value
  if key.type == "string" then
    if text == "" then return nil, "a text that is not empty" end
    return text
  elseif key.type == "choice" then
    for _, choice in ipairs(key.choices) do
      if text == choice then return text end
    end
    return nil, table.concat(key.choices, ", ") .. spelling.hint(text, key.choices)
  elseif key.type == "addresses" then
    local address = parse_address(text)
    if address then return address end
    return nil, "ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080"
  elseif key.type == "integer" then
    value = math.tointeger(tonumber(text:match("^%d+$")))
    if not value then return nil, "a whole number" end
  elseif key.type == "size" then
    local number, unit = text:match("^(%d+%.?%d*)%s*(%a*)$")
    local factor = unit and (unit == "" and 1 or size_units[unit:upper()])
    value = number and factor and math.tointeger(math.floor(tonumber(number) * factor))
    if not value then return nil, "a size, such as 512KiB or 2MiB" end
  elseif key.type == "duration" then
    local number, unit = text:match("^(%d+%.?%d*)%s*(%a*)$")
    local factor = unit and (unit == "" and 1 or duration_units[unit])
    value = number and factor and tonumber(number) * factor
    if not value then return nil, "a time, such as 500ms, 10s or 5m" end
  end
  if key.min and value < key.min then return nil, ("at least %s"):format(key.min) end
  if key.max and value > key.max then return nil, ("at most %s"):format(key.max) end
  return value
end

--- "max_body" -> "--max-body".
---@param name string
---@return string
function M.flag(name)
  return "--" .. name:gsub("_", "-")
end

--- "max_body" -> "PERIGEE_MAX_BODY".
---@param name string
---@return string
function M.variable(name)
  return "PERIGEE_" .. name:upper()
end

--- Defaults.
---@return table<string, any>
function M.defaults()
  local values = {}
  for _, key in ipairs(M.keys) do values[key.name] = key.default end
  values.workers = 1
  return values
end

--- Takes PERIGEE_* variables over. Raises for a value that cannot be read.
---@param values table<string, any>
---@param getenv fun(name: string): string?
function M.apply_environment(values, getenv)
  for _, key in ipairs(M.keys) do
    local name = M.variable(key.name)
    local text = getenv(name)
    if text then
      if key.type == "addresses" then
        local list = {}
        for word in text:gmatch("[^%s,]+") do
          local address, expected = M.parse(key, word)
          if not address then error(("%s: '%s' is not %s"):format(name, word, expected), 0) end
          list[#list + 1] = address
        end
        values[key.name] = list
      else
        local value, expected = M.parse(key, text)
        if value == nil then error(("%s: '%s' is not %s"):format(name, text, expected), 0) end
        values[key.name] = value
      end
    end
  end
end

--- A default or value as people write it.
---@param key perigee.Key
---@param value any
---@return string
function M.show(key, value)
  if key.type == "addresses" then
    local words = {}
    for _, at in ipairs(value) do
      words[#words + 1] = at.address:find(":") and ("[%s]:%d"):format(at.address, at.port)
        or ("%s:%d"):format(at.address, at.port)
    end
    return table.concat(words, " ")
  elseif key.type == "size" then
    if value >= MiB and value % MiB == 0 then return ("%dMiB"):format(value // MiB) end
    if value >= KiB and value % KiB == 0 then return ("%dKiB"):format(value // KiB) end
    return ("%dB"):format(value)
  elseif key.type == "duration" then
    return ("%gs"):format(value)
  end
  return tostring(value)
end

return M
