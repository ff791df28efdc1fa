--- JSON-RPC 2.0 and 1.0: the only place that knows their rules.
---
--- C reads a message's members and tells the facts as bits (core.envelope); what they mean is
--- decided here. Every function that C calls returns three values:
---
---   value   what goes on the wire: a result, or an error as a plain table
---   style   how: core.envelope.RESULT_2, ERROR_2, RESULT_1, ERROR_1, SILENT; nil means RESULT_2
---   status  HTTP status, for consumers with http_status = "mapped"; nil means 200
local call = require("perigee.call")
local channel = require("perigee.channel")
local core = require("perigee.core")
local errors = require("perigee.errors")
local pending = require("perigee.pending")
local report = require("perigee.report")
local spelling = require("perigee.spelling")
local traffic = require("perigee.traffic")

local E = core.envelope
local codes = errors.codes

local M = {}

-- The bits that the path of a plain call looks at, as constants (which Lua folds only when each has
-- a declaration of its own): an upvalue would cost an instruction at each use. Held against C's below.
local HTTP <const> = 1 << 17
--- What a plain call may have on top of a version, a method and an id. Anything else needs a closer
--- look.
local EXTRA <const> = 1 << 8 | 1 << 9 | 1 << 17 | 1 << 18
local PLAIN <const> = 1 << 4 | 1 << 6 | 1 << 12
assert(1 << 8 == E.PARAMS_ARRAY and 1 << 9 == E.PARAMS_OBJECT and HTTP == E.HTTP)
assert(EXTRA == E.PARAMS_ARRAY | E.PARAMS_OBJECT | E.HTTP | E.BATCH)
assert(PLAIN == E.VERSION_2 | E.METHOD | E.ID)
local BATCH = E.BATCH

-- Places in a ctx.
local CONN <const> = 1
local METHOD <const> = 4

-- ---- what goes back -----------------------------------------------------------------------------

--- Does the sender expect an answer? A 1.0 notification has a null id; in 2.0 that is a request.
---@param bits integer
---@return boolean
local function is_notification(bits)
  if bits & E.VERSION_2 ~= 0 then return bits & (E.ID | E.ID_NULL | E.ID_BAD) == 0 end
  return bits & (E.ID | E.ID_BAD) == 0
end

---@param bits integer
---@return boolean
local function is_v1(bits)
  return bits & (E.VERSION_2 | E.VERSION_OTHER) == 0 and bits & (E.METHOD | E.METHOD_BAD) ~= 0
    and bits & BATCH == 0
end

--- HTTP status of an error code, as the seed and the historical note on JSON-RPC over HTTP have it.
---@param code integer
---@return integer
local function http_status(code)
  if code == codes.invalid_request then return 400 end
  if code == codes.method_not_found then return 404 end
  return 500
end

--- An error for the sender, who may have sent something too broken to be a notification.
---@param record perigee.Record
---@param bits integer
---@param err table
local function answer_error(record, bits, err)
  return err, is_v1(bits) and E.ERROR_1 or E.ERROR_2,
    record.is_mapped and http_status(err.code) or nil
end

--- An error of a well-formed call: notifications stay silent.
local function call_error(record, bits, err)
  if is_notification(bits) then return nil, E.SILENT end
  return answer_error(record, bits, err)
end

--- A message that no handler gets, for who runs the server: counted by its reason, and shown.
---@param record perigee.Record
---@param conn integer
---@param bits integer
---@param method string?
---@param err table
---@param counter? string nil: C has counted it
local function refused(record, conn, bits, method, err, counter)
  if counter then core.count(counter) end
  if report.show_refusal then report.show_refusal(record, conn, bits, method, err) end
end

--- An error object as it goes on the wire.
---@param err perigee.Error
---@return table
local function to_wire(err)
  return errors.wire(err.code, err.message, err.data)
end

--- A handler, or what surrounds it, has returned nil and an error.
local function returned_error(record, task, bits, err)
  local ctx = call.ctx_of(task)
  err = errors.from(err)
  call.tell_error(record, ctx, err)
  return call_error(record, bits, to_wire(err))
end

