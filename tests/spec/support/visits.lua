--- Visitors of an app that keep their cookie, as browsers do.
local core = require("perigee.core")

local M = {}

---@class Visits
---@field app perigee.TestApp
---@field cookie string? "name=value"
local Visits = {}
Visits.__index = Visits

---@param app perigee.TestApp
---@param set_cookie? string a Set-Cookie field or a cookie to begin with
---@return Visits
function M.new(app, set_cookie)
  return setmetatable({ app = app, cookie = set_cookie and set_cookie:match("^[^;]+") }, Visits)
end

---@param self Visits
---@param line string?
local function take(self, line)
  if not line then return end
  self.cookie = line:match("^[^;]+")
  if line:find("Max-Age=0", 1, true) then self.cookie = nil end
end

--- Posts a text to /test.
---@param text string
---@param headers? table<string, string>
---@return any answer decoded
---@return perigee.Response response
function Visits:post(text, headers)
  headers = headers or {}
  headers["Content-Type"] = "application/json"
  headers.Cookie = self.cookie
  local response = self.app:post("/test", text, headers)
  take(self, response.headers["set-cookie"])
  return response.body ~= "" and core.json_decode(response.body) or nil, response
end

---@return table answer
local function exchange(self, method, ...)
  local params = setmetatable({ ... }, core.array_mt)
  return (self:post(core.json_encode { jsonrpc = "2.0", method = method, params = params, id = 1 }))
end

--- Calls a method over HTTP; an error fails the test.
---@param method string
---@param ... any
---@return any
function Visits:call(method, ...)
  local answer = exchange(self, method, ...)
  if answer.error then error(core.json_encode(answer.error), 2) end
  if answer.result == core.null then return nil end
  return answer.result
end

--- Calls a method over HTTP and returns its error.
---@param method string
---@param ... any
---@return table
function Visits:try(method, ...)
  return exchange(self, method, ...).error
end

--- Opens a WebSocket on /test.
---@return perigee.TestClient
function Visits:connect()
  local client = self.app:connect("/test", { headers = { Cookie = self.cookie } })
  take(self, client.response.headers["set-cookie"])
  return client
end

return M
