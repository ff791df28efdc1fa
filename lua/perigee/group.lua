--- Groups: who is in them, wherever they are connected.
local channel = require("perigee.channel")
local core = require("perigee.core")
local layer = require("perigee.layer")
local mail = require("perigee.mail")
local spelling = require("perigee.spelling")

local M = {}

local META_MAX = 4096 -- bytes of JSON
local PAGE, PAGE_MAX = 100, 1000

--- Joins a connection to a group. With Redis it waits until messages of other machines arrive.
---@param conn integer
---@param name string 1 to 200 bytes
---@param meta? any what members() tells of it; anything JSON can hold
---@return boolean joined false when it was a member already; it has the new meta then
function M.add(conn, name, meta)
  local text
  if meta ~= nil then
    local err
    text, err = core.json_encode(meta)
    if not text then error("group_add: the meta: " .. err, 2) end
    if #text > META_MAX then
      error(("group_add: the meta has %d bytes as JSON, at most %d are kept"):format(#text, META_MAX), 2)
    end
  end
  local joined, wait = core.group_add(conn, name, text, true)
  if wait then core.park(core.layer_timeout, wait) end
  return joined
end

-- ---- pages of members -----------------------------------------------------------------------------

--- Members are listed process by process, worker by worker, in the order of
--- their connections' ids.

---@class perigee.Member
---@field channel string
---@field meta any what was given to group_add, or nil

--- Text of any bytes as JSON can carry it.
local function to_hex(text)
  return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end
local function from_hex(text)
  return (text:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end))
end

--- This worker's members, and which worker of this process has the next ones.
---@param name string
---@param after integer
---@param limit integer
---@return perigee.Member[]
---@return integer? next_worker
local function own_page(name, after, limit)
  local conns, metas = core.members_after(name, after, limit)
  for i, conn in ipairs(conns) do
    conns[i] = { channel = channel.of(conn), meta = metas[i] and core.json_decode(metas[i]) or nil }
  end
  for _, worker in ipairs(core.group_workers(name)) do
    if worker > core.worker then return conns, worker end
  end
  return conns
end

mail.on("members", function(question)
  local members, next_worker = own_page(from_hex(question.group), question.after, question.limit)
  core.post(question.to, core.json_encode {
    kind = "members_page", id = question.id,
    members = setmetatable(members, core.array_mt), next_worker = next_worker,
  })
end)

--- Questions that other workers have not answered yet.
---@type table<integer, { page?: table, task?: integer, wait?: integer }>
local asked = {}
local last_id = 0

mail.on("members_page", function(page)
  local question = asked[page.id]
  if not question then return end
  question.page = page
  if question.task then core.wake(question.task, question.wait) end
end)

--- Asks a worker anywhere for its page.
---@return perigee.Member[]? members nil when it is gone or no answer came in time
---@return integer? next_worker
local function page_of(node, worker, name, after, limit)
  if node == core.node and worker == core.worker then return own_page(name, after, limit) end
  last_id = last_id + 1
  local id, question = last_id, {}
  asked[id] = question
  local ok, fault = pcall(function() -- a task that is stopped meanwhile must not leave its question
    -- a process that is gone, but has a lease yet, does not keep us waiting: nobody takes the mail
    local is_sent = layer.settle(core.post(("%s.%d.0"):format(node, worker), core.json_encode {
      kind = "members", group = to_hex(name), after = after, limit = limit, id = id, to = channel.of(0),
    }, true))
    if is_sent and not question.page then
      question.task, question.wait = core.wait_open()
      core.park(core.layer_timeout, question.wait)
    end
  end)
  asked[id] = nil
  if not ok then error(fault, 0) end
  if question.page then return question.page.members, question.page.next_worker end
end

--- Names of the processes that have members, in order.
local function nodes_with(name)
  local counts = layer.counts(name)
  if core.group_count(name) > 0 then counts[core.node] = 1 end
  return spelling.keys(counts)
end

-- ---- for apps -------------------------------------------------------------------------------------

---@class perigee.Group
---@field name string
local Group = {}
Group.__index = Group
Group.__name = "perigee.group"

--- How many connections are in the group, on all machines. Those of other machines as Redis knows
--- them; none while it cannot be reached.
---@return integer
function Group:count()
  local n = core.group_count(self.name)
  for _, more in pairs(layer.counts(self.name)) do n = n + more end
  return n
end

--- Who is in the group, page by page. Whoever stays a member from the first page to the last is told
--- exactly once.
---@param opts? { limit?: integer, cursor?: string } limit: 1 to 1000, default 100; cursor: as returned
---@return perigee.Member[] members
---@return string? cursor for the next page; nil: there are no more
function Group:members(opts)
  opts = opts or {}
  if type(opts) ~= "table" then error("members takes a table, { limit = ..., cursor = ... }", 2) end
  for key in pairs(opts) do
    if key ~= "limit" and key ~= "cursor" then
      error(("members has no option '%s'%s"):format(tostring(key), spelling.hint(key, { "limit", "cursor" })), 2)
    end
  end
  local limit = math.tointeger(opts.limit or PAGE)
  if not limit or limit < 1 or limit > PAGE_MAX then error("members: limit is a number from 1 to 1000", 2) end
  local from_node, from_worker, from_conn = "", 0, 0
  if opts.cursor ~= nil then
    local node, worker, conn = tostring(opts.cursor):match("^(%x+)%.(%d+)%.(%x+)$")
    if not node then error("members: the cursor must be one that members returned", 2) end
    from_node, from_worker, from_conn = node, tonumber(worker), tonumber(conn, 16)
  end
  local list = {}
  for _, node in ipairs(nodes_with(self.name)) do
    local is_first = node == from_node
    local worker = is_first and from_worker or 0
    local after = is_first and from_conn or 0
    while worker and node >= from_node do
      if #list == limit then return list, ("%s.%d.%x"):format(node, worker, after) end
      local members, next_worker = page_of(node, worker, self.name, after, limit - #list)
      if not members then
        core.log("warn", "members of a process are missing: it did not answer in time", { node = node })
        break
      end
      table.move(members, 1, #members, #list + 1, list)
      if #list == limit then return list, list[#list].channel end
      worker, after = next_worker, 0
    end
  end
  return list, nil
end

--- Sends a notification to every member.
---@param method string
---@param params? table
---@param opts? perigee.NotifyOptions
function Group:notify(method, params, opts)
  channel.notify_group(nil, self.name, method, params, opts)
end

--- Raises for what is no group's name; at the caller's caller.
---@param name any
---@param what string
function M.check(name, what)
  if type(name) ~= "string" or #name < 1 or #name > 200 then
    error(what .. ": a group's name is a string of 1 to 200 bytes", 3)
  end
end

--- A group by name; it need not have members.
---@param name string 1 to 200 bytes
---@return perigee.Group
function M.open(name)
  M.check(name, "perigee.group")
  return setmetatable({ name = name }, Group)
end

return M
