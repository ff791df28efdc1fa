--- What the specs of the Lua rooms share: apps in one line, and the questions they all ask.
local assert = require("luassert")
local core = require("perigee.core")
local report = require("perigee.report")
local testcore = require("perigee.core.testing")
local testing = require("perigee.testing")
local uv = require("luv")

local M = {}

-- ---- apps ---------------------------------------------------------------------------------------

--- An app with one consumer at /test: `declare(C, perigee)` fills it.
---@param options table|function options of the consumer; may be left out
---@param declare? fun(C: perigee.Consumer, perigee: perigee)
---@return perigee.TestApp
function M.app(options, declare)
  if not declare then options, declare = nil, options end
  return testing.app(function(perigee)
    local C = perigee.consumer(options)
    declare(C, perigee)
    return C
  end)
end

local folders = {}

local function remove(path)
  local handle = uv.fs_scandir(path)
  while handle do
    local name, kind = uv.fs_scandir_next(handle)
    if not name then break end
    if kind == "directory" then remove(path .. "/" .. name) else uv.fs_unlink(path .. "/" .. name) end
  end
  uv.fs_rmdir(path)
end

--- Files below a new folder; gone when M.clean is called.
---@param files table<string, string> text by path
---@return string folder
function M.folder(files)
  local folder = assert(uv.fs_mkdtemp("/tmp/spec_XXXXXX"))
  folders[#folders + 1] = folder
  for path, text in pairs(files) do
    local dir = folder
    for part in path:gmatch("([^/]+)/") do
      dir = dir .. "/" .. part
      uv.fs_mkdir(dir, 448)
    end
    local file = assert(io.open(folder .. "/" .. path, "w"))
    file:write(text)
    file:close()
  end
  return folder
end

--- Removes what M.folder made: for after_each.
function M.clean()
  testing.stop()
  for _, folder in ipairs(folders) do remove(folder) end
  folders = {}
end

--- An app as its author writes it, in a file /…/test.lua: `text` finds `perigee` and its consumer `C`
--- declared in front of its own first line.
---@param text string
---@param options? string Lua text of the consumer's options
---@return perigee.TestApp
function M.source(text, options)
  local head = 'local perigee = require "perigee"; local C = perigee.consumer ' .. (options or "{}") .. "; "
  return testing.app(M.folder { ["test.lua"] = head .. text .. "\nreturn C\n" } .. "/test.lua")
end

--- Loads a single-file app of exactly this text.
---@param text string
---@return perigee.TestApp
function M.load(text)
  return testing.app(M.folder { ["test.lua"] = text } .. "/test.lua")
end

-- ---- time ---------------------------------------------------------------------------------------

--- Lets everything happen that can happen without time passing.
M.settle = testcore.settle

--- Seconds of virtual time that fn took.
---@param fn function
---@return number
function M.duration(fn)
  local from = core.now()
  fn()
  return core.now() - from
end

-- ---- questions ----------------------------------------------------------------------------------

--- Asserts that a call is answered with an error of that code, and returns the error.
---@param code integer
---@param client perigee.TestClient
---@param method string
---@param ... any
---@return table
function M.refused(code, client, method, ...)
  local ok, err = client:try(method, ...)
  assert.is_false(ok, "the call was answered with a result")
  assert.equal(code, err.code)
  return err
end

--- Asserts that fn raises an error whose text has all of these in it, and returns the text.
---@param fn function
---@param ... string
---@return string
function M.raises(fn, ...)
  local ok, err = pcall(fn)
  assert.is_false(ok, "no error was raised")
  local text = tostring(err)
  for _, part in ipairs { ... } do M.has(part, text) end
  assert(not report.is_own(text), ("a line of the server's own is named:\n%s"):format(text))
  return text
end

--- Asserts that a text has another in it.
---@param part string
---@param text string
function M.has(part, text)
  assert(text:find(part, 1, true), ("%q is not in:\n%s"):format(part, text))
end

--- Asserts that a text does not have another in it.
---@param part string
---@param text string
function M.lacks(part, text)
  assert(not text:find(part, 1, true), ("%q is in:\n%s"):format(part, text))
end

--- What was logged as an error.
---@param app perigee.TestApp
---@return table[]
function M.errors(app)
  local found = {}
  for _, entry in ipairs(app:logged()) do
    if entry.level == "error" then found[#found + 1] = entry end
  end
  return found
end

--- Asserts that exactly one error was logged, and returns its entry.
---@param app perigee.TestApp
---@return table
function M.the_error(app)
  local found = M.errors(app)
  assert.equal(1, #found, "number of errors logged")
  return found[1]
end

--- Asserts that nothing was logged as an error.
---@param app perigee.TestApp
function M.no_errors(app)
  for _, entry in ipairs(M.errors(app)) do
    error(("an error was logged: %s\n%s"):format(entry.event, entry.block or ""), 2)
  end
end

--- Asserts that a client is still served as before.
---@param client perigee.TestClient
---@param method string
---@param ... any
function M.still_serves(client, method, ...)
  assert.is_nil(client.closed)
  assert.is_true((client:try(method, ...)))
end

-- ---- wire ---------------------------------------------------------------------------------------

--- The text of a call as clients send it.
---@param method string
---@param params? string JSON text
---@param id? string JSON text, default 1
---@return string
function M.request(method, params, id)
  return ('{"jsonrpc":"2.0","method":"%s"%s,"id":%s}'):format(
    method, params and ',"params":' .. params or "", id or "1")
end

---@param method string
---@param params? string JSON text
---@return string
function M.notification(method, params)
  return ('{"jsonrpc":"2.0","method":"%s"%s}'):format(method, params and ',"params":' .. params or "")
end

--- Posts a text to /test and returns the decoded answer and the response.
---@param app perigee.TestApp
---@param text string
---@return any answer
---@return perigee.Response response
function M.post(app, text)
  local response = app:post("/test", text)
  return response.body ~= "" and core.json_decode(response.body) or nil, response
end

--- Calls a method over HTTP and returns the whole decoded answer.
---@param app perigee.TestApp
---@param method string
---@param params? string JSON text
---@return table
function M.post_call(app, method, params)
  return (M.post(app, M.request(method, params)))
end

return M
