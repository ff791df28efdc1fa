"""A real redis-server on a free port, to be killed, paused, restarted and cut off."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from server import PATIENCE, until

BINARY = shutil.which("redis-server")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


class Redis:
    """One redis-server without persistence."""

    def __init__(self, *options, host="127.0.0.1", port=None, prefix=()):
        self.host, self.port = host, port or free_port()
        self._options, self._prefix = options, list(prefix)
        self._folder = tempfile.TemporaryDirectory(prefix="perigee-redis-")
        self.path = pathlib.Path(self._folder.name) / "redis.sock"
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [*self._prefix, BINARY, "--bind", self.host, "--port", str(self.port), "--save", "", "--appendonly", "no",
             "--unixsocket", str(self.path), "--protected-mode", "no", "--dir", self._folder.name, *self._options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        until(self._answers, "Redis's first answer")

    def _answers(self):
        assert self.process.poll() is None, "redis-server ended"
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(1)
                s.connect(str(self.path))
                s.sendall(b"PING\r\n")
                return bool(s.recv(100))  # an error will do: it may want a password
        except OSError:
            return False

    @property
    def url(self):
        return f"redis://{self.host}:{self.port}"

    def command(self, *words):
        """Sends a command and returns its reply: text, number, list, None; an error raises."""
        return self.commands(words)[0]

    def commands(self, *commands):
        """The replies to commands, lists of words, that go over one connection."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(str(self.path))
            with s.makefile("rb") as replies:
                answers = []
                for words in commands:
                    out = b"*%d\r\n" % len(words)
                    for word in words:
                        word = word if isinstance(word, bytes) else str(word).encode()
                        out += b"$%d\r\n%s\r\n" % (len(word), word)
                    s.sendall(out)
                    answers.append(_reply(replies))
                return answers

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self._folder.cleanup()


class Unready:
    """Stands where Redis will be, and answers whatever comes with an error; a context."""

    def __init__(self, redis, error):
        self._listener = socket.create_server((redis.host, redis.port))
        self._reply = f"-{error}\r\n".encode()
        self._clients = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def _accept(self):
        try:
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()
        except OSError:
            pass

    def _answer(self, client):
        try:
            with client:
                while client.recv(4096):
                    client.sendall(self._reply)
        except OSError:
            pass

    def __exit__(self, *_):
        for one in [self._listener, *self._clients]:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # ended already
        self._listener.close()


def _reply(replies):
    line = replies.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        if int(rest) < 0:
            return None
        data = replies.read(int(rest) + 2)[:-2]
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    if kind == b"*":
        return None if int(rest) < 0 else [_reply(replies) for _ in range(int(rest))]
    raise AssertionError(f"not a reply: {line!r}")


class Proxy:
    """A TCP proxy in front of Redis that can be cut, be deaf, and delay."""

    def __init__(self, target):
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.delay = 0.0
        self.is_open = True  # new connections are let through
        self._passes = threading.Event()  # bytes are let through
        self._passes.set()
        self.held = []  # what came meanwhile, piece by piece
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_open:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            for a, b in ((client, server), (server, client)):
                a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, a, b):
        try:
            while data := a.recv(1 << 16):
                if not self._passes.is_set():
                    self.held.append(data)
                    self._passes.wait()
                if self.delay:
                    time.sleep(self.delay)
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Ends all connections; new ones end at once."""
        self.is_open = False
        for s in self._sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._sockets.clear()

    def mend(self):
        self.is_open = True

    def hold(self):
        """Nothing passes, nothing ends."""
        self._passes.clear()

    def release(self):
        self._passes.set()

    def stop(self):
        self._listener.close()
        self.release()
        self.cut()
