"""Whatever one connection asks for, the others are served meanwhile: time, memory, in every way of asking."""
import contextlib
import json
import socket
import threading
import time

import pytest

from server import PATIENCE, Server
from wire import TEXT, Http, RpcError, WebSocket, call_http, call_text, frame, post, request

PIECES, PIECE_MS = 25, 20  # work that is asked for at once, in pieces that cannot be taken apart
BETWEEN = 4                # pieces that may be done between two answers to somebody else


@pytest.fixture(scope="module")
def fair():
    with Server(["fair"], "--lua-memory", "64MiB") as server:
        yield server


def batch(*calls):
    return "[%s]" % ",".join(calls)


def notification(method, *params):
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": list(params)})


def messages(server):
    ws = WebSocket(server, "/fair")
    ws.send(b"".join(frame(TEXT, call_text("busy", PIECE_MS, id=i)) for i in range(PIECES)))
    return ws


def notifications(server):
    ws = WebSocket(server, "/fair")
    ws.send(b"".join(frame(TEXT, notification("busy", PIECE_MS)) for _ in range(PIECES)))
    return ws


def one_batch(server):
    ws = WebSocket(server, "/fair")
    ws.send_text(batch(*(call_text("busy", PIECE_MS, id=i) for i in range(PIECES))))
    return ws


def in_order(server):
    ws = WebSocket(server, "/fair/strict")
    ws.send(b"".join(frame(TEXT, call_text("busy", PIECE_MS, id=i)) for i in range(PIECES)))
    return ws


def in_order_after_a_wait(server):
    """They wait in the queue of a strictly ordered connection, and their turn comes at once."""
    ws = WebSocket(server, "/fair/strict")
    ws.send(frame(TEXT, call_text("gated", 0, id="first")) +
            b"".join(frame(TEXT, call_text("busy", PIECE_MS, id=i)) for i in range(PIECES - 1)))
    gate(server, 1)
    return ws


def raw_frames(server):
    ws = WebSocket(server, "/fair/raw")
    ws.send(b"".join(frame(TEXT, str(PIECE_MS)) for _ in range(PIECES)))
    return ws


def requests(server):
    http = Http(server)
    http.send(b"".join(post("/fair", call_text("busy", PIECE_MS, id=i)) for i in range(PIECES)))
    return http


def batch_by_post(server):
    http = Http(server)
    http.send(post("/fair", batch(*(call_text("busy", PIECE_MS, id=i) for i in range(PIECES)))))
    return http


def woken_at_once(server):
    ws = WebSocket(server, "/fair")
    for i in range(PIECES):
        ws.send_call("gated", PIECE_MS, id=i)
    gate(server, PIECES)
    return ws


def spawned(server):
    ws = WebSocket(server, "/fair")
    ws.send_call("storm", PIECES, PIECE_MS)
    return ws


def timers(server):
    ws = WebSocket(server, "/fair")
    ws.send_call("timers", PIECES, PIECE_MS)
    return ws


def until_waits(server, n):
    server.until(lambda _: call_http(server, "/fair", "waiting") >= n, f"{n} that wait for the gate")


def gate(server, n):
    until_waits(server, n)
    call_http(server, "/fair", "open")


@pytest.mark.parametrize("ask", [messages, notifications, one_batch, in_order, in_order_after_a_wait, raw_frames, requests,
                                 batch_by_post, woken_at_once, spawned, timers])
def test_others_are_served_between_the_pieces(fair, ask):
    before = fair.metrics()
    with WebSocket(fair, "/fair") as other:
        start = last = other.call("done")
        steps = []
        with contextlib.closing(ask(fair).socket):
            end = time.monotonic() + PATIENCE
            while last < start + PIECES:
                assert time.monotonic() < end, f"{last - start} of {PIECES} were done"
                now = other.call("done")
                steps.append(now - last)
                last = now
        assert max(steps) <= BETWEEN, steps
    after = fair.metrics()
    assert after["turns_cut"] > before["turns_cut"]


