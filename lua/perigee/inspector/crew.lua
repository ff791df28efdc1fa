--- The crew: what the inspector of one worker asks the others of its process, and tells them.
local core = require("perigee.core")
local mail = require("perigee.mail")

local M = {}

--- How many workers there are; they are counted from 0.
---@type integer
M.count = core.workers

local SECONDS = 2 -- a worker has to answer, unless it is held up by its apps

---@type table<string, fun(values: any): any>
local answerers = {}
---@type table<integer, { task: integer, wait: integer }>
local asked = {}
local serial = 0

--- The address of a worker.
---@param worker integer
---@return string
local function address(worker)
  return ("%s.%d.0"):format(core.node, worker)
end

--- Tells a worker something; it may be lost when that has too much mail already.
---@param worker integer
---@param kind string as for perigee.mail.on
---@param letter table
---@return boolean sent
function M.tell(worker, kind, letter)
  letter.kind, letter.from = kind, core.worker
  local text = core.json_encode(letter)
  return text ~= nil and core.post(address(worker), text) == true
end

--- What this worker answers to a question. fn runs in no task, so it must not wait.
---@param name string
---@param fn fun(values: any): any
function M.on(name, fn)
  answerers[name] = fn
end

mail.on("inspector_ask", function(letter)
  local answerer = answerers[letter.name]
  M.tell(letter.from, "inspector_answer", { serial = letter.serial, value = answerer and answerer(letter.values) })
end)

mail.on("inspector_answer", function(letter)
  local one = asked[letter.serial]
  if one then core.wake(one.task, one.wait, letter.value) end
end)

--- Asks a worker, or this one, and waits for the answer.
---@param worker integer
---@param name string
---@param values any
---@return any answer nil as well when it does not answer
function M.ask(worker, name, values)
  if worker == core.worker then return answerers[name](values) end
  serial = serial + 1
  local number, task, wait = serial, core.wait_open()
  asked[number] = { task = task, wait = wait }
  local ok, woken, value = true, false, nil
  if M.tell(worker, "inspector_ask", { name = name, serial = number, values = values }) then
    ok, woken, value = pcall(core.park, SECONDS, wait)
  end
  asked[number] = nil
  if not ok then error(woken, 0) end
  return woken and value or nil
end

--- Asks all of them.
---@param name string
---@param values any
---@return any[] answers of those that gave one
function M.ask_all(name, values)
  local answers = {}
  for worker = 0, M.count - 1 do answers[#answers + 1] = M.ask(worker, name, values) end
  return answers
end

return M
