--- Groups as objects: perigee.group("lobby"):count().
local channel = require("perigee.channel")
local core = require("perigee.core")

local M = {}

---@class perigee.Group
---@field name string
local Group = {}
Group.__index = Group
Group.__name = "perigee.group"

--- How many connections are in the group.
---@return integer
function Group:count()
  return core.group_count(self.name)
end

--- Sends a notification to every member.
---@param method string
---@param params? table
---@param opts? perigee.NotifyOptions
---@return integer reached
function Group:notify(method, params, opts)
  return channel.notify_group(nil, self.name, method, params, opts)
end

--- A group by name; it need not have members.
---@param name string 1 to 200 bytes
---@return perigee.Group
function M.open(name)
  if type(name) ~= "string" or #name < 1 or #name > 200 then
    error("perigee.group: a group's name is a string of 1 to 200 bytes", 2)
  end
  return setmetatable({ name = name }, Group)
end

return M
