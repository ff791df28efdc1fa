--- perigee.conf.lua: runs it in a closed sandbox and tells which line each setting stands on.
---
--- The file is Lua and returns a table. All it can call is env and secret: no libraries, no functions
--- of strings, so little that it comes to an end within a few steps and a little memory.
local report = require("perigee.report")
local source = require("perigee.source")
local spelling = require("perigee.spelling")
local uv = require("luv")

local M = {}

M.NAME = "perigee.conf.lua"
M.MAX_BYTES = 1024 * 1024
M.MAX_STEPS = 100000
M.MAX_KIB = 16 * 1024 -- of memory while it runs

--- What the chunk is called: short, so that error messages begin with all of it.
local CHUNK = "@config"

---@class perigee.Problem what is wrong with a file
---@field file? string
---@field line? integer
---@field column? integer
---@field message string
---@field kind? string
---@field level? "error"|"warning"
---@field excerpt? string the lines around it

---@param file string
---@param line integer?
---@param message string
---@return perigee.Problem
local function problem(file, line, message)
  local excerpt = line and report.excerpt(file, line)
  -- a key that stands in the file itself does not belong into a log
  excerpt = excerpt and excerpt:gsub("(%f[%w_]secret%s*=%s*)([\"']).-%2", "%1%2******%2")
  return { file = file, line = line, message = message, kind = "config", excerpt = excerpt or nil }
end

-- ---- secrets ------------------------------------------------------------------------------------

--- First line of a file, without its end.
---@param path string
---@return string?
---@return string? err
local function first_line(path)
  local file, err = io.open(path, "rb")
  if not file then return nil, err end
  local line = file:read("l")
  file:close()
  line = line and source.text(line):gsub("\r$", "")
  if not line or line == "" then return nil, path .. ": is empty" end
  return line
end

--- A value that must not be in the file itself: from the variable NAME, from the file that NAME_FILE
--- names, or from systemd's credentials.
---@param name string
---@param environ table<string, string>
---@return string? value
---@return string? err what is missing, and what to do
function M.find_secret(name, environ)
  local value = environ[name]
  if value and value ~= "" then return value end
  local path = environ[name .. "_FILE"]
  if path and path ~= "" then
    local line, err = first_line(path)
    if not line then return nil, ("the secret %s cannot be read: %s_FILE: %s"):format(name, name, err) end
    return line
  end
  local folder = environ.CREDENTIALS_DIRECTORY
  local line = folder and not name:find("/", 1, true) and first_line(folder .. "/" .. name)
  if line then return line end
  return nil, ("the secret %s is missing: set the environment variable %s, or %s_FILE to the path of a file that "
    .. "holds it"):format(name, name, name)
end

