"""Clients made of raw sockets: HTTP/1.1 and WebSocket bytes exactly as a test wants them.

What the server sends is read strictly: a malformed head, a masked frame or a length not in its
shortest form fails the test that met it.
"""
import base64
import collections
import email.utils
import hashlib
import itertools
import json
import os
import re
import socket
import struct
import time

from server import PATIENCE

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
JSON = "application/json"
DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Ended(AssertionError):
    """The connection ended where bytes were expected."""


# ---- sockets --------------------------------------------------------------------------------------

class Wire:
    """A TCP connection with a buffer."""

    def __init__(self, server, receive_buffer=None):
        address = getattr(server, "address", server)
        self.server = server
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:  # must be there before connecting to have an effect on the window
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.is_ended = False

    def send(self, *pieces):
        """Each piece is a write of its own."""
        for piece in pieces:
            self.socket.sendall(piece)

    def send_until_cut(self, pieces):
        """Sends what the server may refuse half-way; returns the bytes it took."""
        taken = 0
        try:
            for piece in pieces:
                self.socket.sendall(piece)
                taken += len(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return taken

    def fill(self):
        """Reads once more; false at the end."""
        if self.is_ended:
            return False
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        except TimeoutError:
            raise AssertionError(f"nothing came within {PATIENCE:g} s; before: {self.buffer[:200]!r}") from None
        if not data:
            self.is_ended = True
        self.buffer += data
        return not self.is_ended

    def take(self, n):
        pieces, have = [self.buffer], len(self.buffer)
        while have < n:
            self.buffer = b""
            if not self.fill():
                self.buffer = b"".join(pieces)
                raise Ended(f"{n} bytes were expected, the connection ended after {have}: {self.buffer[:200]!r}")
            pieces.append(self.buffer)
            have += len(self.buffer)
        data = b"".join(pieces)
        self.buffer = data[n:]
        return data[:n]

    def take_line(self):
        while b"\n" not in self.buffer:
            if not self.fill():
                raise Ended(f"a line was expected, the connection ended after {self.buffer[:200]!r}")
        line, self.buffer = self.buffer.split(b"\n", 1)
        assert line.endswith(b"\r"), f"a line without CR: {line!r}"
        return line[:-1]

    def rest(self):
        """Everything up to the end of the connection."""
        while self.fill():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def expect_end(self):
        rest = self.rest()
        assert rest == b"", f"the connection should have ended, but this came: {rest[:300]!r}"

    def end(self):
        """Ends our half only."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def drop(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


# ---- HTTP -----------------------------------------------------------------------------------------

class Response:
    def __init__(self, version, status, reason, fields, body):
        self.version, self.status, self.reason = version, status, reason
        self.fields, self.body = fields, body

    def __getitem__(self, name):
        """The field's value, or None; a field that is there twice is a failure."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def is_last(self):
        return (self["Connection"] or "").lower() == "close"

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.reason} {self.fields} {self.body[:200]!r}>"


def request(method, target, headers=(), body=None, version="1.1", host="127.0.0.1"):
    """Bytes of a request. Content-Length is added for a body that is bytes or text."""
    fields = list(headers.items() if isinstance(headers, dict) else headers)
    if host is not None and not any(name.lower() == "host" for name, _ in fields):
        fields.insert(0, ("Host", host))
    if isinstance(body, str):
        body = body.encode()
    if body is not None:
        fields.append(("Content-Length", str(len(body))))
    head = f"{method} {target} HTTP/{version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)
    return head.encode("latin-1") + b"\r\n" + (body or b"")


def post(target, body, headers=(), content_type=JSON, **more):
    """Bytes of a POST; a body that is no text or bytes goes as JSON."""
    fields = list(headers.items() if isinstance(headers, dict) else headers)
    if content_type:
        fields.insert(0, ("Content-Type", content_type))
    return request("POST", target, fields, body if isinstance(body, (str, bytes)) else json.dumps(body), **more)


def call_text(method, *params, id=1):
    """A JSON-RPC request as text."""
    message = {"jsonrpc": "2.0", "method": method, "params": list(params), "id": id}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def chunked(body, *sizes, extension="", trailer=b""):
    """A body in chunks of the given sizes, the last size again and again."""
    out, at, sizes = b"", 0, list(sizes or [len(body)])
    while at < len(body):
        n = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        piece = body[at:at + n]
        out += f"{len(piece):x}{extension}\r\n".encode() + piece + b"\r\n"
        at += n
    return out + b"0\r\n" + trailer + b"\r\n"


