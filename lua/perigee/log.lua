--- Log lines from app code.
local core = require("perigee.core")

local M = {}

---@class perigee.Log
local Log = {}
Log.__index = Log

---@param level string
local function method(level)
  return function(self, message, fields)
    if type(message) ~= "string" then
      error(("log:%s takes a text, not a %s"):format(level, type(message)), 2)
    end
    if fields ~= nil and type(fields) ~= "table" then
      error(("log:%s takes its fields as a table, not a %s"):format(level, type(fields)), 2)
    end
    local all = {}
    for key, value in pairs(self.context) do all[key] = value end
    for key, value in pairs(fields or {}) do
      all[tostring(key)] = type(value) == "table" and core.json_encode(value) or value
    end
    core.log(level, message, all)
  end
end

---@type fun(self: perigee.Log, message: string, fields?: table<string, any>)
Log.error = method("error")
---@type fun(self: perigee.Log, message: string, fields?: table<string, any>)
Log.warn = method("warn")
---@type fun(self: perigee.Log, message: string, fields?: table<string, any>)
Log.info = method("info")
---@type fun(self: perigee.Log, message: string, fields?: table<string, any>)
Log.debug = method("debug")

--- A log whose lines all carry these fields.
---@param context table<string, any>
---@return perigee.Log
function M.new(context)
  return setmetatable({ context = context }, Log)
end

return M
