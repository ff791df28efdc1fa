--- Sessions: what belongs to a visitor and outlives connections.
---
---   first touch in a call ─▶ load ─▶ handler reads and writes ─▶ what differs ─▶ save ─▶ answer
---
--- Each call (or hook, or event) sees the session as it was when it first touched it, and its own
--- changes; two that change different keys both survive, of two that change the same key the later
--- one. So what is loaded belongs to the task: `Unit`. What the connection knows of the session, its
--- id above all, is the `Visitor`. A call that does not touch the session makes neither.
local call = require("perigee.call")
local clock = require("perigee.clock")
local cookie = require("perigee.cookie")
local core = require("perigee.core")
local errors = require("perigee.errors")
local group = require("perigee.group")
local report = require("perigee.report")
local reserved = require("perigee.reserved")
local scope = require("perigee.scope")
local state = require("perigee.state")

local M = {}

--- Seconds that a call waits for the store.
M.TIMEOUT = 10
--- Bytes that the keys and values of a session may have together, as JSON.
M.MAX = 256 * 1024
--- Bytes of a key.
M.KEY_MAX = 200
--- Random bytes of an id.
local ID_BYTES <const> = 32
--- Length of an id: what core.random_id(ID_BYTES) makes.
local ID_LEN <const> = 43
--- Where the session keeps what identify was given.
local USER <const> = "perigee.user"
local SLOT <const> = (1 << 20) - 1

--- Stands for a value that was removed.
local REMOVED <const> = {}

---@class perigee.Visitor
---@field id string? nil: there is no session yet
---@field is_stored boolean? the store had it when it was last asked
---@field given string? the id that the client holds a cookie for
---@field conn integer? nil: found by its id, has no connection
---@field is_http boolean
---@field is_secure boolean
---@field lines string? header lines for the handshake's answer
---@field user any over HTTP: what `auth` said
---@field is_open boolean? the handshake was answered
---@field free perigee.Unit? of a task that nobody saves for
---@field is_unread boolean? the store did not answer when its WebSocket opened: see M.prepare
---@field tell_user fun(user: any)? whom to tell, then, who the session says it is

---@class perigee.Unit
---@field visitor perigee.Visitor
---@field task integer
---@field is_stored boolean? it was loaded
---@field texts table<string, string> what the store has, as JSON
---@field values table<string, any> what was read or written, decoded
---@field bases table<string, string> tables that were read, encoded as they were then

-- ---- settings -----------------------------------------------------------------------------------

local is_open = false

--- Opens the store. Blocks, so when an app is loaded. Raises what is wrong and what to do.
function M.open()
  if is_open then return end
  local where = core.setting("sessions") or "memory"
  local file = where:match("^sqlite:(.+)$")
  local is_redis = where:find("^redis://") or where:find("^unix:")
  if is_redis then
    file = ("%s %s"):format(core.layer_prefix, where)
  elseif where == "sqlite" then
    file = state.folder() .. "/sessions.sqlite"
  elseif where == "memory" then
    file = ":memory:"
  elseif not file then
    error(("sessions: '%s' is no store; known are sqlite, sqlite:FILE, memory and redis://HOST"):format(where), 0)
  else
    state.judge_home("the session file", file, "--sessions sqlite:FILE")
  end
  core.store_open(file, is_redis ~= nil)
  is_open = true
end

---@return integer seconds
local function ttl()
  return core.setting("session_ttl") or 14 * 86400
end

