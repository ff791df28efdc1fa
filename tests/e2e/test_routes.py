"""Handlers of plain HTTP over real sockets: framing, limits, faults, the end of the server, browsers."""
import json
import re
import signal

import pytest

import browser as browsers
from server import growth_below
from wire import Ended, Http, WebSocket, call_text, chunked, fetch, handshake, post, request

FORM = "application/x-www-form-urlencoded"


def get(target, headers=(), method="GET", **more):
    return request(method, target, headers, **more)


def marks(server):
    return int(fetch(server, get("/desk/marks")).body)


# ---- requests and answers -------------------------------------------------------------------------

def test_one_after_the_other_on_one_connection(everything):
    with Http(everything) as http:
        for i in range(10):
            assert http.ask(get(f"/desk/item/{i}")).json() == {"id": str(i), "client": "127.0.0.1"}
            assert http.ask(request("POST", "/desk/echo", body=bytes([i]) * i)).body == bytes([i]) * i
            assert http.ask(get("/desk/nothing")).status == 404 if i == 9 else True


def test_pipelined_with_all_else(everything):
    with Http(everything) as http:
        http.send(get("/desk/sleep/30") + get("/desk/ping") + get("/desk/other.txt") + request("POST", "/desk/echo", body="a" * 50000)
                  + get("/desk/fault") + get("/desk/ping", method="HEAD") + post("/desk/both", call_text("ping")) + get("/desk/both.txt")
                  + request("OPTIONS", "/desk/echo") + get("/desk/sleep/1"))
        assert [http.response().body for _ in range(4)] == [b"30", b"pong", b"other", b"a" * 50000]
        assert http.response().status == 500
        head = http.response("HEAD")
        assert (head.status, head["Content-Length"], head.body) == (200, "4", b"")
        assert http.response().json()["result"] == "pong"
        assert http.response().body == b"handler"  # and not the file of that name
        assert http.response()["Allow"] == "POST, PUT, OPTIONS"
        assert http.response().body == b"1"


@pytest.mark.parametrize("body", [b"", b"x", b"\0\xff" * 1000, b"a" * 100000])
def test_bodies(everything, body):
    with Http(everything) as http:
        for method in ["POST", "PUT"]:
            assert http.ask(request(method, "/desk/echo", body=body)).body == body
            http.send(request(method, "/desk/echo", [("Transfer-Encoding", "chunked")]), chunked(body, 7000))
            assert http.response().body == body
        assert http.ask(request("POST", "/desk/echo")).body == b""  # no length: no body


def test_a_body_over_the_limit_never_reaches_a_handler(everything):
    before = marks(everything)
    for target, n in [("/desk/mark", 100001), ("/desk/strict", 11)]:
        assert fetch(everything, request("POST", target, [("Content-Length", str(n))])).status == 413
        assert fetch(everything, request("POST", target, [("Transfer-Encoding", "chunked")]) + chunked(b"a" * n)).status == 413
    assert fetch(everything, request("POST", "/desk/strict", body="a" * 10)).body == b"a" * 10
    assert marks(everything) == before


def test_expect_continue(everything):
    with Http(everything) as http:
        http.send(request("POST", "/desk/echo", [("Expect", "100-continue"), ("Content-Length", "3")]))
        assert http.response().status == 100
        http.send(b"abc")
        assert http.response().body == b"abc"
        http.send(request("POST", "/desk/strict", [("Expect", "100-continue"), ("Content-Length", "11")]))
        assert http.response().status == 413


def test_http_1_0_and_close(everything):
    with Http(everything) as http:
        response = http.ask(get("/desk/ping", version="1.0", host=None))
        assert (response.body, response.is_last) == (b"pong", True)
        http.expect_end()
    with Http(everything) as http:
        response = http.ask(get("/desk/sleep/1", [("Connection", "close")]))
        assert (response.body, response.is_last) == (b"1", True)
        http.expect_end()


