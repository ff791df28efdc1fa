--- One call of a handler: signals, middleware, permission and parameters around it.
---
--- Each method knows which way its calls go: `plain`, which costs as little as a call can, `checked`,
--- which is that with a schema, or `guarded`, which does everything. perigee.consumer chooses when a
--- method is registered, and again when something changes that concerns it.
local core = require("perigee.core")
local errors = require("perigee.errors")
local params = require("perigee.params")
local report = require("perigee.report")
local signals = require("perigee.signals")
local traffic = require("perigee.traffic")
local uv = require("luv")

local codes = errors.codes
local unpack = table.unpack
local setmetatable = setmetatable
local hold = params.hold

local M = {}

-- Bits and places as constants: an upvalue would cost an instruction at each use (and Lua folds only
-- constants that have a declaration of their own). perigee.rpc holds the bits against C's.
local PARAMS_ARRAY <const> = 1 << 8
local PARAMS_OBJECT <const> = 1 << 9
local SLOT <const> = (1 << 20) - 1
local CONN <const> = 1
local TASK <const> = 2
local METHOD <const> = 4
local PARAMS <const> = 5
local ENTRY <const> = 7
local STARTED <const> = 8

--- ctx of the call that each task runs, by the slot in a task's id (server/bridge/task.c). Tasks
--- reuse their slots, so an old ctx may lie here: its own task id tells.
---@type table<integer, perigee.Ctx>
local calls = {}

--- The ctx of the call that a task runs, if any.
---@param task integer?
---@return perigee.Ctx?
function M.ctx_of(task)
  local ctx = task and calls[task & SLOT]
  return ctx and rawget(ctx, TASK) == task and ctx or nil
end

--- The record that the call of a task began with. Its app may have been loaded anew since.
---@param task integer?
---@param record perigee.Record
---@return perigee.Record
function M.record_of(task, record)
  local ctx = M.ctx_of(task)
  local mt = ctx and getmetatable(ctx) -- which a handler may have replaced
  return type(mt) == "table" and mt.__name == "perigee.ctx" and mt.record or record
end

--- Lets go of calls that have ended: a ctx holds on to the code it came from.
function M.forget_ended()
  for slot, ctx in pairs(calls) do
    if not core.is_task(ctx[TASK]) then calls[slot] = nil end
  end
end

--- The task of a connection's call with that id, or nil.
---@param conn integer
---@param id any
---@return integer?
function M.find(conn, id)
  for _, ctx in pairs(calls) do
    if ctx[1] == conn and ctx[6] == id and core.is_task(ctx[TASK]) then return ctx[TASK] end
  end
end

--- Method entry of a ctx.
---@param ctx perigee.Ctx
---@return perigee.Method
function M.entry(ctx)
  return ctx[ENTRY]
end

---@param record perigee.Record
---@param m perigee.Method
---@param conn integer
---@param task integer
---@param method string
---@param values any what the client sent as params
---@param id any
---@param bits integer
---@return any result nil with an error object or text for `return nil, err`
---@return any err
function M.plain(record, m, conn, task, method, values, id, bits)
  local ctx = setmetatable({ conn, task, bits, method, values, id, m }, record.ctx_mt)
  calls[task & SLOT] = ctx
  if bits & PARAMS_ARRAY ~= 0 then
    local n = #values
    if n > m.arity and not m.is_vararg then
      return nil, params.too_many(m, n)
    elseif n == 1 then
      return m.fn(ctx, values[1])
    elseif n == 2 then
      return m.fn(ctx, values[1], values[2])
    end
    return m.fn(ctx, unpack(values, 1, n))
  elseif bits & PARAMS_OBJECT ~= 0 then
    local bound, wrong = params.by_name(m, values)
    if not bound then return nil, wrong end
    return m.fn(ctx, unpack(bound, 1, m.arity))
  end
  return m.fn(ctx)
end

--- As M.plain, for a method that has a schema and nothing else around its calls.
function M.checked(record, m, conn, task, method, values, id, bits)
  local ctx = setmetatable({ conn, task, bits, method, values, id, m }, record.ctx_mt)
  calls[task & SLOT] = ctx
  local arity, n = m.arity, 0
  if bits & PARAMS_ARRAY ~= 0 then
    n = #values
    if n > arity then return nil, params.too_many(m, n) end
  elseif bits & PARAMS_OBJECT ~= 0 then
    local wrong
    values, wrong = params.by_name(m, values)
    if wrong then return nil, wrong end
    n = arity
  end
  if n == 0 then values = {} end
  if arity > 3 then
    values = { unpack(values, 1, n) } -- ctx.params stays as it came
    local wrong = params.check(m, values)
    if wrong then return nil, wrong end
    return m.fn(ctx, unpack(values, 1, arity))
  end
  -- most have few, and need no table of their own
  local a, b, c, wrong
  if arity >= 1 then
    a, wrong = hold(m, 1, values[1])
    if wrong then return nil, wrong end
  end
  if arity >= 2 then
    b, wrong = hold(m, 2, values[2])
    if wrong then return nil, wrong end
  end
  if arity == 3 then
    c, wrong = hold(m, 3, values[3])
    if wrong then return nil, wrong end
    return m.fn(ctx, a, b, c)
  elseif arity == 2 then
    return m.fn(ctx, a, b)
  elseif arity == 1 then
    return m.fn(ctx, a)
  end
  return m.fn(ctx)
end

