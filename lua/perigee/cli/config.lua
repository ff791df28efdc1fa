--- perigee config: every setting, its value, and where that comes from.
local config = require("perigee.config")
local core = require("perigee.core")
local settings = require("perigee.settings")
local spelling = require("perigee.spelling")

--- A value as perigee.conf.lua would give it.
---@param key perigee.Key
---@return string
local function as_lua(key)
  if key.type == "integer" or key.type == "boolean" or type(key.default) == "number" and key.type == "workers" then
    return tostring(key.default)
  elseif key.type == "addresses" then
    local words = {}
    for i, at in ipairs(key.default) do words[i] = ("%q"):format(config.show_address(at)) end
    return "{ " .. table.concat(words, ", ") .. " }"
  elseif config.is_list(key) then
    local words = {}
    for i, item in ipairs(key.default) do words[i] = ("%q"):format(item) end
    return #words > 0 and "{ " .. table.concat(words, ", ") .. " }" or "{}"
  end
  return ("%q"):format(config.show(key, key.default))
end

--- A configuration file with every setting, each commented out.
---@return string
local function defaults()
  local out, section = {
    "-- Settings of Perigee. Every line is optional; what is commented out is the default.\n",
    "-- PERIGEE_* variables and flags win over this file; 'perigee config' shows what counts.\n",
    "-- Besides plain values there are env(\"NAME\", \"default\") and, for passwords, secret \"NAME\".\n",
    "return {\n",
  }, nil
  for _, key in ipairs(config.keys) do
    if key.section ~= section then
      out[#out + 1] = ("%s  -- %s\n"):format(section and "\n" or "", key.section)
      section = key.section
    end
    local about = key.choices and ' "' .. table.concat(key.choices, '", "') .. '"' or config.range(key)
    about = about and " (" .. about:gsub("^ ", "") .. ")" or ""
    out[#out + 1] = ("\n  -- %s%s\n  -- %s = %s,\n"):format(key.doc, about, key.name,
      key.default == nil and "nil" or as_lua(key))
  end
  out[#out + 1] = "}\n"
  return table.concat(out)
end

--- What --json says of a setting.
---@param found perigee.Settings
---@param key perigee.Key
local function as_json(found, key)
  local value = found.values[key.name]
  local entry = {
    source = found.sources[key.name], type = key.type, doc = key.doc, min = key.min, max = key.max,
    variable = config.variable(key.name), flag = config.flag(key.name),
    unit = key.type == "size" and "bytes" or key.type == "duration" and "seconds" or nil,
    default = key.default ~= nil and config.show(key, key.default) or nil,
    choices = key.choices and setmetatable({ table.unpack(key.choices) }, core.array_mt) or nil,
  }
  if value ~= nil then
    entry.text = settings.masked(found, config.show(key, value))
    entry.value = entry.text
    if type(value) == "number" or type(value) == "boolean" then entry.value = value end
  end
  return entry
end

---@type perigee.Command
local M = {
  summary = "show every setting, its value and where it comes from",
  usage = "perigee config [SETTING ...] [flags]",
  about = [[
Shows the settings that 'perigee serve' would use here: value and source, which is the line of
perigee.conf.lua, the environment variable or the flag that gave it. Secrets are masked.]],
  examples = {
    "perigee config",
    "perigee config listen max_body",
    "perigee config --defaults > perigee.conf.lua",
  },
  flags = {
    { name = "--defaults", doc = "Print a perigee.conf.lua with every setting, commented out." },
    { name = "--json", doc = "Print an object with value, source, unit and range of each setting." },
  },
  has_settings = true,
  completes = "setting",
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("config", args, math.huge)
    if not parsed then return code end
    if parsed.options.defaults then
      io.stdout:write(defaults())
      return 0
    end
    local keys = {}
    for i, word in ipairs(parsed.words) do
      local name = word:gsub("^%-%-", ""):gsub("-", "_")
      keys[i] = config.by_name[name]
      if not keys[i] then
        return cli.usage_error("config",
          ("there is no setting '%s'%s"):format(word, spelling.hint(name, config.names())))
      end
    end
    if #keys == 0 then keys = config.keys end
    local found
    found, code = cli.settings("config", parsed)
    if not found then return code end
    if parsed.options.json then
      local all = {}
      for _, key in ipairs(keys) do all[key.name] = as_json(found, key) end
      io.stdout:write(require("perigee.cli.json").pretty(all), "\n")
      return 0
    end
    local width = 0
    local texts = {}
    for i, key in ipairs(keys) do
      local value = found.values[key.name]
      texts[i] = value == nil and "-" or settings.masked(found, config.show(key, value))
      width = math.max(width, #texts[i])
    end
    for i, key in ipairs(keys) do
      local row = "%-18s %-" .. math.min(width, 60) .. "s  %s\n"
      io.stdout:write(row:format(key.name, texts[i], found.sources[key.name]))
    end
    return 0
  end,
}

M.defaults = defaults

return M