--- A session's end is moved when it is used, but not more often than this.
---@return integer seconds
local function slack()
  return math.min(3600, ttl() // 100)
end

---@param is_secure boolean
---@return string
local function cookie_name(is_secure)
  return cookie.name(core.setting("session_cookie") or "perigee_session", is_secure)
end

-- ---- the store ----------------------------------------------------------------------------------

local function unavailable(message)
  error(errors.new { code = errors.codes.unavailable, message = "Unavailable: " .. message }, 0)
end

--- Has the store do something, and waits for it.
---@param begin function core.store_load, ...
---@return boolean ok
---@return any ... what the job returns
local function ask(begin, ...)
  M.open()
  local task, wait = core.wait_open()
  local job = begin(task, wait, ...)
  if not job then unavailable("too many calls wait for the session store") end
  if not core.park(M.TIMEOUT, wait) then unavailable("the session store does not answer") end
  local function settle(ok, value, ...)
    if not ok and value == "failed" then unavailable("the session store failed") end
    return ok, value, ...
  end
  return settle(job())
end

-- ---- visitors -----------------------------------------------------------------------------------

--- Visitors of HTTP requests, by connection: the calls of a batch are one visitor's.
---@type table<integer, perigee.Visitor>
local over_http = setmetatable({}, { __mode = "v" })

---@param text any
---@return boolean
local function is_id(text)
  return type(text) == "string" and #text == ID_LEN and not text:find("[^%w_-]")
end

--- The scope of an instance. Read for this once unless the app has asked for it already: the tables of a
--- whole head are much to keep for as long as a WebSocket is open.
---@param instance perigee.Instance
---@return perigee.Scope?
local function facts_of(instance)
  local known = rawget(instance, "scope")
  if known then return known end
  local head = rawget(instance, "_head") or core.head(instance._conn)
  return head and scope.read(head, instance._record.path)
end

--- The visitor behind an instance.
---@param instance perigee.Instance
---@return perigee.Visitor
function M.visitor(instance)
  local visitor = rawget(instance, "_visitor")
  if visitor then return visitor end
  local conn, is_http = instance._conn, instance.transport == "http"
  visitor = is_http and over_http[conn]
  if not visitor then
    local facts = facts_of(instance)
    local is_secure = facts ~= nil and (facts.scheme == "https" or facts.scheme == "wss")
    visitor = { conn = conn, is_http = is_http, is_secure = is_secure }
    local given = facts and cookie.find(facts.headers.cookie, cookie_name(is_secure))
    if is_id(given) then visitor.id, visitor.given = given, given end
    if is_http then over_http[conn] = visitor end
  end
  rawset(instance, "_visitor", visitor)
  return visitor
end

--- The client holds on to a cookie that is worth nothing, once there is an id that it does not get to know.
---@param visitor perigee.Visitor
---@param why string and what to do
local function warn_of_lost_id(visitor, why)
  if not visitor.id or visitor.given == visitor.id or visitor.is_warned then return end
  visitor.is_warned = true
  local event, fields = "a session's new id cannot reach its client: " .. why, { conn = ("%x"):format(visitor.conn) }
  if report.is_due("warn", fields, event) then core.log("warn", event, fields) end
end

--- Sends the client the cookie of the id the visitor has now, when an answer is to come.
---@param visitor perigee.Visitor
---@param renew? boolean also when the client has it already
local function give_cookie(visitor, renew)
  if not visitor.conn or visitor.given == visitor.id and not renew then return end
  local line = cookie.line(cookie_name(visitor.is_secure), visitor.id or "", visitor.id and ttl() or 0,
    visitor.is_secure, core.setting("session_same_site"))
  if visitor.is_http then
    if core.answer_lines(visitor.conn, line) then
      visitor.given = visitor.id
    else
      warn_of_lost_id(visitor, "its request is over; begin or rotate the session before the answer")
    end
  elseif not visitor.is_open then
    visitor.lines, visitor.given = line, visitor.id
  else
    warn_of_lost_id(visitor, "an open WebSocket has no answer for the cookie; sign in over HTTP POST")
  end
end

--- Does a connection hold that id, given to it by this server, although nothing is stored yet?
---@param id string
---@return boolean
local function is_held(id)
  return core.group_count(reserved.session(id)) > 0
end

--- The visitor's WebSocket hears of what happens to the session from elsewhere.
---@param visitor perigee.Visitor
---@param id string?
local function move(visitor, id)
  local old = visitor.id
  visitor.id = id
  if visitor.is_http or not visitor.conn then return end
  if old then core.group_discard(visitor.conn, reserved.session(old)) end
  if id then core.group_add(visitor.conn, reserved.session(id)) end
end

--- A session is over, or has got another id: what perigee.user does about its other connections.
---@type fun(group: string)
M.tell_ended = function() end

--- This connection's session has ended elsewhere.
---@param instance perigee.Instance
function M.ended(instance)
  local visitor = M.visitor(instance)
  move(visitor, nil)
  visitor.is_stored = false
end

-- ---- units --------------------------------------------------------------------------------------

--- Units of calls, hooks and other tasks that save when they end, by the slot in the task's id. Tasks
--- reuse their slots, so those of a call that has failed may lie here: their own task id tells.
---@type table<integer, { task: integer, [integer]: perigee.Unit }>
local touched = {}

--- The unit that was touched last: nearly always the one that is touched next.
---@type table<perigee.Visitor, perigee.Unit>
local last = setmetatable({}, { __mode = "kv" })

--- The list of units that are saved when the task ends; nil when nobody does that.
---@param task integer
---@return perigee.Unit[]?
local function units_of(task)
  local units = touched[task & SLOT]
  if units and units.task == task then return units end
  if not call.ctx_of(task) then return nil end
  units = { task = task }
  touched[task & SLOT] = units
  return units
end

---@param unit perigee.Unit
---@param key string
local function get(unit, key)
  local value = unit.values[key]
  if value ~= nil then
    if value == REMOVED then return nil end
    return value
  end
  local text = unit.texts[key]
  if not text then return nil end
  local err
  value, err = core.json_decode(text)
  if err then error(("the session's '%s' is damaged in the store: %s"):format(key, err), 0) end
  unit.values[key] = value
  if type(value) == "table" then unit.bases[key] = core.json_encode(value) end
  return value
end

--- A WebSocket has read the session that its client names, and belongs to its user.
---@param unit perigee.Unit
local function make_up(unit)
  local visitor = unit.visitor
  local tell = visitor.tell_user
  visitor.is_unread, visitor.tell_user = nil, nil
  tell(get(unit, USER))
end

--- Fills a unit from the store.
---@param unit perigee.Unit
local function load(unit)
  local visitor = unit.visitor
  local id = visitor.id
  if not id then return end
  local now, span = clock.wall(), ttl()
  local ok, fields, is_touched = ask(core.store_load, id, now, now + span, now + span - slack())
  if visitor.id ~= id then -- it got another meanwhile, or has ended
    load(unit)
  elseif ok then
    unit.texts, unit.is_stored, visitor.is_stored = fields, true, true
    if is_touched then give_cookie(visitor, true) end
  else
    -- what the client sent is not adopted: an id must be known here
    if visitor.is_stored or visitor.conn and not is_held(id) then move(visitor, nil) end
    visitor.is_stored = false
  end
end

--- Fills the first unit of a WebSocket whose client names a session. Only who is known joins those who hear of
--- the session's end, as they vouch for its id; it may have ended before that, so the store is asked again.
---@param unit perigee.Unit
local function meet(unit)
  local visitor = unit.visitor
  load(unit)
  if visitor.id then
    group.add(visitor.conn, reserved.session(visitor.id))
    unit.texts, unit.is_stored = {}, false
    load(unit)
  end
  if visitor.is_unread then make_up(unit) end -- else another task has met it meanwhile
end

--- What the running task sees of a visitor's session.
---@param visitor perigee.Visitor
---@return perigee.Unit
local function unit_of(visitor)
  local task = core.running()
  if not task then error("a session cannot be used here: this code runs while its app is loaded", 3) end
  local unit = last[visitor]
  if unit and unit.task == task then return unit end
  local units = units_of(task)
  for _, other in ipairs(units or {}) do
    if other.visitor == visitor then
      last[visitor] = other
      return other
    end
  end
  unit = { visitor = visitor, task = task, texts = {}, values = {}, bases = {} }
  if visitor.is_unread then meet(unit) else load(unit) end
  if units then units[#units + 1] = unit else visitor.free = unit end
  last[visitor] = unit
  return unit
end

---@param unit perigee.Unit
---@param key string
local function set(unit, key, value)
  if value == nil then value = REMOVED end
  unit.values[key] = value
end

--- What differs from the store, nested changes included: JSON by key, false for what is removed.
---@param unit perigee.Unit
---@return table<string, string|false>? changes nil: nothing
local function differences(unit)
  local changes
  local texts, bases = unit.texts, unit.bases
  for key, value in pairs(unit.values) do
    local text = false
    if value ~= REMOVED then
      local err
      text, err = core.json_encode(value)
      if not text then error(("the session's '%s' cannot be kept: %s"):format(key, err), 0) end
    end
    local before = bases[key] or texts[key] or false
    if text ~= before then
      changes = changes or {}
      changes[key] = text
    end
  end
  return changes
end

---@param unit perigee.Unit
---@param changes table<string, string|false>
local function check_size(unit, changes)
  local bytes = 0
  for key, text in pairs(changes) do bytes = bytes + (text and #key + #text or 0) end
  for key, text in pairs(unit.texts) do
    if changes[key] == nil then bytes = bytes + #key + #text end
  end
  if bytes > M.MAX then
    error(("the session would have %d bytes, more than %d: keep large things elsewhere"):format(bytes, M.MAX), 0)
  end
end

--- Saves changes, under a new id when there is one. False when the session has ended meanwhile.
---@param unit perigee.Unit
---@param changes table<string, string|false>
---@param new_id? string
---@return boolean
local function save(unit, changes, new_id)
  local visitor, now = unit.visitor, clock.wall()
  check_size(unit, changes)
  if not visitor.id then move(visitor, core.random_id(ID_BYTES)) end
  local id = visitor.id
  local ok = ask(core.store_save, id, now, now + ttl(), changes, not visitor.is_stored, new_id)
  if not ok then -- has it another id meanwhile?
    return visitor.id ~= id and visitor.id ~= nil and save(unit, changes, new_id)
  end
  if visitor.id == id then -- nobody has moved it while we waited
    visitor.is_stored = true
    if new_id then move(visitor, new_id) end
    give_cookie(visitor)
  end
  for key, text in pairs(changes) do
    unit.texts[key], unit.bases[key] = text or nil, text or nil
  end
  return true
end

---@param unit perigee.Unit
local function commit(unit)
  local changes, visitor = differences(unit), unit.visitor
  if not changes then return end
  if unit.is_stored and not visitor.id or not save(unit, changes) then -- what has ended is not begun again
    local event, fields = "a session ended while a call was changing it", {}
    if report.is_due("info", fields, event) then core.log("info", event, fields) end
    visitor.is_stored = false
    move(visitor, nil)
  end
end

--- Saves what a task's units have changed.
---@param units perigee.Unit[]
local function commit_all(units)
  for i = 1, #units do commit(units[i]) end
end

-- ---- calls, hooks, tasks ------------------------------------------------------------------------

--- A way for calls (perigee.call) that saves before the answer. An error that is raised, other than
--- one that is returned, saves nothing.
---@param run function perigee.call's plain or guarded
---@return function
function M.around(run)
  return function(record, m, conn, task, method, values, id, bits)
    local result, err = run(record, m, conn, task, method, values, id, bits)
    local units = touched[task & SLOT] -- all that a call pays that has not touched it
    if units and units.task == task then
      commit_all(units)
      touched[task & SLOT] = nil
    end
    return result, err
  end
end

--- Runs a function, in its own task or the running one, and saves what it has changed.
---@param fn function
---@param ... any
---@return any result
function M.run(fn, ...)
  local task = core.running()
  local units = { task = task }
  touched[task & SLOT] = units
  local result, more = fn(...)
  commit_all(units)
  touched[task & SLOT] = nil
  return result, more
end

--- core.spawn for what belongs to a visitor.
---@param fn function
---@param ... any
function M.spawn(fn, ...)
  core.spawn(M.run, fn, ...)
end

--- Saves what the running hook has changed so far: before a handshake is accepted.
function M.flush()
  local task = core.running()
  local units = task and units_of(task)
  if units then commit_all(units) end
end

--- A WebSocket is about to open. Who brings a session's id is looked up: what is sent to its user is to
--- reach this connection as well. A stranger gets an id to begin a session with, which no store knows yet.
--- Where the store does not answer, the connection opens as a stranger's: the first touch asks again, and
--- perigee.unread.
---@param instance perigee.Instance
---@param tell_user fun(user: any) called with whom the session keeps: now, or with the first touch
function M.prepare(instance, tell_user)
  local visitor = M.visitor(instance)
  if visitor.id then
    visitor.is_unread, visitor.tell_user = true, tell_user
    local ok, err = pcall(unit_of, visitor)
    if not ok then
      if errors.is(err) and err.code == errors.codes.unavailable then return end
      error(err, 0)
    end
  end
  if not visitor.id then
    move(visitor, core.random_id(ID_BYTES))
    give_cookie(visitor)
  end
end

--- Header lines for the answer to the handshake; from now on there are none.
---@param instance perigee.Instance
---@return string?
function M.take_lines(instance)
  local visitor = M.visitor(instance)
  local lines = visitor.lines
  visitor.lines, visitor.is_open = nil, true
  return lines
end

-- ---- what apps hold -----------------------------------------------------------------------------

---@class perigee.Session
---@field [string] any
local methods = {}

--- Where a session has its visitor. It has nothing else, so that every access is seen.
local VISITOR <const> = {}

--- Saves now what this call has changed so far.
function methods:save()
  local unit = unit_of(self[VISITOR])
  commit(unit)
end

--- Gives the session a new id: who knew the old one has nothing. Saves what has changed.
---@return string id
function methods:rotate()
  return M.rotate(self[VISITOR])
end

--- Ends the session: for all who share it. What is set from then on begins a new one.
function methods:destroy()
  local visitor = self[VISITOR]
  local unit = unit_of(visitor)
  local id = visitor.id
  unit.texts, unit.values, unit.bases, unit.is_stored = {}, {}, {}, false
  if not id then return end
  ask(core.store_destroy, id, clock.wall())
  visitor.is_stored = false
  move(visitor, nil)
  give_cookie(visitor)
  M.tell_ended(reserved.session(id))
end

--- The session's id, a secret; nil when there is nothing in the store yet.
---@return string?
function methods:id()
  local visitor = self[VISITOR]
  unit_of(visitor)
  return visitor.is_stored and visitor.id or nil
end

---@param key any
local function check_key(key)
  if type(key) ~= "string" or key == "" or #key > M.KEY_MAX then
    error(("a session's keys are strings of 1 to %d bytes, not %s"):format(M.KEY_MAX,
      type(key) == "string" and #key .. " bytes" or "a " .. type(key)), 3)
  end
  if methods[key] or key == USER or key:byte() == 0 then
    error(("session.%s is the server's own: choose another name"):format((key:gsub("%c", "?"))), 3)
  end
end

local proxy_mt = {
  __name = "perigee.session",
  __metatable = "perigee.session",
  __index = function(self, key)
    local method = methods[key]
    if method then return method end
    if key == USER then return nil end
    return get(unit_of(rawget(self, VISITOR)), key)
  end,
  __newindex = function(self, key, value)
    check_key(key)
    set(unit_of(self[VISITOR]), key, value)
  end,
  __pairs = function(self)
    local unit, all = unit_of(self[VISITOR]), {}
    for key in pairs(unit.texts) do all[key] = get(unit, key) end
    for key in pairs(unit.values) do all[key] = get(unit, key) end
    all[USER] = nil
    return next, all
  end,
}

---@param visitor perigee.Visitor
---@return perigee.Session
local function new_proxy(visitor)
  return setmetatable({ [VISITOR] = visitor }, proxy_mt)
end

--- The session behind an instance.
---@param instance perigee.Instance
---@return perigee.Session
function M.of(instance)
  return new_proxy(M.visitor(instance))
end

--- The session with that id, for code that has no connection of its visitor's; nil when there is none.
--- Outside of calls and hooks save it yourself.
---@param id string
---@return perigee.Session?
function M.find(id)
  if not is_id(id) then return nil end
  local visitor = { id = id, is_http = false, is_secure = false }
  unit_of(visitor)
  return visitor.is_stored and new_proxy(visitor) or nil
end

---@param visitor perigee.Visitor
---@return string id
function M.rotate(visitor)
  local unit = unit_of(visitor)
  local changes, old, new_id = differences(unit) or {}, visitor.id, core.random_id(ID_BYTES)
  if not (visitor.is_stored and save(unit, changes, new_id)) then
    -- there was none, or it has ended meanwhile: a new one, with what this call has set
    visitor.is_stored = false
    move(visitor, nil)
    save(unit, changes)
  end
  if old and old ~= visitor.id then M.tell_ended(reserved.session(old)) end
  return visitor.id
end

--- Asks the store after all, when it did not answer as the WebSocket opened: M.prepare's tell_user hears.
---@param instance perigee.Instance
function M.catch_up(instance)
  local visitor = M.visitor(instance)
  if visitor.is_unread then unit_of(visitor) end
end

--- What identify was given, in the session.
---@param instance perigee.Instance
---@return any
function M.user(instance)
  return get(unit_of(M.visitor(instance)), USER)
end

--- Keeps who the visitor is, under a new id.
---@param instance perigee.Instance
---@param user any nil: nobody
function M.identify(instance, user)
  local visitor = M.visitor(instance)
  set(unit_of(visitor), USER, user)
  M.rotate(visitor)
end

return M
