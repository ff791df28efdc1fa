--- The public face: what an app gets from require("perigee").
local core = require("perigee.core")
local consumer = require("perigee.consumer")
local errors = require("perigee.errors")
local group = require("perigee.group")
local log = require("perigee.log")
local wait = require("perigee.wait")

local M = {}

--- Makes the module for one app.
---@param app string its name
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
    after = wait.after,
    every = wait.every,
    log = log.new { app = app },
  }

  --- Declares a consumer.
  ---@param options? perigee.ConsumerOptions
  ---@return perigee.Consumer
  function perigee.consumer(options)
    return consumer.new(options, app)
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