def strict(stack, server, *calls):
    """A strictly ordered connection whose calls wait behind one that waits for the gate."""
    ws = stack.enter_context(WebSocket(server, "/fair/strict"))
    ws.send(frame(TEXT, notification("hold")) + b"".join(frame(TEXT, one) for one in calls))
    return ws


def test_many_in_order_get_a_share_together(fair):
    """A piece each, and all come to their turn at once: others wait for one of them, not for all."""
    with contextlib.ExitStack() as stack:
        for _ in range(PIECES):
            strict(stack, fair, call_text("busy", PIECE_MS))
        other = stack.enter_context(WebSocket(fair, "/fair"))
        until_waits(fair, PIECES)
        start = last = other.call("done")
        other.call("open")
        steps = []
        end = time.monotonic() + PATIENCE
        while last < start + PIECES:
            assert time.monotonic() < end, f"{last - start} of {PIECES} were done"
            now = other.call("done")
            steps.append(now - last)
            last = now
        assert max(steps) <= BETWEEN, steps


def test_in_order_nobody_is_overtaken_again_and_again(fair):
    """Who had a share and is put off again comes behind those who are put off and were left by the bound of all."""
    with contextlib.ExitStack() as stack:
        for i in range(3):
            strict(stack, fair, *(call_text("busy", PIECE_MS, id=n) for n in range(PIECES)))
            until_waits(fair, i + 1)
        last = strict(stack, fair, notification("busy", PIECE_MS), call_text("done", id="last"))
        until_waits(fair, 4)
        start = call_http(fair, "/fair", "done")
        call_http(fair, "/fair", "open")
        assert last.answer("last") - start <= 3 * 4 + 1  # each of the four had two pieces, and some were interleaved


def test_nobody_pays_for_the_last_of_another(fair):
    """It is not charged to who comes next: that one's short messages are not put off."""
    with contextlib.ExitStack() as stack:
        long = strict(stack, fair, call_text("busy", 10 * PIECE_MS, id="last"))
        until_waits(fair, 1)
        short = strict(stack, fair, *(call_text("ping", id=i) for i in range(20)))
        until_waits(fair, 2)
        before = fair.metrics()["turns_cut"]
        call_http(fair, "/fair", "open")
        assert long.answer("last") is None
        assert [short.answer(i) for i in range(20)] == ["pong"] * 20
        assert fair.metrics()["turns_cut"] == before


def test_who_waits_for_itself_was_not_cut(fair):
    """Its share is used up, but what is next could not begin anyway."""
    with contextlib.ExitStack() as stack:
        ws = strict(stack, fair, call_text("busy_then_hold", PIECE_MS, id=1), call_text("ping", id=2))
        until_waits(fair, 1)
        before = fair.metrics()["turns_cut"]
        call_http(fair, "/fair", "open")
        gate(fair, 1)
        assert (ws.answer(1), ws.answer(2)) == (None, "pong")
        assert fair.metrics()["turns_cut"] == before


def test_answers_of_a_batch_in_portions_are_whole(fair):
    with WebSocket(fair, "/fair") as ws:
        ws.send_text(batch(*(call_text("busy", 10, id=i) for i in range(12)), notification("busy", 1)))
        assert [one["id"] for one in ws.receive_json()] == list(range(12))
    with Http(fair) as http:
        http.send(b"".join(post("/fair", call_text("busy", 10, id=i)) for i in range(8)))
        assert [http.response("POST").json()["id"] for _ in range(8)] == list(range(8))


def test_who_leaves_in_the_middle_is_forgotten(fair):
    """A batch of a connection that is gone ends; what it had not begun does not run."""
    before = call_http(fair, "/fair", "done")
    ws = WebSocket(fair, "/fair")
    ws.send_text(batch(*(call_text("busy", 50, id=i) for i in range(50))))
    fair.until(lambda _: call_http(fair, "/fair", "done") > before)
    ws.socket.close()
    fair.until(lambda m: m["connections"] == 1)
    at = call_http(fair, "/fair", "done")
    with WebSocket(fair, "/fair") as other:
        for _ in range(20):
            other.call("ping")
    assert call_http(fair, "/fair", "done") <= at + 1 < before + 50


