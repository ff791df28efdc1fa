--- Accounts: names and the hashes of their passwords, and how often somebody has tried to get in.
---
--- They are kept in perigee.shared, the same for all workers, so they are gone when the server stops. An
--- app of yours would keep them in its database.
local perigee = require "perigee"

local store = perigee.shared "accounts"

local TRIES, PER = 10, 60 -- to get in by one name, in so many seconds

local M = {}

--- Names that differ in case only would be taken for each other.
local function place(name)
  return "account:" .. name:lower()
end

--- What is wrong with a name or password that somebody wants to have; nil when nothing is.
local function complaint(name, password)
  if not name:find("^[%w_.-]+$") or #name > 24 then return "A name has 1 to 24 letters, digits or _ . -" end
  if #password < 8 then return "A password has at least 8 characters" end
  if #password > 1024 then return "That password is too long" end
end

--- A new account. Returns its name, or nil and what is wrong.
function M.create(name, password)
  local wrong = complaint(name, password)
  if wrong then return nil, wrong end
  local hash = perigee.password.hash(password) -- takes a while, on another thread
  if not store:add(place(name), { name = name, hash = hash }) then return nil, "That name is taken" end
  return name
end

--- The name of the account with that name and password, or nil and what is wrong: the same whether it is
--- the name or the password.
function M.check(name, password)
  name = name:sub(1, 24)
  -- counted before the password is looked at, which takes a while: of many that come at once none gets by
  if store:incr("tries:" .. name:lower(), 1, PER) > TRIES then
    return nil, perigee.error { code = perigee.errors.rate_limited, message = "Too many tries. Wait a minute, please" }
  end
  local account = store:get(place(name))
  if perigee.password.verify(password, account and account.hash) then return account.name end
  return nil, "Wrong name or password"
end

--- Is there an account of that name? A session may outlive it.
function M.exists(name)
  return store:get(place(name)) ~= nil
end

return M
