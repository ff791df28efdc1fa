--- Rooms: who is in them and what was said lately. Nothing here knows of connections.
---
--- What a room remembers is in perigee.shared, who is in it is its group: so it is the same room
--- whichever worker or machine somebody is connected to.
local perigee = require "perigee"

local store = perigee.shared "chat"

local HISTORY = 200 -- messages that a room remembers
local DAY = 24 * 3600 -- after which names are free again that a machine took with it when it broke

local Room = {}
Room.__index = Room

local function new_room(name, topic)
  return setmetatable({ name = name, topic = topic, group = "chat:" .. name }, Room)
end

--- Where the store keeps that a name is taken. Names that differ in case only would be taken for each
--- other.
local function place(room, name)
  return room.name .. ":name:" .. name:lower()
end

--- Where it keeps a message.
local function line(room, id)
  return room.name .. ":message:" .. id
end

--- Lets somebody in. Returns the name they get: when it is taken already, it gets a number.
function Room:enter(name)
  local free, n = name, 1
  while not store:add(place(self, free), true, DAY) do
    n = n + 1
    free = name .. " " .. n
  end
  return free
end

function Room:leave(name)
  store:delete(place(self, name))
end

--- Gives a person in the room another name. False when somebody else has it.
function Room:rename(from, to)
  if place(self, from) == place(self, to) then return true end
  if not store:add(place(self, to), true, DAY) then return false end
  store:delete(place(self, from))
  return true
end

--- Names of everyone who is in, sorted. They came with the connections into the group.
function Room:people()
  local people, group, cursor = perigee.array(), perigee.group(self.group), nil
  repeat
    local members
    members, cursor = group:members { limit = 1000, cursor = cursor }
    for _, member in ipairs(members) do people[#people + 1] = member.meta.name end
  until not cursor
  table.sort(people)
  return people
end

--- Remembers what was said and forgets what is too old. Returns the message.
function Room:add(from, text)
  local id = store:incr(self.name .. ":last")
  local message = { room = self.name, id = id, from = from, text = text, time = os.time() }
  store:set(line(self, id), message)
  store:delete(line(self, id - HISTORY))
  return message
end

--- What was said lately, oldest first.
function Room:messages()
  local last, questions = store:get(self.name .. ":last") or 0, {}
  for id = math.max(1, last - HISTORY + 1), last do
    questions[#questions + 1] = function() return store:get(line(self, id)) end
  end
  local messages = perigee.array() -- an empty Lua table would become {} in JSON; this one is []
  for _, answer in ipairs(perigee.all(questions)) do -- asked all at once: one way to Redis, not 200
    messages[#messages + 1] = answer[1]
  end
  return messages
end

--- What a list of rooms shows of one.
function Room:facts()
  return { name = self.name, topic = self.topic, count = perigee.group(self.group):count() }
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
