--- perigee serve: the server as an operator runs it.
local config = require("perigee.config")
local flags = require("perigee.cli.flags")

---@type perigee.Command
local M = {
  summary = "serve the apps in a folder",
  usage = "perigee serve [flags]",
  help = [[
Usage: perigee serve [flags]

Serves the apps in a folder. Each flag can also be given as an environment variable; flags win.

Example:
  perigee serve --apps /srv/apps --listen 0.0.0.0:80 --log-format json

Signals: TERM and INT stop accepting, answer the calls in flight, close and exit; a second one stops
at once.
]] .. flags.help(),
  run = function(args)
    local cli = require("perigee.cli")
    local values = config.defaults()
    local ok, err = pcall(config.apply_environment, values, os.getenv)
    if not ok then return cli.usage_error("serve", err) end
    local words, message = flags.read(args, values)
    if not words then return cli.usage_error("serve", message) end
    if #words > 0 then
      return cli.usage_error("serve",
        ("'%s' is one word too many (the apps folder is given with --apps)"):format(words[1]))
    end
    values.dev = false
    values.lua_path = os.getenv("PERIGEE_LUA")
    return values
  end,
}

return M
