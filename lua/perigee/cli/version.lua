--- perigee version: which version this is, and of what it is made.
local core = require("perigee.core")

---@type perigee.Command
local M = {
  summary = "print the version",
  usage = "perigee version",
  about = "Prints the version of Perigee and of the libraries it was built with.",
  examples = { "perigee version" },
  run = function(args)
    local parsed, code = require("perigee.cli").read("version", args, 0)
    if not parsed then return code end
    io.stdout:write(("perigee %s (%s, libuv %s)\n"):format(core.version, _VERSION, require("luv").version_string()))
    return 0
  end,
}

return M
