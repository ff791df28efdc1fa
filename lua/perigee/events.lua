--- Typed events between consumers: to the code behind a connection, not to its client.
local channel = require("perigee.channel")
local core = require("perigee.core")
local layer = require("perigee.layer")
local lifecycle = require("perigee.lifecycle")
local mail = require("perigee.mail")

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
  return ('{"kind":"event","event":%s}'):format(text)
end

---@param conn integer
---@param text string
---@return boolean
local function deliver(conn, text)
  local record = core.record(conn)
  if not record then return false end
  local event = core.json_decode(text).event
  local handler = record.events[event.type]
  if not handler then
    core.log("debug", "an event nobody handles", { path = record.path, type = event.type })
    return true
  end
  core.spawn(handler, lifecycle.instance(record, conn, false), event)
  return true
end

mail.on("event", function(_, text, conn, groups)
  if conn ~= 0 then deliver(conn, text) end
  for _, group in ipairs(groups) do
    for _, member in ipairs(core.members(group)) do deliver(member, text) end
  end
end)

--- Sends an event to every connection in a group.
---@param group string
---@param event perigee.Event
function M.group_send(group, event)
  local text = encode(event, "group_send")
  for _, conn in ipairs(core.members(group)) do deliver(conn, text) end
  core.post_groups(group, text)
end

--- Sends an event to one connection.
---@param to string its channel
---@param event perigee.Event
---@return boolean sent false when there is no such connection
function M.send(to, event)
  local text = encode(event, "send")
  if type(to) ~= "string" then error("send: the channel must be a string, as self.channel_name is", 2) end
  local conn = channel.conn(to)
  if conn then return deliver(conn, text) end
  if to:find("%.0$") then return false end -- a worker's own address, for perigee.mail
  return layer.settle(core.post(to, text, true))
end

return M
