--- The time of day, for what outlives the process: sessions and tokens end at a date.
local core = require("perigee.core")

local M = {}

local since, offset

--- Seconds since 1970.
---@return integer
function M.wall()
  if since then return since + math.floor(core.now() - offset) end
  return os.time()
end

--- From now on the time of day moves with core.now(), which tests move by hand.
function M.follow()
  since, offset = os.time(), core.now()
end

return M
