--- The public face: what an app gets from require("perigee").
local core = require("perigee.core")
local consumer = require("perigee.consumer")
local errors = require("perigee.errors")
local group = require("perigee.group")
local log = require("perigee.log")
local wait = require("perigee.wait")

local M = {}

--- Makes the module for one app: what it declares and starts is known to be its own.
---@param app { name: string, timers: table<perigee.Timer, true> }
---@return perigee
function M.for_app(app)
  ---@class perigee
  local perigee = {
    version = core.version,
    --- JSON's null, as it comes in params and goes out in results.
    null = core.null,
    --- Error codes by name.
    errors = errors.codes,
    error = errors.new,
    group = group.open,
    notify_group = consumer.notify_group,
    notify_channel = consumer.notify_channel,
    now = wait.now,
    sleep = wait.sleep,
    spawn = wait.spawn,
    all = wait.all,
    await = wait.await,
    log = log.new { app = app.name },
  }

  --- Calls fn once, after some seconds.
  ---@param seconds number
  ---@param fn function
  ---@return perigee.Timer
  function perigee.after(seconds, fn)
    return wait.after(app, seconds, fn)
  end

  --- Calls fn every so many seconds, the first time after as many.
  ---@param seconds number more than 0
  ---@param fn function
  ---@return perigee.Timer
  function perigee.every(seconds, fn)
    return wait.every(app, seconds, fn)
  end

  --- Declares a consumer.
  ---@param options? perigee.ConsumerOptions
  ---@return perigee.Consumer
  function perigee.consumer(options)
    return consumer.new(options, app.name)
  end

  --- Marks a table as a JSON array, so that an empty one is [] and not {}.
  ---@generic T: table
  ---@param list? T
  ---@return T
  function perigee.array(list)
    return setmetatable(list or {}, core.array_mt)
  end

  perigee.json = {
    --- JSON text of a value, or nil and what cannot be encoded and where.
    encode = core.json_encode,
    --- The value of a JSON text, or nil and what is wrong at which byte.
    decode = core.json_decode,
  }

  return perigee
end

return M
