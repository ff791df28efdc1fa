"""Reload: new code takes over while connections stay, or the old code serves on."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import browser as browsers
from server import PATIENCE, apps_folder, run, until
from wire import Http, WebSocket, call_http, call_text, fetch, post, request

APP = """local perigee = require "perigee"
local C = perigee.consumer {}
local count = 0
%s
C:rpc_method("version", function() return "%s" end)
return C
"""


def app(version, more=""):
    return APP % (more, version)


@pytest.fixture
def site(serve, tmp_path):
    """site(files): a server with an apps folder whose files can be written."""
    def start(files, *flags, verb="serve"):
        folder = apps_folder(tmp_path / "apps", files=files)
        server = serve(folder, *flags, verb=verb)
        server.write = lambda name, text: write(folder / name, text)
        server.folder = folder
        server.seen = 0
        return server
    return start


def write(path, text):
    """As editors do it: beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + "~")
    beside.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.replace(beside, path)


def reload(server, pattern="app reloaded", count=None):
    """SIGHUP, and waits for what the log says about it."""
    before = len(server.log_lines(pattern))
    server.signal(signal.SIGHUP)
    return server.wait_log(pattern, before + 1)


def fails(server, *words):
    """SIGHUP, and asserts that the reload fails for a reason with these words."""
    before = len(server.lines)
    reload(server, "reload failed")
    until(lambda: all(word in "\n".join(server.lines[before:]) for word in words), f"{words} in the log")


def test_new_code_takes_over(site):
    server = site({"a/init.lua": app("one")})
    with WebSocket(server, "/a") as ws:
        assert ws.call("version") == "one"
        server.write("a/init.lua", app("two"))
        reload(server)
        assert ws.call("version") == "two"
    assert call_http(server, "/a", "version") == "two"
    assert server.metrics()["reloads"] == 1


# ---- what survives ----------------------------------------------------------------------------------

LONG = """local perigee = require "perigee"
local C = perigee.consumer { groups = { "all" } }
function C:connect() self.visits = 0 end
function C:who() return "%(version)s" end
C:rpc_method("visit", function(ctx)
  ctx.consumer.visits = ctx.consumer.visits + 1
  return { ctx.consumer.visits, ctx.consumer:who(), "%(version)s" }
end)
C:rpc_method("later", function(ctx, event)
  perigee.await(function(done) C.done = done end)
  return "%(version)s"
end)
C:rpc_method("go", function() if C.done then C.done() end return C.done ~= nil end)
C:rpc_method("ask", function(ctx)
  local answer = ctx:call("question")
  return { answer, "%(version)s" }
end)
C:rpc_method("shout", function() return C:notify_group("all", "heard", { "%(version)s" }) end)
C:rpc_method("sleep", function(_, seconds) perigee.sleep(seconds) return "%(version)s" end)
return C
"""


def test_connections_instances_and_groups_survive(site):
    server = site({"a/init.lua": LONG % {"version": "one"}})
    with WebSocket(server, "/a") as ann, WebSocket(server, "/a") as bob:
        assert ann.call("visit") == [1, "one", "one"]
        server.write("a/init.lua", LONG % {"version": "two"})
        reload(server)
        assert ann.call("visit") == [2, "two", "two"]  # the same table, the new class
        assert bob.call("visit") == [1, "two", "two"]
        ann.call("shout")
        assert bob.expect("heard") == ["two"] and ann.expect("heard") == ["two"]


def test_running_calls_end_in_old_code(site):
    server = site({"a/init.lua": LONG % {"version": "one"}})
    with WebSocket(server, "/a") as ws, Http(server) as http:
        asked = ws.send_call("ask")
        question = ws.receive_json()
        assert question["method"] == "question"
        slept = ws.send_call("sleep", 0.3)
        http.send(post("/a", call_text("sleep", 0.3)))
        server.write("a/init.lua", LONG % {"version": "two"})
        reload(server)
        ws.send_text('{"jsonrpc":"2.0","id":"%s","result":42}' % question["id"])
        assert ws.answer(asked) == [42, "one"]
        assert ws.answer(slept) == "one"
        assert http.response().json()["result"] == "one"
        assert ws.call("visit")[2] == "two"


def test_timers(site):
    """Those of the old code stop, those of the new begin."""
    timer = 'perigee.every(0.02, function() C:notify_group("all", "tick", { "%s" }) end)'
    text = LONG.replace("return C", "%(timer)s\nreturn C")
    server = site({"a/init.lua": text % {"version": "one", "timer": timer % "one"}})
    with WebSocket(server, "/a") as ws:
        assert ws.expect("tick") == ["one"]
        server.write("a/init.lua", text % {"version": "two", "timer": timer % "two"})
        reload(server)
        while ws.expect("tick") != ["two"]:
            pass
        assert [ws.expect("tick") for _ in range(10)] == [["two"]] * 10


