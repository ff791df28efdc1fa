--- Looks for mistakes in apps without serving them: what does not load, what would fail once it runs,
--- and what luacheck thinks of it.
local app = require("perigee.app")
local bytecode = require("perigee.bytecode")
local core = require("perigee.core")
local report = require("perigee.report")
local secret = require("perigee.secret")
local source_text = require("perigee.source")
local spelling = require("perigee.spelling")
local uv = require("luv")

local M = {}

--- Processor time after which code that an app runs while it is loaded counts as endless.
M.LOAD_SECONDS = 5

--- What busted gives to specs besides Lua's own globals.
local busted = {
  "describe", "context", "insulate", "expose", "it", "spec", "test", "pending", "finally", "async",
  "before_each", "after_each", "setup", "teardown", "lazy_setup", "lazy_teardown", "strict_setup", "strict_teardown",
  "assert", "spy", "mock", "stub", "randomize", "file", "match",
}

---@class perigee.Checked
---@field problems perigee.Problem[] by file and line
---@field apps perigee.App[] those that were loaded
---@field n_apps integer
---@field n_files integer
---@field has_luacheck? boolean nil: it was not asked

-- ---- files --------------------------------------------------------------------------------------

---@class perigee.Source a Lua file of an app
---@field path string
---@field app string
---@field is_spec boolean
---@field chunk? function

