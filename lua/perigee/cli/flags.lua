--- Flags of the commands that start a server: one per setting, all from the table of settings.
local config = require("perigee.config")
local spelling = require("perigee.spelling")

local M = {}

--- Reads `--name value`, `--name=value` and other words.
---@param args string[]
---@param values table<string, any> settings to write to
---@return string[]? words what is no flag; nil when something is wrong
---@return string? message what is wrong
function M.read(args, values)
  local by_flag, flags, words, has_listen = {}, {}, {}, false
  for _, key in ipairs(config.keys) do
    by_flag[config.flag(key.name)] = key
    flags[#flags + 1] = config.flag(key.name)
  end
  local i = 1
  while i <= #args do
    local word = args[i]
    if word:sub(1, 1) == "-" and #word > 1 then
      local flag, value = word:match("^(%-%-[^=]+)=(.*)$")
      flag = flag or word
      local key = by_flag[flag]
      if not key then return nil, ("there is no flag %s%s"):format(flag, spelling.hint(flag, flags)) end
      if not value then
        i = i + 1
        value = args[i]
        if value == nil then return nil, flag .. " needs a value" end
      end
      local parsed, expected = config.parse(key, value)
      if parsed == nil then return nil, ("%s: '%s' is not %s"):format(flag, value, expected) end
      if key.type == "addresses" then
        if not has_listen then values[key.name] = {} end
        has_listen = true
        table.insert(values[key.name], parsed)
      else
        values[key.name] = parsed
      end
    else
      words[#words + 1] = word
    end
    i = i + 1
  end
  return words
end

--- The flags as help text, section by section.
---@return string
function M.help()
  local out, section = {}, nil
  for _, key in ipairs(config.keys) do
    if key.section ~= section then
      section = key.section
      out[#out + 1] = ("\n%s\n"):format(section)
    end
    local value = key.type == "choice" and table.concat(key.choices, "|") or key.type == "addresses" and "ADDR:PORT"
      or key.type == "size" and "SIZE" or key.type == "duration" and "TIME" or key.type == "integer" and "N" or "DIR"
    out[#out + 1] = ("  %-36s %s\n%38s (%s, default %s)\n"):format(
      config.flag(key.name) .. " " .. value, key.doc, "", config.variable(key.name), config.show(key, key.default))
  end
  return table.concat(out)
end

return M
