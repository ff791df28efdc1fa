--- perigee.shared and the members of groups, in one worker: what they say and refuse. What crosses
--- workers and machines is in tests/e2e/test_cluster.py.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("perigee.shared", function()
  local app, store, perigee

  before_each(function()
    app = rig.app(function(_, module)
      perigee = module
      store = module.shared "spec"
    end)
  end)

  it("keeps what JSON keeps, as copies", function()
    local list = perigee.array { 1, { a = "é\0" } }
    store:set("list", list)
    list[1] = "changed"
    local got = store:get("list")
    assert.same({ 1, { a = "é\0" } }, got)
    assert.equal(core.array_mt, getmetatable(got))
    got[1] = "changed"
    assert.equal(1, store:get("list")[1])
    store:set("null", perigee.null)
    assert.equal(perigee.null, store:get("null"))
    store:set("int", math.mininteger)
    assert.equal(math.mininteger, store:get("int"))
    assert.equal("integer", math.type(store:get("int")))
    store:set("float", 2.0)
    assert.equal("float", math.type(store:get("float")))
    assert.is_nil(store:get("nothing"))
  end)

  it("is not there while an app is loaded, as it would not be with Redis", function()
    for _, code in ipairs {
      "get 'k'", "set('k', 1)", "add('k', 1)", "incr 'k'", "expire('k', 1)", "delete 'k'",
    } do
      local ok, err = pcall(rig.source, "perigee.shared 's':" .. code)
      assert.is_false(ok, code)
      rig.has("test.lua:1: " .. code:match("^%a+") .. ": values of perigee.shared cannot be used while", err)
    end
    rig.clean()
    local client = rig.source([[
      local s = perigee.shared "s"
      perigee.spawn(function() s:set("k", 1) end)
      C:rpc_method("m", function() return s:get "k" end)]]):connect("/test")
    assert.equal(1, client:call("m"))
    rig.clean()
  end)

  it("is the same for all who name it, and others are others", function()
    store:set("k", 1)
    assert.equal(1, perigee.shared("spec"):get("k"))
    assert.is_nil(perigee.shared("spec2"):get("k"))
    assert.is_nil(perigee.shared("spe"):get("c:k"))
  end)

  it("forgets when it is time", function()
    store:set("k", "v", 10)
    assert.is_false(store:add("k", "w"))
    app:advance(9.9)
    assert.equal("v", store:get("k"))
    assert.is_true(store:expire("k", 10))
    app:advance(9.9)
    assert.equal("v", store:get("k"))
    app:advance(0.2)
    assert.is_nil(store:get("k"))
    assert.is_false(store:expire("k", 10))
    assert.is_true(store:add("k", "w"))
    assert.equal(5, store:incr("n", 5, 1))
    app:advance(0.5)
    assert.equal(6, store:incr("n", 1, 1))
    app:advance(0.6)
    assert.equal(1, store:incr("n"))
  end)

  it("starts empty in each test", function()
    assert.is_nil(store:get("k"))
    assert.is_nil(store:get("n"))
  end)

  it("adds without losing what was written as text", function()
    assert.equal(3, store:incr("n", 3))
    assert.equal("integer", math.type(store:incr("n", -1)))
    assert.equal(2.5, store:incr("n", 0.5))
    assert.equal(2.5, store:get("n"))
    store:set("n", "3")
    rig.raises(function() store:incr("n") end, "incr: 'n' does not hold a number")
    assert.equal("3", store:get("n"))
  end)

  it("refuses what it cannot keep, and says so", function()
    rig.raises(function() store:set("k", print) end, "shared_spec.lua:", "set: cannot keep a function")
    rig.raises(function() store:set("k") end, "set: the value is nil; delete(key) takes a key out")
    rig.raises(function() store:get(5) end, "get: a key is a string of 1 to 512 bytes")
    rig.raises(function() store:set("", 1) end, "set: a key is a string")
    rig.raises(function() store:add(("k"):rep(513), 1) end, "add: a key is a string")
    for _, ttl in ipairs { 0, -1, "1", 0 / 0, math.huge } do
      rig.raises(function() store:set("k", 1, ttl) end, "set: ttl is a number of seconds above 0")
      rig.raises(function() store:expire("k", ttl) end, "expire: ttl is a number of seconds above 0")
    end
    for _, by in ipairs { "1", 0 / 0, math.huge } do
      rig.raises(function() store:incr("k", by) end, "incr: what is added is a number")
    end
    for _, name in ipairs { "", "a b", "a:b", ("n"):rep(101), 5, {} } do
      rig.raises(function() perigee.shared(name) end, "perigee.shared: a name has")
    end
    assert.is_nil(store:get("k"))
  end)
end)

