--- Signing up, in and out, by JSON-RPC and by plain forms, and who is signed in on how many tabs.
local people = require "accounts.people"
local perigee = require "perigee"

-- With http_user there are sessions and users; everyone who has the page open hears who is signed in.
local Accounts = perigee.consumer { http_user = true, groups = { "accounts" } }
local signed_in = perigee.group "accounts:signed-in"

local SIGNED_OUT <const> = 4001 -- close codes that the page knows
local CLOSED_BY_OTHER <const> = 4002

-- ---- who is here --------------------------------------------------------------------------------

--- The name of whom an instance or a ctx belongs to, or nil.
local function name_of(visitor)
  local user = visitor.user
  return user and people.exists(user.id) and user.id or nil
end

--- Everyone who is signed in and has a tab open: { { name =, tabs = } }, sorted. The names came with the
--- connections into the group.
local function present()
  local tabs, list, cursor = {}, perigee.array(), nil
  repeat
    local members
    members, cursor = signed_in:members { limit = 1000, cursor = cursor }
    for _, member in ipairs(members) do tabs[member.meta] = (tabs[member.meta] or 0) + 1 end
  until not cursor
  for name, count in pairs(tabs) do list[#list + 1] = { name = name, tabs = count } end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local function tell_everyone()
  Accounts:notify_group("accounts", "people", { people = present() })
end

--- The group of somebody's tabs.
local function tabs_of(name)
  return "accounts:tabs:" .. name
end

function Accounts:connect()
  local name = name_of(self)
  if name then
    self:group_add("accounts:signed-in", name)
    self:group_add(tabs_of(name))
  end
  tell_everyone()
end

Accounts.disconnect = tell_everyone

-- ---- in and out ---------------------------------------------------------------------------------

local function sign_up(ctx, name, password)
  local made, err = people.create(name, password)
  if made then ctx.consumer:identify { id = made } end
  return made, err
end

local function sign_in(ctx, name, password)
  local known, err = people.check(name, password)
  if known then ctx.consumer:identify { id = known } end
  return known, err
end

--- Closes all tabs of who it was, in this browser and any other: they come back as who they are now.
local function sign_out(ctx)
  local name = name_of(ctx)
  ctx.session:destroy()
  if name then perigee.kick { group = tabs_of(name), code = SIGNED_OUT, reason = "signed out" } end
  return true
end

-- A new session's cookie needs an answer to travel with, so these are for HTTP alone. The page connects
-- anew afterwards.
local credentials = { { "name", "string" }, { "password", "string" } }

Accounts:rpc_method("sign_up", {
  doc = "Makes an account and signs in. Returns the name.", websocket = false, params = credentials,
}, sign_up)

Accounts:rpc_method("sign_in", {
  doc = "Signs in. Returns the name.", websocket = false, params = credentials,
}, sign_in)

Accounts:rpc_method("sign_out", {
  doc = "Ends the session, and closes all tabs of who it was.", websocket = false,
}, sign_out)

Accounts:rpc_method("me", { doc = "The name of who asks, or null." }, function(ctx) return name_of(ctx) end)

Accounts:rpc_method("people", { doc = "Who is signed in, on how many tabs." }, present)

Accounts:rpc_method("close_others", {
  doc = "Closes the other tabs of who asks.", http = false,
  permission = function(ctx) return name_of(ctx) ~= nil end,
}, function(ctx)
  perigee.kick { user = ctx.user, except = ctx, code = CLOSED_BY_OTHER, reason = "closed from another tab" }
  return true
end)

-- ---- the same by plain forms, for browsers without JavaScript --------------------------------------

--- A form's handler: does what the method does, and sends the browser back to the page.
local function form(act)
  return function(ctx)
    local fields = ctx:form()
    local ok, err = act(ctx, fields.name or "", fields.password or "")
    local why = not ok and (type(err) == "table" and err.message or err)
    return 303, nil, { Location = "/accounts/" .. (why and "#" .. why:gsub("[^%w]", "%%20") or "") }
  end
end

Accounts:post("sign_up", form(sign_up))
Accounts:post("sign_in", form(sign_in))
Accounts:post("sign_out", form(sign_out))

return Accounts
