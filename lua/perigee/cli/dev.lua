--- perigee dev: the server as a developer runs it.
local config = require("perigee.config")

---@param at { address: string, port: integer }
---@return boolean
local function is_loopback(at)
  return at.address == "::1" or at.address:find("^127%.") ~= nil
end

---@type perigee.Command
local M = {
  summary = "serve apps while you write them: errors are shown to the client",
  usage = "perigee dev [DIR] [flags]",
  about = [[
Serves the apps in DIR (a folder of apps, or a project with a folder apps; default: apps) on this machine
only, with one worker. Code that is saved runs at once, without losing a connection; pages whose files
change are loaded again. Errors in handlers are shown to the client, with source lines and traceback.

Settings come from perigee.conf.lua, then from the environment, then from flags; later ones win. Other
addresses than this machine's that the file listens on are for 'perigee serve' and left out here.]],
  examples = { "perigee dev", "perigee dev examples --listen 127.0.0.1:9000" },
  has_settings = true,
  completes = "dir",
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("dev", args, 1)
    if not parsed then return code end
    local settings
    settings, code = cli.settings("dev", parsed, parsed.words[1])
    if not settings then return code end
    local values = settings.values
    local source = settings.sources.listen
    for _, at in ipairs(values.listen) do
      if not is_loopback(at) then
        if settings.file and source:sub(1, #settings.file) == settings.file then
          values.listen = config.by_name.listen.default
          break
        end
        return cli.usage_error("dev", ("dev shows errors to clients, so it listens on this machine only, not on "
          .. "%s (%s); use 'perigee serve'"):format(at.address, source))
      end
    end
    values.dev = true
    if settings.sources.watch == "default" then values.watch = true end
    return values
  end,
}

return M
