"""Connections from their beginning to their end, and what runs meanwhile: hooks, groups, timers."""
import json
import re
import signal
import threading

import pytest

from server import PATIENCE, Server, until
from wire import (BINARY, CLOSE, PING, PONG, TEXT, Closed, Ended, Http, RpcError, WebSocket, call_http, call_text, close_payload, fetch, frame,
                  handshake, post)


# ---- connect --------------------------------------------------------------------------------------

def knock(server, kind, glued=b"", fields=()):
    http = Http(server)
    http.send(handshake(f"/doors/{kind}", fields) + glued)
    return http


def test_connect_accepts(everything):
    with WebSocket(everything, "/doors/open") as ws:
        assert ws.call("kind") == "open"


@pytest.mark.parametrize("kind", ["shut", "unknown"])
def test_connect_refuses(everything, kind):
    """return false: 403, and neither call nor disconnect hook."""
    with knock(everything, kind, frame(TEXT, call_text("kind"))) as http:
        response = http.response()
        assert response.status == 403 and response.is_last
        http.expect_end()
    assert not everything.log_lines(rf"left .*kind={kind}\b")


def test_connect_refuses_in_its_own_words(everything):
    with knock(everything, "teapot") as http:
        response = http.response()
        assert (response.status, response.body) == (418, b"no coffee\n")
        assert response["X-Kind"] == "teapot"
        http.expect_end()


def test_connect_fails(everything):
    """500 for the client, the fault for the log."""
    before = len(everything.log_lines("connect failed"))
    with knock(everything, "broken") as http:
        response = http.response()
        assert response.status == 500 and b".lua" not in response.body
        http.expect_end()
    line = everything.wait_log("connect failed", before + 1).string
    assert "doors/init.lua" in line and "error_id=" in line


def test_connect_cannot_break_the_head(everything):
    with knock(everything, "injecting") as http:
        response = http.response()
        assert response.status == 500 and response["Set-Cookie"] is None and response["X-Bad"] is None


def test_connect_accepts_early(everything):
    """What the hook sends arrives after the 101, in order; then calls are answered."""
    with WebSocket(everything, "/doors/early", glued=frame(TEXT, call_text("kind", id="first"))) as ws:
        assert ws.opening["Sec-WebSocket-Protocol"] == "fancy"
        assert ws.opening["X-Greeting"] == "hello"
        messages = [ws.receive_json() for _ in range(3)]
        notified = [message["params"][0] for message in messages if message.get("method") == "welcome"]
        assert notified == ["before the hook has ended", "after a wait"]
        assert [message["result"] for message in messages if "result" in message] == ["early"]


def test_connect_fails_after_accepting(everything):
    """The fault is logged; what was accepted stays open."""
    with WebSocket(everything, "/doors/late") as ws:
        everything.wait_log("connect failed .*after accepting|after accepting.*connect failed")
        assert ws.call("kind") == "late"


def held(server, name, glued=b""):
    """A handshake that waits in its connect hook, and does wait already."""
    http = knock(server, f"held?name={name}", glued)
    until(lambda: call_http(server, "/keeper", "held", name))
    return http


def test_connect_waits(everything):
    """Frames that come before the answer are kept until it is given."""
    with held(everything, "patient", frame(TEXT, call_text("kind"))) as http:
        http.send(frame(PING, b"anybody there?"))
        assert call_http(everything, "/echo", "ping") == "pong"  # the others go on
        assert http.buffer == b""
        assert call_http(everything, "/keeper", "let_in", "patient", True)
        assert http.response().status == 101
        http.__class__ = WebSocket
        assert b'"held"' in http.receive_frame().payload
        assert http.receive_frame() == (PONG, b"anybody there?", True)


def test_connect_waits_and_refuses(everything):
    with held(everything, "unlucky", frame(TEXT, call_text("kind"))) as http:
        assert call_http(everything, "/keeper", "let_in", "unlucky", False)
        assert http.response().status == 403
        http.expect_end()


