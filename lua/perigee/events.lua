--- Typed events between consumers: to the code behind a connection, not to its client.
local channel = require("perigee.channel")
local core = require("perigee.core")
local lifecycle = require("perigee.lifecycle")

local M = {}

---@class perigee.Event
---@field type string "room.kick"
---@field [string] any

--- Checks an event and makes the text that carries it: what handlers get are copies.
---@param event any
---@param what string
---@return string
local function encode(event, what)
  if type(event) ~= "table" or type(event.type) ~= "string" or event.type == "" then
    error(("%s: an event is a table with a type, { type = \"room.kick\", ... }"):format(what), 3)
  end
  local text, err = core.json_encode(event)
  if not text then error(("%s: %s"):format(what, err), 3) end
  return text
end

---@param conn integer
---@param text string
---@return boolean
local function deliver(conn, text)
  local record = core.record(conn)
  if not record then return false end
  local event = core.json_decode(text)
  local handler = record.events[event.type]
  if not handler then
    core.log("debug", "an event nobody handles", { path = record.path, type = event.type })
    return true
  end
  core.spawn(handler, lifecycle.instance(record, conn, false), event)
  return true
end

--- Sends an event to every connection in a group.
---@param group string
---@param event perigee.Event
---@return integer reached
function M.group_send(group, event)
  local text, reached = encode(event, "group_send"), 0
  for _, conn in ipairs(core.members(group)) do
    if deliver(conn, text) then reached = reached + 1 end
  end
  return reached
end

--- Sends an event to one connection.
---@param to string its channel
---@param event perigee.Event
---@return boolean sent false when there is no such connection
function M.send(to, event)
  local text = encode(event, "send")
  if type(to) ~= "string" then error("send: the channel must be a string, as self.channel_name is", 2) end
  local conn = channel.conn(to)
  return conn ~= nil and deliver(conn, text)
end

return M
