"""HTTP as api.md section 6 has it: statuses, framing, keep-alive, pipelining, timeouts, CORS."""
import json
import random
import re
import shutil

import pytest

from server import PATIENCE, ROOT, Server, apps_folder, growth_below, until
from wire import (Http, WebSocket, call_http, call_text, chunked, fetch, handshake, post, request)


def answered(response):
    assert response.status == 200, response
    return response.json()["result"]


# ---- one request ----------------------------------------------------------------------------------

def test_post(everything):
    response = fetch(everything, post("/echo", call_text("ping")))
    assert (response.status, response.reason) == (200, "OK")
    assert response.body == b'{"jsonrpc":"2.0","result":"pong","id":1}'
    assert response["Content-Length"] == str(len(response.body))
    assert response["Connection"] is None  # HTTP/1.1: kept alive


@pytest.mark.parametrize("sent, echoed", [
    ("application/json", "application/json"),
    ("application/json-rpc", "application/json-rpc"),
    ("application/jsonrequest", "application/jsonrequest"),
    ("application/json; charset=utf-8", "application/json"),
    ("application/json-rpc;charset=UTF-8", "application/json-rpc"),
    ("Application/JSON", "application/json"),
])
def test_answer_has_the_content_type_of_the_request(everything, sent, echoed):
    response = fetch(everything, post("/echo", call_text("ping"), content_type=sent))
    assert answered(response) == "pong"
    assert response["Content-Type"] == echoed
    response = fetch(everything, post("/echo", "{", content_type=sent))
    assert response["Content-Type"] == echoed


def test_scope_of_a_request(everything):
    response = fetch(everything, post("/echo?a=1&b=x%20y+z&a=2", call_text("scope"),
                                      {"User-Agent": "tests", "Cookie": "c=1; d=\"two\"; c=3", "Origin": "http://127.0.0.1"}))
    assert answered(response) == {
        "type": "http", "path": "/echo", "query": {"a": "2", "b": "x y z"}, "cookies": {"c": "1", "d": "two"},
        "origin": "http://127.0.0.1", "agent": "tests", "address": "127.0.0.1", "transport": "http"}


@pytest.mark.parametrize("target", ["/echo", "/echo?", "/echo?x=1", "http://127.0.0.1/echo", "HTTP://other.example/echo?x", "/ech%6F"])
def test_targets_of_one_path(everything, target):
    assert answered(fetch(everything, post(target, call_text("ping")))) == "pong"


@pytest.mark.parametrize("target", ["/echo/", "/ECHO", "/echo/x", "//echo", "/echo%2F", "/./echo", "/x/../echo", "/echo;x", "/", "/nowhere",
                                    "/-/nothing", "/-", "/echo%00"])
def test_paths_that_are_others(everything, target):
    response = fetch(everything, post(target, call_text("mark")))
    assert response.status in (400, 404), response
    assert call_http(everything, "/echo", "marks") == 0


def test_captures(everything):
    path = "/echo/room/4%202/seat/%C3%A9?x=1"
    assert answered(fetch(everything, post(path, call_text("where")))) == {"id": "4 2", "seat": "é"}
    for path in ["/echo/room//seat/1", "/echo/room/1/seat/", "/echo/room/1/seat", "/echo/room/1/seat/1/more"]:
        assert fetch(everything, post(path, call_text("where"))).status == 404


# ---- refusals -------------------------------------------------------------------------------------

def big_head(n):
    return request("POST", "/echo", [("X-Big", "a" * n)])


