"""A host name that stands for several addresses: wherever one is given, each of them is tried."""
import contextlib
import pathlib
import re
import socket
import subprocess

import pytest

from redis_server import Redis
from server import HERE, environment, run
from wire import WebSocket

DEAD = "127.0.0.2"  # nothing listens there


@pytest.fixture(scope="module")
def resolver(tmp_path_factory):
    """resolver(addresses...): what makes a program resolve every name to these, in this order."""
    library = pathlib.Path(tmp_path_factory.mktemp("resolver")) / "resolver.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library, HERE / "resolver.c"], check=True)

    def make(*addresses):
        asan = environment()["ASAN_OPTIONS"] + ":verify_asan_link_order=0"
        return {"LD_PRELOAD": str(library), "E2E_ADDRESSES": ",".join(addresses), "ASAN_OPTIONS": asan}

    return make


@pytest.fixture
def redis():
    one = Redis()
    yield one
    one.stop()


@contextlib.contextmanager
def silent(port):
    """An address at which connecting is never answered: what waits to be accepted fills its queue."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.3", port))
        listener.listen(0)
        for _ in range(2):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.3", port))
        yield "127.0.0.3"


@pytest.mark.parametrize("first", ["::1", DEAD])
def test_layer(serve, redis, resolver, first):
    server = serve(["cluster"], "--layer", f"redis://two.test:{redis.port}", env=resolver(first, "127.0.0.1"))
    with WebSocket(server, "/cluster") as ws:
        assert ws.call("shared", "incr", "k") == 1
    assert "cannot be reached" not in server.log


@pytest.mark.parametrize("first", ["::1", DEAD, "silent"])
def test_sessions(serve, redis, resolver, first):
    with silent(redis.port) as address:
        server = serve(["visits"], "--sessions", f"redis://two.test:{redis.port}",
                       env=resolver(address if first == "silent" else first, "127.0.0.1"))
        with WebSocket(server, "/visits") as ws:
            ws.call("set", "k", 1)
            assert ws.call("get", "k") == 1
    assert len(redis.command("KEYS", "*")) == 1
    assert "cannot be kept" not in server.log


def test_layer_at_a_silent_address_first(serve, redis, resolver):
    with silent(redis.port) as address:
        server = serve(["cluster"], "--layer", f"redis://two.test:{redis.port}", "--layer-timeout", "1s",
                       env=resolver(address, "127.0.0.1"))
        server.wait_log("channel layer is up")
        assert "cannot be reached" not in server.log


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize("first", ["::1", DEAD])
def test_call(everything, resolver, scheme, first):
    ended = run("call", f"{scheme}://two.test:{everything.port}/echo", "ping", env=resolver(first, "127.0.0.1"))
    assert (ended.returncode, ended.stdout) == (0, '"pong"\n'), ended


def test_call_at_a_silent_address_first(everything, resolver):
    with silent(everything.port) as address:
        ended = run("call", f"ws://two.test:{everything.port}/echo", "ping", "--timeout", "2s",
                    env=resolver(address, "127.0.0.1"))
    assert (ended.returncode, ended.stdout) == (0, '"pong"\n'), ended


def test_call_when_no_address_answers(everything, resolver):
    """The time is for all of them together, and the last one's error is told."""
    with silent(everything.port) as address:
        ended = run("call", f"ws://two.test:{everything.port}/echo", "ping", "--timeout", "200ms",
                    env=resolver(DEAD, address, address))
    assert ended.returncode == 3 and re.search(r"connecting took longer than 200ms", ended.stderr), ended
    ended = run("call", f"ws://two.test:{everything.port}/echo", "ping", env=resolver("::1", DEAD))
    assert ended.returncode == 3 and "nothing listens at two.test" in ended.stderr, ended