class Http(Wire):
    """An HTTP/1.1 connection."""

    def response(self, method="GET"):
        status_line = self.take_line()
        found = re.fullmatch(rb"HTTP/(1\.[01]) (\d{3}) ([\t\x20-\x7e]*)", status_line)
        assert found, f"no status line: {status_line!r}"
        status, fields = int(found[2]), []
        while line := self.take_line():
            name, colon, value = line.partition(b":")
            assert colon and TOKEN.fullmatch(name), f"a malformed field: {line!r}"
            fields.append((name.decode(), value.strip(b" \t").decode("latin-1")))
        response = Response(found[1].decode(), status, found[3].decode(), fields, b"")
        if 200 <= status < 500:  # RFC 9110 section 6.6.1
            assert response["Date"], f"no Date: {response}"
            assert DATE.fullmatch(response["Date"]) and email.utils.parsedate(response["Date"])
        length = response["Content-Length"]
        if status < 200 or status in (204, 304):
            assert length is None or status == 304, f"{status} has a Content-Length"
        elif method == "HEAD":
            assert length is not None
        elif length is not None:
            response.body = self.take(int(length))
        else:
            raise AssertionError(f"an answer with neither length nor reason for none: {response}")
        return response

    def ask(self, data, method=None):
        self.send(data)
        return self.response(method or data.split(b" ", 1)[0].decode())


def fetch(server, data, **more):
    """One request on a connection of its own."""
    with Http(server, **more) as http:
        return http.ask(data)


def call_http(server, path, method, *params, headers=()):
    """The result of a call over HTTP."""
    response = fetch(server, post(path, call_text(method, *params), headers))
    assert response.status == 200, response
    answer = response.json()
    assert "result" in answer, answer
    return answer["result"]


# ---- WebSocket ------------------------------------------------------------------------------------

class Closed(AssertionError):
    """A close frame came. code is None when it had none."""

    def __init__(self, code, reason):
        super().__init__(f"closed with {code} {reason!r}")
        self.code, self.reason = code, reason


class RpcError(AssertionError):
    def __init__(self, error):
        super().__init__(str(error))
        self.code, self.message, self.data = error["code"], error["message"], error.get("data")


Frame = collections.namedtuple("Frame", "opcode payload is_final")


