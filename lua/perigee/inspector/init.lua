--- The inspector: a consumer like any app's, by which a page shows what the server does.
---
--- Who may connect to it is decided in C before anything here runs (dispatch.c, may_inspect). Whatever
--- apps and clients have said goes through perigee.inspector.shown on its way out.
local consumer = require("perigee.consumer")
local core = require("perigee.core")
local facts = require("perigee.inspector.facts")
local feed = require("perigee.inspector.feed")
local perigee = require("perigee").for_app(feed.owner)
local shown = require("perigee.inspector.shown")

local M = {}

local Inspector = perigee.consumer { path = "/-/inspector", versions = { "2.0" }, discover = true }

local gone = perigee.error { code = 1, message = "That connection is gone" }

---@param id string
---@return integer worker
---@return integer conn
local function conn_of(id)
  local worker, conn = shown.conn_of(id)
  if not worker then error(gone) end
  return worker, conn
end

function Inspector:disconnect()
  feed.unwatch(self._conn)
end

local function method(name, doc, params, fn)
  Inspector:rpc_method(name, { http = false, doc = doc, params = params }, fn)
end

method("hello", "What this server is, and what it serves.", {}, function()
  local faults, reloads = feed.kept()
  return {
    version = core.version, node = core.node, workers = core.workers, is_dev = core.is_dev,
    apps = facts.apps(), faults = faults, reloads = reloads, totals = feed.totals(),
  }
end)

method("apps", "The apps, their consumers, and what can be called.", {}, function() return facts.apps() end)

method("watch", "Notifications 'tick' with all that happens, until the connection ends.", {}, function(ctx)
  if feed.watch(ctx.consumer._conn, ctx.consumer) then return true end
  return nil, perigee.error { code = 2, message = "Too many inspectors watch already; close one" }
end)

method("connections", "A page of the open connections.", {
  { "after", { "integer?", min = 0, max = 1 << 40 } }, { "limit", { "integer?", min = 1, max = 200 } },
  { "path", { "string?", max = 1000 } }, { "group", { "string?", min = 1, max = 200 } },
  { "text", { "string?", min = 1, max = 200 } },
}, function(_, after, limit, path, group, text)
  return facts.connections { after = after, limit = limit, path = path, group = group, text = text }
end)

method("connection", "All that is known of one connection.", { { "id", { "string", max = 20 } } }, function(_, id)
  return facts.connection(conn_of(id)) or nil, gone
end)

method("drop", "Closes a connection.", { { "id", { "string", max = 20 } } }, function(ctx, id)
  local known = facts.drop(conn_of(id))
  if not known then return nil, gone end
  ctx.log:info("connection dropped", { dropped = id, of = known.path })
  return true
end)

method("groups", "The largest groups.", {
  { "text", { "string?", max = 200 } }, { "limit", { "integer?", min = 1, max = 1000 } },
}, function(_, text, limit)
  return facts.groups(text ~= "" and text or nil, limit or 200)
end)

--- Offers it on this worker.
function M.start()
  local record = consumer.record(Inspector) --[[@as perigee.Record]]
  record.is_own = true
  consumer.check(record)
  core.serve_inspector(consumer.route(record))
  feed.start()
end

return M
