--- The public face: what an app gets from require("perigee").
local channel = require("perigee.channel")
local consumer = require("perigee.consumer")
local core = require("perigee.core")
local errors = require("perigee.errors")
local events = require("perigee.events")
local group = require("perigee.group")
local handover = require("perigee.handover")
local log = require("perigee.log")
local password = require("perigee.password")
local session = require("perigee.session")
local shared = require("perigee.shared")
local signals = require("perigee.signals")
local spelling = require("perigee.spelling")
local token = require("perigee.token")
local user = require("perigee.user")
local wait = require("perigee.wait")

---@class perigee.Face
local M = {}

--- Makes the module for one app: what it declares and starts is known to be its own.
---@param app { name: string, file: string, timers: table<perigee.Timer, true> }
---@return perigee
function M.for_app(app)
  ---@class perigee
  local perigee = {
    --- Version of the server.
    version = core.version,
    --- JSON's null, as it comes in params and goes out in results.
    null = core.null,
    --- Error codes by name.
    errors = errors.codes,
    error = errors.new,
    group = group.open,
    shared = shared.open,
    group_send = events.group_send,
    send = events.send,
    now = wait.now,
    sleep = wait.sleep,
    all = wait.all,
    await = wait.await,
    --- Log lines that name the app.
    log = log.new { app = app.name, generation = app.generation },
    kick = user.kick,
    session = { find = session.find },
    password = { hash = password.hash, verify = password.verify },
    token = { sign = token.sign, verify = token.verify },
  }

  --- Sends a notification to every member of a group, or of several, once each.
  ---@param name string|string[]
  ---@param method string
  ---@param params? table
  ---@param opts? perigee.NotifyOptions
  function perigee.notify_group(name, method, params, opts)
    return channel.notify_group(nil, name, method, params, opts)
  end

  --- Sends a notification to one connection, wherever it is.
  ---@param to string its channel
  ---@param method string
  ---@param params? table
  ---@return boolean sent false when there is no such connection
  function perigee.notify_channel(to, method, params)
    return channel.notify_channel(nil, to, method, params)
  end

  --- Sends a notification to all of a user's connections.
  ---@param who any a user, or a user's id
  ---@param method string
  ---@param params? table
  ---@param opts? { except?: any }
  function perigee.notify_user(who, method, params, opts)
    return user.notify(nil, who, method, params, opts)
  end

  --- Runs a function beside this one, from the loop's next turn on. An error in it is logged.
  ---@param fn function
  ---@param ... any its arguments
  function perigee.spawn(fn, ...)
    return wait.start(app, fn, ...) -- a tail call: an error names where this was called
  end

  --- What the next version of this file gets when the app is loaded anew: plain values, and instances.
  ---@param fn fun(): any called when the next version is about to take over; must not wait
  function perigee.on_save(fn)
    handover.on(app, "save", fn)
  end

  --- Takes what the last version of this file has saved.
  ---@param fn fun(state: any) called before this version takes over, when there is something; must not wait
  function perigee.on_restore(fn)
    handover.on(app, "restore", fn)
  end

  --- Calls fn for each signal of that name.
  ---@overload fun(name: "client_connected"|"client_disconnected", fn: fun(event: perigee.ConnectionEvent))
  ---@overload fun(name: perigee.CallSignal, fn: fun(event: perigee.CallEvent))
  ---@param name perigee.Signal
  ---@param fn fun(event: table)
  function perigee.on(name, fn)
    signals.on(app, name, fn)
  end

  --- Runs a function of one of the app's modules on a thread, in a Lua state of its own, and waits.
  ---@param module string "chat.thumbnails"
  ---@param name string of a function in the table that the module returns
  ---@param ... any plain values
  ---@return any ... plain values
  function perigee.blocking(module, name, ...)
    return wait.blocking(app, module, name, ...)
  end

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
    local class = consumer.new(options, app)
    return class -- no tail call: an error in the options is shown where this was called from
  end

  --- Declares handlers of plain HTTP that belong to no JSON-RPC consumer. The app returns it as it
  --- returns consumers.
  ---@param options? perigee.ConsumerOptions path, http_user, origins, limits, timeout, middleware
  ---@return perigee.Consumer
  function perigee.http_routes(options)
    local class = consumer.new(options, app, true)
    return class -- no tail call: as above
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

  -- a misspelled function should say so, not "attempt to call a nil value"
  return setmetatable(perigee, {
    __index = function(_, name)
      error(("perigee has no '%s'%s"):format(tostring(name), spelling.hint(name, spelling.keys(perigee))), 2)
    end,
  })
end

-- Apps get what for_app makes (perigee.app sees to that), and that is what their editors should show.
return M --[[@as perigee]]