def mask(payload, key):
    n = len(payload)
    pad = (key * (n // 4 + 1))[:n]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(n, "big")


def frame_head(opcode, length, is_final=True, reserved=0, key=b"\0\0\0\0", form=None):
    """A frame's head; form 7, 16 or 64 forces how the length is written; key None: not masked."""
    bit = 0x80 if key is not None else 0
    first = (0x80 if is_final else 0) | reserved << 4 | opcode
    form = form or (7 if length < 126 else 16 if length < 65536 else 64)
    size = (struct.pack("!B", bit | length) if form == 7
            else struct.pack("!BH", bit | 126, length) if form == 16
            else struct.pack("!BQ", bit | 127, length))
    return bytes([first]) + size + (key or b"")


def frame(opcode, payload=b"", is_final=True, reserved=0, key=None, is_masked=True, form=None):
    """A client's frame."""
    if isinstance(payload, str):
        payload = payload.encode()
    if not is_masked:
        return frame_head(opcode, len(payload), is_final, reserved, None, form) + payload
    key = key or os.urandom(4)
    return frame_head(opcode, len(payload), is_final, reserved, key, form) + mask(payload, key)


def close_payload(code, reason=b""):
    return struct.pack("!H", code) + (reason.encode() if isinstance(reason, str) else reason)


def accept_of(key):
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def handshake(path, headers=(), host="127.0.0.1", key="dGhlIHNhbXBsZSBub25jZQ==", version="13",
              connection="Upgrade", upgrade="websocket", method="GET", http="1.1"):
    """A handshake's bytes. A part that is None is left out."""
    fields = [("Upgrade", upgrade), ("Connection", connection), ("Sec-WebSocket-Key", key),
              ("Sec-WebSocket-Version", version)]
    fields = [(name, value) for name, value in fields if value is not None]
    fields += list(headers.items() if isinstance(headers, dict) else headers)
    return request(method, path, fields, version=http, host=host)


class WebSocket(Http):
    """A WebSocket, opened. `glued` comes right behind the handshake in the same write; `before`, a request, goes
    first on the connection."""

    def __init__(self, server, path, headers=(), glued=b"", before=None, receive_buffer=None, **more):
        super().__init__(server, receive_buffer)
        if before:
            self.send(before)
            assert self.response().status == 200
        key = base64.b64encode(os.urandom(16)).decode()
        self.ids = itertools.count(1)
        self.inbox = collections.deque()  # notifications that came while something else was awaited
        try:
            self.send(handshake(path, headers, key=key, host=more.pop("host", server.netloc), **more) + glued)
            self.opening = self.response()
            assert self.opening.status == 101, self.opening
            assert self.opening["Upgrade"].lower() == "websocket"
            assert self.opening["Connection"].lower() == "upgrade"
            assert self.opening["Sec-WebSocket-Accept"] == accept_of(key)
        except BaseException:
            self.socket.close()
            raise

    # frames

    def receive_frame(self):
        first, second = self.take(2)
        assert first & 0x70 == 0, f"reserved bits: {first:#x}"
        assert second & 0x80 == 0, "the server masked a frame"
        length = second & 0x7F
        if length == 126:
            length, = struct.unpack("!H", self.take(2))
            assert length >= 126, "a length not in its shortest form"
        elif length == 127:
            length, = struct.unpack("!Q", self.take(8))
            assert length >= 65536, "a length not in its shortest form"
        opcode, is_final = first & 0x0F, bool(first & 0x80)
        if opcode >= CLOSE:
            assert is_final and length <= 125
        return Frame(opcode, self.take(length), is_final)

    def receive(self):
        """The next message; pings are answered, a close frame raises Closed."""
        end = time.monotonic() + PATIENCE
        while True:
            frame_ = self.receive_frame()
            if frame_.opcode == PING:
                assert time.monotonic() < end, f"nothing but pings came within {PATIENCE:g} s"
                self.send_frame(PONG, frame_.payload)
            elif frame_.opcode == CLOSE:
                if not frame_.payload:
                    raise Closed(None, "")
                raise Closed(struct.unpack("!H", frame_.payload[:2])[0], frame_.payload[2:].decode())
            elif frame_.opcode in (TEXT, BINARY):
                assert frame_.is_final, "the server sent a fragment"
                return frame_.payload.decode() if frame_.opcode == TEXT else frame_.payload
            else:
                assert frame_.opcode == PONG, frame_

    def send_frame(self, opcode, payload=b"", **more):
        self.send(frame(opcode, payload, **more))

    def send_text(self, text):
        self.send_frame(TEXT, text)

    # JSON-RPC

    def send_call(self, method, *params, id=None):
        """Sends a request; returns its id."""
        id = next(self.ids) if id is None else id
        self.send_text(call_text(method, *params, id=id))
        return id

    def send_notification(self, method, *params):
        self.send_text(json.dumps({"jsonrpc": "2.0", "method": method, "params": list(params)}))

    def receive_json(self):
        text = self.receive()
        assert isinstance(text, str), f"a binary message: {text!r}"
        return json.loads(text)

    def answer(self, id):
        """Waits for the answer with that id; notifications wait in the inbox."""
        while True:
            message = self.receive_json()
            if isinstance(message, dict) and "method" in message:
                self.inbox.append(message)
                continue
            assert message["id"] == id, f"the answer to {id!r} was expected, this came: {message}"
            if "error" in message:
                raise RpcError(message["error"])
            return message["result"]

    def call(self, method, *params):
        return self.answer(self.send_call(method, *params))

    def expect(self, method):
        """The params of the next notification, which must be of that method."""
        message = self.inbox.popleft() if self.inbox else self.receive_json()
        assert message.get("method") == method and "id" not in message, message
        return message.get("params")

    # the end

    def close(self, code=1000, reason=""):
        """The closing handshake from our side; returns code and reason of the answer."""
        self.send_frame(CLOSE, close_payload(code, reason) if code else b"")
        return self.closing_answer()

    def closing_answer(self):
        try:
            while True:
                self.receive()
        except Closed as closed:
            self.expect_end()
            self.socket.close()
            return closed.code, closed.reason

    def expect_close(self, is_answered=True):
        """Waits for the server's close frame, answers it, and waits for the end."""
        try:
            message = self.receive()
        except Closed as closed:
            if is_answered:
                self.send_until_cut([frame(CLOSE, close_payload(closed.code) if closed.code else b"")])
            self.expect_end()
            self.socket.close()
            return closed.code, closed.reason
        raise AssertionError(f"a close frame was expected, this came: {message!r}")

    def expect_cut(self):
        """The connection ends without a close frame."""
        try:
            while True:
                self.receive()
        except Closed as closed:
            raise AssertionError(f"cut was expected, {closed}") from None
        except Ended:
            self.socket.close()
