--- The one table of settings: what each is called, means, defaults to and may be. Flags, PERIGEE_*
--- variables, perigee.conf.lua, help, manual and `perigee config` all come from it.
local core = require("perigee.core")
local spelling = require("perigee.spelling")

local M = {}

---@class perigee.Key
---@field name string "max_body" is --max-body, PERIGEE_MAX_BODY, and max_body in perigee.conf.lua
---@field type "string"|"path"|"boolean"|"integer"|"size"|"duration"|"choice"|"addresses"|"networks"|"workers"|"layer"
---|"sessions"|"cookie"|"secret"|"hosts"
---@field default any
---@field doc string
---@field choices? string[]
---@field min? number in bytes or seconds; of addresses: how many
---@field max? number
---@field max_length? integer bytes of a string
---@field not_below? string another key whose value this one must reach
---@field section string

local KiB, MiB, GiB = 1024, 1024 * 1024, 1024 * 1024 * 1024
local HOUR, DAY = 3600, 86400

--- Sizes are bytes, durations seconds.
---@type perigee.Key[]
M.keys = {
  { name = "apps", type = "path", default = "apps", section = "What is served",
    doc = "Folder with the apps." },
  { name = "watch", type = "boolean", default = false, section = "What is served",
    doc = "Reloads apps when their files change; on in perigee dev." },
  { name = "listen", type = "addresses", default = { { address = "127.0.0.1", port = 8080 } }, min = 1, max = 16,
    section = "What is served", doc = "Address and port to listen on; may be given several times." },
  { name = "admin", type = "addresses", default = {}, max = 1, section = "What is served",
    doc = "Loopback address and port of the inspector; without it serve has none." },
  { name = "trusted_proxies", type = "networks", default = {}, section = "What is served",
    doc = "Proxy in front that is believed, or a network; may be given several times." },
  { name = "proxy_headers", type = "choice", choices = { "auto", "x-forwarded", "forwarded" },
    default = "auto", section = "What is served",
    doc = "What trusted proxies write: X-Forwarded-For, -Proto, -Host, or Forwarded." },
  { name = "hosts", type = "hosts", default = {}, section = "What is served",
    doc = "Names that are answered to, .NAME with all below it; none: any, in perigee dev only this machine's." },
  { name = "workers", type = "workers", default = 1, min = 1, max = 64, section = "Scale",
    doc = "Threads that serve, each with a Lua state of its own; auto: one per core." },
  { name = "layer", type = "layer", default = "memory", section = "Scale",
    doc = "Carries messages between processes: memory, or the URL of a Redis." },
  { name = "layer_prefix", type = "string", default = "perigee:", max_length = 100, section = "Scale",
    doc = "Begins all keys in Redis; processes with the same one form a cluster." },
  { name = "layer_timeout", type = "duration", default = 2, min = 1, max = 60, section = "Scale",
    doc = "Time Redis has to answer." },
  { name = "shared_memory", type = "size", default = 64 * MiB, min = KiB, max = 64 * GiB, section = "Scale",
    doc = "What perigee.shared may hold in this process, when the layer is memory." },
  { name = "sessions", type = "sessions", default = "sqlite", section = "Sessions",
    doc = "Where sessions are kept: sqlite, sqlite:FILE, memory, or the URL of a Redis." },
  { name = "session_ttl", type = "duration", default = 14 * DAY, min = 1, max = 3650 * DAY,
    section = "Sessions", doc = "Time after its last use at which a session ends." },
  { name = "session_cookie", type = "cookie", default = "auto", max_length = 64, section = "Sessions",
    doc = "Name of the cookie, behind HTTPS with __Host- in front; auto: one for where the sessions are." },
  { name = "session_same_site", type = "choice", choices = { "lax", "strict", "none" }, default = "lax",
    section = "Sessions", doc = "From which pages browsers send the cookie along; none counts behind HTTPS only." },
  { name = "state", type = "path", default = "auto", section = "Sessions",
    doc = "For what outlives the server: sessions, the key for tokens; auto: in ~/.local/state, by project." },
  { name = "secret", type = "secret", default = "auto", section = "Sessions",
    doc = "Key for tokens, one for all machines of a cluster; auto: made once, kept in the state folder." },
  { name = "deflate", type = "boolean", default = false, section = "What is served",
    doc = "Compress WebSocket messages for clients that offer it (permessage-deflate)." },
  { name = "log_level", type = "choice", choices = { "error", "warn", "info", "debug" },
    default = "info", section = "Logging", doc = "Least important level that is logged." },
  { name = "log_format", type = "choice", choices = { "text", "json" }, default = "text",
    section = "Logging", doc = "Lines for people, or JSON for machines." },
  { name = "grace", type = "duration", default = 10, min = 0, max = DAY, section = "Stopping",
    doc = "Time for calls and connections to end after SIGTERM." },
  { name = "max_connections", type = "integer", default = 0, min = 0, max = 16000000,
    section = "Limits", doc = "Connections per worker; 0: as many as file descriptors allow." },
  { name = "max_message", type = "size", default = 2 * MiB, min = 1, max = GiB, section = "Limits",
    doc = "WebSocket message; a longer one closes with 1009." },
  { name = "max_fragments", type = "integer", default = 4096, min = 1, max = 16000000, section = "Limits",
    doc = "Frames of a WebSocket message." },
  { name = "max_head", type = "size", default = 16 * KiB, min = 256, max = 16 * MiB, section = "Limits",
    doc = "HTTP request line and header fields; more is answered 431." },
  { name = "max_target", type = "size", default = 8 * KiB, min = 16, max = 16 * MiB, section = "Limits",
    doc = "HTTP request target; a longer one is answered 414." },
  { name = "max_body", type = "size", default = 2 * MiB, min = 1, max = GiB, section = "Limits",
    doc = "HTTP request body; more is answered 413." },
  { name = "max_array", type = "integer", default = 10000, min = 1, max = 100000000, section = "Limits",
    doc = "Items of an array in params." },
  { name = "max_values", type = "integer", default = 100000, min = 1, max = 100000000, section = "Limits",
    doc = "Values in params, items and members of all levels counted one by one." },
  { name = "max_string", type = "size", default = 1 * MiB, min = 1, max = GiB, section = "Limits",
    doc = "Bytes of a string or key in params." },
  { name = "max_depth", type = "integer", default = 20, min = 1, max = 100, section = "Limits",
    doc = "Nesting of params." },
  { name = "max_method", type = "size", default = 256, min = 1, max = 1000000, section = "Limits",
    doc = "Bytes of a method's name." },
  { name = "max_batch", type = "integer", default = 100, min = 1, max = 100000, section = "Limits",
    doc = "Members of a batch." },
  { name = "max_calls", type = "integer", default = 64, min = 1, max = 1000000, section = "Limits",
    doc = "Calls in flight per connection; then it is not read until one ends." },
  { name = "output_soft", type = "size", default = 1 * MiB, min = 1, max = GiB,
    section = "Limits", doc = "Unsent output from which on a connection is not read any more." },
  { name = "output_hard", type = "size", default = 8 * MiB, min = 1, max = GiB,
    not_below = "output_soft", section = "Limits", doc = "Unsent output at which a connection is cut." },
  { name = "output_soft_time", type = "duration", default = 10, min = 0, max = HOUR, section = "Limits",
    doc = "Time over output_soft after which a connection is cut." },
  { name = "lua_memory", type = "size", default = 512 * MiB, min = 8 * MiB, max = 1024 * GiB, section = "Limits",
    doc = "Lua's memory per worker." },
  { name = "slice_warn", type = "duration", default = 0.1, min = 0.05, max = HOUR, section = "Timeouts",
    doc = "Time in Lua without waiting after which the line that runs is logged." },
  { name = "slice_stop", type = "duration", default = 1, min = 0.1, max = HOUR, section = "Timeouts",
    doc = "Time in Lua without waiting after which the code is ended." },
  { name = "turn_time", type = "duration", default = 0.005, min = 0.001, max = 10, section = "Timeouts",
    doc = "Time of one connection before the others get their turn." },
  { name = "head_timeout", type = "duration", default = 10, min = 0.001, max = DAY, section = "Timeouts",
    doc = "Time for a request's head, and for the first one since connecting." },
  { name = "body_timeout", type = "duration", default = 30, min = 0.001, max = DAY, section = "Timeouts",
    doc = "Time between two pieces of a body or message; in all, and a second per 64 KiB." },
  { name = "idle_timeout", type = "duration", default = 75, min = 0.001, max = DAY, section = "Timeouts",
    doc = "Time between two requests on a kept-alive connection." },
  { name = "ping_interval", type = "duration", default = 25, min = 0.001, max = DAY, section = "Timeouts",
    doc = "Silence after which a WebSocket is sent a ping." },
  { name = "pong_timeout", type = "duration", default = 10, min = 0.001, max = HOUR, section = "Timeouts",
    doc = "Time for an answer to a ping." },
  { name = "close_timeout", type = "duration", default = 3, min = 0.001, max = HOUR, section = "Timeouts",
    doc = "Time for an answer to a close frame, or to take some of what was sent before it." },
  { name = "linger_timeout", type = "duration", default = 2, min = 0.001, max = HOUR, section = "Timeouts",
    doc = "Time in which a client must take some of what is left of a closing connection's last words." },
}