--- Writes what is no letter, digit or one of -._~ as %XX.
---@param text string
---@return string
local function percent_encode(text)
  return (text:gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

--- User and password of a URL. A user that is a secret may hold the colon that ends any other.
---@param login string
---@param secrets string[]
---@return string? user nil: there is no password
---@return string? password
local function split_login(login, secrets)
  local user, password = login:match("^([^:]*):(.*)$")
  for _, secret in ipairs(secrets) do
    if #secret > #(user or "") and login:sub(1, #secret + 1) == secret .. ":" then
      user, password = secret, login:sub(#secret + 2)
    end
  end
  return user, password
end

--- A URL in which a secret stands as the user, the password or both: these are encoded, so that any byte will do;
--- one that is encoded already is taken for what it is. Any other text stays what it is.
---@param text string
---@param secrets string[] gets what is to be masked in the result
---@return string
local function with_encoded_secrets(text, secrets)
  local scheme, login, rest = text:match("^(%a[%w+.-]*://)(.*)(@[^@]*)$")
  if not scheme then return text end
  local is_secret = {}
  for _, secret in ipairs(secrets) do is_secret[secret] = true end
  local function encode(part, is_within)
    if not (is_within or is_secret[part]) then return part end
    part = percent_encode(part)
    secrets[#secrets + 1] = part ~= "" and part or nil
    return part
  end
  local user, password = split_login(login, secrets)
  if not user then return scheme .. encode(login) .. rest end
  local is_within = is_secret[login]
  user, password = encode(user, is_within), encode(password, is_within)
  return scheme .. user .. ":" .. password .. rest
end

-- ---- the sandbox --------------------------------------------------------------------------------

---@param environ table<string, string>
---@param secrets string[] gets each secret that was used, so that it can be masked
---@return table env
local function make_environment(environ, secrets)
  local known = {
    env = function(name, default)
      if type(name) ~= "string" then error('env takes the name of a variable: env("NAME", "default")', 2) end
      local value = environ[name]
      if value and value ~= "" then return value end
      if default == nil then
        error(('the environment variable %s is not set: set it, or give a default: env("%s", "...")')
          :format(name, name), 2)
      end
      return default
    end,
    secret = function(name)
      if type(name) ~= "string" or not name:find("^[%w_.-]+$") then
        error('secret takes the name of a variable: secret "NAME"', 2)
      end
      local value, err = M.find_secret(name, environ)
      if not value then error(err, 2) end
      secrets[#secrets + 1] = value
      return value
    end,
  }
  return setmetatable({}, {
    __index = function(_, name)
      local value = known[name]
      if value == nil then
        error(("there is no '%s' here: the file can use env and secret%s"):format(tostring(name),
          spelling.hint(name, { "env", "secret" })), 2)
      end
      return value
    end,
    __newindex = function(_, name)
      error(("'%s' is assigned to: settings are fields of the table that the file returns, return { %s = ... }")
        :format(tostring(name), tostring(name)), 2)
    end,
  })
end

--- Runs a chunk with bounds on steps and memory, and without functions of strings.
---@param chunk function
---@return boolean ok
---@return any result
local function run_bounded(chunk)
  local strings = getmetatable("")
  local functions = strings.__index
  collectgarbage()
  local steps, most = 0, collectgarbage("count") + M.MAX_KIB
  strings.__index = function(_, name)
    if debug.getinfo(2, "S").source ~= CHUNK then return string[name] end -- env and secret may
    error(("strings have no '%s' here: the file can use env and secret"):format(tostring(name)), 2)
  end
  debug.sethook(function()
    steps = steps + 1
    local is_long, is_large = steps > M.MAX_STEPS, collectgarbage("count") > most
    if not (is_long or is_large) then return end
    debug.sethook() -- or it would fire in what comes after the chunk
    if is_long then error(("the file does not come to an end (%d steps)"):format(M.MAX_STEPS), 2) end
    error(("the file needs more than %d MiB of memory"):format(M.MAX_KIB // 1024), 2)
  end, "", 1)
  local ok, result = pcall(chunk)
  debug.sethook()
  strings.__index = functions
  return ok, result
end

-- ---- lines --------------------------------------------------------------------------------------

--- Blanks out what is no code: comments and the insides of strings. Lines stay where they are.
---@param text string
---@return string
local function without_words(text)
  local out, at = {}, 1
  local function blank(from, to)
    out[#out + 1] = text:sub(from, to):gsub("[^\n]", " ")
  end
  while at <= #text do
    local stop = text:find("[%-%[\"']", at)
    if not stop then break end
    out[#out + 1] = text:sub(at, stop - 1)
    local is_comment = text:find("^%-%-", stop)
    local level = text:match("^%[(=*)%[", is_comment and stop + 2 or stop)
    local last
    if level then
      last = select(2, text:find("]" .. level .. "]", stop, true)) or #text
    elseif is_comment then
      last = (text:find("\n", stop, true) or #text + 1) - 1
    elseif text:find("^[\"']", stop) then
      local quote = text:sub(stop, stop)
      last = stop + 1
      while last <= #text and text:sub(last, last) ~= quote do
        last = last + (text:sub(last, last) == "\\" and 2 or 1)
      end
    else
      last = stop
      out[#out + 1] = text:sub(stop, stop)
    end
    if level or is_comment or text:find("^[\"']", stop) then blank(stop, last) end
    at = last + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

--- The lines that fields are given on, as far as they can be seen: `name =`. The last one counts.
---@param text string
---@return table<string, integer>
local function lines_of_fields(text)
  local lines, number = {}, 0
  for line in (without_words(text) .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    for name, after in line:gmatch("([%a_][%w_]*)%s*=(.?)") do
      if after ~= "=" then lines[name] = number end
    end
  end
  return lines
end

-- ---- reading ------------------------------------------------------------------------------------

---@class perigee.ConfigFile
---@field path string
---@field values table<any, any> as the file gives them
---@field lines table<string, integer>
---@field secrets string[]

--- Line and text of an error that the chunk raised.
local function split_error(err)
  err = report.text(err)
  local line, message = err:match("^config:(%d+): (.*)$")
  return math.tointeger(tonumber(line)), message or err
end

--- Reads and runs a configuration file.
---@param path string
---@param environ table<string, string>
---@return perigee.ConfigFile?
---@return perigee.Problem?
function M.read(path, environ)
  local stat, stat_err = uv.fs_stat(path)
  if not stat then
    return nil, problem(path, nil, "cannot be read: " .. (stat_err:match("^%u+: ([^:]+)") or stat_err))
  end
  if stat.type == "directory" then return nil, problem(path, nil, "cannot be read: it is a folder") end
  local file, err = io.open(path, "rb")
  local text = file and file:read(M.MAX_BYTES + 1) or ""
  if not file then return nil, problem(path, nil, "cannot be read: " .. err) end
  file:close()
  if #text > M.MAX_BYTES then return nil, problem(path, nil, ("is longer than %d bytes"):format(M.MAX_BYTES)) end
  text = source.text(text)
  report.know { [path] = text }
  local secrets = {}
  local chunk, syntax = source.load(text, CHUNK, make_environment(environ, secrets))
  if not chunk then return nil, problem(path, split_error(syntax)) end
  local ok, result = run_bounded(chunk)
  if not ok then return nil, problem(path, split_error(result)) end
  if type(result) ~= "table" then
    return nil, problem(path, nil, 'must return a table of settings, such as return { max_body = "4MiB" }; '
      .. "it returns " .. (result == nil and "nothing" or "a " .. type(result)))
  end
  for name, value in pairs(result) do
    if type(value) == "string" then result[name] = with_encoded_secrets(value, secrets) end
  end
  return { path = path, values = result, lines = lines_of_fields(text), secrets = secrets }
end

--- A problem with one of the file's fields.
---@param file perigee.ConfigFile
---@param name any
---@param message string
---@return perigee.Problem
function M.complain(file, name, message)
  return problem(file.path, file.lines[name], message)
end

return M
