--- Reload: builds the next version of apps beside the one that is served, hands state over, swaps, and
--- lets the old one go. C leads all workers through these steps at the same time, each of which can
--- still be undone until `keep`: server/bridge/reload.h.
local app = require("perigee.app")
local call = require("perigee.call")
local console = require("perigee.console")
local consumer = require("perigee.consumer")
local core = require("perigee.core")
local handover = require("perigee.handover")
local livepage = require("perigee.livepage")
local report = require("perigee.report")
local signals = require("perigee.signals")
local spelling = require("perigee.spelling")

local M = {}

--- What is about to be served, between two steps.
---@class perigee.Candidate
---@field apps perigee.App[] all that will be served
---@field changed perigee.App[] those of them that are new
---@field gone perigee.App[] those that are served and will not be
---@field routes table[] for core.serve
---@field before? table<string, perigee.App> once swapped: what was served
---@field routes_before? table[]
---@field name? string of the app that a step is busy with

---@type perigee.Candidate?
local candidate

--- What core.serve got last.
---@type table[]
local served = {}

---@param record perigee.Record
---@param of perigee.App?
---@return perigee.Record?
local function at_same_path(record, of)
  for _, other in ipairs(of and of.consumers or {}) do
    if other.path == record.path then return other end
  end
end

--- Serves these apps and nothing else.
---@param apps perigee.App[]
function M.serve(apps)
  served = app.serve(apps)
  core.retire()
end

--- Loads and serves all apps. What a starting worker calls; raises what is wrong.
---@param places perigee.Place[]
---@param dir string
function M.load(places, dir)
  local apps = {}
  console.open()
  for i, place in ipairs(places) do apps[i] = app.load(place) end
  if #apps == 0 then
    error(("no apps in %s: an app is a folder with an init.lua, or a file NAME.lua"):format(dir), 0)
  end
  M.serve(apps)
end

--- Builds what is new, beside what is served.
---@param places perigee.Place[] all apps; those that are served and not changed stay as they are
---@return boolean ok
---@return string? err
---@return string? name of the app that is to blame
function M.build(places)
  M.undo()
  local c = { apps = {}, changed = {}, gone = {} }
  candidate = c
  local names = {}
  for i, place in ipairs(places) do
    names[place.name] = true
    local one = app.apps[place.name]
    c.name = place.name
    if not one or place.is_changed then
      local ok, result = pcall(app.load, place)
      if not ok then return false, report.text(result), place.name end
      one = result
      c.changed[#c.changed + 1] = one
    end
    c.apps[i] = one
  end
  for _, name in ipairs(spelling.keys(app.apps)) do
    if not names[name] then c.gone[#c.gone + 1] = app.apps[name] end
  end
  local ok, result = pcall(app.routes, c.apps)
  if not ok then
    local blamed = c.changed[#c.changed] or c.apps[1]
    for _, one in ipairs(c.changed) do
      for _, record in ipairs(one.consumers) do
        if report.text(result):find(record.place, 1, true) then blamed = one end
      end
    end
    return false, report.text(result), blamed and blamed.name
  end
  c.routes = result
  return true
end

--- Swaps: calls that begin from now on run new code.
---@return boolean ok
---@return string? err
---@return string? name
function M.swap()
  local c = candidate
  if not c then return false, "nothing was built" end
  for _, one in ipairs(c.changed) do
    local old = app.apps[one.name]
    c.name = one.name
    if old then
      core.loading(true) -- nothing may wait now
      local ok, err = pcall(handover.pass, old, one)
      core.loading(false)
      if not ok then return false, report.text(err), one.name end
    end
  end
  core.serve(c.routes)
  c.before, c.routes_before = app.apps, served
  served, app.apps = c.routes, {}
  for _, one in ipairs(c.apps) do app.apps[one.name] = one end
  for _, one in ipairs(c.changed) do
    for _, record in ipairs(one.consumers) do
      local old = at_same_path(record, c.before[one.name])
      if old then consumer.succeed(record, old) end
    end
  end
  return true
end

--- Forgets what was built; what was served before is served again.
function M.undo()
  local c = candidate
  if not c then return end
  candidate = nil
  if c.before then
    core.serve(c.routes_before)
    served, app.apps = c.routes_before, c.before
    for _, one in ipairs(c.changed) do
      for _, record in ipairs(one.consumers) do
        local old = at_same_path(record, c.before[one.name])
        if old then consumer.succeed(old, record) end
      end
    end
  end
  for _, one in ipairs(c.changed) do app.retire(one) end
end

--- Lets the old versions go: their timers stop, and what the new ones want to begin begins.
function M.keep()
  local c = candidate
  if not c then return end
  candidate = nil
  for _, old in pairs(c.before) do
    if app.apps[old.name] ~= old then app.retire(old) end
  end
  for _, one in ipairs(c.changed) do
    app.begin(one)
    local is_new = not c.before[one.name]
    signals.announce(is_new and "app_loaded" or "app_reloaded", {
      app = one.name, generation = one.generation,
    })
  end
  core.retire()
  call.forget_ended()
  core.blocking_forget()
end

--- A step was ended because it took too long. Says where.
---@return string err
---@return string? name
local function stopped()
  local name = candidate and candidate.name
  local why = app.abandon()
  M.undo()
  return why or ("%s: on_save or on_restore ran on and on, when nothing else can run (setting slice_stop)")
    :format(name or "an app"), name
end

--- What C calls: one step, named as in server/bridge/generation.h.
---@param name "build"|"swap"|"keep"|"undo"|"pages"|"stopped"
---@param places perigee.Place[]? for build
---@param blamed string? for undo: the app that has failed, if one has
---@param err string? for undo: why; nil: nobody needs to know
---@return boolean ok
---@return string? err
---@return string? app
function M.step(name, places, blamed, err)
  if name == "build" then
    return M.build(places --[[@as perigee.Place[] ]])
  elseif name == "swap" then
    return M.swap()
  elseif name == "keep" then
    M.keep()
  elseif name == "undo" then
    M.undo()
    if err then signals.announce("app_reload_failed", { app = blamed, error = err }) end
  elseif name == "pages" then
    livepage.tell()
  elseif name == "stopped" then
    return false, stopped()
  end
  return true
end

return M