---@type table<string, perigee.Key>
M.by_name = {}
for _, key in ipairs(M.keys) do M.by_name[key.name] = key end


-- ---- names --------------------------------------------------------------------------------------

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

---@return string[]
function M.names()
  local names = {}
  for i, key in ipairs(M.keys) do names[i] = key.name end
  return names
end

-- ---- reading ------------------------------------------------------------------------------------

local size_units = { [""] = 1, B = 1, K = KiB, KIB = KiB, KB = 1000, M = MiB, MIB = MiB, MB = 1000000,
  G = GiB, GIB = GiB, GB = 1000000000 }
local duration_units = { [""] = 1, ms = 0.001, s = 1, m = 60, min = 60, h = HOUR, d = DAY }
local booleans = { ["true"] = true, yes = true, on = true, ["1"] = true,
  ["false"] = false, no = false, off = false, ["0"] = false }

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

---@param text string
---@return string? network
local function parse_network(text)
  return core.is_network(text) and text or nil
end

---@param text string
---@return string? host
local function parse_host(text)
  return core.is_host(text) and not text:find("[^%w._:%[%]-]") and text or nil -- no '*': that is `none`
end

--- Types whose values are lists, and how an item is read.
local items = { addresses = parse_address, networks = parse_network, hosts = parse_host }

