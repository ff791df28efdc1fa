"""Names the server answers to, who may see what is the operator's, and clients of both families."""
import json
import re
import socket
import urllib.request

import pytest

from redis_server import free_port
from server import PATIENCE, run
from wire import WebSocket, call_http, call_text, fetch, handshake, post, request

OWN = ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8080", "chat.localhost"]
REBOUND = ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "0.0.0.0",
           "[::ffff:127.0.0.1]", "localhost."]


def get(server, path, headers=(), host="127.0.0.1"):
    return fetch(server, request("GET", path, headers, host=host))


# ---- names ------------------------------------------------------------------------------------------

def test_dev_answers_to_this_machine_alone(serve):
    server = serve(["echo", "pages"], verb="dev")
    discover = call_text("rpc.discover")
    for host in OWN:
        assert fetch(server, post("/echo", discover, host=host)).status == 200, host
        assert get(server, "/pages/", host=host).status == 200
        assert get(server, "/-/", host=host).status == 200
        assert get(server, "/-/metrics", host=host).status == 200
    before = server.metrics()
    for host in REBOUND:
        refused = fetch(server, post("/echo", discover, host=host))
        assert refused.status == 421, host
        assert host in refused.body.decode() and "setting hosts" in refused.body.decode()
        for path in ("/pages/", "/-/", "/-/metrics", "/-/health", "/-/reload.js", "/nothing"):
            assert get(server, path, host=host).status == 421, (host, path)
        for path in ("/echo", "/-/inspector"):
            assert fetch(server, handshake(path, [("Origin", f"http://{host}")], host=host)).status == 421
        assert fetch(server, request("OPTIONS", "*", host=host)).status == 421
    after = server.metrics()
    assert after["hosts_refused"] - before["hosts_refused"] == len(REBOUND) * 10
    server.wait_log(r"host not answered to host=evil.example to_allow_it=.*hosts")
    # what a page can add to a request of its own changes nothing
    forged = [("X-Forwarded-Host", "localhost"), ("Forwarded", "host=localhost")]
    assert fetch(server, post("/echo", discover, forged, host="evil.example")).status == 421
    # nor is there a browser that says no name
    assert fetch(server, post("/echo", discover, host=None, version="1.0")).status == 200


def test_dev_answers_to_names_that_are_set(serve):
    server = serve(["echo"], "--hosts", "app.test", "--hosts", ".tunnel.test", "--hosts", "192.0.2.1", verb="dev")
    for host in [*OWN, "app.test", "APP.test:80", "tunnel.test", "a.b.tunnel.test", "192.0.2.1:8080"]:
        assert get(server, "/-/health", host=host).status == 200, host
    for host in ["x.app.test", "xtunnel.test", "tunnel.test.evil", "192.0.2.10", "test"]:
        assert get(server, "/-/health", host=host).status == 421, host
    with WebSocket(server, "/echo", [("Host", "app.test")]) as ws:
        assert ws.call("echo", 1) == 1


def test_serve_answers_to_any_name_or_those_that_are_set(serve):
    server = serve(["echo"])
    for host in [*OWN, *REBOUND]:
        assert get(server, "/-/health", host=host).status == 200, host
    server = serve(["echo"], env={"PERIGEE_HOSTS": "shop.example, .cdn.example"})
    for host in ["shop.example", "a.cdn.example", "localhost"]:
        assert get(server, "/-/health", host=host).status == 200, host
    assert get(server, "/-/health", host="evil.example").status == 421
    assert get(server, "/-/health", host=None).status == 400


@pytest.mark.parametrize("value", ["a:80", "..a", ".", "http://a", "a/b", "*", "[::1", "u@a"])
def test_what_is_no_name_is_said(tmp_path, value):
    ended = run("serve", "--apps", tmp_path, "--hosts", value)
    assert ended.returncode == 2
    assert f"--hosts: '{value}' is not a name" in ended.stderr


# ---- counters ---------------------------------------------------------------------------------------

def test_counters_are_for_this_machine_alone(everything):
    for host in OWN:
        assert get(everything, "/-/metrics", host=host).status == 200, host
    for host in [*REBOUND, "shop.example"]:
        assert get(everything, "/-/metrics", host=host).status == 404, host
    for name in ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "Via"):
        assert get(everything, "/-/metrics", [(name, "127.0.0.1")]).status == 404, name


# ---- two families -----------------------------------------------------------------------------------

def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


class At:
    """A server by another address of its."""

    def __init__(self, server, host):
        self.address = (host, server.port)
        self.netloc = f"[{host}]:{server.port}" if ":" in host else f"{host}:{server.port}"


@needs_ipv6
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_has_one_spelling(serve, workers):
    server = serve(["echo"], "--trusted-proxies", "127.0.0.2", "--workers", workers, listen="[::]:0")
    for host in ("127.0.0.1", "::1"):
        at = At(server, host)
        assert call_http(at, "/echo", "client")[0] == host
        with WebSocket(at, "/echo") as ws:
            assert ws.call("client")[0] == host
        with urllib.request.urlopen(f"http://{at.netloc}/-/metrics", timeout=PATIENCE) as page:
            assert b"perigee_calls_total" in page.read()
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as s:
        s.sendall(b"nonsense\r\n\r\n")
        s.recv(1000)
    server.wait_log(r"bad HTTP request.* peer=127\.0\.0\.1 ")
    assert not server.log_lines("::ffff:")
    # a proxy that is trusted by its IPv4 address is, whatever it came to
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE, source_address=("127.0.0.2", 0)) as s:
        s.sendall(post("/echo", call_text("client"), [("X-Forwarded-For", "192.0.2.7"), ("Connection", "close")]))
        answer = b""
        while piece := s.recv(10000):
            answer += piece
    assert json.loads(answer.split(b"\r\n\r\n")[1])["result"][0] == "192.0.2.7"


@needs_ipv6
@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("first", ["0.0.0.0", "[::]"])
def test_both_families_on_one_port(serve, workers, first):
    port = free_port()
    other = "[::]" if first == "0.0.0.0" else "0.0.0.0"
    server = serve(["echo"], "--listen", f"{other}:{port}", "--workers", workers, listen=f"{first}:{port}")
    assert call_http(At(server, "127.0.0.1"), "/echo", "client")[0] == "127.0.0.1"
    assert call_http(At(server, "::1"), "/echo", "client")[0] == "::1"
    server.expect_log(r"\blistening\b", 2)


@needs_ipv6
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_of_one_family_keeps_to_it(serve, workers):
    """[::] gives up IPv4 for who names an address of that, and only then."""
    port = free_port()
    server = serve(["echo"], "--listen", f"127.0.0.1:{port}", "--workers", workers, listen=f"[::]:{port}")
    assert call_http(At(server, "127.0.0.1"), "/echo", "client")[0] == "127.0.0.1"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), PATIENCE)
    alone = serve(["echo"], "--listen", "127.0.0.1:0", "--workers", workers, listen="[::]:0")
    assert call_http(At(alone, "127.0.0.2"), "/echo", "client")[0] == "127.0.0.1"


@needs_ipv6
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_of_another_server_is_taken_for_both(serve, tmp_path, workers):
    server = serve(["echo"], "--workers", workers, listen="[::]:0")
    (tmp_path / "a.lua").write_text('return require "perigee".consumer {}')
    for address in ("0.0.0.0", "[::]", "127.0.0.1"):
        ended = run("serve", "--apps", tmp_path, "--listen", f"{address}:{server.port}", "--workers", workers)
        assert ended.returncode == 1 and re.search("cannot listen on .*something else listens there", ended.stderr)
