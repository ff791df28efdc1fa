"""Counters: each goes up by what has happened, and by nothing else."""
import re

import pytest

from server import apps_folder
from wire import PING, TEXT, Http, WebSocket, Wire, call_text, fetch, frame, handshake, post, request

APP = """
local perigee = require "perigee"
local C = perigee.consumer { path = "/c" }
C:rpc_method("ping", function() return "pong" end)
C:rpc_method("refuse", function() return nil, "no" end)
C:rpc_method("fault", function() return nil .. "x" end)
C:rpc_method("slow", { timeout = 0.05 }, function() perigee.sleep(60) end)
C:rpc_method("join", function(ctx) return ctx:group_add("g") end)
C:rpc_method("tell", function(_, text) perigee.notify_group("g", "told", { text }) end)
C:rpc_notification("note", function() end)
C:get("page", function() return 200, "a page" end)
C:get("late", { timeout = 0.05 }, function() perigee.sleep(60) end)
return C
"""


@pytest.fixture
def server(serve, tmp_path):
    return serve(apps_folder(tmp_path / "apps", files={"c/init.lua": APP, "c/public/file.txt": "text"}), "--max-body", "1KiB")


def look(server):
    """All counters, and the bytes that asking took: (counters, sent, received)."""
    asked = b"GET /-/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with Wire(server) as one:
        one.send(asked)
        text = one.rest()
    found = {name: int(value) for name, value in re.findall(r"^perigee_(\w+?)(?:_total)? (\d+)\r?$", text.decode(), re.M)}
    return found, len(asked), len(text)


NEVER_THE_SAME = {"lua_memory_bytes", "connections", "connections_closed", "log_suppressed", "turns_cut", "tasks"}


def counted(server, happen):
    """By how much each counter went up while something happened; asking for them does not count."""
    before, asked, told = look(server)
    happen()
    after, asked_again, _ = look(server)
    up = {name: after[name] - before[name] for name in after if name not in NEVER_THE_SAME}
    up["connections_accepted"] -= 1
    up["http_requests"] -= 1
    up["bytes_received"] -= asked_again
    up["bytes_sent"] -= told
    return {name: n for name, n in up.items() if n}


def test_bytes_and_requests(server):
    asked = post("/c", call_text("ping"))

    def happen():
        with Http(server) as http:
            for _ in range(3):
                http.send(asked)
                http.response()
            http.send(request("GET", "/c/page", {"Connection": "close"}))
            http.response()
            http.expect_end()
    up = counted(server, happen)
    page = len(request("GET", "/c/page", {"Connection": "close"}))
    assert up.pop("bytes_received") == 3 * len(asked) + page
    assert up.pop("bytes_sent") > 0
    assert up == {"connections_accepted": 1, "http_requests": 4, "calls": 3, "http_calls": 1}


def test_bytes_sent(server):
    """What the client reads is what was sent, to the byte."""
    read = 0

    def happen():
        nonlocal read
        with Wire(server) as one:
            one.send(request("GET", "/c/file.txt", {"Connection": "close"}))
            read = len(one.rest())
    up = counted(server, happen)
    assert up["bytes_sent"] == read and (up["files_served"], up["http_requests"]) == (1, 1)


REFUSED = {  # request: what counts it besides http_requests and http_refused
    "nothing there": (request("GET", "/nowhere"), "http_not_found"),
    "not that method": (request("PUT", "/c", body="x"), "http_not_found"),
    "too large": (post("/c", "x" * 1025), "http_too_large"),
    "of another type": (post("/c", call_text("ping"), content_type="text/plain"), "http_unsupported"),
    "not understood": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "http_malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(server, name):
    asked, counter = REFUSED[name]

    def happen():
        with Http(server) as http:
            http.send(asked)
            assert http.response().status >= 400
    up = counted(server, happen)
    assert (up["http_requests"], up["http_refused"], up[counter]) == (1, 1, 1)
    assert not [other for _, other in REFUSED.values() if other != counter and other in up]


def test_the_largest_body_is_not_refused(server):
    def happen():
        assert fetch(server, post("/c", call_text("ping").ljust(1024))).status == 200
    assert "http_refused" not in counted(server, happen)


def test_messages_and_frames(server):
    """A message in parts is one message; pings, pongs and closes are none."""
    def happen():
        with WebSocket(server, "/c") as ws:
            assert ws.call("ping") == "pong"
            text = call_text("ping", id=2).encode()
            ws.send(frame(TEXT, text[:10], is_final=False), frame(PING, b"p"), frame(0, text[10:]))
            assert ws.answer(2) == "pong"
            ws.close()
            ws.expect_end()
    up = counted(server, happen)
    assert (up["websocket_messages"], up["websocket_frames"], up["websockets_opened"], up["calls"]) == (2, 2, 1, 2)
    assert "websocket_failures" not in up and "call_errors" not in up


def test_calls_and_how_they_end(server):
    def happen():
        with WebSocket(server, "/c") as ws:
            ws.send_text("[" + ",".join([call_text("ping", id=1), call_text("refuse", id=2), call_text("fault", id=3),
                                         call_text("slow", id=4), call_text("none", id=5)]) + "]")
            assert len(ws.receive_json()) == 5
            ws.send_notification("note")
            assert ws.call("ping") == "pong"
    up = counted(server, happen)
    assert (up["calls"], up["call_errors"], up["faults"], up["call_timeouts"], up["methods_unknown"]) == (7, 4, 1, 1, 1)
    assert "messages_malformed" not in up and "answers_unknown" not in up


def test_messages_that_are_no_calls(server):
    def happen():
        with WebSocket(server, "/c") as ws:
            ws.send_text("{")
            assert ws.receive_json()["error"]["code"] == -32700
            ws.send_text('{"jsonrpc":"2.0","id":"x","result":1}')
            assert ws.call("ping") == "pong"
    up = counted(server, happen)
    assert (up["messages_malformed"], up["answers_unknown"], up["call_errors"], up["websocket_messages"]) == (1, 1, 1, 3)


def test_hooks_that_take_too_long(server):
    def happen():
        assert fetch(server, request("GET", "/c/late")).status == 504
    up = counted(server, happen)
    assert (up["call_timeouts"], up["http_calls"]) == (1, 1)


def test_groups(server):
    members = [WebSocket(server, "/c") for _ in range(3)]

    def happen():
        for one in members[:2]:
            assert one.call("join") is True
        members[2].call("tell", "a")
        members[2].call("tell", "b")
        for one in members[:2]:
            assert [one.expect("told"), one.expect("told")] == [["a"], ["b"]]
    up = counted(server, happen)
    assert (up["group_publishes"], up["group_deliveries"]) == (2, 4)
    for one in members:
        one.close()
        one.expect_end()
    assert not {"group_publishes", "group_deliveries"} & counted(server, lambda: None).keys()


def test_handshakes_that_are_refused(server):
    def happen():
        assert fetch(server, handshake("/c", [("Origin", "https://other.example")])).status == 403
        assert fetch(server, handshake("/c", version="12")).status == 426
    up = counted(server, happen)
    assert (up["handshakes_refused"], up["origins_refused"]) == (2, 1)
    assert "websockets_opened" not in up


def test_connections(server):
    before = server.metrics()
    held = [WebSocket(server, "/c") for _ in range(3)]
    server.until(lambda m: m["connections"] == before["connections"] + 3)
    for one in held:
        one.close()
        one.expect_end()
    server.until(lambda m: m["connections"] == before["connections"])
    server.until(lambda m: m["connections_accepted"] - m["connections_closed"] == m["connections"])