REFUSED = {
    "no path": (404, post("/nowhere", call_text("ping"))),
    "GET without a page": (405, request("GET", "/echo")),
    "HEAD without a page": (405, request("HEAD", "/echo")),
    "PUT": (405, request("PUT", "/echo", [("Content-Type", "application/json")], call_text("ping"))),
    "DELETE": (405, request("DELETE", "/echo")),
    "PATCH": (405, request("PATCH", "/echo", body="{}")),
    "POST to a file": (405, post("/pages/index.html", call_text("ping"))),
    "POST to health": (405, post("/-/health", call_text("ping"))),
    "no length": (411, request("POST", "/echo", [("Content-Type", "application/json")])),
    "announced body too long": (413, request("POST", "/echo", [("Content-Type", "application/json"), ("Content-Length", "2097153")])),
    "announced body far too long": (413, request("POST", "/echo", [("Content-Type", "application/json"), ("Content-Length", str(2**63))])),
    "body over the consumer's limit": (413, post("/echo/small", call_text("echo", "a" * 200))),
    "target too long": (414, request("GET", "/" + "a" * 8192)),
    "target far too long": (414, request("GET", "/" + "a" * 40000)),
    "query too long": (414, request("GET", "/echo?" + "a" * 8192)),
    "no content type": (415, post("/echo", call_text("ping"), content_type=None)),
    "text/plain": (415, post("/echo", call_text("ping"), content_type="text/plain")),
    "form": (415, post("/echo", call_text("ping"), content_type="application/x-www-form-urlencoded")),
    "nearly JSON": (415, post("/echo", call_text("ping"), content_type="application/jsonx")),
    "JSON in a parameter": (415, post("/echo", call_text("ping"), content_type="text/plain; application/json")),
    "gzip": (415, post("/echo", call_text("ping"), [("Content-Encoding", "gzip")])),
    "unknown expectation": (417, post("/echo", call_text("ping"), [("Expect", "200-ok")])),
    "old WebSocket version": (426, handshake("/echo", version="8")),
    "head too long": (431, big_head(17000)),
    "head far too long": (431, big_head(100000)),
    "too many fields": (431, request("POST", "/echo", [(f"X-{i}", "") for i in range(1000)])),
    "unknown method": (501, request("BREW", "/echo")),
    "unknown coding": (501, request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "gzip, chunked")])),
    "HTTP/2.0": (505, request("GET", "/echo", version="2.0")),
    "HTTP/1.2": (505, request("GET", "/echo", version="1.2")),
    "HTTP/0.9": (505, request("GET", "/echo", version="0.9")),
    "no request line": (400, b"hello\r\n\r\n"),
    "no Host": (400, request("GET", "/echo", host=None)),
    "two Hosts": (400, request("GET", "/echo", [("Host", "a"), ("Host", "a")])),
    "relative target": (400, request("GET", "echo")),
    "a space in a name": (400, request("GET", "/echo", [("X y", "z")])),
    "TLS": (400, bytes.fromhex("16030100c8010000c40303") + b"\0" * 200),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(everything, name):
    """Each refusal has a status and a reason, and ends the connection: nothing after it can be trusted."""
    status, data = REFUSED[name]
    with Http(everything) as http:
        http.send_until_cut([data])
        response = http.response(data.split(b" ", 1)[0].decode("latin-1"))
        assert response.status == status, response
        assert response.is_last
        http.expect_end()


@pytest.mark.parametrize("name, field, value", [
    ("GET without a page", "Allow", "POST, OPTIONS"),
    ("POST to a file", "Allow", "GET, HEAD"),
    ("POST to health", "Allow", "GET, HEAD"),
    ("text/plain", "Accept-Post", "application/json, application/json-rpc"),
    ("old WebSocket version", "Sec-WebSocket-Version", "13"),
])
def test_refusals_say_what_would_do(everything, name, field, value):
    assert fetch(everything, REFUSED[name][1])[field] == value


def test_refusal_reaches_a_client_that_still_sends(everything):
    """The answer is not lost in a reset while megabytes of a refused body are under way."""
    with Http(everything) as http:
        http.send(request("POST", "/echo", [("Content-Type", "application/json"), ("Content-Length", "4000000")]))
        http.send_until_cut([b"a" * 100000] * 40)
        assert http.response().status == 413
        http.expect_end()


def test_limits_by_flags(serve):
    server = serve(["echo"], "--max-head", "600", "--max-target", "100", "--max-body", "100")
    for data, status in [
        (post("/echo", call_text("ping")), 200),
        (post("/echo", call_text("echo", "a" * 20)), 200),
        (post("/echo", call_text("echo", "a" * 100)), 413),
        (request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
         + chunked(b"a" * 101, 50), 413),
        (post("/echo?" + "a" * 94, call_text("ping")), 200),
        (post("/echo?" + "a" * 95, call_text("ping")), 414),
        (post("/echo", call_text("ping"), [("X", "a" * 600)]), 431),
    ]:
        assert fetch(server, data).status == status, data


def test_full_server_says_503(serve):
    server = serve(["echo"], "--max-connections", "3")
    admitted = [Http(server) for _ in range(3)]
    for http in admitted:
        assert answered(http.ask(post("/echo", call_text("ping")))) == "pong"
    for _ in range(3):
        with Http(server) as extra:
            response = extra.response()
            assert response.status == 503 and response.is_last
            assert response["Retry-After"]
            extra.expect_end()
    for http in admitted:
        assert answered(http.ask(post("/echo", call_text("ping")))) == "pong"
    admitted.pop().drop()
    # as soon as one is gone there is room for another
    for _ in range(10000):
        with Http(server) as again:
            again.send_until_cut([post("/echo", call_text("ping"))])
            response = again.response()
        if response.status == 200:
            break
        assert response.status == 503
    assert response.status == 200
    for http in admitted:
        http.drop()
    until(lambda: fetch(server, request("GET", "/-/health")).status == 200, "room for one more")
    server.until(lambda m: m["connections_refused"] >= 3)


# ---- HEAD, OPTIONS, own paths ---------------------------------------------------------------------

