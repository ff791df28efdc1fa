--- Signed tokens: a value that a client may carry but not change, until it expires.
---
---   base64url({"v":value,"e":end}) . base64url(HMAC-SHA256(key, purpose, the first half))
local clock = require("perigee.clock")
local core = require("perigee.core")
local secret = require("perigee.secret")
local spelling = require("perigee.spelling")

local M = {}

--- Seconds until a token expires unless sign is told otherwise.
M.DEFAULT_SECONDS = 3600
--- Bytes a token may have.
M.MAX = 4096

---@param opts any
---@param known string[]
---@param what string
---@return table
local function check_options(opts, known, what)
  if opts == nil then return {} end
  if type(opts) ~= "table" then error(("%s: options are a table, not a %s"):format(what, type(opts)), 3) end
  for key in pairs(opts) do
    local is_known = false
    for _, name in ipairs(known) do is_known = is_known or name == key end
    if not is_known then
      error(("%s has no option '%s'%s"):format(what, tostring(key), spelling.hint(key, known)), 3)
    end
  end
  if opts.purpose ~= nil and type(opts.purpose) ~= "string" then
    error(("%s: purpose must be a string"):format(what), 3)
  end
  return opts
end

---@param payload string
---@param purpose string?
---@return string
local function mac(payload, purpose)
  return core.hmac(secret.key(), ("perigee.token.1\0%s\0%s"):format(purpose or "", payload))
end

--- A token for a value.
---@param value any whatever has a form in JSON; anybody can read it
---@param opts? { expires?: number, purpose?: string } expires: seconds from now, default an hour;
---purpose: a token made for one is void for another
---@return string
function M.sign(value, opts)
  opts = check_options(opts, { "expires", "purpose" }, "token.sign")
  local seconds = opts.expires == nil and M.DEFAULT_SECONDS or opts.expires
  if type(seconds) ~= "number" or not (seconds > 0 and seconds < 1e10) then
    error("token.sign: expires must be a number of seconds above 0", 2)
  end
  if value == nil then error("token.sign needs a value", 2) end
  local text, err = core.json_encode { v = value, e = clock.wall() + math.ceil(seconds) }
  if not text then error("token.sign: " .. err, 2) end
  local payload = core.base64url(text)
  local token = payload .. "." .. mac(payload, opts.purpose)
  if #token > M.MAX then
    error(("token.sign: the token would have %d bytes, more than %d"):format(#token, M.MAX), 2)
  end
  return token
end

--- The value of a token, or nil and why there is none: "malformed", "forged" or "expired".
---@param token any what a client sent: anything
---@param opts? { purpose?: string }
---@return any value
---@return string? err
function M.verify(token, opts)
  opts = check_options(opts, { "purpose" }, "token.verify")
  if type(token) ~= "string" or #token > M.MAX then return nil, "malformed" end
  local payload, given = token:match("^([%w_-]+)%.([%w_-]+)$")
  if not payload then return nil, "malformed" end
  if not core.same(given, mac(payload, opts.purpose)) then return nil, "forged" end
  local facts = core.json_decode(core.from_base64url(payload) or "")
  if type(facts) ~= "table" or math.type(facts.e) ~= "integer" then return nil, "malformed" end
  if facts.e <= clock.wall() then return nil, "expired" end
  return facts.v
end

return M
