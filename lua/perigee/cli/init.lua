--- The command line: finds the verb and runs it.
local core = require("perigee.core")
local flags = require("perigee.cli.flags")
local settings = require("perigee.settings")
local spelling = require("perigee.spelling")
local uv = require("luv")

local M = {}

--- Help, manual and completion are made of this.
---@class perigee.Command
---@field summary string
---@field usage string
---@field about string paragraphs
---@field examples string[]
---@field flags? perigee.Flag[]
---@field has_settings? boolean takes a flag per setting
---@field completes? "dir"|"file"|"verb"|"shell"|"setting" what its words are
---@field run fun(args: string[]): integer|table|function, table? exit code, settings to serve with, or a
---function that returns an exit code and may wait, with the settings of the worker it runs on

--- Verbs in the order help shows them; each is a file in this folder.
M.verbs = {
  "new", "dev", "serve", "reload", "check", "test", "call", "routes", "config", "completion", "version", "help",
}

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

--- Reads a command's arguments. Prints what is wrong with them and returns nil and the exit code.
---@param verb string
---@param args string[]
---@param most integer words that are no flags
---@return perigee.Parsed?
---@return integer? exit code
function M.read(verb, args, most)
  local parsed, message = flags.parse(M.command(verb), args)
  if not parsed then return nil, M.usage_error(verb, message) end
  if #parsed.words > most then
    return nil, M.usage_error(verb, ("'%s' is one word too many"):format(parsed.words[most + 1]))
  end
  return parsed
end

--- A problem as people read it, without an end of line.
---@param problem perigee.Problem
---@return string
function M.show_problem(problem)
  local place = problem.file and (problem.line and ("%s:%d: "):format(problem.file, problem.line)
    or problem.file .. ": ") or ""
  return place .. problem.message .. (problem.excerpt and "\n" .. problem.excerpt or "")
end

--- Settles the settings for what a command line says. Prints what is wrong with them and returns nil
--- and the exit code.
---@param verb string
---@param parsed perigee.Parsed
---@param dir? string the project or apps folder that is named
---@return perigee.Settings?
---@return integer? exit code
function M.settings(verb, parsed, dir)
  local found, problems = settings.resolve(M.given(parsed, dir))
  if found then
    found.values.dev = false
    found.values.lua_path = os.getenv("PERIGEE_LUA")
    return found
  end
  local code = 2
  for _, problem in ipairs(problems --[[@as perigee.Problem[] ]]) do
    if problem.file then code = 1 end
    io.stderr:write(("perigee %s: %s\n"):format(verb, M.show_problem(problem)))
  end
  return nil, code
end

---@param parsed perigee.Parsed
---@param dir? string
---@return perigee.Given
function M.given(parsed, dir)
  return { flags = parsed.settings, config = parsed.config, dir = dir, environ = uv.os_environ() }
end

---@param args string[] as C's argv: args[1] is the first argument
---@return integer|table|function
---@return table?
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
      io.stdout:write(require("perigee.cli.help").text(verb))
      return 0
    end
    if word == "--" then break end
  end
  return command.run(rest)
end

M.version = core.version

return M