--- Runs a method that was found, and styles what it returns for messages that are not plain.
local function run(record, m, conn, task, method, values, id, bits)
  local result, err = m.run(record, m, conn, task, method, values, id, bits)
  if result == nil and err then return returned_error(record, task, bits, err) end
  if is_notification(bits) then return nil, E.SILENT end
  local style = is_v1(bits) and E.RESULT_1 or E.RESULT_2
  if m.encode then return m.encode(result), style | E.RAW end
  return result, style
end

local function not_found(record, conn, bits, method)
  if #method > record.limits.method then
    local err = errors.wire(codes.too_large, nil, { limit = "method", max = record.limits.method })
    refused(record, conn, bits, method, err, "limits_exceeded")
    return call_error(record, bits, err)
  end
  core.count("methods_unknown")
  local what, registry = "method", record.requests
  if is_notification(bits) then what, registry = "notification", record.notifications end
  local level, event = core.is_dev and "warn" or "debug", "unknown " .. what
  local fields = { path = record.path, method = method }
  if report.is_due(level, fields, ("%s %s"):format(event, record.path)) then
    fields.did_you_mean = core.is_dev and spelling.nearest(method, registry.order) or nil
    core.log(level, event, fields)
  end
  if what == "notification" then return nil, E.SILENT end
  local err = errors.wire(codes.method_not_found, nil, { method = method })
  local known = core.is_dev and record.requests.all[method]
  if known and not known.hidden then -- elsewhere it must not be told from one that does not exist
    err.data.dev = ("it is registered for %s only"):format(bits & HTTP ~= 0 and "websocket" or "http")
  end
  return call_error(record, bits, err)
end

-- ---- everything that is not plain ---------------------------------------------------------------

local function invalid(reason)
  return errors.wire(codes.invalid_request, "Invalid Request: " .. reason, { reason = reason })
end

--- Is the message a request or notification at all? Returns an error if not.
local function judge_form(record, bits)
  if bits & E.NOT_OBJECT ~= 0 then return invalid("not an object") end
  if bits & E.VERSION_OTHER ~= 0 then return invalid('jsonrpc must be the string "2.0"') end
  if bits & (E.METHOD | E.METHOD_BAD) == 0 then return invalid("no method") end
  if bits & E.METHOD == 0 then return invalid("method must be a string") end
  if bits & (E.RESULT | E.ERROR) ~= 0 then return invalid("both a call and an answer") end
  if bits & E.ID_BAD ~= 0 then
    return invalid("id must be a string, a number or null, of at most 256 bytes as sent, without quotes")
  end
  if bits & E.VERSION_2 == 0 and bits & BATCH ~= 0 then
    return invalid("JSON-RPC 1.0 has no batches")
  end
  local version = bits & E.VERSION_2 ~= 0 and "2.0" or "1.0"
  if not record.versions[version] then
    return invalid(("JSON-RPC %s is not spoken here"):format(version))
  end
end

--- Are its params something a handler could take?
local function judge_params(bits, detail)
  if bits & E.OVER_LIMIT ~= 0 then
    return errors.wire(codes.too_large, ("Request too large: %s over %d"):format(detail.limit, detail.max), {
      limit = detail.limit, max = detail.max, path = detail.path,
    })
  end
  if bits & E.OUT_OF_RANGE ~= 0 then
    return errors.wire(codes.invalid_params, "Invalid params: a number beyond 64 bits", {
      param = detail.path, expected = "an integer of 64 bits or a finite double", got = "number",
    })
  end
  local expected
  if bits & (E.PARAMS_OTHER | E.PARAMS_NULL) ~= 0 then
    expected = "an array or an object"
  elseif bits & E.PARAMS_OBJECT ~= 0 and bits & E.VERSION_2 == 0 then
    expected = "an array (JSON-RPC 1.0)"
  end
  if expected then
    return errors.wire(codes.invalid_params, "Invalid params: params must be " .. expected, {
      param = "params", expected = expected,
      got = bits & E.PARAMS_NULL ~= 0 and "null" or bits & E.PARAMS_OBJECT ~= 0 and "object" or "scalar",
    })
  end
end

local function busy()
  return errors.wire(codes.unavailable, "Unavailable: calls in flight hold too much memory, try again later")
end

