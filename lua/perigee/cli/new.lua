--- perigee new: a project that runs, tests and lints at once.
local spelling = require("perigee.spelling")
local template = require("perigee.cli.template")
local uv = require("luv")

--- What libuv says, for people: "EACCES: permission denied: /x" -> "permission denied".
local function reason(err)
  return tostring(err):match("^%u+: ([^:]+)") or tostring(err)
end

--- Writes files below a folder that is there.
---@param root string
---@param files table<string, string>
---@param flags string of open
---@return string? err
local function write_files(root, files, flags)
  for _, path in ipairs(spelling.keys(files)) do
    local dir = root
    for part in path:gmatch("([^/]+)/") do
      dir = dir .. "/" .. part
      uv.fs_mkdir(dir, tonumber("755", 8)) -- may be there
    end
    local name = root .. "/" .. path
    local fd, err = uv.fs_open(name, flags, tonumber("644", 8))
    if not fd then return ("%s: %s"):format(name, reason(err)) end
    local n
    n, err = uv.fs_write(fd, files[path], 0)
    uv.fs_close(fd)
    if n ~= #files[path] then return ("%s: %s"):format(name, err and reason(err) or "the disk is full") end
  end
end

---@param path string
local function remove(path)
  local handle = uv.fs_scandir(path)
  while handle do
    local name, kind = uv.fs_scandir_next(handle)
    if not name then break end
    if kind == "directory" then remove(path .. "/" .. name) else uv.fs_unlink(path .. "/" .. name) end
  end
  uv.fs_rmdir(path)
end

--- Writes a project beside its place and moves it there whole: a rename replaces nothing but an empty
--- folder, so nobody's files are ever overwritten, and a failure leaves nothing behind.
---@param path string
---@param files table<string, string>
---@return string? err
local function make(path, files)
  local parent = path:match("^(.*)/[^/]+$")
  parent = parent == "" and "/" or parent or "."
  local temporary, err = uv.fs_mkdtemp(parent .. "/.perigee-new-XXXXXX")
  if not temporary then return ("cannot write in %s: %s"):format(parent, reason(err)) end
  err = write_files(temporary, files, "wx")
  if not err then
    uv.fs_chmod(temporary, tonumber("755", 8))
    local ok, code
    ok, err, code = uv.fs_rename(temporary, path)
    if ok then return nil end
    local is_taken = code == "ENOTEMPTY" or code == "EEXIST" or code == "ENOTDIR"
    err = is_taken and ("%s is there already; nothing was written"):format(path) or ("%s: %s"):format(path, reason(err))
  end
  remove(temporary)
  return err
end

--- Writes the types of this version into the project in the current folder.
---@return integer exit code
local function refresh_types()
  if not uv.fs_stat("perigee.conf.lua") and not uv.fs_stat(".luarc.json") then
    io.stderr:write("perigee new: --types is for a project's folder: there is no perigee.conf.lua here\n")
    return 1
  end
  local err = write_files(".", template.types(), "w")
  if err then
    io.stderr:write("perigee new: ", err, "\n")
    return 1
  end
  io.stdout:write("wrote .perigee/types\n")
  return 0
end

---@type perigee.Command
local M = {
  summary = "make a project that runs, tests and lints at once",
  usage = "perigee new NAME",
  about = [[
Makes the folder NAME with a chat app, its page and its tests, a configuration file, and settings for
editors with the Lua language server (LuaLS) and for luacheck. Writes nothing into a folder that has
something in it.]],
  examples = { "perigee new hello" },
  flags = { { name = "--types", doc = "In a project: write .perigee/types of this version of Perigee anew." } },
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("new", args, 1)
    if not parsed then return code end
    local path = parsed.words[1]
    if parsed.options.types then
      if path then return cli.usage_error("new", "--types takes no NAME: it is for the current folder") end
      return refresh_types()
    end
    if not path then return cli.usage_error("new", "a NAME is needed") end
    path = #path > 1 and path:gsub("/+$", "") or path
    local name = path:match("([^/]+)$") or ""
    if not name:find("^[%w_][%w_.-]*$") then
      return cli.usage_error("new", ("'%s' cannot be a project's name: letters, digits, '_', '-' and '.', as in "
        .. "perigee new hello"):format(path))
    end
    local files = template.project(name)
    local err = make(path, files)
    if err then
      io.stderr:write("perigee new: ", err, "\n")
      return 1
    end
    for _, file in ipairs(spelling.keys(files)) do io.stdout:write(("  %s/%s\n"):format(path, file)) end
    io.stdout:write(("\nNext:\n  cd %s\n  perigee dev\n"):format(path))
    return 0
  end,
}

return M