def test_small_work_is_not_put_off(fair):
    with WebSocket(fair, "/fair") as ws:
        ws.call("ping")
        before = fair.metrics()["turns_cut"]
        for i in range(20):
            ws.call("ping")
        assert fair.metrics()["turns_cut"] == before


def test_what_comes_is_not_charged_for_what_was_before_it(fair):
    """The time since the clock was looked at last, in an earlier turn, is not that of two small calls."""
    rounds = 20
    with WebSocket(fair, "/fair") as ws:
        before = fair.metrics()["turns_cut"]
        for i in range(rounds):
            ws.call("busy", PIECE_MS)
            ws.send(frame(TEXT, call_text("ping", id=f"a{i}")) + frame(TEXT, call_text("ping", id=f"b{i}")))
            assert [ws.answer(f"{one}{i}") for one in "ab"] == ["pong", "pong"]
        assert fair.metrics()["turns_cut"] - before < rounds / 2  # the machine may have been slow itself


# ---- how long others wait -------------------------------------------------------------------------

def percentile(times):
    return sorted(times)[int(len(times) * 0.99)]


def pings(server, goes_on):
    times = []
    with WebSocket(server, "/fair") as ws:
        while goes_on(times):
            began = time.perf_counter()
            assert ws.call("ping") == "pong"
            times.append(time.perf_counter() - began)
    return times


def large_array():
    inner = "[" + ",".join(["[]"] * 9000) + "]"
    return call_text("length", *["PLACE"]).replace('"PLACE"', ",".join([inner] * 10))


