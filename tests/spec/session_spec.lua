--- Sessions: begun lazily, loaded on first touch, saved before the answer, one for HTTP and WebSocket.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")
local visits = require("tests.spec.support.visits")

local has, lacks, raises = rig.has, rig.lacks, rig.raises

--- The store's traffic so far.
local function traffic()
  local m = core.metrics()
  return m.session_loads, m.session_saves
end

--- An app whose methods do to the session what their names say.
local function app(more)
  return rig.app({ http_user = true }, function(C, perigee)
    C:rpc_method("get", function(ctx, key) return ctx.session[key] end)
    C:rpc_method("set", function(ctx, key, value) ctx.session[key] = value end)
    C:rpc_method("unset", function(ctx, key) ctx.session[key] = nil end)
    C:rpc_method("add", function(ctx, key, item)
      local list = ctx.session[key] or {}
      list[#list + 1] = item
      ctx.session[key] = list
    end)
    C:rpc_method("push", function(ctx, key, item) table.insert(ctx.session[key], item) end)
    C:rpc_method("all", function(ctx)
      local all = {}
      for key, value in pairs(ctx.session) do all[key] = value end
      return all
    end)
    C:rpc_method("id", function(ctx) return ctx.session:id() end)
    C:rpc_method("rotate", function(ctx) return ctx.session:rotate() end)
    C:rpc_method("destroy", function(ctx) ctx.session:destroy() end)
    C:rpc_method("nothing", function() return true end)
    C:rpc_method("slowly", function(ctx, key, value)
      ctx.session[key] = value
      perigee.sleep(1)
    end)
    C:rpc_method("fail", function(ctx, key)
      ctx.session[key] = 1
      error("no")
    end)
    C:rpc_method("refuse", function(ctx, key)
      ctx.session[key] = 1
      return nil, "no"
    end)
    if more then more(C, perigee) end
  end)
end

describe("a session", function()
  after_each(rig.clean)

  it("is kept from one request to the next", function()
    local ann = visits.new(app())
    ann:call("set", "name", "Ann")
    assert.equal("Ann", ann:call("get", "name"))
    ann:call("unset", "name")
    assert.is_nil(ann:call("get", "name"))
  end)

  it("belongs to one visitor", function()
    local test = app()
    local ann, bob = visits.new(test), visits.new(test)
    ann:call("set", "name", "Ann")
    bob:call("set", "name", "Bob")
    assert.equal("Ann", ann:call("get", "name"))
    assert.equal("Bob", bob:call("get", "name"))
    assert.are_not.equal(ann.cookie, bob.cookie)
  end)

  it("is one for HTTP and WebSocket", function()
    local ann = visits.new(app())
    ann:call("set", "n", 1)
    local socket = ann:connect()
    assert.equal(1, socket:call("get", "n"))
    socket:call("set", "n", 2)
    assert.equal(2, ann:call("get", "n"))
    ann:call("set", "n", 3)
    assert.equal(3, socket:call("get", "n"))
  end)

  it("is one for plain HTTP as well", function()
    local ann = visits.new(app(function(C)
      C:post("/test/form", function(ctx)
        ctx.session.n = (ctx.session.n or 0) + 1
        ctx.consumer:identify("ann")
        return 303, "", { Location = "/test/page" }
      end)
      C:get("/test/page", function(ctx) return { n = ctx.session.n, user = ctx.user } end)
    end))
    local function ask(verb, path)
      local response = ann.app:request(verb, path, nil, { Cookie = ann.cookie })
      local line = response.headers["set-cookie"]
      ann.cookie = line and line:match("^[^;]+") or ann.cookie
      return response
    end
    assert.equal("{}", ask("GET", "/test/page").body)
    assert.is_nil(ann.cookie)
    assert.equal(303, ask("POST", "/test/form").status)
    local first = ann.cookie
    assert.same({ n = 1, user = "ann" }, core.json_decode(ask("GET", "/test/page").body))
    ask("POST", "/test/form")
    assert.are_not.equal(first, ann.cookie)
    assert.equal(2, ann:call("get", "n"))
    assert.equal(2, ann:connect():call("get", "n"))
  end)

  it("keeps every kind of value that JSON has", function()
    local ann = visits.new(app())
    for i, value in ipairs {
      0, -1, 9007199254740993, 0.1, 1e300, true, false, "", "a\0b", "é😀",
      { a = { b = { c = 1 } } }, setmetatable({ 1, "x", core.null }, core.array_mt), setmetatable({}, core.array_mt),
    } do
      ann:call("set", "v" .. i, value)
      assert.same(value, ann:call("get", "v" .. i), "value " .. i)
    end
    assert.equal("[]", core.json_encode(ann:call("get", "v13")))
  end)

  it("notices changes at any depth", function()
    local ann = visits.new(app(function(C)
      C:rpc_method("deep", function(ctx) ctx.session.tree.a.b.c = 2 end)
    end))
    ann:call("set", "tree", { a = { b = { c = 1, d = 1 } } })
    ann:call("deep")
    assert.same({ a = { b = { c = 2, d = 1 } } }, ann:call("get", "tree"))
    ann:call("set", "list", setmetatable({}, core.array_mt))
    ann:call("push", "list", "x")
    ann:call("push", "list", "y")
    assert.same({ "x", "y" }, ann:call("get", "list"))
  end)

  it("can be walked, and shows nothing of the server's own", function()
    local ann = visits.new(app(function(C)
      C:rpc_method("sign_in", function(ctx) ctx.consumer:identify(7) end)
    end))
    ann:call("set", "a", 1)
    ann:call("set", "b", { 2 })
    ann:call("sign_in")
    assert.same({ a = 1, b = { 2 } }, ann:call("all"))
  end)

  it("is saved by a call that returns an error, not by one that raises one", function()
    local ann = visits.new(app())
    ann:call("set", "x", 0)
    assert.is_nil(ann:call("get", "a"))
    ann:try("refuse", "a")
    assert.equal(1, ann:call("get", "a"))
    ann:try("fail", "b")
    assert.is_nil(ann:call("get", "b"))
  end)

  it("costs the store nothing when it is not touched", function()
    local ann = visits.new(app())
    ann:call("set", "a", 1)
    local socket = ann:connect()
    local loads, saves = traffic()
    for _ = 1, 10 do
      ann:call("nothing")
      socket:call("nothing")
    end
    local loads_after, saves_after = traffic()
    assert.equal(loads, loads_after)
    assert.equal(saves, saves_after)
  end)

  it("is read once a call and written only when it differs", function()
    local ann = visits.new(app(function(C)
      C:rpc_method("look", function(ctx)
        for _ = 1, 5 do assert(ctx.session.list and ctx.session.a and ctx.consumer.session.a) end
        ctx.session.a = ctx.session.a
        ctx.session.list = ctx.session.list
        ctx.session.gone = nil
      end)
    end))
    ann:call("set", "a", 1)
    ann:call("set", "list", { x = 1, y = { 2, 3 }, z = "z", w = 1, v = 2 })
    local loads, saves = traffic()
    ann:call("look")
    local loads_after, saves_after = traffic()
    assert.equal(1, loads_after - loads)
    assert.equal(0, saves_after - saves)
  end)

  it("lets two calls that change different keys both have their way", function()
    local ann = visits.new(app())
    ann:call("set", "x", 0)
    local socket = ann:connect()
    local answers = socket:exchange("[" .. rig.request("slowly", '["a",1]', "1") .. ","
      .. rig.request("slowly", '["b",2]', "2") .. "," .. rig.request("slowly", '["a",3]', "3") .. "]")
    -- an answer takes a second of virtual time, so that all three were under way together
    socket.app:advance(2)
    assert.is_true(answers == nil or #answers == 3)
    local all = ann:call("all")
    assert.equal(2, all.b)
    assert.equal(0, all.x)
    assert.is_true(all.a == 1 or all.a == 3)
  end)

  it("lets the later of two calls win the key that both change", function()
    local ann = visits.new(app(function(C, perigee)
      C:rpc_method("after", function(ctx, seconds, value)
        ctx.session.x = value
        perigee.sleep(seconds)
      end)
    end))
    ann:call("set", "x", "first")
    local socket = ann:connect()
    socket.client:send(rig.request("after", '[0.4,"slow"]', "98"))
    socket.client:send(rig.request("after", '[0.2,"quick"]', "99"))
    socket.app:advance(1)
    assert.equal("slow", ann:call("get", "x"))
  end)

  it("has an id as soon as it is stored", function()
    local ann = visits.new(app())
    assert.is_nil(ann:call("id"))
    ann:call("set", "a", 1)
    assert.equal(ann.cookie:match("=(.*)"), ann:call("id"))
  end)

  it("can be saved in the middle of a call", function()
    local ann = visits.new(app(function(C)
      C:rpc_method("both", function(ctx)
        ctx.session.a = 1
        ctx.session:save()
        ctx.session.b = 2
        error("no")
      end)
    end))
    ann:call("set", "x", 0)
    ann:try("both")
    assert.same({ x = 0, a = 1 }, ann:call("all"))
  end)

  it("is saved by hooks, events and spawned functions", function()
    local ann = visits.new(app(function(C, perigee)
      function C:connect() self.session.connects = (self.session.connects or 0) + 1 end
      function C:disconnect() self.session.disconnects = (self.session.disconnects or 0) + 1 end
      function C:receive(data) self.session.received = data end
      C:on_event("note", function(self, event) self.session.event = event.text end)
      C:rpc_method("channel", function(ctx) return ctx.consumer.channel_name end)
      C:rpc_method("later", function(ctx)
        ctx:spawn(function()
          perigee.sleep(1)
          ctx.session.spawned = true
        end)
      end)
      C:rpc_method("tell", function(_, channel) return C:send(channel, { type = "note", text = "hi" }) end)
    end))
    local socket = ann:connect()
    ann:call("tell", socket:call("channel"))
    socket:call("later")
    socket:send("not JSON")
    socket.app:advance(2)
    socket:close()
    assert.same({ connects = 1, disconnects = 1, received = "not JSON", event = "hi", spawned = true },
      ann:call("all"))
  end)

  it("is shared by the calls of a batch, also when the batch begins it", function()
    local ann = visits.new(app())
    local answer, response = ann:post("[" .. rig.request("set", '["a",1]', "1") .. ","
      .. rig.request("set", '["b",2]', "2") .. "]")
    assert.equal(2, #answer)
    assert.equal(200, response.status)
    assert.same({ a = 1, b = 2 }, ann:call("all"))
  end)

  it("is private to the connection without http_user", function()
    local test = rig.app({}, function(C)
      C:rpc_method("count", function(ctx)
        local session = ctx.session
        session.n = (session.n or 0) + 1
        return session.n
      end)
    end)
    local ann = test:connect("/test")
    assert.equal(1, ann:call("count"))
    assert.equal(2, ann:call("count"))
    assert.is_nil(ann.response.headers["set-cookie"])
    assert.equal(1, test:connect("/test"):call("count"))
  end)
end)

describe("a session's time", function()
  after_each(rig.clean)

  it("is 14 days", function()
    local ann = visits.new(app())
    ann:call("set", "a", 1)
    ann.app:advance(14 * 86400 - 10)
    assert.equal(1, ann:call("get", "a"))
    ann.app:advance(14 * 86400 + 10)
    assert.is_nil(ann:call("get", "a"))
  end)

  it("begins again when it is used, and the cookie's with it", function()
    local ann = visits.new(app())
    ann:call("set", "a", 1)
    for _ = 1, 5 do
      ann.app:advance(10 * 86400)
      local _, response = ann:post(rig.request("get", '["a"]'))
      has("Max-Age=1209600", response.headers["set-cookie"])
    end
    assert.equal(1, ann:call("get", "a"))
  end)

  it("is not written down at each use", function()
    local ann = visits.new(app())
    ann:call("set", "a", 1)
    ann.app:advance(600)
    local _, response = ann:post(rig.request("get", '["a"]'))
    assert.is_nil(response.headers["set-cookie"])
  end)
end)

describe("a session's cookie", function()
  after_each(rig.clean)

  it("is set when there is something to keep, and no sooner", function()
    local ann = visits.new(app())
    local _, response = ann:post(rig.request("get", '["a"]'))
    assert.is_nil(response.headers["set-cookie"])
    _, response = ann:post(rig.request("set", '["a",1]'))
    has("perigee_session=", response.headers["set-cookie"])
    has("; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax", response.headers["set-cookie"])
    lacks("Secure", response.headers["set-cookie"])
    _, response = ann:post(rig.request("set", '["a",2]'))
    assert.is_nil(response.headers["set-cookie"])
  end)

  it("travels with the 101", function()
    local test = app()
    local socket = test:connect("/test")
    has("perigee_session=", socket.response.headers["set-cookie"])
    socket:call("set", "a", 1)
    local again = visits.new(test, socket.response.headers["set-cookie"])
    assert.equal(1, again:call("get", "a"))
    assert.is_nil(again:connect().response.headers["set-cookie"])
  end)

  it("travels with a refusal, too", function()
    local test = app(function(C)
      function C:connect()
        self.session.tries = 1
        return false
      end
    end)
    local _, response = test:try_connect("/test")
    assert.equal(403, response.status)
    assert.equal(1, visits.new(test, response.headers["set-cookie"]):call("get", "tries"))
  end)

  it("is one for all tabs that open before there is anything to keep", function()
    local test = app()
    local first = test:connect("/test")
    local ann = visits.new(test, first.response.headers["set-cookie"])
    local second = ann:connect()
    assert.is_nil(second.response.headers["set-cookie"])
    first:call("set", "a", 1)
    second:call("set", "b", 2)
    assert.same({ a = 1, b = 2 }, second:call("all"))
    assert.same({ a = 1, b = 2 }, ann:call("all"))
  end)

  it("names what cannot be known as nothing", function()
    local test = app()
    local ann = visits.new(test)
    ann:call("set", "a", 1)
    local id = ann.cookie:match("=(.*)")
    local foreign = core.random_id(32)
    for _, cookie in ipairs {
      "", "x", foreign, id .. "x", id:sub(1, -2), id:lower() == id and id:upper() or id:lower(), "%00",
      '"' .. id .. '"', ("x"):rep(15000), id .. "; perigee_session=" .. foreign, id .. "; perigee_session=" .. id,
    } do
      local other = visits.new(test)
      other.cookie = "perigee_session=" .. cookie
      assert.is_nil(other:call("get", "a"), cookie:sub(1, 60))
      other:call("set", "b", 1)
      assert.are_not.equal("perigee_session=" .. cookie, other.cookie)
      assert.is_nil(visits.new(test, "perigee_session=" .. foreign):call("get", "b"), "an id was adopted")
    end
    assert.equal(1, ann:call("get", "a"))
  end)

  it("is found among many", function()
    local ann = visits.new(app())
    ann:call("set", "a", 1)
    local cookie = ann.cookie
    local many = {}
    for i = 1, 1000 do many[i] = "c" .. i .. "=" .. i end
    ann.cookie = table.concat(many, "; ") .. "; " .. cookie
    assert.equal(1, ann:call("get", "a"))
    ann.cookie = "not_" .. cookie .. "; " .. cookie .. "; x" .. cookie
    assert.equal(1, ann:call("get", "a"))
    ann.cookie = "a=%zz;" .. cookie .. ";;; =;b"
    assert.equal(1, ann:call("get", "a"))
  end)

  it("is looked for in time that grows with the text, not faster", function()
    local cookie = require("perigee.cookie")
    local scope = require("perigee.scope")
    local spaces = (" "):rep(16000)
    local started = os.clock()
    for _, text in ipairs {
      spaces, "a=" .. spaces .. "b", ("a;"):rep(8000), ("="):rep(16000), spaces .. "=" .. spaces,
    } do
      cookie.find(text, "perigee_session")
      scope.read("127.0.0.1 1 http test\r\nGET / HTTP/1.1\r\nCookie: " .. text .. "x\r\n\r\n", "/")
    end
    assert.is_true(os.clock() - started < 0.5)
  end)
end)

describe("rotating and ending", function()
  after_each(rig.clean)

  it("gives a new id with everything in it, and makes the old one nobody's", function()
    local test = app()
    local ann = visits.new(test)
    ann:call("set", "a", { 1 })
    local old = ann.cookie
    assert.equal(ann:call("rotate"), ann.cookie:match("=(.*)"))
    assert.are_not.equal(old, ann.cookie)
    assert.same({ 1 }, ann:call("get", "a"))
    assert.is_nil(visits.new(test, old):call("get", "a"))
  end)

  it("keeps what other calls change meanwhile", function()
    local test = app()
    local ann = visits.new(test)
    ann:call("set", "x", 1)
    local socket = ann:connect()
    socket.client:send(rig.request("slowly", '["a",1]', "98"))
    rig.settle()
    local id = socket:call("rotate")
    test:advance(2)
    assert.same({ x = 1, a = 1 }, visits.new(test, "perigee_session=" .. id):call("all"))
  end)

  it("ends for all who share it", function()
    local test = app()
    local ann = visits.new(test)
    ann:call("set", "a", 1)
    local old = ann.cookie
    local socket = ann:connect()
    local _, response = ann:post(rig.request("destroy"))
    has("Max-Age=0", response.headers["set-cookie"])
    assert.is_nil(visits.new(test, old):call("get", "a"))
    assert.equal(core.null, socket:call("get", "a"))
  end)

  it("says what is damaged, without a place in the server's own files", function()
    local ann = visits.new(app(function(C)
      C:rpc_method("text", function(ctx)
        local real = core.json_decode
        core.json_decode = function() return nil, "cut" end
        local _, text = pcall(function() return ctx.session.a end)
        core.json_decode = real
        return text
      end)
    end))
    ann:call("set", "a", 1)
    assert.equal("the session's 'a' is damaged in the store: cut", ann:call("text"))
  end)

  it("can begin anew on a connection that heard of its end", function()
    local ann = visits.new(app())
    ann:call("set", "a", 1)
    local socket = ann:connect()
    assert.equal(1, socket:call("get", "a"))
    ann:call("destroy")
    rig.settle()
    socket:call("set", "b", 2)
    assert.same({ b = 2 }, socket:call("all"))
  end)

  it("is not begun again by a call that was under way", function()
    local test = app()
    local ann = visits.new(test)
    ann:call("set", "a", 1)
    local socket = ann:connect()
    socket.client:send(rig.request("slowly", '["b",1]', "98"))
    rig.settle()
    local old = ann.cookie
    ann:call("destroy")
    test:advance(2)
    assert.same({}, visits.new(test, old):call("all"))
    assert.equal(1, #test:logged("a session ended while a call was changing it"))
  end)

  it("can begin anew in the same call", function()
    local test = app(function(C)
      C:rpc_method("anew", function(ctx)
        ctx.session:destroy()
        ctx.session.b = 2
      end)
    end)
    local ann = visits.new(test)
    ann:call("set", "a", 1)
    local old = ann.cookie
    ann:call("anew")
    assert.are_not.equal(old, ann.cookie)
    assert.same({ b = 2 }, ann:call("all"))
  end)

  it("warns when a new id cannot reach the client", function()
    local test = app()
    local socket = test:connect("/test")
    socket:call("set", "a", 1)
    socket:call("rotate")
    assert.equal(1, #test:logged("a session's new id cannot reach its client: an open WebSocket has no answer for "
      .. "the cookie; sign in over HTTP POST"))
    assert.equal(1, socket:call("get", "a"))
  end)
end)

describe("session.find", function()
  after_each(rig.clean)

  it("finds a session by its id, and nothing by any other", function()
    local test = app(function(C, perigee)
      C:rpc_method("peek", function(_, id)
        local session = perigee.session.find(id)
        return session and session.a
      end)
      C:rpc_method("poke", function(_, id) perigee.session.find(id).a = "poked" end)
      C:rpc_method("drop", function(_, id) perigee.session.find(id):destroy() end)
      C:rpc_method("beside", function(_, id)
        perigee.spawn(function()
          local session = perigee.session.find(id)
          session.beside = 1
          collectgarbage()
          session.more = { 2 }
          session:save()
          session.lost = 1
        end)
      end)
    end)
    local ann, bob = visits.new(test), visits.new(test)
    ann:call("set", "a", "Ann's")
    local id = ann:call("id")
    assert.equal("Ann's", bob:call("peek", id))
    assert.is_nil(bob:call("peek", core.random_id(32)))
    assert.is_nil(bob:call("peek", "x"))
    assert.is_nil(bob:call("peek", 5))
    bob:call("poke", id)
    assert.equal("poked", ann:call("get", "a"))
    bob:call("beside", id)
    test:advance(1)
    assert.same({ a = "poked", beside = 1, more = { 2 } }, ann:call("all"))
    bob:call("drop", id)
    assert.is_nil(ann:call("get", "a"))
  end)
end)

describe("what a session refuses", function()
  after_each(rig.clean)

  it("says so", function()
    local test = app(function(C)
      C:rpc_method("wrong", function(ctx, kind)
        local s = ctx.session
        local ok, err = pcall(function()
          if kind == "number" then s[1] = 1
          elseif kind == "empty" then s[""] = 1
          elseif kind == "long" then s[("x"):rep(201)] = 1
          elseif kind == "method" then s.rotate = 1
          elseif kind == "own" then s["perigee.user"] = 1 end
        end)
        return ok and "taken" or err
      end)
      C:rpc_method("function", function(ctx) ctx.session.f = print end)
      C:rpc_method("large", function(ctx) ctx.session.text = ("x"):rep(300000) end)
    end)
    local ann = visits.new(test)
    has("strings of 1 to 200 bytes, not a number", ann:call("wrong", "number"))
    has("strings of 1 to 200 bytes", ann:call("wrong", "empty"))
    has("201 bytes", ann:call("wrong", "long"))
    has("session.rotate is the server's own", ann:call("wrong", "method"))
    has("session.perigee.user is the server's own", ann:call("wrong", "own"))
    assert.equal(-32603, ann:try("function").code)
    has("the session's 'f' cannot be kept", rig.the_error(test).fields.error or rig.the_error(test).block
      or rig.the_error(test).event)
    assert.equal(-32603, ann:try("large").code)
    assert.is_nil(ann.cookie)
  end)

  it("cannot be used while an app is loaded", function()
    raises(function()
      rig.load [[
        local perigee = require "perigee"
        perigee.session.find(("x"):rep(43))
        return perigee.consumer { http_user = true }
      ]]
    end, "while its app is loaded")
  end)
end)

--- The store does not answer while fn runs.
local function without_store(fn)
  local load, save = core.store_load, core.store_save
  core.store_load, core.store_save = function() end, function() end
  local ok, err = pcall(fn)
  core.store_load, core.store_save = load, save
  if not ok then error(err, 0) end
end

local function with_users(more)
  return app(function(C, perigee)
    C:rpc_method("sign_in", function(ctx, user) ctx.consumer:identify(user) end)
    C:rpc_method("who", function(ctx) return ctx.user end)
    C:rpc_method("tell", function(_, user) C:notify_user(user, "told") end)
    if more then more(C, perigee) end
  end)
end

local NEVER_GIVEN <const> = ("x"):rep(43) -- an id of the right form

describe("a handshake", function()
  after_each(rig.clean)

  it("of a stranger asks no store", function()
    local test = with_users()
    local loads, saves = traffic()
    local name = visits.new(test, test:connect("/test").response.headers["set-cookie"]).cookie:match("^[^=]+")
    for _, cookie in ipairs { name .. "=made-up", name .. "=" .. ("x"):rep(44), name .. "=" .. ("%"):rep(43), "a=b" } do
      local socket = visits.new(test, cookie):connect()
      assert.is_true(socket:call("nothing"))
      assert.equal(core.null, socket:call("who")) -- nobody can be, before there is a session
    end
    assert.same({ loads, saves }, { traffic() })
    local socket = test:connect("/test")
    assert.equal(core.null, socket:call("get", "a"))
    assert.same({ loads + 1, saves }, { traffic() })
  end)

  it("of a visitor who is known asks it, and again once it hears of the session's end", function()
    local ann = visits.new(with_users())
    ann:call("sign_in", "ann")
    local loads, saves = traffic()
    local socket = ann:connect()
    assert.equal("ann", socket:call("who"))
    assert.is_true(socket:call("nothing"))
    assert.same({ loads + 2, saves }, { traffic() })
  end)

  it("succeeds without the store, and who touches the session is told", function()
    local test = with_users()
    local ann = visits.new(test)
    ann:call("sign_in", "ann")
    local known, stranger
    without_store(function()
      known, stranger = ann:connect(), test:connect("/test")
      for _, socket in ipairs { known, stranger } do
        assert.is_true(socket:call("nothing"))
        local _, err = socket:try("get", "a")
        assert.equal(-32006, err.code)
        has("session store", err.message)
      end
      assert.equal(core.null, stranger:call("who"))
      local _, err = known:try("who")
      assert.equal(-32006, err.code)
    end)
    assert.is_nil(known.response.headers["set-cookie"]) -- the one it came with counts
    stranger:call("tell", "ann")
    known:expect_nothing()
    assert.equal("ann", known:call("who"))
    stranger:call("tell", "ann")
    known:expect("told")
    assert.equal(core.null, stranger:call("who"))
  end)

  it("that could not ask is asked for until the store is back, and less and less often", function()
    local test = with_users()
    local ann, bob = visits.new(test), visits.new(test)
    ann:call("sign_in", "ann")
    bob:call("sign_in", "bob")
    local sockets, asked = {}, {}
    local load = core.store_load
    core.store_load = function() asked[#asked + 1] = core.now() end
    for _ = 1, 3 do sockets[#sockets + 1] = ann:connect() end
    sockets[#sockets + 1] = bob:connect()
    local gone = bob:connect()
    asked = {}
    local from = core.now()
    test:advance(100)
    core.store_load = load
    for i, at in ipairs(asked) do asked[i] = math.floor(at - from + 0.5) end
    assert.same({ 1, 3, 7, 15, 31, 61, 91 }, asked) -- for one of them
    gone:close()
    rig.settle()
    local loads = traffic()
    test:advance(20)
    assert.equal(loads, (traffic()))
    test:advance(1)
    assert.equal(loads + 2 * #sockets, (traffic())) -- who is gone is not asked for
    visits.new(test):call("tell", "ann")
    for i = 1, 3 do sockets[i]:expect("told") end
    sockets[4]:expect_nothing()
    test:advance(100)
    assert.equal(loads + 2 * #sockets, (traffic()))
    without_store(function() sockets[1] = ann:connect() end) -- it begins anew
    test:advance(1)
    visits.new(test):call("tell", "ann")
    sockets[1]:expect("told")
  end)

  it("that could not ask, of whom the store holds what cannot be read, is let be", function()
    local test = with_users()
    local ann, bob = visits.new(test), visits.new(test)
    ann:call("sign_in", "ann")
    bob:call("sign_in", "bob")
    local id = ann.cookie:match("=(.*)")
    local load, sockets = core.store_load, {}
    without_store(function() sockets[1], sockets[2] = ann:connect(), bob:connect() end)
    core.store_load = function(task, wait, asked, ...)
      local job = load(task, wait, asked, ...)
      return asked ~= id and job or function() return job(), { ["perigee.user"] = "{broken" }, false end
    end
    test:advance(1)
    has("is damaged in the store", rig.the_error(test).fields.error)
    local loads = traffic()
    test:advance(100)
    core.store_load = load
    assert.equal(loads, (traffic()))
    visits.new(test):call("tell", "bob")
    sockets[2]:expect("told")
  end)

  it("that could not ask is made up for by any touch, and hears of the session's end", function()
    local test = with_users()
    local ann = visits.new(test)
    ann:call("sign_in", "ann")
    local socket
    without_store(function() socket = ann:connect() end)
    assert.equal(core.null, socket:call("get", "a"))
    ann:call("tell", "ann")
    socket:expect("told")
    ann:call("destroy")
    assert.equal(core.null, socket:call("who"))
    visits.new(test):call("tell", "ann")
    socket:expect_nothing()
  end)

  it("that could not ask adopts no id that was never given", function()
    local test = with_users()
    local name = visits.new(test, test:connect("/test").response.headers["set-cookie"]).cookie:match("^[^=]+")
    local socket
    without_store(function() socket = visits.new(test, name .. "=" .. NEVER_GIVEN):connect() end)
    socket:call("set", "a", 1)
    assert.is_nil(visits.new(test, name .. "=" .. NEVER_GIVEN):call("get", "a"))
  end)

  for _, how in ipairs { "destroy", "rotate" } do
    for round, waits in ipairs { 0, 0, 3 } do
      local name = "whose session is over (%s) once it was read, for the %s time, is nobody's%s"
      local hears = waits > 0 and ", though it hears so before it goes on" or ""
      it(name:format(how, round == 1 and "first" or "second", hears), function()
        local api
        local test = with_users(function(_, perigee) api = perigee end)
        local ann = visits.new(test)
        ann:call("sign_in", "ann")
        local load, asked = core.store_load, 0
        core.store_load = function(task, wait, id, ...)
          local job = load(task, wait, id, ...)
          asked = asked + 1
          if asked ~= math.min(round, 2) then return job end
          core.store_load = load
          return function()
            local found = table.pack(job())
            local session = api.session.find(id)
            session[how](session)
            for _ = 1, waits do api.sleep(0) end
            return table.unpack(found, 1, found.n)
          end
        end
        local socket = ann:connect()
        assert.equal(load, core.store_load)
        rig.settle()
        assert.equal(core.null, socket:call("who"))
        visits.new(test):call("tell", "ann")
        socket:expect_nothing()
      end)
    end
  end

  it("that could not ask vouches for no other with the id it brings", function()
    local test = with_users()
    local name = visits.new(test, test:connect("/test").response.headers["set-cookie"]).cookie:match("^[^=]+")
    local forged = visits.new(test, name .. "=" .. NEVER_GIVEN)
    without_store(function() forged:connect() end)
    local given = visits.new(test, name .. "=" .. NEVER_GIVEN):connect().response.headers["set-cookie"]
    assert.is_string(given)
    lacks(NEVER_GIVEN, given)
  end)

  --- A call as text: what is sent does not wait for the answer.
  local function text(method, ...)
    return core.json_encode { jsonrpc = "2.0", method = method, params = { ... }, id = method }
  end

  --- What the store says takes a second, from now on until the function that is returned is called; `answer`
  --- may say something else, by the number of the question.
  local function slow_store(api, answer)
    local load, asked = core.store_load, 0
    core.store_load = function(...)
      local job = load(...)
      asked = asked + 1
      local n = asked
      return function()
        local found = table.pack(job())
        api.sleep(1)
        if answer and answer(n) then return table.unpack(answer(n)) end
        return table.unpack(found, 1, found.n)
      end
    end
    return function() core.store_load = load end
  end

  it("that could not ask vouches for no other that asks at the same time", function()
    local api
    local test = with_users(function(_, perigee) api = perigee end)
    local name = visits.new(test, test:connect("/test").response.headers["set-cookie"]).cookie:match("^[^=]+")
    local forged, sockets = name .. "=" .. NEVER_GIVEN, {}
    without_store(function()
      for i = 1, 2 do sockets[i] = visits.new(test, forged):connect() end
    end)
    local restore = slow_store(api)
    for _, socket in ipairs(sockets) do socket:send(text("set", "a", 1)) end
    test:advance(5)
    restore()
    assert.is_nil(visits.new(test, forged):call("get", "a"))
    local given = visits.new(test, forged):connect().response.headers["set-cookie"]
    assert.is_string(given)
    lacks(NEVER_GIVEN, given)
  end)

  it("that could not ask hears of the session's end though one of two calls finds the store away", function()
    local api
    local test = with_users(function(_, perigee) api = perigee end)
    local ann = visits.new(test)
    ann:call("sign_in", "ann")
    local socket
    without_store(function() socket = ann:connect() end)
    local restore = slow_store(api, function(n) return n == 1 and { false, "failed" } or nil end)
    socket:send(("[%s,%s]"):format(text("get", "a"), text("get", "a")))
    test:advance(5)
    restore()
    assert.equal("ann", socket:call("who"))
    ann:call("destroy")
    assert.equal(core.null, socket:call("who"))
    visits.new(test):call("tell", "ann")
    socket:expect_nothing("told")
  end)

  it("whose hook needs the store is answered 503, which is no fault of the app's", function()
    local seen
    local test = with_users(function(C)
      function C:connect() seen = { self.session.a, self.user } end
    end)
    local ann = visits.new(test)
    ann:call("sign_in", "ann")
    local faults = core.metrics().faults
    without_store(function()
      local _, response = test:try_connect("/test")
      assert.equal(503, response.status)
      assert.equal("5", response.headers["retry-after"])
      has("session store", response.body)
    end)
    assert.equal(faults, core.metrics().faults)
    ann:connect()
    assert.same({ [2] = "ann" }, seen)
  end)

  it("whose hook has changed the session is answered 503 when that cannot be saved", function()
    local is_away = true
    local test = with_users(function(C)
      function C:connect()
        self.session.a = 1
        if is_away then core.store_save = function() return nil end end
      end
    end)
    local save, faults = core.store_save, core.metrics().faults
    local _, response = test:try_connect("/test")
    core.store_save, is_away = save, false
    assert.equal(503, response.status)
    assert.equal("5", response.headers["retry-after"])
    has("session store", response.body)
    assert.equal(faults, core.metrics().faults)
    assert.equal(1, visits.new(test):connect():call("get", "a"))
  end)

  it("that is rejected while accept saves the session stays rejected, and accept is an error", function()
    local save = core.store_save
    local test = with_users(function(C)
      function C:connect()
        self.session.a = 1
        core.store_save = function(...)
          core.store_save = save
          self:reject(403)
          return save(...)
        end
        self:accept()
      end
    end)
    local faults = core.metrics().faults
    local _, response = test:try_connect("/test")
    core.store_save = save
    assert.equal(403, response.status)
    assert.equal(faults + 1, core.metrics().faults)
  end)

  it("whose hook fails for lack of the store after accept has that reported", function()
    local test = with_users(function(C, perigee)
      function C:connect()
        self:accept()
        error(perigee.error { code = -32006 })
      end
    end)
    local faults = core.metrics().faults
    visits.new(test):connect()
    assert.equal(faults + 1, core.metrics().faults)
  end)

  it("whose hook fails for another reason is answered 500, and that is one", function()
    local test = app(function(C)
      function C.connect() error("broken") end
    end)
    local faults = core.metrics().faults
    local _, response = test:try_connect("/test")
    assert.equal(500, response.status)
    assert.equal(faults + 1, core.metrics().faults)
  end)
end)

describe("a session's limits", function()
  after_each(rig.clean)

  it("are ten seconds for the store to answer", function()
    local socket = visits.new(app()):connect()
    local load, began = core.store_load, core.now()
    core.store_load = function() return function() end end -- it takes the job, and never comes back
    local ok, err = socket:try("get", "a")
    core.store_load = load
    assert.same({ false, -32006 }, { ok, err.code })
    has("does not answer", err.message)
    assert.equal(10, core.now() - began)
  end)

  it("are 256 KiB of keys and values as JSON", function()
    local ann = visits.new(app(function(C)
      C:rpc_method("fill", function(ctx, n) ctx.session.a = ("x"):rep(n) end)
      C:rpc_method("size", function(ctx) return #ctx.session.a end)
    end))
    local room = 256 * 1024 - #"a" - #'""'
    ann:call("fill", room - 1)
    ann:call("fill", room)
    assert.equal(-32603, ann:try("fill", room + 1).code)
    assert.equal(room, ann:call("size"))
    assert.equal(-32603, ann:try("set", "b", 1).code) -- what is there already counts
  end)

  it("move with its use, once an hour", function()
    local test = app()
    local ann = visits.new(test)
    ann:call("set", "a", 1)
    local function is_moved()
      local _, response = ann:post(rig.request("get", '["a"]'))
      return response.headers["set-cookie"] ~= nil
    end
    test:advance(3590)
    assert.is_false(is_moved())
    test:advance(20)
    assert.is_true(is_moved())
    assert.is_false(is_moved())
  end)
end)

describe("what a call has read", function()
  after_each(rig.clean)

  it("is let go of when it has ended", function()
    local held = setmetatable({}, { __mode = "v" })
    local ann = visits.new(app(function(C)
      C:rpc_method("hold", function(ctx)
        held[1] = ctx.session.list
        return held[1] ~= nil
      end)
    end))
    ann:call("set", "list", { 1, 2 })
    assert.is_true(ann:call("hold"))
    collectgarbage()
    collectgarbage()
    assert.is_nil(held[1])
  end)

  it("has no id before there is anything to keep", function()
    local socket = app():connect("/test")
    assert.equal(core.null, socket:call("id"))
    socket:call("set", "a", 1)
    assert.equal(43, #socket:call("id"))
  end)
end)