def test_head(everything):
    for target in ["/pages/", "/pages/style.css", "/-/health", "/pages/missing"]:
        with Http(everything) as http:
            get = http.ask(request("GET", target))
        with Http(everything) as http:
            head = http.ask(request("HEAD", target))
        assert head.status == get.status
        assert [field for field in head.fields if field[0] != "Date"] == [field for field in get.fields if field[0] != "Date"]
        assert head.body == b""


def test_options(everything):
    response = fetch(everything, request("OPTIONS", "*"))
    assert response.status == 204 and "POST" in response["Allow"]
    response = fetch(everything, request("OPTIONS", "/echo"))
    assert response.status == 204 and response["Allow"] == "POST, OPTIONS"


def test_health(everything):
    response = fetch(everything, request("GET", "/-/health"))
    assert (response.status, response.body) == (200, b"ok\n")


def test_metrics_are_for_this_machine_only(everything):
    response = fetch(everything, request("GET", "/-/metrics"))
    assert response.status == 200 and b"perigee_calls_total" in response.body
    for name in ["X-Forwarded-For", "Forwarded"]:  # a proxy on this machine asks for somebody else
        assert fetch(everything, request("GET", "/-/metrics", [(name, "for=192.0.2.1")])).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_path_of_an_app_leads_to_its_page(everything, method):
    response = fetch(everything, request(method, "/pages"))
    assert response.status in (301, 302, 307, 308)
    assert response["Location"] == "/pages/"
    page = fetch(everything, request(method, response["Location"]))
    assert page.status == 200 and page["Content-Type"].startswith("text/html")
    # for programs the path is the consumer's
    assert answered(fetch(everything, post("/pages", call_text("ping")))) == "pong"


# ---- connections that stay ------------------------------------------------------------------------

def test_keep_alive(everything):
    with Http(everything) as http:
        for i in range(20):
            assert answered(http.ask(post("/echo", call_text("echo", i)))) == i
            assert http.ask(request("GET", "/pages/style.css")).status == 200
            assert http.ask(post("/echo", json.dumps({"jsonrpc": "2.0", "method": "no"}))).status == 204
            assert http.ask(request("OPTIONS", "/echo")).status == 204
            assert http.ask(request("GET", "/pages/missing.css")).status == 404


@pytest.mark.parametrize("value", ["close", "Close", "CLOSE", "close\t", "\tclose ", "keep-alive, close", "close, foo", "foo,close,bar", ",close"])
def test_connection_close(everything, value):
    """Whatever it looks like, close means one answer and no second."""
    with Http(everything) as http:
        http.send(post("/echo", call_text("ping"), [("Connection", value)]) + post("/echo", call_text("mark")))
        response = http.response()
        assert answered(response) == "pong" and response.is_last
        http.expect_end()
    assert call_http(everything, "/echo", "marks") == 0


def test_http_1_0(everything):
    with Http(everything) as http:
        response = http.ask(post("/echo", call_text("ping"), version="1.0", host=None))
        assert answered(response) == "pong" and response.is_last
        http.expect_end()
    with Http(everything) as http:
        for _ in range(3):
            response = http.ask(post("/echo", call_text("ping"), [("Connection", "Keep-Alive")], version="1.0", host=None))
            assert answered(response) == "pong"
            assert response["Connection"].lower() == "keep-alive"
        # and 100 Continue is not sent to who cannot know it
        head = request("POST", "/echo", [("Content-Type", "application/json"), ("Content-Length", "10"),
                                         ("Expect", "100-continue")], version="1.0")
        http.send(head, b"1234567890")
        assert http.response().status == 200


@pytest.mark.parametrize("wait", [None, 0.05])
def test_half_closed_client_gets_its_answer(everything, wait):
    with Http(everything) as http:
        http.send(post("/echo", call_text("sleep", wait, "slept") if wait else call_text("ping")))
        http.end()
        assert answered(http.response()) == ("slept" if wait else "pong")
        http.expect_end()


def test_half_closed_client_gets_all_its_answers(everything):
    with Http(everything) as http:
        http.send(b"".join(post("/echo", call_text("sleep", 0.02, i)) for i in range(4)) + request("GET", "/pages/"))
        http.end()
        for i in range(4):
            assert answered(http.response()) == i
        assert http.response().status == 200
        http.expect_end()


BIG = 6_000_000  # more than the kernel takes for who does not read