describe("perigee.shared to the byte", function()
  it("has keys of 512 bytes, names of 100 and times of 1e9 seconds at the most", function()
    local store, perigee
    rig.app(function(_, module)
      perigee = module
      store = module.shared(("n"):rep(100))
    end)
    for _, n in ipairs { 1, 511, 512 } do
      store:set(("k"):rep(n), n)
      assert.equal(n, store:get(("k"):rep(n)))
      assert.is_true(store:delete(("k"):rep(n)))
      assert.is_false(store:delete(("k"):rep(n)))
    end
    rig.raises(function() store:get(("k"):rep(513)) end, "a key is a string of 1 to 512 bytes")
    rig.raises(function() perigee.shared(("n"):rep(101)) end, "a name has 1 to 100 letters")
    store:set("k", 1, 1e9)
    assert.is_true(store:expire("k", 1e9))
    rig.raises(function() store:set("k", 1, 1e9 + 1) end, "ttl is a number of seconds above 0")
    assert.equal(1, store:get("k"))
  end)

  it("is unavailable when its memory is full, and says which setting that is", function()
    local put, sum = core.shared_set, core.shared_incr
    finally(function() core.shared_set, core.shared_incr = put, sum end)
    core.shared_set, core.shared_incr = function() end, function() end
    local app = rig.app(function(C, perigee)
      local store = perigee.shared "full"
      C:rpc_method("set", function() store:set("k", 1) end)
      C:rpc_method("add", function() return store:add("k", 1) end)
      C:rpc_method("incr", function() return store:incr("k") end)
    end)
    local client = app:connect("/test")
    for _, method in ipairs { "set", "add", "incr" } do
      local err = rig.refused(-32006, client, method)
      assert.equal("Shared values are unavailable", err.message)
      assert.equal("the memory for them is full (setting shared_memory)", err.data)
    end
  end)
end)