--- May it be given several times?
---@param key perigee.Key
---@return boolean
function M.is_list(key)
  return items[key.type] ~= nil
end

--- Reads a list: items with commas or spaces in between.
---@param parse fun(text: string): any
---@return fun(text: string): any[]?
local function list_of(parse)
  return function(text)
    local list = {}
    for word in text:gmatch("[^%s,]+") do
      local item = parse(word)
      if not item then return nil end
      list[#list + 1] = item
    end
    return #list > 0 and list or nil
  end
end

--- "1.5" and a factor -> a number, or nil.
local function scaled(text, units, fold)
  local number, unit = text:match("^(%d+%.?%d*)%s*(%a*)$")
  local factor = number and units[fold(unit)]
  return factor and tonumber(number) * factor or nil
end

--- What a value of each type is, for error messages, and how it is read from text.
local types = {
  string = { "a text that is not empty", function(text) return text ~= "" and text or nil end },
  path = { "a path that is not empty", function(text) return text ~= "" and text or nil end },
  boolean = { "true or false", function(text) return booleans[text:lower()] end },
  choice = { "one of", function(text) return text end },
  addresses = { "ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080", function(text)
    return text == "none" and {} or list_of(parse_address)(text)
  end },
  networks = { "an address or network, such as 127.0.0.1, 10.0.0.0/8 or 2001:db8::/32", function(text)
    return text == "none" and {} or list_of(parse_network)(text)
  end },
  hosts = { "a name such as app.example, .example for all below it, or an address, without a port", function(text)
    return text == "none" and {} or list_of(parse_host)(text)
  end },
  integer = { "a whole number", function(text) return math.tointeger(tonumber(text:match("^%d+$"))) end },
  workers = { "auto or a whole number", function(text)
    return text == "auto" and text or math.tointeger(tonumber(text:match("^%d+$")))
  end },
  sessions = { "sqlite, sqlite:FILE, memory, redis://[user:password@]host[:port][/db] or unix:/path", function(text)
    for _, form in ipairs { "^sqlite$", "^memory$", "^sqlite:.", "^redis://.", "^unix:/." } do
      if text:find(form) then return text end
    end
  end },
  cookie = { "a name of letters, digits, - and _", function(text) return text:match("^[%w_-]+$") end },
  secret = { "auto or a text of at least 32 bytes", function(text)
    return (text == "auto" or #text >= 32) and text or nil
  end },
  layer = { "memory, redis://[user:password@]host[:port][/db] or unix:/path[?db=N]", function(text)
    return (text == "memory" or text:find("^redis://.") or text:find("^unix:/.")) and text or nil
  end },
  size = { "a size, such as 512KiB, 2MiB or 1GiB", function(text)
    local bytes = scaled(text, size_units, string.upper)
    return bytes and math.tointeger(math.floor(bytes))
  end },
  duration = { "a time, such as 500ms, 10s, 5m, 2h or 1d", function(text)
    return scaled(text, duration_units, function(unit) return unit end)
  end },
}

--- Seconds that a value in Lua stands for: a number as it is, a text such as "500ms" or "2h"; nil for anything else.
---@param given any
---@return number?
function M.seconds(given)
  if type(given) == "string" then return types.duration[2](given) end
  return type(given) == "number" and given or nil
end

--- Holds a value against the range of its key. Returns nil and what is expected when it is outside.
---@param key perigee.Key
---@param value any
---@return any value
---@return string? expected
local function check_range(key, value)
  if key.type == "choice" then
    for _, choice in ipairs(key.choices) do
      if value == choice then return value end
    end
    return nil, table.concat(key.choices, ", ") .. spelling.hint(value, key.choices)
  end
  if key.max_length and #value > key.max_length then return nil, ("at most %d bytes"):format(key.max_length) end
  local amount = M.is_list(key) and #value or value
  if type(amount) ~= "number" then return value end
  local what = key.type == "addresses" and "%s addresses" or "%s"
  if key.min and amount < key.min then return nil, "at least " .. what:format(M.show_number(key, key.min)) end
  if key.max and amount > key.max then return nil, "at most " .. what:format(M.show_number(key, key.max)) end
  return value
end

--- Reads a value given as text. Returns nil and what is expected when it is none.
---@param key perigee.Key
---@param text string
---@return any value
---@return string? expected
function M.parse(key, text)
  local kind = types[key.type]
  local value = kind[2](text)
  if value == nil then return nil, kind[1] end
  return check_range(key, value)
end

--- Reads a value that a Lua file gives: a text as above, or a plain number or boolean (bytes, seconds),
--- or a list of texts for lists.
---@param key perigee.Key
---@param given any
---@return any value
---@return string? expected
function M.take(key, given)
  local kind = type(given)
  if kind == "string" then return M.parse(key, given) end
  if kind == "boolean" and key.type == "boolean" then return given end
  if kind == "number" then
    if key.type == "addresses" then return M.parse(key, tostring(given)) end
    local whole = math.tointeger(given) -- 2 * 1024^2 is a float in Lua
    if key.type == "duration" and given >= 0 then return check_range(key, given) end
    if whole and (key.type == "size" or key.type == "integer" or key.type == "workers") then
      return check_range(key, whole)
    end
  end
  if kind == "table" and M.is_list(key) and (#given > 0 or next(given) == nil) then
    local list = {}
    for i = 1, #given do
      local item = (type(given[i]) == "string" or math.type(given[i]) == "integer")
        and items[key.type](tostring(given[i]))
      if not item then return nil, "a list of " .. types[key.type][1] end
      list[i] = item
    end
    return check_range(key, list)
  end
  return nil, types[key.type][1]
end

--- Raises nothing: says what is wrong with values that are each right, or nil.
---@param values table<string, any>
---@return { name: string, message: string }?
function M.clash(values)
  for _, key in ipairs(M.keys) do
    local other = key.not_below and M.by_name[key.not_below]
    if other and values[key.name] < values[other.name] then
      return { name = key.name, message = ("%s (%s) must not be below %s (%s)"):format(
        key.name, M.show(key, values[key.name]), other.name, M.show(other, values[other.name])) }
    end
  end
end

--- Defaults.
---@return table<string, any>
function M.defaults()
  local values = {}
  for _, key in ipairs(M.keys) do values[key.name] = key.default end
  return values
end

-- ---- showing ------------------------------------------------------------------------------------

local size_steps = { { "GiB", GiB }, { "MiB", MiB }, { "KiB", KiB } }
local duration_steps = { { "d", DAY }, { "h", HOUR }, { "m", 60 } }

--- A number of a key's unit as people write it.
---@param key perigee.Key
---@param value number
---@return string
function M.show_number(key, value)
  if key.type == "size" then
    for _, step in ipairs(size_steps) do
      if value >= step[2] and value % step[2] == 0 then return ("%d%s"):format(value // step[2], step[1]) end
    end
    return ("%dB"):format(value)
  elseif key.type == "duration" then
    for _, step in ipairs(duration_steps) do
      if value >= step[2] and value % step[2] == 0 then return ("%d%s"):format(value // step[2], step[1]) end
    end
    if value > 0 and value < 1 then return ("%.14gms"):format(value * 1000) end
    return ("%.14gs"):format(value)
  end
  return ("%.14g"):format(value)
end

--- An address as it is written.
---@param at { address: string, port: integer }
---@return string
function M.show_address(at)
  return (at.address:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(at.address, at.port)
end

--- A value as people write it.
---@param key perigee.Key
---@param value any
---@return string
function M.show(key, value)
  if key.type == "addresses" then
    local words = {}
    for i, at in ipairs(value) do words[i] = M.show_address(at) end
    return #words > 0 and table.concat(words, " ") or "none"
  elseif M.is_list(key) then
    return #value > 0 and table.concat(value, " ") or "none"
  elseif type(value) == "number" then
    return M.show_number(key, value)
  end
  return tostring(value)
end

--- What stands before the @ of a URL, without the password: what has no colon may be one.
---@param login string
---@return string
local function without_password(login)
  return (login:match("^[^:]*:") or "") .. "******@"
end

--- Hides passwords in URLs: in a text that is one, whatever it holds; else in each word.
---@param text string
---@return string
function M.without_passwords(text)
  local scheme, login, rest = text:match("^(%a[%w+.-]*://)(.*)@([^@]*)$")
  if scheme then return scheme .. without_password(login) .. rest end
  return (text:gsub("(://)(%S*)@", function(mark, word) return mark .. without_password(word) end))
end

--- A text that is no value of a key, for an error message: what is secret is not repeated.
---@param key { type: string }
---@param text string
---@return string
function M.quote(key, text)
  return "'" .. (key.type == "secret" and "******" or M.without_passwords(text)) .. "'"
end

local placeholders = { string = "TEXT", path = "DIR", integer = "N", workers = "N|auto", layer = "URL", size = "SIZE",
  sessions = "STORE", cookie = "NAME", secret = "TEXT", duration = "TIME",
  addresses = "ADDR:PORT", networks = "NETWORK", hosts = "NAME" }

--- What stands for a value in help: "SIZE", "text|json"; nil for a switch.
---@param key perigee.Key
---@return string?
function M.placeholder(key)
  return key.choices and table.concat(key.choices, "|") or placeholders[key.type]
end

--- "256B to 16MiB", "1 or more", or nil.
---@param key perigee.Key
---@return string?
function M.range(key)
  if M.is_list(key) or not (key.min or key.max) then return nil end
  local low, high = key.min and M.show_number(key, key.min), key.max and M.show_number(key, key.max)
  return low and high and low .. " to " .. high or low and low .. " or more" or "at most " .. high
end

return M
