"""The process: how it starts, refuses to start, runs out of things, and ends."""
import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import threading
import types

import pytest

from server import BINARY, PATIENCE, Server, apps_folder, environment, run, until
from wire import (CLOSE, TEXT, Closed, Ended, Http, RpcError, WebSocket, call_http, call_text, close_payload, fetch, frame,
                  handshake, post, request)

UNAVAILABLE = -32006

FINE = """local perigee = require "perigee"
local C = perigee.consumer {}
C:rpc_method("ping", function() return "pong" end)
return C
"""


# ---- starting -------------------------------------------------------------------------------------

def test_port_in_use(tmp_path):
    apps = apps_folder(tmp_path / "apps", ["echo"])
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run("serve", "--apps", apps, "--listen", f"127.0.0.1:{port}")
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr and "in use" in ended.stderr
    assert "--listen" in ended.stderr  # what to do about it


def test_listens_on_several_addresses(serve):
    server = serve(["echo"], "--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0")
    ports = [m for m in re.findall(r"listening url=http://([\d.]+):(\d+)", "\n".join(
        [server.wait_log("listening", n).string for n in (1, 2, 3)]))]
    assert len(set(ports)) == 3
    for host, port in ports:
        with Http((host, int(port))) as http:
            assert http.ask(post("/echo", call_text("ping"))).status == 200


def test_address_this_machine_does_not_have(tmp_path):
    ended = run("serve", "--apps", apps_folder(tmp_path / "apps", ["echo"]), "--listen", "192.0.2.1:0")
    assert ended.returncode == 1 and "192.0.2.1" in ended.stderr


BROKEN_APPS = {
    # name: (source, what standard error must say besides the file and the marked line, the line)
    "syntax error": ("local perigee = require 'perigee'\nlocal x = = 1\n", ["unexpected symbol"], 2),
    "error while loading": (FINE.replace("return C", "error('not today')\nreturn C"), ["not today"], 4),
    "undeclared global": (FINE.replace("perigee.consumer {}", "perrigee.consumer {}"),
                          ["undeclared global 'perrigee'"], 2),
    "undeclared global, nearly right": (FINE.replace("return C", "C.x = tostirng(1)\nreturn C"),
                                        ["undeclared global 'tostirng'", "did you mean 'tostring'?"], 4),
    "duplicate method": (FINE.replace("return C", 'C:rpc_method("ping", function() end)\nreturn C'),
                         ["'ping'", "already", "init.lua:3"], 4),
    "duplicate notification": (FINE.replace("return C", 'C:rpc_notification("n", print)\nC:rpc_notification("n", print)\nreturn C'),
                               ["'n'", "already", "init.lua:4"], 5),
    "reserved method": (FINE.replace('"ping"', '"rpc.ping"'), ["'rpc.ping'", "reserved"], 3),
    "private method": (FINE.replace('"ping"', '"_ping"'), ["'_ping'", "reserved"], 3),
    "unknown option": (FINE.replace("{}", "{ subprotocol = {} }"), ["'subprotocol'", "did you mean 'subprotocols'?"], 2),
    "unknown option of a method": (FINE.replace('"ping", f', '"ping", { htpp = false }, f'), ["'htpp'", "did you mean 'http'?"], 3),
    "unknown limit": (FINE.replace("{}", "{ limits = { mesage = 1 } }"), ["'mesage'", "did you mean 'message'?"], 2),
    "option of a wrong type": (FINE.replace("{}", '{ origins = "*" }'), ["'origins'", "list"], 2),
    "origin that is none": (FINE.replace("{}", '{ origins = { "example.com" } }'), ["'origins'", ".host"], 2),
    "path that is none": (FINE.replace("{}", '{ path = "chat" }'), ["'path'", '"/"'], 2),
    "version that is none": (FINE.replace("{}", '{ versions = { "3.0" } }'), ["'versions'", "2.0"], 2),
    "handler that is none": (FINE.replace("function() return \"pong\" end", '"pong"'), ["'ping'", "function"], 3),
    "waiting while loading": (FINE.replace("return C", "perigee.sleep(1)\nreturn C"), ["cannot wait"], 4),
    "shared values while loading": (FINE.replace("return C", 'perigee.shared("s"):get("x")\nreturn C'),
                                    ["perigee.shared cannot be used while the app is loaded"], 4),
    "nothing returned": (FINE.replace("return C", ""), ["returns nothing"], None),
    "something else returned": (FINE.replace("return C", "return 42"), ["number"], None),
    "a list with something else": (FINE.replace("return C", "return { C, 42 }"), ["item 2"], None),
    "missing module": (FINE.replace("return C", 'require "broken.store"\nreturn C'), ["module 'broken.store' not found", "store.lua"], 4),
    "missing module of others": (FINE.replace("return C", 'require "no.such.module"\nreturn C'), ["module 'no.such.module' not found"], 4),
    "binary chunk": ("\x1bLua" + "x" * 20, [], None),
}


@pytest.mark.parametrize("name", BROKEN_APPS)
def test_app_that_does_not_load(tmp_path, name):
    """Exit code 1 before anything listens; standard error has the file, the line and the source around it."""
    source, words, line = BROKEN_APPS[name]
    apps = apps_folder(tmp_path / "apps", ["echo"], {"broken/init.lua": source})
    ended = run("serve", "--apps", apps, "--listen", "127.0.0.1:0")
    assert ended.returncode == 1, ended
    for word in ["broken/init.lua", *words]:
        assert word in ended.stderr, f"no {word!r} in:\n{ended.stderr}"
    if line:
        assert re.search(rf"broken/init\.lua:{line}:", ended.stderr), ended.stderr
        wrong = source.split("\n")[line - 1]
        assert re.search(rf"(?m)^\s*>\s*{line} \| {re.escape(wrong)}$", ended.stderr), f"no source lines in:\n{ended.stderr}"
    assert "listening" not in ended.stderr
    assert "perigee/" not in ended.stderr.replace(str(tmp_path), ""), "the server's own files are no news to authors"


def test_app_that_does_not_load_in_dev(tmp_path):
    apps = apps_folder(tmp_path / "apps", files={"broken/init.lua": "return {\n"})
    ended = run("dev", apps, "--listen", "127.0.0.1:0")
    assert ended.returncode == 1 and "broken/init.lua" in ended.stderr


def test_module_that_does_not_load(tmp_path):
    apps = apps_folder(tmp_path / "apps", files={
        "broken/init.lua": FINE.replace("return C", 'require "broken.store"\nreturn C'),
        "broken/store.lua": "local M = {}\nfunction M.x( end\nreturn M\n"})
    ended = run("serve", "--apps", apps, "--listen", "127.0.0.1:0")
    assert ended.returncode == 1
    assert re.search(r"broken/store\.lua:2:", ended.stderr) and "> " in ended.stderr and "function M.x( end" in ended.stderr


