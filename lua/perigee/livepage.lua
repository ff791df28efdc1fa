--- Live pages: in dev, pages are told when one of their files has changed. Their part of it is
--- web/reload.js, which server/hub/files.c adds to each page.
local channel = require("perigee.channel")
local consumer = require("perigee.consumer")
local core = require("perigee.core")

local M = {}

local GROUP = "-/reload"

--- What serves them, for core.serve; nothing outside of dev.
---@return table[]
function M.routes()
  if not core.is_dev then return {} end
  if not M.record then
    local class = consumer.new({ path = "/-/reload", groups = { GROUP } }, { name = "-", file = "perigee" })
    M.record = consumer.record(class)
    M.record.is_own = true
  end
  return { consumer.route(M.record) }
end

--- Public files have changed.
function M.tell()
  if core.is_dev and core.worker == 0 then channel.notify_group(nil, GROUP, "reload") end
end

return M
