--- perigee reload: a running server loads what has changed.
local core = require("perigee.core")

--- A server waits for its workers for 30 seconds, perhaps twice: while it reloads for somebody else, and for us.
local SECONDS <const> = 90

---@param user integer
---@return string
local function name_of(user)
  local passwd = io.open("/etc/passwd")
  for line in passwd and passwd:lines() or function() end do
    local name, id = line:match("^([^:]+):[^:]*:(%d+):")
    if tonumber(id) == user then return name end
  end
  return tostring(user)
end

---@param text string
local function complain(text)
  text = core.printable(text)
  io.stderr:write("perigee reload: ", text, text:sub(-1) == "\n" and "" or "\n")
end

--- Says what the servers said. Those of other users are named, and decide nothing.
---@param answers { ok?: boolean, text: string, user?: integer, is_stranger: boolean }[]
---@param apps string
---@return integer exit code
local function report(answers, apps)
  local code, own = 0, 0
  for _, answer in ipairs(answers) do
    if not answer.is_stranger then own = own + 1 end
    if answer.ok then
      io.stdout:write(core.printable(answer.text))
    elseif answer.ok == false then
      code = 1
      complain(answer.text)
    elseif not answer.is_stranger then
      code = 1
      complain("a server does not answer: " .. answer.text)
    elseif not answer.user then
      complain("something that takes no connection has a server's name for these apps; it was not asked")
    else
      local name = name_of(answer.user)
      complain(("the user %s has a server's name for these apps; it was not asked. If it is a server, reload it as "
        .. "that user: runuser -u %s -- perigee reload"):format(name, name))
    end
  end
  if own > 0 then return code end
  complain(("no server%s of the apps in %s is running"):format(#answers > 0 and " of yours" or "", apps))
  return 1
end

---@type perigee.Command
local M = {
  summary = "load apps that have changed into a running server",
  usage = "perigee reload [DIR] [flags]",
  about = [[
Asks the server that serves the apps in DIR (a folder of apps, or a project; default: apps) to load those
whose files have changed, in all of its workers or in none, and waits until it has. Nobody is
disconnected. Prints what has changed or, with exit code 1, what is wrong: then the old code serves on.
When several servers serve that folder, each of them is asked.

The server must run on this machine and be your own. Root may reload its own servers and those of whoever
owns the apps; a server that runs as somebody else is reloaded as that user, by runuser -u USER. SIGHUP to
'perigee serve' does the same without an answer.]],
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
    return report(core.remote(apps, "reload", SECONDS), apps)
  end,
}

return M
