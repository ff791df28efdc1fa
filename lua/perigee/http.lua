--- Plain HTTP: runs the handlers of routes, and makes answers of what they return.
---
--- A route's call goes the same way as a method's (perigee.call), so middleware, permission, time limits
--- and sessions are the same; only its ctx and its answer are others. What passes through middleware is a
--- response. Every function that C calls returns four values: status, body, content type, header lines.
local call = require("perigee.call")
local channel = require("perigee.channel")
local core = require("perigee.core")
local errors = require("perigee.errors")
local headers = require("perigee.headers")
local lifecycle = require("perigee.lifecycle")
local log = require("perigee.log")
local rpc = require("perigee.rpc")
local scope = require("perigee.scope")

local codes = errors.codes
local HTTP <const> = core.envelope.HTTP

-- Places in a ctx: perigee.ctx
local CONN <const> = 1
local METHOD <const> = 4
local BODY <const> = 5
local ENTRY <const> = 7

local M = {}

--- Fields of a form.
M.MAX_FIELDS = 1000

-- ---- ctx ----------------------------------------------------------------------------------------

---@class perigee.HttpCtx: perigee.Ctx
---@field consumer perigee.Instance of this request
---@field log perigee.Log its lines name app, path, method and connection
---@field method string "GET"; "HEAD" where a GET handler answers that
---@field route string the pattern that matched: "/orders/:id"
---@field path string decoded
---@field params table<string, string> what the path captured
---@field query table<string, string> decoded; of equal names the last
---@field headers table<string, string> names in lower case
---@field cookies table<string, string>
---@field body string as it came
local HttpCtx = {}

--- The answer is the client's fault, and no error of the app.
---@param status integer
---@param code integer
---@param message string
local function refuse(status, code, message)
  local err = errors.refusal(code, message)
  err.status = status
  error(err, 0)
end

--- Fields of a form that was sent as application/x-www-form-urlencoded. Anything else is answered with
--- 415.
---@return table<string, string> fields of equal names the last
---@return table<string, string[]> lists all values by name, in order
function HttpCtx:form()
  local kind = (self.headers["content-type"] or ""):match("^[^;%s]*"):lower()
  if kind ~= "application/x-www-form-urlencoded" then
    refuse(415, codes.invalid_request, "the body must be application/x-www-form-urlencoded")
  end
  local fields, lists, n = {}, {}, 0
  for name, value in scope.pairs_of(self.body) do
    n = n + 1
    if n > M.MAX_FIELDS then
      refuse(413, codes.too_large, ("a form may have at most %d fields"):format(M.MAX_FIELDS))
    end
    fields[name] = value
    lists[name] = lists[name] or {}
    table.insert(lists[name], value)
  end
  return fields, lists
end

--- The value of a body that is JSON, whatever its content type. Anything else is answered with 400.
---@return any
function HttpCtx:json()
  local value, err = core.json_decode(self.body)
  if err then refuse(400, codes.parse, "Parse error: " .. err) end
  return value
end

--- Fields that are made when they are first asked for, of a ctx and the record.
local fields = {
  consumer = function(self, record)
    local instance = lifecycle.instance(record, self[CONN], true)
    rawset(instance, "_pattern", self[ENTRY].path)
    return instance
  end,
  log = function(self, record)
    return log.new {
      app = record.app, generation = record.generation, path = self[ENTRY].path, method = self[METHOD],
      conn = ("%x"):format(self[CONN]),
    }
  end,
  method = function(self) return self[METHOD] end,
  route = function(self) return self[ENTRY].path end,
  path = function(self) return self.scope.path end,
  params = function(self) return self.scope.path_params end,
  query = function(self) return self.scope.query end,
  headers = function(self) return self.scope.headers end,
  cookies = function(self) return self.scope.cookies end,
  body = function(self) return self[BODY] end,
}
--- What a JSON-RPC call has and a request has not.
local nothing = { id = true, version = true, is_notification = true, in_batch = true }

--- A record as calls of its routes see it: with a ctx of their own.
---@param record perigee.Record
---@return perigee.Record
function M.view(record)
  local base = record.ctx_mt
  local mt = {}
  for key, value in pairs(base) do mt[key] = value end
  mt.__index = function(self, key)
    local value = HttpCtx[key]
    if value ~= nil then return value end
    if nothing[key] then return nil end
    local make = fields[key]
    if not make then return base.__index(self, key) end
    value = make(self, record)
    rawset(self, key, value)
    return value
  end
  return setmetatable({ ctx_mt = mt }, { __index = record })
end

-- ---- responses ----------------------------------------------------------------------------------

---@class perigee.HttpResponse what next() gives to middleware around a route
---@field status integer
---@field body any string, or a table that becomes JSON
---@field headers? table<string, any>
local Response = { __name = "perigee.response" }

---@param route perigee.Route
local function complain(route, text)
  error(("%s (%s): %s"):format(route.name, route.place, text), 0)
end

