--- Consumer instances: made when Lua first needs one, told when their connection opens, speaks
--- something else than JSON-RPC, and ends.
local core = require("perigee.core")
local errors = require("perigee.errors")
local group = require("perigee.group")
local headers = require("perigee.headers")
local pending = require("perigee.pending")
local report = require("perigee.report")
local reserved = require("perigee.reserved")
local session = require("perigee.session")
local signals = require("perigee.signals")

local M = {}

--- Instances of open WebSockets, by connection id.
---@type table<integer, perigee.Instance>
local open = {}

--- Instances whose connection is over, or not accepted yet, while somebody may ask for them.
---@type table<integer, perigee.Instance>
local ended = setmetatable({}, { __mode = "v" })

---@param record perigee.Record
---@param conn integer
---@param transport string
---@return perigee.Instance
local function make(record, conn, transport)
  return setmetatable({ _conn = conn, transport = transport }, record.instance_mt)
end

--- The instance of a connection: one for as long as a WebSocket is open, a new one for each HTTP
--- request.
---@param record perigee.Record
---@param conn integer
---@param is_http boolean
---@return perigee.Instance
function M.instance(record, conn, is_http)
  if is_http then return make(record, conn, "http") end
  local self = open[conn] or ended[conn]
  if not self then
    self = make(record, conn, "websocket")
    if core.touch(conn) then open[conn] = self else ended[conn] = self end
  end
  return self
end

--- Code that outlives the call it comes from knows the call's request all the same: who asked, and what.
---@param self perigee.Instance
function M.keep(self)
  if self.transport ~= "http" or rawget(self, "_head") then return end
  rawset(self, "_head", core.head(self._conn))
  if self._record.knows_users then session.visitor(self) end
end

--- Answers the handshake with 101. From here on the instance belongs to an open connection.
---@param self perigee.Instance
---@param options? { subprotocol?: string, headers?: table<string, string> }
---@return boolean accepted false when the client is gone already
function M.accept(self, options)
  if rawget(self, "_settled") then error("accept: this connection was accepted or rejected already", 2) end
  options = options or {}
  local subprotocol = options.subprotocol
  if subprotocol ~= nil and not headers.is_token(subprotocol) then
    error("accept: subprotocol must be a token", 2)
  end
  local lines = headers.lines(options.headers)
  if self._record.knows_users then
    session.flush() -- may fail or wait: nothing is settled yet
    if rawget(self, "_settled") then error("accept: this connection was accepted or rejected meanwhile", 2) end
    lines = (lines or "") .. (session.take_lines(self) or "")
    subprotocol = subprotocol or M.users.subprotocol(self)
  end
  rawset(self, "_settled", true)
  local conn = self._conn
  core.touch(conn)
  if not core.accept(conn, subprotocol, lines) then return false end
  open[conn] = self
  if not self._record.is_own then signals.emit("client_connected", { consumer = self }) end
  return true
end

--- Answers the handshake with an error.
---@param self perigee.Instance
---@param status? integer
---@param body? string
---@param fields? table<string, string> headers
function M.reject(self, status, body, fields)
  if rawget(self, "_settled") then error("reject: this connection was accepted or rejected already", 2) end
  local lines = headers.lines(fields)
  rawset(self, "_settled", true)
  if self._record.knows_users then lines = (lines or "") .. (session.take_lines(self) or "") end
  core.reject(self._conn, status or 403, body or "", lines)
end

--- perigee.user, which needs this file.
---@type { prepare: fun(self: perigee.Instance): boolean, subprotocol: fun(self: perigee.Instance): string? }
M.users = nil

--- Everything that happens before a handshake is answered.
---@param record perigee.Record
---@param self perigee.Instance
local function open_up(record, self)
  local conn = self._conn
  if record.knows_users and not M.users.prepare(self) then
    M.reject(self, 401, "401 Unauthorized\n", { ["WWW-Authenticate"] = 'Bearer error="invalid_token"' })
    return
  end
  local groups = record.groups
  if type(groups) == "function" then groups = groups(self) end
  for _, name in ipairs(groups or {}) do
    reserved.check(name, "groups")
    group.add(conn, name)
  end
  local hook = rawget(record.class, "connect")
  if hook and hook(self) == false and not rawget(self, "_settled") then
    M.reject(self)
    return
  end
  if not rawget(self, "_settled") then M.accept(self) end
end

--- What C calls before a handshake is answered.
---@param record perigee.Record
---@param conn integer
function M.connect(record, conn)
  local self = make(record, conn, "websocket")
  ended[conn] = self -- not open yet, but events may ask for it while the hook waits
  if record.http_user then session.run(open_up, record, self) else open_up(record, self) end
end

--- What C calls for an error that escaped before a handshake was answered. What is unavailable for now is
--- no fault of the app's; all else is, and C answers it with 500.
---@param record perigee.Record
---@param conn integer
---@param err any
---@param co? thread
function M.connect_failed(record, conn, err, co)
  local self = ended[conn]
  local is_passing = errors.is(err) and err.code == errors.codes.unavailable
  if not (self and is_passing) or rawget(self, "_settled") then -- too late for a 503
    report.report(err, co, "connect", record.path, conn)
  else
    M.reject(self, 503, ("503 Service Unavailable: %s\n"):format(err.message), { ["Retry-After"] = "5" })
  end
end

--- What C calls for a frame that is not JSON-RPC.
---@param record perigee.Record
---@param conn integer
---@param data string
---@param is_binary boolean
function M.receive(record, conn, data, is_binary)
  local self = M.instance(record, conn, false)
  local hook = rawget(record.class, "receive")
  if not hook then return end
  if record.http_user then session.run(hook, self, data, is_binary) else hook(self, data, is_binary) end
end

--- What C calls when an accepted WebSocket is over, exactly once.
---@param record perigee.Record
---@param conn integer
---@param code integer
---@param reason string
---@param head string for scope, which the connection can no longer tell
function M.disconnect(record, conn, code, reason, head)
  local self = open[conn] or make(record, conn, "websocket")
  open[conn] = nil
  rawset(self, "_head", head)
  ended[conn] = self
  pending.abandon(conn)
  if not record.is_own then
    signals.emit("client_disconnected", { consumer = self, code = code, reason = reason })
  end
  local hook = rawget(record.class, "disconnect")
  if not hook then return end
  if record.http_user then session.run(hook, self, code, reason) else hook(self, code, reason) end
end

return M
