--- Facts: what the inspector answers when it is asked: apps and their methods, connections, groups. Each
--- worker knows its own; whoever is asked asks the others (perigee.inspector.crew).
local app = require("perigee.app")
local core = require("perigee.core")
local crew = require("perigee.inspector.crew")
local discover = require("perigee.discover")
local routes = require("perigee.routes")
local scope = require("perigee.scope")
local shown = require("perigee.inspector.shown")
local spelling = require("perigee.spelling")

local M = {}

local function list(items)
  return setmetatable(items, core.array_mt)
end

local function texts(items)
  local out = list {}
  for i, item in ipairs(items or {}) do out[i] = shown.text(item) end
  return out
end

--- Handlers of plain HTTP.
---@param record perigee.Record
---@return table[]
local function web_routes(record)
  local out = list {}
  for _, path in ipairs(record.route_order) do
    for _, verb in ipairs(routes.verbs_of(record, path)) do
      local route = record.routes[path][verb]
      out[#out + 1] = { verb = route.verb, path = route.path, doc = route.doc }
    end
  end
  return out
end

--- All apps, what they serve, and what can be called.
---@return table[]
function M.apps()
  local out = list {}
  for _, name in ipairs(spelling.keys(app.apps)) do
    local one = app.apps[name]
    local consumers = list {}
    for i, record in ipairs(one.consumers) do
      local given = record.options
      consumers[i] = {
        path = record.path, place = record.place, plain = record.is_plain, routes = web_routes(record),
        raw = given.raw or false,
        strict_ordering = given.strict_ordering or false, http_user = given.http_user or false,
        versions = texts(given.versions or { "2.0", "1.0" }),
        origins = given.origins and texts(given.origins) or nil,
        subprotocols = texts(given.subprotocols),
        methods = discover.document(record).methods,
      }
    end
    out[#out + 1] = { name = name, file = one.file, generation = one.generation or 1, consumers = consumers }
  end
  return out
end

--- A row of the list of connections.
---@param conn integer
---@return table?
local function row(conn)
  local facts = core.conn_facts(conn)
  if not facts then return nil end
  facts.id = shown.conn(conn)
  return facts
end

---@class perigee.Wish
---@field after? integer
---@field limit? integer
---@field path? string
---@field group? string
---@field text? string

--- A page of this worker's connections.
---@param wish perigee.Wish
---@return { rows: table[], next: integer? }
crew.on("connections", function(wish)
  local ids, next_place = core.conns(wish.after, wish.limit, wish.path, wish.group, wish.text)
  local rows = list {}
  for _, id in ipairs(ids) do rows[#rows + 1] = row(id) end
  return { rows = rows, next = next_place }
end)

--- A page of connections. A place in it is a worker and a place in that one's table.
---@param wish perigee.Wish
---@return table
function M.connections(wish)
  local limit = wish.limit or 50
  local worker, place = (wish.after or 0) >> 32, (wish.after or 0) & 0xffffffff
  local rows = list {}
  while worker < crew.count do
    local page = crew.ask(worker, "connections", {
      after = place, limit = limit - #rows, path = wish.path, group = wish.group, text = wish.text,
    })
    if page then
      table.move(page.rows, 1, #page.rows, #rows + 1, rows)
      if page.next then return { rows = rows, next = worker << 32 | page.next } end
    end
    worker, place = worker + 1, 0
    if #rows >= limit then return { rows = rows, next = worker < crew.count and worker << 32 or nil } end
  end
  return { rows = rows }
end

crew.on("connection", function(conn)
  local facts = row(conn)
  if not facts then return nil end
  local groups = core.groups_of(conn)
  facts.group_names = list {}
  for i = 1, math.min(#groups, 200) do facts.group_names[i] = shown.text(groups[i]) end
  local head = core.head(conn)
  if head and facts.path then
    local known = scope.read(head, facts.path)
    facts.client = { address = known.client.address, port = known.client.port }
    facts.request = {
      method = shown.text(known.method), path = shown.text(known.raw_path, 1000),
      query = shown.text(known.query_string, 1000), headers = shown.headers(known.headers),
    }
  end
  return facts
end)

--- All that is known of one connection, or nil when it is gone.
---@param worker integer
---@param conn integer
---@return table?
function M.connection(worker, conn)
  return crew.ask(worker, "connection", conn)
end

--- Closes are told with a code of the applications' range, so that a client can tell them.
local DROPPED <const> = 4000

crew.on("drop", function(conn)
  local known = core.conn_facts(conn)
  if not known or known.path == "/-/inspector" then return nil end
  if not core.close(conn, DROPPED, "dropped by the operator") then core.cut(conn) end
  return { path = known.path }
end)

--- Closes a connection. Returns nil when it is gone.
---@param worker integer
---@param conn integer
---@return { path: string? }?
function M.drop(worker, conn)
  return crew.ask(worker, "drop", conn)
end

crew.on("groups", function(wish)
  local found, total = core.groups(wish.limit, wish.text)
  local rows = list {}
  for i, group in ipairs(found) do
    rows[i] = {
      name = shown.text(group.name, 200), members = group.members,
      -- a name that is no text can be shown, but not asked for
      can_ask = utf8.len(group.name) ~= nil,
    }
  end
  return { rows = rows, total = total }
end)

--- The largest groups.
---@param text? string part of the name
---@param limit integer
---@return table
function M.groups(text, limit)
  local rows, by_name, total = list {}, {}, 0
  for _, one in ipairs(crew.ask_all("groups", { text = text, limit = limit })) do
    total = math.max(total, one.total)
    for _, group in ipairs(one.rows) do
      local known = by_name[group.name]
      if known then
        known.members = known.members + group.members
      else
        by_name[group.name] = group
        rows[#rows + 1] = group
      end
    end
  end
  table.sort(rows, function(a, b)
    if a.members ~= b.members then return a.members > b.members end
    return a.name < b.name
  end)
  total = math.max(total, #rows)
  for i = #rows, limit + 1, -1 do rows[i] = nil end
  return { rows = rows, total = total }
end

return M
