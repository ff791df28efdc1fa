--- perigee help: the commands, or one of them.
local flags = require("perigee.cli.flags")
local spelling = require("perigee.spelling")

--- The help of a command.
---@param verb string
---@return string
local function text(verb)
  local command = require("perigee.cli").command(verb)
  if command.help then return command.help end
  local out = { ("Usage: %s\n\n%s\n"):format(command.usage, command.about), flags.help(command) }
  out[#out + 1] = #command.examples > 1 and "\nExamples\n" or "\nExample\n"
  for _, example in ipairs(command.examples) do out[#out + 1] = "  " .. example .. "\n" end
  return table.concat(out)
end

---@type perigee.Command
local M = {
  summary = "show this text, or the help of a command",
  usage = "perigee help [COMMAND]",
  about = "Shows the commands, or the help of one of them.",
  examples = { "perigee help serve", "perigee help --man | man -l -" },
  flags = { { name = "--man", doc = "Print the manual page, as troff." } },
  completes = "verb",
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("help", args, 1)
    if not parsed then return code end
    if parsed.options.man then
      io.stdout:write(require("perigee.cli.manual").text())
      return 0
    end
    local verb = parsed.words[1]
    if verb then
      for _, name in ipairs(cli.verbs) do
        if name == verb then
          io.stdout:write(text(name))
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
      lines[#lines + 1] = ("  %-11s %s\n"):format(name, cli.command(name).summary)
    end
    lines[#lines + 1] = "\n'perigee COMMAND --help' tells more about one.\n"
    io.stdout:write(table.concat(lines))
    return 0
  end,
}

M.text = text

return M
