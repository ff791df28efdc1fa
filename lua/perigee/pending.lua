--- Calls from the server to a client that wait for its answer.
local channel = require("perigee.channel")
local config = require("perigee.config")
local core = require("perigee.core")
local errors = require("perigee.errors")

local M = {}

---@type table<integer, table<string, { task: integer, wait: integer }>>
local by_conn = {}
local serial = 0

--- Seconds a client has for its answer unless somebody says otherwise.
M.DEFAULT_TIMEOUT = 30

---@class perigee.CallOptions
---@field timeout? number|string seconds, or a text such as "2m"; default 30

--- Calls a method of the client and waits for its answer.
---@param encoding perigee.Encoding
---@param conn integer
---@param method string
---@param params? table
---@param opts? perigee.CallOptions
---@return any result nil with an error when the client answered with one, is gone, or took too long
---@return perigee.Error? err
function M.call(encoding, conn, method, params, opts)
  channel.check(method, params, "call")
  local timeout = config.seconds(opts and opts.timeout or M.DEFAULT_TIMEOUT)
  if not timeout or timeout <= 0 then
    error("call: timeout must be a number of seconds above 0, or a text such as \"2m\"", 2)
  end
  serial = serial + 1
  -- a string of our own, so that it cannot be mistaken for an id the client chose
  local id = ("perigee-%d"):format(serial)
  local task, wait = core.wait_open()
  if not core.request(conn, id, method, params, encoding.flags) then
    return nil, errors.new { code = errors.codes.unavailable, message = "The client is gone" }
  end
  core.touch(conn) -- its end must be told, see M.abandon
  local calls = by_conn[conn]
  if not calls then
    calls = {}
    by_conn[conn] = calls
  end
  calls[id] = { task = task, wait = wait }
  core.peer_wait(conn, 1)
  -- a stopped task raises out of the wait: the entry must go all the same
  local ok, woken, result, err = pcall(core.park, timeout, wait)
  core.peer_wait(conn, -1)
  calls[id] = nil
  if next(calls) == nil then by_conn[conn] = nil end
  if not ok then error(woken, 0) end
  if not woken then
    return nil, errors.new {
      code = errors.codes.timeout, message = "The client did not answer", data = { timeout = timeout },
    }
  end
  return result, err
end

---@class perigee.AnswerDetail
---@field result any
---@field failure any the answer's error
---@field unreadable? string why one of the two is not here

--- What the client's answer says against it, so that there is a result or an error whatever it sent.
---@param detail perigee.AnswerDetail
---@return perigee.Error?
local function failure_in(detail)
  local failure = detail.failure
  if detail.unreadable then
    return errors.new { message = "The client's answer cannot be read: " .. detail.unreadable }
  elseif failure == nil or failure == core.null then
    -- JSON-RPC 1.0 answers carry both members, the one that does not count as null
    if detail.result ~= nil then return nil end
    return errors.new { message = "The client's answer has neither a result nor an error" }
  elseif type(failure) == "table" and math.type(failure.code) == "integer" and type(failure.message) == "string" then
    return errors.new { code = failure.code, message = failure.message, data = failure.data }
  end
  return errors.new { message = "The client answered with an error", data = failure }
end

--- The client has answered. False when nobody waits for that id (any more).
---@param conn integer
---@param id any
---@param detail perigee.AnswerDetail
---@return boolean
function M.settle(conn, id, detail)
  local calls = by_conn[conn]
  local one = calls and calls[id]
  if not one then return false end
  local err = failure_in(detail)
  if err then return core.wake(one.task, one.wait, nil, err) end
  return core.wake(one.task, one.wait, detail.result)
end

--- The connection is over: nobody will answer.
---@param conn integer
function M.abandon(conn)
  for _, one in pairs(by_conn[conn] or {}) do
    core.wake(one.task, one.wait, nil, errors.new {
      code = errors.codes.unavailable, message = "The client is gone",
    })
  end
end

return M
