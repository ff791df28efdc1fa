--- The state folder: what outlives the process lies there, for its owner's eyes only.
local core = require("perigee.core")
local project = require("perigee.project")
local uv = require("luv")

local M = {}

---@param path string
---@return string? err
---@return boolean? is_new
local function make(path)
  if uv.fs_stat(path) then return end
  local parent = path:match("^(.+)/[^/]+$")
  if parent then
    local err = make(parent)
    if err then return err end
  end
  local ok, err, code = uv.fs_mkdir(path, 448) -- 0700
  if not ok and code ~= "EEXIST" then return err end
  return nil, ok ~= nil
end

--- Projects had one folder together once, the one above: it is not taken over, as nobody knows whose it is.
---@param path string
local function tell_of_older(path)
  local above = path:match("^(.+)/[^/]+$")
  if not above or not uv.fs_stat(above .. "/sessions.sqlite") and not uv.fs_stat(above .. "/secret") then return end
  core.log("warn", "sessions and the key for tokens of an older version are not used: they belong to all projects", {
    there = above, used = path, ["to_take_them"] = "stop the server, move sessions.sqlite* and secret there, "
      .. "and set session_cookie = \"perigee_session\"",
  })
end

--- Another project's server that runs on the same folder is told of: each is signed in at the other.
---@param path string
local function claim(path)
  local apps = core.setting("apps")
  local other = apps and core.claim_state(path, project.of(apps))
  if not other then return end
  core.log("warn", "another project uses the same state folder: whoever is signed in there is signed in here", {
    state = path, other = other, cure = "give each its own with --state DIR, or none, and it has one",
  })
end

--- Mode bits.
local ALL_WRITE <const>, GROUP_WRITE <const> = 2, 16

--- Does it belong to this process's user, or to root?
---@param stat { uid: integer }
---@return boolean
function M.is_ours(stat)
  return stat.uid == uv.getuid() or stat.uid == 0
end

--- Who can exchange files in the folder can sign in as anybody: by a session, or by the key for tokens. A sticky
--- bit, as /tmp has, keeps others from that, but not from planting files there that are read with them.
---@param what string which folder it is
---@param path string
---@param stat { uid: integer, gid: integer, mode: integer }
---@param instead string how to name another
local function judge(what, path, stat, instead)
  if not M.is_ours(stat) then
    error(("%s %s belongs to another user (%d), who could sign in as anybody: run the server as that user, chown the "
      .. "folder, or name another with %s"):format(what, path, stat.uid, instead), 0)
  end
  if stat.mode & ALL_WRITE ~= 0 then
    error(("%s %s may be written by everybody (mode %o), who could sign in as anybody: chmod 700 it, or use a folder "
      .. "inside of it: %s"):format(what, path, stat.mode & 1023, instead), 0)
  end
  if stat.mode & GROUP_WRITE ~= 0 then
    core.log("warn", what .. " may be written by its group: who is in it can sign in as anybody", {
      folder = path, gid = stat.gid, cure = "chmod 700 " .. path,
    })
  end
end

--- Judges the folder of a file that the operator has named; and the one that holds it, when the name is a link's.
--- What is missing says so when the file is opened.
---@param what string which file it is
---@param file string
---@param instead string how to name another
function M.judge_home(what, file, instead)
  local judged
  for _, path in ipairs { file, (uv.fs_realpath(file)) } do
    local folder = uv.fs_realpath(path:match("^(.*/)[^/]*$") or ".")
    local stat = folder and folder ~= judged and uv.fs_stat(folder)
    if stat then judge("the folder of " .. what, folder, stat, instead) end
    judged = folder
  end
end

--- The folder, made when it is not there. Raises when that cannot be done.
---@return string
function M.folder()
  local path = core.setting("state")
  if not path then
    error("there is no folder for what must be kept: HOME is not set; name one with --state DIR", 0)
  end
  path = path:gsub("(.)/+$", "%1")
  local err, is_new = make(path)
  local stat = not err and uv.fs_stat(path)
  if err or not stat or stat.type ~= "directory" then
    error(("the state folder %s cannot be made: %s; name another with --state DIR"):format(
      path, err or "it is no folder"), 0)
  end
  judge("the state folder", path, stat, "--state DIR, which is made")
  if is_new then tell_of_older(path) end
  claim(path)
  return path
end

return M
