--- The session's cookie: found in what a client sends, written for what it gets.
local M = {}

--- The value of a cookie in a Cookie field. Nil when it is not there, and also when it is there more
--- than once: then somebody else has set one of them, and it is not known who.
---@param text string? at most as long as a head may be; read in one pass
---@param name string
---@return string?
function M.find(text, name)
  if not text then return nil end
  local found, at = nil, 1
  while true do
    local from, to = text:find(name .. "=", at, true)
    if not from then return found end
    local before = from == 1 and ";" or text:sub(from - 1, from - 1)
    if before == ";" or before == " " or before == "\t" then
      if found then return nil end
      found = text:match("^[^;,%s]*", to + 1)
    end
    at = to + 1
  end
end

--- The cookie's name on a connection: under TLS with the prefix that keeps other hosts and plain
--- HTTP from setting it (RFC 6265bis section 4.1.3).
---@param name string
---@param is_secure boolean
---@return string
function M.name(name, is_secure)
  return is_secure and "__Host-" .. name or name
end

local same_site = { lax = "Lax", strict = "Strict", none = "None" }

--- A header line that sets a cookie. Browsers drop one for all sites (`none`) that is not secure: over
--- plain HTTP it is `lax`.
---@param name string with its prefix
---@param value string
---@param seconds integer how long it is kept; 0 removes it
---@param is_secure boolean
---@param from? "lax"|"strict"|"none" pages that it is sent along from
---@return string
function M.line(name, value, seconds, is_secure, from)
  if not from or from == "none" and not is_secure then from = "lax" end
  return ("Set-Cookie: %s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=%s%s\r\n"):format(
    name, value, seconds, same_site[from], is_secure and "; Secure" or "")
end

return M
