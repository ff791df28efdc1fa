--- ctx: the table of one call, first argument of every handler.
---
--- A call makes one, so making it must be cheap: its facts lie in the array part, filled in one step
--- by perigee.call, and get their names when somebody asks.
local channel = require("perigee.channel")
local core = require("perigee.core")
local group = require("perigee.group")
local lifecycle = require("perigee.lifecycle")
local log = require("perigee.log")
local pending = require("perigee.pending")
local reserved = require("perigee.reserved")
local session = require("perigee.session")

local E = core.envelope

-- Places of the facts; perigee.call, perigee.rpc and perigee.channel know them as well.
local CONN <const> = 1
local TASK <const> = 2
local BITS <const> = 3
local METHOD <const> = 4
local PARAMS <const> = 5
local ID <const> = 6
local ENTRY <const> = 7

local M = {}

---@class perigee.Ctx
---@field consumer perigee.Instance the caller's connection; over HTTP its request
---@field session table the instance's
---@field scope perigee.Scope the instance's
---@field user any the instance's
---@field id any nil for notifications
---@field method string
---@field params any what the client sent, untouched
---@field version "2.0"|"1.0"
---@field transport "websocket"|"http"
---@field is_notification boolean
---@field in_batch boolean
---@field deadline number? perigee.now() at which the call times out; nil when it has no timeout
---@field log perigee.Log its lines name app, method and connection
local Ctx = {}

--- Sends a notification to the caller. Over HTTP there is nobody to send to: returns false.
---@param method string
---@param params? table
---@return boolean sent
function Ctx:notify(method, params)
  channel.check(method, params, "notify")
  return channel.notify(getmetatable(self).encoding, self[CONN], method, params)
end

--- Calls a method of the client and waits for its answer.
---@param method string
---@param params? table
---@param opts? perigee.CallOptions
---@return any result
---@return perigee.Error? err
function Ctx:call(method, params, opts)
  return pending.call(getmetatable(self).encoding, self[CONN], method, params, opts)
end

--- Closes the caller's connection.
---@param code? integer
---@param reason? string
---@return boolean
function Ctx:close(code, reason)
  return core.close(self[CONN], code, reason)
end

--- Adds the caller's connection to a group.
---@param name string
---@param meta? any what members() of the group tells of it; anything JSON can hold
---@return boolean joined
function Ctx:group_add(name, meta)
  reserved.check(name, "group_add")
  return group.add(self[CONN], name, meta)
end

--- Takes the caller's connection out of a group.
---@param name string
---@return boolean left
function Ctx:group_discard(name)
  reserved.check(name, "group_discard")
  return core.group_discard(self[CONN], name)
end

--- Runs a function beside this handler, and after it.
---@param fn function
---@param ... any
function Ctx:spawn(fn, ...)
  if type(fn) ~= "function" then error("spawn takes a function, not a " .. type(fn), 2) end
  if self[BITS] & E.HTTP ~= 0 then lifecycle.keep(self.consumer) end
  getmetatable(self).spawn(fn, ...)
end

--- A call's time runs from its first wait on: before that, it is counted by the slice.
---@param self perigee.Ctx
---@return number?
local function deadline(self)
  local at = core.deadline(self[TASK])
  if at then return at end
  local timeout = self[ENTRY].timeout
  return timeout > 0 and core.now() + timeout or nil
end

--- The metatable of a consumer's ctx tables.
---@param record perigee.Record
---@return table
function M.metatable(record)
  local fields = {
    method = function(self) return self[METHOD] end,
    params = function(self) return self[PARAMS] end,
    id = function(self) return self[ID] end,
    consumer = function(self)
      return lifecycle.instance(record, self[CONN], self[BITS] & E.HTTP ~= 0)
    end,
    session = function(self) return self.consumer.session end,
    scope = function(self) return self.consumer.scope end,
    user = function(self) return self.consumer.user end,
    version = function(self) return self[BITS] & E.VERSION_2 ~= 0 and "2.0" or "1.0" end,
    transport = function(self) return self[BITS] & E.HTTP ~= 0 and "http" or "websocket" end,
    is_notification = function(self)
      if self[BITS] & E.VERSION_2 ~= 0 then return self[BITS] & (E.ID | E.ID_NULL) == 0 end
      return self[BITS] & E.ID == 0
    end,
    in_batch = function(self) return self[BITS] & E.BATCH ~= 0 end,
    log = function(self)
      return log.new {
        app = record.app, generation = record.generation, path = record.path, method = self[METHOD],
        conn = ("%x"):format(self[CONN]),
      }
    end,
  }
  return {
    __name = "perigee.ctx",
    record = record,
    encoding = record.encoding,
    spawn = record.http_user and session.spawn or core.spawn,
    __index = function(self, key)
      local value = Ctx[key]
      if value ~= nil then return value end
      if key == "deadline" then return deadline(self) end -- moves until the call first waits
      local make = fields[key]
      if not make then return nil end
      value = make(self)
      rawset(self, key, value)
      return value
    end,
  }
end

return M
