--- Consumer instances: the table that lives as long as one WebSocket, or one HTTP request.
local channel = require("perigee.channel")
local core = require("perigee.core")
local group = require("perigee.group")
local lifecycle = require("perigee.lifecycle")
local pending = require("perigee.pending")
local reserved = require("perigee.reserved")
local scope = require("perigee.scope")
local session = require("perigee.session")
local user = require("perigee.user")

local M = {}

---@class perigee.Instance
---@field session table
---@field scope perigee.Scope the facts about the connection
---@field user any
---@field channel_name string? the address of this connection; nil over HTTP
---@field transport "websocket"|"http"
---@field [string] any what the app sets
---@field package _conn integer
---@field package _record perigee.Record
local Instance = {}

---@class perigee.AcceptOptions
---@field subprotocol? string
---@field headers? table<string, string>

--- Answers the handshake now instead of when connect returns.
---@param options? perigee.AcceptOptions
---@return boolean accepted false when the client is gone
function Instance:accept(options)
  return lifecycle.accept(self, options)
end

--- Refuses the handshake.
---@param status? integer default 403
---@param body? string
---@param headers? table<string, string>
function Instance:reject(status, body, headers)
  return lifecycle.reject(self, status, body, headers)
end

--- Closes the connection.
---@param code? integer default 1000
---@param reason? string
---@return boolean
function Instance:close(code, reason)
  return core.close(self._conn, code, reason)
end

--- Joins a group.
---@param name string 1 to 200 bytes
---@param meta? any what members() of the group tells of this connection; anything JSON can hold
---@return boolean joined false when it was a member already; it has the new meta then
function Instance:group_add(name, meta)
  reserved.check(name, "group_add")
  return group.add(self._conn, name, meta)
end

--- Leaves a group.
---@param name string
---@return boolean left
function Instance:group_discard(name)
  reserved.check(name, "group_discard")
  return core.group_discard(self._conn, name)
end

--- Names of the groups this connection is in.
---@return string[]
function Instance:groups()
  local names = {}
  for _, name in ipairs(core.groups_of(self._conn)) do
    if not reserved.is(name) then names[#names + 1] = name end
  end
  return names
end

--- Sends a notification to this client.
---@param method string
---@param params? table
---@return boolean sent
function Instance:notify(method, params)
  channel.check(method, params, "notify")
  return channel.notify(self._record.encoding, self._conn, method, params)
end

--- Calls a method of the client and waits for its answer.
---@param method string
---@param params? table
---@param opts? perigee.CallOptions
---@return any result
---@return perigee.Error? err
function Instance:call(method, params, opts)
  return pending.call(self._record.encoding, self._conn, method, params, opts)
end

--- Sends a message as it is.
---@param data string
---@param is_binary? boolean
---@return boolean sent
function Instance:send(data, is_binary)
  return core.send(self._conn, data, is_binary)
end

--- Runs a function beside this handler.
---@param fn function
---@param ... any
function Instance:spawn(fn, ...)
  if type(fn) ~= "function" then error("spawn takes a function, not a " .. type(fn), 2) end
  lifecycle.keep(self)
  local spawn = self._record.http_user and session.spawn or core.spawn
  spawn(fn, ...)
end

--- Says who the visitor is from now on. With http_user the session remembers it, under a new id whose
--- cookie needs an answer to travel with: over a WebSocket that is open there is none.
---@param who any an integer or text, or a table with such an `id`; nil: nobody
function Instance:identify(who)
  user.identify(self, who)
end

--- The same as on the class.
---@param who any a user, or a user's id
---@param method string
---@param params? table
---@param opts? { except?: any }
---@return integer reached
function Instance:notify_user(who, method, params, opts)
  return user.notify(self._record.encoding, who, method, params, opts)
end

--- The same as on the class.
---@param to string|string[]
---@param method string
---@param params? table
---@param opts? perigee.NotifyOptions
function Instance:notify_group(to, method, params, opts)
  return channel.notify_group(self._record.encoding, to, method, params, opts)
end

--- The same as on the class.
---@param to string
---@param method string
---@param params? table
---@return boolean sent
function Instance:notify_channel(to, method, params)
  return channel.notify_channel(self._record.encoding, to, method, params)
end

--- Fields that are made when they are first asked for.
local fields = {
  session = function(self) return self._record.http_user and session.of(self) or {} end,
  user = function(self)
    if self._record.knows_users then return user.find(self) end
  end,
  scope = function(self)
    local head = rawget(self, "_head") or core.head(self._conn)
    return head and scope.read(head, rawget(self, "_pattern") or self._record.path)
  end,
  channel_name = function(self)
    return self.transport == "websocket" and channel.of(self._conn) or nil
  end,
}

--- What the instances of a path have in common. It outlives the consumer: the next version of an app
--- takes it over, and thereby all instances at once.
---@class perigee.Seat
---@field class perigee.Consumer
---@field record perigee.Record

--- The metatable of a consumer's instances: what the class defines comes first.
---@param class perigee.Consumer
---@param record perigee.Record
---@return perigee.Seat
function M.metatable(class, record)
  local seat = { __name = "perigee.instance", class = class, record = record }
  function seat.__index(self, key)
    local value = rawget(seat.class, key)
    if value ~= nil then return value end
    value = Instance[key]
    if value ~= nil then return value end
    if key == "_record" then return seat.record end
    local make = fields[key]
    if not make then return nil end
    value = make(self)
    rawset(self, key, value)
    return value
  end
  return seat
end

return M