def test_half_closed_client_that_reads_late(everything):
    """Its end is read while its answers are still on the way: they go first."""
    with Http(everything, receive_buffer=4096) as http:
        http.send(post("/echo", call_text("repeated", "x", BIG // 10)) * 10)
        http.end()
        for _ in range(20):
            assert call_http(everything, "/echo", "ping") == "pong"
        for _ in range(10):
            assert len(answered(http.response())) == BIG // 10
        http.expect_end()


def test_last_answer_of_a_connection_is_read_steadily(serve):
    """Whoever goes on reading gets all of the last answer, though it takes many times the time to linger."""
    server = serve(["echo"], "--linger-timeout", "200ms")
    with Http(server, receive_buffer=4096) as http, WebSocket(server, "/echo") as clock:
        http.send(post("/echo", call_text("repeated", "x", BIG), [("Connection", "close")]))
        for _ in range(25):
            have = len(http.buffer)
            while len(http.buffer) < have + 100_000:
                assert http.fill(), f"cut after {len(http.buffer)} of {BIG} bytes"
            clock.call("sleep", 0.03)
        assert len(answered(http.response())) == BIG
        http.expect_end()


def test_last_answer_of_a_connection_that_drips(serve):
    """It is taken all the time, but so slowly that it would take for ever: it has the time of a body of that length."""
    server = serve(["echo"], "--linger-timeout", "500ms", "--body-timeout", "200ms")
    with Http(server, receive_buffer=4096) as http, WebSocket(server, "/echo") as clock:
        http.send(post("/echo", call_text("repeated", "x", BIG // 30), [("Connection", "close")]))
        taken = 0
        while server.metrics()["slow_readers"] == 0:
            taken += len(http.socket.recv(1000))
            assert taken < BIG // 30, "nobody has cut it"
            clock.call("sleep", 0.05)
        server.until(lambda m: m["connections"] == 2)  # the clock's and that of the metrics


def test_request_cut_short_is_not_run(everything):
    whole = post("/echo", call_text("mark"))
    chunks = request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]) \
        + chunked(call_text("mark").encode(), 10)
    for data in [whole[:40], whole[:-20], whole[:-1], chunks[:-1], chunks[:-5], chunks[:-12]]:
        with Http(everything) as http:
            http.send(data)
            http.end()
            rest = http.rest()
            assert rest == b"" or rest.startswith(b"HTTP/1.1 4")
    assert call_http(everything, "/echo", "marks") == 0


# ---- pipelining -----------------------------------------------------------------------------------

def test_pipelined_answers_come_in_order(everything):
    """The first handler sleeps longest, the last not at all."""
    waits = [0.06, 0.04, 0, 0.02, 0, 0]
    with Http(everything) as http:
        http.send(b"".join(post("/echo", call_text("sleep", wait, [i, wait], id=i)) for i, wait in enumerate(waits)))
        for i, wait in enumerate(waits):
            assert http.response().json() == {"jsonrpc": "2.0", "result": [i, wait], "id": i}


def test_pipelined_requests_of_all_kinds(everything):
    file = fetch(everything, request("GET", "/pages/style.css")).body
    with Http(everything) as http:
        for _ in range(3):
            http.send(
                request("GET", "/pages/style.css") + post("/echo", call_text("sleep", 0.01, "a"))
                + request("HEAD", "/pages/") + post("/echo", '{"jsonrpc":"2.0","method":"nobody"}')
                + request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
                + chunked(call_text("ping").encode(), 7) + request("GET", "/pages/none") + request("GET", "/-/health"))
            assert http.response().body == file
            assert answered(http.response()) == "a"
            assert http.response("HEAD").status == 200
            assert http.response().status == 204
            assert answered(http.response()) == "pong"
            assert http.response().status == 404
            assert http.response().body == b"ok\n"


def test_pipelined_answers_of_bodies_that_are_copied_and_that_are_not(everything):
    """A body of up to 1 KiB leaves in one piece with its head."""
    sizes = [1, 2000, *range(980, 993), 1, 1, 5000, 3]  # an answer is 36 bytes longer
    with Http(everything) as http:
        http.send(b"".join(post("/echo", call_text("echo", "a" * size, id=i % 10)) for i, size in enumerate(sizes)))
        lengths = []
        for i, size in enumerate(sizes):
            response = http.response()
            assert response.json() == {"jsonrpc": "2.0", "result": "a" * size, "id": i % 10}
            lengths.append(int(response["Content-Length"]))
    assert {1023, 1024, 1025} <= set(lengths)


def test_many_pipelined_requests(serve):
    """They wait in the kernel, not in the server's memory."""
    server = serve(["echo"], lean=True)
    one = post("/echo", call_text("echo", "a" * 1000))
    with Http(server, receive_buffer=4096) as http:
        http.ask(one)
        http.socket.settimeout(0.2)
        with growth_below(server, 16_000_000, "unread pipelined requests"):
            sent, data = 0, one * 50
            try:  # until the server takes no more
                while sent < 100_000_000:
                    sent += http.socket.send(data)
            except TimeoutError:
                pass
        assert 0 < sent < 100_000_000
        http.socket.settimeout(PATIENCE)
        for _ in range(sent // len(one)):
            assert len(answered(http.response())) == 1000


def test_requests_in_pieces(everything):
    """One byte at a time, and cut at random: the same answers."""
    data = (post("/echo", call_text("echo", "one")) + request("GET", "/pages/style.css")
            + request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
            + chunked(call_text("echo", "two").encode(), 5, 1, 11, extension=';a="b"', trailer=b"X-Trailer: y\r\n")
            + b"\r\n\r\n" + post("/echo", call_text("echo", "three")))

    def expect(http):
        assert answered(http.response()) == "one"
        assert http.response().status == 200
        assert answered(http.response()) == "two"
        assert answered(http.response()) == "three"

    with Http(everything) as http:
        http.send(*[data[i:i + 1] for i in range(len(data))])
        expect(http)
    pick = random.Random(1)
    for _ in range(30):
        with Http(everything) as http:
            cuts = sorted(pick.sample(range(len(data)), 6))
            http.send(*[data[a:b] for a, b in zip([0] + cuts, cuts + [len(data)])])
            expect(http)


# ---- bodies ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("sizes, extension, trailer", [
    ((1,), "", b""), ((1 << 20,), "", b""), ((4096,), "", b""), ((3, 100000), "", b""),
    ((1000,), ";name=value", b""), ((1000,), ';name="quoted value"', b""), ((70000,), "", b"X-One: 1\r\nX-Two: 2\r\n"),
])
def test_chunked_body(everything, sizes, extension, trailer):
    text = "é" * (500 if sizes == (1,) else 100000)
    head = request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "Chunked")])
    with Http(everything) as http:
        for _ in range(2):
            http.send(head + chunked(call_text("echo", text).encode(), *sizes, extension=extension, trailer=trailer))
            assert answered(http.response()) == text


