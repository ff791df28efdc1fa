--- Users: who a visitor is, and all of a user's connections at once.
local call = require("perigee.call")
local channel = require("perigee.channel")
local core = require("perigee.core")
local errors = require("perigee.errors")
local events = require("perigee.events")
local group = require("perigee.group")
local lifecycle = require("perigee.lifecycle")
local reserved = require("perigee.reserved")
local session = require("perigee.session")
local spelling = require("perigee.spelling")
local unread = require("perigee.unread")

local M = {}

--- Bytes of a user's id.
M.ID_MAX = 150
--- Bytes of a bearer token.
M.TOKEN_MAX = 8192

--- The id that stands for a user: the user itself when it is a text or a number, else its `id`.
---@param user any
---@return string?
local function id_of(user)
  if type(user) == "table" then user = user.id end
  if math.type(user) == "integer" then return tostring(user) end
  return type(user) == "string" and user ~= "" and #user <= M.ID_MAX and user or nil
end

---@param user any
---@param what string
---@return string
local function check_id(user, what)
  return id_of(user) or error(
    ("%s: a user is known by an integer or by a text of 1 to %d bytes, or is a table with such an id")
      :format(what, M.ID_MAX), 3)
end

-- ---- who is it ----------------------------------------------------------------------------------

--- Makes a connection one of the user's, and no longer one of who it was.
---@param instance perigee.Instance
---@param user any
local function set(instance, user)
  local conn = instance.transport == "websocket" and instance._conn
  local old, new = rawget(instance, "_user_id"), id_of(user)
  rawset(instance, "user", user)
  rawset(instance, "_user_id", new)
  if not conn or old == new then return end
  if old then core.group_discard(conn, reserved.user(old)) end
  if new then group.add(conn, reserved.user(new)) end
end

--- Says who the visitor is, from now on; nil: nobody. With http_user the session keeps it, under a
--- new id, so that who knew the old one gains nothing.
---@param instance perigee.Instance
---@param user any
function M.identify(instance, user)
  if user ~= nil then
    check_id(user, "identify")
    local text, err = core.json_encode(user)
    if not text then error("identify: " .. err, 3) end
    user = core.json_decode(text) -- what later calls will see, with all that JSON does to it
  end
  if instance._record.http_user then session.identify(instance, user) end
  set(instance, user)
  local task = core.running()
  local ctx = task and call.ctx_of(task)
  if ctx and ctx[1] == instance._conn then rawset(ctx, "user", user) end
end

--- The token that a client shows: in Authorization (RFC 6750 section 2.1); for browsers, which cannot
--- set that on a WebSocket, as the subprotocol after "bearer"; or in the query as access_token.
---@param facts perigee.Scope
---@return string? token
---@return boolean? is_subprotocol
local function find_token(facts)
  local scheme, token = (facts.headers.authorization or ""):match("^(%a+) +(%S+)$")
  if scheme and scheme:lower() == "bearer" then return token end
  for i, name in ipairs(facts.subprotocols) do
    if name:lower() == "bearer" and facts.subprotocols[i + 1] then return facts.subprotocols[i + 1], true end
  end
  token = facts.query.access_token
  return token ~= "" and token or nil
end

--- Asks the app's `auth` whose token the client shows. False when it is nobody's.
---@param instance perigee.Instance
---@return boolean is_welcome
function M.authenticate(instance)
  local visitor = session.visitor(instance)
  if visitor.is_judged == nil then
    local token, is_subprotocol = find_token(instance.scope)
    local user
    if token and #token <= M.TOKEN_MAX then
      user = instance._record.options.auth(token, instance)
      if user then check_id(user, "auth") end
    end
    visitor.is_judged = token == nil or user ~= nil and user ~= false
    visitor.user, visitor.has_bearer = user or nil, is_subprotocol
  end
  return visitor.is_judged
end

--- The subprotocol to answer with when the client offers "bearer" and nothing else is chosen: browsers
--- give up a connection without one, and the token itself must not be said.
---@param instance perigee.Instance
---@return string?
function M.subprotocol(instance)
  if not session.visitor(instance).has_bearer then return nil end
  local offered = {}
  for _, name in ipairs(instance.scope.subprotocols) do offered[name] = true end
  for _, name in ipairs(instance._record.options.subprotocols or {}) do
    if offered[name] then return name end
  end
  return offered.bearer and "bearer" or nil
end

