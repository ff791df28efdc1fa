"""permessage-deflate (RFC 7692): off unless asked for, with clients of others, and against bombs."""
import asyncio
import json
import os
import struct
import zlib

import pytest

import browser as browsers
import library
from server import apps_folder, growth_below
from wire import BINARY, CLOSE, PING, TEXT, Frame, Http, WebSocket, call_text, frame, handshake

CONTINUATION = 0
OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def pack(data, level=9):
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (packer.compress(data.encode() if isinstance(data, str) else data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def unpack(data):
    return zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")


class Squeezed(WebSocket):
    """A client that has agreed; was_deflated: of each message that came."""

    def __init__(self, server, path, headers=OFFER, **more):
        self.was_deflated = []
        self.sizes = []
        super().__init__(server, path, headers, **more)
        assert self.opening["Sec-WebSocket-Extensions"] == AGREED

    def receive_frame(self):
        first, second = self.take(2)
        assert first & 0x30 == 0 and second & 0x80 == 0
        length = second & 0x7F
        if length >= 126:
            length, = struct.unpack("!H", self.take(2)) if length == 126 else struct.unpack("!Q", self.take(8))
        payload, opcode, is_deflated = self.take(length), first & 0x0F, bool(first & 0x40)
        assert opcode < CLOSE or not is_deflated
        if opcode < CLOSE:
            self.was_deflated.append(is_deflated)
            self.sizes.append(length)
        return Frame(opcode, unpack(payload) if is_deflated else payload, bool(first & 0x80))

    def send_packed(self, text, opcode=TEXT, **more):
        self.send_frame(opcode, pack(text), reserved=4, **more)


@pytest.fixture
def server(serve):
    return serve(["echo", "frames"], "--deflate")


LONG = "the same again, " * 100


# ---- agreeing -------------------------------------------------------------------------------------

def test_off_by_default(everything):
    with WebSocket(everything, "/echo", OFFER) as ws:
        assert ws.opening["Sec-WebSocket-Extensions"] is None
        assert ws.call("echo", LONG) == LONG
        ws.send_frame(TEXT, pack(call_text("ping")), reserved=4)
        assert ws.expect_close()[0] == 1002


def test_not_for_who_does_not_offer_it(server):
    with WebSocket(server, "/echo") as ws:
        assert ws.opening["Sec-WebSocket-Extensions"] is None
        assert ws.call("echo", LONG) == LONG  # which asserts that no bit is set
    for offer in ["x-other", "permessage-deflate; server_max_window_bits=9", "permessage-deflate; nonsense"]:
        with Http(server) as http:
            http.send(handshake("/echo", [("Sec-WebSocket-Extensions", offer)]))
            opening = http.response()
            assert opening.status == 101 and opening["Sec-WebSocket-Extensions"] is None


def test_a_consumer_has_its_own_choice(serve, tmp_path):
    text = """local perigee = require "perigee"
    local On, Off = perigee.consumer { path = "/on", deflate = true }, perigee.consumer { path = "/off", deflate = false }
    for _, C in ipairs { On, Off } do C:rpc_method("echo", function(_, v) return v end) end
    return { On, Off, perigee.consumer { path = "/either" } }"""
    apps = apps_folder(tmp_path / "apps", files={"a.lua": text})
    for flag in ["--deflate", "--no-deflate"]:
        one = serve(apps, flag)
        for path, agreed in [("/on", AGREED), ("/off", None), ("/either", AGREED if flag == "--deflate" else None)]:
            with Http(one) as http:
                http.send(handshake(path, OFFER))
                assert http.response()["Sec-WebSocket-Extensions"] == agreed


# ---- messages -------------------------------------------------------------------------------------

def test_both_ways(server):
    before = server.metrics()
    with Squeezed(server, "/echo") as ws:
        for text in ["", "short", LONG, "é" * 5000, json.dumps(list(range(5000)))]:
            ws.send_packed(call_text("echo", text, id=7))
            assert ws.answer(7) == text
            assert ws.call("echo", text) == text  # not compressed on the way there
        assert ws.was_deflated == [False] * 4 + [True] * 6
        assert max(ws.sizes[4:6]) < 200
        assert ws.close(4000, "bye") == (4000, "")
    after = server.metrics()
    assert after["websocket_inflated"] - before["websocket_inflated"] == 5
    assert after["websocket_deflated"] - before["websocket_deflated"] == 6


def test_what_does_not_get_shorter_goes_as_it_is(server):
    with Squeezed(server, "/frames/raw") as ws:
        for data, is_deflated in [(os.urandom(1000), False), (b"\0" * 1000, True), (b"\0" * 255, False), (b"\0" * 256, True)]:
            ws.send_frame(BINARY, data)
            assert ws.receive() == data
            assert ws.was_deflated.pop() == is_deflated
            ws.send_packed(data, BINARY)
            assert ws.receive() == data


def test_fragments_and_controls_between(server):
    data = pack(call_text("echo", LONG))
    with Squeezed(server, "/echo") as ws:
        for cut in [0, 1, len(data) // 2, len(data)]:
            ws.send_frame(TEXT, data[:cut], is_final=False, reserved=4)
            ws.send_frame(PING, b"still there")
            ws.send_frame(CONTINUATION, data[cut:])
            assert ws.answer(1) == LONG
        # a byte at a time
        for byte in frame(TEXT, data, reserved=4):
            ws.send(bytes([byte]))
        assert ws.answer(1) == LONG
        # in blocks that each end, and with a last one
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        text = call_text("echo", LONG).encode()
        parts = [packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH) for piece in [text[:50], text[50:]]]
        ws.send_frame(TEXT, b"".join(parts)[:-4], reserved=4)
        assert ws.answer(1) == LONG
        final = zlib.compressobj(9, zlib.DEFLATED, -15)
        ws.send_frame(TEXT, final.compress(call_text("ping").encode()) + final.flush() + b"\0", reserved=4)
        assert ws.answer(1) == "pong"


@pytest.mark.parametrize("name, code", [("not deflate", 1007), ("cut", 1007), ("not UTF-8", 1007), ("bit on a continuation", 1002),
                                        ("bit on a control frame", 1002), ("another bit", 1002), ("both bits", 1002)])
def test_wrong(server, name, code):
    with Squeezed(server, "/echo") as ws:
        if name == "not deflate":
            ws.send_frame(TEXT, b"\x07\xff\xff", reserved=4)
        elif name == "cut":
            ws.send_frame(TEXT, pack(call_text("echo", os.urandom(100).hex()))[:-20], reserved=4)
        elif name == "not UTF-8":
            ws.send_packed(b'"\xff"')
        elif name == "bit on a continuation":
            ws.send_frame(TEXT, pack("x" * 50), is_final=False, reserved=4)
            ws.send_frame(CONTINUATION, b"", reserved=4)
        elif name == "bit on a control frame":
            ws.send_frame(PING, b"", reserved=4)
        else:
            ws.send_frame(TEXT, pack("x"), reserved=2 if name == "another bit" else 6)
        assert ws.expect_close()[0] == code


def test_the_limit_counts_what_comes_out(serve):
    server = serve(["echo"], "--deflate", "--max-message", "100KiB", lean=True)
    exact = call_text("length", "x" * (102400 - len(call_text("length", ""))))
    with Squeezed(server, "/echo") as ws:
        ws.send_packed(exact)
        assert ws.answer(1) > 100000
        ws.send_packed(exact + " ")
        assert ws.expect_close()[0] == 1009
    bomb = pack(b" " * 80_000_000)
    assert len(bomb) < 100_000
    with growth_below(server, 10_000_000, "bombs"):
        for _ in range(10):
            with Squeezed(server, "/echo") as ws:
                ws.send_frame(TEXT, bomb, reserved=4)
                assert ws.expect_close()[0] == 1009
    with Squeezed(server, "/echo") as ws:
        assert ws.call("ping") == "pong"


def test_idle_connections_own_no_compressor(serve):
    server = serve(["echo"], "--deflate", lean=True)
    with Squeezed(server, "/echo") as ws:
        assert ws.call("echo", LONG) == LONG
    clients = []  # a pair of compressors for each would be 60 MB
    with growth_below(server, 20_000_000, "200 clients that have sent and got compressed messages"):
        for _ in range(200):
            clients.append(Squeezed(server, "/echo"))
            clients[-1].send_packed(call_text("echo", LONG))
            assert clients[-1].answer(1) == LONG
    for one in clients:
        one.socket.close()


def test_a_message_for_many_is_compressed_once(serve, tmp_path):
    text = """local perigee = require "perigee"
    local C = perigee.consumer { groups = { "all" } }
    C:rpc_method("tell", function(_, text) return C:notify_group("all", "told", { text = text }) end)
    return C"""
    server = serve(apps_folder(tmp_path / "apps", files={"a.lua": text}), "--deflate")
    with WebSocket(server, "/a") as plain:
        clients = [Squeezed(server, "/a") for _ in range(20)]
        before = server.metrics()["websocket_deflated"]
        for i in range(3):
            plain.call("tell", LONG + str(i))
            for one in [plain, *clients]:
                assert one.expect("told") == {"text": LONG + str(i)}
        assert server.metrics()["websocket_deflated"] == before + 3
        assert clients[0].was_deflated == [True] * 3
        for one in clients:
            one.socket.close()


# ---- clients of others ----------------------------------------------------------------------------

def test_python_websockets(server):
    async def talk():
        async with library.connect(f"ws://{server.netloc}/echo", compression="deflate") as ws:
            assert library.extensions(ws) == ["permessage-deflate"]
            for n in [1, 300, 100_000, 600_000]:
                await ws.send(call_text("echo", "aé" * (n // 2 + 1)))
                assert json.loads(await ws.recv())["result"] == "aé" * (n // 2 + 1)
    asyncio.run(talk())
    assert server.metrics()["websocket_inflated"] == 4


def test_chromium(server):
    if not browsers.find_chromium():
        pytest.skip("chromium is not installed (Debian: apt install chromium)")
    with browsers.Browser() as browser:
        tab = browser.tab(f"http://{server.netloc}/-/health")
        result = tab.eval("""new Promise((done, fail) => {
          const socket = new WebSocket("ws://" + location.host + "/echo");
          const text = "the same again, ".repeat(5000);
          socket.onopen = () => socket.send(JSON.stringify({ jsonrpc: "2.0", method: "echo", params: [text], id: 1 }));
          socket.onmessage = (e) => done([socket.extensions, JSON.parse(e.data).result === text]);
          socket.onclose = (e) => fail(e.code);
        })""")
        assert result[0].startswith("permessage-deflate") and result[1] is True
    assert server.metrics()["websocket_inflated"] == server.metrics()["websocket_deflated"] == 1