def test_a_body_is_no_second_request(everything):
    """Handlers for all methods read the bodies that come with them."""
    before = marks(everything)
    smuggled = request("POST", "/desk/mark")
    with Http(everything) as http:
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]:
            http.send(request(method, "/desk/ping", [("Content-Length", str(len(smuggled)))]) + smuggled)
            response = http.response(method)
            if response.is_last:
                http.expect_end()
                http.__init__(everything)
            else:
                assert http.ask(get("/desk/ping")).body == b"pong"
    assert marks(everything) == before


def test_nothing_of_the_request_breaks_the_head(everything):
    with Http(everything) as http:
        assert http.ask(get("/desk/header?say=fine%09tab")).fields.count(("X-Said", "fine\ttab")) == 1
        for bad in ["a%0D%0ASet-Cookie:%20b=c", "a%0Ab", "a%0Db", "a%7F", "%01"]:
            response = http.ask(get(f"/desk/header?say={bad}"))
            assert response.status == 500 and response["X-Said"] is None and response["Set-Cookie"] is None
        assert http.ask(get("/desk/ping")).body == b"pong"


def test_half_closed_client_gets_its_answer(everything):
    with Http(everything) as http:
        http.send(get("/desk/sleep/20") + get("/desk/ping"))
        http.end()
        assert http.response().body == b"20"
        assert http.response().body == b"pong"
        http.expect_end()


def test_a_handler_runs_to_its_end_when_the_client_has_left(everything):
    before = marks(everything)
    for leave in ["drop", "reset"]:
        http = Http(everything)
        http.send(get("/desk/gone"))
        getattr(http, leave)()
    everything.until(lambda _: marks(everything) == before + 2)


# ---- WebSockets beside ----------------------------------------------------------------------------

def test_upgrades_on_a_route_are_requests(everything):
    with Http(everything) as http:
        http.send(handshake("/desk/ping") + get("/desk/marks"))
        assert http.response().body == b"pong"
        assert http.response().status == 200
    assert fetch(everything, handshake("/desk/echo")).status == 405
    assert fetch(everything, handshake("/desk/other.txt")).body == b"other"


def test_a_handler_beside_json_rpc(everything):
    with WebSocket(everything, "/desk/both") as ws:
        assert ws.call("ping") == "pong"
    assert fetch(everything, get("/desk/both")).body == b"page"
    assert fetch(everything, handshake("/desk/both", method="POST")).status == 400
    assert fetch(everything, post("/desk/both", "name=x", content_type=FORM)).status == 415
    assert fetch(everything, post("/desk/both/form", "name=x+y", content_type=FORM)).body == b"hello x y"
    for origin, status in [("http://evil.example", 403), ("null", 403), ("http://127.0.0.1", 200)]:
        assert fetch(everything, post("/desk/both/form", "name=x", [("Origin", origin)], content_type=FORM)).status == status
        assert fetch(everything, get("/desk/both", [("Origin", origin)])).status == status


# ---- when something goes wrong --------------------------------------------------------------------

def test_a_fault_has_an_id_and_the_connection_lives(everything):
    with Http(everything) as http:
        response = http.ask(get("/desk/fault"))
        assert response.status == 500 and not response.is_last
        error = response.json()["error"]
        assert error["code"] == -32603 and list(error["data"]) == ["error_id"]
        everything.wait_log(r"handler failed .*error_id=" + re.escape(error["data"]["error_id"]))
        everything.wait_log(r'handler failed .*method="GET /desk/fault" path=/desk')
        assert http.ask(get("/desk/ping")).body == b"pong"


def test_a_fault_in_dev_is_shown(serve):
    server = serve(["desk"], verb="dev")
    assert fetch(server, get("/desk/both")).body == b"page"
    dev = fetch(server, get("/desk/fault")).json()["error"]["data"]["dev"]
    assert "attempt to perform arithmetic" in dev["message"] and "desk/init.lua" in dev["file"]


def test_too_slow(everything):
    response = fetch(everything, get("/desk/strict/slow"))
    assert response.status == 504
    assert response.json()["error"]["data"] == {"timeout": 0.1}


def test_a_handler_that_spins_or_eats_all_memory(serve):
    server = serve(["desk"], "--lua-memory", "16MiB")
    with Http(server) as other:
        for _ in range(2):
            assert fetch(server, get("/desk/spin")).status == 504
            assert fetch(server, get("/desk/eat")).status == 500
            assert other.ask(get("/desk/ping")).body == b"pong"


