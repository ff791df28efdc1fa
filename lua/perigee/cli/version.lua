--- perigee version: which version this is, and of what it is made.
local core = require("perigee.core")

---@type perigee.Command
local M = {
  summary = "print the version",
  usage = "perigee version",
  help = [[
Usage: perigee version

Prints the version of Perigee and of the libraries it was built with.

Example:
  perigee version
]],
  run = function(args)
    if #args > 0 then
      return require("perigee.cli").usage_error("version", ("'%s' is one word too many"):format(args[1]))
    end
    io.stdout:write(("perigee %s (%s, libuv %s)\n"):format(core.version, _VERSION, require("luv").version_string()))
    return 0
  end,
}

return M
