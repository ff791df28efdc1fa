--- Blame: an error about how something was called names the line that called it, not one of the server's.
local rig = require("tests.spec.support.rig")
local testing = require("perigee.testing")

--- Asserts that each function raises an error at its own line; they have to fit in one.
---@param misuses table<string, function> by a part of what is said
local function blamed(misuses)
  local wrong = {}
  for part, fn in pairs(misuses) do
    local ok, err = pcall(fn)
    local line = debug.getinfo(fn, "S").linedefined
    local text = tostring(err)
    if ok or not text:find(part, 1, true) or tonumber(text:match("^%S*blame_spec%.lua:(%d+): ")) ~= line then
      wrong[#wrong + 1] = ("line %d: %s"):format(line, ok and "no error" or text)
    end
  end
  table.sort(wrong)
  assert(#wrong == 0, "\n" .. table.concat(wrong, "\n"))
end

describe("who is blamed", function()
  after_each(rig.clean)

  --- An app whose method `try` runs a function of the spec: fn(ctx, perigee, C).
  local function within(fn, options)
    local class, module
    local ran, err = false, nil
    local app = rig.app(options or {}, function(C, perigee)
      class, module = C, perigee
      function C.connect() end
      C:rpc_method("try", function(ctx)
        local ok
        ok, err = pcall(fn, ctx, module, class)
        ran = ok
      end)
    end)
    app:connect("/test"):call("try")
    if not ran then error(err, 0) end
  end

  it("for what the module was given", function()
    within(function(_, perigee)
      blamed {
        ["perigee has no 'slep' (did you mean 'sleep'?)"] = function() return perigee.slep end,
        ["sleep takes a number of seconds"] = function() perigee.sleep("x") end,
        ["after takes a number of seconds"] = function() perigee.after(-1, print) end,
        ["after takes a function"] = function() perigee.after(1, 5) end,
        ["perigee.every needs more than 0 seconds"] = function() perigee.every(0, print) end,
        ["every takes a function"] = function() perigee.every(1) end,
        ["perigee.all takes a list of functions"] = function() perigee.all(5) end,
        ["perigee.blocking takes a module's name"] = function() perigee.blocking(5) end,
        ["perigee.error takes a table"] = function() perigee.error(5) end,
        ["perigee.error: code must be an integer"] = function() perigee.error { code = "x" } end,
        ["perigee.error: message must be a string"] = function() perigee.error { message = 5 } end,
        ["perigee.on: there is no signal"] = function() perigee.on("nothing", print) end,
        ["perigee.on: the receiver must be a function"] = function() perigee.on("server_started", 5) end,
        ["a group's name is a string of 1 to 200 bytes"] = function() perigee.group("") end,
        ["a name has 1 to 100 letters"] = function() perigee.shared("") end,
        ["log:info takes a text"] = function() perigee.log:info(5) end,
        ["log:warn takes its fields as a table"] = function() perigee.log:warn("x", 5) end,
        ["on_save is called while the app is loaded"] = function() perigee.on_save(print) end,
        ["on_restore takes a function"] = function() perigee.on_restore(5) end,
      }
    end)
  end)

  it("for tokens and passwords", function()
    within(function(_, perigee)
      local token, password = perigee.token, perigee.password
      blamed {
        ["token.sign: options are a table"] = function() token.sign(1, 5) end,
        ["token.sign has no option 'expire'"] = function() token.sign(1, { expire = 5 }) end,
        ["token.sign: purpose must be a string"] = function() token.sign(1, { purpose = 5 }) end,
        ["token.sign: expires must be a number"] = function() token.sign(1, { expires = 0 }) end,
        ["token.sign needs a value"] = function() token.sign() end,
        ["token.sign: cannot encode"] = function() token.sign(print) end,
        ["token.sign: the token would have"] = function() token.sign(("x"):rep(5000)) end,
        ["token.verify: options are a table"] = function() token.verify("x", 5) end,
        ["token.verify has no option 'x'"] = function() token.verify("x", { x = 5 }) end,
        ["token.verify: purpose must be a string"] = function() token.verify("x", { purpose = 5 }) end,
        ["password.hash: the password must be a string"] = function() password.hash(5) end,
        ["password.hash: a password has at most"] = function() password.hash(("x"):rep(1025)) end,
        ["password.verify: the password must be"] = function() password.verify(5) end,
        ["password.verify: the hash must be"] = function() password.verify("x", 5) end,
      }
    end)
  end)

  it("for shared values", function()
    within(function(_, perigee)
      local store = perigee.shared("blame")
      store:set("text", "x")
      blamed {
        ["get: a key is a string"] = function() store:get(5) end,
        ["set: a key is a string"] = function() store:set("", 1) end,
        ["add: a key is a string"] = function() store:add("", 1) end,
        ["incr: a key is a string"] = function() store:incr("") end,
        ["expire: a key is a string"] = function() store:expire("", 1) end,
        ["delete: a key is a string"] = function() store:delete("") end,
        ["set: ttl is a number"] = function() store:set("k", 1, 0) end,
        ["add: ttl is a number"] = function() store:add("k", 1, 0) end,
        ["incr: ttl is a number"] = function() store:incr("k", 1, 0) end,
        ["expire: ttl is a number"] = function() store:expire("k") end,
        ["expire: ttl is a number of seconds"] = function() store:expire("k", 0) end,
        ["set: the value is nil"] = function() store:set("k") end,
        ["add: the value is nil"] = function() store:add("k") end,
        ["incr: what is added is a number"] = function() store:incr("k", "x") end,
        ["incr: 'text' does not hold a number"] = function() store:incr("text") end,
      }
    end)
  end)

  it("for what is sent", function()
    within(function(ctx, perigee, C)
      local self = ctx.consumer
      blamed {
        ["notify: the method must be a string"] = function() ctx:notify("") end,
        ["notify: params must be a table"] = function() self:notify("x", 5) end,
        ["notify_group: the method must be"] = function() perigee.notify_group("g", 5) end,
        ["notify_group: params must be"] = function() self:notify_group("g", "x", 5) end,
        ["notify_group: the last argument"] = function() C:notify_group("g", "x", {}, 5) end,
        ["notify_group has no option 'exept'"] = function() C:notify_group("g", "x", {}, { exept = 5 }) end,
        ["notify_channel: the method must be"] = function() perigee.notify_channel("c", "") end,
        ["notify_channel: the channel must be"] = function() self:notify_channel(5, "x") end,
        ["send: the channel must be a string"] = function() perigee.send(5, { type = "x" }) end,
        ["send: an event is a table with a type"] = function() perigee.send("c", {}) end,
        ["group_send: an event is a table"] = function() C:group_send("g", 5) end,
        ["group_send: types of events that begin"] = function() perigee.group_send("g", { type = "perigee.x" }) end,
        ["call: the method must be"] = function() ctx:call("") end,
        ["call: params must be a table"] = function() self:call("x", 5) end,
        ["call: timeout must be a number"] = function() self:call("x", {}, { timeout = 0 }) end,
        ["group_add: names of groups that begin"] = function() ctx:group_add("\0x") end,
        ["group_discard: names of groups that begin"] = function() self:group_discard("\0x") end,
        ["group_add: the meta: "] = function() self:group_add("g", print) end,
        ["group_add: the meta has"] = function() ctx:group_add("g", ("x"):rep(5000)) end,
        ["accept: this connection was accepted"] = function() self:accept() end,
        ["reject: this connection was accepted"] = function() self:reject() end,
        ["scope is read-only"] = function() ctx.scope.path = "x" end,
      }
    end)
  end)

  it("for groups and users", function()
    within(function(ctx, perigee)
      local group, self = perigee.group("g"), ctx.consumer
      blamed {
        ["members takes a table"] = function() group:members(5) end,
        ["members has no option 'limt'"] = function() group:members { limt = 5 } end,
        ["members: limit is a number"] = function() group:members { limit = 0 } end,
        ["members: the cursor must be"] = function() group:members { cursor = "x" } end,
        ["perigee.kick takes a table"] = function() perigee.kick(5) end,
        ["perigee.kick has no option 'x'"] = function() perigee.kick { x = 5 } end,
        ["perigee.kick takes one of"] = function() perigee.kick {} end,
        ["perigee.kick: the code must be"] = function() perigee.kick { group = "g", code = 5 } end,
        ["perigee.kick: the reason must be"] = function() perigee.kick { group = "g", reason = 5 } end,
        ["perigee.kick: the group must be"] = function() perigee.kick { group = 5 } end,
        ["notify_user: "] = function() perigee.notify_user({}, "x") end,
        ["the method must be a string"] = function() self:notify_user(1, "") end,
      }
    end)
  end)

  it("for what is declared", function()
    local app = rig.app(function(C, perigee)
      C:rpc_method("known", function() end)
      C:on_event("known", function() end)
      local plain = perigee.http_routes { path = "/plain" }
      blamed {
        ["rpc_method: the name must be"] = function() C:rpc_method("", print) end,
        ["names that begin with '_' or 'rpc.'"] = function() C:rpc_method("_x", print) end,
        ["a method's name has at most"] = function() C:rpc_method(("x"):rep(1000), print) end,
        ["options must be a table"] = function() C:rpc_method("x", 5, print) end,
        ["'x': the handler must be a function"] = function() C:rpc_method("x", 5) end,
        ["rpc_method 'x' has no option 'tiemout'"] = function() C:rpc_method("x", { tiemout = 5 }, print) end,
        ["rpc_method 'known' was registered already"] = function() C:rpc_method("known", print) end,
        ["option 'params' must be a list"] = function() C:rpc_method("x", { params = 5 }, print) end,
        ["rpc_method is called on a consumer"] = function() C.rpc_method("x", print) end,
        ["perigee.http_routes answers plain HTTP only"] = function() plain:rpc_method("x", print) end,
        ["the path must be a text"] = function() C:get(5, print) end,
        ["the handler must be a function, not a number"] = function() C:get("x", 5) end,
        ["C:get(\"x\"): options must be a table"] = function() C:get("x", 5, print) end,
        ["has no option 'x'"] = function() C:get("x", { x = 5 }, print) end,
        ["on_event: the type must be"] = function() C:on_event("", print) end,
        ["on_event: the handler must be"] = function() C:on_event("x", 5) end,
        ["on_event: types that begin"] = function() C:on_event("perigee.x", print) end,
        ["on_event: 'known' has a handler"] = function() C:on_event("known", print) end,
        ["use: the middleware must be"] = function() C:use(5) end,
        ["on_error takes a function"] = function() C:on_error(5) end,
        ["extend takes a table of options"] = function() C:extend(5) end,
        ["extend: the new consumer needs a path"] = function() C:extend {} end,
        ["a consumer has no 'rpc_methd'"] = function() return C.rpc_methd end,
        ["there is no method 'knwon'"] = function() C:get_method_info("knwon") end,
        ["perigee.consumer takes a table"] = function() perigee.consumer(5) end,
        ["perigee.consumer has no option 'x'"] = function() perigee.consumer { x = 5 } end,
        ["no limit is called 'x'"] = function() perigee.consumer { limits = { x = 5 } } end,
        ["it is about JSON-RPC"] = function() perigee.http_routes { path = "/x", subprotocols = {} } end,
        ["on_save takes a function"] = function() perigee.on_save(5) end,
      }
    end)
    app:stop()
  end)

  it("for how a handshake is answered", function()
    local app = rig.app(function(C)
      function C:connect()
        blamed {
          ["accept: subprotocol must be a token"] = function() self:accept { subprotocol = "a b" } end,
          ["'a b' is not a header's name"] = function() self:accept { headers = { ["a b"] = 1 } } end,
          ["'c d' is not a header's name"] = function() self:reject(403, "", { ["c d"] = 1 }) end,
        }
      end
    end)
    app:connect("/test")
    rig.no_errors(app)
  end)

  it("for a second function that saves", function()
    rig.app(function(_, perigee)
      perigee.on_save(print)
      blamed { ["was called in this file already"] = function() perigee.on_save(print) end }
    end)
  end)

  it("for a second call of next", function()
    local app = rig.app(function(C)
      C:rpc_method("ping", function() return "pong" end)
      C:use(function(_, go_on)
        go_on()
        blamed { ["next() was called twice"] = function() go_on() end }
      end)
    end)
    assert.is_true((app:connect("/test"):try("ping")))
    rig.no_errors(app)
  end)

  it("for what a spec asks of perigee.testing", function()
    local app = rig.app(function(C, perigee)
      C:rpc_method("never", { timeout = false }, function() perigee.sleep(1e6) end)
      function C:connect() return self.scope.query_string ~= "no" end
    end)
    local client = app:connect("/test")
    blamed {
      ["connecting to /test?no was refused: 403"] = function() app:connect("/test?no") end,
      ["was answered with"] = function() app:post_call("/test", "nothing") end,
      ["no message came"] = function() client:receive() end,
      ["expected the notification 'x'"] = function() client:expect("x") end,
      ["cannot encode"] = function() client:notify("x", print) end,
      ["cannot encode a function at .params[0]"] = function() client:call("x", print) end,
      ["no answer to the call 'never'"] = function() client:call("never") end,
      ["the call 'nothing' was answered with an error"] = function() client:call("nothing") end,
    }
    client:close()
    -- these end the app, so one after the other
    blamed { ["there is no app at"] = function() testing.app("/nowhere.lua") end }
    blamed { ["the app could not be reloaded"] = function() app:reload(function() error("no") end) end }
    blamed { ["the connection is closed"] = function() client:call("x") end }
  end)
end)
