--- Password hashes: argon2id on the thread pool, a few at a time.
local core = require("perigee.core")
local errors = require("perigee.errors")

local M = {}

--- Hashes that are worked on at the same time by one worker: each takes 19 MiB and a thread.
M.AT_ONCE = 2
--- Calls that may wait for their turn; more are refused.
M.QUEUE_MAX = 100
--- Bytes of a password.
M.MAX = 1024

local running, first, last, waiting = 0, 1, 0, {}

--- Gives a turn back: to the next who still waits, if any.
local function finish(me)
  if not me.has_turn then return end
  while first <= last do
    local next_one = waiting[first]
    waiting[first] = nil
    first = first + 1
    next_one.has_turn = core.wake(next_one.task, next_one.wait)
    if next_one.has_turn then return end
  end
  running = running - 1
end

local turn = { __close = finish } -- also when the one who waits is ended

--- Waits for a turn. Raises when too many wait already.
local function begin(me)
  if running < M.AT_ONCE then
    running, me.has_turn = running + 1, true
    return
  end
  if last - first + 1 >= M.QUEUE_MAX then
    error(errors.new { code = errors.codes.unavailable, message = "Unavailable: too many passwords are waiting" }, 0)
  end
  me.task, me.wait = core.wait_open()
  last = last + 1
  waiting[last] = me
  core.park(nil, me.wait)
end

---@param start function core.password_hash or core.password_verify
local function run(start, ...)
  local me <close> = setmetatable({}, turn)
  begin(me)
  local task, wait = core.wait_open()
  local job = start(task, wait, ...)
  core.park(nil, wait)
  return job()
end

---@param password any
---@param what string
local function check(password, what)
  if type(password) ~= "string" then
    error(("%s: the password must be a string, not a %s"):format(what, type(password)), 3)
  end
  return #password <= M.MAX
end

--- The hash of a password, to be kept instead of it: a text with its own salt and cost.
---@param password string at most 1024 bytes
---@return string
function M.hash(password)
  if not check(password, "password.hash") then
    error(("password.hash: a password has at most %d bytes"):format(M.MAX), 2)
  end
  return (run(core.password_hash, password))
end

--- Do a password and a hash belong together? For a user who is not known, pass nil as the hash: it
--- takes as long as with one, so that nobody learns who is known.
---@param password string
---@param hash string? what password.hash returned
---@return boolean
---@return boolean is_weak the hash is weaker than those made today: hash the password anew
function M.verify(password, hash)
  if not check(password, "password.verify") then return false, false end
  if hash ~= nil and type(hash) ~= "string" then
    error(("password.verify: the hash must be a string or nil, not a %s"):format(type(hash)), 2)
  end
  if hash == nil or #hash > 127 then
    run(core.password_hash, password)
    return false, false
  end
  return run(core.password_verify, password, hash)
end

return M
