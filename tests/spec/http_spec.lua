--- Plain HTTP: what handlers get, what becomes of what they return, which of them answers a path.
local core = require("perigee.core")
local perigee = require("perigee")
local rig = require("tests.spec.support.rig")
local testing = require("perigee.testing")

local FORM = { ["Content-Type"] = "application/x-www-form-urlencoded" }

--- What a handler that answers GET /test/x returns, as the client gets it.
local function answer_of(fn, options)
  local app = rig.app(options or {}, function(C) C:get("x", fn) end)
  return app:get("/test/x"), app
end

local function error_of(response)
  return core.json_decode(response.body).error
end

describe("what a handler returns", function()
  it("is a status, a body and headers", function()
    local response = answer_of(function()
      return 201, "made", { ["Content-Type"] = "text/html", ["X-Number"] = 7, ["Set-Cookie"] = { "a=1", "b=2" } }
    end)
    assert.equal(201, response.status)
    assert.equal("made", response.body)
    assert.equal("text/html", response.headers["content-type"])
    assert.equal("7", response.headers["x-number"])
    assert.equal("a=1, b=2", response.headers["set-cookie"])
    assert.equal("nosniff", response.headers["x-content-type-options"])
  end)

  it("may have a header of its own in place of ours, once", function()
    local response = answer_of(function() return 200, "x", { ["x-content-type-OPTIONS"] = "sniff" } end)
    assert.equal("sniff", response.headers["x-content-type-options"])
    response = answer_of(function() return 200, "x", { ["X-Content-Type"] = "y" } end)
    assert.equal("nosniff", response.headers["x-content-type-options"])
  end)

  it("may be a body alone, a text or a table", function()
    local response = answer_of(function() return "text" end)
    assert.same({ 200, "text", "text/plain; charset=utf-8" },
      { response.status, response.body, response.headers["content-type"] })
    response = answer_of(function() return { a = { 1, 2 } }, { ["X-A"] = "b" } end)
    assert.same({ 200, '{"a":[1,2]}', "application/json", "b" },
      { response.status, response.body, response.headers["content-type"], response.headers["x-a"] })
    response = answer_of(function() return perigee.array {} end)
    assert.equal("[]", response.body)
    response = answer_of(function() return "" end)
    assert.same({ 200, "", "0" }, { response.status, response.body, response.headers["content-length"] })
  end)

  it("may be a status alone, or nothing", function()
    local response = answer_of(function() return 418 end)
    assert.same({ 418, "", nil }, { response.status, response.body, response.headers["content-type"] })
    response = answer_of(function() end)
    assert.same({ 204, "", nil }, { response.status, response.body, response.headers["content-length"] })
  end)

  it("is encoded by the consumer's codec", function()
    local response = answer_of(function() return { 1 } end, { codec = { encode = function() return "own" end } })
    assert.equal("own", response.body)
    response = answer_of(function() return { f = print } end, { json_default = tostring })
    rig.has('{"f":"function', response.body)
  end)

  it("is a fault when it is no answer, and the log says which handler's", function()
    for _, case in ipairs {
      { function() return true end, "the body is a boolean" },
      { function() return 200, 7 end, "the body is a number" },
      { function() return 99 end, "99 is no status" },
      { function() return 101 end, "101 is no status" },
      { function() return 600 end, "600 is no status" },
      { function() return 204, "body" end, "status 204 has no body" },
      { function() return 304, {} end, "status 304 has no body" },
      { function() return { print } end, "cannot encode" },
      { function() return 200, "", "Location: /" end, "headers must be a table" },
      { function() return 200, "", { ["X-A"] = "b\r\nSet-Cookie: c=d" } end,
        "header X-A: its value has control characters" },
      { function() return 200, "", { ["X-A"] = "b\0" } end, "header X-A: its value has control characters" },
      { function() return 200, "", { ["X-A"] = { "fine", "b\n" } } end,
        "header X-A: its value has control characters" },
      { function() return 200, "", { ["X A"] = "b" } end, "'X A' is not a header's name" },
      { function() return 200, "", { ["X-A\r\nX-B"] = "b" } end, "is not a header's name" },
      { function() return 200, "", { "b" } end, "'1' is not a header's name" },
      { function() return 200, "", { ["X-A"] = true } end, "header X-A: its value must be a text" },
      { function() return 200, "", { ["X-A"] = {} } end, "header X-A: its value must be a text" },
      { function() return 200, "", { ["content-length"] = "3" } end, "header content-length: it cannot be set" },
      { function() return 200, "", { ["Transfer-Encoding"] = "chunked" } end,
        "header Transfer-Encoding: it cannot be set" },
      { function() return 200, "", { ["Access-Control-Allow-Origin"] = "*" } end,
        "it cannot be set (see the option origins)" },
      { function() return 200, "", { ["X-A"] = ("a"):rep(17000) } end, "headers of more than 16384 bytes" },
    } do
      local response, app = answer_of(case[1])
      assert.equal(500, response.status)
      assert.equal("application/json", response.headers["content-type"])
      local entry = rig.the_error(app)
      rig.has(case[2], entry.fields.error)
      rig.has("GET /test/x (", entry.fields.error)
      assert.equal(entry.fields.error_id, error_of(response).data.error_id)
      rig.lacks(case[2], response.body)
    end
  end)

  it("may be as long as the output queue allows, and no longer", function()
    local size
    local app = rig.app(function(C) C:get("x", function() return ("a"):rep(size) end) end)
    size = 8 * 1024 * 1024 - 64 * 1024
    assert.equal(size, #app:get("/test/x").body)
    size = size + 1
    assert.equal(500, app:get("/test/x").status)
    rig.has("output_hard", rig.the_error(app).fields.error)
  end)
end)

describe("errors", function()
  it("of the app are told", function()
    for _, case in ipairs {
      { function() error("Which one?", 0) end, 400, -32000, "Which one?" },
      { function() string.rep() end, 500 }, -- not the app's own error(): a fault
      { function() return nil, "Which one?" end, 400, -32000, "Which one?" },
      { function() error(perigee.error { code = 7, message = "seven", data = { 1 } }) end, 400, 7, "seven" },
      { function() return nil, perigee.error { code = -32004 } end, 401, -32004, "Unauthenticated" },
      { function() return nil, perigee.error { code = -32003 } end, 403, -32003 },
      { function() return nil, perigee.error { code = -32601 } end, 404, -32601 },
      { function() return nil, perigee.error { code = -32001 } end, 413, -32001 },
      { function() return nil, perigee.error { code = -32005 } end, 429, -32005 },
      { function() return nil, perigee.error { code = -32006 } end, 503, -32006 },
      { function() return nil, perigee.error { code = 1, data = print } end, 400, 1 },
    } do
      local response = answer_of(case[1])
      assert.equal(case[2], response.status)
      assert.equal(case[3] or -32603, error_of(response).code)
      if case[4] then assert.equal(case[4], error_of(response).message) end
      assert.equal("application/json", response.headers["content-type"])
      assert.equal("no-store", response.headers["cache-control"])
      assert.equal(case[2] == 401 and "Bearer" or nil, response.headers["www-authenticate"])
    end
  end)

  it("raised by error() in an app's file are the client's to read", function()
    local app = rig.source([[C:get("x", function() error("Which one?") end)]])
    local response = app:get("/test/x")
    assert.equal(400, response.status)
    assert.equal("Which one?", error_of(response).message)
  end)

  it("that nobody meant are in the log, not in the answer", function()
    local response, app = answer_of(function() return nil + 1 end)
    assert.equal(500, response.status)
    assert.same({ "error_id" }, { next(error_of(response).data) and "error_id" })
    local entry = rig.the_error(app)
    assert.equal("GET /test/x", entry.fields.method)
    assert.equal(error_of(response).data.error_id, entry.fields.error_id)
    rig.has("attempt to perform arithmetic", entry.fields.error)
  end)

  it("are seen by on_error, refusals not", function()
    local seen = {}
    local app = rig.app(function(C)
      C:on_error(function(ctx, err) seen[#seen + 1] = ctx.route .. " " .. err.code end)
      C:get("fault", function() return nil + 1 end)
      C:get("error", function() return nil, perigee.error { code = 7 } end)
      C:post("json", function(ctx) return ctx:json() end)
    end)
    app:get("/test/fault")
    app:get("/test/error")
    app:post("/test/json", "{")
    assert.same({ "/test/fault -32603", "/test/error 7" }, seen)
  end)

  it("come in time: a handler that takes too long is 504", function()
    local cleaned = 0
    local seen = {}
    local app = rig.app({ timeout = 5 }, function(C)
      C:on_error(function(ctx, err) seen[ctx.route] = (seen[ctx.route] or "") .. err.code end)
      C:get("long", function()
        local _ <close> = setmetatable({}, { __close = function() cleaned = cleaned + 1 end })
        perigee.sleep(60)
      end)
      C:get("short", { timeout = 1 }, function() perigee.sleep(60) end)
      C:get("stubborn", { timeout = 1 }, function()
        pcall(perigee.sleep, 60)
        return "late"
      end)
      C:get("endless", { timeout = false }, function()
        perigee.sleep(50)
        return "there"
      end)
      C:get("deadline", function(ctx) return { ctx.deadline - perigee.now() } end)
    end)
    for path, seconds in pairs { long = 5, short = 1, stubborn = 1 } do
      local response
      assert.equal(seconds, rig.duration(function() response = app:get("/test/" .. path) end))
      assert.equal(504, response.status)
      assert.same({ timeout = seconds }, error_of(response).data)
    end
    assert.equal(1, cleaned)
    -- also of one that caught it and returned all the same
    assert.same({ ["/test/long"] = "-32002", ["/test/short"] = "-32002", ["/test/stubborn"] = "-32002" }, seen)
    assert.equal("there", app:get("/test/endless").body)
    assert.equal("[5.0]", app:get("/test/deadline").body)
  end)
end)

describe("ctx", function()
  it("has the facts of the request", function()
    local seen
    local app = rig.app(function(C)
      C:post("item/:id/*rest", function(ctx)
        seen = {
          method = ctx.method, path = ctx.path, route = ctx.route, id = ctx.params.id, rest = ctx.params.rest,
          q = ctx.query.q, agent = ctx.headers["user-agent"], cookie = ctx.cookies.c, body = ctx.body,
          transport = ctx.transport, type = ctx.scope.type, same = ctx.scope.path_params == ctx.params,
          consumer = ctx.consumer.transport, channel = ctx.consumer.channel_name, version = ctx.version,
          notified = ctx:notify("hello"), notification = ctx.is_notification, nothing = ctx.nothing,
        }
      end)
    end)
    local response = app:request("POST", "/test/item/4%202/a/b%2Fc?q=x+y", "text\0\255", {
      ["User-Agent"] = "spec", Cookie = "c=1", ["Content-Type"] = "application/octet-stream",
    })
    assert.equal(204, response.status)
    assert.same({
      method = "POST", path = "/test/item/4 2/a/b/c", route = "/test/item/:id/*rest", id = "4 2", rest = "a/b/c",
      q = "x y", agent = "spec", cookie = "1", body = "text\0\255", transport = "http", type = "http", same = true,
      consumer = "http", notified = false,
    }, seen)
  end)

  it("may wait, spawn and log", function()
    local later
    local app = rig.app(function(C)
      C:get("wait", function(ctx)
        ctx:spawn(function() later = true end)
        perigee.sleep(3)
        ctx.log:info("waited")
        return ctx.body .. "waited"
      end)
    end)
    assert.equal(3, rig.duration(function() assert.equal("waited", app:get("/test/wait").body) end))
    assert.is_true(later)
    local fields = app:logged("waited")[1].fields
    assert.same({ "test", "/test/wait", "GET" }, { fields.app, fields.path, fields.method })
  end)

  it("is one of its own for each request on a connection", function()
    local first
    local app = rig.app(function(C)
      C:get("x", function(ctx)
        local is_new = ctx ~= first and ctx.consumer ~= (first and first.consumer)
        first = first or ctx
        return tostring(is_new)
      end)
    end)
    assert.equal("true", app:get("/test/x").body)
    assert.equal("true", app:get("/test/x").body)
  end)

  it("takes a form apart", function()
    local app = rig.app(function(C)
      C:post("form", function(ctx)
        local fields, lists = ctx:form()
        return { fields = fields, lists = lists }
      end)
    end)
    local function form(body, headers)
      local response = app:request("POST", "/test/form", body, headers or FORM)
      return core.json_decode(response.body), response
    end
    assert.same({ name = "Ann Öz", ["a b"] = "1+1=2", empty = "", odd = "%zz%4" },
      form("name=Ann+%C3%96z&a%20b=1%2B1%3D2&empty=&&odd=%zz%4").fields)
    assert.same({ fields = { x = "3", y = "4" }, lists = { x = { "1", "2", "3" }, y = { "4" } } },
      form("x=1&x=2&y=4&x=3"))
    assert.same({ x = "1" }, form("x=1",
      { ["Content-Type"] = "Application/X-WWW-Form-Urlencoded; charset=utf-8" }).fields)
    assert.same({}, form("").fields)
    for _, kind in ipairs { "text/plain", "multipart/form-data; boundary=x", "application/json" } do
      local answer, response = form("x=1", { ["Content-Type"] = kind })
      assert.equal(415, response.status)
      assert.equal(-32600, answer.error.code)
    end
    assert.equal(415, app:request("POST", "/test/form", "x=1").status)
    assert.equal(200, app:request("POST", "/test/form", ("x&"):rep(1000), FORM).status)
    assert.equal(413, app:request("POST", "/test/form", ("x&"):rep(1001), FORM).status)
    rig.no_errors(app)
  end)

  it("reads JSON", function()
    local app = rig.app(function(C)
      C:post("json", function(ctx) return { ctx:json() } end)
    end)
    assert.equal('[{"a":[]}]', app:request("POST", "/test/json", '{"a":[]}').body)
    assert.equal("[null]", app:request("POST", "/test/json", "null").body)
    for _, text in ipairs { "", "{", "[1,]", '"\255"', "1 2", "1e999" } do
      assert.equal(400, app:request("POST", "/test/json", text).status)
    end
    rig.no_errors(app)
  end)
end)

describe("paths", function()
  --- An app that says which pattern answered.
  local function which(...)
    local patterns = { ... }
    return rig.app(function(C)
      for _, pattern in ipairs(patterns) do
        C:get(pattern, function(ctx) return ctx.route end)
      end
    end)
  end

  it("lie below the consumer's, or anywhere", function()
    local app = which("", "a", "a/b", "/elsewhere", "/", "a/", "/test2/:x")
    for path, route in pairs {
      ["/test"] = "/test", ["/test/a"] = "/test/a", ["/test/a/b"] = "/test/a/b", ["/elsewhere"] = "/elsewhere",
        ["/"] = "/",
      ["/test/a/"] = "/test/a/", ["/test2/x"] = "/test2/:x", ["/test/%61"] = "/test/a", ["/test/a?b"] = "/test/a",
    } do
      assert.equal(route, app:get(path).body)
    end
    for _, path in ipairs { "/test/", "/test/c", "/a", "/elsewhere/", "/test2/", "/test2/x/y", "/TEST/a" } do
      assert.equal(404, app:get(path).status, path)
    end
  end)

  it("that say more win, in whatever order they were declared", function()
    for _, patterns in ipairs {
      { "a/b", "a/:x", ":x/b", ":x/:y", "a/*rest", "*rest" }, { "*rest", "a/*rest", ":x/:y", ":x/b", "a/:x", "a/b" },
    } do
      local app = which(table.unpack(patterns))
      for path, route in pairs {
        ["a/b"] = "a/b", ["a/c"] = "a/:x", ["c/b"] = ":x/b", ["c/d"] = ":x/:y", ["a/b/c"] = "a/*rest",
          ["c/d/e"] = "*rest",
        ["a/"] = "a/*rest", [""] = "*rest", ["c"] = "*rest",
      } do
        assert.equal("/test/" .. route, app:get("/test/" .. path).body, path)
      end
    end
  end)

  it("give no dot segments to captures", function()
    local app = rig.app(function(C)
      C:get("one/:name", function(ctx) return ctx.params.name end)
      C:get("all/*", function(ctx) return ctx.params["*"] end)
    end)
    for path, body in pairs {
      ["one/a"] = "a", ["one/..."] = "...", ["one/.a"] = ".a", ["one/a%20b"] = "a b", ["all/"] = "",
        ["all/a/b"] = "a/b",
      ["all/a//b"] = "a//b", ["all/.../x"] = ".../x", ["one/%C3%A9"] = "é",
    } do
      assert.equal(body, app:get("/test/" .. path).body, path)
    end
    for _, path in ipairs {
      "one/.", "one/..", "one/%2e%2E", "one/.%2e", "all/..", "all/a/..", "all/a/../b", "all/a/%2e%2e/b",
        "all/a%2F..%2Fb",
      "all/a%5c..%5Cb", "all/./a", "one/%FF", "all/%C0%AE%C0%AE", "one/",
    } do
      assert.equal(404, app:get("/test/" .. path).status, path)
    end
  end)

  it("answer the methods that have a handler, and HEAD, and OPTIONS", function()
    local app = rig.app(function(C)
      for _, verb in ipairs { "get", "post", "put", "patch", "delete" } do
        C[verb](C, "all", function(ctx) return ctx.method end)
      end
      C:post("post", function() return "posted" end)
      C:get(":any", function() return "got" end)
    end)
    for _, verb in ipairs { "GET", "POST", "PUT", "PATCH", "DELETE" } do
      assert.equal(verb, app:request(verb, "/test/all").body)
    end
    assert.equal("4", app:request("HEAD", "/test/all").headers["content-length"]) -- the handler sees HEAD
    local response = app:request("OPTIONS", "/test/all")
    assert.same({ 204, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" }, { response.status, response.headers.allow })
    -- what several patterns offer is put together
    assert.equal("posted", app:request("POST", "/test/post").body)
    assert.equal("got", app:get("/test/post").body)
    response = app:request("DELETE", "/test/post")
    assert.same({ 405, "GET, HEAD, POST, OPTIONS" }, { response.status, response.headers.allow })
    response = app:request("POST", "/test/other")
    assert.same({ 405, "GET, HEAD, OPTIONS" }, { response.status, response.headers.allow })
  end)

  it("leave JSON-RPC and WebSockets on the consumer's own alone", function()
    local app = rig.app(function(C)
      C:get("", function() return "page" end)
      C:put("", function() return "put" end)
      C:rpc_method("ping", function() return "pong" end)
    end)
    assert.equal("page", app:get("/test").body)
    assert.equal("put", app:request("PUT", "/test", "x").body)
    assert.equal("pong", app:post_call("/test", "ping"))
    assert.equal("pong", app:connect("/test"):call("ping"))
    local response = app:request("POST", "/test", "a=b", FORM)
    assert.equal(415, response.status)
    assert.equal("GET, HEAD, POST, PUT, OPTIONS", app:request("OPTIONS", "/test").headers.allow)
    assert.equal(405, app:request("DELETE", "/test").status)
  end)

  it("are looked at when they are declared", function()
    for path, part in pairs {
      ["a?b"] = "'a?b' cannot stand in a path", ["a b"] = "cannot stand in a path", ["é"] = "cannot stand in a path",
      ["a%20"] = "cannot stand in a path", ["a/../b"] = "'..' cannot stand in a path",
        ["a:b"] = "cannot stand in a path",
      [":"] = "':' is no name to capture as", [":a-b"] = "is no name to capture as",
        [":a/:a"] = "'a' is captured twice",
      ["*x/y"] = "a wildcard stands at the end", ["/-/mine"] = "paths below /-/ are the server's own",
    } do
      rig.raises(function() rig.app(function(C) C:get(path, print) end) end, ("C:get(%q): "):format(path), part)
    end
    rig.raises(function() rig.app(function(C) C:post("", print) end) end,
      "a POST to the consumer's own path is JSON-RPC")
    rig.raises(function() rig.app(function(C) C:post("/test", print) end) end, "is JSON-RPC")
    rig.raises(function() rig.app(function(C) C:get("a") end) end, "the handler must be a function")
    rig.raises(function() rig.app(function(C) C:get(7, print) end) end, "the path must be a text")
    rig.raises(function() rig.app(function(C) C:get("a", { tiemout = 1 }, print) end) end, "did you mean 'timeout'?")
    rig.raises(function() rig.app(function(C) C:get("a", 1, print) end) end, "options must be a table")
    rig.raises(function()
      rig.app(function(C)
        C:get("a", print)
        C:get("/test/a", print)
      end)
    end, "GET /test/a has a handler already, at tests/spec/http_spec.lua:")
  end)

  it("are taken once", function()
    local function two(first, second)
      return function()
        testing.app(function(face)
          local A, B = face.consumer {}, face.consumer { path = "/other" }
          A:get(first, print)
          B:get(second, print)
          return { A, B }
        end)
      end
    end
    rig.raises(two("/x", "/x"), "two handlers for GET /x: tests/spec/http_spec.lua:")
    rig.raises(two("/x/:a", "/x/:b"), "two handlers for GET /x/:")
    rig.raises(two("/x/*a", "/x/*"), "two handlers for GET /x/*")
    rig.raises(two("/x", "/test"), "/test is the path of another consumer, at tests/spec/http_spec.lua:")
    assert.has_no_error(two("/x/:a", "/x/*"))
  end)
end)

describe("http_routes", function()
  it("answer without JSON-RPC", function()
    local app = testing.app(function(face)
      local Routes = face.http_routes { middleware = { function(ctx, go)
        if ctx.query.stop then return nil, perigee.error { code = perigee.errors.rate_limited } end
        return go()
      end } }
      Routes:post("", function(ctx) return ctx.body end)
      local Other = face.consumer {}
      Other:rpc_method("ping", function() return "pong" end)
      local More = face.http_routes { path = "/more" }
      More:get("", function() return "more" end)
      return { Routes, More, Other:extend { path = "/rpc" } }
    end)
    assert.equal("x", app:request("POST", "/test", "x").body)
    assert.equal(429, app:request("POST", "/test?stop=1", "x").status)
    assert.equal(405, app:get("/test").status)
    assert.equal("more", app:get("/more").body)
    assert.equal("pong", app:post_call("/rpc", "ping"))
    local client, refusal = app:try_connect("/test")
    assert.is_nil(client)
    assert.equal(405, refusal.status)
    client, refusal = app:try_connect("/more") -- a request like others
    assert.is_nil(client)
    assert.equal(200, refusal.status)
  end)

  it("have no methods and no options about them", function()
    local function declare(fn)
      return function() testing.app(function(face) return fn(face) end) end
    end
    rig.raises(declare(function(face) face.http_routes {}:rpc_method("x", print) end),
      "perigee.http_routes answers plain HTTP only")
    rig.raises(declare(function(face) face.http_routes { groups = {} } end),
      "perigee.http_routes has no option 'groups'")
    rig.raises(declare(function(face) face.http_routes { pth = "/" } end), "perigee.http_routes has no option 'pth'",
      "did you mean 'path'?")
    rig.raises(declare(function(face) return { face.http_routes {}, face.http_routes {} } end),
      "two perigee.http_routes on the path /test")
  end)
end)

describe("around handlers", function()
  it("there is the consumer's middleware, which sees the response", function()
    local seen = {}
    local app = rig.app(function(C)
      C:use(function(ctx, go)
        seen[#seen + 1] = ctx.method
        local response, err = go()
        if not response then return nil, err end
        seen[#seen + 1] = response.status
        response.headers = { ["X-Seen"] = "yes" }
        if response.body == "secret" then response.body = { hidden = true } end
        return response
      end)
      C:get("x", function() return "secret" end)
      C:get("error", function() return nil, "no" end)
    end)
    local response = app:get("/test/x")
    assert.same({ 200, '{"hidden":true}', "yes" }, { response.status, response.body, response.headers["x-seen"] })
    assert.equal(400, app:get("/test/error").status)
    assert.same({ "GET", 200, "GET" }, seen)
  end)

  it("middleware may answer in its own words", function()
    local app = rig.app(function(C)
      C:use(function(ctx, go)
        if ctx.query.own then return { own = true } end
        return go()
      end)
      C:get("x", function() return "x" end)
    end)
    assert.equal('{"own":true}', app:get("/test/x?own=1").body)
    assert.equal("x", app:get("/test/x").body)
  end)

  it("there are permissions", function()
    local app = rig.app(function(C)
      function C.has_permission(ctx, name) return ctx.query.may == name end
      C:get("named", { permission = "read" }, function() return "read" end)
      C:get("judged", { permission = function(ctx) return ctx.query.may == "yes" end }, function() return "judged" end)
    end)
    assert.equal("read", app:get("/test/named?may=read").body)
    assert.equal(403, app:get("/test/named").status)
    assert.equal("judged", app:get("/test/judged?may=yes").body)
    assert.equal(403, app:get("/test/judged?may=no").status)
    rig.raises(function()
      rig.app(function(C) C:get("x", { permission = "read" }, print) end)
    end, "'GET /test/x' asks for the permission 'read'")
  end)

  it("there are no signals of calls", function()
    local n = 0
    local app = testing.app(function(face)
      for _, name in ipairs { "rpc_method_started", "rpc_method_completed", "rpc_method_failed" } do
        face.on(name, function() n = n + 1 end)
      end
      local C = face.consumer {}
      C:get("x", function() return "x" end)
      C:get("fault", function() return nil + 1 end)
      return C
    end)
    assert.equal(200, app:get("/test/x").status)
    assert.equal(500, app:get("/test/fault").status)
    assert.equal(0, n)
  end)

  it("there is the check of origins", function()
    local calls = 0
    local app = rig.app({ origins = { "https://good.example", "*" } }, function(C)
      C:put("x", function() calls = calls + 1 end)
      C:get("x", function() return nil + 1 end)
    end)
    local named = app:request("PUT", "/test/x", "", { Origin = "https://good.example" })
    assert.same({ 204, "https://good.example", "true", "Origin" }, { named.status,
      named.headers["access-control-allow-origin"], named.headers["access-control-allow-credentials"],
        named.headers.vary })
    local other = app:request("PUT", "/test/x", "", { Origin = "https://other.example" })
    assert.same({ 204, "*" }, { other.status, other.headers["access-control-allow-origin"] })
    assert.equal("Origin", app:request("PUT", "/test/x", "").headers.vary)
    local fault = app:get("/test/x", { Origin = "https://good.example" })
    assert.same({ 500, "https://good.example" }, { fault.status, fault.headers["access-control-allow-origin"] })
    local preflight = app:request("OPTIONS", "/test/x", nil, {
      Origin = "https://good.example", ["Access-Control-Request-Method"] = "PUT",
        ["Access-Control-Request-Headers"] = "x-a",
    })
    assert.same({ 204, "GET, HEAD, PUT", "x-a" }, { preflight.status, preflight.headers["access-control-allow-methods"],
      preflight.headers["access-control-allow-headers"] })
    assert.equal(3, calls)
    app = rig.app(function(C) C:post("x", function() calls = calls + 1 end) end)
    assert.equal(403, app:request("POST", "/test/x", "a=b", { Origin = "https://evil.example" }).status)
    assert.equal(204, app:request("POST", "/test/x", "a=b", { Origin = "http://test" }).status)
    assert.is_nil(app:request("POST", "/test/x", "a=b").headers.vary)
    assert.equal(5, calls)
  end)

  it("extend takes those below the path along", function()
    local app = testing.app(function(face)
      local A = face.consumer { timeout = 1 }
      A:get("x", function(ctx) return ctx.route end)
      A:get("slow", function() perigee.sleep(60) end)
      A:get("/only/here", function(ctx) return ctx.route end)
      return { A, A:extend { path = "/b", timeout = 2 } }
    end)
    assert.equal("/test/x", app:get("/test/x").body)
    assert.equal("/b/x", app:get("/b/x").body)
    assert.equal("/only/here", app:get("/only/here").body)
    assert.equal(2, rig.duration(function() assert.equal(504, app:get("/b/slow").status) end))
  end)
end)
