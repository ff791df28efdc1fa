--- Channels: the addresses of connections; and notifications to them and to groups.
local core = require("perigee.core")
local layer = require("perigee.layer")
local spelling = require("perigee.spelling")

local M = {}

local prefix = ("%s.%d."):format(core.node, core.worker)

--- The channel of a connection, unique in the cluster.
---@param conn integer
---@return string
function M.of(conn)
  return ("%s%x"):format(prefix, conn)
end

--- The connection a channel names, when it is one of this worker's.
---@param channel string
---@return integer?
function M.conn(channel)
  if channel:sub(1, #prefix) ~= prefix then return nil end
  return tonumber(channel:sub(#prefix + 1), 16)
end

--- Connection ids and channels out of what `except` may be: a ctx, an instance, a channel, or a list of them.
---@param except any
---@param out (integer|string)[]
---@return (integer|string)[]
local function except_conns(except, out)
  if type(except) == "string" then
    out[#out + 1] = except
  elseif type(except) == "table" then
    local mt = getmetatable(except)
    local kind = mt and mt.__name
    if kind == "perigee.ctx" then
      out[#out + 1] = except[1]
    elseif kind == "perigee.instance" then
      out[#out + 1] = rawget(except, "_conn")
    else
      for _, item in ipairs(except) do except_conns(item, out) end
    end
  elseif except ~= nil then
    error("notify_group: except must be a ctx, an instance, a channel or a list of them, not a " .. type(except), 0)
  end
  return out
end

--- The channels of what `except` may be.
---@param except any
---@return string[]
function M.channels_of(except)
  local channels = {}
  for i, conn in ipairs(except_conns(except, {})) do
    channels[i] = type(conn) == "string" and conn or M.of(conn)
  end
  return setmetatable(channels, core.array_mt)
end

--- Checks what every notification has; raises at the caller's caller.
---@param method any
---@param params any
---@param what string
function M.check(method, params, what)
  if type(method) ~= "string" or method == "" then
    error(("%s: the method must be a string that is not empty"):format(what), 3)
  end
  if params ~= nil and type(params) ~= "table" then
    error(("%s: params must be a table (or nothing), not a %s"):format(what, type(params)), 3)
  end
end

--- How a consumer wants its params encoded; nil for what belongs to none.
---@class perigee.Encoding
---@field encode? fun(value: any): string codec of the consumer's own
---@field default? fun(value: any): any for values without a form in JSON
---@field flags integer for core.notify and core.publish

local PLAIN = { flags = 0 }

--- A copy of a value in which everything that JSON has no form for went through `default`.
---@param value any
---@param default fun(value: any): any
---@param depth? integer
---@return any
function M.convert(value, default, depth)
  depth = depth or 0
  if depth > 100 then error("a value nested too deeply (a cycle?)", 0) end
  local kind = type(value)
  if kind == "string" or kind == "number" or kind == "boolean" or kind == "nil" or value == core.null then
    return value
  end
  local mt = kind == "table" and getmetatable(value) or nil
  if kind ~= "table" or (mt ~= nil and mt ~= core.array_mt) then
    return M.convert(default(value), default, depth + 1)
  end
  local copy = setmetatable({}, mt)
  for key, item in pairs(value) do copy[key] = M.convert(item, default, depth + 1) end
  return copy
end

--- Calls send(params, flags) with params encoded as the consumer wants them.
---@param encoding perigee.Encoding
---@param params any
---@param send fun(params: any, flags: integer): any
local function encoded(encoding, params, send)
  if encoding.encode and params ~= nil then return send(encoding.encode(params), encoding.flags | 2) end
  if not encoding.default then return send(params, encoding.flags) end
  local ok, result = pcall(send, params, encoding.flags)
  if ok then return result end
  return send(M.convert(params, encoding.default), encoding.flags)
end

---@class perigee.NotifyOptions
---@field except? perigee.Ctx|perigee.Instance|string|any[] who does not get it: a ctx, an instance, a channel, or a
---list of them

--- Sends a notification to every member of a group, or of several, once each.
---@param encoding perigee.Encoding?
---@param group string|string[]
---@param method string
---@param params? table
---@param opts? perigee.NotifyOptions
function M.notify_group(encoding, group, method, params, opts)
  M.check(method, params, "notify_group")
  if opts ~= nil and type(opts) ~= "table" then
    error("notify_group: the last argument is a table of options, { except = ... }", 2)
  end
  for key in pairs(opts or {}) do
    if key ~= "except" then
      error(("notify_group has no option '%s'%s"):format(tostring(key), spelling.hint(key, { "except" })), 2)
    end
  end
  local except = opts and opts.except ~= nil and except_conns(opts.except, {}) or nil
  if not encoding then
    core.publish(group, method, params, except, 0)
    return
  end
  encoded(encoding, params, function(values, flags)
    core.publish(group, method, values, except, flags)
  end)
end

--- Sends a notification to one connection.
---@param encoding perigee.Encoding?
---@param conn integer
---@param method string
---@param params? table
---@return boolean sent
function M.notify(encoding, conn, method, params)
  if not encoding then return core.notify(conn, method, params, 0) end
  return encoded(encoding, params, function(values, flags)
    return core.notify(conn, method, values, flags)
  end)
end

--- Sends a notification to one channel. With Redis it waits until its process has said whether the
--- connection is there.
---@param encoding perigee.Encoding?
---@param channel string
---@param method string
---@param params? table
---@return boolean sent false when there is no such connection
function M.notify_channel(encoding, channel, method, params)
  M.check(method, params, "notify_channel")
  if type(channel) ~= "string" then
    error("notify_channel: the channel must be a string, as self.channel_name is", 2)
  end
  return layer.settle(encoded(encoding or PLAIN, params, function(values, flags)
    return core.notify_channel(channel, method, values, flags)
  end))
end

return M