--- Lua files below a folder; what is in public/ is for browsers.
---@param dir string
---@param place { name: string }
---@param is_spec boolean
---@param found perigee.Source[]
local function find_sources(dir, place, is_spec, found)
  local handle = uv.fs_scandir(dir)
  while handle do
    local name, kind = uv.fs_scandir_next(handle)
    if not name then break end
    local path = dir .. "/" .. name
    if kind == "link" or kind == "unknown" then
      local stat = uv.fs_stat(path)
      kind = stat and stat.type
    end
    if kind == "directory" and name ~= "public" and not name:find("^%.") then
      find_sources(path, place, is_spec or name == "spec", found)
    elseif kind == "file" and name:find("%.lua$") then
      found[#found + 1] = { path = path, app = place.name, is_spec = is_spec }
    end
  end
end

---@param path string
---@return string? text
---@return string? err
local function read_file(path)
  local file, err = io.open(path, "rb")
  if not file then return nil, err end
  local text = file:read("a")
  file:close()
  return text
end

-- ---- problems -----------------------------------------------------------------------------------

---@class perigee.Checking
---@field problems perigee.Problem[]
---@field sources perigee.Source[]
---@field texts table<string, string> by path
---@field threaded table<string, boolean> by path: may run in a state of its own
---@field seen table<string, true>
local Checking = {}
Checking.__index = Checking

---@param problem perigee.Problem
function Checking:add(problem)
  local id = ("%s\0%s\0%s"):format(problem.file, problem.line, problem.message)
  if self.seen[id] then return end
  self.seen[id] = true
  problem.level = problem.level or "error"
  if problem.line and not problem.excerpt then problem.excerpt = report.excerpt(problem.file, problem.line) end
  self.problems[#self.problems + 1] = problem
end

--- Error messages shorten long paths: the file that is meant.
---@param shown string
---@return string
function Checking:path_of(shown)
  for _, source in ipairs(self.sources) do
    if source.path == shown or source.path:sub(-#shown - 1) == "/" .. shown then return source.path end
  end
  return shown
end

--- Is this the name of a chunk that is one of the apps' files?
---@param source string as debug.getinfo gives it
---@return boolean
function Checking:is_app_code(source)
  local path = source:match("^@(.*)$")
  for _, one in ipairs(path and self.sources or {}) do
    if one.path == path or one.path:sub(-#path - 1) == "/" .. path then return true end
  end
  return false
end

--- Takes an error message apart: "FILE:LINE: what\nlines around it".
---@param message string
---@param kind string
---@param level? string
function Checking:add_message(message, kind, level)
  local first, rest = message:match("^([^\n]*)\n?(.*)$")
  local file, line = report.place(first)
  if file then
    first = first:match("^%s*[^\n:]+:%d+:%s*(.*)$")
  else
    local rest_of_first
    file, rest_of_first = first:match("^([^\n:]+%.lua): (.*)$")
    first = rest_of_first or first
  end
  self:add {
    file = file and self:path_of(file), line = line, message = first, kind = kind, level = level,
    excerpt = rest ~= "" and rest or nil,
  }
end

-- ---- steps --------------------------------------------------------------------------------------

--- Syntax of every file, also of those that nothing has required so far.
function Checking:compile()
  for _, one in ipairs(self.sources) do
    local text, err = read_file(one.path)
    if text then
      self.texts[one.path] = source_text.text(text)
      one.chunk, err = source_text.load(text, "@" .. one.path)
    end
    if not one.chunk then
      -- Lua shortens long names in messages; the line is what counts
      local line, message = tostring(err):match(":(%d+): (.*)$")
      self:add { file = one.path, line = math.tointeger(tonumber(line)), message = message or err, kind = "syntax" }
    end
  end
end

--- Runs fn; what an app logs as a warning meanwhile is a problem, and so is running on and on.
---@param fn fun(): any
---@return boolean ok
---@return any result
function Checking:watch(fn)
  local log = core.log
  core.log = function(level, event, fields)
    if level ~= "warn" and level ~= "error" then return end
    local words, at = {}, nil
    for _, key in ipairs(spelling.keys(fields or {})) do
      if key == "at" then at = fields.at else words[#words + 1] = ("%s=%s"):format(key, tostring(fields[key])) end
    end
    local message = #words > 0 and ("%s (%s)"):format(event, table.concat(words, ", ")) or event
    self:add_message(at and at .. ": " .. message or message, "app", "warning")
  end
  local until_time = os.clock() + M.LOAD_SECONDS
  local is_late = false
  local function on_count()
    if not is_late and os.clock() < until_time then return end
    if not is_late then
      is_late = true
      debug.sethook(on_count, "", 1) -- from here on at every step, or a pcall in a loop would hide it
    end
    if not self:is_app_code(debug.getinfo(2, "S").source) then return end -- the server's own is on its way out
    error(("this runs on and on while the app is loaded (%g s and more)"):format(M.LOAD_SECONDS), 2)
  end
  debug.sethook(on_count, "", 1000000)
  local ok, result = pcall(fn)
  debug.sethook()
  core.log = log
  return ok, result
end

--- Loads an app.
---@param place { name: string, file: string, dir: string? }
---@return perigee.App?
function Checking:load(place)
  for _, source in ipairs(self.sources) do
    -- what was found already would only be said again
    if source.path == place.file and not source.chunk then return nil end
  end
  local ok, result = self:watch(function() return app.load(place) end)
  if ok then return result end
  self:add_message(report.text(result), "load")
end

--- Two consumers on one path, within an app or between two; two handlers of one route.
---@param apps perigee.App[]
function Checking:routes(apps)
  local owners, is_double = {}, false
  for _, one in ipairs(apps) do
    for _, record in ipairs(one.consumers) do
      local key = record.is_plain and "routes " .. record.path or record.path
      local other = owners[key]
      if other then
        is_double = true
        self:add_message(("%s: two %s on the path %s: the other is at %s"):format(record.place,
          record.is_plain and "perigee.http_routes" or "consumers", record.path, other.place), "load")
      end
      owners[key] = record
    end
  end
  if is_double then return end
  local ok, message = pcall(app.routes, apps)
  if ok then return end
  message = report.text(message)
  local place = not report.place(message) and message:match("(%S+%.lua:%d+)$")
  self:add_message(place and place .. ": " .. message or message, "load")
end

---@param names string[]
---@param into? table<string, true>
---@return table<string, true>
local function set_of(names, into)
  into = into or {}
  for _, name in ipairs(names) do into[name] = true end
  return into
end

--- Globals that are neither known nor set while the app was loaded: they fail when the line is reached.
---@param place { name: string }
---@param loaded perigee.App? nil when it does not load
function Checking:globals(place, loaded)
  local env = loaded and loaded.env or app.globals()
  local known = set_of(spelling.keys(env))
  local standard = set_of(spelling.keys(_G))
  local uses = {}
  for _, source in ipairs(self.sources) do
    if source.app == place.name and source.chunk then
      local found, locals = bytecode.globals(source.chunk)
      for _, use in ipairs(found) do
        uses[#uses + 1] = { source = source, use = use, locals = locals }
        -- of an app that does not load it is not known how far it would have come
        if not loaded and use.is_written then known[use.name] = true end
      end
    end
  end
  local in_specs = set_of(busted, set_of(spelling.keys(standard)))
  for _, one in ipairs(uses) do
    local source, use = one.source, one.use
    -- modules that run on threads of their own have all of Lua
    local is_known = source.is_spec and in_specs[use.name] or known[use.name]
      or standard[use.name] and self.threaded[source.path]
    if not is_known then
      local near = spelling.keys(one.locals) -- a variable of the file is the likelier one to be meant
      local others = spelling.keys(source.is_spec and in_specs or known)
      local hint = spelling.hint(use.name, table.move(others, 1, #others, #near + 1, near))
      self:add {
        file = source.path, line = use.line, kind = "global", level = source.is_spec and "warning" or "error",
        message = use.is_written and ("undeclared global '%s' is assigned: declare it with 'local'"):format(use.name)
          or ("undeclared global '%s'%s"):format(use.name, hint),
      }
    end
  end
end

--- Files that the app's own load did not run: perigee.blocking may run them in a state of their own.
---@param apps perigee.App[]
function Checking:find_threaded(apps)
  local ran = {}
  for _, one in ipairs(apps) do
    ran[one.file] = true
    for name in pairs(one.loaded) do
      local path = one.dir and name:sub(1, #one.name + 1) == one.name .. "."
        and one.dir .. "/" .. name:sub(#one.name + 2):gsub("%.", "/")
      if path then ran[path .. ".lua"], ran[path .. "/init.lua"] = true, true end
    end
  end
  for _, source in ipairs(self.sources) do self.threaded[source.path] = not ran[source.path] end
end

-- ---- luacheck -----------------------------------------------------------------------------------

local function quoted(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

--- What luacheck says of undeclared globals and syntax is known better here.
local known_better = { ["0"] = true, ["11"] = true, ["13"] = true }

--- The folder whose .luacheckrc counts for apps in `dir`, or nil: then luacheck itself looks for one.
---@param dir string
---@return string?
local function luacheck_root(dir)
  while dir ~= "" do
    if uv.fs_stat(dir .. "/.luacheckrc") then return dir end
    dir = dir:match("^(.*)/[^/]*$") or ""
  end
end

--- For projects without a .luacheckrc: Lua 5.4, and lines as long as they are.
local function write_default_config()
  local path = os.tmpname()
  local file = io.open(path, "w")
  if file then
    file:write('std = "lua54+busted"\nmax_line_length = false\n')
    file:close()
  end
  return path
end

--- Runs luacheck over all files. Returns false when it is not installed.
---@param dir string of the apps
---@return boolean
function Checking:luacheck(dir)
  if not os.execute("command -v luacheck >/dev/null 2>&1") then return false end
  if #self.sources == 0 then return true end
  local root, default = luacheck_root(dir), write_default_config()
  local words = { root and ("cd %s &&"):format(quoted(root)) or "",
    "luacheck --no-color --codes --formatter plain --default-config", quoted(default), "--" }
  for _, source in ipairs(self.sources) do
    words[#words + 1] = quoted(root and source.path:sub(#root + 2) or source.path)
  end
  local output = io.popen(table.concat(words, " ") .. " 2>/dev/null")
  for line in output and output:lines() or function() end do
    local file, row, column, code, message = line:match("^(.-):(%d+):(%d+): %(%u(%d+)%) (.*)$")
    if file and not known_better[code:sub(1, 1)] and not known_better[code:sub(1, 2)] then
      self:add {
        file = root and root .. "/" .. file or file,
        line = math.tointeger(tonumber(row)), column = math.tointeger(tonumber(column)),
        message = ("%s (luacheck %s)"):format(message, code), kind = "luacheck", level = "warning",
      }
    end
  end
  if output then output:close() end
  os.remove(default)
  return output ~= nil
end

-- ---- all of it ----------------------------------------------------------------------------------

--- Looks at every app in a folder. Nothing is served; M.retire ends what the apps have started.
---@param dir string
---@param options? { luacheck: boolean? }
---@return perigee.Checked
function M.run(dir, options)
  local self = setmetatable({ problems = {}, sources = {}, texts = {}, seen = {}, threaded = {} }, Checking)
  report.know(self.texts)
  secret.forget_others() -- nothing is kept of what is not served
  local checked = { problems = self.problems, apps = {}, n_apps = 0, n_files = 0 }
  local ok, places = pcall(app.find, dir)
  if not ok then
    self:add { message = report.text(places), kind = "load" }
    places = {}
  elseif #places == 0 then
    self:add {
      message = ("no apps in %s: an app is a folder with an init.lua, or a file NAME.lua"):format(dir), kind = "load",
    }
  end
  for _, one in ipairs(core.left_out(dir)) do
    local message = "this is not served as an app: " .. one.why
    self:add { file = one.path, message = message, kind = "load", level = "warning" }
  end
  for _, place in ipairs(places) do
    if place.dir then
      find_sources(place.dir, place, false, self.sources)
    else
      self.sources[#self.sources + 1] = { path = place.file, app = place.name, is_spec = false }
    end
  end
  self:compile()
  local by_name = {}
  for _, place in ipairs(places) do
    local loaded = self:load(place)
    checked.apps[#checked.apps + 1], by_name[place.name] = loaded, loaded
  end
  self:routes(checked.apps)
  self:find_threaded(checked.apps)
  for _, place in ipairs(places) do self:globals(place, by_name[place.name]) end
  if options and options.luacheck then checked.has_luacheck = self:luacheck(dir) end
  checked.n_apps, checked.n_files = #places, #self.sources
  report.forget(self.texts)
  table.sort(self.problems, function(a, b)
    if (a.file or "") ~= (b.file or "") then return (a.file or "") < (b.file or "") end
    if (a.line or 0) ~= (b.line or 0) then return (a.line or 0) < (b.line or 0) end
    if (a.column or 0) ~= (b.column or 0) then return (a.column or 0) < (b.column or 0) end
    return a.message < b.message
  end)
  return checked
end

--- Ends what the apps have started while they were loaded.
---@param checked perigee.Checked
function M.retire(checked)
  for _, one in ipairs(checked.apps) do app.retire(one) end
end

--- All consumers of some apps.
---@param apps perigee.App[]
---@return perigee.Record[] by path
function M.consumers(apps)
  local list = {}
  for _, one in ipairs(apps) do table.move(one.consumers, 1, #one.consumers, #list + 1, list) end
  table.sort(list, function(a, b) return a.path < b.path end)
  return list
end

return M