@pytest.mark.parametrize("is_welcome", [True, False])
def test_client_is_gone_before_connect_has_decided(everything, is_welcome):
    """The hook runs to its end; nothing was accepted, so nobody disconnects."""
    name = f"hasty-{is_welcome}"
    http = held(everything, name)
    accepted = everything.metrics()["websockets_opened"]
    http.reset()
    assert call_http(everything, "/keeper", "let_in", name, is_welcome)
    with held(everything, "after-it") as after:  # by now it would have been accepted
        assert everything.metrics()["websockets_opened"] == accepted
        call_http(everything, "/keeper", "let_in", "after-it", False)
        assert after.response().status == 403
    assert not everything.log_lines(rf"left .*who={name}\b")


def test_waiting_handshakes_are_not_idle(serve):
    """However long a connect hook takes, no timeout of the server's strikes."""
    server = serve(["doors", "echo"], "--head-timeout", "150ms", "--idle-timeout", "150ms", "--body-timeout", "150ms")
    with held(server, "long") as http:
        with Http(server) as idle:
            idle.ask(post("/echo", call_text("ping")))
            idle.expect_end()  # this one was timed out, and it is younger
        assert call_http(server, "/keeper", "let_in", "long", True)
        assert http.response().status == 101


# ---- disconnect -----------------------------------------------------------------------------------

def gone(server, name):
    """The log line of the one who left; only one there is."""
    return server.wait_log(rf"gone .*\bwho={name}\b").string


def code_in(line):
    return int(re.search(r"\bcode=(\d+)", line)[1])


def leave_by_close(ws):
    ws.close(4100, "had enough")


def leave_by_reset(ws):
    ws.reset()


def leave_by_dropping(ws):
    ws.drop()


def leave_by_half_close(ws):
    ws.end()
    ws.expect_end()


def leave_by_half_a_frame(ws):
    ws.send(frame(TEXT, call_text("ping"))[:7])
    ws.drop()


def leave_by_protocol_error(ws):
    ws.send(frame(3))
    assert ws.expect_close()[0] == 1002


def leave_by_bad_text(ws):
    ws.send(frame(TEXT, b"\xff"))
    assert ws.expect_close()[0] == 1007


def leave_by_binary(ws):
    ws.send(frame(BINARY, b"\xff"))
    assert ws.expect_close()[0] == 1003


def leave_by_a_handler(ws):
    ws.send_call("bye", 4200, "come again")
    assert ws.expect_close() == (4200, "come again")


LEAVING = {
    "close frame": (leave_by_close, 4100, "had enough"), "reset": (leave_by_reset, 1006, None),
    "end without a close frame": (leave_by_dropping, 1006, None), "half close": (leave_by_half_close, 1006, None),
    "half a frame": (leave_by_half_a_frame, 1006, None), "protocol error": (leave_by_protocol_error, 1002, None),
    "bad text": (leave_by_bad_text, 1007, None), "binary": (leave_by_binary, 1003, None),
    "a handler closes": (leave_by_a_handler, 4200, "come again"),
}


@pytest.mark.parametrize("how", LEAVING)
def test_disconnect_knows_how_it_ended(everything, how):
    leave, code, reason = LEAVING[how]
    name = "leaver-" + how.replace(" ", "-")
    ws = WebSocket(everything, f"/diary?name={name}")
    ws.call("count")
    leave(ws)
    line = gone(everything, name)
    assert code_in(line) == code
    if reason:
        assert reason in line
    assert "path=/diary" in line and "calls=1" in line  # scope and fields are still there
    call_http(everything, "/echo", "ping")
    everything.expect_log(rf"gone .*\bwho={name}\b", 1)
    ws.drop()


def test_disconnect_after_a_ping_timeout(serve):
    server = serve(["diary"], "--ping-interval", "50ms", "--pong-timeout", "50ms")
    with WebSocket(server, "/diary?name=deaf") as ws:
        line = gone(server, "deaf")
        assert code_in(line) == 1006 and "ping timeout" in line
        assert ws.receive_frame().opcode == PING
        ws.expect_cut()


def test_disconnect_of_a_slow_reader(serve):
    server = serve(["diary"], "--output-hard", "1MiB")
    with WebSocket(server, "/diary?name=slow") as ws:
        ws.send_call("flood", 1 << 19, 24)  # none of them is over the limit by itself
        line = gone(server, "slow")
        assert code_in(line) == 1006 and "slow reader" in line
        ws.expect_cut()


