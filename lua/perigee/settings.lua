--- What the server is told: defaults < perigee.conf.lua < PERIGEE_* variables < flags. Knows of each
--- value where it came from, and of all that is wrong which line says so.
local config = require("perigee.config")
local configfile = require("perigee.configfile")
local project = require("perigee.project")
local spelling = require("perigee.spelling")
local uv = require("luv")

local M = {}

---@class perigee.Settings
---@field values table<string, any> by key
---@field sources table<string, string> "default", "perigee.conf.lua:9", "PERIGEE_MAX_BODY", "--max-body"
---@field file string? the configuration file that was read
---@field secrets string[] values that must not be shown

---@class perigee.Given what the command line and the environment say
---@field flags? { key: perigee.Key, value: any }[] in order
---@field config? string --config
---@field dir? string the project, or its folder of apps
---@field environ table<string, string>

--- Variables that are no settings.
local other_variables = { PERIGEE_CONFIG = true, PERIGEE_LUA = true, PERIGEE_TEST_LOG = true, PERIGEE_BUILD = true }

---@param dir string
---@param path string
---@return string
local function join(dir, path)
  if path:sub(1, 1) == "/" or dir == "" or dir == "." then return path end
  return dir .. "/" .. path
end

---@param path string
---@return string folder "" for the current one
local function folder_of(path)
  return path:match("^(.*)/[^/]*$") or ""
end

--- Is this the folder of a project, rather than of apps?
---@param dir string
---@return boolean
local function is_project(dir)
  if uv.fs_stat(dir .. "/" .. configfile.NAME) then return true end
  local apps = uv.fs_stat(dir .. "/apps")
  return apps ~= nil and apps.type == "directory" and not uv.fs_stat(dir .. "/apps/init.lua")
end

--- Makes a text fit to be shown: secrets and passwords in URLs are hidden.
---@param settings perigee.Settings
---@param text string
---@return string
function M.masked(settings, text)
  for _, secret in ipairs(settings.secrets) do
    local from, to = text:find(secret, 1, true)
    while from do
      text = text:sub(1, from - 1) .. "******" .. text:sub(to + 1)
      from, to = text:find(secret, from + 6, true)
    end
  end
  return config.without_passwords(text)
end

--- Takes one text over. Returns what is wrong with it, if anything.
local function take_text(settings, key, text, source)
  local value, expected = config.parse(key, text)
  if value == nil then
    return { message = ("%s: %s is not %s"):format(source, config.quote(key, text), expected) }
  end
  settings.values[key.name], settings.sources[key.name] = value, source
end

