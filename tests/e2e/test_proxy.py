"""Proxies in front of the server: whose word is taken, and for what."""
import os
import re
import shutil
import socket
import subprocess
import types

import pytest

import docs
from server import PATIENCE, ROOT, run
from wire import WebSocket, call_http, call_text, fetch, handshake, post, request

CLAIMS = [("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "outer.example")]
RFC_7239 = [("Forwarded", "for=\"[2001:db8::7]:4711\";proto=https;host=outer.example")]


def client(server, headers):
    return call_http(server, "/echo", "client", headers=headers)


def test_nobody_is_trusted_by_default(everything):
    for headers in [CLAIMS, RFC_7239]:
        assert client(everything, headers) == ["127.0.0.1", "http", "127.0.0.1", True]


def test_a_trusted_proxy_tells_the_client(serve):
    server = serve(["echo"], "--trusted-proxies", "10.0.0.0/8", "--trusted-proxies", "127.0.0.1")
    assert client(server, []) == ["127.0.0.1", "http", "127.0.0.1", True]
    assert client(server, CLAIMS) == ["192.0.2.7", "https", "outer.example", False]
    assert client(server, RFC_7239) == ["2001:db8::7", "https", "outer.example", True]
    assert client(server, [("X-Forwarded-For", "198.51.100.1, 192.0.2.7, 10.1.1.1")])[0] == "192.0.2.7"
    assert client(server, [("X-Forwarded-For", "192.0.2.7, nonsense")])[0] == "127.0.0.1"
    with WebSocket(server, "/echo", CLAIMS) as ws:
        assert ws.call("client") == ["192.0.2.7", "wss", "outer.example", False]
        assert ws.call("client") == ["192.0.2.7", "wss", "outer.example", False]


def test_another_proxy_is_not_trusted(serve):
    server = serve(["echo"], "--trusted-proxies", "127.0.0.2/31")
    assert client(server, CLAIMS) == ["127.0.0.1", "http", "127.0.0.1", True]


def test_the_fields_can_be_chosen(serve):
    server = serve(["echo"], "--trusted-proxies", "127.0.0.1", "--proxy-headers", "forwarded")
    assert client(server, CLAIMS + RFC_7239) == ["2001:db8::7", "https", "outer.example", True]
    assert client(server, CLAIMS) == ["127.0.0.1", "http", "127.0.0.1", True]
    server = serve(["echo"], "--proxy-headers", "x-forwarded", env={"PERIGEE_TRUSTED_PROXIES": "::1, 127.0.0.0/8"})
    assert client(server, CLAIMS + RFC_7239) == ["192.0.2.7", "https", "outer.example", False]
    assert client(server, RFC_7239) == ["127.0.0.1", "http", "127.0.0.1", True]


def test_the_same_host_is_what_the_page_asked_the_proxy_for(serve):
    server = serve(["echo"], "--trusted-proxies", "127.0.0.1")
    for headers, origin, is_allowed in [
        (CLAIMS, "https://outer.example", True), (CLAIMS, "http://127.0.0.1", False), ([], "https://outer.example", False),
        ([], "http://127.0.0.1", True), (RFC_7239, "https://outer.example", True), (CLAIMS, "https://evil.example", False),
        # a page that was not got by TLS does not speak for one that was; where the proxy tells nothing, either may be
        (CLAIMS, "http://outer.example", False), (RFC_7239, "http://outer.example", False),
        (CLAIMS[2:], "http://outer.example", True), (CLAIMS[2:], "https://outer.example", True),
        ([("X-Forwarded-Proto", "https")], "http://127.0.0.1", False), ([("X-Forwarded-Proto", "https")], "https://127.0.0.1", True),
    ]:
        headers = [*headers, ("Origin", origin)]
        assert fetch(server, post("/echo", call_text("ping"), headers)).status == (200 if is_allowed else 403)
        assert fetch(server, handshake("/echo", headers)).status == (101 if is_allowed else 403)
    server.wait_log(r"origin refused.*origin=http://outer.example host=outer.example scheme=https")


@pytest.mark.parametrize("value", ["localhost", "10.0.0.1/8", "10.0.0.0/33", "*", "127.0.0.1:80"])
def test_what_is_no_network_is_said(tmp_path, value):
    ended = run("serve", "--apps", tmp_path, "--trusted-proxies", value)
    assert ended.returncode == 2
    assert f"--trusted-proxies: '{value}' is not an address or network" in ended.stderr


# ---- nginx, as server/README.md sets it up --------------------------------------------------------

@pytest.fixture
def nginx(serve, tmp_path):
    """nginx in front of a server that trusts it, on a socket that the kernel chose."""
    if not shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip("nginx is not installed")
    # it comes from an address that no client has: one that is trusted may claim what it likes
    server = serve(["echo", "pages"], "--trusted-proxies", "127.0.0.3")
    text, = [block.text for block in docs.Document(ROOT / "server/README.md", "").blocks if block.language == "nginx"]
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    text, n = re.subn(r"listen 80;", f"listen 127.0.0.1:{port};", text)
    text, m = re.subn(r"127\.0\.0\.1:8080", server.netloc, text)
    assert (n, m) == (1, 1)
    folders = "".join(f"{name}_temp_path {tmp_path}/{name};\n" for name in
                      ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; {'user root;' if os.geteuid() == 0 else ''}\n"
        f"events {{}}\nhttp {{\naccess_log off; proxy_bind 127.0.0.3;\n{folders}{text}}}\n")
    process = subprocess.Popen(
        ["nginx", "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"], pass_fds=[listener.fileno()],
        env={"NGINX": f"{listener.fileno()};", "PATH": os.environ["PATH"] + ":/usr/sbin"}, stdin=subprocess.DEVNULL)
    try:
        yield types.SimpleNamespace(address=("127.0.0.1", port), netloc=f"127.0.0.1:{port}")
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0, (tmp_path / "error.log").read_text()
        listener.close()


def test_nginx_tells_who_asks(nginx):
    assert call_http(nginx, "/echo", "client", headers=[("Host", "shop.example")]) == ["127.0.0.1", "http", "shop.example", False]
    # what a client claims does not get past it
    assert client(nginx, CLAIMS + RFC_7239) == ["127.0.0.1", "http", "127.0.0.1", False]
    assert client(nginx, [("X-Forwarded-For", "127.0.0.1, 192.0.2.7")])[0] == "127.0.0.1"
    assert fetch(nginx, request("GET", "/-/metrics")).status == 404
    assert fetch(nginx, request("GET", "/pages/")).status == 200


def test_nginx_carries_websockets(nginx):
    headers = [("Origin", f"http://{nginx.netloc}")]
    with WebSocket(nginx, "/echo", headers, glued=b"") as ws:
        assert ws.call("client") == ["127.0.0.1", "ws", nginx.netloc, False]
        assert ws.call("length", "x" * 1_000_000) == 1_000_000
        assert ws.close(4001, "bye") == (4001, "")
    assert fetch(nginx, handshake("/echo", [("Origin", "http://evil.example")], host=nginx.netloc)).status == 403
