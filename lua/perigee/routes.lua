--- Routes: the paths that plain HTTP handlers answer, and what may be declared.
local M = {}

---@class perigee.RouteOptions
---@field timeout? number|string|false seconds, or a text such as "500ms", default the consumer's; false: none
---@field permission? string|fun(ctx: perigee.HttpCtx): boolean a name for has_permission, or what decides itself
---@field doc? string what it does

---@class perigee.Route: perigee.Method
---@field path string pattern: "/room/:id", "/files/*path"
---@field given string the path as it was declared
---@field verb string "GET"

---@alias perigee.HttpHandler fun(ctx: perigee.HttpCtx): any, any, any

--- HTTP methods that handlers can be declared for, in the order of the Allow field.
M.verbs = { "GET", "POST", "PUT", "PATCH", "DELETE" }

--- The full path of a route: below the consumer's, unless it begins with a slash.
---@param base string
---@param path string
---@return string
local function full_path(base, path)
  if path:sub(1, 1) == "/" then return path end
  if path == "" then return base end
  return (base:sub(-1) == "/" and base or base .. "/") .. path
end

--- What is wrong with a path, or nil.
---@param path string
---@return string?
local function fault_of(path)
  if path:find("^/%-/") or path == "/-" then return "paths below /-/ are the server's own" end
  local names = {}
  local segments = {}
  for segment in path:sub(2):gmatch("[^/]*") do segments[#segments + 1] = segment end
  for i, segment in ipairs(segments) do
    local sign, name = segment:match("^([:*])(.*)$")
    if sign == "*" and i < #segments then return "a wildcard stands at the end" end
    if sign and not (name:find("^[%a_][%w_]*$") or sign == "*" and name == "") then
      return ("'%s' is no name to capture as: letters, digits and _"):format(segment)
    end
    if sign then
      if names[name] then return ("'%s' is captured twice"):format(name) end
      names[name] = true
    elseif segment == "." or segment == ".." or segment:find("[^%w%-._~!$&'()+,;=@]") then
      return ("'%s' cannot stand in a path: clients would send it otherwise"):format(segment)
    end
  end
end

--- A pattern without the names of its captures: two that are equal match the same paths.
---@param path string
---@return string
function M.shape(path)
  return (path:gsub("/:[^/]+", "/:"):gsub("/%*.*$", "/*"))
end

--- What matches more closely comes first: segment by segment, a text before a capture before a
--- wildcard.
---@param path string
---@return string key to be sorted by
local function rank(path)
  return (path:gsub("[^/]+", function(segment)
    local first = segment:sub(1, 1)
    return first == "*" and "3" or first == ":" and "2" or "1"
  end))
end

--- Has a path captures?
---@param path string
---@return boolean
function M.is_pattern(path)
  return path:find("/[:*]") ~= nil
end

--- Orders patterns so that the first one that matches is the closest.
---@param a string
---@param b string
---@return boolean
function M.is_before(a, b)
  local x, y = rank(a), rank(b)
  if x ~= y then return x < y end
  return a < b
end

--- Declares a handler. Raises what is wrong with it.
---@param record perigee.Record
---@param verb string
---@param path any
---@param fn any
---@return perigee.Route route with path, verb and fn
function M.declare(record, verb, path, fn)
  local what = ("C:%s(%q)"):format(verb:lower(), tostring(path))
  if type(path) ~= "string" then
    error(("C:%s: the path must be a text, not a %s"):format(verb:lower(), type(path)), 0)
  end
  if type(fn) ~= "function" then
    error(("%s: the handler must be a function, not a %s"):format(what, type(fn)), 0)
  end
  local full = full_path(record.path, path)
  local wrong = fault_of(full)
  if wrong then error(("%s: %s"):format(what, wrong), 0) end
  if verb == "POST" and full == record.path and not record.is_plain then
    error(("%s: a POST to the consumer's own path is JSON-RPC; give the handler another path"):format(what), 0)
  end
  local known = record.routes[full] and record.routes[full][verb]
  if known then error(("%s: %s %s has a handler already, at %s"):format(what, verb, full, known.place), 0) end
  return { path = full, given = path, verb = verb, name = verb .. " " .. full, fn = fn } --[[@as perigee.Route]]
end

--- Makes a route answer.
---@param record perigee.Record
---@param route perigee.Route
function M.enlist(record, route)
  local path = route.path
  if not record.routes[path] then
    record.routes[path] = {}
    record.route_order[#record.route_order + 1] = path
  end
  record.routes[path][route.verb] = route
end

--- Verbs of a path that have a handler.
---@param record perigee.Record
---@param path string
---@return string[]
function M.verbs_of(record, path)
  local verbs = {}
  for _, verb in ipairs(M.verbs) do
    if record.routes[path][verb] then verbs[#verbs + 1] = verb end
  end
  return verbs
end

--- All routes of a set of consumers, for core.serve: closest patterns first. Raises when two of them
--- answer the same.
---@param records perigee.Record[]
---@return table[] items for core.serve; owner is an index into records, whose items come first
function M.collect(records)
  local items, paths, taken = {}, {}, {}
  for _, record in ipairs(records) do
    if not record.is_plain then paths[M.shape(record.path)] = record end
  end
  for i, record in ipairs(records) do
    for _, path in ipairs(record.route_order) do
      local shape = M.shape(path)
      local owner = paths[shape]
      for _, verb in ipairs(M.verbs_of(record, path)) do
        local route = record.routes[path][verb]
        if owner and owner ~= record then
          error(("%s: %s is the path of another consumer, at %s"):format(route.place, path, owner.place), 0)
        end
        local other = taken[verb .. shape]
        if other then
          error(("two handlers for %s: %s and %s"):format(route.name, other.place, route.place), 0)
        end
        taken[verb .. shape] = route
      end
      items[#items + 1] = { kind = "route", path = path, owner = i, methods = M.verbs_of(record, path) }
    end
  end
  table.sort(items, function(a, b)
    if a.path ~= b.path then return M.is_before(a.path, b.path) end
    return a.owner < b.owner
  end)
  return items
end

return M
