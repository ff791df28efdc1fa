--- A chat: rooms, names, who is here, who is typing, and what was said lately.
local perigee = require "perigee"
local check = require "chat.check"
local rooms = require "chat.rooms"

-- Every connection is in the group "chat" and so hears how full the rooms are. A room has a group
-- of its own. Groups are shared by all apps of a server, hence the "chat" in their names.
-- What a connection asks for is done in order, as some of it waits for the store.
local Chat = perigee.consumer { groups = { "chat" }, strict_ordering = true }
local store = perigee.shared "chat"

-- Errors that clients can tell apart by their code; JSON-RPC keeps -32768 to -32000 for itself.
local no_such_room = perigee.error { code = 1, message = "There is no such room" }
local not_in_a_room = perigee.error { code = 2, message = "Join a room first" }
local name_taken = perigee.error { code = 3, message = "That name is taken" }
local too_fast = perigee.error { code = perigee.errors.rate_limited, message = "Not so fast, please" }

local BURST, PER_SECOND = 10, 2 -- what one connection may do at once, and in the long run

-- ---- helpers ------------------------------------------------------------------------------------

-- error() ends the call, and the client gets the error as its answer.

local function find(name)
  return rooms.by_name[name] or error(no_such_room)
end

--- The room this connection is in.
local function current(self)
  return self.room or error(not_in_a_room)
end

--- A bucket that fills with time: whoever empties it has to wait.
local function throttle(self)
  local now = perigee.now()
  self.tokens = math.min(BURST, self.tokens + (now - self.filled) * PER_SECOND)
  self.filled = now
  if self.tokens < 1 then error(too_fast) end
  self.tokens = self.tokens - 1
end

--- Tells everybody that a room has become fuller or emptier.
local function announce(room)
  Chat:notify_group("chat", "room", room:facts())
end

local function leave(self)
  local room = self.room
  if not room then return end
  self.room = nil
  self:group_discard(room.group)
  room:leave(self.name)
  Chat:notify_group(room.group, "left", { room = room.name, name = self.name })
  announce(room)
end

-- ---- connections --------------------------------------------------------------------------------

-- `self` lives as long as the connection, and any field may be put into it.
function Chat:connect()
  self.name = "Guest " .. store:incr("guests")
  self.tokens, self.filled = BURST, perigee.now()
end

-- Runs once for every connection, whether the tab was closed, the network failed or the server stops.
function Chat:disconnect()
  self.is_gone = true -- what still runs for it, and waits, is to see that
  leave(self)
end

-- ---- methods ------------------------------------------------------------------------------------

-- What is said about a method besides its function (params, doc, errors) is checked by the server and
-- shown to whoever asks it what there is to call. `http = false`: a method that is about a connection
-- makes no sense in a POST, which has none.

Chat:rpc_method("rooms", {
  doc = "All rooms: name, topic, and how many people are in.",
}, function()
  return rooms.list()
end)

Chat:rpc_method("history", {
  doc = "What was said in a room lately, oldest first.",
  params = { { "room", "string" } },
  errors = { no_such_room },
}, function(_, room)
  return find(room):messages()
end)

Chat:rpc_method("join", {
  doc = "Enters a room and leaves the one before. The name is yours to choose; "
    .. "if it is taken, it gets a number. Without one you keep the name you have.",
  params = { { "room", "string" }, { "name", "string?" } },
  errors = { no_such_room, too_fast },
  http = false,
}, function(ctx, room, name)
  local self = ctx.consumer
  local to = find(room)
  name = name and check.name(name) or self.name
  throttle(self)
  leave(self) -- not before here: an error changes nothing
  self.name = to:enter(name)
  if self.is_gone then return to:leave(self.name) end
  self.room = to
  self:group_add(to.group, { name = self.name })
  Chat:notify_group(to.group, "joined", { room = to.name, name = self.name }, { except = ctx })
  announce(to)
  return {
    room = to.name,
    topic = to.topic,
    name = self.name,
    people = to:people(),
    messages = to:messages(),
    limits = { name = check.MAX_NAME, text = check.MAX_TEXT },
  }
end)

Chat:rpc_method("rename", {
  doc = "Changes your name.",
  params = { { "name", "string" } },
  errors = { not_in_a_room, name_taken, too_fast },
  http = false,
}, function(ctx, name)
  local self = ctx.consumer
  local room = current(self)
  local from = self.name
  name = check.name(name)
  if name == from then return name end
  throttle(self)
  if not room:rename(from, name) then error(name_taken) end
  if self.is_gone then return room:leave(name) end
  self.name = name
  self:group_add(room.group, { name = name })
  Chat:notify_group(room.group, "renamed", { room = room.name, from = from, name = name }, { except = ctx })
  return name
end)

Chat:rpc_method("say", {
  doc = "Says something. You get the message as the result, all others in the room as a notification.",
  params = { { "text", "string" } },
  errors = { not_in_a_room, too_fast },
  http = false,
}, function(ctx, text)
  local self = ctx.consumer
  local room = current(self)
  text = check.text(text)
  throttle(self)
  self.typed = nil
  local message = room:add(self.name, text)
  Chat:notify_group(room.group, "message", message, { except = ctx })
  return message
end)

-- A notification has no answer, so there is nothing to say to a client that sends too many.
Chat:rpc_notification("typing", {
  doc = "Tells the others that you are typing.",
  http = false,
}, function(ctx)
  local self, now = ctx.consumer, perigee.now()
  local room = self.room
  if not room or self.typed and now - self.typed < 1 then return end
  self.typed = now
  Chat:notify_group(room.group, "typing", { room = room.name, name = self.name }, { except = ctx })
end)

return Chat