-- ---- the guarded way ----------------------------------------------------------------------------

--- Is the caller allowed? Returns an error if not.
local function deny(record, m, ctx)
  local permission = m.permission
  local allowed
  if type(permission) == "function" then
    allowed = permission(ctx)
  else
    allowed = record.class.has_permission(ctx, permission)
  end
  if allowed then return nil end
  -- a hidden method must not be told from one that does not exist
  if m.hidden then return errors.refusal(codes.method_not_found, nil, { method = m.name }) end
  return errors.refusal(codes.forbidden, nil, type(permission) == "string" and { permission = permission } or nil)
end

--- The handler's values out of ctx.params, which middleware may have changed: from an object to an
--- array, say. So they are taken for what they look like, not for what the client sent.
local function bind(m, ctx)
  local given = ctx.params
  local values, n
  if given == nil then
    values, n = {}, 0
  elseif #given == 0 and next(given) ~= nil then
    local wrong
    values, wrong = params.by_name(m, given)
    if not values then return nil, nil, wrong end
    n = m.arity
  else
    n = #given
    if n > m.arity and not m.is_vararg then return nil, nil, params.too_many(m, n) end
    values = m.schemas and { unpack(given, 1, n) } or given
  end
  if m.schemas then
    local wrong = params.check(m, values)
    if wrong then return nil, nil, wrong end
    n = m.arity
  end
  return values, n
end

local function run_handler(record, m, ctx)
  if m.permission then
    local denied = deny(record, m, ctx)
    if denied then return nil, denied end
  end
  if m.verb then return m.fn(ctx) end -- a route: perigee.http
  local values, n, wrong = bind(m, ctx)
  if not values then return nil, wrong end
  return m.fn(ctx, unpack(values, 1, n))
end

--- The i-th middleware around the rest.
local function run_middleware(record, m, ctx, i)
  local middleware = record.middleware[i]
  if not middleware then return run_handler(record, m, ctx) end
  local was_called = false
  return middleware(ctx, function()
    if was_called then error("middleware: next() was called twice", 2) end
    was_called = true
    return run_middleware(record, m, ctx, i + 1)
  end)
end

--- Does the result fit opts.result? Looked at in dev and tests only.
local function check_result(m, result)
  local schema = m.result
  if result == nil or result == core.null then
    if schema.optional then return end
    result = core.null
  end
  local expected, where, got = schema.check(result)
  if not expected then return end
  error(("the result of '%s' does not fit its schema: result%s must be %s, got %s"):format(
    m.name, where, expected, tostring(got)), 0)
end

--- As M.plain, with all that may surround a call.
function M.guarded(record, m, conn, task, method, values, id, bits)
  local ctx = setmetatable({ conn, task, bits, method, values, id, m, uv.hrtime() }, record.ctx_mt)
  calls[task & SLOT] = ctx
  local is_watched = signals.watches_calls() and not m.verb
  if is_watched then signals.emit("rpc_method_started", { ctx = ctx }) end
  local result, err = run_middleware(record, m, ctx, 1)
  if result == nil and err then return nil, err end
  if core.is_stopped(task) then return result end -- its time was over: perigee.rpc tells everybody
  if m.result and M.checks_results then check_result(m, result) end
  if is_watched then
    signals.emit("rpc_method_completed", { ctx = ctx, result = result, seconds = M.seconds(ctx) })
  end
  return result
end

--- Results are held against opts.result in dev and in tests.
M.checks_results = core.is_dev

--- Seconds since a guarded call began.
---@param ctx perigee.Ctx
---@return number
function M.seconds(ctx)
  local started = rawget(ctx, STARTED)
  return started and (uv.hrtime() - started) / 1e9 or 0
end

--- A call has ended with an error: tells who wants to know, before the reply.
---@param record perigee.Record
---@param ctx perigee.Ctx?
---@param err perigee.Error|perigee.Fault
function M.tell_error(record, ctx, err)
  if not ctx then return end
  if traffic.is_watched then traffic.finish(record, ctx[METHOD], ctx[CONN], ctx[TASK], ctx[PARAMS], err) end
  for _, fn in ipairs(err.is_refusal and {} or record.on_error) do
    local ok, fault = xpcall(fn, report.fault, ctx, err)
    if not ok then report.log(fault, "on_error failed", { path = record.path, method = ctx.method }) end
  end
  if signals.watches_calls() and not ctx[ENTRY].verb then
    signals.emit("rpc_method_failed", { ctx = ctx, error = err, seconds = M.seconds(ctx) })
  end
end

--- Does this method need the guarded way?
---@param record perigee.Record
---@param m perigee.Method
---@return boolean
local function needs_guard(record, m)
  return #record.middleware > 0 or m.permission ~= nil or (m.result ~= nil and M.checks_results)
    or signals.watches_calls()
end

--- As the method's own way, with its time taken. Calls that end with an error are told by tell_error.
local function measured(record, m, conn, task, method, values, id, bits)
  traffic.begin(task)
  local result, err = m.way(record, m, conn, task, method, values, id, bits)
  if result ~= nil or not err then traffic.finish(record, method, conn, task, values) end
  return result, err
end

--- The way that calls of a method go.
---@param record perigee.Record
---@param m perigee.Method
---@return function
function M.choose(record, m)
  m.way = needs_guard(record, m) and M.guarded or m.schemas and M.checked or M.plain
  return traffic.is_watched and not record.is_own and measured or m.way
end

return M
