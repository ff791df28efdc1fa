--- WebSockets that opened while the session store was away: asked for again until it has answered.
local core = require("perigee.core")
local errors = require("perigee.errors")
local report = require("perigee.report")
local session = require("perigee.session")

local M = {}

--- Seconds until the store is asked again; twice as many each time, up to the most.
M.FIRST, M.MOST = 1, 30

--- Their instances, by connection: no more than connections are open.
---@type table<integer, perigee.Instance>
local waiting = {}
local is_asking = false

--- Asks for one after the other. False when the store is still away.
---@return boolean
local function ask_for_all()
  for conn, instance in function() return next(waiting) end do
    local record = core.record(conn)
    local ok, err = true, nil
    if record then ok, err = pcall(session.run, session.catch_up, instance) end
    if not ok then
      if errors.is(err) and err.code == errors.codes.unavailable then return false end
      report.report(err, nil, "session", record.path, conn)
    end
    waiting[conn] = nil
  end
  return true
end

local function ask_on()
  local seconds = M.FIRST
  repeat
    core.park(seconds)
    seconds = math.min(2 * seconds, M.MOST)
  until ask_for_all()
  is_asking = false
end

--- The instance's session could not be read: it hears of its user once the store is back, whoever touches it.
---@param instance perigee.Instance
function M.add(instance)
  waiting[instance._conn] = instance
  if is_asking then return end
  is_asking = true
  core.spawn(ask_on)
end

return M