def test_long_answers_and_slow_readers(serve):
    server = serve(["desk"], lean=True)
    fetch(server, get("/desk/long/8000000"))
    with growth_below(server, 90_000_000, "long answers that nobody reads"):
        readers = [Http(server, receive_buffer=4096) for _ in range(5)]
        for http in readers:
            http.send(get("/desk/long/8000000") * 3)
            assert http.fill()
        for http in readers:  # one answer waits for its reader, not all three
            assert len(http.response().body) == 8000000
            http.drop()
    assert fetch(server, get("/desk/long/9000000")).status == 500


def test_requests_under_way_are_answered_before_the_end(serve):
    server = serve(["desk"])
    with Http(server) as http, Http(server) as idle:
        idle.ask(get("/desk/ping"))
        http.send(get("/desk/sleep/300") + get("/desk/ping"))
        server.until(lambda m: m["http_calls"] == 2)
        server.signal(signal.SIGTERM)
        response = http.response()
        assert (response.body, response.is_last) == (b"300", True)
        http.expect_end()
        idle.expect_end()
    server.wait()


def test_requests_are_counted(everything):
    before = everything.metrics()
    fetch(everything, get("/desk/ping"))
    fetch(everything, get("/desk/fault"))
    after = everything.metrics()
    assert after["http_calls"] == before["http_calls"] + 2
    assert after["faults"] == before["faults"] + 1


def test_random_requests(everything):
    """Cut anywhere, they are answered, or the connection ends; nobody else notices."""
    data = (request("POST", "/desk/echo", [("Transfer-Encoding", "chunked")]) + chunked(b"abc" * 10, 4)
            + get("/desk/item/7") + request("PUT", "/desk/echo", body="x" * 20) + get("/desk/ping"))
    for cut in range(0, len(data), 7):
        with Http(everything) as http:
            http.send(data[:cut])
            http.send(data[cut:])
            assert [http.response().status for _ in range(4)] == [200] * 4
        with Http(everything) as http:
            http.send(data[:cut])
            http.end()
            try:
                while True:
                    assert http.response().status in (200, 400)
            except Ended:
                pass


# ---- a browser ------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def browser():
    if not browsers.find_chromium():
        pytest.skip("chromium is not installed (Debian: apt install chromium)")
    with browsers.Browser() as one:
        yield one


def test_pages_of_other_origins(browser, serve):
    """What a browser lets a page read: with cookies only where its origin is named."""
    server, pages = serve(["desk"]), serve(["pages"])
    base = f"http://127.0.0.1:{server.port}/desk/open"
    script = """
      (async () => {
        const out = {};
        const ask = async (name, path, options) => {
          try {
            const answer = await fetch(BASE + path, options);
            out[name] = [answer.status, await answer.json()];
          } catch (e) { out[name] = "refused"; }
        };
        await ask("get", "/who");
        await ask("with cookies", "/who", { credentials: "include" });
        await ask("form", "/form", { method: "POST", body: new URLSearchParams({ name: "Ann Öz" }) });
        await ask("preflight", "/thing", { method: "PUT", body: '{"a":1}', headers: { "X-Key": "k", "Content-Type": "application/json" } });
        await ask("other method", "/thing", { method: "DELETE" });
        await ask("not open", "/../ping");
        return out;
      })()""".replace("BASE", json.dumps(base))
    named, stranger = f"http://pages.localhost:{pages.port}/pages/", f"http://127.0.0.1:{pages.port}/pages/"
    for url, is_named in [(named, True), (stranger, False)]:
        tab = browser.tab(url)
        out = tab.eval(script)
        assert out["get"] == [200, {"cookie": "none"}]
        assert out["with cookies"] == ([200, {"cookie": "none"}] if is_named else "refused")
        assert out["form"] == [200, {"name": "Ann Öz"}]
        assert out["preflight"] == [200, {"thing": {"a": 1}, "key": "k"}]
        assert out["other method"] == "refused"
        assert out["not open"] == "refused"
        tab.close()