def test_disconnect_when_thrown_out_by_another(everything):
    victim, other = WebSocket(everything, "/diary?name=victim"), WebSocket(everything, "/diary?name=other")
    assert other.call("throw_out", "victim", 4300, "not you") is True
    assert victim.expect_close() == (4300, "not you")
    assert code_in(gone(everything, "victim")) == 4300
    with pytest.raises(RpcError):  # nobody of that name is left
        other.call("throw_out", "victim", 4300, "not you")
    other.drop()


def test_disconnect_at_the_end_of_the_server():
    """SIGTERM: each connection gets 1001 and its hook, exactly once; also those that do not answer."""
    with Server(["diary"], "--close-timeout", "200ms") as server:
        polite = [WebSocket(server, f"/diary?name=polite-{i}") for i in range(20)]
        deaf = WebSocket(server, "/diary?name=deaf")
        server.signal(signal.SIGTERM)
        for ws in polite:
            assert ws.expect_close()[0] == 1001
        deaf_close = deaf.receive_frame()
        assert deaf_close.opcode == CLOSE and deaf_close.payload[:2] == close_payload(1001)
        assert server.wait() == 0
        for name in [*(f"polite-{i}" for i in range(20)), "deaf"]:
            lines = server.log_lines(rf"gone .*\bwho={name}\b")
            assert len(lines) == 1 and code_in(lines[0]) == 1001
        deaf.drop()


def test_hooks_are_paired(everything):
    """Many at once, ended in every way: as many gone as came."""
    ways = list(LEAVING.values())
    sockets = [WebSocket(everything, f"/diary?name=crowd-{i}") for i in range(90)]
    for i, ws in enumerate(sockets):
        ways[i % len(ways)][0](ws)
    for i in range(90):
        assert code_in(gone(everything, f"crowd-{i}")) == ways[i % len(ways)][1]
    call_http(everything, "/echo", "ping")
    for i in range(90):
        everything.expect_log(rf"came .*\bwho=crowd-{i}\b", 1)
        everything.expect_log(rf"gone .*\bwho=crowd-{i}\b", 1)
    for ws in sockets:
        ws.drop()


# ---- closing while handlers run -------------------------------------------------------------------

def test_close_inside_a_handler(everything):
    """The close frame is the last frame: neither the handler's answer nor its notification follows."""
    with WebSocket(everything, "/diary?name=insider") as ws:
        ws.send_call("bye", 4000, "now")
        assert ws.expect_close() == (4000, "now")
    assert "heard=false" in everything.wait_log(r"after close .*who=insider").string


@pytest.mark.parametrize("leave", [lambda ws: ws.reset(), lambda ws: ws.drop(), lambda ws: ws.close(1000, "")],
                         ids=["reset", "drop", "close"])
def test_close_while_a_handler_sleeps(everything, leave):
    """It runs to its end, and its answer is dropped. Others do not notice."""
    before = len(everything.log_lines(r"slept .*who=sleeper\b"))
    with WebSocket(everything, "/diary?name=awake") as other:
        ws = WebSocket(everything, "/diary?name=sleeper")
        for _ in range(10):
            ws.send_call("sleep", 0.05)
        leave(ws)
        assert other.call("ping") == "pong"
        line = everything.wait_log(r"slept .*who=sleeper\b", before + 1).string
        assert "heard=false" in line


def test_http_client_leaves_while_its_handler_sleeps(everything):
    for leave in ["reset", "drop"]:
        http = Http(everything)
        http.send(post("/gate", call_text("wait", f"http {leave}")))
        until(lambda: call_http(everything, "/gate", "waiting", f"http {leave}"))
        getattr(http, leave)()
        assert call_http(everything, "/gate", "open", f"http {leave}") == 1
        assert call_http(everything, "/gate", "ping") == "pong"


def test_answers_of_an_old_connection_do_not_reach_a_new_one(everything):
    """A connection's place is used again while a handler of the last one still waits."""
    for i in range(20):
        ws = WebSocket(everything, "/gate")
        ws.send_call("wait", "old", id=f"old {i}")
        ws.call("ping")
        ws.reset()
        with WebSocket(everything, "/gate") as fresh:
            fresh.call("open", "old")
            assert fresh.call("ping") == "pong"  # and not "through old"


