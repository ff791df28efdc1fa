"""A process that was stopped for a while, and what drips: who was in time is not punished, who is slow is."""
import signal
import time

import pytest

from server import Server
from wire import PING, PONG, TEXT, Http, WebSocket, call_text, frame, post

SHORT = 0.3


@pytest.fixture(scope="module")
def server():
    flags = [f"--{name}" for name in ("ping-interval", "pong-timeout", "head-timeout", "body-timeout", "idle-timeout")]
    with Server(["echo"], *(word for flag in flags for word in (flag, f"{SHORT}s"))) as one:
        yield one


class Paused:
    """The server does not run within the block; time goes on for longer than any of its limits."""
    LONG = 4 * SHORT
    ended = 0

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        self.server.signal(signal.SIGSTOP)

    def __exit__(self, *_):
        time.sleep(self.LONG)
        self.server.signal(signal.SIGCONT)
        Paused.ended = time.monotonic()


@pytest.fixture(autouse=True)
def _ran_for_as_long_as_it_was_paused():
    """Or another pause would count as load."""
    time.sleep(max(0, Paused.ended + Paused.LONG + SHORT - time.monotonic()))


def test_pong_in_the_socket(server):
    before = server.metrics()["ping_timeouts"]
    with WebSocket(server, "/echo") as ws:
        while ws.receive_frame().opcode != PING:
            pass
        with Paused(server):
            ws.send_frame(PONG)
        assert ws.call("ping") == "pong"
    assert server.metrics()["ping_timeouts"] == before


@pytest.mark.parametrize("at", ["in the head", "in the body", "before the body"])
def test_request_in_the_socket(server, at):
    data = post("/echo", call_text("ping"))
    cut = {"in the head": 20, "in the body": len(data) - 5, "before the body": data.index(b"\r\n\r\n") + 4}[at]
    before = server.metrics()["http_timeouts"]
    with Http(server) as http:
        http.send(data[:cut])
        server.until(lambda m: m["connections"] == 2)
        with Paused(server):
            http.send(data[cut:])
        assert http.response("POST").json()["result"] == "pong"
    assert server.metrics()["http_timeouts"] == before


def test_request_of_an_idle_connection(server):
    data = post("/echo", call_text("ping"))
    with Http(server) as http:
        http.ask(data)
        with Paused(server):
            http.send(data)
        assert http.response("POST").json()["result"] == "pong"


@pytest.mark.parametrize("is_http", [True, False])
def test_what_began_in_the_socket(server, is_http):
    """Its first bytes are read before the loop knows that it was away, and more come afterwards: it has its time."""
    text = call_text("echo", "x" * 1000, id=1)
    data = post("/echo", text) if is_http else frame(TEXT, text)
    with (Http if is_http else WebSocket)(server, *(() if is_http else ("/echo",))) as client, WebSocket(server, "/echo") as other:
        with Paused(server):
            client.send(data[:300])
        for cut in range(300, 700, 50):
            assert other.call("ping") == "pong"
            client.send(data[cut:cut + 50])
        client.send(data[700:])
        assert (client.response("POST").json()["result"] if is_http else client.answer(1)) == "x" * 1000


@pytest.mark.parametrize("at", [20, -5])
def test_pauses_that_follow_each_other(server, at):
    """The second begins before as much time has passed as the first took: what came in both is there."""
    data = post("/echo", call_text("ping"))
    with Http(server) as http:
        http.send(data[:at])
        server.until(lambda m: m["connections"] == 2)
        with Paused(server):
            http.send(data[at:-2])
        server.metrics()
        with Paused(server):
            http.send(data[-2:])
        assert http.response("POST").json()["result"] == "pong"


def test_message_in_the_socket(server):
    data = frame(TEXT, call_text("ping", id=1))
    with WebSocket(server, "/echo") as ws:
        ws.send(data[:10])
        with Paused(server):
            ws.send(data[10:])
        assert ws.answer(1) == "pong"


@pytest.mark.parametrize("start, piece", [
    (frame(TEXT, "x" * 10000, key=bytes(4))[:20], b"x"),               # within a frame
    (frame(TEXT, "x", is_final=False), frame(0, "x", is_final=False)),  # fragments
])
def test_dripping_message_wins_no_time(server, start, piece):
    """Each piece comes in time, but the whole would take for ever."""
    with WebSocket(server, "/echo") as ws:
        ws.send(start)
        ws.socket.settimeout(SHORT / 10)
        for _ in range(1000):
            ws.send_until_cut([piece])
            try:
                if not ws.fill() or b"\x88" in ws.buffer:
                    break
            except AssertionError:  # nothing yet
                continue
        else:
            raise AssertionError("a thousand pieces were waited for")
        ws.socket.settimeout(30)
        assert ws.closing_answer() == (1008, "the message took too long")
