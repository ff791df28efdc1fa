--- Typed events between consumers: to the code behind a connection, not to its client.
local bytes = require("perigee.bytes")
local channel = require("perigee.channel")
local core = require("perigee.core")
local check_group = require("perigee.group").check
local layer = require("perigee.layer")
local lifecycle = require("perigee.lifecycle")
local mail = require("perigee.mail")
local session = require("perigee.session")

local M = {}

---@class perigee.Event
---@field type string "room.kick"
---@field [string] any

--- Events of the server's own, by type; apps can neither send nor handle them.
---@type table<string, fun(self: perigee.Instance, event: table)>
M.internal = {}

--- Is this the type of an event of the server's own?
---@param kind any
---@return boolean
function M.is_internal(kind)
  return type(kind) == "string" and kind:sub(1, 8) == "perigee."
end

--- Checks an event and makes the text that carries it: what handlers get are copies.
---@param event any
---@param what string
---@param is_own? boolean the server sends it
---@return string
local function encode(event, what, is_own)
  if type(event) == "table" and M.is_internal(event.type) and not is_own then
    error(("%s: types of events that begin with 'perigee.' are the server's own"):format(what), 3)
  end
  if type(event) ~= "table" or type(event.type) ~= "string" or event.type == "" then
    error(("%s: an event is a table with a type, { type = \"room.kick\", ... }"):format(what), 3)
  end
  local text, how = bytes.encode(event)
  if not text then error(("%s: %s"):format(what, how), 3) end
  return ('{"kind":"event","bytes":%s,"event":%s}'):format(how, text)
end

---@param conn integer
---@param text string
---@return boolean
local function deliver(conn, text)
  local record = core.record(conn)
  if not record then return false end
  local letter = core.json_decode(text)
  local event = letter.bytes and bytes.restore(letter.event) or letter.event
  local handler = record.events[event.type] or M.internal[event.type]
  if not handler then
    core.log("debug", "an event nobody handles", { path = record.path, type = event.type })
    return true
  end
  local spawn = record.http_user and session.spawn or core.spawn
  spawn(handler, lifecycle.instance(record, conn, false), event)
  return true
end

mail.on("event", function(_, text, conn, groups)
  if conn ~= 0 then deliver(conn, text) end
  for _, group in ipairs(groups) do
    for _, member in ipairs(core.members(group)) do deliver(member, text) end
  end
end)

---@param group string
---@param text string
local function to_group(group, text)
  for _, conn in ipairs(core.members(group)) do deliver(conn, text) end
  core.post_groups(group, text)
end

---@param to string
---@param text string
---@return boolean
local function to_channel(to, text)
  local conn = channel.conn(to)
  if conn then return deliver(conn, text) end
  if to:find("%.0$") then return false end -- a worker's own address, for perigee.mail
  return layer.settle(core.post(to, text, true))
end

--- Sends an event to every connection in a group.
---@param group string
---@param event perigee.Event
function M.group_send(group, event)
  local text = encode(event, "group_send")
  check_group(group, "group_send")
  to_group(group, text)
end

--- Sends an event to one connection.
---@param to string its channel
---@param event perigee.Event
---@return boolean sent false when there is no such connection
function M.send(to, event)
  local text = encode(event, "send")
  if type(to) ~= "string" then error("send: the channel must be a string, as self.channel_name is", 2) end
  return to_channel(to, text)
end

--- Sends an event of the server's own: to a group, or to a channel.
---@param to { group?: string, channel?: string }
---@param event table
function M.tell(to, event)
  local text = encode(event, "tell", true)
  if to.channel then to_channel(to.channel, text) else to_group(to.group, text) end
end

return M
