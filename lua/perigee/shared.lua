--- perigee.shared: keys and values that all workers see, and all machines when the layer is Redis.
local core = require("perigee.core")
local errors = require("perigee.errors")
local layer = require("perigee.layer")

local M = {}

local KEY_MAX = 512 -- bytes

---@class perigee.Shared
---@field name string
---@field private prefix string
local Shared = {}
Shared.__index = Shared
Shared.__name = "perigee.shared"

local function unavailable(why)
  error(errors.new { code = errors.codes.unavailable, message = "Shared values are unavailable", data = why }, 0)
end

--- Where a key is kept.
local function place(self, key, what)
  if core.is_loading() then
    error(what .. ": values of perigee.shared cannot be used while the app is loaded: with Redis they have to be "
      .. "waited for; use them in perigee.spawn, which begins when the app is served", 3)
  end
  if type(key) ~= "string" or #key < 1 or #key > KEY_MAX then
    error(("%s: a key is a string of 1 to %d bytes"):format(what, KEY_MAX), 3)
  end
  return self.prefix .. key
end

---@return number seconds 0: for ever
local function check_ttl(ttl, what)
  if ttl == nil then return 0 end
  if type(ttl) ~= "number" or ttl ~= ttl or ttl <= 0 or ttl > 1e9 then
    error(("%s: ttl is a number of seconds above 0"):format(what), 3)
  end
  return ttl
end

local function milliseconds(ttl)
  return ("%d"):format(math.ceil(ttl * 1000))
end

---@return any reply
local function ask(...)
  local ok, reply = layer.redis(...)
  if not ok then unavailable(reply) end
  return reply
end

--- Its callers end in it, so that what is wrong is told where they were called.
---@param only_new boolean
---@return boolean? is_set when only a new one was to be
local function put(self, key, value, ttl, only_new, what)
  local at = place(self, key, what)
  ttl = check_ttl(ttl, what)
  if value == nil then error(what .. ": the value is nil; delete(key) takes a key out", 2) end
  if not core.has_redis then
    local ok, is_set = pcall(core.shared_set, at, value, ttl, only_new)
    if not ok then error(("%s: %s"):format(what, is_set), 2) end
    if is_set == nil then unavailable("the memory for them is full (setting shared_memory)") end
    if only_new then return is_set end
    return
  end
  local text, err = core.json_encode(value)
  if not text then error(("%s: %s"):format(what, err), 2) end
  local words = { "SET", at, text }
  if only_new then words[#words + 1] = "NX" end
  if ttl > 0 then
    words[#words + 1] = "PX"
    words[#words + 1] = milliseconds(ttl)
  end
  local is_set = ask(table.unpack(words)) ~= nil
  if only_new then return is_set end
end

--- A copy of the value, or nil.
---@param key string
---@return any
function Shared:get(key)
  local at = place(self, key, "get")
  if not core.has_redis then return core.shared_get(at) end
  local text = ask("GET", at)
  if text == nil then return nil end
  local value, err = core.json_decode(text)
  if err then error(("get: '%s' holds something that is not JSON: %s"):format(key, err), 2) end
  return value
end

--- Sets a value that JSON can hold.
---@param key string
---@param value any
---@param ttl? number seconds; without it the value stays, and a time it had is forgotten
function Shared:set(key, value, ttl)
  return put(self, key, value, ttl, false, "set")
end

--- Sets a value unless there is one. Of several workers that try, one succeeds.
---@param key string
---@param value any
---@param ttl? number
---@return boolean added
function Shared:add(key, value, ttl)
  return put(self, key, value, ttl, true, "add") --[[@as boolean]]
end

--- Adds, and gives a key that is new its time.
local ADD = [[
local is_new = redis.call('EXISTS', KEYS[1]) == 0
local sum = redis.call(ARGV[1], KEYS[1], ARGV[2])
if is_new and ARGV[3] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return sum]]

--- Adds to a number, a missing one being 0. No other worker's change comes in between.
---@param key string
---@param by? number default 1
---@param ttl? number for a number that is new
---@return number sum
function Shared:incr(key, by, ttl)
  local at = place(self, key, "incr")
  by = by == nil and 1 or by
  ttl = check_ttl(ttl, "incr")
  if type(by) ~= "number" or by ~= by or by == math.huge or by == -math.huge then
    error("incr: what is added is a number", 2)
  end
  local sum
  if not core.has_redis then
    sum = core.shared_incr(at, by, ttl)
    if sum == nil then unavailable("the memory for them is full (setting shared_memory)") end
  else
    local is_whole = math.type(by) == "integer"
    local verb = is_whole and "INCRBY" or "INCRBYFLOAT"
    local text = is_whole and ("%d"):format(by) or ("%.17g"):format(by)
    local ok, reply = layer.redis("EVAL", ADD, 1, at, verb, text, milliseconds(ttl))
    if not ok and is_whole and tostring(reply):find("not an integer", 1, true) then
      ok, reply = layer.redis("EVAL", ADD, 1, at, "INCRBYFLOAT", text, milliseconds(ttl))
    end
    if not ok and not tostring(reply):find("not a", 1, true) and not tostring(reply):find("overflow", 1, true) then
      unavailable(reply)
    end
    sum = ok and tonumber(reply)
  end
  if not sum then error(("incr: '%s' does not hold a number, or the sum is none"):format(key), 2) end
  return sum
end

--- Gives a key another time to live, from now on.
---@param key string
---@param ttl number seconds
---@return boolean found
function Shared:expire(key, ttl)
  local at = place(self, key, "expire")
  if ttl == nil then error("expire: ttl is a number of seconds above 0", 2) end
  ttl = check_ttl(ttl, "expire")
  if not core.has_redis then return core.shared_expire(at, ttl) end
  return ask("PEXPIRE", at, milliseconds(ttl)) == 1
end

--- Takes a key out.
---@param key string
---@return boolean found
function Shared:delete(key)
  local at = place(self, key, "delete")
  if not core.has_redis then return core.shared_delete(at) end
  return ask("DEL", at) == 1
end

--- A store by name; all apps that know the name see the same values.
---@param name string 1 to 100 letters, digits, '.', '_' and '-'
---@return perigee.Shared
function M.open(name)
  if type(name) ~= "string" or #name > 100 or not name:find("^[%w._-]+$") then
    error("perigee.shared: a name has 1 to 100 letters, digits, '.', '_' and '-'", 2)
  end
  -- names have no colon, so no two of them share a key
  return setmetatable({ name = name, prefix = ("%ss:%s:"):format(core.layer_prefix, name) }, Shared)
end

return M