def test_chunk_sizes_in_hex(everything):
    head = request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
    text = call_text("echo", "a" * 500).encode()
    upper, padded = f"{len(text):X}\r\n".encode(), f"0000{len(text):x}\r\n".encode()
    with Http(everything) as http:
        for size in [upper, padded]:
            http.send(head + size + text + b"\r\n000\r\n\r\n")
            assert len(answered(http.response())) == 500


def test_trailers_change_nothing(everything):
    head = request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
    body = chunked(call_text("scope").encode(), trailer=b"User-Agent: trailer\r\nConnection: close\r\nHost: evil\r\nContent-Length: 3\r\n")
    with Http(everything) as http:
        http.send(head + body)
        assert "agent" not in answered(http.response())
        assert answered(http.ask(post("/echo", call_text("ping")))) == "pong"


@pytest.mark.parametrize("size", [1, 1000, 65535, 65536, 65537, 300000, (1 << 20) + 100, (2 << 20) - 60])
def test_bodies_of_all_sizes(everything, size):
    """The answers are as long as the bodies; strings may hold 1 MiB, so the longest has two."""
    parts = [size] if size <= 1 << 20 else [1 << 20, size - (1 << 20)]
    value = ["a" * n for n in parts]
    data = post("/echo", call_text("echo", value))
    with Http(everything) as http:
        assert answered(http.ask(data)) == value
        http.send(*[data[i:i + 50000] for i in range(0, len(data), 50000)])
        assert answered(http.response()) == value


def test_body_at_the_limit(everything):
    body = call_text("length", "a").encode()
    body += b" " * ((2 << 20) - len(body))
    with Http(everything) as http:
        assert answered(http.ask(post("/echo", body))) == 1
        http.send(request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
                  + chunked(body, 100000))
        assert answered(http.response()) == 1
        http.send_until_cut([request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
                             + chunked(body + b" ", 100000)])
        assert http.response().status == 413
        http.expect_end()


def test_empty_body(everything):
    for body in ["", " ", "\r\n"]:
        response = fetch(everything, post("/echo", body))
        assert response.status == 200 and response.json()["error"]["code"] == -32700


def test_expect_continue(everything):
    body = call_text("echo", "patience").encode()
    fields = [("Content-Type", "application/json"), ("Expect", "100-Continue")]
    with Http(everything) as http:
        for _ in range(2):
            http.send(request("POST", "/echo", [*fields, ("Content-Length", str(len(body)))]))
            assert http.response().status == 100
            http.send(body)
            assert answered(http.response()) == "patience"
        http.send(request("POST", "/echo", [*fields, ("Transfer-Encoding", "chunked")]))
        assert http.response().status == 100
        http.send(chunked(body, 4))
        assert answered(http.response()) == "patience"
        # nothing to wait for
        assert answered(http.ask(request("POST", "/echo", fields, body))) == "patience"
        assert http.ask(request("GET", "/pages/", [("Expect", "100-continue")])).status == 200


