--- Traffic: what calls take and how they end, method by method. Counted only while somebody watches:
--- until then a call does not come here.
local uv = require("luv")

local M = {}

--- Does somebody watch?
M.is_watched = false

---@class perigee.Traffic of one method, since watching began
---@field path string
---@field method string
---@field calls integer that have ended
---@field errors integer of those
---@field seconds number they took in all
---@field max number seconds the longest took
---@field buckets table<integer, integer> how many took less than 2^i microseconds, and not less than half of it

---@class perigee.Ended
---@field record perigee.Record
---@field method string
---@field conn integer
---@field seconds number
---@field params any
---@field err (perigee.Error|perigee.Fault)? nil: it was answered with a result

---@type table<string, table<string, perigee.Traffic>>
local by_path = {}
--- Those that have changed since they were taken.
---@type table<perigee.Traffic, true>
local changed = {}
--- When the call of a task began, by the slot in its id.
---@type table<integer, integer>
local began = {}
local SLOT <const> = (1 << 20) - 1

--- Who is told of each call that has ended.
---@type fun(ended: perigee.Ended)
local tell = function() end

---@param record perigee.Record
---@param method string
---@return perigee.Traffic
local function traffic_of(record, method)
  local methods = by_path[record.path]
  if not methods then
    methods = {}
    by_path[record.path] = methods
  end
  local one = methods[method]
  if not one then
    one = { path = record.path, method = method, calls = 0, errors = 0, seconds = 0, max = 0, buckets = {} }
    methods[method] = one
  end
  return one
end

--- Index of the bucket that a time belongs to, from 0 (less than a microsecond) to 40 (a week).
---@param seconds number
---@return integer
function M.bucket(seconds)
  local us, i = seconds * 1e6, 0
  while us >= 1 and i < 40 do
    us = us / 2
    i = i + 1
  end
  return i
end

--- A call begins.
---@param task integer
function M.begin(task)
  began[task & SLOT] = uv.hrtime()
end

--- A call has ended.
---@param record perigee.Record
---@param method string
---@param conn integer
---@param task integer
---@param params any
---@param err (perigee.Error|perigee.Fault)? nil: with a result
function M.finish(record, method, conn, task, params, err)
  local slot = task & SLOT
  local at = began[slot]
  began[slot] = nil
  if not at or not M.is_watched then return end
  local seconds = (uv.hrtime() - at) / 1e9
  local one = traffic_of(record, method)
  one.calls = one.calls + 1
  if err then one.errors = one.errors + 1 end
  one.seconds = one.seconds + seconds
  one.max = math.max(one.max, seconds)
  local bucket = M.bucket(seconds)
  one.buckets[bucket] = (one.buckets[bucket] or 0) + 1
  changed[one] = true
  tell { record = record, method = method, conn = conn, seconds = seconds, params = params, err = err }
end

--- A method was asked for that does not exist. Names of clients' own are told, but not counted one by
--- one: there is no end to them.
---@param record perigee.Record
---@param method string
---@param conn integer
---@param params any
function M.unknown(record, method, conn, params)
  if record.is_own then return end
  tell { record = record, method = method, conn = conn, seconds = 0, params = params, err = {
    code = -32601, message = "Method not found",
  } }
end

--- Begins to watch, or stops. Methods choose their way anew: see perigee.call.
---@param fn fun(ended: perigee.Ended)? who is told; nil: stop
function M.watch(fn)
  M.is_watched = fn ~= nil
  tell = fn or function() end
  by_path, changed, began = {}, {}, {}
  M.on_change()
end

--- Set by perigee.consumer.
---@type fun()
M.on_change = function() end

--- All methods that were called, or those that were since the last time.
---@param is_all boolean
---@return perigee.Traffic[]
function M.take(is_all)
  local list = {}
  if is_all then
    for _, methods in pairs(by_path) do
      for _, one in pairs(methods) do list[#list + 1] = one end
    end
  else
    for one in pairs(changed) do list[#list + 1] = one end
    changed = {}
  end
  return list
end

return M
