--- Rooms: who is in them and what was said lately. Nothing here knows of connections.
---
--- All of it is in this worker's memory: it is gone when the server stops, and with several workers
--- each would have rooms of its own.
local perigee = require "perigee"

local HISTORY = 200 -- messages that a room remembers

local Room = {}
Room.__index = Room

-- Names that differ in case only would be taken for each other.
local function key(name)
  return name:lower()
end

local function new_room(name, topic)
  return setmetatable({
    name = name,
    topic = topic,
    group = "chat:" .. name,
    names = {}, -- key(name) -> name, of everyone who is in
    count = 0,
    messages = perigee.array(), -- an empty Lua table would become {} in JSON; this one is []
    last_id = 0,
  }, Room)
end

--- Lets somebody in. Returns the name they get: when it is taken already, it gets a number.
function Room:enter(name)
  local free, n = name, 1
  while self.names[key(free)] do
    n = n + 1
    free = name .. " " .. n
  end
  self.names[key(free)] = free
  self.count = self.count + 1
  return free
end

function Room:leave(name)
  self.names[key(name)] = nil
  self.count = self.count - 1
end

--- Gives a person in the room another name. False when somebody else has it.
function Room:rename(from, to)
  if key(from) ~= key(to) and self.names[key(to)] then return false end
  self.names[key(from)] = nil
  self.names[key(to)] = to
  return true
end

--- Names of everyone who is in, sorted.
function Room:people()
  local people = perigee.array()
  for _, name in pairs(self.names) do people[#people + 1] = name end
  table.sort(people)
  return people
end

--- Remembers what was said and forgets what is too old. Returns the message.
function Room:add(from, text)
  self.last_id = self.last_id + 1
  local message = { room = self.name, id = self.last_id, from = from, text = text, time = os.time() }
  table.insert(self.messages, message)
  if #self.messages > HISTORY then table.remove(self.messages, 1) end
  return message
end

--- What a list of rooms shows of one.
function Room:facts()
  return { name = self.name, topic = self.topic, count = self.count }
end

-- ---- the rooms there are ------------------------------------------------------------------------

local M = {
  HISTORY = HISTORY,
  by_name = {},
}

local all = {
  new_room("lobby", "Where everyone arrives"),
  new_room("workshop", "What are you building?"),
  new_room("tearoom", "Anything but work"),
}
for _, room in ipairs(all) do M.by_name[room.name] = room end

--- What is to know of every room.
function M.list()
  local list = perigee.array()
  for i, room in ipairs(all) do list[i] = room:facts() end
  return list
end

return M