@pytest.mark.parametrize("target, fields, status", [
    ("/echo", [("Content-Length", "2097153")], 413),
    ("/echo/small", [("Content-Length", "201")], 413),
    ("/echo", [("Content-Type", "text/plain"), ("Content-Length", "10")], 415),
    ("/nowhere", [("Content-Length", "10")], 404),
    ("/echo", [("Origin", "http://evil.example"), ("Content-Length", "10")], 403),
])
def test_refused_before_the_body(everything, target, fields, status):
    """Who asks before it sends is told no instead of 100."""
    if not any(name == "Content-Type" for name, _ in fields):
        fields = [("Content-Type", "application/json"), *fields]
    with Http(everything) as http:
        response = http.ask(request("POST", target, [*fields, ("Expect", "100-continue")]))
        assert response.status == status
        http.expect_end()


# ---- cross-origin ---------------------------------------------------------------------------------

ORIGINS = [  # path, origin, is it allowed?
    ("/echo", "http://127.0.0.1", True),
    ("/echo", "http://127.0.0.1:80", True),
    ("/echo", "http://127.0.0.1:8080", False),
    ("/echo", "http://other.example", False),
    ("/echo", "null", False),
    ("/echo", "", False),
    ("/echo", "file://", False),
    ("/echo", "http://127.0.0.1.evil.example", False),
    ("/echo", "http://evil.example/127.0.0.1", False),
    ("/echo", "http://127.0.0.1@evil.example", False),
    ("/echo/trusting", "https://good.example", True),
    ("/echo/trusting", "https://GOOD.example", True),
    ("/echo/trusting", "https://good.example:443", True),
    ("/echo/trusting", "http://good.example", False),
    ("/echo/trusting", "https://good.example:8443", False),
    ("/echo/trusting", "https://good.example.evil.net", False),
    ("/echo/trusting", "https://evilgood.example", False),
    ("/echo/trusting", "https://sub.good.example", False),
    ("/echo/trusting", "https://good.example/", False),
    ("/echo/trusting", "https://good.example.", False),
    ("/echo/trusting", "https://family.example", True),
    ("/echo/trusting", "http://a.b.family.example:99", True),
    ("/echo/trusting", "https://notfamily.example", False),
    ("/echo/trusting", "https://family.example.evil.net", False),
    ("/echo/trusting", "http://local.example:8000", True),
    ("/echo/trusting", "http://local.example", False),
    ("/echo/trusting", "http://127.0.0.1", False),
    ("/echo/public", "https://anything.example", True),
    ("/echo/public", "null", True),
]


@pytest.mark.parametrize("path, origin, is_allowed", ORIGINS)
def test_origins(everything, path, origin, is_allowed):
    """One rule for POST, for the preflight before it, and for WebSockets."""
    fields = [("Origin", origin)]
    answer = fetch(everything, post(path, call_text("ping"), fields))
    preflight = fetch(everything, request("OPTIONS", path, [*fields, ("Access-Control-Request-Method", "POST"),
                                                            ("Access-Control-Request-Headers", "content-type")]))
    with Http(everything) as http:
        http.send(handshake(path, fields))
        opening = http.response()
    if is_allowed:
        assert (answer.status, preflight.status, opening.status) == (200, 204, 101)
        assert answered(answer) == "pong"
        is_named = path != "/echo/public"  # "*" lets everybody in, but not with what a visitor's cookies are worth
        for response in [answer, preflight]:
            assert response["Access-Control-Allow-Origin"] == (origin if is_named else "*")
            assert response["Access-Control-Allow-Credentials"] == ("true" if is_named else None)
            assert response["Vary"].lower() == "origin"
        assert preflight["Access-Control-Allow-Methods"] == "POST"
        assert preflight["Access-Control-Allow-Headers"] == "content-type"
    else:
        assert (answer.status, preflight.status, opening.status) == (403, 403, 403)
        for response in [answer, preflight]:
            assert response["Access-Control-Allow-Origin"] is None


def test_no_origin_is_no_browser(everything):
    response = fetch(everything, post("/echo/trusting", call_text("ping")))
    assert answered(response) == "pong"
    assert response["Access-Control-Allow-Origin"] is None


def test_origin_of_a_notification_and_of_errors(everything):
    """A page must be able to read every answer."""
    fields = [("Origin", "https://good.example")]
    for body, status in [('{"jsonrpc":"2.0","method":"nobody"}', 204), ("{", 200), (call_text("no_such"), 200), ("[]", 200)]:
        response = fetch(everything, post("/echo/trusting", body, fields))
        assert response.status == status
        assert response["Access-Control-Allow-Origin"] == "https://good.example"