STATE = """local perigee = require "perigee"
local C = perigee.consumer {}
local state = { count = 0, who = {} }
perigee.on_save(function() return %(save)s end)
perigee.on_restore(function(old) state = old end)
C:rpc_method("add", function(ctx)
  state.count = state.count + 1
  state.who[ctx.consumer] = state.count
  return state.count
end)
C:rpc_method("mine", function(ctx) return state.who[ctx.consumer] end)
C:rpc_method("version", function() return "%(version)s" end)
return C
"""


def test_state_is_handed_over(site):
    server = site({"a/init.lua": STATE % {"version": 1, "save": "state"}})
    with WebSocket(server, "/a") as ws:
        for version in range(2, 5):
            assert ws.call("add") == version - 1
            server.write("a/init.lua", STATE % {"version": version, "save": "state"})
            reload(server)
            assert ws.call("version") == str(version)
            assert ws.call("mine") == version - 1  # instances may be kept, too
    assert call_http(server, "/a", "add") == 4


@pytest.mark.parametrize("save, words", [
    ("{ fn = function() end }", ["a function at state.fn", "init.lua:4"]),
    ('{ list = { "a", setmetatable({}, {}) } }', ["a table with a metatable at state.list[2]"]),
    ('error("not now")', ["not now"]),
    ("perigee.sleep(1)", ["cannot wait here"]),
])
def test_state_that_cannot_be_handed_over(site, save, words):
    server = site({"a/init.lua": STATE % {"version": "one", "save": save}})
    with WebSocket(server, "/a") as ws:
        ws.call("add")
        server.write("a/init.lua", STATE % {"version": "two", "save": "state"})
        fails(server, *words)
        assert ws.call("version") == "one" and ws.call("mine") == 1


def test_restore_that_fails(site):
    server = site({"a/init.lua": STATE % {"version": "one", "save": "state"}})
    with WebSocket(server, "/a") as ws:
        ws.call("add")
        broken = (STATE % {"version": "two", "save": "state"}).replace("state = old end", "state = old.x.y end")
        server.write("a/init.lua", broken)
        fails(server, "a/init.lua:5", "field 'x'")
        assert ws.call("version") == "one" and ws.call("mine") == 1


# ---- several workers --------------------------------------------------------------------------------

COUNTING = """local path = "%(path)s"
local function nth()
  local file = io.open(path, "a")
  file:write("x")
  file:close()
  return #io.open(path):read("a")
end
"""


@pytest.fixture
def crowd(site, tmp_path):
    """crowd(text): a server with three workers, connections on each of them, and a file that counts."""
    def start(more):
        server = site({"a/init.lua": app("one", more("one"))}, "--workers", "3")
        sockets = [WebSocket(server, "/a") for _ in range(24)]
        return server, sockets
    return start


def versions(sockets):
    return {ws.call("version") for ws in sockets}


def workers(sockets):
    return {ws.call("channel").split(".")[1] for ws in sockets}


CHANNEL = 'C:rpc_method("channel", function(ctx) return ctx.consumer.channel_name end)\n'


def test_all_workers_take_over(crowd):
    server, sockets = crowd(lambda version: CHANNEL)
    assert len(workers(sockets)) == 3
    for version in ["two", "three"]:
        server.write("a/init.lua", app(version, CHANNEL))
        reload(server)
        assert versions(sockets) == {version}
    server.expect_log("app reloaded app=a", 2)
    assert server.metrics()["reloads"] == 2


def test_error_on_the_second_worker_only(crowd, tmp_path):
    """What has been built on worker 0 goes again, and nobody ever sees it."""
    path = tmp_path / "loads"
    (tmp_path / "loads.token").touch()  # whoever removes it fails: one worker, once
    server, sockets = crowd(lambda version: CHANNEL)
    assert len(workers(sockets)) == 3
    fail = COUNTING % {"path": path} + 'if nth() > 1 and os.remove("%s.token") then error("not here") end' % path + ' \n' + CHANNEL \
        + 'perigee.spawn(function() perigee.log:info("spawned") end)'
    server.write("a/init.lua", app("two", fail))
    fails(server, "a/init.lua", "not here")
    assert re.search("reload failed.* worker=[12]", server.log)
    assert path.read_text() == "xxx"
    assert versions(sockets) == {"one"}
    assert not server.log_lines(r"Z info\s+spawned") and len(server.log_lines("reload failed")) == 1
    reload(server)  # now it works
    assert versions(sockets) == {"two"}
    server.wait_log(r"Z info\s+spawned", 3)


