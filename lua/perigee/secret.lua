--- The key that signs tokens: from the settings, or made once and kept in the state folder.
local core = require("perigee.core")
local state = require("perigee.state")
local uv = require("luv")

local M = {}

--- Bytes a key given by the operator must have at least.
M.MIN = 32

---@type string?
local key

---@param path string
---@return string?
local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
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