def flood(server, text, stop):
    """Sends one message again and again as fast as it can be sent; reads what comes."""
    ws = WebSocket(server, "/fair")
    data = frame(TEXT, text)
    data *= max(1, 200000 // len(data))

    def send():
        with contextlib.suppress(OSError):
            while True:
                ws.socket.sendall(data)

    def receive():
        with contextlib.suppress(OSError):
            while ws.socket.recv(1 << 16):
                pass
    both = [threading.Thread(target=one, daemon=True) for one in (send, receive)]
    for one in both:
        one.start()
    stop.wait()
    ws.socket.shutdown(socket.SHUT_RDWR)
    for one in both:
        one.join(PATIENCE)
    ws.socket.close()


def join_many(server, _, stop):
    with WebSocket(server, "/fair") as ws:
        at = 0
        while not stop.is_set() and at < 60000:
            ws.call("join", at, at + 499)
            at += 500


ATTACKS = {
    "large arrays": (flood, large_array()),
    "messages of the largest size": (flood, call_text("length", *["x" * 1000000] * 2)),
    "notifications": (flood, notification("ping")),
    "a thousand calls at once": (flood, call_text("busy", 5)),
    "malformed messages": (flood, '{"jsonrpc":'),
    "many groups": (join_many, call_text("join", 0, 500)),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_how_long_others_wait(fair, name):
    """The 99th percentile stays near what it was: at most the one piece that runs comes before them."""
    attack, text = ATTACKS[name]
    quiet = percentile(pings(fair, lambda times: len(times) < 100))
    with WebSocket(fair, "/fair") as ws:
        began = time.perf_counter()
        ws.send_text(text)
        ws.send_call("ping", id="after")  # the piece is done when this is answered
        while ws.receive_json().get("id") != "after":
            pass
        piece = time.perf_counter() - began
    stop = threading.Event()
    attacker = threading.Thread(target=attack, args=(fair, text, stop), daemon=True)
    attacker.start()
    end = time.monotonic() + 2
    waits = pings(fair, lambda times: len(times) < 20 or time.monotonic() < end)
    stop.set()
    attacker.join(PATIENCE)
    assert percentile(waits) < 5 * quiet + 4 * piece + 0.05, (
        f"{name}: quiet {quiet * 1e3:.1f} ms, a piece {piece * 1e3:.1f} ms, under attack {percentile(waits) * 1e3:.1f} ms")


# ---- memory ---------------------------------------------------------------------------------------

def test_values_of_a_message(fair):
    with WebSocket(fair, "/fair") as ws:
        def count(n):  # in params: the list itself, eleven lists, and the rest in them
            lengths = [9000] * 10 + [n - 12 - 90000]
            inner = ["[" + ",".join(["1"] * length) + "]" for length in lengths]
            ws.send_text('{"jsonrpc":"2.0","method":"waiting","params":[%s],"id":1}' % ",".join(inner))
            return ws.receive_json()["error"]
        before = fair.metrics()["limits_exceeded"]
        assert count(99999)["code"] == count(100000)["code"] == -32602  # it takes no parameters
        assert fair.metrics()["limits_exceeded"] == before
        error = count(100001)
        assert error == {"code": -32001, "message": "Request too large: values over 100000",
                         "data": {"limit": "values", "max": 100000}}
        assert fair.metrics()["limits_exceeded"] == before + 1
        assert ws.call("ping") == "pong"


def holding(values):
    return call_text("hold", [[]] * values)


def test_what_calls_hold_stops_the_reading(fair):
    """64 MiB of Lua memory: one connection's calls may hold 4 MiB. Each of these holds some 400 KiB."""
    before = fair.metrics()["call_pauses"]
    with WebSocket(fair, "/fair") as ws:
        one = frame(TEXT, holding(5000))
        sender = threading.Thread(target=ws.socket.sendall, args=(one * 40,), daemon=True)
        sender.start()
        fair.until(lambda m: m["call_pauses"] > before, "a pause")
        assert 8 <= call_http(fair, "/fair", "waiting") <= 12
        answers = 0
        while answers < 40:
            call_http(fair, "/fair", "open")
            ws.socket.settimeout(0.1)
            with contextlib.suppress(AssertionError):
                ws.receive_json()
                answers += 1
        ws.socket.settimeout(PATIENCE)
        sender.join(PATIENCE)
        assert ws.call("ping") == "pong"


def test_calls_in_flight(fair):
    """64, not one more: the next is read when one has ended."""
    before = fair.metrics()["call_pauses"]
    with WebSocket(fair, "/fair") as ws, WebSocket(fair, "/fair") as other:
        ws.send(b"".join(frame(TEXT, call_text("gated", 0, id=i)) for i in range(63)))
        fair.until(lambda _: other.call("waiting") == 63)
        assert fair.metrics()["call_pauses"] == before
        ws.send(b"".join(frame(TEXT, call_text("gated", 0, id=i)) for i in range(63, 66)))
        fair.until(lambda m: m["call_pauses"] > before)
        for _ in range(10):
            assert other.call("waiting") == 64
        answers = set()
        while len(answers) < 66:
            other.call("open")
            if other.call("waiting") == 0 or ws.buffer:
                answers.add(ws.receive_json()["id"])


def test_errors_are_counted(fair):
    with WebSocket(fair, "/fair") as ws:
        before = fair.metrics()
        ws.call("ping")
        assert fair.metrics()["call_errors"] == before["call_errors"]
        with pytest.raises(RpcError):
            ws.call("nothing")
        assert fair.metrics()["call_errors"] == before["call_errors"] + 1
    refused = fair.metrics()["http_refused"]
    with Http(fair) as http:
        assert http.ask(request("GET", "/nothing/here")).status == 404
    assert fair.metrics()["http_refused"] == refused + 1


def test_long_messages_are_refused_while_memory_is_held(fair):
    """All connections' calls may hold 16 MiB; then long messages are refused, short ones are not."""
    before = fair.metrics()["calls_refused"]
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(WebSocket(fair, "/fair")) for _ in range(6)]
        for ws in holders:
            for i in range(8):
                ws.send_text(holding(5000))
        fair.until(lambda _: call_http(fair, "/fair", "waiting") >= 40, "what is held")
        with WebSocket(fair, "/fair") as ws:
            long = "x" * 20000
            with pytest.raises(RpcError) as refused:
                ws.call("length", long)
            assert (refused.value.code, refused.value.message) == (
                -32006, "Unavailable: calls in flight hold too much memory, try again later")
            ws.send_text(batch(call_text("length", long)))
            assert ws.receive_json()["error"]["code"] == -32006
            ws.send_text(notification("busy", long))  # has no answer
            assert ws.call("length", "x" * 15000) == 15000
            ws.send_text('{"jsonrpc":"2.0","result":"%s","id":"nobodys"}' % long)  # an answer is none
            assert ws.call("ping") == "pong"
            with Http(fair) as http:
                assert http.ask(post("/fair", call_text("length", long))).json()["error"]["code"] == -32006
            call_http(fair, "/fair", "open")
            fair.until(lambda _: call_http(fair, "/fair", "open") == 0 and call_http(fair, "/fair", "waiting") == 0)
            assert ws.call("length", long) == len(long)
    assert fair.metrics()["calls_refused"] >= before + 4


HALF_A_MEGABYTE = b"x" * (512 * 1024)


@contextlib.contextmanager
def much_is_held(server, n):
    """So many requests of plain HTTP of 512 KiB each wait for the gate."""
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(Http(server)) for _ in range(n)]
        for http in holders:
            http.send(request("POST", "/fair/plain?hold=1", (("Content-Type", "text/plain"),), HALF_A_MEGABYTE))
        until_waits(server, n)
        yield
        call_http(server, "/fair", "open")
        for http in holders:
            assert http.response("POST").body == b"524288"