@pytest.mark.parametrize("asked, granted", [
    (None, "content-type, authorization"), ("content-type,x-request-id", "content-type,x-request-id"),
    ("X-A, X-B", "X-A, X-B"), ("", "content-type, authorization"), ("x;y", "content-type, authorization"),
    ("x" * 399, "x" * 399), ("x" * 400, "x" * 400), ("x" * 401, "content-type, authorization"),
    ("azAZ09-_, b", "azAZ09-_, b"), *[("x" + char + "y", "content-type, authorization") for char in "@[`{/:\t"],
])
def test_preflight_grants_the_fields_that_are_asked_for(everything, asked, granted):
    fields = [("Origin", "https://good.example")] + ([("Access-Control-Request-Headers", asked)] if asked is not None else [])
    response = fetch(everything, request("OPTIONS", "/echo/trusting", fields))
    assert (response.status, response["Access-Control-Allow-Headers"]) == (204, granted)


def test_refused_origin_is_logged_once_with_the_cure(serve):
    server = serve(["echo"])
    for _ in range(3):
        for path, origin in [("/echo", "https://page.example"), ("/echo/trusting", "https://page.example"),
                             ("/echo", "null"), ("/echo", "https://*.example/")]:
            assert fetch(server, post(path, call_text("ping"), [("Origin", origin)])).status == 403
            assert fetch(server, handshake(path, [("Origin", origin)])).status == 403
    server.wait_log(r'origin refused path=/echo origin=https://page\.example .*origins = \{ \\"https://page\.example\\" \}')
    server.wait_log(r'origin refused path=/echo origin=null .*origins = \{ \\"\*\\" \}')
    server.wait_log(r'origin refused path=/echo origin=https://\*.example/ .*origins = \{ \\"\*\\" \}')
    server.until(lambda m: m["origins_refused"] == 24)
    server.expect_log("origin refused", 4)
    longest = "https://" + "o" * 247 + ".example"
    assert fetch(server, post("/echo", call_text("ping"), [("Origin", longest)])).status == 403
    assert f'origins = {{ \\"{longest}\\" }}"' in server.wait_log(f"origin refused path=/echo origin={longest} ").string


def test_paths_that_differ_in_their_end_are_told_apart(serve, tmp_path):
    text = 'local perigee = require "perigee"; return perigee.consumer { path = "/%s" }'
    names = ["a1", "a2", "b1"]
    server = serve(apps_folder(tmp_path / "apps", files={f"{name}.lua": text % name for name in names}))
    for name in names * 2:
        for origin in ["https://page.example", "https://page.example1"]:
            assert fetch(server, post(f"/{name}", call_text("ping"), [("Origin", origin)])).status == 403
    server.until(lambda m: m["origins_refused"] == 12)
    # the same ones again are not told again; five a second at most
    server.expect_log("origin refused", 5)
    told = {re.search(r"path=(\S+) origin=(\S+)", line).groups() for line in server.log_lines("origin refused")}
    assert len(told) == 5


@pytest.mark.parametrize("n, status", [(299, 200), (300, 200), (301, 403)])
def test_the_longest_origin(everything, n, status):
    """No page has one of more than 300 bytes: it is refused whatever it is."""
    origin = "https://" + "o" * (n - len("https://.example")) + ".example"
    assert len(origin) == n and fetch(everything, post("/echo/public", call_text("ping"), [("Origin", origin)])).status == status


def test_ever_new_origins_fill_neither_memory_nor_disk(serve):
    server = serve(["echo"])
    with Http(server) as http:
        for i in range(300):
            http.send(post("/echo", call_text("ping"), [("Origin", f"https://page-{i}.example")]))
            assert http.response().status == 403
            http.expect_end()
            http.__init__(server)
    server.until(lambda m: m["origins_refused"] == 300)
    assert len(server.log_lines("origin refused")) < 300


# ---- pages of the server's own ----------------------------------------------------------------------

def test_pages_come_from_the_checkout_when_the_lua_part_does(serve, tmp_path):
    """Who works on the server sees a change at once: no tag makes a browser keep the old text."""
    lua = shutil.copytree(ROOT / "lua", tmp_path / "lua")
    page = lua / "perigee/web/perigee.js"
    server = serve(["echo"], env={"PERIGEE_LUA": str(lua)})
    for text in [page.read_text(), "// changed\n", ""]:
        page.write_text(text)
        got = fetch(server, request("GET", "/-/perigee.js", {"If-None-Match": "*"}))
        assert (got.status, got.body.decode(), got["ETag"]) == (200, text, None)
    page.unlink()
    got = fetch(server, request("GET", "/-/perigee.js"))  # what is not there comes from the program
    assert got.status == 200 and got["ETag"] and b"export" in got.body
    assert fetch(server, request("GET", "/-/perigee.js", {"If-None-Match": got["ETag"]})).status == 304


# ---- time -----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def hasty():
    """A server with short timeouts."""
    with Server(["echo", "pages"], "--head-timeout", "250ms", "--body-timeout", "250ms", "--idle-timeout", "250ms") as one:
        yield one


