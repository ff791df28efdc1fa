local testing = require "perigee.testing"

local NO_SUCH_ROOM, NOT_IN_A_ROOM, NAME_TAKEN = 1, 2, 3
local INVALID_PARAMS, RATE_LIMITED, METHOD_NOT_FOUND = -32602, -32005, -32601

describe("chat", function()
  local app

  before_each(function() app = testing.app("apps/chat") end)

  --- A client in a room, and what join returned.
  local function join(name, room)
    local client = app:connect("/chat")
    return client, client:call("join", room or "lobby", name)
  end

  --- Asserts that a call is refused, and returns the error.
  local function refused(code, client, ...)
    local ok, err = client:try(...)
    assert.is_false(ok)
    assert.equal(code, err.code)
    return err
  end

  describe("join", function()
    it("tells who is here and what was said", function()
      local ann = join("Ann")
      local hello = ann:call("say", "hello")
      local _, joined = join("Bob")
      assert.equal("lobby", joined.room)
      assert.equal("Bob", joined.name)
      assert.same({ "Ann", "Bob" }, joined.people)
      assert.same({ hello }, joined.messages)
      assert.same({ name = 24, text = 2000 }, joined.limits)
    end)

    it("tells the others, not the one who joins", function()
      local ann = join("Ann")
      local bob = join("Bob")
      assert.same({ room = "lobby", name = "Bob" }, ann:expect("joined"))
      bob:expect_nothing("joined")
    end)

    it("gives guests a name", function()
      local _, one = join()
      local _, two = join()
      assert.equal("Guest 1", one.name)
      assert.equal("Guest 2", two.name)
    end)

    it("gives a name that is taken a number", function()
      join("Ann")
      local _, two = join("ann")
      local _, three = join("ANN")
      assert.equal("ann 2", two.name)
      assert.equal("ANN 3", three.name)
      local _, elsewhere = join("Ann", "tearoom")
      assert.equal("Ann", elsewhere.name)
    end)

    it("leaves the room before", function()
      local ann, bob = join("Ann"), join("Bob")
      ann:call("join", "tearoom")
      assert.same({ room = "lobby", name = "Ann" }, bob:expect("left"))
      bob:call("say", "anyone?")
      ann:expect_nothing("message")
      assert.same({ "Ann" }, ann:call("join", "tearoom").people)
    end)

    it("changes nothing when it fails", function()
      local ann, bob = join("Ann"), join("Bob")
      refused(NO_SUCH_ROOM, ann, "join", "cellar")
      refused(INVALID_PARAMS, ann, "join", "tearoom", "")
      bob:expect_nothing("left")
      ann:call("say", "still here")
      assert.equal("Ann", bob:expect("message").from)
    end)
  end)

  describe("say", function()
    it("reaches everybody in the room but the one who says it", function()
      local ann, bob, zoe = join("Ann"), join("Bob"), join("Zoë", "tearoom")
      local said = ann:call("say", "hello")
      assert.same({ room = "lobby", id = 1, from = "Ann", text = "hello", time = said.time }, said)
      assert.is_true(math.abs(os.time() - said.time) < 60)
      assert.same(said, bob:expect("message"))
      ann:expect_nothing("message")
      zoe:expect_nothing("message")
    end)

    it("tidies the text up and refuses what is none", function()
      local ann = join("Ann")
      assert.equal("two\nlines", ann:call("say", "  two\r\nlines\n ").text)
      assert.equal(("é"):rep(2000), ann:call("say", ("é"):rep(2000)).text)
      assert.equal("x", ann:call("say", " x ").text)
      for _, text in ipairs { "", " \n ", ("x"):rep(2001), ("x"):rep(9000), "bell\a", 7, true, {} } do
        local err = refused(INVALID_PARAMS, ann, "say", text)
        assert.equal("text", err.data.param)
      end
      refused(INVALID_PARAMS, ann, "say")
    end)

    it("needs a room", function()
      refused(NOT_IN_A_ROOM, app:connect("/chat"), "say", "hello?")
    end)
  end)

  describe("history", function()
    it("keeps the last 200 messages of a room", function()
      local ann = join("Ann")
      for i = 1, 250 do
        ann:call("say", "message " .. i)
        app:advance(0.5)
      end
      local history = ann:call("history", "lobby")
      assert.equal(200, #history)
      assert.equal("message 51", history[1].text)
      assert.equal("message 250", history[200].text)
      assert.equal(250, history[200].id)
    end)

    it("is to be had over HTTP, as is the list of rooms", function()
      local ann = join("Ann")
      local said = ann:call("say", "hello")
      local function post(request)
        return app:post("/chat", request).body
      end
      local answer = post '{"jsonrpc":"2.0","id":1,"method":"history","params":["lobby"]}'
      assert.truthy(answer:find('"text":"hello"', 1, true))
      assert.truthy(answer:find('"id":' .. said.id, 1, true))
      answer = post '{"jsonrpc":"2.0","id":1,"method":"history","params":["tearoom"]}'
      assert.equal('{"jsonrpc":"2.0","result":[],"id":1}', answer)
      answer = post '{"jsonrpc":"2.0","id":1,"method":"rooms"}'
      assert.truthy(answer:find('"name":"lobby"', 1, true))
      assert.truthy(answer:find('"count":1', 1, true))
    end)

    it("of a room there is not", function()
      refused(NO_SUCH_ROOM, app:connect("/chat"), "history", "cellar")
    end)
  end)

  describe("names", function()
    it("can be changed", function()
      local ann, bob = join("Ann"), join("Bob")
      assert.equal("Anna", ann:call("rename", " Anna "))
      assert.same({ room = "lobby", from = "Ann", name = "Anna" }, bob:expect("renamed"))
      ann:expect_nothing("renamed")
      assert.equal("Anna", ann:call("say", "me").from)
      local _, joined = join("Ann")
      assert.same({ "Ann", "Anna", "Bob" }, joined.people)
    end)

    it("can be written differently by their owner only", function()
      local ann, bob = join("Ann"), join("Bob")
      assert.equal("ANN", ann:call("rename", "ANN"))
      refused(NAME_TAKEN, bob, "rename", "ann")
      assert.equal("Bob", bob:call("rename", "Bob"))
      ann:expect_nothing("renamed")
    end)

    it("are short and can be seen", function()
      local ann = join("Ann")
      for _, name in ipairs { "日本", "Zoë", "O'Neil", "a b", ("é"):rep(24), "<b>", "🚲" } do
        assert.equal(name, ann:call("rename", name))
      end
      assert.equal("Ann B", ann:call("rename", "Ann  B"))
      local bad = {
        "", "   ", ("x"):rep(25), "a\nb", "a\0b", "a\tb", "\u{200B}", "a\u{202E}b", "a\u{00A0}", "\u{FEFF}a", "a\u{85}",
        7, true, {},
      }
      for _, name in ipairs(bad) do
        local err = refused(INVALID_PARAMS, ann, "rename", name)
        assert.equal("name", err.data.param)
      end
    end)
  end)

  describe("typing", function()
    it("is told to the others in the room", function()
      local ann, bob, zoe = join("Ann"), join("Bob"), join("Zoë", "tearoom")
      ann:notify("typing")
      assert.same({ room = "lobby", name = "Ann" }, bob:expect("typing"))
      ann:expect_nothing("typing")
      zoe:expect_nothing("typing")
    end)

    it("is nothing outside of a room", function()
      local bob = join("Bob")
      app:connect("/chat"):notify("typing")
      bob:expect_nothing("typing")
    end)

    it("is told once a second at most, and anew after a message", function()
      local ann, bob = join("Ann"), join("Bob")
      for _ = 1, 20 do ann:notify("typing") end
      bob:expect("typing")
      bob:expect_nothing("typing")
      app:advance(1)
      ann:notify("typing")
      bob:expect("typing")
      ann:call("say", "done")
      ann:notify("typing")
      bob:expect("typing")
    end)
  end)

  describe("leaving", function()
    it("is noticed, however it happens", function()
      local ann, bob, kim = join("Ann"), join("Bob"), join("Kim")
      bob:close()
      assert.same({ room = "lobby", name = "Bob" }, ann:expect("left"))
      kim:close(4000, "had enough")
      assert.same({ room = "lobby", name = "Kim" }, ann:expect("left"))
      local _, joined = join("Bob") -- the name is free again
      assert.equal("Bob", joined.name)
      assert.same({ "Ann", "Bob" }, joined.people)
    end)

    it("of somebody who never joined is nothing", function()
      local ann = join("Ann")
      app:connect("/chat"):close()
      ann:expect_nothing("left")
    end)
  end)

  it("lets one connection do 10 things at once and 2 per second", function()
    local ann = join("Ann")
    for i = 1, 8 do ann:call("say", "message " .. i) end
    ann:call("rename", "Anna")
    refused(RATE_LIMITED, ann, "say", "one too many")
    refused(RATE_LIMITED, ann, "rename", "Annabel")
    refused(RATE_LIMITED, ann, "join", "tearoom")
    app:advance(1)
    ann:call("say", "patience")
    ann:call("say", "helps")
    refused(RATE_LIMITED, ann, "say", "but not for long")
  end)

  it("tells everybody how full the rooms are", function()
    local outside = app:connect("/chat")
    local ann = join("Ann")
    assert.same({ name = "lobby", topic = "Where everyone arrives", count = 1 }, outside:expect("room"))
    ann:call("join", "tearoom")
    assert.equal(0, outside:expect("room").count)
    assert.equal("tearoom", outside:expect("room").name)
    ann:close()
    assert.equal(0, outside:expect("room").count)
    outside:expect_nothing("room")
  end)

  it("has methods that HTTP does not see", function()
    for _, method in ipairs { "join", "say", "rename" } do
      local answer = app:post("/chat", ('{"jsonrpc":"2.0","id":1,"method":"%s"}'):format(method))
      assert.truthy(answer.body:find(tostring(METHOD_NOT_FOUND), 1, true))
    end
  end)

  it("keeps no name of who is gone before the store has answered", function()
    local Room = getmetatable(app:require("chat.rooms").by_name.lobby)
    local sleep, enter, rename = app:require("perigee").sleep, Room.enter, Room.rename
    function Room:enter(name)
      local got = enter(self, name)
      sleep(1)
      return got
    end
    function Room:rename(from, to)
      local is_free = rename(self, from, to)
      sleep(1)
      return is_free
    end
    local eager = app:connect("/chat")
    eager:send('{"jsonrpc":"2.0","id":1,"method":"join","params":["lobby","Ann"]}')
    eager:close()
    app:advance(2)
    Room.enter = enter
    local ann, joined = join("Ann")
    assert.equal("Ann", joined.name)
    ann:send('{"jsonrpc":"2.0","id":1,"method":"rename","params":["Bob"]}')
    ann:close()
    app:advance(2)
    local bob, last = join("Bob")
    assert.same({ "Bob", { "Bob" } }, { last.name, last.people })
    assert.equal("Ann", bob:call("rename", "Ann"))
  end)
end)
