--- A project is its folder of apps, wherever that is reached from; it has a state folder and a cookie of its own.
---
--- Two projects of one user would else be signed in at each other: they would find the same sessions and
--- the same key for tokens, and browsers send a cookie to every port of a host.
local uv = require("luv")

local M = {}

--- Bytes of a folder's name that are seen in the name of its state folder.
local SHOWN_MAX <const> = 40

--- A path as it is without links. What is not there yet is made without links, so its name will stay.
---@param path string
---@return string
local function real(path)
  local found = uv.fs_realpath(path)
  if found then return found end
  path = path:gsub("(.)/+$", "%1")
  local parent, name = path:match("^(.*)/([^/]+)$")
  if not parent then return real(".") .. "/" .. path end
  return (parent == "" and "" or real(parent)) .. "/" .. name
end

--- FNV-1a of a text: names it in few letters. `perigee reload` finds servers by the same one.
---@param text string
---@return string 16 letters
local function number(text)
  local sum = 0xcbf29ce484222325
  for i = 1, #text do sum = (sum ~ text:byte(i)) * 0x100000001b3 end
  return ("%016x"):format(sum)
end

--- What a project is known by: the same for dev and serve, after every restart, from every folder.
---@param apps string its folder of apps
---@return string
function M.of(apps)
  return real(apps)
end

--- Where what a project keeps lies, unless `state` says otherwise. systemd names a folder for the service.
---@param apps string
---@param environ table<string, string>
---@return string? folder nil: there is no home
---@return string source
function M.state(apps, environ)
  local given = environ.STATE_DIRECTORY
  if given and given ~= "" then return given:match("^[^:]+"), "STATE_DIRECTORY" end
  local base, home = environ.XDG_STATE_HOME, environ.HOME
  if not (base and base:sub(1, 1) == "/") then
    base = home and home:sub(1, 1) == "/" and home .. "/.local/state" or nil
  end
  local path = M.of(apps)
  local shown = path:gsub("/apps$", ""):match("[^/]*$"):gsub("[^%w._-]", "_"):sub(1, SHOWN_MAX)
  return base and ("%s/perigee/%s-%s"):format(base, shown, number(path)), "default"
end

--- The cookie of a project: named after where its sessions are, so that who shares those shares it.
---@param values table<string, any> settings
---@return string
function M.cookie(values)
  local sessions = values.sessions
  local place = real(values.state)
  if sessions == "memory" then
    place = M.of(values.apps)
  elseif sessions:find("^sqlite:") then
    place = real(sessions:sub(8))
  elseif sessions ~= "sqlite" then -- of a Redis machines may have several names, but one prefix and number
    local database = sessions:match("^redis://.*/(%d+)$") or sessions:match("[?&]db=(%d+)") or "0"
    place = ("%s %s"):format(values.layer_prefix, database)
  end
  return "perigee_session_" .. number(place)
end

return M
