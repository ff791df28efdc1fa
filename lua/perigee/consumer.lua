--- Consumers: classes that apps declare, what they may declare, and the instances and ctx made of
--- them.
local core = require("perigee.core")
local lifecycle = require("perigee.lifecycle")
local log = require("perigee.log")
local params = require("perigee.params")
local scope = require("perigee.scope")
local spelling = require("perigee.spelling")

local E = core.envelope

-- Places of a ctx's facts; perigee.rpc makes them.
local CONN <const> = 1
local BITS <const> = 3
local METHOD <const> = 4
local PARAMS <const> = 5
local ID <const> = 6

local M = {}

-- ---- declaring ----------------------------------------------------------------------------------

---@class perigee.ConsumerOptions
---@field path? string where clients connect and POST; default "/" .. app name
---@field versions? string[] JSON-RPC versions it answers; default { "2.0", "1.0" }
---@field http_user? boolean carry the visitor's session
---@field groups? string[]|fun(self: perigee.Instance): string[] joined on connect
---@field origins? string[] allowed origins; default the same host
---@field subprotocols? string[] the first one the client also offers is chosen
---@field strict_ordering? boolean calls of one connection run one after the other
---@field raw? boolean no JSON-RPC on WebSockets: every frame goes to receive
---@field limits? table<string, integer> message, body, batch, calls, array, string, depth, method
---@field http_status? "ok"|"mapped"
---@field discover? boolean answer rpc.discover

local function is_string_list(value)
  if type(value) ~= "table" then return false end
  for i = 1, #value do
    if type(value[i]) ~= "string" then return false end
  end
  return true
end

--- Each option: what it must be, and how that is said.
local options = {
  path = { function(v) return type(v) == "string" and v:find("^/") ~= nil end, 'a path that begins with "/"' },
  versions = {
    function(v)
      if not is_string_list(v) or #v == 0 then return false end
      for _, version in ipairs(v) do
        if version ~= "2.0" and version ~= "1.0" then return false end
      end
      return true
    end,
    'a list of "2.0" and "1.0"',
  },
  http_user = { function(v) return type(v) == "boolean" end, "true or false" },
  groups = { function(v) return is_string_list(v) or type(v) == "function" end, "a list of names or a function" },
  origins = {
    function(v)
      if not is_string_list(v) then return false end
      for _, pattern in ipairs(v) do
        if not core.is_origin_pattern(pattern) then return false end
      end
      return true
    end,
    'a list of "https://host", ".host" or "*"',
  },
  subprotocols = {
    function(v)
      if not is_string_list(v) then return false end
      for _, name in ipairs(v) do
        if not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then return false end
      end
      return true
    end,
    "a list of tokens",
  },
  raw = { function(v) return type(v) == "boolean" end, "true or false" },
  limits = { function(v) return type(v) == "table" end, "a table" },
  http_status = { function(v) return v == "ok" or v == "mapped" end, '"ok" or "mapped"' },
}

local limit_names = { "message", "body", "batch", "calls", "array", "string", "depth", "method" }

local method_options = {
  websocket = { function(v) return type(v) == "boolean" end, "true or false" },
  http = { function(v) return type(v) == "boolean" end, "true or false" },
  doc = { function(v) return type(v) == "string" end, "a string" },
}

--- Where the code that declares something stands: "apps/chat/init.lua:12".
---@param level integer
---@return string
local function place(level)
  local info = debug.getinfo(level + 1, "Sl")
  return ("%s:%d"):format(info.short_src, info.currentline)
end

--- Checks a table of options against what is known; raises at the declaration.
local function check_options(given, known, what, level)
  for key, value in pairs(given) do
    local rule = known[key]
    if not rule then
      error(("%s has no option '%s'%s"):format(what, tostring(key), spelling.hint(key, spelling.keys(known))),
        level + 1)
    end
    if not rule[1](value) then
      error(("%s: option '%s' must be %s, not %s"):format(what, key, rule[2],
        type(value) == "string" and ("%q"):format(value) or tostring(value)), level + 1)
    end
  end
end

local function check_limits(limits, level)
  for key, value in pairs(limits) do
    local known = false
    for _, name in ipairs(limit_names) do known = known or name == key end
    if not known then
      error(("perigee.consumer: no limit is called '%s'%s"):format(tostring(key),
        spelling.hint(key, limit_names)), level + 1)
    end
    if math.type(value) ~= "integer" or value < 1 then
      error(("perigee.consumer: limit '%s' must be a whole number above 0"):format(key), level + 1)
    end
  end
