--- Tells people and logs that the server listens, and what it serves.
local app = require("perigee.app")
local console = require("perigee.console")
local core = require("perigee.core")
local spelling = require("perigee.spelling")
local uv = require("luv")

local M = {}

---@param address string
---@param port integer
---@return string
local function authority(address, port)
  return address:find(":", 1, true) and ("[%s]:%d"):format(address, port) or ("%s:%d"):format(address, port)
end

--- What C calls when every listener is open.
---@param listeners { address: string, port: integer }[]
---@param admin? { address: string, port: integer } where the inspector is, when not everywhere
function M.listening(listeners, admin)
  for _, at in ipairs(listeners) do
    core.log("info", "listening", { url = "http://" .. authority(at.address, at.port) })
  end
  if admin then
    core.log("info", "inspector", { url = ("http://%s/-/"):format(authority(admin.address, admin.port)) })
  end
  console.authority = authority(listeners[1].address, listeners[1].port)
  if not core.is_dev then return end
  local base = "http://" .. authority(listeners[1].address, listeners[1].port)
  local lines = { ("\nPerigee %s serves"):format(core.version) }
  for _, name in ipairs(spelling.keys(app.apps)) do
    local one = app.apps[name]
    if one.dir and uv.fs_stat(one.dir .. "/public/index.html") then
      lines[#lines + 1] = ("  %-10s open %s/%s/"):format(name, base, name)
    end
    for _, record in ipairs(one.consumers) do
      lines[#lines + 1] = ("  %-10s call %s%s"):format(name, base:gsub("^http", "ws"), record.path)
    end
  end
  lines[#lines + 1] = ("  %-10s open %s/-/"):format("inspector", base)
  lines[#lines + 1] = "Ctrl-C stops.\n\n"
  io.stdout:write(table.concat(lines, "\n"))
  io.stdout:flush()
end

return M
