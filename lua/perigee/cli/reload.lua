--- perigee reload: a running server loads what has changed.
local core = require("perigee.core")

---@type perigee.Command
local M = {
  summary = "load apps that have changed into a running server",
  usage = "perigee reload [DIR] [flags]",
  about = [[
Asks the server that serves the apps in DIR (a folder of apps, or a project; default: apps) to load those
whose files have changed, in all of its workers or in none, and waits until it has. Nobody is
disconnected. Prints what has changed or, with exit code 1, what is wrong: then the old code serves on.
When several servers serve that folder, each of them is asked.

The server must run on this machine, and be your own or you root. SIGHUP does the same without an answer.]],
  examples = { "perigee reload", "perigee reload --config /etc/perigee/perigee.conf.lua" },
  has_settings = true,
  completes = "dir",
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("reload", args, 1)
    if not parsed then return code end
    local settings
    settings, code = cli.settings("reload", parsed, parsed.words[1])
    if not settings then return code end
    local apps = settings.values.apps
    local answers = core.remote(apps, "reload")
    if #answers == 0 then
      io.stderr:write(("perigee reload: no server of the apps in %s is running\n"):format(apps))
      return 1
    end
    code = 0
    for _, answer in ipairs(answers) do
      if answer.ok then
        io.stdout:write(answer.text)
      else
        code = 1
        local why = answer.ok == nil and "a server does not answer: " or ""
        io.stderr:write("perigee reload: ", why, answer.text, answer.text:sub(-1) == "\n" and "" or "\n")
      end
    end
    return code
  end,
}

return M
