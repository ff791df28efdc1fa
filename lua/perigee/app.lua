--- Apps: finds them, loads each into an environment of its own, and hands what they declare to C.
local core = require("perigee.core")
local consumer = require("perigee.consumer")
local handover = require("perigee.handover")
local livepage = require("perigee.livepage")
local perigee = require("perigee") --[[@as perigee.Face]]
local report = require("perigee.report")
local routes = require("perigee.routes")
local signals = require("perigee.signals")
local source = require("perigee.source")
local spelling = require("perigee.spelling")
local uv = require("luv")
local wait = require("perigee.wait")

local M = {}

--- Where an app's code is: on the disk or, with `files`, as it was read from there.
---@class perigee.Place
---@field name string
---@field file string the file that is run first
---@field dir string? its folder, nil for a single file
---@field generation? integer
---@field files? table<string, string> text by path
---@field has_public? boolean is there a folder public? nil: look
---@field is_changed? boolean it is to be loaded, whatever is served under that name
---@field declare? fun(perigee: perigee): any in place of files: for tests

---@class perigee.App: perigee.Place
---@field generation integer
---@field env table its globals
---@field loaded table<string, any> its modules
---@field sources table<string, string> text of what was loaded, by chunk name
---@field consumers perigee.Record[]
---@field timers table<perigee.Timer, true>
---@field tasks table<integer, true> that it has begun, and that end with it
---@field handles? userdata[] of luv's that were made while it was loaded
---@field is_retired? boolean
---@field held? fun()[] what it wants to begin once it is served; nil from then on
---@field handover perigee.Handover

-- ---- the environment ----------------------------------------------------------------------------

--- Lua's own functions that apps get. Missing on purpose: what would end the process (os.exit),
--- change it for all (os.setlocale), or load what is not text (load is replaced).
local base = {
  "assert", "collectgarbage", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal",
  "rawget", "rawlen", "rawset", "select", "setmetatable", "tonumber", "tostring", "type", "_VERSION",
}
local libraries = {
  coroutine = true, math = true, string = true, table = true, utf8 = true,
  os = { "clock", "date", "difftime", "getenv", "remove", "rename", "time", "tmpname" },
  io = { "lines", "open", "read", "type", "write", "stderr", "stdout" },
  debug = { "getinfo", "traceback" },
}

---@param name string
---@return table
local function copy_library(name)
  local from, only, copy = _G[name], libraries[name], {}
  if only == true then
    for key, value in pairs(from) do copy[key] = value end
  else
    for _, key in ipairs(only --[[@as string[] ]]) do copy[key] = from[key] end
  end
  return copy
end

--- print goes to the log, where it does not mix with other lines.
local function print_to_log(...)
  local words = table.pack(...)
  for i = 1, words.n do words[i] = tostring(words[i]) end
  core.log("info", table.concat(words, "\t"))
end

--- Text chunks only: a precompiled one can crash the interpreter.
local function safe_load(env)
  return function(chunk, name, _, given)
    return load(chunk, name, "t", given == nil and env or given)
  end
end

--- Lua runs message handlers without hooks when a hook raised the error, so one that loops could not
--- be ended: while code is being ended for its time, handlers are left out.
local function safe_xpcall(fn, handler, ...)
  if type(handler) ~= "function" then return xpcall(fn, handler, ...) end
  return core.xpcall(fn, function(err)
    if core.is_stopping() then return err end
    return handler(err)
  end, ...)
end

---@param app perigee.App
---@return table env
---@return fun() seal call when the app is loaded: from then on new globals are mistakes
local function make_environment(app)
  local env, is_loading = {}, true
  for _, name in ipairs(base) do env[name] = _G[name] end
  for name in pairs(libraries) do env[name] = copy_library(name) end
  env._G = env
  env.error = core.error
  env.pcall, env.xpcall = core.pcall, safe_xpcall
  env.print = print_to_log
  env.load = safe_load(env)
  env.require = function(name)
    local value = M.require(app, name)
    return value -- no tail call: an error is shown where require was called
  end
  setmetatable(env, {
    __index = function(_, name)
      error(("undeclared global '%s'%s"):format(tostring(name), spelling.hint(name, spelling.keys(env))), 2)
    end,
    __newindex = function(_, name, value)
      if not is_loading then
        error(("undeclared global '%s' is assigned: declare it with 'local', or set it while the app is loaded")
          :format(tostring(name)), 2)
      end
      rawset(env, name, value)
    end,
  })
  return env, function() is_loading = false end