--- A WebSocket is about to open: who is it? False when its token is nobody's.
---@param instance perigee.Instance
---@return boolean is_welcome
function M.prepare(instance)
  local record = instance._record
  if record.options.auth and not M.authenticate(instance) then return false end
  local shown = session.visitor(instance).user
  if record.http_user then
    session.prepare(instance, function(kept)
      if shown == nil and kept ~= nil then set(instance, kept) end
    end)
    if session.visitor(instance).is_unread then unread.add(instance) end
  end
  if shown ~= nil then set(instance, shown) end
  return true
end

--- The user of an instance that has none: of an HTTP request, or of a WebSocket whose session could not be
--- asked when it opened.
---@param instance perigee.Instance
---@return any
function M.find(instance)
  local record = instance._record
  local user
  if instance.transport == "websocket" then
    if record.http_user then session.catch_up(instance) end
    return rawget(instance, "user")
  end
  if record.options.auth then
    M.authenticate(instance)
    user = session.visitor(instance).user
  end
  if user == nil and record.http_user then user = session.user(instance) end
  return user
end

--- A way for calls (perigee.call) that begins by asking whose token an HTTP request shows.
---@param run function
---@return function
function M.around(run)
  return function(record, m, conn, task, method, values, id, bits)
    if bits & core.envelope.HTTP ~= 0 and not M.authenticate(lifecycle.instance(record, conn, true)) then
      return nil, errors.refusal(errors.codes.unauthenticated)
    end
    return run(record, m, conn, task, method, values, id, bits)
  end
end

-- ---- all connections of a user --------------------------------------------------------------------

--- Sends a notification to all of a user's connections.
---@param encoding perigee.Encoding?
---@param user any a user, or a user's id
---@param method string
---@param params? table
---@param opts? { except?: any }
---@return integer reached
function M.notify(encoding, user, method, params, opts)
  return channel.notify_group(encoding, reserved.user(check_id(user, "notify_user")), method, params, opts)
end

local KICK <const> = "perigee.kick"
local ENDED <const> = "perigee.session_ended"

events.internal[KICK] = function(instance, event)
  for _, name in ipairs(event.except) do
    if name == instance.channel_name then return end
  end
  core.close(instance._conn, event.code, event.reason)
end

events.internal[ENDED] = function(instance)
  session.ended(instance)
  if session.visitor(instance).user == nil then set(instance, nil) end -- not who showed a token
end

lifecycle.users = M

session.tell_ended = function(name)
  events.tell({ group = name }, { type = ENDED })
end

local kick_options = { "user", "channel", "group", "code", "reason", "except" }

--- Closes connections, wherever they are.
---@param what { user?: any, channel?: string, group?: string, code?: integer, reason?: string, except?: any }
function M.kick(what)
  if type(what) ~= "table" then
    error("perigee.kick takes a table: { user = ... }, { channel = ... } or { group = ... }", 2)
  end
  for key in pairs(what) do
    local is_known = false
    for _, name in ipairs(kick_options) do is_known = is_known or name == key end
    if not is_known then
      error(("perigee.kick has no option '%s'%s"):format(tostring(key), spelling.hint(key, kick_options)), 2)
    end
  end
  local targets = (what.user ~= nil and 1 or 0) + (what.channel ~= nil and 1 or 0) + (what.group ~= nil and 1 or 0)
  if targets ~= 1 then error("perigee.kick takes one of user, channel and group", 2) end
  local code, reason = what.code == nil and 1008 or what.code, what.reason == nil and "kicked" or what.reason
  if math.type(code) ~= "integer" or not (code == 1000 or code == 1008 or code >= 3000 and code <= 4999) then
    error("perigee.kick: the code must be 1000, 1008 or 3000 to 4999", 2)
  end
  if type(reason) ~= "string" or #reason > 123 or not utf8.len(reason) then
    error("perigee.kick: the reason must be a text of at most 123 bytes", 2)
  end
  for _, key in ipairs { "channel", "group" } do
    if what[key] ~= nil and type(what[key]) ~= "string" then
      error(("perigee.kick: the %s must be a string"):format(key), 2)
    end
  end
  local name = what.group
  if what.user ~= nil then name = reserved.user(check_id(what.user, "perigee.kick")) end
  events.tell({ group = name, channel = what.channel }, {
    type = KICK, code = code, reason = reason, except = channel.channels_of(what.except),
  })
end

return M
