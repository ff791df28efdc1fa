--- The inspector: what it shows of others' words, and how little a flood of events can do to it.
local core = require("perigee.core")
local feed = require("perigee.inspector.feed")
local report = require("perigee.report")
local rig = require("tests.spec.support.rig")
local signals = require("perigee.signals")
local shown = require("perigee.inspector.shown")

describe("what is shown", function()
  it("is text that JSON can hold", function()
    local texts = {
      ["plain"] = "plain",
      ["é😀"] = "é😀",
      ["two\nlines\tand a tab"] = "two\nlines\tand a tab",
      ["\xff\xfe"] = "\\xff\\xfe",
      ["a\xc3"] = "a\\xc3",
      ["a\0b\27[31m"] = "a<U+0000>b<U+001B>[31m",
      ["gpj\u{202e}exe"] = "gpj<U+202E>exe",
      ["\u{2066}x\u{2069}"] = "<U+2066>x<U+2069>",
      ["<b>&amp;"] = "<b>&amp;",
    }
    for given, expected in pairs(texts) do
      assert.equal(expected, shown.text(given))
      assert.equal(expected, core.json_decode((core.json_encode(shown.text(given)))))
    end
    assert.equal("12", shown.text(12))
    assert.equal("nil", shown.text(nil))
  end)

  it("is short", function()
    assert.equal(("x"):rep(300) .. "…", shown.text(("x"):rep(301)))
    assert.equal(("x"):rep(300), shown.text(("x"):rep(300)))
    assert.equal("x" .. ("é"):rep(4) .. "…", shown.text("x" .. ("é"):rep(9), 10)) -- not half a character
    assert.is_true(#shown.text(("\xff"):rep(1e6)) < 2000)
  end)

  it("is short JSON of any value", function()
    local array = function(list) return setmetatable(list, core.array_mt) end
    assert.equal('[1,"a",true,null,1.5]', shown.value(array { 1, "a", true, core.null, 1.5 }, 100))
    assert.equal('{"a":[]}', shown.value({ a = array {} }, 100))
    assert.equal("null", shown.value(nil, 100))
    assert.equal('"a\\"b"', shown.value('a"b', 100))
    local loop = {}
    loop.loop = loop
    assert.is_true(#shown.value(loop, 1000) < 200)
    local many = array {}
    for i = 1, 1e5 do many[i] = "item" end
    assert.is_true(#shown.value(many, 200) < 300)
    assert.is_true(#shown.value({ [("k"):rep(1e5)] = ("v"):rep(1e5) }, 200) < 400)
    assert.equal("(function)", shown.value(print, 10))
  end)

  it("is short JSON to the byte, and six tables deep", function()
    local array = function(list) return setmetatable(list, core.array_mt) end
    assert.equal('{"a":1}', shown.value({ a = 1 }, 7))
    assert.equal("[1,2,3]", shown.value(array { 1, 2, 3 }, 7))
    assert.equal("[1,2,3…]", shown.value(array { 1, 2, 3, 4 }, 6))
    assert.equal("[1…]", shown.value(array { 1, 2 }, 2))
    assert.equal("[[[[[[1]]]]]]", shown.value({ { { { { { 1 } } } } } }, 100))
    assert.equal("[[[[[[…]]]]]]", shown.value({ { { { { { { 1 } } } } } } }, 100))
    assert.equal(('{"%s…":1}'):format(("k"):rep(60)), shown.value({ [("k"):rep(61)] = 1 }, 100))
    assert.equal(('{"%s":1}'):format(("k"):rep(60)), shown.value({ [("k"):rep(60)] = 1 }, 100))
    assert.equal("[1]", shown.value({ 1 }, 100))
    assert.equal("{}", shown.value({}, 100))
  end)

  it("is an id with its worker when there are several", function()
    local workers = core.workers
    assert.equal("ff", shown.conn(255))
    assert.same({ core.worker, 255 }, { shown.conn_of("ff") })
    core.workers = 3
    assert.equal(core.worker .. ":ff", shown.conn(255))
    assert.same({ 2, 16 }, { shown.conn_of("2:10") })
    for _, text in ipairs { "3:10", "x", "", "1:", ":1", "1:x", "1:2:3", "-1" } do
      assert.is_nil((shown.conn_of(text)), text)
    end
    core.workers = workers
    assert.is_nil((shown.conn_of(workers .. ":10")))
  end)

  it("leaves secrets out of headers", function()
    local list = shown.headers { cookie = "session=1234", authorization = "Bearer x", host = "a", ["x-bad"] = "\xff" }
    local names = {}
    for i, one in ipairs(list) do names[i] = one.name end
    assert.same({ "authorization", "cookie", "host", "x-bad" }, names)
    assert.equal("(8 bytes, not shown)", list[1].value)
    assert.equal("(12 bytes, not shown)", list[2].value)
    assert.equal("\\xff", list[4].value)
  end)
end)

describe("the feed", function()
  local app, client, ticks, conns, conn_facts

  before_each(function()
    app = rig.app(function(C)
      C:rpc_method("ping", function() return "pong" end)
      C:rpc_method("me", function(ctx) return ctx[1] end)
    end)
    client = app:connect("/test")
    ticks, conns, conn_facts = {}, {}, core.conn_facts
  end)

  after_each(function()
    core.conn_facts = conn_facts
    for _, conn in ipairs(conns) do feed.unwatch(conn) end
    rig.clean()
  end)

  --- Watches on behalf of a connection; its ticks go to a list.
  local function watch(of)
    local conn, list = of:call("me"), {}
    conns[#conns + 1] = conn
    local ok = feed.watch(conn, { notify = function(_, _, news) list[#list + 1] = news end })
    return ok, list, conn
  end

  it("ticks while somebody watches", function()
    local conn, ok
    ok, ticks, conn = watch(client)
    assert.is_true(ok)
    client:call("ping")
    app:advance(0.5)
    assert.equal(1, #ticks)
    assert.equal("ping", ticks[1].methods[1].method)
    assert.equal("ping", ticks[1].events[1].method)
    assert.equal(1, ticks[1].methods[1].calls)
    app:advance(0.5)
    assert.equal(0, #ticks[2].methods)
    assert.equal(0, #ticks[2].events)
    feed.unwatch(conn)
    client:call("ping")
    app:advance(5)
    assert.equal(2, #ticks)
  end)

  it("keeps the last fifty faults, oldest first", function()
    local told = report.on_fault
    finally(function()
      report.on_fault = told
      signals.forget(feed.owner)
    end)
    feed.start()
    for i = 1, 51 do
      report.on_fault({ id = tostring(i), message = "m" .. i, traceback = "" }, "spec", {})
      app:advance(0.001)
      local kept = feed.kept()
      assert.equal("m" .. i, kept[#kept].message)
      assert.equal(math.min(i, 50), #kept)
    end
    local kept = feed.kept()
    assert.equal(50, #kept)
    for i = 1, 50 do assert.equal("m" .. i + 1, kept[i].message) end
  end)

  it("tells a bounded number of events, and how many there were", function()
    local before = core.metrics().inspector_dropped
    ticks = select(2, watch(client))
    for _ = 1, 250 do client:call("ping") end
    app:advance(0.5)
    assert.equal(100, #ticks[1].events)
    assert.equal(150, ticks[1].dropped)
    assert.equal(250, ticks[1].methods[1].calls) -- sums miss nothing
    app:advance(0.5)
    assert.equal(0, ticks[2].dropped)
    assert.equal(before + 150, core.metrics().inspector_dropped)
  end)

  it("makes nothing of what it will not tell", function()
    ticks = select(2, watch(client))
    for _ = 1, 100 do client:call("ping") end
    local texts, real = 0, shown.text
    shown.text = function(...)
      texts = texts + 1
      return real(...)
    end
    finally(function() shown.text = real end)
    client:call("ping")
    assert.equal(0, texts)
    app:advance(0.5)
    client:call("ping")
    assert.is_true(texts > 0)
  end)

  it("sees connections come and go, and not too many of them", function()
    ticks = select(2, watch(client))
    local visitor = app:connect("/test")
    app:advance(0.5)
    assert.equal("opened", ticks[1].events[1].kind)
    assert.equal("/test", ticks[1].events[1].path)
    visitor:close(4001, "bye \u{202e}")
    app:advance(0.5)
    local event = ticks[2].events[1]
    assert.same({ "closed", 4001, "bye <U+202E>" }, { event.kind, event.code, event.reason })
    visitor = app:connect("/test")
    visitor:abort()
    app:advance(0.5)
    assert.equal(1006, ticks[3].events[2].code)
    for _ = 1, 200 do app:connect("/test"):close() end
    app:advance(0.5)
    assert.equal(100, #ticks[4].events)
    assert.equal(300, ticks[4].dropped)
  end)

  it("waits for a watcher that does not read, and then tells it everything", function()
    local conn
    local ok
    ok, ticks, conn = watch(client)
    assert.is_true(ok)
    local other = app:connect("/test")
    local _, all = watch(other)
    app:advance(0.5)
    core.conn_facts = function(id)
      local facts = conn_facts(id)
      if id == conn then facts.output = 256 * 1024 + 1 end
      return facts
    end
    client:call("ping")
    app:advance(1)
    assert.equal(1, #ticks)
    assert.equal(3, #all)
    core.conn_facts = conn_facts
    app:advance(0.5)
    assert.equal(2, #ticks)
    local methods = {}
    for _, one in ipairs(ticks[2].methods) do methods[one.method] = one.calls end
    assert.same({ ping = 1, me = 1 }, methods)
    assert.equal(0, #all[4].methods)
  end)

  it("has a bounded number of watchers", function()
    for i = 1, 16 do assert.is_true((watch(app:connect("/test"))), i) end
    assert.is_false((watch(client)))
    feed.unwatch(conns[1])
    assert.is_true((watch(client)))
  end)

  it("forgets a watcher whose connection is gone", function()
    local visitor = app:connect("/test")
    ticks = select(2, watch(visitor))
    visitor:abort()
    app:advance(5)
    assert.equal(0, #ticks)
    assert.is_false(require("perigee.traffic").is_watched)
  end)
end)

describe("pages of connections", function()
  after_each(rig.clean)

  it("hold everybody once", function()
    local app = rig.app(function(C)
      C:rpc_method("me", function(ctx) return ctx[1] end)
      C:rpc_method("join", function(ctx, name) return ctx:group_add(name) end)
    end)
    local mine = {}
    for i = 1, 57 do
      local client = app:connect("/test?number=" .. i)
      mine[client:call("me")] = i
      if i % 3 == 0 then client:call("join", "three") end
    end
    local function all(...)
      local seen, place, n, pages = {}, 0, 0, 0
      repeat
        local ids
        ids, place = core.conns(place, 10, ...)
        assert.is_true(#ids <= 10)
        for _, id in ipairs(ids) do
          assert.is_nil(seen[id])
          seen[id] = true
          if mine[id] then n = n + 1 end
        end
        pages = pages + 1
      until not place
      return n, pages
    end
    assert.equal(57, (all()))
    assert.equal(57, (all("/test")))
    assert.equal(0, (all("/other")))
    assert.equal(19, (all(nil, "three")))
    assert.equal(0, (all(nil, "thre")))
    assert.equal(9, (all("/test", nil, "number=5"))) -- 5, and 50 to 57
  end)
end)