end

--- The globals that every app begins with.
---@return table
function M.globals()
  return (make_environment { name = "", file = "" })
end

-- ---- files --------------------------------------------------------------------------------------

---@param place perigee.Place
---@param path string
---@return string? text
---@return string? err
local function read_file(place, path)
  if place.files then
    local text = place.files[path]
    if not text then return nil, path .. ": there is no such file" end
    return text
  end
  local file, err = io.open(path, "rb")
  if not file then return nil, err end
  local text = file:read("a")
  file:close()
  if not text then return nil, path .. ": cannot be read (a folder?)" end
  return text
end

--- A chunk's name is what error messages show, and Lua cuts it at 60 bytes.
---@param path string
---@return string
local function chunk_name(path)
  if #path <= 50 then return path end
  return path:match("([^/]+/[^/]+/[^/]+)$") or path:match("([^/]+/[^/]+)$") or path
end

--- An error in a file that is being loaded, with the lines around it.
local function load_error(message)
  local file, line = report.place(message)
  local excerpt = file and line and report.excerpt(file, line)
  return excerpt and message .. "\n" .. excerpt or message
end

---@param app perigee.App
---@param path string
---@param text string
---@return function
local function compile(app, path, text)
  local name = chunk_name(path)
  app.sources[name] = source.text(text)
  local fn, err = source.load(text, "@" .. name, app.env)
  if not fn then error(load_error(report.place(err) and err or ("%s: %s"):format(path, err)), 0) end
  return fn
end