def text_of_weight(weight):
    """A call of `length` that weighs so much: its bytes and 80 for each of its 6 values."""
    bare = len(call_text("length", ""))
    return call_text("length", "x" * (weight - bare - 6 * 80))


def answer_to(ws, text):
    ws.send_text(text)
    answer = ws.receive_json()
    return answer["error"]["code"] if "error" in answer else "answered"


def test_what_weighs_much_is_refused_while_memory_is_held(fair):
    """64 MiB: over a quarter held refuses what weighs over 16 KiB, over half what weighs over 1 KiB."""
    with WebSocket(fair, "/fair") as ws:
        empty = call_text("ping", *[[]] * 1000)  # 3 KB that weigh 83
        before = fair.metrics()["calls_refused"]
        with much_is_held(fair, 32):  # 16 MiB, no more
            assert answer_to(ws, text_of_weight(16385)) == "answered"
        with much_is_held(fair, 33):
            assert [answer_to(ws, text_of_weight(n)) for n in (16383, 16384, 16385)] == ["answered", "answered", -32006]
            assert answer_to(ws, empty) == -32006
        assert fair.metrics()["calls_refused"] == before + 2
        assert answer_to(ws, empty) == -32602  # it takes no parameters


def test_little_is_answered_while_most_memory_is_held(fair):
    with contextlib.ExitStack() as stack:
        stack.enter_context(much_is_held(fair, 32))
        before = fair.metrics()["calls_refused"]
        for _ in range(20):  # 15 KiB each: up to half
            ws = stack.enter_context(WebSocket(fair, "/fair"))
            ws.send(b"".join(frame(TEXT, call_text("hold", "x" * 15000)) for _ in range(64)))
        fair.until(lambda m: m["calls_refused"] > before, "the first that is refused")
        with WebSocket(fair, "/fair") as ws:
            assert [answer_to(ws, text_of_weight(n)) for n in (1023, 1024, 1025)] == ["answered", "answered", -32006]


