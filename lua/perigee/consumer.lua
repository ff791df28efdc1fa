--- Consumers: the classes that apps declare, and what they may declare.
local call = require("perigee.call")
local channel = require("perigee.channel")
local config = require("perigee.config")
local core = require("perigee.core")
local ctx = require("perigee.ctx")
local discover = require("perigee.discover")
local events = require("perigee.events")
local http = require("perigee.http")
local instance = require("perigee.instance")
local params = require("perigee.params")
local routes = require("perigee.routes")
local schema = require("perigee.schema")
local session = require("perigee.session")
local signals = require("perigee.signals")
local spelling = require("perigee.spelling")
local traffic = require("perigee.traffic")
local user = require("perigee.user")

local M = {}

-- ---- options ------------------------------------------------------------------------------------

---@class perigee.ConsumerOptions
---@field path? string where clients connect and POST; default "/" .. app name; "/room/:id" captures
---@field versions? string[] JSON-RPC versions it answers; default { "2.0", "1.0" }
---@field http_user? boolean carry the visitor's session
---@field auth? fun(token: string, self: perigee.Instance): any whose bearer token it is; nil: nobody's
---@field groups? string[]|fun(self: perigee.Instance): string[] joined on connect
---@field origins? string[] allowed origins; default the same host
---@field subprotocols? string[] the first one the client also offers is chosen
---@field strict_ordering? boolean calls of one connection run one after the other
---@field deflate? boolean compress messages for clients that offer permessage-deflate; default the setting's
---@field raw? boolean no JSON-RPC on WebSockets: every frame goes to receive
---@field codec? perigee.Codec for results and notifications, such as require "cjson"
---@field json_default? fun(value: any): any for values that JSON has no form for
---@field limits? perigee.Limits
---@field timeout? number|string|false seconds, or a text such as "500ms" for each method, default 30; false: none
---@field http_status? "ok"|"mapped" "mapped": errors are HTTP 400, 404 and 500, not 200
---@field middleware? (fun(ctx: perigee.Ctx, next: fun(): any, any): any, any)[]
---@field discover? boolean answer rpc.discover; default in dev only

---@class perigee.Codec
---@field encode fun(value: any): string
---@field decode? fun(text: string): any

---@class perigee.Limits what a consumer may have other than the server
---@field message? integer|string bytes of a WebSocket message, or a text such as "6MiB"
---@field body? integer|string bytes of a POST body, likewise
---@field batch? integer members of a batch
---@field calls? integer calls in flight on a connection
---@field array? integer items of an array in params
---@field string? integer|string bytes of a string in params, likewise
---@field values? integer values in params, of all levels
---@field depth? integer nesting of params
---@field method? integer|string bytes of a method's name, likewise

---@class perigee.MethodOptions
---@field websocket? boolean callable over WebSocket, default true
---@field http? boolean callable over HTTP, default true
---@field timeout? number|string|false seconds, or a text such as "500ms"; false: none
---@field params? perigee.Param[] { { "room", "string" }, { "count", { "integer?", min = 1 } } }
---@field result? perigee.SchemaSpec what the result is; held in dev and in tests
---@field doc? string what the method does, for rpc.discover
---@field permission? string|fun(ctx: perigee.Ctx): boolean a name for has_permission, or what decides itself
---@field hidden? boolean without permission it cannot be told from a method that does not exist
---@field deprecated? boolean for rpc.discover
---@field errors? (perigee.Error|{ code: integer, message: string, data?: any })[] for rpc.discover
---@field examples? perigee.Example[] for rpc.discover

---@class perigee.Example
---@field name? string
---@field description? string
---@field params? any[]
---@field result? any

local function is_a(kind)
  return function(v) return type(v) == kind end
end

local function is_list_of(test)
  return function(v)
    if type(v) ~= "table" then return false end
    for i = 1, #v do
      if not test(v[i]) then return false end
    end
    return true
  end
end

local function is_token(v)
  return type(v) == "string" and v:find("^[%w!#$%%&'*+.^_`|~-]+$") ~= nil
end

