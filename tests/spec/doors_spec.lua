--- Doors from Lua into C: what they take at the most, what they find, and what they refuse.
local core = require("perigee.core")
local rig = require("tests.spec.support.rig")

describe("a group's name", function()
  local app, clients, conns

  before_each(function()
    app = rig.app(function(C)
      C:rpc_method("me", function(ctx) return ctx[1] end)
    end)
    clients, conns = {}, {}
    for i = 1, 5 do
      clients[i] = app:connect("/test", { headers = { ["X-N"] = "client number " .. i } })
      conns[i] = clients[i]:call("me")
    end
    table.sort(conns)
  end)

  after_each(rig.clean)

  it("has 1 to 200 bytes, wherever one is taken", function()
    for _, n in ipairs { 1, 199, 200 } do
      assert.is_true((core.group_add(conns[1], ("g"):rep(n))))
      assert.is_false((core.group_add(conns[1], ("g"):rep(n))))
      assert.equal(1, core.group_count(("g"):rep(n)))
    end
    for _, name in ipairs { "", ("g"):rep(201) } do
      for _, fn in ipairs {
        function() core.group_add(conns[1], name) end, function() core.group_discard(conns[1], name) end,
        function() core.group_count(name) end, function() core.members_after(name, 0, 1) end,
        function() core.publish(name, "m") end, function() core.publish({ "g", name }, "m") end,
      } do
        rig.raises(fn, "a group's name has 1 to 200 bytes")
      end
    end
    rig.raises(function() core.publish({ "g", {} }, "m") end, "groups are strings")
    rig.raises(function() core.publish({ 5 }, "m") end, "groups are strings")
  end)

  it("is one of at most 1000 in a publish, with at most 1000 left out", function()
    core.group_add(conns[1], "g1000")
    local names, except = {}, {}
    for i = 1, 1000 do names[i], except[i] = "g" .. i, "nobody" end
    core.publish(names, "told", nil, except)
    rig.settle()
    local got = 0
    for _, client in ipairs(clients) do
      if pcall(client.expect, client, "told", 0) then got = got + 1 end
    end
    assert.equal(1, got)
    names[1001], except[1001] = "g", "nobody"
    rig.raises(function() core.publish(names, "told") end, "at most 1000 groups")
    rig.raises(function() core.publish("g", "told", nil, except) end, "at most 1000 channels can be left out")
  end)

  it("leads to its members, page by page in their order, with what is said of them", function()
    for i, conn in ipairs(conns) do core.group_add(conn, "g", i % 2 == 0 and tostring(i) or nil) end
    assert.same({ conns, { false, "2", false, "4", false } }, { core.members_after("g", 0, 1000) })
    for limit = 1, 6 do
      local found, after = {}, 0
      repeat
        local page = core.members_after("g", after, limit)
        assert.is_true(#page <= limit)
        table.move(page, 1, #page, #found + 1, found)
        after = page[#page]
      until not after
      assert.same(conns, found)
    end
    assert.same({ {}, {} }, { core.members_after("g", conns[5], 10) })
    assert.same({ { conns[5] }, { false } }, { core.members_after("g", conns[5] - 1, 10) })
    for _, limit in ipairs { 0, 1001 } do
      rig.raises(function() core.members_after("g", 0, limit) end, "1 to 1000")
    end
  end)

  it("is found by a part of it, the largest groups first", function()
    for i, name in ipairs { "zoo one", "zoo two", "zoo three", "other" } do
      for k = 1, i do core.group_add(conns[k], name) end
    end
    local function show(limit, text)
      local list, total = core.groups(limit, text)
      for i, one in ipairs(list) do list[i] = one.name .. "=" .. one.members end
      return table.concat(list, ","), total
    end
    assert.same({ "zoo three=3,zoo two=2,zoo one=1", 3 }, { show(1000, "zoo") })
    assert.same({ "zoo three=3", 3 }, { show(1, "zoo") })
    assert.same({ "zoo three=3,zoo two=2", 3 }, { show(2, "zoo ") })
    assert.same({ "other=4", 1 }, { show(5, "the") })
    assert.same({ "", 0 }, { show(5, "zoo four") })
    assert.equal("other=4,zoo three=3", (show(2)))
    for _, limit in ipairs { 0, 1001 } do
      rig.raises(function() core.groups(limit) end, "1 to 1000")
    end
  end)

  it("leads to its connections, as path and request do", function()
    core.group_add(conns[2], "pair")
    core.group_add(conns[4], "pair")
    local function sorted(...)
      local list = core.conns(...)
      table.sort(list)
      return list
    end
    assert.same(conns, sorted(0, 1000))
    assert.same(conns, sorted(0, 5, "/test"))
    assert.same({}, sorted(0, 5, "/tes"))
    assert.same({ conns[2], conns[4] }, sorted(0, 5, nil, "pair"))
    assert.same({}, sorted(0, 5, "/other", "pair"))
    assert.equal(1, #sorted(0, 5, nil, nil, "client number 3"))
    assert.same({}, sorted(0, 5, nil, nil, "client number 6"))
    local found, cursor = {}, 0
    repeat
      local page
      page, cursor = core.conns(cursor, 2)
      assert.is_true(#page <= 2)
      table.move(page, 1, #page, #found + 1, found)
    until not cursor
    table.sort(found)
    assert.same(conns, found)
    for _, case in ipairs { { -1, 1 }, { 1 << 32, 1 }, { 0, 0 }, { 0, 1001 } } do
      local why = case[2] == 1 and "a place that conns returned" or "1 to 1000"
      rig.raises(function() core.conns(case[1], case[2]) end, why)
    end
    assert.same({}, core.conns((1 << 32) - 1, 1000))
  end)

  it("can be left, once", function()
    core.group_add(conns[1], "g")
    core.group_add(conns[1], "h")
    local names = core.groups_of(conns[1])
    table.sort(names)
    assert.same({ "g", "h" }, names)
    assert.is_true(core.group_discard(conns[1], "g"))
    assert.is_false(core.group_discard(conns[1], "g"))
    assert.same({ "h" }, core.groups_of(conns[1]))
    assert.equal(0, core.group_count("g"))
    clients[1]:close()
    for _, client in ipairs(clients) do client:close() end
    assert.equal(0, core.group_count("h"))
    assert.is_false((core.group_add(conns[1], "h")))
    assert.same({}, core.groups_of(conns[1]))
  end)
end)

describe("a connection", function()
  local app, client, conn

  before_each(function()
    app = rig.app(function(C)
      C:rpc_method("me", function(ctx) return ctx[1] end)
    end)
    client = app:connect("/test")
    conn = client:call("me")
  end)

  after_each(rig.clean)

  it("is closed with a code that may be sent and a reason of 123 bytes at the most", function()
    for _, code in ipairs { -1, 0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 1 << 40 } do
      rig.raises(function() core.close(conn, code) end, "a close code: 1000, 1001, 1008, 1011 ... or 3000 to 4999")
    end
    rig.raises(function() core.close(conn, 1000, ("r"):rep(124)) end, "the reason must not be longer than 123 bytes")
    rig.raises(function() core.close(conn, 1000, "\xff") end, "the reason must be UTF-8")
    assert.is_true(core.is_open(conn))
    for _, case in ipairs { { 3000, ("r"):rep(123) }, { 4999, ("r"):rep(122) }, { 1008, "" } } do
      local one = app:connect("/test")
      local id = one:call("me")
      assert.is_true(core.close(id, case[1], case[2]))
      assert.same(case, { one:expect_close() })
      assert.is_false(core.close(id, 1000))
      assert.is_false(core.is_open(id))
    end
    assert.is_true(core.close(conn))
    assert.equal(1000, (client:expect_close()))
  end)

  it("is sent texts that are UTF-8, and any bytes", function()
    rig.raises(function() core.send(conn, "\xff") end,
      "text must be UTF-8 (pass true as the second argument for binary)")
    assert.is_true(core.send(conn, "é"))
    assert.is_true(core.send(conn, "\xff", true))
    assert.same({ "é", false }, { client:receive() })
    assert.same({ "\xff", true }, { client:receive() })
    rig.raises(function() core.notify(conn, "\xff") end, "the method's name is not UTF-8")
    rig.raises(function() core.notify(conn, "m", { print }) end, "cannot encode params[0]: a function")
    assert.is_true(core.notify(conn, "m"))
    assert.is_nil(client:expect("m"))
    client:close()
    assert.is_false(core.send(conn, "x"))
    assert.is_false(core.notify(conn, "m"))
    assert.is_nil(core.record(conn))
  end)

  it("is seen to come and go, up to 256 times between two looks", function()
    core.sightings(true)
    local before = core.metrics().inspector_dropped
    local one = app:connect("/test")
    one:close(4001, "bye")
    local seen, unseen = core.sightings(true)
    assert.same({ 2, 0 }, { #seen, unseen })
    assert.same({ "/test", 4001, "bye" }, { seen[2].path, seen[2].code, seen[2].reason })
    assert.is_nil(seen[1].code)
    assert.equal(seen[1].conn, seen[2].conn)
    for _ = 1, 128 do app:connect("/test"):close() end
    assert.equal(256, #(core.sightings(true)))
    for _ = 1, 129 do app:connect("/test"):close() end
    seen, unseen = core.sightings(true)
    assert.same({ 256, 2 }, { #seen, unseen })
    assert.same({ {}, 0 }, { core.sightings(false) })
    assert.equal(before + 2, core.metrics().inspector_dropped)
    app:connect("/test"):close()
    assert.same({ {}, 0 }, { core.sightings(false) })
  end)
end)

describe("shared keys in C", function()
  it("have 1 to 1024 bytes, and times up to 1e10 seconds", function()
    for _, n in ipairs { 1, 1023, 1024 } do
      assert.is_true(core.shared_set(("k"):rep(n), n, 0, true))
      assert.is_false(core.shared_set(("k"):rep(n), n, 0, true))
      assert.is_true(core.shared_delete(("k"):rep(n)))
    end
    for _, key in ipairs { "", ("k"):rep(1025) } do
      rig.raises(function() core.shared_set(key, 1, 0, false) end, "a key has 1 to 1024 bytes")
      rig.raises(function() core.shared_get(key) end, "a key has 1 to 1024 bytes")
    end
    assert.is_true(core.shared_set("k", 1, 1e10, false))
    for _, seconds in ipairs { -1, 1.1e10 } do
      rig.raises(function() core.shared_set("k", 1, seconds, false) end, "seconds from 0 on")
    end
    assert.is_true(core.shared_delete("k"))
  end)
end)