def test_what_has_no_answer_is_turned_away_while_memory_is_held(fair):
    why = (1013, "what is in flight holds too much memory")
    before = fair.metrics()["calls_refused"]
    with much_is_held(fair, 33):
        with WebSocket(fair, "/fair/raw") as ws:
            ws.send_frame(TEXT, b"x" * 16385)
            assert ws.closing_answer() == why
        with WebSocket(fair, "/fair/both") as ws:  # what is no JSON goes to receive there
            ws.send_text("x" * 16384)
            assert ws.receive_frame().payload == b"received 16384"
            ws.send_text("x" * 16385)
            assert ws.closing_answer() == why
        for n, status in ((16384, 200), (16385, 503)):
            with Http(fair) as http:
                assert http.ask(request("POST", "/fair/plain", (("Content-Type", "text/plain"),), b"x" * n)).status == status
    assert fair.metrics()["calls_refused"] == before + 3


@pytest.mark.parametrize("is_left", [False, True])
def test_what_was_held_is_let_go(fair, is_left):
    """To the byte, also when the client has left meanwhile: a quarter is held afterwards, and no more."""
    plain = request("POST", "/fair/plain?hold=1", (("Content-Type", "text/plain"),), HALF_A_MEGABYTE)
    ways = [("/fair", frame(TEXT, call_text("hold", "x" * 100000))), ("/fair/raw", frame(TEXT, HALF_A_MEGABYTE)),
            ("/fair", frame(TEXT, batch(*[call_text("hold", "x" * 10000)] * 3))), ("/fair/both", frame(TEXT, "hold" * 10000)),
            (None, plain), (None, post("/fair", call_text("hold", "x" * 100000))),
            (None, post("/fair", batch(*[call_text("hold", [1] * 1000)] * 3)))]
    with contextlib.ExitStack() as stack:
        for path, data in ways:
            client = stack.enter_context(WebSocket(fair, path) if path else Http(fair))
            client.send(data)
        until_waits(fair, len(ways) + 2 * 2)
        if is_left:
            stack.close()
            n_requests = sum(path is None for path, _ in ways)  # whose client may still wait for the answer
            fair.until(lambda m: m["connections"] == 1 + n_requests, "the end of the others")
        call_http(fair, "/fair", "open")
        with much_is_held(fair, 32), WebSocket(fair, "/fair") as ws:
            assert answer_to(ws, text_of_weight(16385)) == "answered"


def test_what_receive_gets_weighs_no_more_than_its_bytes(fair):
    """Also where JSON is expected: what looks like many values is none."""
    text = "hold" + "," * (4096 * 1024 // 80)  # would weigh 4 MiB as JSON
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(WebSocket(fair, "/fair/both")) for _ in range(6)]
        for ws in sockets:
            ws.send_text(text)
        until_waits(fair, len(sockets))
        with WebSocket(fair, "/fair") as ws:
            assert answer_to(ws, text_of_weight(20000)) == "answered"
        call_http(fair, "/fair", "open")
        for ws in sockets:
            assert ws.receive_frame().payload == b"received %d" % len(text)


def test_what_receive_holds_stops_the_reading(fair):
    """A sixteenth, 4 MiB, as for calls: eight of 512 KiB are that, the ninth is the last that is read."""
    before = fair.metrics()["call_pauses"]
    with WebSocket(fair, "/fair/raw") as ws:
        sender = threading.Thread(target=ws.socket.sendall, args=(frame(TEXT, HALF_A_MEGABYTE) * 12,), daemon=True)
        sender.start()
        fair.until(lambda m: m["call_pauses"] > before, "a pause")
        for _ in range(10):
            assert call_http(fair, "/fair", "waiting") == 9
        received = 0
        while received < 12:
            call_http(fair, "/fair", "open")
            ws.socket.settimeout(0.1)
            with contextlib.suppress(AssertionError):
                assert ws.receive_frame().payload == b"received"
                received += 1
        sender.join(PATIENCE)
