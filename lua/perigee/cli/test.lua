--- perigee test: busted inside the server's own Lua and loop.
local config = require("perigee.config")
local core = require("perigee.core")

--- Spec folders of apps, when none is named.
---@return string[]
local function find_specs()
  local uv = require("luv")
  local found = {}
  local handle = uv.fs_scandir("apps")
  while handle do
    local name = uv.fs_scandir_next(handle)
    if not name then break end
    local dir = "apps/" .. name .. "/spec"
    if uv.fs_stat(dir) then found[#found + 1] = dir end
  end
  table.sort(found)
  return found
end

--- Words that are no flags and no values of flags: does busted know what to run?
---@param args string[]
---@return boolean
local function names_files(args)
  for _, word in ipairs(args) do
    if word:sub(1, 1) ~= "-" and require("luv").fs_stat(word) then return true end
  end
  return false
end

--- Runs busted and returns its exit code.
---@param args string[]
---@return integer
local function run(args)
  local ok, compatibility = pcall(require, "busted.compatibility")
  if not ok then
    io.stderr:write("perigee test: busted is not installed (Debian: apt install lua-busted)\n")
    return 1
  end
  local testing = require("perigee.testing")
  local testcore = require("perigee.core.testing")
  testcore.log_level("error")
  testcore.freeze()
  require("perigee.clock").follow()
  require("perigee.secret").forget_others()
  -- error() and pcall() in a spec are an app's, as an app may be a function in it
  local set_environment = compatibility.setfenv
  compatibility.setfenv = function(fn, env)
    if rawget(env, "error") == nil then
      rawset(env, "error", core.error)
      rawset(env, "pcall", core.pcall)
    end
    return set_environment(fn, env)
  end
  local stop = {}
  compatibility.exit = function(code) error(setmetatable({ code = code }, stop), 0) end
  arg = { [0] = "perigee test", table.unpack(args) } -- luacheck: ignore arg
  local ran, err = pcall(function()
    require("busted.runner") { standalone = false, output = "plainTerminal" }
  end)
  testing.stop()
  if ran then return 0 end
  if getmetatable(err) == stop then
    local code = err.code
    if type(code) == "boolean" then code = code and 0 or 1 end
    return math.min(code, 1)
  end
  io.stderr:write("perigee test: ", tostring(err), "\n")
  return 1
end

---@type perigee.Command
local M = {
  summary = "run the apps' busted specs",
  usage = "perigee test [busted arguments]",
  about = [[
Runs busted specs (files named *_spec.lua) inside the server's own Lua: require "perigee.testing" gives
them apps without ports and a clock that only tests move. Without a file or folder: apps/*/spec.
PERIGEE_TEST_LOG=1 shows log lines as they come.

'perigee test --busted-help' shows busted's own arguments.]],
  examples = { "perigee test", "perigee test apps/chat/spec --filter \"greets\"" },
  completes = "file",
  run = function(args)
    for i, word in ipairs(args) do
      if word == "--busted-help" then args[i] = "--help" end
    end
    if not names_files(args) and args[1] ~= "--help" then
      local specs = find_specs()
      if #specs == 0 then
        return require("perigee.cli").usage_error("test",
          "there are no specs here (apps/*/spec); name a file or folder")
      end
      table.move(specs, 1, #specs, #args + 1, args)
    end
    local values = config.defaults()
    values.sessions = "memory"
    return function() return run(args) end, values
  end,
}

return M
