--- The state folder: what outlives the process lies there, for its owner's eyes only.
local core = require("perigee.core")
local uv = require("luv")

local M = {}

--- Where it is, unless --state says otherwise. systemd names one in STATE_DIRECTORY.
---@return string?
local function default()
  local given = os.getenv("STATE_DIRECTORY")
  if given and given ~= "" then return given:match("^[^:]+") end
  local base, home = os.getenv("XDG_STATE_HOME"), os.getenv("HOME")
  if base and base:sub(1, 1) == "/" then return base .. "/perigee" end
  if home and home:sub(1, 1) == "/" then return home .. "/.local/state/perigee" end
end

---@param path string
---@return string? err
local function make(path)
  if uv.fs_stat(path) then return end
  local parent = path:match("^(.+)/[^/]+$")
  if parent then
    local err = make(parent)
    if err then return err end
  end
  local ok, err, code = uv.fs_mkdir(path, 448) -- 0700
  if not ok and code ~= "EEXIST" then return err end
end

--- The folder, made when it is not there. Raises when that cannot be done.
---@return string
function M.folder()
  local path = core.setting("state") or default()
  if not path then
    error("there is no folder for what must be kept: HOME is not set; name one with --state DIR", 0)
  end
  path = path:gsub("(.)/+$", "%1")
  local err = make(path)
  local stat = not err and uv.fs_stat(path)
  if err or not stat or stat.type ~= "directory" then
    error(("the state folder %s cannot be made: %s; name another with --state DIR"):format(
      path, err or "it is no folder"), 0)
  end
  return path
end

return M
