--- Signals: what happens in the server, told to functions that asked for it.
local core = require("perigee.core")
local report = require("perigee.report")
local spelling = require("perigee.spelling")
local wait = require("perigee.wait")

local M = {}

---@alias perigee.Signal
---| "client_connected" { consumer }
---| "client_disconnected" { consumer, code, reason }
---| "rpc_method_started" { ctx }
---| "rpc_method_completed" { ctx, result, seconds }
---| "rpc_method_failed" { ctx, error, seconds }
---| "app_loaded" { app }
---| "app_reloaded" { app, generation }
---| "app_reload_failed" { app, error }
---| "layer_down" { error }
---| "layer_up" {}
---| "server_started" {} once on every worker, when all listen; what is loaded later, when it is served
---| "server_draining" {}

---@class perigee.ConnectionEvent
---@field consumer perigee.Instance
---@field code? integer client_disconnected
---@field reason? string client_disconnected

---@alias perigee.CallSignal "rpc_method_started"|"rpc_method_completed"|"rpc_method_failed"

---@class perigee.CallEvent
---@field ctx perigee.Ctx
---@field result? any rpc_method_completed
---@field error? perigee.Error|perigee.Fault rpc_method_failed
---@field seconds? number how long it took: rpc_method_completed, rpc_method_failed

M.names = {
  "client_connected", "client_disconnected", "rpc_method_started", "rpc_method_completed",
  "rpc_method_failed", "app_loaded", "app_reloaded", "app_reload_failed", "layer_down", "layer_up",
  "server_started", "server_draining",
}

---@type table<string, { fn: function, owner: perigee.TaskOwner }[]>
local receivers = {}
for _, name in ipairs(M.names) do receivers[name] = {} end

--- Called when the set of receivers has changed: calls take a longer way while somebody listens.
---@type fun()
M.on_change = function() end

local function changed()
  core.watch_conns(#receivers.client_connected + #receivers.client_disconnected > 0)
  M.on_change()
end

--- Does anybody listen to the signals around calls?
---@return boolean
function M.watches_calls()
  return #receivers.rpc_method_started + #receivers.rpc_method_completed + #receivers.rpc_method_failed > 0
end

---@param receiver { fn: function }
---@param name perigee.Signal
---@param event table
local function tell(receiver, name, event)
  local ok, fault = xpcall(receiver.fn, report.fault_unless_end, event)
  if not ok and fault then report.log(fault, "signal receiver failed", { signal = name }) end
end

--- Has server_started been sent? Who comes later is told by itself.
local is_started = false

--- Calls fn for each signal of that name, from when its app is served until it is retired.
---@param owner perigee.TaskOwner the app
---@param name perigee.Signal
---@param fn fun(event: table)
function M.on(owner, name, fn)
  local list = receivers[name]
  if not list then
    error(("perigee.on: there is no signal '%s'%s"):format(tostring(name), spelling.hint(name, M.names)), 3)
  end
  if type(fn) ~= "function" then error("perigee.on: the receiver must be a function", 3) end
  local function begin()
    local receiver = { fn = fn, owner = owner }
    list[#list + 1] = receiver
    changed()
    if name == "server_started" and is_started then wait.spawn_for(owner, tell, receiver, name, {}) end
  end
  if owner.held then owner.held[#owner.held + 1] = begin else begin() end
end

--- Forgets the receivers of an app.
---@param owner table
function M.forget(owner)
  local is_changed = false
  for _, list in pairs(receivers) do
    for i = #list, 1, -1 do
      if list[i].owner == owner then
        table.remove(list, i)
        is_changed = true
      end
    end
  end
  if is_changed then changed() end
end

--- Tells everybody who listens. One that fails is logged and changes nothing else.
---@param name perigee.Signal
---@param event table
function M.emit(name, event)
  local list = receivers[name]
  for i = 1, #list do
    local receiver = list[i]
    if not receiver then break end -- one before it has waited, and the last have gone meanwhile
    tell(receiver, name, event)
  end
end

--- The same for what is no part of a call or a connection: each receiver in a task of its own, which may
--- wait and ends with its app.
---@param name perigee.Signal
---@param event table
function M.announce(name, event)
  if name == "server_started" then is_started = true end
  for _, receiver in ipairs(receivers[name]) do wait.spawn_for(receiver.owner, tell, receiver, name, event) end
end

return M