local function call_slowly(record, conn, task, method, values, id, bits, detail)
  if bits & E.MALFORMED ~= 0 then
    local err = errors.wire(codes.parse, "Parse error: " .. detail.error, { reason = detail.error, at = detail.at })
    refused(record, conn, bits, nil, err)
    return answer_error(record, bits, err)
  end
  local is_answer = bits & (E.RESULT | E.ERROR) ~= 0 and bits & (E.METHOD | E.METHOD_BAD) == 0
  if is_answer and bits & E.ID ~= 0 then
    if not pending.settle(conn, id, detail) then
      refused(record, conn, bits, nil, invalid("an answer to no call"), "answers_unknown")
    end
    return nil, E.SILENT
  end
  local err = judge_form(record, bits)
  if err then
    refused(record, conn, bits, method, err, "messages_malformed")
    return answer_error(record, bits, err)
  end
  if bits & E.DRAINING ~= 0 then
    err = errors.wire(codes.unavailable, "Unavailable: the server is stopping")
    refused(record, conn, bits, method, err, "calls_turned_away")
    return call_error(record, bits, err)
  end
  if bits & E.BUSY ~= 0 then
    err = busy()
    refused(record, conn, bits, method, err)
    return call_error(record, bits, err)
  end
  err = judge_params(bits, detail)
  if err then
    refused(record, conn, bits, method, err, bits & E.OVER_LIMIT == 0 and "params_refused" or nil)
    return call_error(record, bits, err)
  end
  local registry = is_notification(bits) and record.notifications or record.requests
  local m = registry[bits & HTTP ~= 0 and "http" or "websocket"][method]
  if not m then
    if traffic.is_watched then traffic.unknown(record, method, conn, values) end
    return not_found(record, conn, bits, method)
  end
  return run(record, m, conn, task, method, values, id, bits)
end

-- ---- what C calls -------------------------------------------------------------------------------

--- One message that is not a batch.
---@param record perigee.Record
---@param conn integer
---@param task integer
---@param method string?
---@param values any
---@param id any
---@param bits integer
---@param detail table?
function M.call(record, conn, task, method, values, id, bits, detail)
  if bits & ~EXTRA == PLAIN then
    local m
    if bits & HTTP == 0 then
      m = record.by_websocket[method]
    else
      m = record.by_http[method]
    end
    if m then
      local result, err = m.run(record, m, conn, task, method, values, id, bits)
      if result == nil and err then return returned_error(record, task, bits, err) end
      if m.encode then return m.encode(result), E.RESULT_2 | E.RAW end
      return result
    end
  end
  return call_slowly(record, conn, task, method, values, id, bits, detail)
end

--- What a caller is told of an error that escaped from its call: closes the coroutine, logs a fault,
--- tells who wants to know.
---@param record perigee.Record
---@param task integer
---@param err any
---@param co thread? the dead coroutine; nil when there was no memory to keep it
---@return table err as it goes on the wire
function M.explain(record, task, err, co)
  local ctx = call.ctx_of(task)
  record = call.record_of(task, record)
  local text, raised = report.raised_text(err), err
  if text then err = errors.from(text) end
  if errors.is(err) then
    if co then report.close(co, raised) end
    call.tell_error(record, ctx, err)
    return to_wire(err)
  end
  local fault = report.fault(err, co)
  fault.code, fault.cause = codes.internal, err
  report.log(fault, "handler failed", {
    path = record.path, method = ctx and call.entry(ctx).name, conn = ctx and ("%x"):format(ctx[CONN]),
  })
  call.tell_error(record, ctx, fault)
  local data = { error_id = fault.id }
  if core.is_dev then
    data.dev = {
      message = fault.message, file = fault.file, line = fault.line, excerpt = fault.excerpt,
      traceback = fault.traceback,
    }
  end
  return errors.wire(codes.internal, nil, data)
end

--- An error escaped from a call. co is its dead coroutine.
---@param record perigee.Record
---@param task integer
---@param bits integer
---@param err any
---@param co thread? nil when there was no memory to keep it
function M.failed(record, task, bits, err, co)
  return call_error(record, bits, M.explain(record, task, err, co))
end

-- ---- time ---------------------------------------------------------------------------------------

-- enum task_stop in server/bridge/task.h
local STOP_TIMEOUT <const> = 1
local STOP_SLICE <const> = 2
local STOP_SHUTDOWN <const> = 4