def test_half_closed_websocket_is_over(everything):
    with WebSocket(everything, "/gate") as ws:
        ws.send_call("wait", "half closed")
        ws.send_call("ping")
        ws.end()
        rest = ws.rest()
        assert b"through" not in rest
    call_http(everything, "/gate", "open", "half closed")


# ---- calls in flight ------------------------------------------------------------------------------

def test_calls_overlap(everything):
    with WebSocket(everything, "/gate") as ws, WebSocket(everything, "/gate") as other:
        ws.send_call("wait", "overlap", id="slow")
        assert ws.call("ping") == "pong"
        assert other.call("open", "overlap") == 1
        assert ws.answer("slow") == "through overlap"


def test_answers_come_as_handlers_end(everything):
    with WebSocket(everything, "/timers") as ws:
        for seconds in [0.3, 0.1, 0.2, 0]:
            ws.send_call("sleep", seconds, seconds, id=str(seconds))
        assert [ws.receive_json()["result"] for _ in range(4)] == [0, 0.1, 0.2, 0.3]


def test_sixty_four_calls_in_flight(serve):
    """The 65th call is not read until one of the 64 has ended; then everything is answered."""
    server = serve(["gate"])
    with WebSocket(server, "/gate") as ws, WebSocket(server, "/gate") as other:
        for i in range(63):
            ws.send_call("wait", "full", id=i)
        assert ws.call("ping") == "pong"  # 63 wait: there is room for one
        ws.send_call("wait", "full", id=63)
        ws.send_call("ping", id="65th")
        until(lambda: other.call("waiting", "full") == 64)
        for _ in range(20):
            assert other.call("ping") == "pong"  # others are served
        assert server.metrics()["call_pauses"] >= 1
        assert other.call("open", "full", 1) == 1
        # had the 65th been read, its answer would have come first
        assert ws.receive_json() == {"jsonrpc": "2.0", "result": "through full", "id": 0}
        assert ws.receive_json() == {"jsonrpc": "2.0", "result": "pong", "id": "65th"}
        assert other.call("open", "full") == 63
        assert [ws.receive_json()["id"] for _ in range(63)] == list(range(1, 64))
        assert ws.call("ping") == "pong"


def test_many_more_calls_than_may_be_in_flight(serve):
    """500 calls in one write, 8 at a time: all answered, each once."""
    server = serve(["timers"], "--max-calls", "8")
    with WebSocket(server, "/timers") as ws:
        ws.send(b"".join(frame(TEXT, call_text("sleep", 0.001 * (i % 3), i, id=i)) for i in range(500)))
        answers = [ws.receive_json() for _ in range(500)]
        assert sorted(answer["id"] for answer in answers) == list(range(500))
        assert all(answer["id"] == answer["result"] for answer in answers)
        first = [answer["id"] for answer in answers[:100]]
        assert max(first) < 100 + 8 + 8, "far more than 8 were in flight"


def test_close_while_too_many_calls_are_in_flight(everything):
    """A reset is noticed, and a server close works, though nothing is read from the connection."""
    with WebSocket(everything, "/gate") as other:
        ws = WebSocket(everything, "/gate")
        ws.send(b"".join(frame(TEXT, call_text("wait", "crowded", id=i)) for i in range(100)))
        until(lambda: other.call("waiting", "crowded") == 64)
        ws.reset()
        assert other.call("open", "crowded") == 64
        assert other.call("ping") == "pong"
        until(lambda: other.call("open", "crowded") == 0)


def test_connection_full_of_calls_is_not_deaf(serve):
    """While its calls keep it from being read its pongs are not read either: no reason to cut it."""
    server = serve(["gate", "diary"], "--max-calls", "4", "--ping-interval", "100ms", "--pong-timeout", "100ms")
    with WebSocket(server, "/gate") as ws, WebSocket(server, "/diary?name=deaf"):
        for i in range(4):
            ws.send_call("wait", "full", id=i)
        ws.send_call("ping", id="fifth")
        answers = []

        def read():  # answers pings
            try:
                while len(answers) < 5:
                    answers.append(ws.receive_json()["id"])
            except AssertionError as e:
                answers.append(e)

        reader = threading.Thread(target=read)
        reader.start()
        gone(server, "deaf")  # by then a connection that does not answer would have been cut
        server.until(lambda m: m["ping_timeouts"] >= 1)
        for _ in range(20):
            call_http(server, "/gate", "waiting", "full")
        with WebSocket(server, "/diary?name=deaf-too"):
            gone(server, "deaf-too")
        call_http(server, "/gate", "open", "full")
        reader.join()
        assert answers == [0, 1, 2, 3, "fifth"]


