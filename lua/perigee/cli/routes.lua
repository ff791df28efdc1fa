--- perigee routes: what there is to call, and where.
local check = require("perigee.check")
local core = require("perigee.core")
local discover = require("perigee.discover")
local routes = require("perigee.routes")
local spelling = require("perigee.spelling")
local uv = require("luv")

--- "string", "integer?", "any".
---@param schema table JSON Schema of a parameter
---@return string
local function type_of(schema)
  local kind = schema.type
  if type(kind) == "table" then return kind[1] .. "?" end
  return kind or "any"
end

--- "say(text: string, room: string?)".
---@param info perigee.MethodInfo
---@return string
local function signature(info)
  local words = {}
  for i, param in ipairs(info.params) do
    local kind = type_of(param.schema)
    words[i] = kind == "any" and param.name or ("%s: %s"):format(param.name, kind)
  end
  if info.is_vararg then words[#words + 1] = "..." end
  return ("%s(%s)"):format(info.name, table.concat(words, ", "))
end

---@param record perigee.Record
---@return perigee.MethodInfo[] requests first, then notifications, as registered
local function methods_of(record)
  local list = {}
  for _, kind in ipairs { "requests", "notifications" } do
    for _, name in ipairs(record[kind].order) do
      list[#list + 1] = discover.method_info(record[kind].all[name], kind == "notifications")
    end
  end
  return list
end

--- Plain HTTP handlers, as declared.
---@param record perigee.Record
---@return perigee.Route[]
local function routes_of(record)
  local list = {}
  for _, path in ipairs(record.route_order) do
    for _, verb in ipairs(routes.verbs_of(record, path)) do list[#list + 1] = record.routes[path][verb] end
  end
  return list
end

---@param info perigee.MethodInfo
---@return string
local function transports(info)
  local has = {}
  for _, name in ipairs(info.transports) do has[name] = true end
  return has.websocket and has.http and "ws http" or has.websocket and "ws" or has.http and "http" or "-"
end

---@param record perigee.Record
---@return table
local function as_json(record)
  local object = {
    routes = setmetatable({}, core.array_mt), plain = record.is_plain,
    path = record.path, app = record.app, place = record.place, raw = record.options.raw or false,
    versions = setmetatable({}, core.array_mt),
    methods = setmetatable({}, core.array_mt), notifications = setmetatable({}, core.array_mt),
  }
  for _, version in ipairs { "2.0", "1.0" } do
    if record.versions[version] then table.insert(object.versions, version) end
  end
  for _, info in ipairs(methods_of(record)) do
    table.insert(info.is_notification and object.notifications or object.methods, info)
  end
  for i, route in ipairs(routes_of(record)) do
    object.routes[i] = {
      verb = route.verb, path = route.path, doc = route.doc, place = route.place, timeout = route.timeout,
      permission = route.permission ~= nil,
    }
  end
  return object
end

--- What a list tells of a method or route besides its name: the first sentence of its doc.
---@param one { doc: string?, deprecated: boolean?, permission: any }
---@return string
local function notes_of(one)
  local notes = { one.doc and (one.doc:match("^[^\n]-%.%f[%s]") or one.doc:match("^[^\n]+")) }
  if one.deprecated then table.insert(notes, 1, "(deprecated)") end
  if one.permission then table.insert(notes, 1, "(needs a permission)") end
  return table.concat(notes, " ")
end

--- A table of methods and routes, one a line.
---@param record perigee.Record
local function print_methods(record)
  local rows, wide = {}, 0
  for _, info in ipairs(methods_of(record)) do
    rows[#rows + 1] = { signature(info), (info.is_notification and "notification, " or "") .. transports(info),
      notes_of(info) }
  end
  for _, route in ipairs(routes_of(record)) do
    rows[#rows + 1] = { ("%s %s"):format(route.verb, route.path), "plain http", notes_of(route) }
  end
  for _, row in ipairs(rows) do wide = math.max(wide, math.min(#row[1], 40)) end
  for _, row in ipairs(rows) do
    io.stdout:write(((("  %-" .. wide .. "s  %-16s  %s"):format(table.unpack(row))):gsub("%s+$", "")), "\n")
  end
end

---@param record perigee.Record
local function print_consumer(record)
  io.stdout:write(("%s  (%s)\n"):format(record.path, record.place))
  if record.options.raw then
    io.stdout:write("  no JSON-RPC on its sockets: every frame goes to receive\n")
  end
  print_methods(record)
end

--- Everything about one method.
---@param record perigee.Record
---@param info perigee.MethodInfo
local function print_method(record, info)
  local write = function(...) io.stdout:write(..., "\n") end
  write(("%s %s"):format(record.path, signature(info)))
  if info.doc then write("  " .. info.doc:gsub("\n", "\n  ")) end
  write("  transports   " .. transports(info))
  write("  timeout      " .. (info.timeout == 0 and "none" or ("%gs"):format(info.timeout)))
  if info.is_notification then write("  notification without an answer") end
  if info.permission then write("  permission   needed") end
  if info.deprecated then write("  deprecated") end
  for _, param in ipairs(info.params) do
    write(("  %-12s %s"):format(param.name, require("perigee.cli.json").compact(param.schema)))
  end
end

--- The consumers that a word names: a path, or an app.
---@param all perigee.Record[]
---@param word string
---@return perigee.Record[]? found
---@return string? message
local function find_consumers(all, word)
  local found, known = {}, {}
  for _, record in ipairs(all) do
    known[#known + 1], known[#known + 2] = record.path, record.app
    if record.path == word or record.path == "/" .. word or record.app == word then found[#found + 1] = record end
  end
  if #found > 0 then return found end
  return nil, ("there is no consumer '%s'%s"):format(word, spelling.hint(word, known))
end

---@type perigee.Command
local M = {
  summary = "list consumers, methods with signatures, transports and docs",
  usage = "perigee routes [CONSUMER [METHOD]] [flags]",
  about = [[
Loads the apps, serves none, and lists what they offer: each consumer's path and place, its methods with
parameters, transports (ws, http) and docs, and the folders of files. CONSUMER is a path or an app's name.]],
  examples = { "perigee routes", "perigee routes chat say", "perigee routes --json" },
  flags = { { name = "--json", doc = "Print a list of consumers with all that is known of their methods." } },
  has_settings = true,
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("routes", args, 2)
    if not parsed then return code end
    local found
    found, code = cli.settings("routes", parsed)
    if not found then return code end
    local checked = check.run(found.values.apps)
    check.retire(checked)
    local records = check.consumers(checked.apps)
    local has_failed = false
    for _, problem in ipairs(checked.problems) do
      if problem.level ~= "warning" then
        has_failed = true
        io.stderr:write("perigee routes: ", cli.show_problem(problem), "\n")
      end
    end
    local consumer, method = parsed.words[1], parsed.words[2]
    if consumer then
      local some, message = find_consumers(records, consumer)
      if not some then return has_failed and 1 or cli.usage_error("routes", message) end
      records = some
    end
    if method then
      local known = {}
      for _, record in ipairs(records) do
        for _, info in ipairs(methods_of(record)) do
          known[#known + 1] = info.name
          if info.name == method then
            if parsed.options.json then
              io.stdout:write(require("perigee.cli.json").pretty(info), "\n")
            else
              print_method(record, info)
            end
            return has_failed and 1 or 0
          end
        end
      end
      return cli.usage_error("routes", ("%s has no method '%s'%s"):format(
        records[1].path, method, spelling.hint(method, known)))
    end
    if parsed.options.json then
      local list = setmetatable({}, core.array_mt)
      for i, record in ipairs(records) do list[i] = as_json(record) end
      io.stdout:write(require("perigee.cli.json").pretty(list), "\n")
      return has_failed and 1 or 0
    end
    for i, record in ipairs(records) do
      if i > 1 then io.stdout:write("\n") end
      print_consumer(record)
    end
    if not consumer then
      for _, one in ipairs(checked.apps) do
        if one.dir and uv.fs_stat(one.dir .. "/public") then
          io.stdout:write(("\n/%s/  files of %s/public\n"):format(one.name, one.dir))
        end
      end
    end
    return has_failed and 1 or 0
  end,
}

return M