local function is_timeout(v)
  return v == false or (config.seconds(v) or -1) >= 0
end

local boolean = { is_a "boolean", "true or false" }
local timeout = { is_timeout, "a number of seconds, a text such as \"500ms\", or false for none" }

--- Each option: what it must be, and how that is said.
local options = {
  path = { function(v) return type(v) == "string" and v:find("^/") ~= nil end, 'a path that begins with "/"' },
  versions = {
    function(v)
      return is_list_of(function(one) return one == "2.0" or one == "1.0" end)(v) and #v > 0
    end,
    'a list of "2.0" and "1.0"',
  },
  http_user = boolean,
  auth = { is_a "function", "a function(token, self) that returns a user or nil" },
  groups = {
    function(v) return type(v) == "function" or is_list_of(is_a "string")(v) end,
    "a list of names, or a function that returns one",
  },
  origins = {
    is_list_of(function(v) return type(v) == "string" and core.is_origin_pattern(v) end),
    'a list of "https://host", ".host" or "*"',
  },
  subprotocols = { is_list_of(is_token), "a list of tokens" },
  strict_ordering = boolean,
  raw = boolean,
  deflate = boolean,
  codec = {
    function(v) return type(v) == "table" and type(v.encode) == "function" end,
    "a table with a function encode",
  },
  json_default = { is_a "function", "a function" },
  limits = { is_a "table", "a table" },
  timeout = timeout,
  http_status = { function(v) return v == "ok" or v == "mapped" end, '"ok" or "mapped"' },
  middleware = { is_list_of(is_a "function"), "a list of functions" },
  discover = boolean,
}

--- Options about JSON-RPC and WebSockets, which routes alone have none of.
local rpc_only = {
  versions = true, groups = true, subprotocols = true, strict_ordering = true, raw = true, deflate = true,
  http_status = true,
  discover = true,
}

local limit_names = { "message", "body", "batch", "calls", "array", "string", "values", "depth", "method" }

local method_options = {
  websocket = boolean,
  http = boolean,
  timeout = timeout,
  params = { is_a "table", "a list of { name, schema }" },
  result = { function(v) return type(v) == "string" or type(v) == "table" end, "a schema" },
  doc = { is_a "string", "a string" },
  permission = {
    function(v) return type(v) == "string" and v ~= "" or type(v) == "function" end,
    "a name, or a function",
  },
  hidden = boolean,
  deprecated = boolean,
  errors = { discover.are_errors, "a list of { code =, message = }" },
  examples = { is_list_of(is_a "table"), "a list of { params =, result = }" },
}

local route_options = {
  timeout = timeout,
  permission = method_options.permission,
  doc = method_options.doc,
}

--- Where the code that declares something stands: "apps/chat/init.lua:12". After a tail call, as in
--- `return perigee.consumer {}`, Lua does not know the line: then the app's file.
---@param level integer
---@param file string
---@return string
local function place(level, file)
  local info = debug.getinfo(level + 1, "Sl")
  if not info or info.currentline < 1 then return file end
  return ("%s:%d"):format(info.short_src, info.currentline)
end

--- Holds options against what is known; raises at the declaration.
local function check_options(given, known, what, level)
  for key, value in pairs(given) do
    local rule = known[key]
    if not rule then
      error(("%s has no option '%s'%s"):format(what, tostring(key),
        spelling.hint(key, spelling.keys(known))), level + 1)
    end
    if not rule[1](value) then
      error(("%s: option '%s' must be %s, not %s"):format(what, key, rule[2],
        type(value) == "string" and ("%q"):format(value) or tostring(value)), level + 1)
    end
  end
end

--- Limits as numbers; texts with units are read as the settings read them.
---@param limits perigee.Limits
---@return table<string, integer>
local function take_limits(limits, level)
  local taken = {}
  for key, value in pairs(limits) do
    local is_known = false
    for _, name in ipairs(limit_names) do is_known = is_known or name == key end
    if not is_known then
      error(("perigee.consumer: no limit is called '%s'%s"):format(tostring(key),
        spelling.hint(key, limit_names)), level + 1)
    end
    local number, expected = config.take(config.by_name["max_" .. key], value)
    if not number then
      error(("perigee.consumer: limit '%s' must be %s, not %s"):format(key, expected,
        type(value) == "string" and ("%q"):format(value) or tostring(value)), level + 1)
    end
    taken[key] = number
  end
  return taken
