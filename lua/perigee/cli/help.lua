--- perigee help: the commands, or one of them.
local spelling = require("perigee.spelling")

---@type perigee.Command
local M = {
  summary = "show this text, or the help of a command",
  usage = "perigee help [COMMAND]",
  help = [[
Usage: perigee help [COMMAND]

Shows the commands, or the help of one of them.

Example:
  perigee help serve
]],
  run = function(args)
    local cli = require("perigee.cli")
    local verb = args[1]
    if verb then
      for _, name in ipairs(cli.verbs) do
        if name == verb then
          io.stdout:write(cli.command(name).help)
          return 0
        end
      end
      return cli.usage_error("help", ("there is no command '%s'%s"):format(verb, spelling.hint(verb, cli.verbs)))
    end
    local lines = {
      ("Perigee %s: realtime applications, scripted in Lua.\n\n"):format(cli.version),
      "Usage: perigee COMMAND [flags]\n\n",
    }
    for _, name in ipairs(cli.verbs) do
      lines[#lines + 1] = ("  %-10s %s\n"):format(name, cli.command(name).summary)
    end
    lines[#lines + 1] = "\n'perigee COMMAND --help' tells more about one.\n"
    io.stdout:write(table.concat(lines))
    return 0
  end,
}

return M
