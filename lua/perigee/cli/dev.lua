--- perigee dev: the server as a developer runs it.
local config = require("perigee.config")
local flags = require("perigee.cli.flags")

---@type perigee.Command
local M = {
  summary = "serve apps while you write them: errors are shown to the client",
  usage = "perigee dev [DIR] [flags]",
  help = [[
Usage: perigee dev [DIR] [flags]

Serves the apps in DIR (default: apps) on this machine only, with one worker. Errors in handlers are
shown to the client, with source lines and traceback.

Example:
  perigee dev
  perigee dev examples --listen 127.0.0.1:9000
]] .. flags.help(),
  run = function(args)
    local cli = require("perigee.cli")
    local values = config.defaults()
    local ok, err = pcall(config.apply_environment, values, os.getenv)
    if not ok then return cli.usage_error("dev", err) end
    local words, message = flags.read(args, values)
    if not words then return cli.usage_error("dev", message) end
    if #words > 1 then return cli.usage_error("dev", ("'%s' is one word too many"):format(words[2])) end
    values.apps = words[1] or values.apps
    for _, at in ipairs(values.listen) do
      if at.address ~= "::1" and not at.address:find("^127%.") then
        return cli.usage_error("dev", ("dev shows errors to clients, so it listens on this machine only, not on "
          .. "%s; use 'perigee serve'"):format(at.address))
      end
    end
    values.dev = true
    values.lua_path = os.getenv("PERIGEE_LUA")
    return values
  end,
}

return M
