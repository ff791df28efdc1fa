--- Flags: read as a command declares them. Commands that read the settings have one more per setting.
local config = require("perigee.config")
local spelling = require("perigee.spelling")

local M = {}

---@class perigee.Flag
---@field name string "--json"
---@field short? string "-H"
---@field doc string
---@field value? string what stands for its value in help; without it the flag is a switch
---@field type? string of the value, as in perigee.Key; default "string"
---@field default? any
---@field min? number
---@field max? number
---@field choices? string[]
---@field many? boolean may be given several times; its value is a list
---@field completes? string as in perigee.Command

--- Flags that every command with settings has besides them.
---@type perigee.Flag[]
M.of_settings = {
  { name = "--config", value = "FILE", completes = "file",
    doc = "Configuration file; without it perigee.conf.lua, if there is one." },
}

---@class perigee.Parsed what a command line says
---@field words string[] what is no flag
---@field options table<string, any> by name without dashes; true for switches
---@field settings { key: perigee.Key, value: any }[]
---@field config? string --config

--- All flags that a command takes.
---@param command perigee.Command
---@return perigee.Flag[] own
---@return perigee.Key[] settings
function M.of(command)
  local own = { table.unpack(command.flags or {}) }
  if command.has_settings then table.move(M.of_settings, 1, #M.of_settings, #own + 1, own) end
  return own, command.has_settings and config.keys or {}
end

--- What each word that begins with a dash may be.
---@param command perigee.Command
---@return table<string, { flag: perigee.Flag?, key: perigee.Key?, is_off: boolean? }> by_word
---@return string[] words in order
local function known_flags(command)
  local by_word, words = {}, {}
  local own, keys = M.of(command)
  local function add(word, entry)
    if word and not by_word[word] then
      by_word[word] = entry
      words[#words + 1] = word
    end
  end
  for _, flag in ipairs(own) do
    add(flag.name, { flag = flag })
    add(flag.short, { flag = flag })
  end
  for _, key in ipairs(keys) do
    add(config.flag(key.name), { key = key })
    if key.type == "boolean" then add("--no-" .. config.flag(key.name):sub(3), { key = key, is_off = true }) end
  end
  return by_word, words
end

--- A flag's value from its text.
---@param entry { flag: perigee.Flag?, key: perigee.Key? }
---@param text string
---@return any value
---@return string? expected
local function read_value(entry, text)
  if entry.key then return config.parse(entry.key, text) end
  local flag = entry.flag --[[@as perigee.Flag]]
  return config.parse({ type = flag.type or "string", min = flag.min, max = flag.max, choices = flag.choices }, text)
end

--- Reads `--name value`, `--name=value` and other words; "--" ends the flags.
---@param command perigee.Command
---@param args string[]
---@return perigee.Parsed?
---@return string? message what is wrong
function M.parse(command, args)
  local parsed = { words = {}, options = {}, settings = {} }
  local by_word, known = known_flags(command)
  local i = 1
  while i <= #args do
    local word = args[i]
    if word == "--" then
      table.move(args, i + 1, #args, #parsed.words + 1, parsed.words)
      break
    elseif not word:find("^%-[^%d]") then -- "-" and negative numbers are words
      parsed.words[#parsed.words + 1] = word
    else
      local name, text = word:match("^(%-%-[^=]+)=(.*)$")
      name = name or word
      local entry = by_word[name]
      if not entry then return nil, ("there is no flag %s%s"):format(name, spelling.hint(name, known)) end
      local is_switch = entry.is_off or entry.key and entry.key.type == "boolean" or entry.flag and not entry.flag.value
      if is_switch and text and (entry.is_off or entry.flag) then return nil, name .. " takes no value" end
      if not is_switch and not text then
        i = i + 1
        text = args[i]
        if text == nil then return nil, name .. " needs a value" end
      end
      local value = not entry.is_off
      if text then
        local expected
        value, expected = read_value(entry, text)
        if value == nil then
          local quoted = config.quote(entry.key or { type = entry.flag.type or "string" }, text)
          return nil, ("%s: %s is not %s"):format(name, quoted, expected)
        end
      end
      if entry.key then
        parsed.settings[#parsed.settings + 1] = { key = entry.key, value = value }
      elseif name == "--config" then
        parsed.config = value
      else
        local option = entry.flag.name:sub(3)
        if entry.flag.many then
          parsed.options[option] = parsed.options[option] or {}
          table.insert(parsed.options[option], value)
        else
          parsed.options[option] = value
        end
      end
    end
    i = i + 1
  end
  return parsed
end

--- Lines of at most `width` bytes, broken between words.
---@param text string
---@param width integer
---@return string[]
local function wrap(text, width)
  local lines = {}
  for paragraph in text:gmatch("[^\n]+") do
    local line
    for word in paragraph:gmatch("%S+") do
      if line and #line + 1 + #word > width then
        lines[#lines + 1] = line
        line = word
      else
        line = line and line .. " " .. word or word
      end
    end
    lines[#lines + 1] = line
  end
  return lines
end

---@param title string
---@param rows { [1]: string, [2]: string }[] what to write, and what it does, line by line
local function section(out, title, rows)
  out[#out + 1] = ("\n%s\n"):format(title)
  for _, row in ipairs(rows) do
    local lines = wrap(row[2], 80)
    if #row[1] > 36 then table.insert(lines, 1, "") end
    for i, line in ipairs(lines) do
      out[#out + 1] = (("  %-36s %s"):format(i == 1 and row[1] or "", line):gsub("%s+$", "")) .. "\n"
    end
  end
end

--- A flag as it is written: "--max-body SIZE", "-H, --header 'NAME: VALUE'", "--[no-]watch".
---@param flag perigee.Flag
---@return string
function M.show(flag)
  return (flag.short and flag.short .. ", " or "") .. flag.name .. (flag.value and " " .. flag.value or "")
end

---@param key perigee.Key
---@return string
function M.show_setting(key)
  if key.type == "boolean" then return "--[no-]" .. config.flag(key.name):sub(3) end
  return config.flag(key.name) .. " " .. config.placeholder(key)
end

--- What is to be known of a setting besides its doc.
---@param key perigee.Key
---@return string
function M.facts(key)
  local range = config.range(key)
  local default = key.default == nil and "" or ", default " .. config.show(key, key.default)
  return ("%s%s%s"):format(config.variable(key.name), range and ", " .. range or "", default)
end

--- The flags as help text, section by section.
---@param command perigee.Command
---@return string
function M.help(command)
  local own, keys = M.of(command)
  local out, rows = {}, {}
  for _, flag in ipairs(own) do
    local default = flag.default ~= nil and (" (default %s)"):format(flag.default) or ""
    rows[#rows + 1] = { M.show(flag), flag.doc .. default }
  end
  if #rows > 0 then section(out, "Flags", rows) end
  local at = 1
  while keys[at] do
    local title = keys[at].section
    rows = {}
    while keys[at] and keys[at].section == title do
      rows[#rows + 1] = { M.show_setting(keys[at]), keys[at].doc .. "\n(" .. M.facts(keys[at]) .. ")" }
      at = at + 1
    end
    section(out, title, rows)
  end
  return table.concat(out)
end

return M
