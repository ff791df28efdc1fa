"""WebSocket: RFC 6455 as a stranger would test it, and the limits of api.md section 9."""
import asyncio
import random
import struct
import threading

import pytest
import websockets

import library
from server import PATIENCE, Server, growth_below
from wire import (BINARY, CLOSE, PING, PONG, TEXT, Closed, Ended, Http, WebSocket, call_http, call_text, chunked, close_payload, frame,
                  frame_head, handshake, mask, request)


def opening(server, data):
    with Http(server) as http:
        http.send(data)
        return http.response()


# ---- the handshake --------------------------------------------------------------------------------

def test_handshake(everything):
    with Http(everything) as http:
        response = http.ask(handshake("/echo"))
        assert (response.status, response.reason) == (101, "Switching Protocols")
        # the example of RFC 6455 section 1.3
        assert response["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert response["Sec-WebSocket-Protocol"] is None and response["Sec-WebSocket-Extensions"] is None
        assert response["Content-Length"] is None and response["Transfer-Encoding"] is None


@pytest.mark.parametrize("fields", [
    {"connection": "keep-alive, Upgrade"}, {"connection": "upgrade"}, {"upgrade": "WebSocket"}, {"upgrade": "h2c, websocket"},
    {"connection": "Upgrade\t"},
], ids=str)
def test_handshake_written_otherwise(everything, fields):
    assert opening(everything, handshake("/echo", **fields)).status == 101


@pytest.mark.parametrize("status, fields", [
    (426, {"version": "8"}), (426, {"version": "12"}), (426, {"version": "14"}), (426, {"version": None}), (426, {"version": "13, 8"}),
    (426, {"version": ""}),
    (400, {"key": None}), (400, {"key": ""}), (400, {"key": "short"}), (400, {"key": "dGhlIHNhbXBsZSBub25jZQ"}),
    (400, {"key": "dGhlIHNhbXBsZSBub25jZSE="}), (400, {"key": "dGhlIHNhbXBs*SBub25jZQ=="}), (400, {"key": "dGhlIHNhbXBsZSBub25jZQ==x"}),
    (400, {"method": "POST"}), (400, {"method": "PUT"}), (400, {"http": "1.0"}),
    (405, {"upgrade": None}), (405, {"connection": None}), (405, {"connection": "close"}), (405, {"upgrade": "h2c"}),
    (405, {"upgrade": "websocketx"}),
], ids=str)
def test_handshake_refused(everything, status, fields):
    with Http(everything) as http:
        http.send(handshake("/echo", **fields) + frame(TEXT, call_text("mark")))
        response = http.response()
        assert response.status == status, response
        if status == 426:
            assert response["Sec-WebSocket-Version"] == "13"
        http.expect_end()
    assert call_http(everything, "/echo", "marks") == 0


@pytest.mark.parametrize("name, value", [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")])
def test_handshake_field_twice(everything, name, value):
    assert opening(everything, handshake("/echo", [(name, value)])).status in (400, 426)


@pytest.mark.parametrize("path", ["/nowhere", "/", "/echo/", "/echo/x", "/pages/", "/-/health"])
def test_handshake_elsewhere(everything, path):
    assert opening(everything, handshake(path)).status == 404 if path not in ("/pages/", "/-/health") \
        else opening(everything, handshake(path)).status != 101


def test_handshake_from_another_origin(everything):
    assert opening(everything, handshake("/echo", [("Origin", "http://evil.example")])).status == 403
    assert opening(everything, handshake("/echo", [("Origin", "http://127.0.0.1")])).status == 101


@pytest.mark.parametrize("offered, chosen", [
    ([], None), (["jsonrpc.v1"], "jsonrpc.v1"), (["jsonrpc.v1", "jsonrpc.v2"], "jsonrpc.v2"), (["other", "jsonrpc.v1"], "jsonrpc.v1"),
    (["other"], None), (["JSONRPC.V2"], None), (["jsonrpc.v2x"], None)])
def test_subprotocol(everything, offered, chosen):
    """The first of ours that the client offers too, in one field or in several."""
    for fields in [[("Sec-WebSocket-Protocol", ", ".join(offered))] if offered else [],
                   [("Sec-WebSocket-Protocol", name) for name in offered]]:
        response = opening(everything, handshake("/echo/speaker", fields))
        assert response.status == 101
        assert response["Sec-WebSocket-Protocol"] == chosen


def test_handshake_in_pieces(everything):
    data = handshake("/echo") + frame(TEXT, call_text("ping"))
    with WebSocket(everything, "/echo") as other, Http(everything) as http:
        for i in range(len(data)):
            http.send(data[i:i + 1])
            if i % 16 == 0:
                other.call("ping")  # by then the byte was read
        assert http.response().status == 101
        assert b"pong" in http.take(2 + len('{"jsonrpc":"2.0","result":"pong","id":1}'))


def test_first_frames_glued_to_the_handshake(everything):
    glued = frame(TEXT, call_text("ping", id=1)) + frame(PING, b"x") + frame(TEXT, call_text("echo", "a" * 300, id=2))
    with WebSocket(everything, "/echo", glued=glued) as ws:
        assert ws.receive_json()["id"] == 1
        assert ws.receive_frame() == (PONG, b"x", True)
        assert ws.receive_json()["id"] == 2


def test_half_a_frame_glued_to_the_handshake(everything):
    data = frame(TEXT, call_text("ping"))
    for cut in range(len(data)):
        with WebSocket(everything, "/echo", glued=data[:cut]) as ws:
            ws.send(data[cut:])
            assert ws.receive_json()["result"] == "pong"


def test_handshake_after_requests(everything):
    """On one connection: a call, then a handshake pipelined behind a slow call, and a frame behind that."""
    with Http(everything) as http:
        http.send(request("GET", "/pages/") + handshake("/echo") + frame(TEXT, call_text("ping")))
        assert http.response().status == 200
        assert http.response().status == 101
        assert b"pong" in http.take(42)


# ---- messages -------------------------------------------------------------------------------------

LENGTHS = [0, 1, 2, 124, 125, 126, 127, 128, 1000, 65534, 65535, 65536, 65537, 99999, 100000]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_messages_of_all_lengths(everything, opcode):
    pick = random.Random(opcode)
    with WebSocket(everything, "/frames/raw") as ws:
        for n in LENGTHS:
            content = bytes(pick.choices(range(32, 127) if opcode == TEXT else range(256), k=n))
            ws.send_frame(opcode, content)
            answer = ws.receive()
            assert answer == (content.decode() if opcode == TEXT else content)


def test_masks(everything):
    """All ones, all zeros, and one that turns the text into nonsense."""
    with WebSocket(everything, "/frames/raw") as ws:
        for key in [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04", b"abcd", b"\x80\0\0\0"]:
            for n in range(20):
                text = "aé€😀"[:n % 5] + "x" * n
                ws.send_frame(TEXT, text, key=key)
                assert ws.receive() == text


def test_frames_cut_at_every_byte(everything):
    """Two messages, a ping between: each cut at each place, and the first part read before the second comes."""
    text = call_text("echo", "é😀" * 30, id=1)
    data = frame(TEXT, text) + frame(PING, b"between") + frame(TEXT, call_text("ping", id=2))
    with WebSocket(everything, "/echo") as ws, WebSocket(everything, "/echo") as other:
        for cut in range(1, len(data)):
            ws.send(data[:cut])
            other.call("ping")
            ws.send(data[cut:])
            assert ws.receive_json()["result"] == "é😀" * 30
            assert ws.receive_frame() == (PONG, b"between", True)
            assert ws.receive_json()["result"] == "pong"


def test_frames_byte_by_byte(everything):
    data = frame(TEXT, call_text("echo", "é😀" * 40)) + frame(TEXT, "é" * 70000)[:200]
    with WebSocket(everything, "/echo") as ws, WebSocket(everything, "/echo") as other:
        for i in range(len(data)):
            ws.send(data[i:i + 1])
            if i % 8 == 0:
                other.call("ping")
        assert ws.receive_json()["result"] == "é😀" * 40


def test_many_frames_in_one_write(everything):
    with WebSocket(everything, "/echo") as ws:
        ws.send(b"".join(frame(TEXT, call_text("echo", i, id=i)) for i in range(2000)))
        for i in range(2000):
            assert ws.receive_json() == {"jsonrpc": "2.0", "result": i, "id": i}


def test_frames_cut_at_random(everything):
    pick = random.Random(3)
    data = b"".join(frame(TEXT, call_text("echo", "x" * pick.choice([0, 5, 200, 5000]), id=i)) + frame(PING, b"p" * pick.randrange(126))
                    for i in range(50))
    for _ in range(5):
        cuts = sorted(pick.sample(range(len(data)), 40))
        with WebSocket(everything, "/echo") as ws:
            ws.send(*[data[a:b] for a, b in zip([0] + cuts, cuts + [len(data)])])
            seen = []
            while len(seen) < 50:
                one = ws.receive_frame()
                if one.opcode == TEXT:
                    seen.append(one)
            assert ws.call("ping") == "pong"


# ---- fragments ------------------------------------------------------------------------------------

def fragments(payload, *sizes, opcode=TEXT, between=b""):
    """A message in fragments of these sizes and one with the rest."""
    out, at = [], 0
    for i, n in enumerate(sizes):
        out.append(frame(0 if i else opcode, payload[at:at + n], is_final=False) + between)
        at += n
    return b"".join(out) + frame(0 if sizes else opcode, payload[at:])


def test_fragments(everything):
    text = "aé€😀" * 50
    payload = text.encode()
    with WebSocket(everything, "/frames/raw") as ws:
        for sizes in [(1,), (0,), (0, 0, 0), (len(payload),), (1, 1, 1, 1), tuple([1] * len(payload)), (3, 0, 7, 100)]:
            ws.send(fragments(payload, *sizes))  # also in the middle of a character
            assert ws.receive() == text
        ws.send(fragments(bytes(range(256)) * 300, 5, 70000, opcode=BINARY))
        assert ws.receive() == bytes(range(256)) * 300


def test_pings_between_fragments(everything):
    with WebSocket(everything, "/frames/raw") as ws:
        ws.send(fragments(b"hello, world", 1, 3, 0, 2, between=frame(PING, b"ping") + frame(PONG, b"unasked")))
        for _ in range(4):
            assert ws.receive_frame() == (PONG, b"ping", True)
        assert ws.receive() == "hello, world"


def test_close_between_fragments(everything):
    with WebSocket(everything, "/echo") as ws:
        ws.send(frame(TEXT, b'{"a', is_final=False))
        assert ws.close(1000, "enough") == (1000, "")


# ---- pings ----------------------------------------------------------------------------------------

def test_pings(everything):
    with WebSocket(everything, "/echo") as ws:
        for payload in [b"", b"x", bytes(range(125)), b"\xff" * 125]:
            ws.send_frame(PING, payload)
            assert ws.receive_frame() == (PONG, payload, True)
        for payload in [b"", b"nobody asked", b"\xff" * 125]:
            ws.send_frame(PONG, payload)
        assert ws.call("ping") == "pong"


@pytest.fixture(scope="module")
def nervous():
    """A server that pings soon and waits shortly."""
    with Server(["echo", "diary", "frames"], "--ping-interval", "100ms", "--pong-timeout", "300ms", "--close-timeout", "200ms") as one:
        yield one


def test_server_pings_and_cuts_the_deaf(nervous):
    """The one that answers stays, however long the deaf one takes to be cut."""
    with WebSocket(nervous, "/diary?name=deaf") as deaf, WebSocket(nervous, "/echo") as living:
        while not nervous.log_lines(r"gone .*\bwho=deaf\b"):
            ping = living.receive_frame()
            assert ping.opcode == PING
            living.send_frame(PONG, ping.payload)
        assert living.call("ping") == "pong"
        assert "code=1006" in nervous.wait_log(r"gone .*\bwho=deaf\b").string
        assert nervous.metrics()["ping_timeouts"] >= 1
        assert deaf.receive_frame().opcode == PING
        deaf.expect_cut()


def test_who_reads_gets_what_is_before_the_close_frame(nervous):
    """Though it takes many times the time for an answer to that. It is more than the kernel would send by itself."""
    n, each = 100, "x" * 60000
    with WebSocket(nervous, "/frames/raw", receive_buffer=4096) as ws, WebSocket(nervous, "/echo") as clock:
        everything = frame(TEXT, each) * n + frame(TEXT, "bye")
        sender = threading.Thread(target=ws.socket.sendall, args=(everything,), daemon=True)
        sender.start()
        received = 0
        while received < n:
            clock.call("sleep", 0.03)
            one = ws.receive_frame()
            received += one.opcode == TEXT and len(one.payload) == len(each)
        assert ws.closing_answer() == (4000, "as you wish")
        sender.join()


def test_any_sign_of_life_will_do(nervous):
    """Data instead of a pong: RFC 6455 asks for the pong, but nobody is cut who obviously lives."""
    with WebSocket(nervous, "/diary?name=mute") as _, WebSocket(nervous, "/echo") as ws:
        while not nervous.log_lines(r"gone .*\bwho=mute\b"):  # the mute one is as old
            if ws.receive_frame().opcode == PING:
                ws.send_notification("still here")
        assert ws.call("ping") == "pong"


def test_no_ping_for_who_speaks(nervous):
    """Only silence is asked about: in a steady conversation no ping comes."""
    with WebSocket(nervous, "/echo") as talker, WebSocket(nervous, "/echo") as silent:
        pings = 0
        while silent.buffer == b"":  # until the silent one, of the same age, was asked
            talker.send_call("ping")
            one = talker.receive_frame()
            pings += one.opcode == PING
            silent.socket.setblocking(False)
            try:
                silent.buffer += silent.socket.recv(100)
            except BlockingIOError:
                pass
        assert pings == 0


# ---- breaking the rules ---------------------------------------------------------------------------

BROKEN = {
    "not masked": (1002, frame(TEXT, "hi", is_masked=False)),
    "ping not masked": (1002, frame(PING, b"hi", is_masked=False)),
    **{f"reserved bits {bits}": (1002, frame(TEXT, "hi", reserved=bits)) for bits in range(1, 8)},
    "reserved bit on a ping": (1002, frame(PING, b"hi", reserved=4)),
    **{f"opcode {opcode}": (1002, frame(opcode, b"hi")) for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]},
    "continuation of nothing": (1002, frame(0, b"hi")),
    "continuation of nothing, not final": (1002, frame(0, b"hi", is_final=False)),
    "continuation after a whole message": (1002, frame(TEXT, b'{"jsonrpc":"2.0",', is_final=False)
                                         + frame(0, b'"method":"nobody"}') + frame(0, b"x")),
    "text inside a message": (1002, frame(TEXT, "a", is_final=False) + frame(TEXT, "b")),
    "binary inside a message": (1002, frame(TEXT, "a", is_final=False) + frame(BINARY, b"b")),
    "fragmented ping": (1002, frame(PING, b"a", is_final=False)),
    "fragmented close": (1002, frame(CLOSE, close_payload(1000), is_final=False)),
    "ping of 126 bytes": (1002, frame(PING, b"a" * 126)),
    "pong of 126 bytes": (1002, frame(PONG, b"a" * 126)),
    "close of 126 bytes": (1002, frame(CLOSE, close_payload(1000, b"a" * 124))),
    "ping of 0 bytes in 16 bits": (1002, frame(PING, b"", form=16)),
    "16 bits for 125": (1002, frame(TEXT, b"a" * 125, form=16)),
    "64 bits for 125": (1002, frame(TEXT, b"a" * 125, form=64)),
    "64 bits for 65535": (1002, frame(TEXT, b"a" * 65535, form=64)),
    "length with its highest bit": (1002, frame_head(TEXT, 1 << 63, key=b"abcd")),
    "length of 2^64 - 1": (1002, frame_head(BINARY, (1 << 64) - 1, key=b"abcd")),
    "close of one byte": (1002, frame(CLOSE, b"\x03")),
    **{f"close {code}": (1002, frame(CLOSE, close_payload(code)))
       for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]},
    "close reason not UTF-8": (1007, frame(CLOSE, close_payload(1000, b"\xff\xfe"))),
    **{f"text {text!r}": (1007, frame(TEXT, text)) for text in [
        b"\xff", b"\xc0\xaf", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"a\x80", b"\xc3",
        b"\xe2\x82", b"\xf0\x9f\x98", b'{"a":"\xfe"}', b"x" * 200 + b"\xc3"]},
    "text cut in a character": (1007, frame(TEXT, b"\xf0\x9f", is_final=False) + frame(0, b"\x98")),
    "not UTF-8 in a first fragment": (1007, frame(TEXT, b"abc\xff", is_final=False)),
    "not UTF-8 across fragments": (1007, frame(TEXT, b"\xf0", is_final=False) + frame(0, b"A", is_final=False)),
    "binary without receive": (1003, frame(BINARY, b"\0\1\2")),
    "fragmented binary without receive": (1003, frame(BINARY, b"\0", is_final=False) + frame(0, b"\1")),
    "2 GiB": (1009, frame_head(TEXT, 1 << 31, key=b"abcd")),
    "2 MiB and a byte": (1009, frame_head(TEXT, (2 << 20) + 1, key=b"abcd")),
    "2^62": (1009, frame_head(BINARY, 1 << 62, key=b"abcd")),
    "2 MiB and a byte in fragments": (1009, frame(TEXT, b" " * (1 << 20), is_final=False) + frame(0, b" " * (1 << 20), is_final=False)
                                      + frame_head(0, 1, key=b"abcd")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(everything, name):
    """The close frame has the code and a reason; nothing that follows is looked at."""
    code, data = BROKEN[name]
    before = len(data) > 100000
    with WebSocket(everything, "/echo") as ws:
        ws.send_until_cut([data if before else data + frame(TEXT, call_text("mark"))])
        closed = ws.expect_close()
        assert closed[0] == code, closed
        assert closed[1], "no reason"
    assert call_http(everything, "/echo", "marks") == 0


@pytest.mark.parametrize("name", [name for name in BROKEN if BROKEN[name][0] == 1002][::4])
def test_broken_after_a_good_message(everything, name):
    """Answers that are due go out before the close frame."""
    with WebSocket(everything, "/echo") as ws:
        ws.send(frame(TEXT, call_text("ping")) + BROKEN[name][1])
        assert ws.receive_json()["result"] == "pong"
        assert ws.expect_close()[0] == 1002


def test_broken_is_counted(serve):
    server = serve(["echo"])
    with WebSocket(server, "/echo") as ws:
        ws.send(frame(3, b""))
        ws.expect_close()
    assert server.metrics()["websocket_failures"] == 1


# ---- limits ---------------------------------------------------------------------------------------

def test_message_limit_of_a_consumer(everything):
    with WebSocket(everything, "/echo/small") as ws:
        ws.send_text(call_text("ping") + " " * (300 - len(call_text("ping"))))
        assert ws.receive_json()["result"] == "pong"
        ws.send(fragments((call_text("ping") + " " * (300 - len(call_text("ping")))).encode(), 100, 100))
        assert ws.receive_json()["result"] == "pong"
        ws.send(frame_head(TEXT, 301, key=b"abcd"))
        assert ws.expect_close()[0] == 1009


def test_message_of_2_mib(everything):
    text = call_text("length", "a" * (1 << 20))
    with WebSocket(everything, "/echo") as ws:
        ws.send_text(text + " " * ((2 << 20) - len(text)))
        assert ws.receive_json()["result"] == 1 << 20


def test_announcing_much_costs_nothing(serve):
    server = serve(["frames"], lean=True)
    with WebSocket(server, "/frames") as ws:
        ws.call("ping")
        with growth_below(server, 4_000_000, "announced 2 GiB"):
            for _ in range(10):
                with WebSocket(server, "/frames") as one:
                    one.send(frame_head(BINARY, 1 << 31, key=b"abcd"))
                    assert one.expect_close()[0] == 1009
        # announcing what is allowed, and sending one byte of it, costs next to nothing too
        with growth_below(server, 8_000_000, "announced 2 MiB, thirty times"):
            many = [WebSocket(server, "/frames") for _ in range(30)]
            for one in many:
                one.send(frame_head(TEXT, 2 << 20, key=b"abcd") + b"a")
            ws.call("ping")
            for one in many:
                one.drop()
        assert ws.call("ping") == "pong"


@pytest.mark.parametrize("name, piece", [
    ("one-byte fragments", frame(0, b"a", is_final=False, key=b"\0\0\0\0")),
    ("empty fragments", frame(0, b"", is_final=False, key=b"\0\0\0\0")),
    ("one-byte fragments with pings", frame(0, b"a", is_final=False, key=b"\0\0\0\0") + frame(PING, b"", key=b"\0\0\0\0")),
])
def test_flood_of_fragments(serve, name, piece):
    server = serve(["echo"], lean=True)
    with WebSocket(server, "/echo") as ws, WebSocket(server, "/echo") as other:
        other.call("ping")
        with growth_below(server, 8_000_000, name):
            block = piece * (100_000 // len(piece))
            taken = ws.send_until_cut([frame(TEXT, b"", is_final=False)] + [block] * 500)
            with pytest.raises((Closed, Ended)) as end:
                while True:
                    ws.receive()
            if end.type is Closed:
                assert end.value.code == 1009
            assert other.call("ping") == "pong"
        assert taken < 50_000_000


def test_fragments_up_to_the_limit(serve):
    server = serve(["frames"], "--max-fragments", "10")
    with WebSocket(server, "/frames/raw") as ws:
        ws.send(fragments(b"a" * 10, *[1] * 9))
        assert ws.receive() == "a" * 10
        ws.send(fragments(b"a" * 11, *[1] * 10))
        assert ws.expect_close()[0] == 1009


@pytest.mark.parametrize("size", [0, 125])
def test_flood_of_pings_nobody_reads(serve, size):
    """Pongs do not pile up, and the newest ping is answered in the end."""
    server = serve(["echo"], lean=True)
    one = frame(PING, b"x" * size, key=b"\0\0\0\0")
    with WebSocket(server, "/echo", receive_buffer=4096) as ws, WebSocket(server, "/echo") as other:
        other.call("ping")
        with growth_below(server, 8_000_000, "30 MB of pings"):
            block = one * (100_000 // len(one))
            for i in range(300):
                ws.send(block)
                if i % 50 == 0:
                    assert other.call("ping") == "pong"
            ws.send_frame(PING, b"the newest")
            assert other.call("ping") == "pong"
        while (pong := ws.receive_frame()).payload != b"the newest":
            assert pong.opcode == PONG
        assert ws.call("ping") == "pong"
        assert server.metrics()["pings_dropped"] > 0


# ---- closing --------------------------------------------------------------------------------------

VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]


@pytest.mark.parametrize("code", VALID)
def test_close_code_of_the_client(everything, code):
    """Echoed, and told to the app as given."""
    name = f"leaver-{code}"
    with WebSocket(everything, f"/diary?name={name}") as ws:
        assert ws.close(code, "ünterwegs")[0] == code
    line = everything.wait_log(rf"gone .*\bwho={name}\b").string
    assert f"code={code} " in line + " " and "why=ünterwegs" in line


def test_close_without_a_code(everything):
    with WebSocket(everything, "/diary?name=codeless") as ws:
        assert ws.close(None) == (None, "")
    assert "code=1005" in everything.wait_log(r"gone .*\bwho=codeless\b").string


def test_close_with_the_longest_reason(everything):
    with WebSocket(everything, "/diary?name=longest") as ws:
        assert ws.close(1000, "r" * 123)[0] == 1000
    assert "r" * 123 in everything.wait_log(r"gone .*\bwho=longest\b").string


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 3000, 4999])
def test_close_code_of_the_server(everything, code):
    with WebSocket(everything, "/diary?name=thrown") as ws:
        ws.send_call("bye", code, "grüße")
        assert ws.expect_close() == (code, "grüße")


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 2000, 5000, "1000x", 1000.5])
def test_close_code_an_app_may_not_use(everything, code):
    with WebSocket(everything, "/diary?name=wrong") as ws:
        ws.send_call("bye", code, "")
        answer = ws.receive_json()
        assert answer["error"]["code"] == -32603
        assert ws.call("ping") == "pong"


def test_server_waits_for_the_answer_to_its_close_frame(everything):
    """What the client had sent before it saw the close frame does no harm, and TCP ends after the answer."""
    with WebSocket(everything, "/diary?name=slow-leaver") as ws, WebSocket(everything, "/echo") as other:
        ws.send_call("bye", 4001, "go")
        with pytest.raises(Closed) as closed:
            ws.receive()
        assert (closed.value.code, closed.value.reason) == (4001, "go")
        for _ in range(20):  # still there
            ws.send_call("ping")
            ws.send_frame(PING, b"x")
            other.call("ping")
        ws.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            ws.socket.recv(1)  # no answers, no pongs, no end
        ws.socket.settimeout(PATIENCE)
        ws.send_frame(CLOSE, close_payload(4001))
        ws.expect_end()


def test_client_that_never_answers_a_close_frame(nervous):
    with WebSocket(nervous, "/diary?name=stubborn") as ws:
        ws.send_call("bye", 4001, "go")
        with pytest.raises(Closed):
            ws.receive()
        ws.expect_end()
    assert "code=4001" in nervous.wait_log(r"gone .*\bwho=stubborn\b").string


def test_nothing_after_the_clients_close_frame(everything):
    with WebSocket(everything, "/echo") as ws:
        ws.send(frame(CLOSE, close_payload(1000)) + frame(TEXT, call_text("mark")) + frame(3) + frame(PING, b"x"))
        with pytest.raises(Closed) as closed:
            ws.receive()
        assert closed.value.code == 1000
        ws.expect_end()
    assert call_http(everything, "/echo", "marks") == 0


def test_both_close_at_once(everything):
    with WebSocket(everything, "/diary?name=both") as ws:
        ws.send(frame(TEXT, call_text("bye", 4002, "server")) + frame(CLOSE, close_payload(4003, "client")))
        with pytest.raises(Closed) as closed:
            ws.receive()
        assert closed.value.code == 4002
        ws.expect_end()
    everything.wait_log(r"gone .*\bwho=both\b")
    everything.expect_log(r"gone .*\bwho=both\b", 1)


# ---- frames that are not JSON-RPC -----------------------------------------------------------------

def test_receive_gets_what_is_not_json(everything):
    with WebSocket(everything, "/frames") as ws:
        ws.send_frame(BINARY, b"\1\2\3")
        assert ws.receive() == b"\3\2\1"
        ws.send_frame(BINARY, b"")
        assert ws.receive() == b""
        ws.send_text("hello")
        assert ws.receive() == "you said: hello"
        ws.send_text("{]")
        assert ws.receive() == "you said: {]"
        assert ws.call("ping") == "pong"
        ws.send_text("[]")  # JSON, and an invalid request
        assert ws.receive_json()["error"]["code"] == -32600


def test_raw_consumer_gets_everything(everything):
    with WebSocket(everything, "/frames/raw") as ws:
        for text in [call_text("ping"), "", "{", "[]", "\0", "é😀"]:
            ws.send_text(text)
            assert ws.receive() == text
        ws.send_text("fail")
        ws.send_text("still here")
        assert ws.receive() == "still here"
        everything.wait_log("receive failed")
        ws.send_text("bye")
        assert ws.expect_close() == (4000, "as you wish")


def test_receive_hooks_in_flight_are_limited(everything):
    """Four of them may wait at a time (limits.calls); the others' frames wait, none is lost."""
    with WebSocket(everything, "/frames/raw") as ws:
        for i in range(12):
            ws.send_text("wait")
        ws.send_text("last")
        texts = [ws.receive() for _ in range(13)]
        assert sorted(texts) == ["last"] + ["wait"] * 12
        assert texts.index("last") >= 9


# ---- slow readers ---------------------------------------------------------------------------------

def follow(server, name, **more):
    return WebSocket(server, f"/feed?name={name}", **more)


def test_slow_reader_is_cut_at_the_hard_limit(serve):
    """Whoever does not read is cut and counted; whoever does misses nothing."""
    server = serve(["feed"], "--output-soft", "100KiB", "--output-hard", "500KiB", "--output-soft-time", "1h", lean=True)
    fast, slow = follow(server, "fast"), [follow(server, f"slow-{i}", receive_buffer=4096) for i in range(3)]
    idle = follow(server, "idle")
    with growth_below(server, 30_000_000, "three slow readers"):
        number = 0
        while fast.call("followers") > 2:
            number += 1
            assert number < 1000, "the slow readers were never cut"
            fast.send_call("publish", number, 60000, id="publish")
            assert fast.expect("item")[0] == number
            fast.answer("publish")
            assert idle.expect("item")[0] == number
    for i in range(3):
        line = server.wait_log(rf"unfollowed .*who=slow-{i}\b").string
        assert "code=1006" in line and "slow reader" in line
    metrics = server.metrics()
    assert metrics["slow_readers"] == 3 and metrics["sends_dropped"] >= 3
    server.wait_log("slow reader cut")
    for one in slow:  # they find a cut, not the end of a message that looks whole
        one.expect_cut()
    assert fast.close() == (1000, "") and idle.close() == (1000, "")


def test_slow_reader_is_cut_after_a_while_over_the_soft_limit(serve):
    server = serve(["feed"], "--output-soft", "100KiB", "--output-hard", "100MiB", "--output-soft-time", "300ms")
    fast, slow = follow(server, "fast"), follow(server, "slow", receive_buffer=4096)
    for number in range(200):  # 12 MB, more than the kernel's buffers take
        fast.send_call("publish", number, 60000, id=number)
        assert fast.expect("item")[0] == number
        fast.answer(number)
    server.wait_log(r"unfollowed .*who=slow\b")
    assert server.metrics()["slow_readers"] == 1
    assert fast.call("followers") == 1
    slow.expect_cut()
    fast.drop()


def test_reader_that_catches_up_is_not_cut(serve):
    """Over the soft limit, then read: the clock stops, nothing is lost, and reading from it goes on."""
    server = serve(["feed"], "--output-soft", "100KiB", "--output-hard", "100MiB", "--output-soft-time", "1h")
    fast, slow = follow(server, "fast"), follow(server, "slow", receive_buffer=4096)
    for number in range(150):
        fast.send_call("publish", number, 60000, id=number)
        assert fast.expect("item")[0] == number
        fast.answer(number)
    slow.send_call("followers", id="count")  # is not read before it has caught up
    for number in range(150):
        assert slow.expect("item")[0] == number
    assert slow.answer("count") == 2
    assert server.metrics()["slow_readers"] == 0
    for one in [fast, slow]:
        one.drop()


def test_flood_at_once_is_cut(serve):
    """A handler that sends more than the hard limit without a wait loses who does not read, not the server."""
    server = serve(["diary"], "--output-hard", "1MiB")
    with WebSocket(server, "/diary?name=flooded") as ws, WebSocket(server, "/diary?name=other") as other:
        ws.send_call("flood", 100000, 100)
        assert "slow reader" in server.wait_log(r"gone .*\bwho=flooded\b").string
        ws.expect_cut()
        assert other.call("ping") == "pong"


def burst(calls, bytes):
    """Calls in one write, with answers far longer than themselves."""
    return b"".join(frame(TEXT, call_text("repeated", "x", bytes, id=i)) for i in range(calls))


def test_burst_of_calls_by_a_client_that_reads(everything):
    """A thousand calls in one write are no reason to cut who reads their answers as they come."""
    with WebSocket(everything, "/echo") as ws:
        ws.send(burst(1000, 20000))
        for i in range(1000):
            answer = ws.receive_json()
            assert answer["id"] == i and len(answer["result"]) == 20000


def test_calls_whose_answers_nobody_reads(serve):
    """A client that asks for more than it reads is not read any more: memory is bounded, nothing is lost."""
    server = serve(["echo"], "--output-soft", "200KiB", "--output-soft-time", "1h", lean=True)
    ws = WebSocket(server, "/echo", receive_buffer=4096)
    with WebSocket(server, "/echo") as other:
        other.call("ping")
        ws.socket.settimeout(0.3)
        sent, block = 0, burst(100, 10000)
        with growth_below(server, 16_000_000, "answers nobody reads"):
            with pytest.raises(TimeoutError):
                while sent < 200_000_000:
                    sent += ws.socket.send(block)
            assert other.call("ping") == "pong"
        ws.socket.settimeout(PATIENCE)
        for i in range(sent // len(block) * 100):
            answer = ws.receive_json()
            assert answer["id"] == i % 100 and len(answer["result"]) == 10000
            if i == 2000:  # that is 20 MB, the rest is no different
                break
    ws.drop()


# ---- another client -------------------------------------------------------------------------------

def test_websockets_library(everything):
    url = f"ws://{everything.netloc}"

    async def talk():
        async with library.connect(f"{url}/echo", ping_interval=None) as ws:
            await ws.send(call_text("echo", "hello"))
            assert '"hello"' in await ws.recv()
            await (await ws.ping())
            await ws.send([call_text("ping")[:5], call_text("ping")[5:]])  # fragments
            assert "pong" in await ws.recv()
            # the library offers permessage-deflate; what is not agreed on must not be used
            assert library.extensions(ws) in ([], ["permessage-deflate"])
            await ws.send(call_text("echo", "compressible " * 1000))
            assert "compressible" in await ws.recv()
        assert (ws.close_code, ws.close_reason) == (1000, "")

        async with library.connect(f"{url}/echo/speaker", subprotocols=["jsonrpc.v1", "jsonrpc.v2"]) as ws:
            assert ws.subprotocol == "jsonrpc.v2"

        async with library.connect(f"{url}/diary?name=library") as ws:
            await ws.send(call_text("bye", 4321, "see you"))
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (4321, "see you")

        with pytest.raises(library.Refused) as refused:
            await library.connect(f"{url}/nowhere")
        assert library.status_of(refused.value) == 404

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_hundred_clients_of_the_library(everything):
    async def one(number):
        async with library.connect(f"ws://{everything.netloc}/echo", ping_interval=None, compression=None) as ws:
            for i in range(10):
                await ws.send(call_text("sleep", 0.001 * (i % 3), [number, i], id=i))
            answers = [await ws.recv() for _ in range(10)]
            assert sorted(answers) == sorted(f'{{"jsonrpc":"2.0","result":[{number},{i}],"id":{i}}}' for i in range(10))

    async def all_of_them():
        await asyncio.gather(*[one(number) for number in range(100)])

    asyncio.run(asyncio.wait_for(all_of_them(), 60))


def test_unmasking(everything):
    """The test's own masking is what it claims to be."""
    assert mask(mask(b"hello", b"abcd"), b"abcd") == b"hello"
    assert mask(b"\0" * 6, b"abcd") == b"abcdab"
    assert struct.unpack("!H", close_payload(1000)[:2])[0] == 1000
    assert chunked(b"abc", 2) == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