end

---@class perigee.Method: perigee.Signature
---@field name string
---@field fn function
---@field place string
---@field doc? string
---@field websocket boolean
---@field http boolean

---@class perigee.Record what C and rpc.lua know of a consumer
---@field class perigee.Consumer
---@field path string?
---@field place string where it was declared
---@field versions table<string, true>
---@field groups any
---@field is_mapped boolean
---@field limits { method: integer }
---@field requests { websocket: table<string, perigee.Method>, http: table<string, perigee.Method>, order: string[] }
---@field notifications { websocket: table<string, perigee.Method>, http: table<string, perigee.Method>, order: string[] }
---@field by_websocket table<string, perigee.Method> requests.websocket, within one step
---@field by_http table<string, perigee.Method>
---@field ctx_mt table
---@field instance_mt table
---@field options perigee.ConsumerOptions

---@class perigee.Consumer
---@field connect? fun(self: perigee.Instance): boolean?
---@field disconnect? fun(self: perigee.Instance, code: integer, reason: string)
---@field receive? fun(self: perigee.Instance, data: string, is_binary: boolean)
local Consumer = {}

--- Records by class.
---@type table<perigee.Consumer, perigee.Record>
local records = setmetatable({}, { __mode = "k" })

--- The record of a class, or nil when it is none.
---@param class any
---@return perigee.Record?
function M.record(class)
  return type(class) == "table" and records[class] or nil
end

local function record_of(class, what)
  local record = M.record(class)
  if not record then
    error(("%s is called on a consumer, with a colon: Chat:%s(...)"):format(what, what), 3)
  end
  return record
end

