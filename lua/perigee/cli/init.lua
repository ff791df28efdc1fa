--- The command line: finds the verb and runs it.
local core = require("perigee.core")
local spelling = require("perigee.spelling")

local M = {}

---@class perigee.Command
---@field summary string
---@field usage string
---@field help string
---@field run fun(args: string[]): integer|table exit code, or settings to serve with

--- Verbs in the order help shows them; each is a file in this folder.
M.verbs = { "dev", "serve", "test", "version", "help" }

---@param verb string
---@return perigee.Command
function M.command(verb)
  return require("perigee.cli." .. verb)
end

--- Prints what is wrong with a command line and how to find out more.
---@param verb string?
---@param message string
---@return integer exit code
function M.usage_error(verb, message)
  io.stderr:write(("perigee%s: %s\nTry 'perigee %s--help'.\n"):format(
    verb and " " .. verb or "", message, verb and verb .. " " or ""))
  return 2
end

---@param args string[] as C's argv: args[1] is the first argument
---@return integer|table
function M.main(args)
  local verb = args[1]
  if verb == nil or verb == "--help" or verb == "-h" then verb = "help" end
  if verb == "--version" or verb == "-V" then verb = "version" end
  local known = false
  for _, name in ipairs(M.verbs) do known = known or name == verb end
  if not known then
    return M.usage_error(nil, ("there is no command '%s'%s"):format(verb, spelling.hint(verb, M.verbs)))
  end
  local rest = table.move(args, 2, #args, 1, {})
  local command = M.command(verb)
  for _, word in ipairs(rest) do
    if word == "--help" or word == "-h" then
      io.stdout:write(command.help)
      return 0
    end
    if word == "--" then break end
  end
  return command.run(rest)
end

M.version = core.version

return M