--- The error that ends a task from outside.
---@param why integer
---@param seconds number the limit it ran over
---@return perigee.Error
function M.stopped(why, seconds)
  if why == STOP_TIMEOUT or why == STOP_SLICE then
    return errors.new { code = codes.timeout, data = { timeout = seconds } }
  end
  local err = why == STOP_SHUTDOWN
    and errors.new { code = codes.unavailable, message = "Unavailable: the server is stopping" }
    or errors.new { code = codes.cancelled }
  err.is_end = true -- of the task: nothing has failed in it
  return err
end

--- The handler caught that error and returned all the same: its caller is told what happened.
---@param record perigee.Record
---@param task integer
---@param bits integer
---@param why integer
---@param seconds number
function M.late(record, task, bits, why, seconds)
  local err = M.stopped(why, seconds)
  record = call.record_of(task, record)
  call.tell_error(record, call.ctx_of(task), err)
  return call_error(record, bits, to_wire(err))
end

--- Seconds that the call of a task may take; 0: as long as it likes.
---@param task integer
---@return number
function M.limit(task)
  local ctx = call.ctx_of(task)
  return ctx and call.entry(ctx).timeout or 0
end

--- Code has run for some time without waiting. Called from where it runs, which level 2 is: an instruction,
--- or a C function that takes long.
---@param task integer
---@param ms integer
function M.slow(task, ms)
  local ctx = call.ctx_of(task)
  local level = 2
  local info = debug.getinfo(level, "Sl")
  while info and info.currentline <= 0 do
    level = level + 1
    info = debug.getinfo(level, "Sl")
  end
  local event = "slow code: nothing else runs on this worker meanwhile"
  local fields = {
    ms = ms, method = ctx and call.entry(ctx).name,
    at = info and ("%s:%d"):format(info.short_src, info.currentline) or nil,
  }
  if report.is_due("warn", fields, ("%s %s"):format(event, fields.at or "")) then
    core.log("warn", event, fields, debug.traceback("", 2))
  end
end

--- A result (or an error's data) has no form in JSON, or is too long.
---@param record perigee.Record
---@param task integer
---@param bits integer
---@param value any
---@param style integer
---@param what string
---@param path string? of what has no form; nil: it is too long
function M.unencodable(record, task, bits, value, style, what, path)
  local ctx = call.ctx_of(task)
  record = call.record_of(task, record)
  local is_error = style == E.ERROR_2 or style == E.ERROR_1
  local encoding = record.encoding
  if path and encoding.default and not encoding.encode and not is_error then
    -- once more, with everything that has no form in JSON turned into something that has
    local text, err = core.json_encode(channel.convert(value, encoding.default))
    if text then return text, style | E.RAW end
    what, path = err:match("^cannot encode (.-) at (.*)$")
    if not what then what, path = err:match("^cannot encode (.*)$"), "" end
  end
  local id = report.new_id()
  local whose = is_error and "error" or "result"
  local event = (is_error and "error data" or whose) .. (path and " cannot be encoded" or " cannot be sent")
  local fields = {
    error_id = id, path = record.path, method = ctx and ctx[METHOD],
    at = path and whose .. path, what = what,
  }
  if report.is_due("error", fields, ("%s %s %s"):format(event, record.path, fields.method or "")) then
    core.log("error", event, fields)
  end
  local data = { error_id = id }
  if core.is_dev then
    data.dev = { message = path and ("the result holds %s at result%s"):format(what, path)
      or ("the %s is %s"):format(whose, what) }
  end
  return answer_error(record, bits, errors.wire(codes.internal, nil, data))
end

--- A message that could not even be taken apart.
---@param record perigee.Record
---@param conn integer
---@param bits integer
---@param why "parse"|"empty"|"batch"|"busy"
---@param text string
---@param number integer
function M.refuse(record, conn, bits, why, text, number)
  local err
  if why == "parse" then
    err = errors.wire(codes.parse, "Parse error: " .. text, { reason = text, at = number })
  elseif why == "empty" then
    err = invalid("an empty batch")
  elseif why == "busy" then
    err = busy()
  else
    err = invalid(("a batch may have at most %d members"):format(number))
    err.data = { limit = "batch", max = number }
  end
  refused(record, conn, bits, nil, err)
  return answer_error(record, bits, err)
end

return M