---@param record perigee.Record
---@param registry table
---@param what string
---@param name any
---@param opts any
---@param fn any
local function register(record, registry, what, name, opts, fn)
  if fn == nil then
    fn, opts = opts, nil
  end
  if type(name) ~= "string" or name == "" then
    error(("%s: the name must be a string that is not empty"):format(what), 3)
  end
  if name:find("^_") or name:find("^rpc%.") then
    error(("%s: '%s' cannot be registered: names that begin with '_' or 'rpc.' are reserved"):format(what, name), 3)
  end
  if #name > record.limits.method then
    error(("%s: a method's name has at most %d bytes"):format(what, record.limits.method), 3)
  end
  if opts ~= nil and type(opts) ~= "table" then
    error(("%s '%s': options must be a table, not a %s"):format(what, name, type(opts)), 3)
  end
  if type(fn) ~= "function" then
    error(("%s '%s': the handler must be a function, not a %s"):format(what, name, type(fn)), 3)
  end
  check_options(opts or {}, method_options, ("%s '%s'"):format(what, name), 3)
  local known = registry.all[name]
  if known then
    error(("%s '%s' was registered already, at %s"):format(what, name, known.place), 3)
  end
  local m = params.signature(fn) --[[@as perigee.Method]]
  opts = opts or {}
  m.name, m.fn, m.place, m.doc = name, fn, place(3), opts.doc
  m.websocket, m.http = opts.websocket ~= false, opts.http ~= false
  registry.all[name] = m
  registry.order[#registry.order + 1] = name
  if m.websocket then registry.websocket[name] = m end
  if m.http then registry.http[name] = m end
end

--- Registers a request handler.
---@param name string
---@param opts? table|fun(ctx: perigee.Ctx, ...): any, any
---@param fn? fun(ctx: perigee.Ctx, ...): any, any
function Consumer:rpc_method(name, opts, fn)
  local record = record_of(self, "rpc_method")
  register(record, record.requests, "rpc_method", name, opts, fn)
end

--- Registers a notification handler.
---@param name string
---@param opts? table|fun(ctx: perigee.Ctx, ...)
---@param fn? fun(ctx: perigee.Ctx, ...)
function Consumer:rpc_notification(name, opts, fn)
  local record = record_of(self, "rpc_notification")
  register(record, record.notifications, "rpc_notification", name, opts, fn)
end

--- Names of request handlers, in order of registration.
---@return string[]
function Consumer:get_rpc_methods()
  return { table.unpack(record_of(self, "get_rpc_methods").requests.order) }
end

--- Names of notification handlers, in order of registration.
---@return string[]
function Consumer:get_rpc_notifications()
  return { table.unpack(record_of(self, "get_rpc_notifications").notifications.order) }
end

-- ---- channels and groups ------------------------------------------------------------------------

local channel_prefix = ("%s.%d."):format(core.node, core.worker)

--- The channel of a connection: its address, unique in the cluster.
---@param conn integer
---@return string
local function channel_of(conn)
  return ("%s%x"):format(channel_prefix, conn)
end

--- The connection a channel names, when it is one of this worker's.
---@param channel string
---@return integer?
local function conn_of(channel)
  if channel:sub(1, #channel_prefix) ~= channel_prefix then return nil end
  return tonumber(channel:sub(#channel_prefix + 1), 16)
end

--- Connection ids out of what `except` may be: a ctx, an instance, a channel, or a list of them.
---@param except any
---@param out integer[]
---@return integer[]
local function except_conns(except, out)
  if type(except) == "string" then
    out[#out + 1] = conn_of(except)
  elseif type(except) == "table" then
    local mt = getmetatable(except)
    local kind = mt and mt.__name
    if kind == "perigee.ctx" then
      out[#out + 1] = except[CONN]
    elseif kind == "perigee.instance" then
      out[#out + 1] = rawget(except, "_conn")
    else
      for _, item in ipairs(except) do except_conns(item, out) end
    end
  elseif except ~= nil then
    error(("except must be a ctx, an instance, a channel or a list, not a %s"):format(type(except)), 4)
  end
  return out
end

---@param what string
local function check_method(method, values, what)
  if type(method) ~= "string" or method == "" then
    error(("%s: the method must be a string that is not empty"):format(what), 3)
  end
  if values ~= nil and type(values) ~= "table" then
    error(("%s: params must be a table (or nothing), not a %s"):format(what, type(values)), 3)
  end
end

--- Sends a notification to every member of a group, or of several, once each.
---@param group string|string[]
---@param method string
---@param values? table
---@param opts? { except?: any }
---@return integer reached members it was queued for on this worker
function M.notify_group(group, method, values, opts)
  check_method(method, values, "notify_group")
  if opts ~= nil and type(opts) ~= "table" then
    error("notify_group: the last argument is a table of options, { except = ... }", 2)
  end
  local except = opts and opts.except ~= nil and except_conns(opts.except, {}) or nil
  return core.publish(group, method, values, except)
end

--- Sends a notification to one connection.
---@param channel string
---@param method string
---@param values? table
---@return boolean sent false when there is no such connection
function M.notify_channel(channel, method, values)
  check_method(method, values, "notify_channel")
  if type(channel) ~= "string" then
    error("notify_channel: the channel must be a string, as self.channel_name is", 2)
  end
  local conn = conn_of(channel)
  return conn ~= nil and core.notify(conn, method, values)
end

---@see perigee.notify_group
function Consumer:notify_group(group, method, values, opts)
  record_of(self, "notify_group")
  return M.notify_group(group, method, values, opts)
end

---@see perigee.notify_channel
function Consumer:notify_channel(channel, method, values)
  record_of(self, "notify_channel")
  return M.notify_channel(channel, method, values)
end

-- ---- instances ----------------------------------------------------------------------------------

---@class perigee.Instance
---@field session table
---@field scope perigee.Scope
---@field user any
---@field channel_name string
---@field transport "websocket"|"http"
---@field package _conn integer
---@field package _record perigee.Record
local Instance = {}

--- Answers the handshake now instead of when connect returns.
---@param options? { subprotocol?: string, headers?: table<string, string> }
---@return boolean accepted
function Instance:accept(options)
  return lifecycle.accept(self, options)
end

--- Refuses the handshake.
---@param status? integer default 403
---@param body? string
---@param headers? table<string, string>
function Instance:reject(status, body, headers)
  lifecycle.reject(self, status, body, headers)
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
---@return boolean joined false when it was a member already
function Instance:group_add(name)
  return core.group_add(self._conn, name)
end

--- Leaves a group.
---@param name string
---@return boolean left
function Instance:group_discard(name)
  return core.group_discard(self._conn, name)
end

--- Names of the groups this connection is in.
---@return string[]
function Instance:groups()
  return core.groups_of(self._conn)
end

--- Sends a notification to this client.
---@param method string
---@param values? table
---@return boolean sent
function Instance:notify(method, values)
  check_method(method, values, "notify")
  return core.notify(self._conn, method, values)
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
function Instance:spawn(fn, ...) -- luacheck: no self
  core.spawn(fn, ...)
end

---@see perigee.notify_group
function Instance:notify_group(group, method, values, opts) -- luacheck: no self
  return M.notify_group(group, method, values, opts)
end

---@see perigee.notify_channel
function Instance:notify_channel(channel, method, values) -- luacheck: no self
  return M.notify_channel(channel, method, values)
end

--- Fields that are made when they are first asked for.
local instance_fields = {
  session = function() return {} end,
  scope = function(self)
    local head = rawget(self, "_head") or core.head(self._conn)
    return head and scope.read(head, self._record.path)
  end,
  channel_name = function(self)
    return self.transport == "websocket" and channel_of(self._conn) or nil
  end,
}

---@param class perigee.Consumer
---@return table
local function instance_metatable(class)
  return {
    __name = "perigee.instance",
    __index = function(self, key)
      local value = rawget(class, key)
      if value ~= nil then return value end
      value = Instance[key]
      if value ~= nil then return value end
      local make = instance_fields[key]
      if not make then return nil end
      value = make(self)
      rawset(self, key, value)
      return value
    end,
  }
end

-- ---- ctx ----------------------------------------------------------------------------------------

---@class perigee.Ctx
---@field consumer perigee.Instance
---@field session table
---@field scope perigee.Scope
---@field user any
---@field id any nil for notifications
---@field method string
---@field params any what the client sent
---@field version "2.0"|"1.0"
---@field transport "websocket"|"http"
---@field is_notification boolean
---@field in_batch boolean
---@field log perigee.Log
local Ctx = {}

--- Sends a notification to the caller. Over HTTP there is nobody to send to: returns false.
---@param method string
---@param values? table
---@return boolean sent
function Ctx:notify(method, values)
  check_method(method, values, "notify")
  return core.notify(self[CONN], method, values)
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
---@return boolean joined
function Ctx:group_add(name)
  return core.group_add(self[CONN], name)
end

--- Takes the caller's connection out of a group.
---@param name string
---@return boolean left
function Ctx:group_discard(name)
  return core.group_discard(self[CONN], name)
end

--- Runs a function beside this handler.
---@param fn function
---@param ... any
function Ctx:spawn(fn, ...) -- luacheck: no self
  core.spawn(fn, ...)
end

---@param record perigee.Record
---@return table
local function ctx_metatable(record)
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
      return log.new { app = record.app, path = record.path, method = self.method, conn = ("%x"):format(self[CONN]) }
    end,
  }
  return {
    __name = "perigee.ctx",
    __index = function(self, key)
      local value = Ctx[key]
      if value ~= nil then return value end
      local make = fields[key]
      if not make then return nil end
      value = make(self)
      rawset(self, key, value)
      return value
    end,
  }
end

-- ---- making one ---------------------------------------------------------------------------------

local function new_registry()
  return { all = {}, websocket = {}, http = {}, order = {} }
end

--- Declares a consumer.
---@param given? perigee.ConsumerOptions
---@param app string name of the app
---@return perigee.Consumer
function M.new(given, app)
  given = given or {}
  if type(given) ~= "table" then
    error("perigee.consumer takes a table of options, not a " .. type(given), 3)
  end
  check_options(given, options, "perigee.consumer", 3)
  check_limits(given.limits or {}, 3)
  local class = setmetatable({}, { __index = Consumer, __name = "perigee.consumer" })
  local versions = {}
  for _, version in ipairs(given.versions or { "2.0", "1.0" }) do versions[version] = true end
  local record = {
    class = class,
    app = app,
    path = given.path or "/" .. app,
    place = place(3),
    options = given,
    versions = versions,
    groups = given.groups,
    is_mapped = given.http_status == "mapped",
    limits = { method = given.limits and given.limits.method or 256 },
    requests = new_registry(),
    notifications = new_registry(),
    instance_mt = instance_metatable(class),
  }
  record.by_websocket, record.by_http = record.requests.websocket, record.requests.http
  record.ctx_mt = ctx_metatable(record)
  records[class] = record
  return class
end

--- What core.serve needs to know of a consumer.
---@param record perigee.Record
---@return table
function M.route(record)
  local given, class = record.options, record.class
  return {
    kind = "consumer",
    path = record.path,
    app = record.app,
    record = record,
    raw = given.raw,
    connect = rawget(class, "connect") ~= nil or given.groups ~= nil,
    disconnect = rawget(class, "disconnect") ~= nil,
    receive = rawget(class, "receive") ~= nil,
    mapped = record.is_mapped,
    origins = given.origins,
    subprotocols = given.subprotocols,
    limits = given.limits,
  }
end

return M