def test_http_calls_of_one_connection_wait_for_each_other(everything):
    """One request at a time, however many are pipelined."""
    with Http(everything) as http, WebSocket(everything, "/gate") as other:
        http.send(post("/gate", call_text("wait", "http in flight")) * 3)
        for _ in range(3):
            until(lambda: other.call("waiting", "http in flight") == 1)
            for _ in range(10):
                assert other.call("waiting", "http in flight") == 1
            assert other.call("open", "http in flight") == 1
            assert http.response().json()["result"] == "through http in flight"


def test_strict_ordering(everything):
    """Each call begins when the one before has ended; a batch's members, too."""
    with WebSocket(everything, "/choices/ordered") as ws, WebSocket(everything, "/choices/ordered") as other:
        for i, seconds in enumerate([0.05, 0.02, 0, 0.01]):
            ws.send_call("sleep", seconds, i, id=i)
        ws.send_text("[" + ",".join(call_text("sleep", 0.01 * (3 - i), i, id=i) for i in range(4)) + "]")
        ws.send_call("ping", id="last")
        assert other.call("ping") == "pong"  # of one connection only
        assert [ws.receive_json()["id"] for _ in range(4)] == [0, 1, 2, 3]
        assert [answer["result"] for answer in ws.receive_json()] == [0, 1, 2, 3]
        assert ws.answer("last") == "pong"


# ---- calls to the client --------------------------------------------------------------------------

def ask(ws, *args, id=None):
    """Has the server ask us; returns what it asked."""
    ws.send_call("ask", *args, id=id)
    question = ws.receive_json()
    assert question["method"] == args[0] and isinstance(question["id"], str) and question["jsonrpc"] == "2.0"
    return question


def test_call_to_the_client(everything):
    with WebSocket(everything, "/caller") as ws:
        question = ask(ws, "add", [1, 2], id="mine")
        assert question["params"] == [1, 2]
        assert ws.call("ping") == "pong"  # meanwhile
        ws.send_text(json.dumps({"jsonrpc": "2.0", "result": 3, "id": question["id"]}))
        assert ws.answer("mine") == {"result": 3}
        # the same answer again answers nothing
        ws.send_text(json.dumps({"jsonrpc": "2.0", "result": 4, "id": question["id"]}))
        assert ws.call("ping") == "pong"
        question = ask(ws, "add", {"a": 1}, id="mine")
        ws.send_text(json.dumps({"jsonrpc": "2.0", "error": {"code": 7, "message": "no", "data": [1]}, "id": question["id"]}))
        assert ws.answer("mine") == {"code": 7, "message": "no", "data": [1]}


def test_call_to_a_client_that_does_not_answer(everything):
    with WebSocket(everything, "/caller") as ws:
        question = ask(ws, "add", [1, 2], 0.05, id="mine")
        assert ws.answer("mine")["code"] == -32002
        ws.send_text(json.dumps({"jsonrpc": "2.0", "result": 3, "id": question["id"]}))
        assert ws.call("ping") == "pong"


@pytest.mark.parametrize("leave", ["drop", "reset", "close"])
def test_call_to_a_client_that_leaves(everything, leave):
    """The handler is woken at once, not by its timeout."""
    with WebSocket(everything, f"/caller?name=left-by-{leave}") as ws:
        ask(ws, "add", [1, 2], 3600)
        getattr(ws, leave)()
        line = everything.wait_log(rf"no answer .*who=left-by-{leave}\b").string
        assert "code=-32006" in line


def test_client_cannot_answer_for_another(everything):
    with WebSocket(everything, "/caller") as ws, WebSocket(everything, "/caller") as other:
        question = ask(ws, "add", [], id="mine")
        other.send_text(json.dumps({"jsonrpc": "2.0", "result": "stolen", "id": question["id"]}))
        assert other.call("ping") == "pong"
        ws.send_text(json.dumps({"jsonrpc": "2.0", "result": "own", "id": question["id"]}))
        assert ws.answer("mine") == {"result": "own"}