--- What a handler returned, as a response: status, body, headers; or body, headers; or nothing.
---@return perigee.HttpResponse
local function response(route, first, second, third)
  if getmetatable(first) == Response then return first end
  local status, body, fields_
  if math.type(first) == "integer" then
    status, body, fields_ = first, second, third
  elseif first == nil then
    status = 204
  else
    status, body, fields_ = 200, first, second
  end
  if status < 200 or status > 599 then complain(route, ("%d is no status from 200 to 599"):format(status)) end
  local kind = type(body)
  if kind ~= "nil" and kind ~= "string" and kind ~= "table" then
    complain(route, ("a handler returns a status, a body (a text, or a table for JSON) and headers; the body is a %s")
      :format(kind))
  end
  return setmetatable({ status = status, body = body, headers = fields_ }, Response)
end

--- A handler as perigee.call runs it: what it returns is a response, or nil and an error.
---@param route perigee.Route
---@param fn perigee.HttpHandler
---@return fun(ctx: perigee.HttpCtx): perigee.HttpResponse?, any
function M.handler(route, fn)
  local function judge(first, second, third)
    if first == nil and second ~= nil then return nil, second end
    return response(route, first, second, third)
  end
  return function(ctx) return judge(fn(ctx)) end
end

--- JSON text of a body.
local function encode(record, route, body)
  local encoding = record.encoding
  if encoding.encode then return encoding.encode(body) end
  local text, err = core.json_encode(body)
  if not text and encoding.default then text, err = core.json_encode(channel.convert(body, encoding.default)) end
  if not text then complain(route, err) end
  return text
end

--- Does a table of headers have this one, whatever its case?
local function value_of(given, name)
  for key, value in pairs(given or {}) do
    if type(key) == "string" and key:lower() == name then return value end
  end
end

--- Makes the four values for C of a response.
---@param record perigee.Record
---@param route perigee.Route
---@param answer perigee.HttpResponse
local function finish(record, route, answer)
  local status, body, given = answer.status, answer.body, answer.headers
  local kind = type(body) == "table" and "application/json" or body ~= nil and "text/plain; charset=utf-8" or nil
  if kind and (status == 204 or status == 304) and body ~= "" then
    complain(route, ("an answer with status %d has no body"):format(status))
  end
  if type(body) == "table" then body = encode(record, route, body) end
  local lines, wrong = headers.check(given)
  if wrong then complain(route, wrong) end
  if value_of(given, "content-type") then kind = nil end
  if not value_of(given, "x-content-type-options") then
    lines = (lines or "") .. "X-Content-Type-Options: nosniff\r\n"
  end
  return status, body, kind, lines
end

-- ---- errors -------------------------------------------------------------------------------------

--- Statuses of error codes; others are errors of the app: 400.
local statuses = {
  [codes.internal] = 500, [codes.too_large] = 413, [codes.timeout] = 504, [codes.forbidden] = 403,
  [codes.unauthenticated] = 401, [codes.rate_limited] = 429, [codes.unavailable] = 503, [codes.cancelled] = 503,
  [codes.method_not_found] = 404,
}

--- An error as an answer: the object that a JSON-RPC answer would have.
---@param err table as it goes on the wire
---@param status? integer
local function error_answer(err, status)
  local text = core.json_encode { error = err } -- its data is the app's, and may have no form in JSON
    or core.json_encode { error = { code = err.code, message = err.message } }
  status = status or statuses[err.code] or 400
  local lines = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
  if status == 401 then lines = lines .. "WWW-Authenticate: Bearer\r\n" end
  return status, text .. "\n", "application/json", lines
end

-- ---- what C calls -------------------------------------------------------------------------------

--- One request.
---@param record perigee.Record
---@param conn integer
---@param task integer
---@param path string the pattern that matched
---@param verb string
---@param body string
function M.call(record, conn, task, path, verb, body)
  local verbs = record.routes[path]
  local route = verbs and verbs[verb == "HEAD" and "GET" or verb]
  if not route then return error_answer(errors.wire(codes.method_not_found)) end -- reloaded meanwhile
  local result, err = route.run(record.web, route, conn, task, verb, body, nil, HTTP)
  if result == nil and err ~= nil then
    err = errors.from(err)
    call.tell_error(record, call.ctx_of(task), err)
    return error_answer(errors.wire(err.code, err.message, err.data), err.status)
  end
  return finish(record, route, response(route, result))
end

--- An error escaped from a handler. co is its dead coroutine.
---@param record perigee.Record
---@param task integer
---@param err any
---@param co thread? nil when there was no memory to keep it
function M.failed(record, task, err, co)
  local status = errors.is(err) and err.status or nil
  return error_answer(rpc.explain(record, task, err, co), status)
end

--- The handler caught the error that should have ended it, and returned all the same.
---@param record perigee.Record
---@param task integer
---@param why integer
---@param seconds number
function M.late(record, task, why, seconds)
  local err = rpc.stopped(why, seconds)
  call.tell_error(record, call.ctx_of(task), err)
  return error_answer(errors.wire(err.code, err.message, err.data))
end

return M