def test_handover_that_fails_on_one_worker(crowd, tmp_path):
    """Two workers have swapped when the third cannot: all go back, with the state they had."""
    path = tmp_path / "restores"
    (tmp_path / "restores.token").touch()
    keep = CHANNEL + """local state = { n = 0 }
perigee.on_save(function() return state end)
perigee.on_restore(function(saved) %s state = saved end)
C:rpc_method("add", function() state.n = state.n + 1 return state.n end)
"""
    server, sockets = crowd(lambda version: keep % "")
    assert len(workers(sockets)) == 3
    for ws in sockets:
        ws.call("add")
    server.write("a/init.lua", app("two", COUNTING % {"path": path} + keep % f'if os.remove("{path}.token") then error("no") end'))
    fails(server, "a/init.lua", "no")
    assert versions(sockets) == {"one"}
    sums = {}
    for ws in sockets:
        sums[ws.call("channel").split(".")[1]] = ws.call("add")
    assert sum(sums.values()) == 2 * len(sockets)
    reload(server)
    assert versions(sockets) == {"two"}
    assert sum(ws.call("add") > 1 for ws in sockets) == len(sockets)


# ---- apps that come and go --------------------------------------------------------------------------

def test_apps_appear_and_vanish(site):
    bye = 'function C:disconnect(code) perigee.log:info("bye", { code = code }) end'
    server = site({"a/init.lua": app("a"), "b/init.lua": app("b", bye), "c.lua": app("c")})
    with WebSocket(server, "/a") as a, WebSocket(server, "/b") as b, WebSocket(server, "/c") as c:
        b.call("version")
        os.rename(server.folder / "b", server.folder.parent / "b")
        (server.folder / "c.lua").unlink()
        server.write("d/init.lua", app("d"))
        reload(server, "app removed", 2)
        assert b.expect_close() == (1001, "this app is not served any more")
        assert c.expect_close()[0] == 1001
        server.wait_log("bye.*code=1001")
        assert a.call("version") == "a"
    assert call_http(server, "/d", "version") == "d"
    with Http(server) as http:
        assert http.ask(post("/b", call_text("version"))).status == 404
    os.rename(server.folder.parent / "b", server.folder / "b")
    reload(server, "app loaded app=b")
    assert call_http(server, "/b", "version") == "b"
    server.expect_log("bye", 1)


def test_call_in_flight_of_an_app_that_vanishes(site):
    server = site({"a/init.lua": LONG % {"version": "a"}, "b/init.lua": LONG % {"version": "b"}})
    with WebSocket(server, "/b") as b:
        slept = b.send_call("sleep", 0.3)
        server.until(lambda m: m["calls"] == 1)
        os.rename(server.folder / "b", server.folder.parent / "b")
        reload(server, "app removed")
        assert b.answer(slept) == "b"
        assert b.expect_close()[0] == 1001


def test_path_that_moves(site):
    """Who is connected to a path that is gone is told; a path keeps its connections whatever else changes."""
    server = site({"a/init.lua": app("one").replace("{}", '{ path = "/old" }')})
    with WebSocket(server, "/old") as ws:
        server.write("a/init.lua", app("two").replace("{}", '{ path = "/new" }'))
        reload(server)
        assert ws.expect_close()[0] == 1001
    assert call_http(server, "/new", "version") == "two"
    with WebSocket(server, "/new") as ws:
        (server.folder / "a").rename(server.folder.parent / "a")
        server.write("b/init.lua", app("three").replace("{}", '{ path = "/new" }'))
        reload(server, "app loaded app=b")
        assert ws.expect_close()[0] == 1001  # another app's now
    assert call_http(server, "/new", "version") == "three"


def test_modules_are_loaded_anew_and_from_one_moment(site):
    main = 'local M = require "a.m"; local perigee = require "perigee"; local C = perigee.consumer {}\n' \
           'C:rpc_method("version", function() return M.version .. require("a.lazy").version end)\nreturn C\n'
    server = site({"a/init.lua": main, "a/m.lua": 'return { version = "one" }', "a/lazy.lua": 'return { version = "x" }'})
    server.write("a/lazy.lua", 'return { version = "y" }')  # not asked for yet: and yet of the old code
    assert call_http(server, "/a", "version") == "onex"
    server.write("a/m.lua", 'return { version = "two" }')
    reload(server)
    assert call_http(server, "/a", "version") == "twoy"


# ---- bad input --------------------------------------------------------------------------------------

