--- Who gets a notification to a group, and how values are made ready for it.
local channel = require("perigee.channel")
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("a notification to a group", function()
  local app, perigee, clients, ctxs

  before_each(function()
    ctxs = {}
    app = rig.app(function(C, module)
      perigee = module
      C:rpc_method("join", function(ctx)
        ctxs[#ctxs + 1] = ctx
        return ctx:group_add("g")
      end)
    end)
    clients = {}
    for i = 1, 4 do
      clients[i] = app:connect("/test")
      clients[i]:call("join")
    end
  end)

  after_each(rig.clean)

  --- Numbers of the clients that get it.
  local function reached(except)
    perigee.notify_group("g", "told", { 1 }, { except = except })
    local got = {}
    for i, client in ipairs(clients) do
      if pcall(client.expect, client, "told", 0) then got[#got + 1] = i end
      client:expect_nothing()
    end
    return got
  end

  it("leaves out whom it is told to, in whatever form", function()
    assert.same({ 1, 2, 3, 4 }, reached(nil))
    assert.same({ 2, 3, 4 }, reached(ctxs[1]))
    assert.same({ 1, 3, 4 }, reached(ctxs[2].consumer))
    assert.same({ 1, 2, 4 }, reached(ctxs[3].consumer.channel_name))
    assert.same({ 4 }, reached { ctxs[1], { ctxs[2].consumer }, ctxs[3].consumer.channel_name })
    assert.same({ 1, 2, 3, 4 }, reached {})
    assert.same({ 1, 2, 3, 4 }, reached("nobody.0.1"))
  end)

  it("leaves nobody out who is named by something else", function()
    for _, except in ipairs { 5, true, print } do
      rig.raises(function() reached(except) end,
        "except must be a ctx, an instance, a channel or a list of them, not a ")
      rig.raises(function() reached { except } end, "not a " .. type(except))
    end
  end)

  it("knows its own channels", function()
    local conn = ctxs[1][1]
    assert.equal(conn, channel.conn(channel.of(conn)))
    assert.equal(ctxs[1].consumer.channel_name, channel.of(conn))
    assert.is_nil(channel.conn("x" .. channel.of(conn)))
    assert.is_nil(channel.conn("nobody.0.1"))
    assert.same({ channel.of(conn), "other.1.5" }, { table.unpack(channel.channels_of { ctxs[1], "other.1.5" }) })
  end)
end)

describe("values without a form in JSON", function()
  it("are converted wherever they stand, a hundred tables deep", function()
    local function default(value) return "a " .. type(value) end
    local object = setmetatable({}, {})
    assert.same({ a = "a function", b = { 1, "a table" }, c = core.null, d = true },
      channel.convert({ a = print, b = { 1, object }, c = core.null, d = true }, default))
    local array = setmetatable({ print }, core.array_mt)
    assert.equal(core.array_mt, getmetatable(channel.convert(array, default)))
    for n, wrong in pairs { [99] = false, [100] = false, [101] = "a value nested too deeply (a cycle?)" } do
      local deep = 1
      for _ = 1, n do deep = { deep } end
      local ok, err = pcall(channel.convert, deep, default)
      assert.equal(wrong, not ok and err, n)
    end
    local loop = {}
    loop[1] = loop
    rig.raises(function() channel.convert(loop, default) end, "a value nested too deeply")
    rig.raises(function() channel.convert(print, function(value) return value end) end, "a value nested too deeply")
  end)
end)
