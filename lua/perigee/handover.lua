--- What one version of an app leaves to the next: state of its modules, given by on_save to on_restore.
local core = require("perigee.core")

local M = {}

---@class perigee.Handover by the file that gave the function
---@field save table<string, { fn: function, place: string }>
---@field restore table<string, { fn: function, place: string }>

---@return perigee.Handover
function M.new()
  return { save = {}, restore = {} }
end

--- One function of each kind per file.
---@param app { handover: perigee.Handover, held?: fun()[] }
---@param kind "save"|"restore"
---@param fn function
function M.on(app, kind, fn)
  if type(fn) ~= "function" then
    error(("perigee.on_%s takes a function, not a %s"):format(kind, type(fn)), 3)
  end
  local info = debug.getinfo(3, "Sl")
  local file, place = info.short_src, ("%s:%d"):format(info.short_src, info.currentline)
  if not app.held then
    error(("perigee.on_%s is called while the app is loaded, not later"):format(kind), 3)
  end
  if app.handover[kind][file] then
    error(("perigee.on_%s was called in this file already, at %s"):format(kind, app.handover[kind][file].place), 3)
  end
  app.handover[kind][file] = { fn = fn, place = place }
end

--- Tables that are Perigee's own hold no code of the app's.
local own = { ["perigee.instance"] = true, ["perigee.group"] = true }

local find_alien

--- A part of a table that must not outlive the code, and the way to it.
local function alien_in(t, seen)
  for key, value in next, t do
    local what, path = find_alien(key, seen)
    if what then return what .. " as a key", path end
    what, path = find_alien(value, seen)
    if what then
      local step = type(key) == "string" and key:find("^[%a_][%w_]*$") and "." .. key
        or ("[%s]"):format(type(key) == "string" and ("%q"):format(key) or tostring(key))
      return what, step .. path
    end
  end
end

--- What is not plain in a value, and where; nil when all of it is.
---@return string? what
---@return string path
function find_alien(value, seen)
  local kind = type(value)
  if kind == "function" or kind == "thread" then return "a " .. kind, "" end
  if kind == "userdata" and value ~= core.null then return "a userdata", "" end
  if kind ~= "table" or seen[value] then return nil, "" end
  seen[value] = true
  local mt = getmetatable(value)
  if mt ~= nil and mt ~= core.array_mt then
    if type(mt) == "table" and own[mt.__name] then return nil, "" end
    return "a table with a metatable", ""
  end
  local what, path = alien_in(value, seen)
  return what, path or ""
end

--- Gives the state of one version to the next. Raises when that cannot be done.
---@param from perigee.App
---@param to perigee.App
function M.pass(from, to)
  local states = {}
  for file, save in pairs(from.handover.save) do
    local state = save.fn()
    local what, path = find_alien(state, {})
    if what then
      error(("%s: the state holds %s at state%s, which belongs to the old code: save plain values, and make the rest "
        .. "anew in on_restore"):format(save.place, what, path), 0)
    end
    states[file] = state
  end
  for file, restore in pairs(to.handover.restore) do
    if states[file] ~= nil then restore.fn(states[file]) end
  end
end

return M
