--- The manual page, from the tables that help and flags come from.
local config = require("perigee.config")
local configfile = require("perigee.configfile")
local core = require("perigee.core")
local flags = require("perigee.cli.flags")

local M = {}

--- Text as troff reads it: nothing in it is a request, and dashes are those of a command line.
---@param text string
---@return string
local function escape(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("\n([.'])", "\n\\&%1"):gsub("^([.'])", "\\&%1"))
end

---@param text string
---@return string
local function bold(text)
  return "\\fB" .. escape(text) .. "\\fR"
end

--- Paragraphs.
---@param text string
---@return string
local function paragraphs(text)
  return (escape(text):gsub("\n\n+", "\n.PP\n"))
end

---@param out string[]
---@param term string
---@param text string
local function item(out, term, text)
  out[#out + 1] = (".TP\n%s\n%s\n"):format(bold(term), paragraphs(text))
end

---@param out string[]
---@param verb string
---@param command perigee.Command
local function write_command(out, verb, command)
  out[#out + 1] = (".SS %s\n%s\n.PP\n%s\n"):format(escape(verb), bold(command.usage), paragraphs(command.about))
  for _, flag in ipairs(command.flags or {}) do
    local default = flag.default ~= nil and (" Default: %s."):format(flag.default) or ""
    item(out, flags.show(flag), flag.doc .. default)
  end
  if command.has_settings then out[#out + 1] = ".PP\nTakes a flag for each setting, see SETTINGS.\n" end
  out[#out + 1] = ".PP\nExamples:\n.PP\n.RS\n.nf\n"
  for _, example in ipairs(command.examples) do out[#out + 1] = escape(example) .. "\n" end
  out[#out + 1] = ".fi\n.RE\n"
end

---@param out string[]
local function write_settings(out)
  out[#out + 1] = ".SH SETTINGS\n" .. paragraphs([[
Each setting has a default; perigee.conf.lua, environment variables and flags change it, the later ones winning.
Sizes have a unit, B, KiB, MiB or GiB, and are bytes without one; times have ms, s, m, h or d, and are seconds
without one. 'perigee config' shows all values and where they come from.]]) .. "\n"
  local section
  for _, key in ipairs(config.keys) do
    if key.section ~= section then
      section = key.section
      out[#out + 1] = (".SS %s\n"):format(escape(section))
    end
    item(out, ("%s, %s"):format(key.name, flags.show_setting(key)), ("%s\n(%s)"):format(key.doc, flags.facts(key)))
  end
end

--- The page as troff, for man.
---@return string
function M.text()
  local cli = require("perigee.cli")
  local out = {
    (".TH PERIGEE 1 \"\" \"Perigee %s\" \"User Commands\"\n"):format(core.version),
    ".SH NAME\nperigee \\- application server for realtime apps in Lua\n",
    ".SH SYNOPSIS\n",
  }
  for i, verb in ipairs(cli.verbs) do
    out[#out + 1] = (i > 1 and ".br\n" or "") .. bold(cli.command(verb).usage) .. "\n"
  end
  out[#out + 1] = ".SH DESCRIPTION\n" .. paragraphs([[
Perigee serves apps written in Lua. Clients call an app's methods with JSON-RPC, over WebSocket or by HTTP POST, and
the app calls them back. An app is a folder with its code, its page and its tests.]]) .. "\n"
  out[#out + 1] = ".SH COMMANDS\n"
  for _, verb in ipairs(cli.verbs) do
    local command = cli.command(verb)
    if command.about then write_command(out, verb, command) end
  end
  write_settings(out)
  out[#out + 1] = ".SH FILES\n"
  item(out, configfile.NAME, "Settings, in the current folder or where --config or PERIGEE_CONFIG says: a Lua file "
    .. "that returns a table. It can use env(\"NAME\", \"default\") and, for values that must not stand in it, "
    .. "secret \"NAME\": the variable NAME, or the first line of the file that NAME_FILE names.")
  item(out, "apps/NAME/init.lua", "An app; apps/NAME/public is served at /NAME/, apps/NAME/spec has its tests.")
  out[#out + 1] = ".SH ENVIRONMENT\n"
  item(out, "PERIGEE_...", "A setting: PERIGEE_MAX_BODY is max_body. For settings that are texts PERIGEE_..._FILE "
    .. "names a file with the value.")
  item(out, "PERIGEE_CONFIG", "Configuration file, as --config.")
  item(out, "NO_COLOR", "When set, nothing is coloured.")
  out[#out + 1] = ".SH EXIT STATUS\n"
  item(out, "0", "All went well.")
  item(out, "1", "It failed: mistakes were found, a test failed, a call was answered with an error, a server could "
    .. "not start.")
  item(out, "2", "The command line or a variable is wrong.")
  item(out, "3", "perigee call: no answer came.")
  return table.concat(out)
end

return M
