--- What workers say to each other's Lua: JSON texts with a kind, each kind somebody's business.
local core = require("perigee.core")
local signals = require("perigee.signals")

local M = {}

---@alias perigee.MailHandler fun(mail: table, text: string, conn: integer, groups: string[])

---@type table<string, perigee.MailHandler>
local handlers = {
  layer_up = function() signals.announce("layer_up", {}) end,
  layer_down = function(mail) signals.announce("layer_down", { error = mail.error }) end,
}

--- Who takes mail of a kind. It runs in no task: what waits has to be spawned.
---@param kind string
---@param fn perigee.MailHandler
function M.on(kind, fn)
  handlers[kind] = fn
end

--- What C calls for every text that arrives.
---@param text string
---@param conn integer the connection it is for; 0: none
---@param groups string[] or for their members on this worker
---@return boolean is_known
function M.deliver(text, conn, groups)
  local mail = core.json_decode(text)
  local handler = type(mail) == "table" and handlers[mail.kind]
  if not handler then return false end
  handler(mail, text, conn, groups)
  return true
end

return M