end

-- ---- records ------------------------------------------------------------------------------------

---@class perigee.Method: perigee.Signature
---@field name string
---@field fn function
---@field run function one of perigee.call's ways
---@field way function the one it would be if nobody took the time
---@field encode? fun(value: any): string
---@field place string
---@field websocket boolean
---@field http boolean
---@field given_timeout? number|false
---@field timeout number seconds; 0: none
---@field permission? string|function
---@field hidden boolean
---@field result? perigee.Schema
---@field doc? string
---@field deprecated? boolean
---@field errors? table[]
---@field examples? table[]

---@class perigee.Registry
---@field all table<string, perigee.Method> what apps registered
---@field order string[] their names
---@field websocket table<string, perigee.Method> what can be called, built-in ones too
---@field http table<string, perigee.Method>

---@class perigee.Record what C and the other parts know of a consumer
---@field class perigee.Consumer
---@field app string
---@field generation? integer of the app's code
---@field file string of the app
---@field path string
---@field place string where it was declared
---@field is_own? boolean the server's own, no app's
---@field options perigee.ConsumerOptions
---@field versions table<string, true>
---@field groups any
---@field http_user boolean
---@field knows_users boolean http_user or auth
---@field is_mapped boolean
---@field limits { method: integer }
---@field timeout number
---@field encoding perigee.Encoding
---@field middleware function[]
---@field on_error function[]
---@field events table<string, function>
---@field requests perigee.Registry
---@field notifications perigee.Registry
---@field by_websocket table<string, perigee.Method> requests.websocket, within one step; empty without 2.0
---@field by_http table<string, perigee.Method>
---@field ctx_mt table
---@field instance_mt perigee.Seat
---@field is_plain boolean routes only: no JSON-RPC, no WebSockets
---@field routes table<string, table<string, perigee.Route>> by path and verb
---@field route_order string[] their paths
---@field web perigee.Record the record as its routes see it
---@field is_own? boolean the server's own: apps hear nothing of it

--- In a hook, `self` is an instance: what an instance has can be called on it.
---@class perigee.Consumer: perigee.Instance
---@field connect? fun(self: perigee.Instance): boolean?
---@field disconnect? fun(self: perigee.Instance, code: integer, reason: string)
---@field receive? fun(self: perigee.Instance, data: string, is_binary: boolean)
---@field has_permission? fun(ctx: perigee.Ctx, name: string): boolean
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

--- Chooses the way calls of a method go.
---@param record perigee.Record
---@param m perigee.Method
local function choose_way(record, m)
  m.run = call.choose(record, m)
  if record.options.auth then m.run = user.around(m.run) end
  if record.http_user then m.run = session.around(m.run) end
  m.encode = record.encoding.encode
end

---@param record perigee.Record
local function choose_ways(record)
  for _, kind in ipairs { "requests", "notifications" } do
    for _, m in pairs(record[kind].websocket) do choose_way(record, m) end
    for _, m in pairs(record[kind].http) do choose_way(record, m) end
  end
  for _, path in ipairs(record.route_order) do
    for _, route in pairs(record.routes[path]) do choose_way(record, route) end
  end
end

local function choose_all_ways()
  for _, record in pairs(records) do choose_ways(record) end
end
signals.on_change = choose_all_ways
traffic.on_change = choose_all_ways

--- Seconds as records keep them: 0 for none.
local function seconds(value, otherwise)
  if value == nil then return otherwise end
  return config.seconds(value) or 0
end

---@param record perigee.Record
---@param registry perigee.Registry
---@param m perigee.Method
local function enlist(record, registry, m)
  choose_way(record, m)
  if m.websocket then registry.websocket[m.name] = m end
  if m.http then registry.http[m.name] = m end
end