--- The whole table of a configuration file.
---@param settings perigee.Settings
---@param file perigee.ConfigFile
---@param problems perigee.Problem[]
local function take_file(settings, file, problems)
  local names = {}
  for name in pairs(file.values) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    local x, y = file.lines[a] or 0, file.lines[b] or 0
    if x ~= y then return x < y end
    return tostring(a) < tostring(b)
  end)
  for _, name in ipairs(names) do
    local key, given = config.by_name[name], file.values[name]
    if type(name) ~= "string" then
      problems[#problems + 1] = configfile.complain(file, nil,
        ("item %s has no name; settings are given as name = value"):format(tostring(name)))
    elseif not key then
      problems[#problems + 1] = configfile.complain(file, name,
        ("there is no setting '%s'%s"):format(name, spelling.hint(name, config.names())))
    else
      local value, expected = config.take(key, given)
      if value == nil then
        local got = type(given) == "string" and M.masked(settings, config.quote(key, given))
          or (type(given) == "number" or type(given) == "boolean") and tostring(given) or "a " .. type(given)
        local problem = configfile.complain(file, name, ("%s: %s is not %s"):format(name, got, expected))
        if key.type == "secret" then problem.excerpt = nil end
        problems[#problems + 1] = problem
      else
        if key.type == "path" and value ~= "auto" then value = join(folder_of(file.path), value) end
        local line = file.lines[name]
        settings.values[name] = value
        settings.sources[name] = line and ("%s:%d"):format(file.path, line) or file.path
      end
    end
  end
end

--- PERIGEE_* variables; PERIGEE_X_FILE names a file whose first line is the value of a text.
---@param settings perigee.Settings
---@param environ table<string, string>
---@param problems perigee.Problem[]
local function take_environment(settings, environ, problems)
  local known = {}
  for _, key in ipairs(config.keys) do
    local variable = config.variable(key.name)
    known[variable] = true
    local text, source = environ[variable], variable
    if key.type == "string" or key.type == "layer" or key.type == "sessions" or key.type == "secret" then
      known[variable .. "_FILE"] = true
      local path = environ[variable .. "_FILE"]
      if (text == nil or text == "") and path and path ~= "" then
        source = variable .. "_FILE"
        local err
        text, err = configfile.find_secret(variable, environ)
        if not text then problems[#problems + 1] = { message = err } end
        settings.secrets[#settings.secrets + 1] = text
      end
    end
    if text and text ~= "" then problems[#problems + 1] = take_text(settings, key, text, source) end
  end
  -- others may have variables of that prefix, too; but one that is nearly right is a slip
  local names = config.names()
  for _, variable in ipairs(spelling.keys(environ)) do
    local name = variable:match("^PERIGEE_(.+)$")
    local nearest = name and not known[variable] and not other_variables[variable]
      and spelling.nearest(name:lower(), names)
    if nearest then
      problems[#problems + 1] = { message = ("%s: there is no such setting (did you mean '%s'?)"):format(
        variable, config.variable(nearest)) }
    end
  end
end

--- The configuration file to read, or nil when there is none.
---@param given perigee.Given
---@return string?
local function find_file(given)
  local named = given.config or given.environ.PERIGEE_CONFIG
  if named and named ~= "" then return named end
  local dir = given.dir and is_project(given.dir) and given.dir or "."
  local path = join(dir, configfile.NAME)
  return uv.fs_stat(path) and path or nil
end

--- What "auto" is for this project.
---@param settings perigee.Settings
---@param environ table<string, string>
local function settle_project(settings, environ)
  local values, sources = settings.values, settings.sources
  if values.state == "auto" then
    local folder, source = project.state(values.apps, environ)
    values.state = folder or "auto"
    if sources.state == "default" then sources.state = source end
  end
  if values.session_cookie == "auto" then values.session_cookie = project.cookie(values) end
end

--- Settles all settings. Returns nil and all that is wrong when something is.
---@param given perigee.Given
---@return perigee.Settings? settings
---@return perigee.Problem[]? problems without a file: of the environment
---@return perigee.Settings? partial what could be settled all the same
function M.resolve(given)
  local settings = { values = config.defaults(), sources = {}, secrets = {} }
  local problems = {}
  for _, key in ipairs(config.keys) do settings.sources[key.name] = "default" end
  if given.dir and is_project(given.dir) then settings.values.apps = join(given.dir, settings.values.apps) end
  local path = find_file(given)
  if path then
    local file, err = configfile.read(path, given.environ)
    settings.file = path
    if file then
      settings.secrets = file.secrets
      take_file(settings, file, problems)
    else
      problems[1] = err
    end
  end
  take_environment(settings, given.environ, problems)
  if given.dir and not is_project(given.dir) then
    settings.values.apps, settings.sources.apps = given.dir, "command line"
  end
  for _, flag in ipairs(given.flags or {}) do
    local name, source = flag.key.name, config.flag(flag.key.name)
    if config.is_list(flag.key) and settings.sources[name] == source then
      table.move(flag.value, 1, #flag.value, #settings.values[name] + 1, settings.values[name])
    else
      settings.values[name], settings.sources[name] = flag.value, source
    end
  end
  settle_project(settings, given.environ)
  for _, key in ipairs(config.keys) do
    local value = settings.values[key.name]
    if key.type == "secret" and value ~= key.default then settings.secrets[#settings.secrets + 1] = value end
  end
  local clash = #problems == 0 and config.clash(settings.values)
  if clash then
    local file, line = settings.sources[clash.name]:match("^(.*):(%d+)$")
    problems[1] = { file = file, line = math.tointeger(tonumber(line)), message = clash.message, kind = "config" }
  end
  if #problems > 0 then return nil, problems, settings end
  return settings
end

return M
