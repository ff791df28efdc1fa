--- perigee serve: the server as an operator runs it.

---@type perigee.Command
local M = {
  summary = "serve the apps in a folder",
  usage = "perigee serve [flags]",
  about = [[
Serves the apps in a folder. Each setting can be given in perigee.conf.lua, as an environment variable and
as a flag; later ones win. 'perigee config' shows them all, and where each value comes from.

Signals: TERM and INT stop accepting, answer the calls in flight, close and exit; a second one stops
at once. HUP loads apps whose files have changed; if that fails, what was served is served on.]],
  examples = {
    "perigee serve",
    "perigee serve --apps /srv/apps --listen 0.0.0.0:80 --log-format json",
    "perigee serve --config /etc/perigee/perigee.conf.lua",
  },
  has_settings = true,
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("serve", args, math.huge)
    if not parsed then return code end
    if #parsed.words > 0 then
      return cli.usage_error("serve",
        ("'%s' is one word too many (the apps folder is given with --apps)"):format(parsed.words[1]))
    end
    local settings
    settings, code = cli.settings("serve", parsed)
    return settings and settings.values or code
  end,
}

return M