--- A method of the server's own.
local function built_in(record, registry, name, fn)
  local m = params.signature(fn) --[[@as perigee.Method]]
  m.name, m.fn, m.place, m.timeout = name, fn, "perigee", record.timeout
  m.websocket, m.http, m.hidden = true, true, true
  enlist(record, registry, m)
end

---@param record perigee.Record
---@param registry perigee.Registry
---@param what string
---@param name any
---@param opts any
---@param fn any
local function register(record, registry, what, name, opts, fn)
  if fn == nil then
    fn, opts = opts, nil
  end
  if record.is_plain then
    error(("%s: perigee.http_routes answers plain HTTP only; declare methods on a perigee.consumer"):format(what), 3)
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
  opts = opts or {}
  check_options(opts, method_options, ("%s '%s'"):format(what, name), 3)
  local known = registry.all[name]
  if known then error(("%s '%s' was registered already, at %s"):format(what, name, known.place), 3) end
  local m = params.signature(fn) --[[@as perigee.Method]]
  local ok, err = pcall(function()
    if opts.params then params.declare(m, opts.params) end
    if opts.result then m.result = schema.compile(opts.result, "the result") end
  end)
  if not ok then error(("%s '%s': %s"):format(what, name, err), 3) end
  m.name, m.fn, m.place = name, fn, place(3, record.file)
  m.websocket, m.http = opts.websocket ~= false, opts.http ~= false
  m.given_timeout = opts.timeout
  m.timeout = seconds(opts.timeout, record.timeout)
  m.permission, m.hidden = opts.permission, opts.hidden or false
  m.doc, m.deprecated, m.errors, m.examples = opts.doc, opts.deprecated, opts.errors, opts.examples
  registry.all[name] = m
  registry.order[#registry.order + 1] = name
  enlist(record, registry, m)
end

-- ---- what apps call on a class --------------------------------------------------------------------

--- Registers a request handler.
---@param name string
---@param opts? perigee.MethodOptions|fun(ctx: perigee.Ctx, ...): any, any
---@param fn? fun(ctx: perigee.Ctx, ...): any, any
function Consumer:rpc_method(name, opts, fn)
  local record = record_of(self, "rpc_method")
  register(record, record.requests, "rpc_method", name, opts, fn)
end

--- Registers a notification handler.
---@param name string
---@param opts? perigee.MethodOptions|fun(ctx: perigee.Ctx, ...)
---@param fn? fun(ctx: perigee.Ctx, ...)
function Consumer:rpc_notification(name, opts, fn)
  local record = record_of(self, "rpc_notification")
  register(record, record.notifications, "rpc_notification", name, opts, fn)
end

--- Declares a handler of a route.
local function declare_route(class, verb, path, opts, fn)
  local record = record_of(class, verb:lower())
  if fn == nil then
    fn, opts = opts, nil
  end
  local ok, route = pcall(routes.declare, record, verb, path, fn)
  if not ok then error(route, 3) end
  local what = ("C:%s(%q)"):format(verb:lower(), path)
  if opts ~= nil and type(opts) ~= "table" then
    error(("%s: options must be a table, not a %s"):format(what, type(opts)), 3)
  end
  opts = opts or {}
  check_options(opts, route_options, what, 3)
  route.place = place(3, record.file)
  route.given_timeout, route.timeout = opts.timeout, seconds(opts.timeout, record.timeout)
  route.permission, route.hidden, route.doc = opts.permission, false, opts.doc
  route.fn = http.handler(route, fn)
  choose_way(record, route)
  routes.enlist(record, route)
end

--- Answers GET, and HEAD, on a path.
---@param path string below the consumer's, or, with a slash in front, any; "orders/:id", "/files/*path"
---@param opts? perigee.RouteOptions|perigee.HttpHandler
---@param fn? perigee.HttpHandler
function Consumer:get(path, opts, fn)
  declare_route(self, "GET", path, opts, fn)
end

--- Answers POST on a path; not on the consumer's own, where a POST is JSON-RPC.
---@param path string as in get
---@param opts? perigee.RouteOptions|perigee.HttpHandler
---@param fn? perigee.HttpHandler
function Consumer:post(path, opts, fn)
  declare_route(self, "POST", path, opts, fn)
end

--- Answers PUT on a path.
---@param path string as in get
---@param opts? perigee.RouteOptions|perigee.HttpHandler
---@param fn? perigee.HttpHandler
function Consumer:put(path, opts, fn)
  declare_route(self, "PUT", path, opts, fn)
end

--- Answers PATCH on a path.
---@param path string as in get
---@param opts? perigee.RouteOptions|perigee.HttpHandler
---@param fn? perigee.HttpHandler
function Consumer:patch(path, opts, fn)
  declare_route(self, "PATCH", path, opts, fn)
end

--- Answers DELETE on a path.
---@param path string as in get
---@param opts? perigee.RouteOptions|perigee.HttpHandler
---@param fn? perigee.HttpHandler
function Consumer:delete(path, opts, fn)
  declare_route(self, "DELETE", path, opts, fn)
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

--- What is known of a method (or, when there is none of that name, a notification).
---@param name string
---@return perigee.MethodInfo
function Consumer:get_method_info(name)
  local record = record_of(self, "get_method_info")
  local m = record.requests.all[name]
  if m then return discover.method_info(m, false) end
  m = record.notifications.all[name]
  if m then return discover.method_info(m, true) end
  local known = { table.unpack(record.requests.order) }
  table.move(record.notifications.order, 1, #record.notifications.order, #known + 1, known)
  error(("there is no method '%s'%s"):format(tostring(name), spelling.hint(name, known)), 2)
end

--- The whole consumer as an OpenRPC document.
---@return table
function Consumer:describe()
  return discover.document(record_of(self, "describe"))
end

--- Sends a notification to every member of a group, or of several, once each.
---@param group string|string[]
---@param method string
---@param values? table
---@param opts? perigee.NotifyOptions
function Consumer:notify_group(group, method, values, opts)
  return channel.notify_group(record_of(self, "notify_group").encoding, group, method, values, opts)
end

--- Sends a notification to one connection, wherever it is.
---@param to string
---@param method string
---@param values? table
---@return boolean sent false when there is no such connection
function Consumer:notify_channel(to, method, values)
  return channel.notify_channel(record_of(self, "notify_channel").encoding, to, method, values)
end

--- Sends a notification to all of a user's connections.
---@param who any a user, or a user's id
---@param method string
---@param values? table
---@param opts? { except?: any }
---@return integer reached
function Consumer:notify_user(who, method, values, opts)
  return user.notify(record_of(self, "notify_user").encoding, who, method, values, opts)
end

--- Sends an event to the consumers behind every connection in a group.
---@param group string
---@param event perigee.Event
function Consumer:group_send(group, event)
  record_of(self, "group_send")
  return events.group_send(group, event)
end

--- Sends an event to the consumer behind one connection.
---@param to string
---@param event perigee.Event
---@return boolean sent
function Consumer:send(to, event)
  record_of(self, "send")
  return events.send(to, event)
end

--- What this consumer does with an event of that type.
---@param kind string
---@param fn fun(self: perigee.Instance, event: perigee.Event)
function Consumer:on_event(kind, fn)
  local record = record_of(self, "on_event")
  if type(kind) ~= "string" or kind == "" then error("on_event: the type must be a string that is not empty", 2) end
  if type(fn) ~= "function" then error("on_event: the handler must be a function", 2) end
  if events.is_internal(kind) then error("on_event: types that begin with 'perigee.' are the server's own", 2) end
  if record.events[kind] then error(("on_event: '%s' has a handler already"):format(kind), 2) end
  record.events[kind] = fn
end

--- Adds middleware around every call of this consumer, inside what was added before.
---@param fn fun(ctx: perigee.Ctx, next: fun(): any, any): any, any
function Consumer:use(fn)
  local record = record_of(self, "use")
  if type(fn) ~= "function" then error("use: the middleware must be a function(ctx, next)", 2) end
  record.middleware[#record.middleware + 1] = fn
  choose_ways(record)
end

--- Sees every error that a handler raised or returned, before the reply.
---@param fn fun(ctx: perigee.Ctx, err: perigee.Error|perigee.Fault)
function Consumer:on_error(fn)
  local record = record_of(self, "on_error")
  if type(fn) ~= "function" then error("on_error takes a function(ctx, err)", 2) end
  record.on_error[#record.on_error + 1] = fn
end

--- A new consumer that starts with this one's methods, hooks, middleware, events and options.
---@param given perigee.ConsumerOptions must have a path of its own
---@return perigee.Consumer
function Consumer:extend(given)
  local parent = record_of(self, "extend")
  if type(given) ~= "table" then error("extend takes a table of options", 2) end
  if given.path == nil then error("extend: the new consumer needs a path of its own", 2) end
  local all = {}
  for key, value in pairs(parent.options) do all[key] = value end
  for key, value in pairs(given) do all[key] = value end
  all.middleware = given.middleware or {}
  local class = M.new(all, { name = parent.app, file = parent.file, generation = parent.generation }, parent.is_plain)
  local record = records[class]
  record.place = place(2, record.file)
  for key, value in pairs(self) do class[key] = value end
  for i, fn in ipairs(parent.middleware) do table.insert(record.middleware, i, fn) end
  for i, fn in ipairs(parent.on_error) do record.on_error[i] = fn end
  for kind, fn in pairs(parent.events) do record.events[kind] = fn end
  for _, kind in ipairs { "requests", "notifications" } do
    for _, name in ipairs(parent[kind].order) do
      local m = {}
      for key, value in pairs(parent[kind].all[name]) do m[key] = value end
      m.timeout = seconds(m.given_timeout, record.timeout)
      record[kind].all[name] = m
      record[kind].order[#record[kind].order + 1] = name
      enlist(record, record[kind], m)
    end
  end
  for _, path in ipairs(parent.route_order) do
    for _, verb in ipairs(routes.verbs_of(parent, path)) do
      local from = parent.routes[path][verb]
      if from.given:sub(1, 1) ~= "/" then -- the path of another is taken
        local route = routes.declare(record, verb, from.given, from.fn)
        for key, value in pairs(from) do
          if route[key] == nil then route[key] = value end
        end
        route.timeout = seconds(route.given_timeout, record.timeout)
        routes.enlist(record, route)
      end
    end
  end
  choose_ways(record)
  return class
end

-- ---- making one ---------------------------------------------------------------------------------

local function new_registry()
  return { all = {}, order = {}, websocket = {}, http = {} }
end

--- What is neither on the class nor known: a field that was not set, or a word misspelled.
local function look_up(_, key)
  local value = Consumer[key]
  if value ~= nil then return value end
  local nearest = type(key) == "string" and spelling.nearest(key, spelling.keys(Consumer))
  if nearest then error(("a consumer has no '%s' (did you mean '%s'?)"):format(key, nearest), 2) end
end

local hooks = { "connect", "disconnect", "receive", "has_permission" }

--- Warns of functions that look like a hook with a slip in its name: they would never be called.
local function check_hooks(record)
  for key, value in pairs(record.class) do
    local nearest = type(value) == "function" and spelling.nearest(key, hooks)
    if nearest and nearest ~= key then
      core.log("warn", "a function that looks like a misspelled hook", {
        path = record.path, name = key, hook = nearest, at = record.place,
      })
    end
  end
end

--- Declares a consumer.
---@param given? perigee.ConsumerOptions
---@param app { name: string, file: string }
---@param is_plain? boolean routes only
---@return perigee.Consumer
function M.new(given, app, is_plain)
  given = given or {}
  local what = is_plain and "perigee.http_routes" or "perigee.consumer"
  if type(given) ~= "table" then
    error(what .. " takes a table of options, not a " .. type(given), 3)
  end
  for name in pairs(is_plain and rpc_only or {}) do
    if given[name] ~= nil then
      error(("perigee.http_routes has no option '%s': it is about JSON-RPC, for perigee.consumer"):format(name), 3)
    end
  end
  check_options(given, options, what, 3)
  local limits = take_limits(given.limits or {}, 3)
  limits.method = limits.method or core.max_method
  local class = setmetatable({}, { __index = look_up, __name = "perigee.consumer" })
  local versions = {}
  for _, version in ipairs(given.versions or { "2.0", "1.0" }) do versions[version] = true end
  local record = {
    class = class,
    app = app.name,
    generation = app.generation,
    file = app.file,
    path = given.path or "/" .. app.name,
    place = place(3, app.file),
    options = given,
    versions = versions,
    groups = given.groups,
    http_user = given.http_user or false,
    knows_users = given.http_user or given.auth ~= nil,
    is_mapped = given.http_status == "mapped",
    limits = limits,
    timeout = seconds(given.timeout, M.DEFAULT_TIMEOUT),
    encoding = {
      encode = given.codec and given.codec.encode,
      default = given.json_default,
      flags = versions["2.0"] and 0 or 1,
    },
    middleware = { table.unpack(given.middleware or {}) },
    on_error = {},
    events = {},
    requests = new_registry(),
    notifications = new_registry(),
    is_plain = is_plain or false,
    routes = {},
    route_order = {},
  }
  record.instance_mt = instance.metatable(class, record)
  if versions["2.0"] then -- else no call is plain: perigee.rpc refuses it on the longer way
    record.by_websocket, record.by_http = record.requests.websocket, record.requests.http
  else
    record.by_websocket, record.by_http = {}, {}
  end
  record.ctx_mt = ctx.metatable(record)
  record.web = http.view(record)
  records[class] = record
  if given.discover or given.discover == nil and core.is_dev then
    built_in(record, record.requests, "rpc.discover", discover.handler(record))
  end
  built_in(record, record.notifications, "$/cancelRequest", function(caller, id)
    local task = call.find(caller[1], id)
    if task then core.cancel(task) end
  end)
  return class
end

--- Seconds a call may take unless its consumer or method says otherwise.
M.DEFAULT_TIMEOUT = 30

--- Raises when a consumer is not complete: looked at when all of its app has run.
---@param record perigee.Record
function M.check(record)
  if record.http_user then session.open() end
  check_hooks(record)
  if record.options.raw and not rawget(record.class, "receive") then
    error(("%s: a raw consumer needs a receive hook: function C:receive(data, is_binary)"):format(record.place), 0)
  end
  local declared = {}
  for _, kind in ipairs { "requests", "notifications" } do
    for _, name in ipairs(record[kind].order) do declared[#declared + 1] = record[kind].all[name] end
  end
  for _, path in ipairs(record.route_order) do
    for _, verb in ipairs(routes.verbs_of(record, path)) do declared[#declared + 1] = record.routes[path][verb] end
  end
  for _, m in ipairs(declared) do
    if type(m.permission) == "string" and type(record.class.has_permission) ~= "function" then
      error(("%s: '%s' asks for the permission '%s', but the consumer has no function C.has_permission(ctx, name)")
        :format(m.place, m.name, m.permission), 0)
    end
  end
end

--- A consumer takes the place of another, of the same app and path: from now on all instances are its
--- own.
---@param record perigee.Record
---@param before perigee.Record
function M.succeed(record, before)
  local seat = before.instance_mt
  seat.class, seat.record = record.class, record
  record.instance_mt = seat
end

--- What core.serve needs to know of a consumer.
---@param record perigee.Record
---@return table
function M.route(record)
  local given, class = record.options, record.class
  return {
    kind = "consumer",
    path = record.path,
    plain = record.is_plain,
    app = record.app,
    record = record,
    raw = given.raw,
    deflate = given.deflate,
    strict = given.strict_ordering,
    connect = rawget(class, "connect") ~= nil or given.groups ~= nil or record.knows_users,
    disconnect = rawget(class, "disconnect") ~= nil,
    receive = rawget(class, "receive") ~= nil,
    mapped = record.is_mapped,
    origins = given.origins,
    subprotocols = given.subprotocols,
    limits = record.limits,
  }
end

return M
