--- Groups of the server's own: their names begin with a byte that no other name may begin with.
local core = require("perigee.core")

local M = {}

--- Every connection of a user.
---@param id string
---@return string
function M.user(id)
  return "\0user:" .. id
end

--- Every WebSocket of a session.
---@param id string
---@return string
function M.session(id)
  return "\0session:" .. core.sha256(id)
end

---@param name any
---@return boolean
function M.is(name)
  return type(name) == "string" and name:byte() == 0
end

--- Raises for a name that nobody may join; at the caller's caller.
---@param name any
---@param what string
function M.check(name, what)
  if M.is(name) then
    error(("%s: names of groups that begin with \\0 are the server's own"):format(what), 3)
  end
end

return M
