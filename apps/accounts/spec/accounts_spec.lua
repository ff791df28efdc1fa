local testing = require "perigee.testing"

local JSON <const> = "application/json"
local FORM <const> = "application/x-www-form-urlencoded"

describe("accounts", function()
  local app

  before_each(function() app = testing.app("apps/accounts") end)

  --- Somebody with a browser: keeps the cookie.
  local function browser()
    local self = {}
    local function ask(path, body, kind)
      local response = app:post(path, body, { ["Content-Type"] = kind, Cookie = self.cookie })
      local line = response.headers["set-cookie"]
      if line then self.cookie = line:match("^[^;]+") end
      return response
    end
    --- A call over HTTP: its result, or nil and the error.
    function self.call(method, ...)
      local json = require("perigee.core")
      local params = setmetatable({ ... }, json.array_mt)
      local answer = json.json_decode(ask("/accounts", json.json_encode {
        jsonrpc = "2.0", id = 1, method = method, params = params,
      }, JSON).body)
      if answer.result == json.null then answer.result = nil end
      return answer.result, answer.error
    end
    function self.submit(path, body) return ask(path, body, FORM) end
    function self.open() return app:connect("/accounts", { headers = { Cookie = self.cookie } }) end
    return self
  end

  local function people(tab)
    local text = {}
    for i, one in ipairs(tab:call("people")) do text[i] = one.name .. " " .. one.tabs end
    return table.concat(text, ", ")
  end

  it("signs up, out and in again", function()
    local ann = browser()
    assert.is_nil(ann.call("me"))
    assert.equal("Ann", ann.call("sign_up", "Ann", "correct horse"))
    assert.equal("Ann", ann.call("me"))
    assert.is_true(ann.call("sign_out"))
    assert.is_nil(ann.call("me"))
    assert.equal("Ann", ann.call("sign_in", "ann", "correct horse"))
    assert.equal("Ann", ann.call("me"))
  end)

  it("gives a new session to who signs in", function()
    local ann = browser()
    ann.call("sign_up", "Bea", "correct horse")
    local first = ann.cookie
    ann.call("sign_in", "Bea", "correct horse")
    assert.are_not.equal(first, ann.cookie)
    local thief = browser()
    thief.cookie = first
    assert.is_nil(thief.call("me"))
  end)

  it("says what is wrong", function()
    local one, two = browser(), browser()
    one.call("sign_up", "Cleo", "correct horse")
    local function wrong(text, ...)
      local _, err = two.call(...)
      assert.equal(text, err.message)
    end
    wrong("That name is taken", "sign_up", "cleo", "another horse")
    wrong("A password has at least 8 characters", "sign_up", "Dan", "short")
    wrong("A name has 1 to 24 letters, digits or _ . -", "sign_up", "D n", "correct horse")
    wrong("Wrong name or password", "sign_in", "Cleo", "correct house")
    wrong("Wrong name or password", "sign_in", "Nobody", "correct horse")
    assert.is_nil(two.call("me"))
  end)

  it("lets nobody guess for long", function()
    local ann = browser()
    ann.call("sign_up", "Eve", "correct horse")
    local guesser = browser()
    for _ = 1, 10 do guesser.call("sign_in", "Eve", "a wrong one") end
    local _, err = guesser.call("sign_in", "eve", "correct horse")
    assert.equal(-32005, err.code)
    app:advance(61)
    assert.equal("Eve", guesser.call("sign_in", "eve", "correct horse"))
  end)

  it("lets nobody guess more by guessing all at once", function()
    browser().call("sign_up", "Uma", "correct horse")
    local batch = {}
    for i = 1, 30 do
      batch[i] = ('{"jsonrpc":"2.0","id":%d,"method":"sign_in","params":["Uma","wrong %d"]}'):format(i, i)
    end
    local answer = app:post("/accounts", "[" .. table.concat(batch, ",") .. "]", { ["Content-Type"] = JSON }).body
    local _, looked_at = answer:gsub('"message":"Wrong name or password"', "")
    local _, refused = answer:gsub("%-32005", "")
    assert.same({ 10, 20 }, { looked_at, refused })
  end)

  it("tells everyone who is signed in, on how many tabs", function()
    local ann, bob = browser(), browser()
    ann.call("sign_up", "Fay", "correct horse")
    bob.call("sign_up", "Gus", "correct horse")
    local guest = browser().open()
    assert.equal("", people(guest))
    local one = ann.open()
    guest:clear()
    local two = ann.open()
    assert.same({ people = { { name = "Fay", tabs = 2 } } }, guest:expect("people"))
    bob.open()
    assert.equal("Fay 2, Gus 1", people(guest))
    two:close()
    assert.equal("Fay 1, Gus 1", people(guest))
    assert.equal("Fay", one:call("me"))
  end)

  it("closes the other tabs of who asks", function()
    local ann, bob = browser(), browser()
    ann.call("sign_up", "Hal", "correct horse")
    bob.call("sign_up", "Ivy", "correct horse")
    local one, two, other, guest = ann.open(), ann.open(), bob.open(), browser().open()
    one:call("close_others")
    assert.equal(4002, (two:expect_close()))
    assert.equal("Hal 1, Ivy 1", people(one))
    assert.equal("Ivy", other:call("me"))
    local ok, err = guest:try("close_others")
    assert.is_false(ok)
    assert.equal(-32003, err.code)
  end)

  it("closes all tabs of who signs out", function()
    local ann = browser()
    ann.call("sign_up", "Jon", "correct horse")
    local one, two = ann.open(), ann.open()
    ann.call("sign_out")
    assert.equal(4001, (one:expect_close()))
    assert.equal(4001, (two:expect_close()))
    assert.is_nil(ann.call("me"))
  end)

  it("can be used with plain forms", function()
    local ann = browser()
    local response = ann.submit("/accounts/sign_up", "name=Kim&password=correct+horse")
    assert.equal(303, response.status)
    assert.equal("/accounts/", response.headers.location)
    assert.equal("Kim", ann.call("me"))
    ann.submit("/accounts/sign_out", "")
    assert.is_nil(ann.call("me"))
    response = ann.submit("/accounts/sign_in", "name=Kim&password=wrong")
    assert.equal("/accounts/#Wrong%20name%20or%20password", response.headers.location)
    ann.submit("/accounts/sign_in", "name=Kim&password=correct+horse")
    assert.equal("Kim", ann.call("me"))
  end)

  it("does not sign in over a WebSocket, where no cookie could follow", function()
    local ok, err = app:connect("/accounts"):try("sign_in", "Ann", "correct horse")
    assert.is_false(ok)
    assert.equal(-32601, err.code)
  end)
end)