def expect_408(http):
    response = http.response()
    assert response.status == 408 and response.is_last
    http.expect_end()


def test_silent_client(hasty):
    with Http(hasty) as http:
        rest = http.rest()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("data", [b"P", b"POST /echo HTTP/1.1\r\nHost: x", b"POST /echo HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\n"])
def test_slow_head(hasty, data):
    with Http(hasty) as http:
        http.send(data)
        expect_408(http)


def test_blank_lines_win_no_time(hasty):
    with Http(hasty) as http:
        http.send(b"\r\n")
        rest = http.rest()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")


def drip(http, piece=b"x"):
    """Sends a byte now and then until the server answers, which it must before a thousand have come."""
    http.socket.settimeout(0.03)
    for _ in range(1000):
        try:
            http.socket.sendall(piece)
            if not http.fill():
                break
        except (BrokenPipeError, ConnectionResetError):
            break
        except AssertionError:  # nothing yet
            continue
        break
    else:
        raise AssertionError("a thousand bytes came one by one, and were waited for")
    http.socket.settimeout(PATIENCE)


def test_dripping_head_wins_no_time(hasty):
    with Http(hasty) as http:
        http.send(b"POST /echo HTTP/1.1\r\nX-Slow: ")
        drip(http)
        expect_408(http)


def test_slow_body(hasty):
    data = post("/echo", call_text("mark"))
    for cut in [len(data) - 1, data.index(b"\r\n\r\n") + 4, data.index(b"\r\n\r\n") + 5]:
        with Http(hasty) as http:
            http.send(data[:cut])
            expect_408(http)
    assert call_http(hasty, "/echo", "marks") == 0


def test_slow_chunks(hasty):
    head = request("POST", "/echo", [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")])
    for data in [head, head + b"5", head + b"5\r\n", head + b"5\r\n12345\r\n", head + b"0\r\n"]:
        with Http(hasty) as http:
            http.send(data)
            expect_408(http)


def test_dripping_body_wins_no_time(hasty):
    """Each byte comes in time, but the whole would take minutes."""
    with Http(hasty) as http:
        http.send(request("POST", "/echo", [("Content-Type", "application/json"), ("Content-Length", "10000")]))
        drip(http)
        expect_408(http)


def test_idle_connection(hasty):
    with Http(hasty) as http:
        assert answered(http.ask(post("/echo", call_text("ping")))) == "pong"
        http.expect_end()


def test_idle_connection_with_half_a_request(hasty):
    with Http(hasty) as http:
        assert answered(http.ask(post("/echo", call_text("ping")))) == "pong"
        http.send(b"POST /ec")
        expect_408(http)


def test_handler_may_take_longer_than_any_timeout(hasty):
    with Http(hasty) as http:
        assert answered(http.ask(post("/echo", call_text("sleep", 0.8, "rested")))) == "rested"
        assert answered(http.ask(post("/echo", call_text("ping")))) == "pong"


def test_each_timeout_is_its_own(serve):
    """An idle connection outlives one that is slow with its head, though it is older."""
    server = serve(["echo"], "--head-timeout", "200ms", "--idle-timeout", "1h", "--body-timeout", "1h")
    with Http(server) as idle, Http(server) as slow_body, Http(server) as slow_head:
        assert answered(idle.ask(post("/echo", call_text("ping")))) == "pong"
        slow_body.send(post("/echo", call_text("ping"))[:-1])
        slow_head.send(b"POST /echo")
        expect_408(slow_head)
        assert answered(idle.ask(post("/echo", call_text("ping")))) == "pong"
        slow_body.send(b"}")
        assert answered(slow_body.response()) == "pong"
    assert server.metrics()["http_timeouts"] == 1


def test_idle_connection_costs_no_request(hasty):
    """A websocket on the same server does not know these timeouts."""
    with WebSocket(hasty, "/echo") as ws, Http(hasty) as http:
        http.ask(post("/echo", call_text("ping")))
        http.expect_end()
        assert ws.call("ping") == "pong"


# ---- no header can be smuggled into answers -------------------------------------------------------

def test_nothing_of_the_request_gets_into_the_head(everything):
    for target in ["/echo%0d%0aX-Evil:%20yes", "/pages%0d%0aX-Evil:1", "/%0d%0aSet-Cookie:%20a=b", "/pages/%0d%0aX-Evil:1/"]:
        for method in ["GET", "POST"]:
            response = fetch(everything, request(method, target, body="" if method == "POST" else None))
            assert response.status in (400, 404, 405), response
            assert not any("evil" in name.lower() or "cookie" in name.lower() for name, _ in response.fields)
    response = fetch(everything, post("/echo/public", call_text("ping"), [("Origin", "https://a.example\tX: y")]))
    assert "X" not in dict(response.fields)
