--- What goes through the channel layer and may have to be waited for: Redis, other processes.
local core = require("perigee.core")

local M = {}

--- The end of what C began: its result, or the number of a wait for it.
---@param result boolean|integer
---@return boolean is_there false as well when no answer came in time
function M.settle(result)
  if type(result) == "boolean" then return result end
  local woken, is_there = core.park(core.layer_timeout, result)
  return woken and is_there
end

--- A Redis command, answered within the setting layer_timeout.
---@param ... string|number its words
---@return boolean ok
---@return any reply nil for nil; lists hold perigee.null instead; or why it is not ok
function M.redis(...)
  local wait = core.redis(...)
  if not wait then return false, "there is no Redis (setting layer)" end
  local woken, ok, reply = core.park(core.layer_timeout, wait)
  if not woken then return false, "Redis did not answer in time" end
  if not ok then return false, reply or "Redis cannot be reached" end
  return true, reply
end

--- Members of a group in each process that has some.
local COUNTS = [[
local t = redis.call('TIME')
local out = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], t[1] * 1000, '+inf')) do
  local n = redis.call('HGET', ARGV[1] .. node, ARGV[2])
  if n then
    out[#out + 1] = node
    out[#out + 1] = n
  end
end
return out]]

--- Members of a group in the other processes, by their names; empty when there are none or Redis
--- cannot be asked.
---@param group string
---@return table<string, integer>
function M.counts(group)
  local counts = {}
  if not core.has_redis or not core.running() then return counts end
  local prefix = core.layer_prefix
  local ok, list = M.redis("EVAL", COUNTS, 1, prefix .. "nodes", prefix .. "c:", group)
  if not ok then return counts end
  for i = 1, #list, 2 do
    if list[i] ~= core.node then counts[list[i]] = math.tointeger(tonumber(list[i + 1])) end
  end
  return counts
end

return M