def test_over_http_there_is_no_client_to_call(everything):
    assert call_http(everything, "/caller", "ask", "add", [])["code"] == -32006


def test_calls_that_wait_for_the_client_do_not_keep_it_from_answering(serve):
    """More than may be in flight otherwise: the answers they wait for come over the same connection."""
    server = serve(["caller"], "--max-calls", "4")
    with WebSocket(server, "/caller") as ws:
        for i in range(12):
            ws.send_call("ask", "add", [i], id=i)
        answers = {}
        while len(answers) < 12:
            message = ws.receive_json()
            if "method" in message:
                ws.send_text(json.dumps({"jsonrpc": "2.0", "result": message["params"][0], "id": message["id"]}))
            else:
                answers[message["id"]] = message["result"]
        assert answers == {i: {"result": i} for i in range(12)}


# ---- waiting --------------------------------------------------------------------------------------

def test_spawn(everything):
    with WebSocket(everything, "/timers") as ws:
        id = ws.send_call("spawn", "beside")
        assert ws.receive_json()["id"] == id  # the answer first
        assert ws.expect("spawned") == ["beside"]


def test_after(everything):
    with WebSocket(everything, "/timers") as ws:
        assert ws.call("after", 0.15, 0.05, 0.1, 0) is True
        assert [ws.expect("after")[0] for _ in range(4)] == [0, 0.05, 0.1, 0.15]


def test_timer_cancelled(everything):
    with WebSocket(everything, "/timers") as ws:
        assert ws.call("cancelled") is True
        assert ws.expect("comes") is None


def test_every_goes_on_after_an_error(everything):
    before = len(everything.log_lines("timer failed"))
    with WebSocket(everything, "/timers") as ws:
        assert ws.call("every", 0.005, 5) is True
        assert [ws.expect("tick")[0] for _ in range(4)] == [1, 3, 4, 5]
        line = everything.wait_log("timer failed", before + 1).string
        assert "the second tick fails" in line
        assert ws.call("ping") == "pong"  # and cancelled: no sixth tick
        assert not ws.inbox


def test_all(everything):
    """Ten waits of one length take the time of one, not of ten."""
    with WebSocket(everything, "/timers") as ws:
        result = ws.call("all", 10, 0.1)
        assert result["squares"] == [i * i for i in range(1, 11)]
        assert 0.9 < result["times"] < 5
        assert ws.call("all", 0, 0.1)["squares"] in ([], {})
        assert ws.call("all_with_error") == \
            {"ok": False, "message": "one of them failed", "waited_for_the_other": True}


def test_await(everything):
    with WebSocket(everything, "/timers") as ws:
        assert ws.call("await_timeout") == {"value": True, "err": "timeout"}
        assert ws.call("await_early") == ["first", 2]
        assert ws.call("own_coroutine") == ["before", "after"]


def test_sleeping_handlers_hold_up_nobody(everything):
    with WebSocket(everything, "/timers") as sleeper, WebSocket(everything, "/timers") as other:
        for i in range(50):
            sleeper.send_call("sleep", 0.5, i, id=i)
        for _ in range(100):
            assert other.call("ping") == "pong"
        sleeper.socket.setblocking(False)
        with pytest.raises(BlockingIOError):  # a hundred calls were answered before the first sleeper woke
            sleeper.socket.recv(1)
        sleeper.socket.settimeout(PATIENCE)
        assert sorted(sleeper.receive_json()["id"] for _ in range(50)) == list(range(50))


# ---- state ----------------------------------------------------------------------------------------

def test_state_of_a_connection(everything):
    with WebSocket(everything, "/diary?name=one") as one, WebSocket(everything, "/diary?name=two") as two:
        for i in range(1, 4):
            assert one.call("count") == {"fields": i, "session": i}
        assert two.call("count") == {"fields": 1, "session": 1}
        assert one.call("count") == {"fields": 4, "session": 4}
    with WebSocket(everything, "/diary?name=one") as again:
        assert again.call("count") == {"fields": 1, "session": 1}


