--- The key that signs tokens: from the settings, or made once and kept in the state folder.
local core = require("perigee.core")
local state = require("perigee.state")
local uv = require("luv")

local M = {}

--- Bytes a key given by the operator must have at least.
M.MIN = 32

---@type string?
local key

--- Mode bits of all but the owner.
local OTHERS <const> = 63
--- More than any key has.
local MAX <const> = 4096

--- Who knows the key, or can exchange it, can sign in as anybody.
---@param path string
---@param stat { type: string, uid: integer, mode: integer }
local function judge(path, stat)
  if stat.type ~= "file" then
    error(("the key for tokens in %s cannot be used: it is no file but a %s: remove it and a new one is made"):format(
      path, stat.type), 0)
  elseif not state.is_ours(stat) then
    error(("the key for tokens in %s cannot be used: it belongs to another user (%d), who knows it: remove it and "
      .. "a new one is made; tokens signed so far are void then"):format(path, stat.uid), 0)
  elseif stat.mode & OTHERS ~= 0 then
    error(("the key for tokens in %s cannot be used: others may read or write it (mode %o): chmod 600 it, or, if "
      .. "somebody has read it, remove it and a new one is made"):format(path, stat.mode & 511), 0)
  end
end

---@param path string
---@return string?
local function read(path)
  local fd = uv.fs_open(path, uv.constants.O_RDONLY | uv.constants.O_NONBLOCK, 0) -- a pipe must not hold the start
  if not fd then return nil end
  local is_good, err = pcall(judge, path, uv.fs_fstat(fd))
  local text = is_good and uv.fs_read(fd, MAX, 0)
  uv.fs_close(fd)
  if not is_good then error(err, 0) end
  return text or nil
end

--- Makes the file with one step of the file system, so that of several processes that start at the
--- same time each finds the same whole key.
---@param path string
local function make(path)
  local temporary = ("%s.%s"):format(path, core.random_id(8))
  local fd, err = uv.fs_open(temporary, "wx", 384) -- 0600
  if not fd then error(("the key for tokens cannot be kept: %s"):format(err), 0) end
  local written, why = uv.fs_write(fd, core.random_id(32) .. "\n")
  uv.fs_close(fd)
  if written then uv.fs_link(temporary, path) end -- one that is there already stays
  uv.fs_unlink(temporary)
  if not written then error(("the key for tokens cannot be kept: %s: %s"):format(path, why), 0) end
end

--- The key. Raises when there is none and none can be made.
---@return string
function M.key()
  if key then return key end
  local given = core.setting("secret")
  if given then
    key = given
    return key
  end
  local path = state.folder() .. "/secret"
  local text = read(path)
  if not text then
    make(path)
    text = read(path)
  end
  if not text or #text < M.MIN then
    error(("the key for tokens in %s cannot be used: remove the file and a new one is made; "
      .. "tokens signed so far are void then"):format(path), 0)
  end
  key = text
  return key
end

--- A key for this process alone: for tests, and for `perigee check`.
function M.forget_others()
  key = core.random_id(32)
end

return M
