--- perigee check: everything that can be known to be wrong before anything is served.
local check = require("perigee.check")
local core = require("perigee.core")
local settings = require("perigee.settings")

---@param n integer
---@param what string
---@return string
local function count(n, what)
  return ("%d %s%s"):format(n, what, n == 1 and "" or "s")
end

---@param problem perigee.Problem
local function as_json(problem)
  return {
    file = problem.file, line = problem.line, column = problem.column, level = problem.level or "error",
    kind = problem.kind or "config", message = problem.message,
  }
end

---@param problem perigee.Problem
---@return string
local function as_text(problem)
  local place = problem.file or "perigee"
  if problem.line then place = ("%s:%d"):format(place, problem.line) end
  if problem.column then place = ("%s:%d"):format(place, problem.column) end
  local text = ("%s: %s: %s\n"):format(place, problem.level or "error", problem.message)
  return problem.excerpt and problem.kind ~= "luacheck" and text .. problem.excerpt .. "\n" or text
end

---@type perigee.Command
local M = {
  summary = "look for mistakes in settings and apps; starts nothing",
  usage = "perigee check [DIR] [flags]",
  about = [[
Reads the settings, loads every app in DIR (a project, or a folder of apps; default: apps) and serves
none. Tells of wrong settings, errors of syntax, apps that do not load, methods that are there twice,
options that do not exist, globals that nobody has declared and, when luacheck is installed, what that
finds: each with file and line. Exit code 1 when there is an error; warnings alone are 0.]],
  examples = { "perigee check", "perigee check --strict --json" },
  flags = {
    { name = "--json", doc = "Print an object: ok, apps, files, problems (file, line, level, kind, message)." },
    { name = "--strict", doc = "Warnings count as errors." },
    { name = "--no-luacheck", doc = "Leave luacheck out." },
  },
  has_settings = true,
  completes = "dir",
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("check", args, 1)
    if not parsed then return code end
    local options = parsed.options
    local found, wrong, partial = settings.resolve(cli.given(parsed, parsed.words[1]))
    local apps = (found or partial).values.apps
    local checked = check.run(apps, { luacheck = not options["no-luacheck"] })
    check.retire(checked)
    local problems = table.move(checked.problems, 1, #checked.problems, #(wrong or {}) + 1, wrong or {})
    local n_errors = 0
    for _, problem in ipairs(problems) do
      if problem.level ~= "warning" or options.strict then n_errors = n_errors + 1 end
    end
    if options.json then
      local list = setmetatable({}, core.array_mt)
      for i, problem in ipairs(problems) do list[i] = as_json(problem) end
      io.stdout:write(require("perigee.cli.json").pretty {
        ok = n_errors == 0, apps = checked.n_apps, files = checked.n_files, problems = list,
        luacheck = checked.has_luacheck or false,
      }, "\n")
      return n_errors == 0 and 0 or 1
    end
    for _, problem in ipairs(problems) do io.stdout:write(as_text(problem)) end
    local n_warnings = 0
    for _, problem in ipairs(problems) do
      if problem.level == "warning" then n_warnings = n_warnings + 1 end
    end
    io.stdout:write(("%s, %s: "):format(count(checked.n_apps, "app"), count(checked.n_files, "file")),
      #problems == 0 and "nothing wrong"
        or count(#problems - n_warnings, "error") .. ", " .. count(n_warnings, "warning"),
      checked.has_luacheck == false and " (luacheck is not installed: apt install lua-check)" or "", "\n")
    return n_errors == 0 and 0 or 1
  end,
}

return M