def test_state_of_a_request(everything):
    """Over HTTP an instance lives as long as a request."""
    with Http(everything) as http:
        for _ in range(2):
            http.send(post("/cases", call_text("session_set", "k", "v")))
            assert http.response().json()["result"] is True
            http.send(post("/cases", call_text("session_get", "k")))
            assert http.response().json()["result"] is None


def test_scope_of_a_connection(everything):
    fields = {"Cookie": "a=b", "User-Agent": "tests"}
    with WebSocket(everything, "/echo?x=1", fields) as ws:
        for _ in range(2):  # long after the handshake
            assert ws.call("scope") == {
                "type": "websocket", "path": "/echo", "query": {"x": "1"}, "cookies": {"a": "b"}, "agent": "tests",
                "address": "127.0.0.1", "transport": "websocket"}


# ---- groups and channels --------------------------------------------------------------------------

@pytest.fixture
def lobby(everything):
    """lobby(name): a connection of that name; all are dropped after the test."""
    sockets = []

    def enter(name):
        sockets.append(WebSocket(everything, f"/lobby?name={name}"))
        return sockets[-1]

    yield enter
    for ws in sockets:
        ws.drop()
    everything.until(lambda m: call_http(everything, "/lobby", "count", "everyone") == 0, "leaving the groups")


def heard(ws):
    """The texts told so far: everything that was sent before now."""
    ws.call("count", "everyone")
    texts = [message["params"][0] for message in ws.inbox if message["method"] == "told"]
    ws.inbox.clear()
    return texts


def test_groups(lobby):
    ann, bob, cid = lobby("ann"), lobby("bob"), lobby("cid")
    assert ann.call("groups") == ["everyone", "lobby of ann"]
    ann.call("tell", "everyone", "hello")
    assert [heard(ws) for ws in (ann, bob, cid)] == [["hello"]] * 3
    ann.call("tell", "nobody's group", "hello")
    assert bob.call("join", "a", "b", "a") == [True, True, False]
    assert bob.call("groups") == ["a", "b", "everyone", "lobby of bob"]
    assert cid.call("join", "b") == [True]
    assert [ann.call("count", group) for group in ["a", "b", "c", "everyone"]] == [1, 2, 0, 3]
    ann.call("tell", "b", "only b")
    assert [heard(ws) for ws in (ann, bob, cid)] == [[], ["only b"], ["only b"]]
    assert bob.call("leave", "b") is True and bob.call("leave", "b") is False
    ann.call("tell", "b", "without bob")
    assert [heard(ws) for ws in (ann, bob, cid)] == [[], [], ["without bob"]]


def test_several_groups_once_each(lobby):
    ann, bob, cid = lobby("ann"), lobby("bob"), lobby("cid")
    ann.call("join", "x", "y", "z")
    bob.call("join", "y")
    cid.call("tell", ["x", "y", "z", "everyone", "nobody's"], "once")
    assert [heard(ws) for ws in (ann, bob, cid)] == [["once"]] * 3
    cid.call("tell", ["x", "y"], "again")
    assert [heard(ws) for ws in (ann, bob, cid)] == [["again"], ["again"], []]


@pytest.mark.parametrize("how, deaf", [("ctx", "bob"), ("instance", "bob"), ("channel", "bob"), ("list", "ann bob")])
def test_except(lobby, how, deaf):
    everybody = {name: lobby(name) for name in ["ann", "bob", "cid"]}
    everybody["bob"].call("tell_others", "everyone", "psst", how)
    for name, ws in everybody.items():
        assert heard(ws) == ([] if name in deaf else ["psst"])


def test_members_leave_when_they_disconnect(everything, lobby):
    ann = lobby("ann")
    for leave in [lambda ws: ws.close(), lambda ws: ws.reset(), lambda ws: ws.drop(), lambda ws: (ws.send(frame(3)), ws.expect_close())]:
        bob = lobby("bob")
        bob.call("join", "b")
        assert ann.call("count", "b") == 1 and ann.call("count", "everyone") == 2
        leave(bob)
        everything.until(lambda m: ann.call("count", "everyone") == 1)
        assert ann.call("count", "b") == 0 and ann.call("count", "lobby of bob") == 0
        ann.call("tell", "everyone", "still here?")
        assert heard(ann) == ["still here?"]