--- require for apps: the app's own modules, Perigee, and whatever is installed on the machine.
---@param app perigee.App
---@param name string
---@return any
function M.require(app, name)
  if type(name) ~= "string" then error("require takes a module's name", 3) end
  if app.loaded[name] ~= nil then return app.loaded[name] end
  if name == "perigee" then
    app.loaded[name] = perigee.for_app(app)
    return app.loaded[name]
  end
  if name == app.name or name:sub(1, #app.name + 1) == app.name .. "." then
    if not app.dir then
      error(("module '%s': the app %s is a single file and has no modules of its own"):format(name, app.name), 3)
    end
    local rest = name:sub(#app.name + 2):gsub("%.", "/")
    local tried = {}
    for _, path in ipairs { app.dir .. "/" .. rest .. ".lua", app.dir .. "/" .. rest .. "/init.lua" } do
      local text = not rest:find("..", 1, true) and read_file(app, path)
      if text then
        local value = compile(app, path, text)(name, path)
        if app.loaded[name] == nil then app.loaded[name] = value == nil and true or value end
        return app.loaded[name]
      end
      tried[#tried + 1] = "no file " .. path
    end
    error(("module '%s' not found: %s"):format(name, table.concat(tried, ", ")), 3)
  end
  local ok, value = pcall(require, name)
  if not ok then
    if type(value) == "string" and value:find("module '" .. name .. "' not found", 1, true) then
      error(("module '%s' not found; modules of this app are called '%s.…', others must be installed for Lua 5.4")
        :format(name, app.name), 3)
    end
    error(value, 0)
  end
  return value
end

-- ---- loading ------------------------------------------------------------------------------------

--- Takes the consumers that an app's first file returned.
---@param app perigee.App
---@param result any
local function take_consumers(app, result)
  local list = consumer.record(result) and { result } or result
  if type(list) ~= "table" or #list == 0 then
    error(("%s: an app returns its consumer, or a list of them; this one returns %s"):format(
      app.file, result == nil and "nothing" or type(result) == "table" and "an empty table" or "a " .. type(result)), 0)
  end
  for i, class in ipairs(list) do
    local record = consumer.record(class)
    if not record then
      error(("%s: item %d of the returned list is no consumer"):format(app.file, i), 0)
    end
    consumer.check(record)
    app.consumers[i] = record
  end
end

---@param place perigee.Place
---@return perigee.App
local function new_app(place)
  return {
    name = place.name, file = place.file, dir = place.dir, files = place.files, has_public = place.has_public,
    generation = place.generation or 1,
    loaded = {}, sources = {}, consumers = {}, timers = {}, tasks = {}, held = {}, handover = handover.new(),
  }
end

--- The app is served: what it has asked for while it was loaded begins.
---@param app perigee.App
function M.begin(app)
  local held = app.held or {}
  app.held = nil
  for _, fn in ipairs(held) do fn() end
end

--- What luv holds at the moment.
---@return table<userdata, true>
local function handles_now()
  local now = {}
  for _, handle in ipairs(core.luv_handles()) do now[handle] = true end
  return now
end

--- Notes which handles of luv's an app has made while it was loaded.
---@param app perigee.App
---@param before table<userdata, true>
local function take_handles(app, before)
  app.handles = {}
  for handle in pairs(handles_now()) do
    if not before[handle] then app.handles[#app.handles + 1] = handle end
  end
end

---@param app perigee.App
local function close_handles(app)
  for _, handle in ipairs(app.handles or {}) do
    if not uv.is_closing(handle) then uv.close(handle) end
  end
  app.handles = nil
end

--- Ends what an app has started.
---@param app perigee.App
function M.retire(app)
  wait.end_all(app)
  close_handles(app)
  signals.forget(app)
  report.forget(app.sources)
end

--- The app that is being loaded. Code that is ended for its time ends all that would clean up after
--- it, too: whoever goes on calls M.abandon.
---@type perigee.App?
local loading
---@type table<userdata, true> what luv held before
local before_loading
---@type string?
local stopped

--- Cleans up after an app whose loading was ended from outside.
---@return string? why
function M.abandon()
  local why = stopped
  core.loading(false)
  if loading then
    take_handles(loading, before_loading)
    M.retire(loading)
  end
  loading, stopped = nil, nil
  return why
end

--- What went wrong while an app was loaded, for people.
---@param app perigee.App
---@param err any
---@return string
local function explain(app, err)
  if core.is_stopping() then -- not an error of its own: say where it was
    local level = 3
    local info = debug.getinfo(level, "Sl")
    while info and not app.sources[info.short_src] do
      level = level + 1
      info = debug.getinfo(level, "Sl")
    end
    local at = info and ("%s:%d"):format(info.short_src, info.currentline) or app.file
    stopped = load_error(at .. ": this ran on and on while the app was loaded, when nothing else can run "
      .. "(setting slice_stop)")
    return stopped
  end
  local text = report.text(err)
  if text:find("\n", 1, true) then return text end -- a module's, explained already
  if report.place(text) and not report.is_own(text) then return load_error(text) end
  local what = text:match("^[^\n:]+:%d+: (.*)$") or text
  local file, line = report.app_line(nil, 3)
  if file then return load_error(("%s:%d: %s"):format(file, line, what)) end
  -- after a tail call, as in `return perigee.consumer { ... }`, an error knows no place
  return ("%s: %s"):format(app.file, what)
end

--- Runs what declares an app. Raises a text when it fails; then nothing of the app is left.
---@param app perigee.App
---@param fn function
---@param ... any
---@return any
local function run(app, fn, ...)
  report.know(app.sources)
  loading, before_loading = app, handles_now()
  core.loading(true)
  local ok, result = xpcall(fn, function(err) return explain(app, err) end, ...)
  core.loading(false)
  take_handles(app, before_loading)
  if ok then ok, result = pcall(take_consumers, app, result) end
  loading = nil
  if ok then return end
  M.retire(app)
  if result == "not enough memory" then
    collectgarbage()
    result = ("%s: Lua's memory was used up while the app was loaded (setting lua_memory)"):format(app.file)
  end
  error(result, 0)
end

--- Loads one app without serving it. Raises with the file, the line and the lines around it.
---@param place perigee.Place
---@return perigee.App
function M.load(place)
  local app = new_app(place)
  if place.declare then
    app.env, app.sources[app.file] = {}, source.text(read_file(app, app.file) or "")
    run(app, place.declare, perigee.for_app(app))
    return app
  end
  local seal
  app.env, seal = make_environment(app)
  run(app, function()
    local text, err = read_file(app, app.file)
    if not text then error(err, 0) end
    return compile(app, app.file, text)(app.name, app.file)
  end)
  seal()
  return app
end

--- A place for an app that is a function which gets the perigee module and returns the consumers.
---@param name string
---@param fn fun(perigee: perigee): perigee.Consumer|perigee.Consumer[]
---@return perigee.Place
function M.place_of_function(name, fn)
  return { name = name, file = debug.getinfo(fn, "S").short_src, declare = fn }
end

--- A place for an app below a folder: NAME/init.lua or NAME.lua.
---@param dir string
---@return perigee.Place[]
function M.find(dir)
  local handle, err = uv.fs_scandir(dir)
  if not handle then error(("cannot read the apps folder %s: %s"):format(dir, err), 0) end
  local found = {}
  while true do
    local name, kind = uv.fs_scandir_next(handle)
    if not name then break end
    if kind == "link" or kind == "unknown" then
      local stat = uv.fs_stat(dir .. "/" .. name)
      kind = stat and stat.type
    end
    if kind == "directory" and name:find("^[%w_-]+$") and name ~= "node_modules" then
      if uv.fs_stat(dir .. "/" .. name .. "/init.lua") then
        found[#found + 1] = { name = name, file = dir .. "/" .. name .. "/init.lua", dir = dir .. "/" .. name }
      end
    elseif kind == "file" then
      local app = name:match("^([%w_-]+)%.lua$")
      if app then found[#found + 1] = { name = app, file = dir .. "/" .. name } end
    end
  end
  table.sort(found, function(a, b) return a.name < b.name end)
  for i = 2, #found do
    if found[i].name == found[i - 1].name then
      error(("two apps are called '%s': %s and %s"):format(found[i].name, found[i - 1].file, found[i].file), 0)
    end
  end
  return found
end

--- Apps that are loaded, by name.
---@type table<string, perigee.App>
M.apps = {}

--- What a set of apps serves together, for core.serve. Raises when it does not fit together.
---@param apps perigee.App[]
---@return table[]
function M.routes(apps)
  local items, records, owners, folders = {}, {}, {}, {}
  for _, app in ipairs(apps) do
    for _, record in ipairs(app.consumers) do
      local key = record.is_plain and "routes " .. record.path or record.path
      local other = owners[key]
      if other then
        error(("two %s on the path %s: %s and %s"):format(record.is_plain and "perigee.http_routes" or "consumers",
          record.path, other.place, record.place), 0)
      end
      owners[key] = record
      records[#records + 1] = record
      items[#items + 1] = consumer.route(record)
    end
    if app.has_public == nil then app.has_public = app.dir ~= nil and uv.fs_stat(app.dir .. "/public") ~= nil end
    if app.has_public then
      folders[#folders + 1] = { kind = "public", prefix = "/" .. app.name .. "/", dir = app.dir .. "/public" }
    end
  end
  -- routes name their consumer by its place in this list, so nothing goes in front
  for _, more in ipairs { routes.collect(records), folders, livepage.routes() } do
    table.move(more, 1, #more, #items + 1, items)
  end
  return items
end

--- Serves a set of apps: all or, when something is wrong, none.
---@param apps perigee.App[]
---@return table[] routes
function M.serve(apps)
  local items = M.routes(apps)
  core.serve(items)
  M.apps = {}
  for _, app in ipairs(apps) do
    M.apps[app.name] = app
    M.begin(app)
    signals.announce("app_loaded", { app = app.name, generation = app.generation })
  end
  return items
end

return M