describe("perigee.shared in Redis", function()
  local layer = require("perigee.layer")
  local redis, has_redis = layer.redis, core.has_redis
  local store, asked, reply, client

  before_each(function()
    core.has_redis, asked = true, {}
    layer.redis = function(...)
      asked[#asked + 1] = { ... }
      return table.unpack(reply)
    end
    local perigee
    local app = rig.app(function(C, module)
      perigee = module
      C:rpc_method("get", function() return store:get("k") end)
    end)
    store = perigee.shared "s"
    client = app:connect("/test")
  end)

  after_each(function()
    layer.redis, core.has_redis = redis, has_redis
    rig.clean()
  end)

  --- What Redis was asked when it gives that reply; without the script of EVAL.
  local function words(fn, ...)
    reply, asked = { ... }, {}
    local result = fn()
    local list = {}
    for i, word in ipairs(asked[#asked]) do
      list[i] = i == 2 and asked[#asked][1] == "EVAL" and "SCRIPT" or tostring(word)
    end
    return table.concat(list, " "):gsub(core.layer_prefix .. "s:s:", "@"), result
  end

  local function asks(expected, result, fn, ...)
    local told, got = words(fn, ...)
    assert.equal(expected, told)
    assert.equal(result, got)
  end

  it("is asked with the words of its commands", function()
    asks("SET @k 1", nil, function() return store:set("k", 1) end, true, "OK")
    asks('SET @k {"a":1} PX 1500', nil, function() return store:set("k", { a = 1 }, 1.5) end, true, "OK")
    asks("SET @k 1 PX 1", nil, function() return store:set("k", 1, 0.0001) end, true, "OK")
    asks("SET @k 1 NX", true, function() return store:add("k", 1) end, true, "OK")
    asks("SET @k 1 NX PX 2000", false, function() return store:add("k", 1, 2) end, true, nil)
    asks("GET @k", 5, function() return store:get("k") end, true, "5")
    asks("GET @k", nil, function() return store:get("k") end, true, nil)
    asks("PEXPIRE @k 3000", true, function() return store:expire("k", 3) end, true, 1)
    asks("PEXPIRE @k 3000", false, function() return store:expire("k", 3) end, true, 0)
    asks("DEL @k", true, function() return store:delete("k") end, true, 1)
    asks("DEL @k", false, function() return store:delete("k") end, true, 0)
    asks("EVAL SCRIPT 1 @k INCRBY 1 0", 8, function() return store:incr("k") end, true, 8)
    asks("EVAL SCRIPT 1 @k INCRBY -2 7000", 6, function() return store:incr("k", -2, 7) end, true, "6")
    asks("EVAL SCRIPT 1 @k INCRBYFLOAT 0.5 0", 6.5, function() return store:incr("k", 0.5) end, true, "6.5")
  end)

  it("adds a whole number to one that is none", function()
    reply, asked = { false, "ERR value is not an integer or out of range" }, {}
    rig.raises(function() store:incr("k", 2) end, "incr: 'k' does not hold a number, or the sum is none")
    assert.same({ "INCRBY", "INCRBYFLOAT" }, { asked[1][5], asked[2][5] })
    reply, asked = { false, "ERR increment or decrement would overflow" }, {}
    rig.raises(function() store:incr("k", 2) end, "does not hold a number")
    assert.equal(1, #asked)
    reply, asked = { false, "ERR value is not a valid float" }, {}
    rig.raises(function() store:incr("k", 0.5) end, "does not hold a number")
    assert.equal(1, #asked)
  end)

  it("that cannot be asked is unavailable; what is no JSON is told", function()
    reply = { false, "Redis cannot be reached" }
    for _, fn in ipairs {
      function() store:get("k") end, function() store:set("k", 1) end, function() store:add("k", 1) end,
      function() store:incr("k") end, function() store:expire("k", 1) end, function() store:delete("k") end,
    } do
      local ok, err = pcall(fn)
      assert.is_false(ok)
      assert.same({ -32006, "Redis cannot be reached" }, { err.code, err.data })
    end
    assert.equal("Redis cannot be reached", rig.refused(-32006, client, "get").data)
    reply = { true, "{" }
    rig.raises(function() store:get("k") end, "shared_spec.lua", "get: 'k' holds something that is not JSON")
  end)
end)

describe("the members of a group", function()
  local app, perigee

  before_each(function()
    app = rig.app(function(C, module)
      perigee = module
      C:rpc_method("join", function(ctx, meta) return ctx:group_add("g", meta) end)
      C:rpc_method("where", function(ctx) return ctx.consumer.channel_name end)
    end)
  end)

  it("come page by page, with what was said of them", function()
    local expected, group = {}, perigee.group("g")
    local function by_channel(a, b) return a.channel < b.channel end
    for i = 1, 25 do
      local client = app:connect("/test")
      client:call("join", { number = i })
      expected[i] = { channel = client:call("where"), meta = { number = i } }
    end
    table.sort(expected, by_channel)
    for _, limit in ipairs { 1, 7, 24, 25, 26 } do
      local found, cursor = {}, nil
      repeat
        local page
        page, cursor = group:members { limit = limit, cursor = cursor }
        assert.is_true(#page <= limit)
        table.move(page, 1, #page, #found + 1, found)
      until not cursor
      table.sort(found, by_channel)
      assert.same(expected, found)
    end
  end)

  it("may leave between two pages: nobody else is missed or told twice", function()
    local group, clients = perigee.group("g"), {}
    for _ = 1, 9 do
      local client = app:connect("/test")
      client:call("join")
      clients[client:call("where")] = client
    end
    local all = group:members()
    local page, cursor = group:members { limit = 3 }
    assert.is_nil(page[1].meta)
    clients[all[3].channel]:close() -- the one the cursor stands on
    clients[all[4].channel]:close()
    assert.same(table.move(all, 5, 9, 1, {}), (group:members { cursor = cursor }))
  end)

  it("have a meta that JSON can hold, and that is small", function()
    local ann = app:connect("/test")
    assert.is_true(ann:call("join", "first"))
    assert.is_false(ann:call("join", "second"))
    assert.equal("second", perigee.group("g"):members()[1].meta)
    local ok, err = ann:try("join", ("x"):rep(5000))
    assert.is_false(ok)
    assert.equal(-32603, err.code)
    rig.has("the meta has 5002 bytes as JSON, at most 4096 are kept", rig.the_error(app).fields.error)
  end)

  it("are asked for with options that there are", function()
    local group = perigee.group("g")
    rig.raises(function() group:members { limt = 1 } end, "members has no option 'limt' (did you mean 'limit'?)")
    for _, limit in ipairs { 0, 1001, 1.5, "x" } do
      rig.raises(function() group:members { limit = limit } end, "members: limit is a number from 1 to 1000")
    end
    for _, cursor in ipairs { "", "x", "1.2", 5, {} } do
      rig.raises(function() group:members { cursor = cursor } end, "members: the cursor must be one that")
    end
    rig.raises(function() group:members(5) end, "members takes a table")
  end)
end)