BROKEN = {
    "syntax error": ("local x = = 1\n", ["a/init.lua:1", "> "]),
    "error while loading": ('local x\nerror("not today")\n', ["a/init.lua:2", "not today"]),
    "undeclared global": ("local x = tostirng(1)\n", ["did you mean 'tostring'?"]),
    "not UTF-8": (app("two").encode() + b"-- \xff\n", ["a/init.lua", "UTF-8"]),
    "far too long": (app("two") + "--" + "x" * 10_000_000, ["a/init.lua", "2 MiB"]),
    "empty": ("", ["a/init.lua", "returns nothing"]),
    "endless loop": ("while true do end\n", ["a/init.lua:1", "ran on and on"]),
    "endless loop that catches": ("while true do pcall(function() while true do end end) end\n", ["ran on and on"]),
    "memory without end": ('local t = {}\nwhile true do t[#t + 1] = ("x"):rep(1000) .. #t end\n', ["a/init.lua", "memory"]),
    "deep recursion": ("local function f() return 1 + f() end\nf()\n", ["a/init.lua"]),
    "path of another app": (app("two").replace("{}", '{ path = "/b" }'), ["two consumers on the path /b", "b/init.lua:2"]),
    "waits": (app("two", "perigee.sleep(1)"), ["cannot wait here"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_code(site, name):
    """The old code serves on, one error says why, and nothing that the new code began is left."""
    text, words = BROKEN[name]
    server = site({"a/init.lua": app("one"), "b/init.lua": app("b")}, "--lua-memory", "32MiB")
    with WebSocket(server, "/a") as ws:
        assert ws.call("version") == "one"
        server.write("a/init.lua", text)
        fails(server, *words)
        server.expect_log("reload failed.*app=a", 1)
        assert ws.call("version") == "one" and call_http(server, "/b", "version") == "b"
        server.write("a/init.lua", app("three"))
        reload(server)
        assert ws.call("version") == "three"
    assert server.metrics()["reload_failures"] == 1


def test_nothing_begins_before_the_app_is_served(site):
    """Timers, spawned functions and receivers of an app that fails to load never run."""
    begin = 'perigee.spawn(function() perigee.log:info("spawned %(v)s") end)\n' \
            'perigee.after(0, function() perigee.log:info("timer %(v)s") end)\n' \
            'perigee.on("rpc_method_started", function() perigee.log:info("heard %(v)s") end)\n'
    server = site({"a/init.lua": app("one", begin % {"v": "one"})})
    server.wait_log("timer one")
    server.write("a/init.lua", app("two", begin % {"v": "two"} + "error('late')\n"))
    fails(server, "late")
    assert call_http(server, "/a", "version") == "one"
    server.write("a/init.lua", app("three", begin % {"v": "three"}))
    reload(server)
    server.wait_log("timer three")
    assert call_http(server, "/a", "version") == "three"
    server.wait_log("heard three")
    assert not server.log_lines("info +(spawned|timer|heard) two")
    server.expect_log("heard one", 1)


def test_folder_without_init(site):
    server = site({"a/init.lua": app("one"), "a/m.lua": "return 1"})
    (server.folder / "a/init.lua").unlink()
    fails(server, "a has no init.lua any more")
    assert call_http(server, "/a", "version") == "one"
    server.write("b/store.lua", "return {}")
    reload(server, "is no app without an init.lua")


def test_app_that_removes_its_own_files(site):
    server = site({"a/init.lua": app("one"), "single.lua": app("one")})
    for name in ["single.lua", "a/init.lua"]:
        path = server.folder / name
        server.write(name, app("two", f'os.remove("{path}")'))
        fails(server, name, "was removed while the app was loaded")
        assert not path.exists()
    fails(server, "no init.lua any more")  # looked at again: still none of them is gone
    assert call_http(server, "/a", "version") == "one" and call_http(server, "/single", "version") == "one"


def test_all_or_none(site):
    """What fails in one app keeps the others' new code out, too: a deploy is one step."""
    server = site({"a/init.lua": app("one"), "b/init.lua": app("one")})
    server.write("a/init.lua", app("two"))
    server.write("b/init.lua", "return")
    fails(server, "b/init.lua")
    assert call_http(server, "/a", "version") == "one"
    server.write("b/init.lua", app("two"))
    reload(server, "app reloaded app=b")
    assert call_http(server, "/a", "version") == "two" and call_http(server, "/b", "version") == "two"


def test_signals(site):
    hear = 'for _, name in ipairs { "app_loaded", "app_reloaded", "app_reload_failed" } do\n' \
           '  perigee.on(name, function(e) perigee.log:info(name, { of = e.app, e = e.error, n = e.generation }) end)\nend'
    server = site({"a/init.lua": app("one"), "z/init.lua": app("z", hear)})
    server.write("a/init.lua", app("two"))
    reload(server, "app_reloaded.*n=2 of=a|app_reloaded.*of=a")
    server.write("a/init.lua", "error('x')")
    reload(server, "app_reload_failed.*of=a")
    assert not server.log_lines("app_loaded .*of=a")


def test_nothing_to_do(site):
    server = site({"a/init.lua": app("one")})
    server.signal(signal.SIGHUP)
    server.write("a/init.lua", app("two"))
    reload(server)
    server.expect_log("app reloaded", 1)


# ---- plain HTTP -------------------------------------------------------------------------------------

def test_handlers_of_plain_http(site):
    """New routes answer, lost ones do not, and a request under way is answered by the code it began with."""
    more = """local Web = perigee.http_routes { path = "/web" }
    Web:get("same", function() return "%(version)s" end)
    Web:get("%(version)s", function() return "here" end)
    Web:get("slow", function() perigee.sleep(0.3) return "%(version)s" end)
    """
    text = {version: app(version, more % {"version": version}).replace("return C\n", "return { C, Web }\n") for version in ["one", "two"]}
    server = site({"a/init.lua": text["one"]})
    with Http(server) as http, Http(server) as slow:
        assert http.ask(request("GET", "/web/one")).body == b"here"
        slow.send(request("GET", "/web/slow"))
        server.until(lambda m: m["http_calls"] == 2)
        server.write("a/init.lua", text["two"])
        reload(server)
        assert slow.response().body == b"one"
        assert http.ask(request("GET", "/web/same")).body == b"two"
        assert http.ask(request("GET", "/web/two")).body == b"here"
        assert slow.ask(request("GET", "/web/slow")).body == b"two"
        assert http.ask(request("GET", "/web/one")).status == 404
    server.write("a/init.lua", text["two"].replace("Web:get(", "Web:get(7, "))
    fails(server, "C:get: the path must be a text")
    assert fetch(server, request("GET", "/web/same")).body == b"two"
    server.write("a/init.lua", app("three"))
    reload(server)
    assert fetch(server, request("GET", "/web/same")).status == 404


# ---- watching ---------------------------------------------------------------------------------------

@pytest.fixture
def watched(site):
    def start(files, *flags, verb="serve"):
        return site(files, *(["--watch"] if verb == "serve" else []), *flags, verb=verb)
    return start


def becomes(server, path, version):
    """Waits until calls to that path run this version; meanwhile there may be nothing there at all."""
    def is_so():
        response = fetch(server, post(path, call_text("version")))
        return response.status == 200 and response.json().get("result") == version
    until(is_so, f"version {version} of {path}")


def test_save_is_noticed(watched):
    server = watched({"a/init.lua": app("0"), "b.lua": app("0")})
    with WebSocket(server, "/a") as ws:
        for version in ["1", "2", "3"]:
            server.write("a/init.lua", app(version))
            server.wait_log("app reloaded app=a", int(version))
            assert ws.call("version") == version
        server.write("b.lua", app("1"))
        becomes(server, "/b", "1")


def test_dev_watches_unless_told_otherwise(site):
    server = site({"a/init.lua": app("one")}, verb="dev")
    server.write("a/init.lua", app("two"))
    becomes(server, "/a", "two")


def test_ways_to_save(watched):
    """In place, by renaming over it, by renaming it away first, by removing it first, by a link that is exchanged."""
    server = watched({"a/init.lua": app("0"), "a/m.lua": "return 0"})
    file, beside = server.folder / "a/init.lua", server.folder / "a/init.lua~"

    def in_place(text):
        file.write_text(text)

    def in_pieces(text):
        with open(file, "w") as out:
            for at in range(0, len(text), 50):
                out.write(text[at:at + 50])
                out.flush()

    def rename_over(text):
        write(file, text)

    def rename_away(text):
        file.rename(beside)
        file.write_text(text)
        beside.unlink()

    def remove_first(text):
        file.unlink()
        file.write_text(text)

    def link(text):
        target = server.folder.parent / f"v{len(text)}-{time.monotonic_ns()}.lua"
        target.write_text(text)
        new = file.with_name("init.lua.new")
        new.symlink_to(target)
        os.replace(new, file)

    for version, way in enumerate([in_place, in_pieces, rename_over, rename_away, remove_first, link, link, rename_over]):
        way(app(f"v{version}"))
        becomes(server, "/a", f"v{version}")
    assert call_http(server, "/a", "version") == "v7"


def test_folders_that_come_and_go(watched):
    """Copied in, with modules in folders of their own; renamed; a link to a release that is exchanged."""
    server = watched({"a/init.lua": app("a")})
    for release in ["one", "two"]:
        apps_folder(server.folder.parent / release, files={
            "b/init.lua": 'local m = require "b.lib.m"\n' + app("x").replace('"x"', "m"), "b/lib/m.lua": f'return "{release}"'})
    shutil.copytree(server.folder.parent / "one/b", server.folder / "b")
    becomes(server, "/b", "one")
    (server.folder / "b/lib/m.lua").write_text('return "three"')  # in a folder that was not there at first
    becomes(server, "/b", "three")
    with WebSocket(server, "/b") as ws:
        (server.folder / "b").rename(server.folder.parent / "b")
        assert ws.expect_close()[0] == 1001
    (server.folder / "b").symlink_to(server.folder.parent / "one/b")
    becomes(server, "/b", "one")
    new = server.folder / "b.new"
    new.symlink_to(server.folder.parent / "two/b")
    os.replace(new, server.folder / "b")
    becomes(server, "/b", "two")
    (server.folder.parent / "two/b/lib/m.lua").write_text('return "four"')
    becomes(server, "/b", "four")


def test_link_above_the_folder(serve, tmp_path):
    """A deploy that exchanges the link to the whole release: no event tells of it."""
    for release in ["one", "two"]:
        apps_folder(tmp_path / release / "apps", files={"a/init.lua": app(release)})
    current = tmp_path / "current"
    current.symlink_to("one")
    server = serve(current / "apps", "--watch")
    with WebSocket(server, "/a") as ws:
        assert ws.call("version") == "one"
        new = tmp_path / "new"
        new.symlink_to("two")
        os.replace(new, current)
        until(lambda: ws.call("version") == "two", "the second release")


def test_one_broken_app_does_not_hold_up_the_others(watched):
    server = watched({"a/init.lua": app("1"), "b/init.lua": app("1")})
    server.write("a/init.lua", "return {")
    server.wait_log("reload failed.*app=a")
    server.write("b/init.lua", app("2"))
    becomes(server, "/b", "2")
    assert call_http(server, "/a", "version") == "1"
    server.write("a/init.lua", "return {}")
    server.wait_log("a/init.lua: an app returns its consumer")
    server.write("a/init.lua", app("3"))
    becomes(server, "/a", "3")
    # both at once, one of them broken: the other one is new all the same
    (server.folder / "a/init.lua").write_text("return {")
    (server.folder / "b/init.lua").write_text(app("4"))
    becomes(server, "/b", "4")
    assert call_http(server, "/a", "version") == "3"


def test_what_waits_for_another_app(watched):
    """A path that another app owns is taken over once that app has let go of it."""
    server = watched({"a/init.lua": app("a"), "b/init.lua": app("b")})
    server.write("a/init.lua", app("a").replace("{}", '{ path = "/b" }'))
    server.wait_log("two consumers on the path /b")
    server.write("b/init.lua", app("b").replace("{}", '{ path = "/c" }'))
    becomes(server, "/b", "a")
    assert call_http(server, "/c", "version") == "b"


def test_noise_is_no_reason_to_reload(watched):
    server = watched({"a/init.lua": app("one"), "a/data.txt": "1"})
    for name in ["a/data.txt", "a/.init.lua.swp", "a/init.lua~", "a/spec/a_spec.lua", "a/#x#", "notes.txt", ".git/x.lua"]:
        path = server.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (server.folder / "a/init.lua").touch()
    server.write("a/init.lua", app("two"))
    becomes(server, "/a", "two")
    server.expect_log("app reloaded|reload failed", 1)


# ---- pages ------------------------------------------------------------------------------------------

PAGE = "<!doctype html><link rel=icon href=data:,><title>%s</title><p>%s</p>"


def test_page_is_extended_in_dev_only(site):
    for verb in ["serve", "dev"]:
        server = site({"a/init.lua": app("one"), "a/public/index.html": PAGE % ("x", "x"), "a/public/x.js": "1",
                       "a/public/empty.html": ""}, verb=verb)
        page = fetch(server, request("GET", "/a/"))
        is_live = page.body.decode() != PAGE % ("x", "x")
        assert is_live == (verb == "dev") and page.body.decode().startswith(PAGE % ("x", "x"))
        assert (b"/-/reload.js" in page.body) == is_live
        assert int(page["Content-Length"]) == len(page.body)
        again = fetch(server, request("GET", "/a/", [("If-None-Match", page["ETag"])]))
        assert again.status == 304
        head = fetch(server, request("HEAD", "/a/"))
        assert int(head["Content-Length"]) == len(page.body)
        assert fetch(server, request("GET", "/a/x.js")).body == b"1"
        assert (len(fetch(server, request("GET", "/a/empty.html")).body) > 0) == is_live
        assert fetch(server, request("GET", "/-/reload.js")).status == (200 if is_live else 404)
        server.stop()


def test_public_files_need_no_reload(watched):
    server = watched({"a/init.lua": app("one"), "a/public/index.html": PAGE % ("one", "one")}, verb="dev")
    with WebSocket(server, "/-/reload") as page, WebSocket(server, "/a") as ws:
        server.write("a/public/index.html", PAGE % ("two", "two"))
        assert page.expect("reload") is None
        assert b"two" in fetch(server, request("GET", "/a/")).body
        server.write("a/public/new/style.css", "")
        page.expect("reload")
        assert not server.log_lines("app reloaded|reload failed")
        server.write("a/init.lua", app("two"))  # pages do not ask for that
        becomes(server, "/a", "two")
        server.write("a/public/index.html", PAGE % ("three", "three"))
        page.expect("reload")
        assert not page.inbox and ws.call("version") == "two"


def test_page_reloads_itself(watched):
    if not browsers.find_chromium():
        pytest.skip("the page is not tested: chromium is not installed (Debian: apt install chromium)")
    server = watched({"a/init.lua": app("one"), "a/public/index.html": PAGE % ("one", "one")}, verb="dev")
    with browsers.Browser() as browser:
        tab = browser.tab(f"http://{server.netloc}/a/")

        def title():
            try:
                return tab.eval("document.title")
            except browsers.PageError:  # on its way to the next one
                return None

        until(lambda: title() == "one", "the page")
        server.until(lambda m: m["websockets_opened"] == 1)
        for name in ["two", "three"]:
            server.write("a/public/index.html", PAGE % (name, name))
            until(lambda: title() == name, f"page {name}")
        assert tab.errors == []
        tab.close()


# ---- perigee reload ---------------------------------------------------------------------------------

def test_reload_command(site, tmp_path):
    """Waits for what becomes of it, and says so with its exit code."""
    server = site({"a/init.lua": app("one"), "b.lua": app("one")})
    nothing = run("reload", server.folder)
    assert (nothing.returncode, nothing.stdout) == (0, "nothing has changed\n")
    server.write("a/init.lua", app("two"))
    server.write("c.lua", app("two"))
    (server.folder / "b.lua").unlink()
    good = run("reload", "--apps", server.folder)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout == "reloaded a, generation 2\nloaded c\nremoved b\n"
    assert call_http(server, "/a", "version") == "two"  # when it returns, the new code is there
    server.write("a/init.lua", "local x = = 1")
    bad = run("reload", server.folder)
    assert bad.returncode == 1 and "a/init.lua:1: unexpected symbol" in bad.stderr and "> " in bad.stderr
    assert call_http(server, "/a", "version") == "two"
    # the same folder by another name
    (tmp_path / "link").symlink_to(server.folder)
    server.write("a/init.lua", app("three"))
    assert run("reload", tmp_path / "link").returncode == 0
    assert call_http(server, "/a", "version") == "three"


def test_reload_command_without_a_server(site, tmp_path):
    apps = apps_folder(tmp_path / "none", files={"a/init.lua": app("one")})
    ended = run("reload", apps)
    assert ended.returncode == 1 and "is running" in ended.stderr and str(apps) in ended.stderr
    assert run("reload", "--nope").returncode == 2
    server = site({"a/init.lua": app("one")})
    server.stop()
    assert run("reload", server.folder).returncode == 1


def test_several_servers_of_the_same_folder(site, serve):
    first = site({"a/init.lua": app("one")})
    second, third = serve(first.folder), serve(first.folder)
    first.stop()
    write(first.folder / "a/init.lua", app("two"))
    ended = run("reload", first.folder)
    assert ended.returncode == 0 and ended.stdout == "reloaded a, generation 2\n" * 2
    assert call_http(second, "/a", "version") == "two" and call_http(third, "/a", "version") == "two"


SQUATTER = """
import os, socket, sys, time
os.setgid(65534); os.setuid(65534)
ones = []
for number in range(int(sys.argv[3])):
    one = socket.socket(socket.AF_UNIX)
    one.bind(sys.argv[1].encode().decode("unicode_escape") + str(number))
    one.listen(0 if sys.argv[2] == "full" else 5)
    ones.append(one)
if sys.argv[2] == "full":  # nobody can connect any more, or learn who it is
    more = []
    for _ in range(3):
        more.append(socket.socket(socket.AF_UNIX))
        more[-1].setblocking(False)
        try: more[-1].connect(ones[0].getsockname())
        except BlockingIOError: pass
print("here", flush=True)
if sys.argv[2] == "full": time.sleep(600)
while True:
    client, _ = ones[0].accept()
    print("asked:", client.recv(100), flush=True)
    try: client.sendall(b"ok\\n\\x1b]0;pwned\\x07reloaded everything\\n")
    except OSError: pass
    client.close()
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed: run as root")


class Squatter:
    """A process of the user nobody that listens at the name of the servers of a folder."""

    def __init__(self, folder, how="lies", names=1):
        name = "\\0perigee/%016x." % fnv(os.path.realpath(folder))
        self.process = subprocess.Popen([sys.executable, "-c", SQUATTER, name, how, str(names)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "here\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@as_root
@pytest.mark.parametrize("how, said", [
    ("lies", r"the user nobody has a server's name for these apps; it was not asked.*runuser -u nobody -- perigee reload"),
    ("full", "something that takes no connection has a server's name")])
def test_a_stranger_is_not_believed(site, tmp_path, how, said):
    """Whoever has taken the name of a server before it is named, is not asked, and decides nothing."""
    folder = apps_folder(tmp_path / "apps", files={"a/init.lua": app("one")})
    with Squatter(folder, how):
        ended = run("reload", folder)
        assert ended.returncode == 1 and ended.stdout == ""
        assert re.search(said, ended.stderr) and "no server of yours of the apps in" in ended.stderr
        server = site({"a/init.lua": app("one")})
        server.write("a/init.lua", app("two"))
        ended = run("reload", folder)
        assert (ended.returncode, ended.stdout) == (0, "reloaded a, generation 2\n")
        assert re.search(said, ended.stderr) and "\x1b" not in ended.stderr
        assert call_http(server, "/a", "version") == "two"


@as_root
def test_root_believes_the_owner_of_the_apps(site, tmp_path):
    """What such a server says is still shown with care, and must not be long."""
    folder = apps_folder(tmp_path / "apps", files={"a/init.lua": app("one")})
    os.chown(folder, 65534, 65534)
    with Squatter(folder):
        ended = run("reload", folder)
    assert (ended.returncode, ended.stdout) == (0, "\\u001b]0;pwned\\u0007reloaded everything\n")


@as_root
def test_a_server_hears_no_strangers(site):
    server = site({"a/init.lua": app("one")})
    name = "\\0perigee/%016x.0" % fnv(os.path.realpath(server.folder))
    script = f"""
import os, socket
os.setgid(65534); os.setuid(65534)
one = socket.socket(socket.AF_UNIX)
one.connect("{name}")
try:
    one.sendall(b"reload\\n")
    print(one.recv(100))
except OSError: print(b"")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert ended.stdout == "b''\n", ended
    assert run("reload", server.folder).stdout == "nothing has changed\n"


@pytest.mark.parametrize("answer, code, said", [
    (b"ok\n" + b"x" * (65536 - 3), 0, None), (b"ok\n" + b"x" * (65536 - 2), 1, "too long"), (b"", 1, "reset")])
def test_answers_are_bounded(tmp_path, answer, code, said):
    """A server of our own that has gone mad: at most 64 KiB."""
    folder = apps_folder(tmp_path / "apps", files={"a/init.lua": app("one")})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"\0perigee/%016x.0" % fnv(os.path.realpath(folder)))
        listener.listen()

        def serve_once():
            client, _ = listener.accept()
            with client:
                assert client.recv(100) == b"reload\n"
                try:
                    client.sendall(answer)
                except OSError:
                    pass
        thread = threading.Thread(target=serve_once)
        thread.start()
        ended = run("reload", folder)
        thread.join()
    assert ended.returncode == code
    assert ended.stdout == ("x" * (65536 - 3) if code == 0 else "")
    assert said is None or said in ended.stderr


def test_many_ask_at_once(site):
    """One reload is enough for all who ask while it runs; clients that say nothing or nonsense disturb nobody."""
    server = site({"a/init.lua": app("one")})
    name = b"\0perigee/%016x.0" % fnv(os.path.realpath(server.folder))

    def connect():
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(PATIENCE)
        one.connect(name)
        return one

    silent, gone, long, other = connect(), connect(), connect(), connect()
    gone.sendall(b"reload\n")
    gone.close()
    long.sendall(b"x" * 1000)
    assert is_cut(long)
    other.sendall(b"fly\n")
    assert other.recv(1000).startswith(b"failed\n")
    server.write("a/init.lua", app("two"))
    askers = [connect() for _ in range(8)]
    for one in askers:
        one.sendall(b"rel")
        one.sendall(b"oad\n")
    for one in askers:
        assert one.makefile().readline() == "ok\n"
        one.close()
    assert call_http(server, "/a", "version") == "two"
    too_many = [connect() for _ in range(20)]
    assert is_cut(too_many[-1])
    server.stop()
    assert is_cut(silent)
    for one in [silent, other, long, *too_many]:
        one.close()


def is_cut(one):
    try:
        return one.recv(1) == b""
    except ConnectionResetError:  # what we sent was not read
        return True


def fnv(text):
    total = 0xcbf29ce484222325
    for byte in text.encode():
        total = (total ^ byte) * 0x100000001b3 % 2 ** 64
    return total