def test_channels(everything, lobby):
    ann, bob = lobby("ann"), lobby("bob")
    channels = [ann.call("channel"), bob.call("channel")]
    assert len(set(channels)) == 2 and all(channels)
    assert ann.call("tell_channel", channels[1], "hi bob") is True
    assert ann.call("tell_channel", channels[0], "hi me") is True
    assert (heard(ann), heard(bob)) == (["hi me"], ["hi bob"])
    # from a request, too
    assert call_http(everything, "/lobby", "tell_channel", channels[1], "by HTTP") is True
    assert heard(bob) == ["by HTTP"]
    bob.close()
    assert ann.call("tell_channel", channels[1], "gone") is False
    for nonsense in ["", "x", channels[0] + "0", channels[0][:-1], "é" * 100]:
        assert ann.call("tell_channel", nonsense, "nobody") is False
    # the next connection may get bob's place, but never his name
    for _ in range(3):
        cid = lobby("cid")
        assert cid.call("channel") not in channels
        assert ann.call("tell_channel", channels[1], "not for cid") is False
        assert heard(cid) == []


def test_notifications_come_before_the_answer(lobby):
    ann = lobby("ann")
    id = ann.send_call("tell_me", "psst")
    messages = [ann.receive_json() for _ in range(5)]
    assert [message.get("params") for message in messages[:4]] == [[f"psst {i}"] for i in range(1, 5)]
    assert messages[4] == {"jsonrpc": "2.0", "result": "told", "id": id}


def test_over_http_nobody_hears(everything):
    """A request has no channel; notifying groups works."""
    assert call_http(everything, "/lobby", "channel") is None
    assert call_http(everything, "/lobby", "join", "a") == [False]
    assert call_http(everything, "/lobby", "count", "a") == 0
    with WebSocket(everything, "/lobby?name=ann") as ann:
        call_http(everything, "/lobby", "tell", "everyone", "from HTTP")
        assert ann.expect("told") == ["from HTTP"]


def test_publishes_of_one_arrive_in_order(lobby):
    everybody = [lobby(f"member-{i}") for i in range(5)]
    speaker = everybody[0]
    for i in range(200):
        speaker.send_call("tell", "everyone", i, id=i)
    for ws in everybody[1:]:
        assert [ws.expect("told")[0] for _ in range(200)] == list(range(200))


@pytest.mark.parametrize("name, is_good", [("a", True), ("a" * 200, True), ("é\0😀", True), ("", False), ("a" * 201, False)])
def test_names_of_groups(lobby, name, is_good):
    ann = lobby("ann")
    if is_good:
        assert ann.call("join", name) == [True]
        assert ann.call("count", name) == 1
        ann.call("tell", name, "x")
    else:
        for method, *args in [("join",), ("leave",), ("count",), ("tell", "x")]:
            with pytest.raises(RpcError) as failed:
                ann.call(method, name, *args)
            assert failed.value.code == -32603


def test_many_groups_of_one_connection(lobby):
    ann = lobby("ann")
    names = [f"group {i}" for i in range(2000)]
    assert ann.call("join", *names) == [True] * 2000
    assert len(ann.call("groups")) == 2002
    ann.call("tell", names[:1000], "once")
    assert heard(ann) == ["once"]


def test_publishing_to_those_who_leave(everything):
    """Members come and go, by reset too, while others publish: everyone who stays hears everything."""
    with WebSocket(everything, "/lobby?name=stays") as stays, WebSocket(everything, "/lobby?name=speaks") as speaks:
        for i in range(100):
            ws = WebSocket(everything, f"/lobby?name=guest-{i}")
            speaks.send_call("tell", "everyone", i, id=i)
            ws.reset() if i % 2 else ws.drop()
        assert [stays.expect("told")[0] for _ in range(100)] == list(range(100))


def test_ended_raises_ended(everything):
    """The test's own tools: a cut is told from a close frame."""
    with WebSocket(everything, "/diary?name=tools") as ws:
        ws.send_call("bye", 1000, "")
        with pytest.raises(Closed):
            ws.receive()
        ws.send(frame(CLOSE, close_payload(1000)))
        with pytest.raises(Ended):
            ws.receive()
    assert fetch(everything, post("/echo", call_text("ping"))).status == 200