def test_two_consumers_on_one_path(tmp_path):
    """Both places are named, within an app and between two."""
    apps = apps_folder(tmp_path / "one", files={
        "a/init.lua": FINE.replace("return C", 'local D = perigee.consumer { path = "/a" }\nreturn { C, D }')})
    ended = run("serve", "--apps", apps, "--listen", "127.0.0.1:0")
    assert ended.returncode == 1
    assert "/a" in ended.stderr and "a/init.lua:2" in ended.stderr and "a/init.lua:4" in ended.stderr
    apps = apps_folder(tmp_path / "two", files={"a/init.lua": FINE, "b/init.lua": FINE.replace("{}", '{ path = "/a" }')})
    ended = run("serve", "--apps", apps, "--listen", "127.0.0.1:0")
    assert ended.returncode == 1
    assert "a/init.lua:2" in ended.stderr and "b/init.lua:2" in ended.stderr


def test_two_apps_of_one_name(tmp_path):
    apps = apps_folder(tmp_path / "apps", files={"a/init.lua": FINE, "a.lua": FINE})
    ended = run("serve", "--apps", apps, "--listen", "127.0.0.1:0")
    assert ended.returncode == 1 and "a/init.lua" in ended.stderr and "a.lua" in ended.stderr


def test_no_apps(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in [tmp_path / "empty", tmp_path / "missing"]:
        ended = run("serve", "--apps", folder, "--listen", "127.0.0.1:0")
        assert ended.returncode == 1 and str(folder) in ended.stderr


def test_app_in_one_file(serve, tmp_path):
    server = serve(apps_folder(tmp_path / "apps", files={"single.lua": FINE}))
    assert call_http(server, "/single", "ping") == "pong"


def test_apps_have_their_own_globals(serve, tmp_path):
    source = FINE.replace("return C", """
shared = "of %s"
C:rpc_method("shared", function() return shared end)
C:rpc_method("late", function() late = 1 end)
C:rpc_method("string_library", function() string.mine = 1 return string.mine end)
C:rpc_method("sees", function() return rawget(_G, "string").mine end)
C:rpc_method("escapes", function()
  local found = {}
  for _, name in ipairs { "dofile", "loadfile" } do found[#found + 1] = rawget(_G, name) and name end
  for _, name in ipairs { "exit", "execute", "setlocale" } do found[#found + 1] = rawget(os, name) and "os." .. name end
  found[#found + 1] = rawget(io, "popen") and "io.popen"
  found[#found + 1] = load(string.dump(function() end)) and "bytecode"
  return #found > 0 and found or "none"
end)
return C""")
    server = serve(apps_folder(tmp_path / "apps", files={"a/init.lua": source.replace("%s", "a"), "b/init.lua": source.replace("%s", "b")}))
    assert call_http(server, "/a", "shared") == "of a" and call_http(server, "/b", "shared") == "of b"
    assert call_http(server, "/a", "string_library") == 1 and call_http(server, "/b", "sees") is None
    error = fetch(server, post("/a", call_text("late"))).json()["error"]
    assert error["code"] == -32603
    server.wait_log("undeclared global 'late' is assigned")
    assert call_http(server, "/a", "escapes") == "none"


# ---- the command line -----------------------------------------------------------------------------

@pytest.mark.parametrize("args, words", [
    (["sevre"], ["sevre", "serve"]),
    (["serve", "--lisen", "127.0.0.1:0"], ["--lisen", "--listen"]),
    (["serve", "--max-bodi=1"], ["--max-bodi", "--max-body"]),
    (["serve", "--max-body"], ["--max-body", "value"]),
    (["serve", "--max-body", "much"], ["--max-body", "much"]),
    (["serve", "--max-depth", "0"], ["--max-depth", "at least 1"]),
    (["serve", "--listen", "here"], ["--listen", "here"]),
    (["serve", "--listen", "127.0.0.1:99999"], ["--listen", "99999"]),
    (["serve", "--log-level", "inof"], ["--log-level", "info"]),
    (["serve", "extra"], ["extra"]),
    (["dev", "a", "b"], ["b"]),
    (["dev", "--listen", "0.0.0.0:0"], ["0.0.0.0", "serve"]),
    (["--nonsense"], ["--nonsense"]),
], ids=lambda value: " ".join(value))
def test_usage_errors(args, words):
    """Exit code 2, what is wrong, the nearest that would do, and where to read more."""
    ended = run(*args)
    assert ended.returncode == 2, ended
    for word in words:
        assert word in ended.stderr, ended.stderr
    assert "--help" in ended.stderr and ended.stdout == ""


def test_bad_environment(tmp_path):
    apps = apps_folder(tmp_path / "apps", ["echo"])
    ended = run("serve", "--apps", apps, env={"PERIGEE_MAX_BODY": "much"})
    assert ended.returncode == 2 and "PERIGEE_MAX_BODY" in ended.stderr and "much" in ended.stderr


def test_environment_then_flags(serve):
    env = {"PERIGEE_MAX_BODY": "100", "PERIGEE_MAX_TARGET": "50"}
    server = serve(["echo"], "--max-target", "100", env=env)
    assert fetch(server, post("/echo", call_text("echo", "a" * 100))).status == 413
    assert fetch(server, post("/echo?" + "a" * 60, call_text("ping"))).status == 200


@pytest.mark.parametrize("verb", ["serve", "dev", "version", "help"])
def test_help(verb):
    for args in [[verb, "--help"], [verb, "-h"], ["help", verb]]:
        ended = run(*args)
        assert ended.returncode == 0 and ended.stderr == ""
        assert f"perigee {verb}" in ended.stdout and "Example" in ended.stdout


def test_version():
    for args in [["version"], ["--version"], ["-V"]]:
        ended = run(*args)
        assert ended.returncode == 0 and re.match(r"perigee \d+\.\d+\.\d+ ", ended.stdout)
    assert run("version", "1").returncode == 2


def test_install(tmp_path):
    """What is installed needs nothing but itself; beside it lie only a manual page and completions."""
    if not (BINARY.parent / "cmake_install.cmake").exists():
        pytest.skip(f"{BINARY} does not lie in a build folder")
    where = tmp_path / "usr"
    subprocess.run(["cmake", "--install", BINARY.parent, "--prefix", where], check=True, capture_output=True, timeout=PATIENCE)
    program, *others = sorted(path for path in where.rglob("*") if path.is_file())
    assert program == where / "bin/perigee" and all(path.is_relative_to(where / "share") for path in others)
    apps = apps_folder(tmp_path / "apps", files={"fine/init.lua": FINE})
    env = {name: value for name, value in environment().items() if name != "PERIGEE_LUA"}
    ended = subprocess.run([program, "check", apps], env=env, cwd="/", capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_dev_says_where_to_look(serve):
    server = serve(["pages", "echo"], verb="dev")
    assert call_http(server, "/echo", "ping") == "pong"
    server.stop()
    told = server.output.decode()
    assert f"http://{server.netloc}/pages/" in told and f"ws://{server.netloc}/echo" in told


FORGED = "harmless\n2026-01-01T00:00:00.000Z error forged\r\n\x1b[31mred\0\u2028"


@pytest.mark.parametrize("form", ["json", "text"])
def test_bytes_of_clients_in_logs(serve, form):
    """JSON is JSON whatever a client sends, and no terminal obeys what the log shows."""
    server = serve(["diary"], "--log-format", form, "--log-level", "debug")
    hostile = ["\x9b31m", "\u202egpj.exe", "\u2028forged", "\U000e0041", "\ufeff"]
    with WebSocket(server, "/diary?name=%ff%c3%9b%1b%e2%80%ae") as ws:
        for text in hostile:
            ws.send_notification("note", text)
            ws.send_notification(text)
        ws.call("ping")
        ws.send_frame(CLOSE, close_payload(1000, "\x9b\u202e"))
        ws.closing_answer()
    for target in [b"/nowhere/\xff\xc3", b"/\xc2\x9b31m", b"/\xe2\x80\xaeexe"]:
        with Http(server) as http:
            http.send(b"GET " + target + b" HTTP/1.1\r\nHost: \xff.example\r\nOrigin: http://\xff\r\n\r\n")
            http.rest()
    server.stop()
    assert "forged" in server.log
    for line in server.lines:
        assert not re.search("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffd\U000e0000-\U000e007f]", line), line
        if form == "json":
            json.loads(line)


def test_log_lines_cannot_be_forged(serve):
    """One record is one line, whatever a client puts into it."""
    server = serve(["diary"])
    with WebSocket(server, "/diary?name=a%0Aerror%20forged") as ws:
        ws.send_notification("note", FORGED)
        ws.call("ping")
        ws.send_frame(CLOSE, close_payload(1000, "b\nerror forged"))
        ws.closing_answer()
    fetch(server, post("/diary", call_text("ping"), [("Origin", "http://x\terror")]))
    server.wait_log("gone ")
    server.wait_log("origin refused")
    for line in server.lines:
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (error|warn|info|debug) ", line), line
        assert not re.search(r"[\0-\x1f\x7f]", line), line
    assert len(server.log_lines("forged")) >= 3  # inside of who came, what was noted and why it ended


def test_log_as_json(serve):
    """Each line is an object, also those that tell of faults with tracebacks."""
    server = serve(["diary", "faults"], "--log-format", "json")
    with WebSocket(server, "/diary?name=json") as ws:
        ws.send_notification("note", FORGED)
        ws.call("ping")
    error = fetch(server, post("/faults", call_text("index_nil", 1))).json()["error"]
    server.wait_log('"gone"')
    server.stop()
    records = [json.loads(line) for line in server.lines]
    assert all(isinstance(record, dict) for record in records)
    text = [json.dumps(record) for record in records]
    assert any(error["data"]["error_id"] in line and "faults/init.lua" in line and "traceback" in line for line in text)
    assert any(FORGED in record.values() for record in records)


@pytest.mark.parametrize("level, shown", [("error", False), ("warn", False), ("info", True), ("debug", True)])
def test_log_level(tmp_path, level, shown):
    """Only what is as important as asked for. A server that says nothing listens all the same."""
    apps = apps_folder(tmp_path / "apps", files={"talker/init.lua": FINE.replace("return C", 'perigee.log:info("loaded well")\nreturn C')})
    with socket.create_server(("127.0.0.1", 0)) as other:  # the port is in use, so the run ends by itself
        ended = run("serve", "--apps", apps, "--listen", "127.0.0.1:%d" % other.getsockname()[1], "--log-level", level)
    assert ended.returncode == 1 and "in use" in ended.stderr
    assert ("loaded well" in ended.stderr) == shown


# ---- signals --------------------------------------------------------------------------------------

def test_sigterm_at_once():
    """Whoever has read "listening" may stop it: a few times, since this was a race."""
    for _ in range(10):
        with Server(["echo"]):
            pass


def test_sigterm_during_calls():
    """Calls in flight are answered, new ones told that it is over, connections closed with 1001; exit code 0."""
    with Server(["gate", "timers", "echo"]) as server:
        with WebSocket(server, "/timers") as ws, Http(server) as http, Http(server) as half, WebSocket(server, "/echo") as idle, \
                Http(server) as resting:
            resting.ask(post("/echo", call_text("ping")))
            ws.send_call("sleep", 0.3, "in flight", id="flying")
            http.send(post("/timers", call_text("sleep", 0.3, "in flight")))
            half.send(post("/echo", call_text("ping"))[:-5])
            assert ws.call("ping") == "pong"
            server.signal(signal.SIGTERM)
            server.wait_log("draining")
            assert idle.expect_close()[0] == 1001  # nothing keeps it
            resting.expect_end()
            ws.send_call("ping", id="late")
            late = ws.receive_json()
            assert late["id"] == "late" and late["error"]["code"] == -32006
            half.send(post("/echo", call_text("ping"))[-5:])
            response = half.response()
            assert response.status == 200 and response.is_last
            with pytest.raises(OSError):
                Http(server)
            assert ws.receive_json() == {"jsonrpc": "2.0", "result": "in flight", "id": "flying"}
            assert ws.expect_close()[0] == 1001
            response = http.response()
            assert response.json()["result"] == "in flight" and response.is_last
            http.expect_end()
        assert server.wait() == 0
        server.wait_log("stopped")


BUSY = """local perigee = require "perigee"
local all = {}
for i, strict in ipairs { false, true } do
  local C = perigee.consumer { path = strict and "/strict" or "/busy", strict_ordering = strict }
  C:rpc_method("busy", function(_, n)
    local till = os.clock() + 0.02
    while os.clock() < till do end
    return n
  end)
  C:rpc_method("wait", function(_, n)
    perigee.sleep(0.2)
    return n
  end)
  all[i] = C
end
return all
"""


@pytest.mark.parametrize("path", ["/busy", "/strict"])
@pytest.mark.parametrize("method", ["busy", "wait"])
def test_sigterm_during_a_batch(tmp_path, path, method):
    """It is answered before the connection ends, also where none of its calls is in flight: the rest was put off."""
    apps = apps_folder(tmp_path / "apps", files={"busy/init.lua": BUSY})
    with Server(apps) as server, WebSocket(server, path) as ws:
        ws.send_text("[" + ",".join(call_text(method, i, id=i) for i in range(12)) + "]")
        server.signal(signal.SIGTERM)
        answers = ws.receive_json()
        assert [answer["id"] for answer in answers] == list(range(12))
        for answer in answers:  # those that had not begun are told that it is over
            assert answer.get("result") == answer["id"] or answer["error"]["code"] == -32006
        assert ws.expect_close()[0] == 1001
        assert server.wait() == 0


def test_handshake_while_draining():
    with Server(["gate"]) as server:
        with WebSocket(server, "/gate") as ws, Http(server) as late, WebSocket(server, "/gate") as idle:
            ws.send_call("wait", "forever")
            late.send(handshake("/gate")[:30])
            for _ in range(3):  # by then the new connection was accepted, and read
                assert ws.call("ping") == "pong"
            server.signal()
            assert idle.expect_close()[0] == 1001
            late.send(handshake("/gate")[30:])
            response = late.response()
            assert response.status == 503 and response["Retry-After"]
            late.expect_end()
        assert server.wait() == 0


def test_sigterm_while_connect_waits():
    """A connection that is accepted after the server began to stop is told so as well, and keeps nobody waiting."""
    with Server(["doors", "gate"], "--grace", "1h") as server:
        with Http(server) as http, WebSocket(server, "/gate") as idle:
            http.send(handshake("/doors/slow"))
            for _ in range(3):
                assert idle.call("ping") == "pong"
            server.signal()
            assert idle.expect_close()[0] == 1001
            response = http.response()
            assert response.status in (101, 503), response
            if response.status == 101:
                http.__class__ = WebSocket
                assert http.expect_close()[0] == 1001
            else:
                http.expect_end()
        assert server.wait() == 0


def test_sigterm_while_handlers_wait_for_clients():
    """Those waits end when the clients are gone, and with them the server does."""
    with Server(["caller"], "--grace", "300ms") as server:
        with WebSocket(server, "/caller?name=asked") as ws:
            for _ in range(3):
                ws.send_call("ask", "add", [], 3600)
                assert ws.receive_json()["method"] == "add"
            server.signal()
            server.wait_log("grace time is over")
            ws.rest()
        assert server.wait() == 0


def test_grace_ends():
    """A call that takes too long does not keep the server: its client is told, and leaves as others do;
    disconnect hooks still run, and may spawn."""
    with Server(["diary"], "--grace", "300ms") as server:
        with WebSocket(server, "/diary?name=busy") as ws, Http(server) as http:
            calls = [ws.send_call("sleep", 3600) for _ in range(2)]
            assert ws.call("ping") == "pong"
            before = server.metrics()["calls"]
            http.send(post("/diary", call_text("sleep", 3600)))
            until(lambda: server.metrics()["calls"] > before, "the call over HTTP")
            server.signal()
            server.wait_log("grace time is over")
            for call in calls:
                with pytest.raises(RpcError) as failed:
                    ws.answer(call)
                assert failed.value.code == UNAVAILABLE
            ws.expect_close()
            assert http.response().json()["error"]["code"] == UNAVAILABLE
            ws.rest()
        assert server.wait() == 0
        server.expect_log(r"gone .*\bwho=busy\b.*code=|gone .*code=.*\bwho=busy\b", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_stops_at_once(number):
    """Also in the middle of a grace time of an hour."""
    with Server(["timers"], "--grace", "1h") as server:
        with WebSocket(server, "/timers") as ws:
            ws.send_call("sleep", 3600)
            assert ws.call("ping") == "pong"
            server.signal(number)
            server.wait_log("draining")
            assert server.is_running()
            server.signal(number)
            assert server.wait() == 0
            ws.rest()


@pytest.mark.parametrize("signals", [1, 2])
def test_thread_that_never_ends_is_left_behind(tmp_path, signals):
    """perigee.blocking runs what cannot be ended from outside: the server says so and goes without it."""
    apps = apps_folder(tmp_path / "apps", files={
        "stuck/init.lua": """
            local perigee = require "perigee"
            local C = perigee.consumer {}
            C:rpc_method("spin", function(ctx) ctx:notify("begun") return perigee.blocking("stuck.work", "spin") end)
            return C""",
        "stuck/work.lua": "return { spin = function() while true do end end }"})
    server = Server(apps, "--grace", "100ms" if signals == 1 else "1h")
    with WebSocket(server, "/stuck") as ws:
        ws.send_call("spin")
        assert ws.receive_json()["method"] == "begun"
        for _ in range(signals):
            server.signal()
            server.wait_log("draining")
        assert server.wait() == 1
        ws.rest()
    server.wait_log("leaving it behind")


def test_threads_that_never_end_keep_nobody_waiting(tmp_path):
    """However many functions of perigee.blocking loop: files are read, and other calls are answered."""
    apps = apps_folder(tmp_path / "apps", files={
        "stuck/init.lua": """
            local perigee = require "perigee"
            local C = perigee.consumer {}
            C:rpc_method("spin", function(ctx) ctx:notify("begun") return perigee.blocking("stuck.work", "spin") end)
            C:rpc_method("ping", function() return "pong" end)
            return C""",
        "stuck/work.lua": "return { spin = function() while true do end end }",
        "stuck/public/index.html": "<p>still here"})
    server = Server(apps, "--grace", "100ms")
    with WebSocket(server, "/stuck") as ws:
        for _ in range(20):
            ws.send_call("spin")
            assert ws.receive_json()["method"] == "begun"
        assert call_http(server, "/stuck", "ping") == "pong"
        assert fetch(server, b"GET /stuck/ HTTP/1.1\r\nHost: a\r\n\r\n").body == b"<p>still here"
        server.signal()
        server.wait_log("draining")
        server.signal()
        assert server.wait() == 1
        ws.rest()


LUV = """
local perigee, uv = require "perigee", require "luv"
local C = perigee.consumer {}
local kept = {}
local begin = {
  timer = function() local t = uv.new_timer() t:start(1000000, 0, print) return t end,
  repeating = function() local t = uv.new_timer() t:start(1, 1, function() kept.ticks = true end) return t end,
  idle_timer = function() local t = uv.new_timer() t:start(1000000, 0, print) t:stop() return t end,
  idle_tcp = uv.new_tcp,
  listener = function() local t = uv.new_tcp() t:bind("127.0.0.1", 0) t:listen(8, print) return t end,
  reader = function() local r = uv.new_pipe(false) r:open(uv.pipe().read) r:read_start(print) return r end,
  udp = function() local u = uv.new_udp() u:bind("127.0.0.1", 0) u:recv_start(print) return u end,
  fs_event = function() local e = uv.new_fs_event() e:start("/", {}, print) return e end,
  fs_poll = function() local e = uv.new_fs_poll() e:start("/", 1000, print) return e end,
  signal = function() local s = uv.new_signal() s:start("sigusr2", print) return s end,
  async = function() return uv.new_async(print) end,
  child = function() return (uv.spawn("sleep", { args = { "1" } }, print)) end,
  idle = function() local i = uv.new_idle() i:start(function() end) return i end,
  check = function() local i = uv.new_check() i:start(function() end) return i end,
  prepare = function() return uv.new_prepare() end,
  hydra = function() -- grows another whenever one ends
    local function grow() local t = uv.new_timer() t:start(1000000, 0, print) kept[t] = true t:close(grow) end
    grow()
    return true
  end,
  finalizer = function()
    return setmetatable({}, { __gc = function()
      uv.fs_stat("/", print)
    end })
  end,
  request = function() uv.fs_stat("/", print) return true end,
}
C:rpc_method("begin", function(_, kind) kept[kind] = begin[kind]() return true end)
C:rpc_method("drop", function(_, kind) begin[kind]() collectgarbage() return true end)
C:rpc_method("kinds", function() local all = perigee.array {} for k in pairs(begin) do all[#all + 1] = k end return all end)
return C
"""


@pytest.mark.parametrize("keep", ["begin", "drop"])
@pytest.mark.parametrize("library", ["as it is", "spoiled"])
def test_handles_of_luv_do_not_outlive_the_server(tmp_path, keep, library):
    """Active or idle, held by the app or by nobody: the end is the same."""
    code = LUV if library == "as it is" else LUV.replace("return C\n", "uv.close, uv.is_closing = nil, nil\nreturn C\n")
    apps = apps_folder(tmp_path / "apps", files={"x.lua": code})
    with Server(apps) as server, WebSocket(server, "/x") as ws:
        for kind in ws.call("kinds"):
            assert ws.call(keep, kind) is True, kind
        server.signal()
        assert server.wait() == 0
        assert not server.log_lines("leaving it behind")
        ws.rest()


def test_handles_of_luv_do_not_outlive_specs(tmp_path):
    apps_folder(tmp_path / "apps", files={"x.lua": LUV})
    (tmp_path / "x_spec.lua").write_text("""
        local testing = require "perigee.testing"
        it("passes", function()
          local client = testing.app("apps/x.lua"):connect("/x")
          for _, kind in ipairs(client:call("kinds")) do
            local is_restless = kind == "repeating" or kind == "idle" or kind == "check" or kind == "hydra"
            if not is_restless then client:call("begin", kind) end
          end
        end)""")
    done = run("test", "x_spec.lua", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 success" in done.stdout


LAST_WORDS = """local perigee = require "perigee"
local C = perigee.consumer { http_user = true, groups = { "all" } }
C:rpc_method("ping", function() return "pong" end)
local function f() end
local given = { {}, { f }, { "x" }, { 0.01, f }, { "all", "m", { 1 } }, { "x", 1, { ttl = 1 } }, { "client_connected", f }, { { f } },
  { { user = "x" } }, { "x.y", "z" } }
local objects = { perigee.shared("x"), perigee.group("all"), perigee.log }
local n = 0
local function try(fn, args)
  pcall(fn, table.unpack(args))
  n = n + 1
end
setmetatable({}, { __gc = function()
  for _, library in ipairs { perigee, perigee.session, perigee.password, perigee.token, perigee.json } do
    for _, fn in pairs(library) do
      for _, args in ipairs(type(fn) == "function" and given or {}) do try(fn, args) end
    end
  end
  for _, object in ipairs(objects) do
    for _, fn in pairs(getmetatable(object).__index) do
      for _, args in ipairs(given) do try(fn, { object, table.unpack(args) }) end
    end
  end
  io.open("OUT", "w"):write(n, " ", select(2, pcall(perigee.spawn, f))):close()
end })
return C
"""


@pytest.mark.parametrize("command", ["serve", "check", "test"])
def test_what_a_gc_does_at_the_end_ends_nothing_else(tmp_path, command):
    """Lua's state is closed when nothing can run any more: what a __gc asks for then is refused, and harms nobody."""
    apps = apps_folder(tmp_path / "apps", files={"x.lua": LAST_WORDS.replace("OUT", str(tmp_path / "out"))})
    if command == "serve":
        with Server(apps) as server:
            assert call_http(server, "/x", "ping") == "pong"
            server.signal()
            assert server.wait() == 0
    else:
        (tmp_path / "x_spec.lua").write_text("""it("passes", function()
            require("perigee.testing").app("apps/x.lua"):connect("/x"):call("ping")
        end)""")
        done = run(*(("check", "--apps", str(apps)) if command == "check" else ("test", "x_spec.lua")), cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    n, _, error = (tmp_path / "out").read_text().partition(" ")
    assert int(n) > 300
    if command == "serve":  # elsewhere the app is collected before
        assert error.endswith("this worker is over: nothing can be begun any more")


def test_print_on_a_thread_goes_to_the_log(serve, tmp_path):
    server = serve(apps_folder(tmp_path / "apps", files={
        "t/init.lua": FINE.replace('"pong"', 'perigee.blocking("t.work", "say")'),
        "t/work.lua": 'return { say = function() print("from a thread\\n", 1, nil, true) end }'}), "--log-format", "json")
    assert call_http(server, "/t", "ping") is None
    assert server.wait_log(r'"event":"from a thread\\n\\t1\\tnil\\ttrue"')
    server.stop()
    assert server.output == b""


SIGNALS = """local perigee = require "perigee"
local C = perigee.consumer { groups = { "all" } }
for _, name in ipairs { "server_started", "server_draining", "app_loaded" } do
  perigee.on(name, function()
    perigee.log:info("heard", { signal = name })
    if name == "server_draining" then C:notify_group("all", "bye") end
    perigee.sleep(0.05)
    perigee.log:info("ended", { signal = name })
  end)
end
C:rpc_method("ping", function() return "pong" end)
return C
"""


def test_every_worker_is_told_of_start_and_end(tmp_path):
    """Also who is alone with its signal: the worker stays until the receivers have ended."""
    apps = apps_folder(tmp_path / "apps", files={"s.lua": SIGNALS})
    with Server(apps, "--workers", "3") as server:
        for name in "app_loaded", "server_started":
            server.wait_log(f"ended .*signal={name}|ended .*name={name}", 3)
        with WebSocket(server, "/s") as ws:
            assert ws.call("ping") == "pong"
            server.signal()
            ws.expect("bye")
            ws.rest()
        assert server.wait() == 0
        for step in "heard", "ended":
            found = sorted(re.search(r"worker=(\d)", line)[1] for line in server.log_lines(f"{step} .*server_draining"))
            assert found == ["0", "1", "2"]
            for name in "app_loaded", "server_started":
                server.expect_log(f"{step} .*signal={name}", 3)


def test_receiver_that_does_not_end_is_left_when_the_grace_time_is_over(tmp_path):
    apps = apps_folder(tmp_path / "apps", files={"s.lua": SIGNALS.replace("sleep(0.05)", "sleep(3600)")})
    with Server(apps, "--grace", "100ms", alarms=False) as server:
        server.wait_log("heard .*server_started")
        server.signal()
        assert server.wait() == 0
        server.wait_log("heard .*server_draining")
        assert not server.log_lines("ended")


def test_sigterm_with_a_deaf_client():
    """Who answers no close frame and reads nothing is cut."""
    with Server(["feed"], "--close-timeout", "200ms") as server:
        ws = WebSocket(server, "/feed?name=deaf", receive_buffer=4096)
        server.signal()
        assert server.wait() == 0
        server.wait_log(r"unfollowed .*code=1001")
        ws.drop()


@pytest.mark.parametrize("reads", [True, False])
def test_sigterm_during_a_download(tmp_path, reads):
    """Who reads gets the whole file; who does not is cut when the grace time is over."""
    size = 20_000_000
    apps = apps_folder(tmp_path / "apps", files={
        "big/init.lua": FINE, "big/public/file.bin": bytes(size)})
    with Server(apps, "--grace", "1h" if reads else "300ms") as server:
        with Http(server, receive_buffer=16384) as http:
            http.send(request("GET", "/big/file.bin"))
            assert http.fill()
            server.signal()
            server.wait_log("draining")
            if reads:
                assert len(http.response().body) == size
                http.expect_end()
            else:
                server.wait_log("grace time is over")
                with pytest.raises(Ended):
                    http.response()
        assert server.wait() == 0


def test_sighup_does_not_end_it(serve):
    server = serve(["echo"])
    server.signal(signal.SIGHUP)
    server.wait_log("SIGHUP|reload")
    assert call_http(server, "/echo", "ping") == "pong"


# ---- running out of things ------------------------------------------------------------------------

def sockets_of(server, count):
    return [Http(server) for _ in range(count)]


def test_few_descriptors(serve):
    """At the limit the extra ones are told 503, the admitted ones are served, and room is used again."""
    server = serve(["echo"], files=100)  # the server keeps 64 for itself
    assert call_http(server, "/echo", "ping") == "pong"
    crowd = sockets_of(server, 60)
    served, refused = [], []
    for http in crowd:
        http.send_until_cut([post("/echo", call_text("ping"))])
        response = http.response()
        assert response.status in (200, 503)
        (served if response.status == 200 else refused).append(http)
    assert 20 <= len(served) <= 40
    for http in refused:
        http.expect_end()
        http.drop()
    for http in served:
        assert http.ask(post("/echo", call_text("ping"))).status == 200
        http.drop()
    server.until(lambda m: m["connections_accepted"] - m["connections_closed"] == 1)
    assert call_http(server, "/echo", "ping") == "pong"
    assert server.metrics()["connections_refused"] == len(refused)


def test_no_descriptors_at_all(serve):
    """The limit is lowered under the running server, below what it counted on: no spin, no end, and it recovers."""
    server = serve(["echo"])
    admitted = sockets_of(server, 5)
    for http in admitted:
        assert http.ask(post("/echo", call_text("ping"))).status == 200
    old = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (server.descriptors(), old[1]))
    extra = sockets_of(server, 20)
    for _ in range(10):  # served while the others wait or are turned away
        for http in admitted:
            assert http.ask(post("/echo", call_text("ping"))).status == 200
    before = cpu_seconds(server)
    for http in admitted * 20:
        http.ask(post("/echo", call_text("ping")))
    spent = cpu_seconds(server) - before
    assert spent < 2, "it spins"
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, old)
    for http in extra + admitted:
        http.drop()
    until(lambda: can_call(server), "taking connections again")


def cpu_seconds(server):
    fields = open(f"/proc/{server.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def can_call(server):
    try:
        return call_http(server, "/echo", "ping") == "pong"
    except (OSError, AssertionError):
        return False


def test_writing_to_who_is_gone(serve):
    """Answers, notifications and files for clients that reset meanwhile: no SIGPIPE, no end."""
    server = serve(["lobby", "timers", "pages"])
    with WebSocket(server, "/lobby?name=speaker") as speaker:
        for i in range(30):
            guest, caller, reader = WebSocket(server, "/lobby?name=guest"), WebSocket(server, "/timers"), Http(server)
            for seconds in [0, 0.001, 0.002]:
                caller.send_call("sleep", seconds)
            reader.send(request("GET", "/pages/") * 5)
            for one in (guest, caller, reader):
                one.reset()
            speaker.send_call("tell", "everyone", "x" * 10000, id=i)
        for i in range(30):
            speaker.answer(i)
        assert speaker.call("count", "everyone") == 1
    assert server.is_running()


def abrupt(server, step):
    """A client that resets at one of many places."""
    if step == 0:
        Http(server).reset()
    elif step == 1:
        http = Http(server)
        http.send(b"POST /timers HTTP/1.1\r\nHost: x")
        http.reset()
    elif step == 2:
        http = Http(server)
        http.send(post("/timers", call_text("ping"))[:-10])
        http.reset()
    elif step == 3:
        http = Http(server)
        http.send(post("/timers", call_text("sleep", 0.01)))
        http.reset()
    elif step == 4:
        http = Http(server)
        http.send(handshake("/timers"))
        http.reset()
    elif step == 5:
        ws = WebSocket(server, "/timers")
        ws.send(frame(TEXT, call_text("ping"))[:9])
        ws.reset()
    elif step == 6:
        ws = WebSocket(server, "/timers")
        for _ in range(5):
            ws.send_call("sleep", 0.01, "x" * 1000)
        ws.send(frame(TEXT, "x" * 5000, is_final=False))
        ws.reset()
    elif step == 7:
        ws = WebSocket(server, "/lobby?name=guest")
        ws.call("join", "a", "b")
        ws.reset()
    elif step == 8:
        http = Http(server)
        http.send(request("GET", "/pages/") * 3)
        http.reset()
    else:
        ws = WebSocket(server, "/timers")
        ws.send(frame(TEXT, call_text("after", 0.01)) + frame(CLOSE, close_payload(1000)))
        ws.reset()


def test_abrupt_ends_leave_nothing(serve):
    """300 resets in ten places: memory and descriptors are what they were."""
    server = serve(["timers", "lobby", "pages"], lean=True)

    def settle():
        server.until(lambda m: m["connections_accepted"] - m["connections_closed"] == 1, "closing")
        with WebSocket(server, "/timers") as ws:
            ws.call("sleep", 0.05)  # longer than any handler of theirs
        server.until(lambda m: m["connections_accepted"] - m["connections_closed"] == 1, "closing")

    for i in range(1200):  # until pools are full and the sanitizer has seen everything
        abrupt(server, i % 10)
    settle()
    memory, descriptors = server.resident(), server.descriptors()
    for i in range(300):
        abrupt(server, i % 10)
    settle()
    until(lambda: server.descriptors() <= descriptors, "giving back descriptors")
    grown = server.resident() - memory
    assert grown < 1_000_000, f"{grown / 300:.0f} bytes for each"
    assert call_http(server, "/lobby", "count", "everyone") == 0
    assert call_http(server, "/lobby", "count", "a") == 0


def test_memory_of_lua_is_limited(serve, tmp_path):
    """A handler that eats more than it may fails; the server and the next call do not."""
    server = serve(apps_folder(tmp_path / "apps", files={"hog/init.lua": """
local perigee = require "perigee"
local Hog = perigee.consumer {}
Hog:rpc_method("ping", function() return "pong" end)
Hog:rpc_method("one_string", function() return #("x"):rep(1 << 30) end)
Hog:rpc_method("table", function()
  local t = {}
  for i = 1, 1e9 do t[i] = { i } end
end)
return Hog
"""}), "--lua-memory", "32MiB")
    with WebSocket(server, "/hog") as ws:
        for method in ["one_string", "table", "one_string"]:
            ws.send_call(method, id=method)
            answer = ws.receive_json()
            assert answer["id"] == method and answer["error"]["code"] == -32603
            assert ws.call("ping") == "pong"


# ---- standard error and output --------------------------------------------------------------------

TALKER = """local perigee = require "perigee"
local C = perigee.consumer {}
local text = ("x"):rep(100)
C:rpc_method("ping", function() return "pong" end)
C:rpc_method("talk", function(_, n) for _ = 1, n do print(text) end end)
C:rpc_method("write", function(_, n) for _ = 1, n do io.stdout:write(text, "\\n") io.stderr:write(text, "\\n") end end)
C:rpc_method("fail", function() error({}) end)
C:rpc_method("claim", function(_, place) assert(false, "no room " .. place) end)
C:rpc_method("place", function(_, place) assert(false, place) end)
C:rpc_method("nan", function() return 0 / 0 end)
return C
"""


def stalled(tmp_path, *flags, verb="serve", port):
    """A server behind two pipes that nobody reads."""
    apps = apps_folder(tmp_path / "apps", files={"talker/init.lua": TALKER})
    out, err = os.pipe(), os.pipe()
    where = [str(apps)] if verb == "dev" else ["--apps", str(apps)]
    process = subprocess.Popen(
        [BINARY, verb, *where, "--listen", f"127.0.0.1:{port}", *flags], stdout=out[1], stderr=err[1],
        stdin=subprocess.DEVNULL, env=environment(XDG_STATE_HOME=str(tmp_path)))
    os.close(out[1])
    os.close(err[1])

    def answers():
        try:
            return fetch(("127.0.0.1", port), request("GET", "/-/health")).status == 200
        except OSError:
            return False
    until(answers, "the server's answer")
    return process, out[0], err[0]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def metrics_of(port):
    text = fetch(("127.0.0.1", port), request("GET", "/-/metrics")).body.decode()
    return {name: int(value) for name, value in re.findall(r"^perigee_(\w+?)(?:_total)? (\d+)$", text, re.M)}


@pytest.mark.parametrize("verb", ["serve", "dev"])
def test_streams_that_nobody_reads(tmp_path, verb):
    """The server serves on, counts what it drops, says so when it is read again, and SIGTERM ends it."""
    port = free_port()
    process, out, err = stalled(tmp_path, verb=verb, port=port)
    try:
        for _ in range(4):  # of 4 MB a pipe takes 64 KiB, the queue 1 MiB
            assert call_http(("127.0.0.1", port), "/talker", "talk", 5000) is None
            assert call_http(("127.0.0.1", port), "/talker", "write", 5000) is None
        assert call_http(("127.0.0.1", port), "/talker", "ping") == "pong"
        dropped = metrics_of(port)["log_dropped"]
        assert dropped > 20000
        text = b""
        while not (found := re.search(rb"warn .*lines were dropped here: standard error did not take them lines=(\d+)\n", text)):
            text += os.read(err, 1 << 16)
        assert dropped * 0.4 < int(found[1]) < dropped
        assert text[:found.start()].split(b"\n")[-2].endswith(b"x" * 100), "a whole line stands before it"
        process.send_signal(signal.SIGTERM)
        while piece := os.read(err, 1 << 16):
            text += piece
        assert b"stopped" in text
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(out)
        os.close(err)


def test_sigterm_behind_streams_that_nobody_reads(tmp_path):
    port = free_port()
    process, out, err = stalled(tmp_path, port=port)
    try:
        for _ in range(4):
            call_http(("127.0.0.1", port), "/talker", "talk", 5000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(out)
        os.close(err)


@pytest.mark.parametrize("method, event, counter", [
    ("fail", "handler failed", "faults"), ("nan", "result cannot be encoded", "call_errors"),
    # what a client sends makes no kind of its own, whatever it looks like
    ("claim", "handler failed", "faults"), ("place", "handler failed", "faults")])
def test_faults_without_end(serve, tmp_path, method, event, counter):
    """A few are shown, all are counted, and the log says how many it left out."""
    server = serve(apps_folder(tmp_path / "apps", files={"talker/init.lua": TALKER}), alarms=False)
    with WebSocket(server, "/talker") as client:
        for i in range(300):
            params = [[f"x{i}.lua:{i}: no"]] if method in ("claim", "place") else []
            client.send(frame(TEXT, call_text(method, *params, id=i)))
        for _ in range(300):
            assert client.receive_json()["error"]["code"] == -32603
    assert server.metrics()[counter] == 300
    server.stop()
    shown = server.log_lines(rf"error {event} ")
    more = server.log_lines(rf'error more like it of="{event} /talker {method}')
    assert 5 <= len(shown) <= 100, "five per second"
    left_out = sum(int(re.search(r"suppressed=(\d+)", line)[1]) for line in shown + more if "suppressed=" in line)
    assert more and len(shown) + left_out == 300


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_standard_streams_that_are_closed(tmp_path, closed):
    """Whatever is closed, no socket takes its number, and nothing meant for people reaches a client."""
    apps = apps_folder(tmp_path / "apps", files={"talker/init.lua": TALKER})
    port = free_port()
    process = subprocess.Popen(
        [BINARY, "serve", "--apps", str(apps), "--listen", f"127.0.0.1:{port}"], env=environment(XDG_STATE_HOME=str(tmp_path)),
        preexec_fn=lambda: [os.close(int(fd)) for fd in closed])
    try:
        def answers():
            assert process.poll() is None, f"it ended with {process.returncode}"
            try:
                return call_http(("127.0.0.1", port), "/talker", "write", 3) is None
            except OSError:
                return False
        until(answers, "the server's answer")
        for fd in closed:
            assert os.readlink(f"/proc/{process.pid}/fd/{fd}") == "/dev/null"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_commands_with_standard_streams_that_are_closed(closed):
    ended = subprocess.run([BINARY, "version"], env=environment(), preexec_fn=lambda: [os.close(int(fd)) for fd in closed])
    assert ended.returncode == 0


# ---- signals of a terminal, and process number one ------------------------------------------------

def test_dev_ends_with_its_terminal(tmp_path):
    """A window that is closed leaves no server behind."""
    apps = apps_folder(tmp_path / "apps", files={"talker/init.lua": TALKER})
    port = free_port()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment(XDG_STATE_HOME=str(tmp_path)))
        os.execv(BINARY, [str(BINARY), "dev", str(apps), "--listen", f"127.0.0.1:{port}"])
    try:
        text = b""
        while b"Ctrl-C stops" not in text:
            text += os.read(terminal, 1 << 16)
        server = types.SimpleNamespace(address=("127.0.0.1", port), netloc=f"127.0.0.1:{port}")
        with WebSocket(server, "/talker") as client:
            os.close(terminal)
            with pytest.raises(Closed) as closed:
                client.receive()
            assert closed.value.code == 1001  # in order, as after SIGTERM
    finally:
        deadline = threading.Timer(PATIENCE, os.kill, (pid, signal.SIGKILL))
        deadline.start()
        status = os.waitpid(pid, 0)[1]
        deadline.cancel()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("verb, ends", [("dev", True), ("serve", False)])
def test_hangup(serve, verb, ends):
    server = serve(["echo"], verb=verb)
    server.signal(signal.SIGHUP)
    server.wait_log("draining" if ends else "nothing to reload")
    if ends:
        assert server.wait() == 0
    else:
        assert call_http(server, "/echo", "ping") == "pong"


def test_dev_behind_nohup_stays(serve):
    server = serve(["echo"], verb="dev", prefix=["sh", "-c", 'trap "" HUP; exec "$@"', "sh"])
    server.signal(signal.SIGHUP)
    assert call_http(server, "/echo", "ping") == "pong"
    ended = run("reload", server.apps)
    assert (ended.returncode, ended.stdout) == (0, "nothing has changed\n")
    assert not server.log_lines("draining")


ORPHANS = """local perigee = require "perigee"
local C = perigee.consumer {}
C:rpc_method("ping", function() return "pong" end)
C:rpc_method("orphan", function()
  return perigee.await(function(done)
    local child
    child = require("luv").spawn("sh", { args = { "-c", "sleep 0.01 & exit 7" } }, function(code)
      child:close()
      done(code)
    end)
  end)
end)
if os.getenv("HOLD") then io.open(os.getenv("HOLD"), "w"):close() while true do end end
return C
"""


def children(pid):
    return [int(one) for one in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def can_unshare():
    return subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], stderr=subprocess.DEVNULL).returncode == 0


@pytest.fixture
def first(tmp_path):
    """first(env): starts perigee as process number one; returns unshare's process and number one's id."""
    if not can_unshare():
        pytest.skip("needs the right to make a PID namespace")
    started = []

    def start(port, **env):
        apps = apps_folder(tmp_path / "apps", files={"orphans/init.lua": ORPHANS})
        process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", BINARY, "serve", "--apps", str(apps), "--listen", f"127.0.0.1:{port}",
             "--slice-stop", "60s"], env=environment(XDG_STATE_HOME=str(tmp_path), **env), stderr=subprocess.PIPE, text=True)
        started.append(process)
        until(lambda: children(process.pid), "number one")
        return process, children(process.pid)[0]
    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def answers(port):
    def ask():
        try:
            return call_http(("127.0.0.1", port), "/orphans", "ping") == "pong"
        except OSError:
            return False
    return ask


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_number_one_stops_in_order(first, number):
    port = free_port()
    process, one = first(port)
    until(answers(port), "the server's answer")
    os.kill(one, signal.SIGHUP)
    while "nothing to reload" not in process.stderr.readline():
        assert process.poll() is None
    os.kill(one, number)
    assert process.wait(PATIENCE) == 0
    assert "stopped" in process.stderr.read()


def test_process_number_one_stops_while_it_loads(first, tmp_path):
    """The kernel keeps signals without a handler from number one: docker stop would wait ten seconds."""
    process, one = first(free_port(), HOLD=str(tmp_path / "held"))
    until((tmp_path / "held").exists, "an app that loads for ever")
    os.kill(one, signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_process_number_one_says_how_it_died(first):
    port = free_port()
    process, one = first(port)
    until(answers(port), "the server's answer")
    os.kill(children(one)[0], signal.SIGKILL)
    assert process.wait(PATIENCE) == 128 + signal.SIGKILL


def test_process_number_one_buries_orphans(first):
    """No zombie stays, and what is waited for by name is not taken away."""
    port = free_port()
    process, one = first(port)
    until(answers(port), "the server's answer")
    for _ in range(20):
        assert call_http(("127.0.0.1", port), "/orphans", "orphan") == 7
    until(lambda: len(children(one)) == 1, "the end of the orphans")
    os.kill(one, signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


# ---- too little of something at the start -----------------------------------------------------------

def start_with(tmp_path, *flags, **limits):
    """Starts a server that may have only so much; returns how it ended, or None when it serves."""
    apps = apps_folder(tmp_path / "apps", files={"fine/init.lua": FINE})

    def lower():
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))
    process = subprocess.Popen([BINARY, "serve", "--apps", str(apps), "--listen", "127.0.0.1:0", *flags], text=True,
                               env=environment(XDG_STATE_HOME=str(tmp_path)), preexec_fn=lower, stderr=subprocess.PIPE)
    text = ""
    for line in process.stderr:
        text += line
        if "listening" in line:
            process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) in (0, 1), text
    process.stderr.close()
    return None if process.returncode == 0 else text


@pytest.mark.parametrize("workers, least", [(1, 25), (4, 52)])
def test_too_few_files(tmp_path, workers, least):
    flags = ["--workers", str(workers)]
    for files in (6, 16, least - 1):
        text = start_with(tmp_path, *flags, RLIMIT_NOFILE=files)
        assert text and f"may open {files} files" in text and "RLIMIT_NOFILE" in text and "ulimit -n" in text, text
        assert len(text.splitlines()) == 1
    assert start_with(tmp_path, *flags, RLIMIT_NOFILE=least) is None


@pytest.mark.parametrize("files, code", [(15, 1), (16, 0)])
def test_too_few_files_for_a_command(files, code):
    ended = subprocess.run([BINARY, "version"], env=environment(), capture_output=True, text=True,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
    assert ended.returncode == code and ("RLIMIT_NOFILE" in ended.stderr) == (code == 1)
