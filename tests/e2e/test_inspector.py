"""The inspector: who may see it, what it tells, and its page in a browser."""
import json
import time
import types

import pytest

import browser as browsers
import server as servers
from server import ROOT, apps_folder, until
from test_pages import assert_fits, contrasts, only_refused
from wire import Closed, Http, RpcError, WebSocket, fetch, handshake, post, request

HOSTILE = "<img src=x onerror=\"document.title='pwned'\">"
TRICK = "<script>document.title='pwned'</script> \u202egpj.exe & \x1b[31m \"'`"

APP = f"""
local perigee = require "perigee"
local C = perigee.consumer {{}}

function C:connect() self:group_add("all") end

C:rpc_method("ping", {{ doc = {json.dumps(HOSTILE)} }}, function() return "pong" end)
C:rpc_method("add", {{ doc = "Adds.", params = {{ {{ "a", "integer" }}, {{ "b", {{ "integer?", min = 1, max = 5 }} }} }} }},
  function(_, a, b) return a + (b or 0) end)
C:rpc_method("many", {{ params = {{ {{ "word", {{ "string?", enum = {{ "yes", "no" }} }} }}, {{ "is", "boolean?" }}, {{ "list", "array?" }},
  {{ "text", "string?" }}, {{ "ratio", "number?" }} }} }}, function(_, word, is, list, text, ratio)
  return {{ word = word, is = is, list = list, text = text, ratio = ratio }}
end)
C:rpc_method("all", function(_, first, ...) return {{ first, ... }} end)
C:rpc_method("join", function(ctx, name) return ctx:group_add(name) end)
C:rpc_method("crash", function() return nil .. "x" end)
C:rpc_method("refuse", function(_, text) return nil, text end)
C:rpc_method({json.dumps(HOSTILE)}, function(_, value) error({json.dumps("pwned? ")} .. tostring(value)) end)
C:rpc_notification("note", function(ctx, text) ctx:notify("noted", {{ text = text }}) end)

local Room = perigee.consumer {{ path = "/room/:id", origins = {{ "https://elsewhere.example" }} }}
Room:rpc_method("which", function(ctx) return ctx.scope.path_params.id end)

return {{ C, Room }}
"""


@pytest.fixture
def folder(tmp_path):
    return apps_folder(tmp_path / "apps", files={"test.lua": APP})


@pytest.fixture
def dev(serve, folder):
    return serve(folder, verb="dev")


def inspector(server, **more):
    return WebSocket(server, "/-/inspector", **more)


def ticks_until(one, is_so):
    """Reads ticks until they fulfil something together; returns them."""
    seen, end = [], time.monotonic() + servers.PATIENCE
    while not is_so(seen):
        assert time.monotonic() < end, seen
        seen.append(one.expect("tick"))
    return seen


def events(ticks, kind):
    return [event for tick in ticks for event in tick["events"] if event["kind"] == kind]


# ---- who may see it -----------------------------------------------------------------------------------

PAGES = ["/-/", "/-/inspector/inspector.js", "/-/inspector/style.css", "/-/inspector/icon.svg"]


def test_dev_shows_it(dev):
    for path in PAGES:
        got = fetch(dev, request("GET", path, host=dev.netloc))
        assert got.status == 200 and got.body, path
        policy = got["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert got["X-Frame-Options"] == "DENY" and got["Referrer-Policy"] == "no-referrer"
        assert got["Access-Control-Allow-Origin"] is None
        assert fetch(dev, request("HEAD", path, host=dev.netloc)).status == 200
        assert fetch(dev, request("POST", path, body="{}", host=dev.netloc)).status == 405
        assert fetch(dev, request("GET", path, {"If-None-Match": got["ETag"]}, host=dev.netloc)).status == 304
    assert inspector(dev).call("hello")["is_dev"] is True
    assert "/-/" in dev.output.decode() if dev.output else True


def is_hidden(server, got, like):
    """Nothing tells it from what does not exist."""
    return (got.status, got.body, [name for name, _ in got.fields]) == (like.status, like.body, [name for name, _ in like.fields])


def assert_hidden(server, headers=(), host=None, status=404):
    host = host or server.netloc
    nothing = fetch(server, request("GET", "/-/nothing", headers, host=host))
    assert nothing.status == status
    for path in PAGES:
        assert is_hidden(server, fetch(server, request("GET", path, headers, host=host)), nothing), path
    for path in ("/-/inspector", "/-/inspector/"):
        assert is_hidden(server, fetch(server, handshake(path, headers, host=host)), nothing), path
        assert is_hidden(server, fetch(server, request("GET", path, headers, host=host)), nothing), path
        assert fetch(server, post(path, {"jsonrpc": "2.0", "id": 1, "method": "hello"}, headers, host=host)).status == status


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:80"])
def test_names_that_somebody_elses_dns_resolves(dev, name):
    assert_hidden(dev, host=name, status=421)  # as is all else: test_access.py


@pytest.mark.parametrize("name", ["localhost", "localhost:1234", "127.0.0.1", "127.0.0.2:80", "[::1]:80"])
def test_names_of_this_machine(dev, name):
    assert fetch(dev, request("GET", "/-/", host=name)).status == 200
    assert fetch(dev, handshake("/-/inspector", host=name)).status == 101


@pytest.mark.parametrize("line", [("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")])
def test_not_through_a_proxy(dev, line):
    assert_hidden(dev, [line])


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1", "null", "http://localhost"])
def test_pages_of_other_origins(dev, origin):
    assert fetch(dev, handshake("/-/inspector", {"Origin": origin}, host=dev.netloc)).status == 403


def test_a_page_of_its_own(dev):
    assert fetch(dev, handshake("/-/inspector", {"Origin": f"http://{dev.netloc}"}, host=dev.netloc)).status == 101


def test_serve_hides_it(serve, folder):
    assert_hidden(serve(folder))


def test_serve_shows_it_on_another_port(serve, folder):
    server = serve(folder, "--admin", "127.0.0.1:0")
    port = int(server.wait_log(r"\binspector\b.* url=http://127\.0\.0\.1:(\d+)/-/")[1])
    assert port != server.port
    assert_hidden(server)
    assert_hidden(server, host=f"127.0.0.1:{port}")  # the field says so, the socket does not
    admin = types.SimpleNamespace(address=("127.0.0.1", port), netloc=f"127.0.0.1:{port}")
    for path in PAGES:
        assert fetch(admin, request("GET", path, host=admin.netloc)).status == 200
    assert fetch(admin, request("GET", "/-/", host="admin.example")).status == 404
    with inspector(admin) as one:
        assert one.call("hello")["is_dev"] is False
        one.call("watch")
        visitor = WebSocket(server, "/test")
        visitor.call("all", "secret")
        calls = events(ticks_until(one, lambda ticks: events(ticks, "call")), "call")
        assert calls[0]["method"] == "all" and "params" not in calls[0]  # what people write is their own


def test_serve_shows_it_on_this_machine_only(folder):
    ended = servers.run("serve", "--apps", folder, "--admin", "0.0.0.0:0")
    assert ended.returncode == 1 and "this machine only" in ended.stderr and "ssh -L" in ended.stderr
    ended = servers.run("serve", "--apps", folder, "--admin", "nonsense")
    assert ended.returncode == 2 and "--admin" in ended.stderr


def test_its_port_is_taken(serve, folder):
    first = serve(folder)
    ended = servers.run("serve", "--apps", folder, "--listen", "127.0.0.1:0", "--admin", first.netloc)
    assert ended.returncode == 1 and "--admin" in ended.stderr


def test_no_app_takes_its_place(serve, tmp_path):
    folder = apps_folder(tmp_path / "apps", files={
        "a.lua": 'local p = require "perigee"\nreturn p.consumer { path = "/-/inspector" }\n',
        "-/init.lua": 'local p = require "perigee"\nreturn p.consumer { path = "/-/health" }\n', "-/public/index.html": "mine"})
    server = serve(folder, verb="dev")
    assert fetch(server, request("GET", "/-/health", host=server.netloc)).body == b"ok\n"
    assert b"Perigee inspector" in fetch(server, request("GET", "/-/", host=server.netloc)).body
    assert inspector(server).call("hello")["apps"][0]["name"] == "-"


# ---- what it tells ------------------------------------------------------------------------------------

def test_apps(dev):
    apps = inspector(dev).call("hello")["apps"]
    assert [app["name"] for app in apps] == ["test"] and apps[0]["generation"] == 1
    test, room = apps[0]["consumers"]
    assert (test["path"], room["path"], room["origins"]) == ("/test", "/room/:id", ["https://elsewhere.example"])
    methods = {method["name"]: method for method in test["methods"]}
    assert methods["add"]["description"] == "Adds."
    assert methods["add"]["params"][1] == {"name": "b", "required": False, "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 5}}
    assert "result" not in methods["note"]


def test_ticks(dev):
    one = inspector(dev)
    assert one.call("watch") is True and one.call("watch") is True
    visitor = WebSocket(dev, "/test?from=here")
    for _ in range(3):
        visitor.call("ping")
    for method, *params in (("crash",), ("refuse", "no"), ("unknown",), (HOSTILE, "\x00" * 300)):
        with pytest.raises(RpcError):
            visitor.call(method, *params)
    fetch(dev, post("/test", {"jsonrpc": "2.0", "id": 1, "method": "ping"}))
    visitor.close(4001, "bye")
    ticks = ticks_until(one, lambda ticks: events(ticks, "closed"))
    opened, closed = events(ticks, "opened")[0], events(ticks, "closed")[0]
    assert opened["conn"] == closed["conn"] and (closed["code"], closed["reason"], closed["path"]) == (4001, "bye", "/test")
    calls = events(ticks, "call")
    assert [call["method"] for call in calls] == ["ping"] * 3 + ["crash", "refuse", "unknown", HOSTILE, "ping"]
    assert [call.get("code") for call in calls] == [None] * 3 + [-32603, -32000, -32601, -32000, None]
    assert calls[4]["message"] == "no" and calls[4]["params"] == '["no"]'
    assert calls[6]["message"].startswith("pwned? <U+0000>") and len(calls[6]["message"]) < 3000
    fault, = events(ticks, "fault")
    assert fault["id"] == calls[3]["error_id"] and fault["method"] == "crash" and "test.lua" in fault["file"]
    assert fault["line"] == next(i for i, line in enumerate(APP.split("\n"), 1) if '"crash"' in line)
    methods = {}
    for tick in ticks:
        methods.update({method["method"]: method for method in tick["methods"]})
    assert methods["ping"]["calls"] == 4 and methods["ping"]["errors"] == 0 and methods["crash"]["errors"] == 1
    assert "unknown" not in methods
    assert sum(n for _, n in methods["ping"]["buckets"]) == 4
    assert 0 < methods["ping"]["max"] <= methods["ping"]["seconds"]
    assert ticks[-1]["metrics"]["calls"] >= 8 and ticks[-1]["lua_memory"] > 0

    # who comes later gets the sums, and what went wrong before
    later = inspector(dev)
    assert [fault["method"] for fault in later.call("hello")["faults"]] == ["crash"]
    later.call("watch")
    assert {method["method"]: method["calls"] for method in later.expect("tick")["methods"]}["ping"] == 4


def test_nothing_is_counted_when_nobody_watches(dev):
    one = inspector(dev)
    visitor = WebSocket(dev, "/test")
    visitor.call("ping")
    one.call("watch")
    visitor.call("add", 1)
    assert [method["method"] for tick in ticks_until(one, lambda t: events(t, "call")) for method in tick["methods"]] == ["add"]
    one.close()
    visitor.call("ping")
    again = inspector(dev)
    again.call("watch")
    assert again.expect("tick")["methods"] == []


def test_a_flood(dev):
    one = inspector(dev)
    one.call("watch")
    visitor = WebSocket(dev, "/test")
    n = 3000
    for i in range(0, n, 50):
        visitor.send_text(json.dumps([{"jsonrpc": "2.0", "id": i + k, "method": "ping"} for k in range(50)]))
    for _ in range(0, n, 50):
        assert len(visitor.receive_json()) == 50
    ticks = ticks_until(one, lambda ticks: [m for tick in ticks for m in tick["methods"] if m["calls"] == n])
    assert all(len(tick["events"]) <= 100 for tick in ticks)
    told = sum(len(tick["events"]) + tick["dropped"] for tick in ticks)
    assert told >= n and sum(tick["dropped"] for tick in ticks) > 0
    assert dev.metrics()["inspector_dropped"] > 0


def test_too_many_watch(dev):
    ones = [inspector(dev) for _ in range(17)]
    for one in ones[:16]:
        assert one.call("watch") is True
    with pytest.raises(RpcError) as refused:
        ones[16].call("watch")
    assert refused.value.code == 2
    ones[0].close()
    until(lambda: not isinstance(try_call(ones[16], "watch"), RpcError), "a place")


def try_call(one, *call):
    try:
        return one.call(*call)
    except RpcError as error:
        return error


def test_connections(dev):
    one = inspector(dev)
    visitors = [WebSocket(dev, f"/test?number={i}", {"Cookie": "secret=1", "X-Odd": "\xff\xfe"}) for i in range(120)]
    ids = {}
    for i, visitor in enumerate(visitors):
        if i % 2:
            visitor.call("join", "odd")
    seen, after = [], 0
    while after is not None:
        page = one.call("connections", after, 50, "/test")
        assert len(page["rows"]) <= 50
        seen += page["rows"]
        after = page.get("next")
    assert len({row["id"] for row in seen}) == len(seen) == 120
    assert all(row["path"] == "/test" and row["address"] == "127.0.0.1" and row["protocol"] == "websocket" for row in seen)
    assert len(one.call("connections", 0, 200, None, "odd")["rows"]) == 60
    row, = one.call("connections", 0, 200, None, None, "number=77 ")["rows"]
    assert one.call("connections", 0, 200, "/room/:id")["rows"] == []
    assert row["groups"] == 2 and row["calls"] == 0 and 0 <= row["idle"] <= row["age"]
    facts = one.call("connection", row["id"])
    assert sorted(facts["group_names"]) == ["all", "odd"] and facts["request"]["query"] == "number=77"
    headers = {header["name"]: header["value"] for header in facts["request"]["headers"]}
    assert headers["cookie"] == "(8 bytes, not shown)" and "secret" not in json.dumps(facts)
    assert headers["x-odd"] == "\\xff\\xfe"
    assert one.call("groups")["rows"] == [
        {"name": "all", "members": 120, "can_ask": True}, {"name": "odd", "members": 60, "can_ask": True}]
    assert one.call("groups", "od")["total"] == 1
    assert ids == {}


def test_names_of_groups_are_bytes(dev):
    one, visitor = inspector(dev), WebSocket(dev, "/test")
    visitor.call("join", HOSTILE)
    assert {"name": HOSTILE, "members": 1, "can_ask": True} in one.call("groups")["rows"]


def test_dropping(dev):
    one = inspector(dev)
    visitor = WebSocket(dev, "/test")
    row, = one.call("connections", 0, 50, "/test")["rows"]
    assert one.call("drop", row["id"]) is True
    assert visitor.expect_close() == (4000, "dropped by the operator")
    assert isinstance(try_call(one, "drop", row["id"]), RpcError)
    # HTTP has no closing handshake
    with Http(dev) as http:
        assert http.ask(request("GET", "/-/health", host=dev.netloc)).status == 200
        row, = [row for row in one.call("connections")["rows"] if row["protocol"] == "http"]
        assert one.call("drop", row["id"]) is True
        http.expect_end()
    dev.wait_log("dropped")


def test_it_does_not_see_itself(dev):
    one, two = inspector(dev), inspector(dev)
    assert one.call("connections")["rows"] == []
    for i in range(0x1000000, 0x1000004):
        assert isinstance(try_call(one, "drop", f"{i:x}"), RpcError)
    assert two.call("hello")


@pytest.mark.parametrize("call", [
    ("drop", ""), ("drop", "xyz"), ("drop", "1.5"), ("drop", -1), ("connection", "0x10"), ("connection", "f" * 17), ("connections", -1),
    ("connections", 0, 0), ("connections", 0, 1000), ("connections", 2 ** 41), ("connections", 0, 10, 5), ("groups", 5),
    ("groups", "", 100000), ("connections", 0, 10, None, ""), ("nothing",), ("hello", 1)])
def test_bad_input(dev, call):
    with inspector(dev) as one:  # a socket left open is waited for at the end
        answer = try_call(one, *call)
        assert isinstance(answer, RpcError) and answer.code != -32603, answer
        assert one.call("hello")


def test_a_place_that_is_gone(dev):
    assert inspector(dev).call("connections", 4000000000)["rows"] == []


def test_reloads(dev, folder):
    one, visitor = inspector(dev), WebSocket(dev, "/test")
    one.call("watch")
    (folder / "test.lua").write_text(APP.replace('"pong"', '"PONG"'))
    reloaded, = events(ticks_until(one, lambda ticks: events(ticks, "app_reloaded")), "app_reloaded")
    assert (reloaded["app"], reloaded["generation"]) == ("test", 2)
    assert one.call("apps")[0]["generation"] == 2
    assert visitor.call("ping") == "PONG"
    # calls of the new code are counted with those of the old
    ticks_until(one, lambda ticks: [m for tick in ticks for m in tick["methods"] if m["method"] == "ping"])
    (folder / "test.lua").write_text(APP + "\nthis is no Lua " + HOSTILE)
    failed, = events(ticks_until(one, lambda ticks: events(ticks, "app_reload_failed")), "app_reload_failed")
    assert failed["app"] == "test" and "test.lua" in failed["message"] and "this is no Lua" in failed["message"]
    assert one.call("apps")[0]["generation"] == 2
    kept = inspector(dev).call("hello")["reloads"]
    assert [event["kind"] for event in kept] == ["app_loaded", "app_reloaded", "app_reload_failed"]


# ---- several workers ----------------------------------------------------------------------------------

@pytest.fixture
def crew(serve, folder):
    """A server with three workers, and where its inspector is."""
    server = serve(folder, "--workers", "3", "--admin", "127.0.0.1:0")
    port = int(server.wait_log(r"\binspector\b.* url=http://127\.0\.0\.1:(\d+)/-/")[1])
    return server, types.SimpleNamespace(address=("127.0.0.1", port), netloc=f"127.0.0.1:{port}")


def test_all_workers_are_seen(crew):
    server, admin = crew
    one = inspector(admin)
    hello = one.call("hello")
    assert hello["workers"] == 3 and [app["name"] for app in hello["apps"]] == ["test"]
    assert len(hello["reloads"]) == 1  # not once per worker
    visitors = [WebSocket(server, f"/test?number={i}") for i in range(60)]
    for visitor in visitors[:30]:
        visitor.call("join", "half")
    seen, after = [], 0
    while after is not None:
        page = one.call("connections", after, 7, "/test")
        assert len(page["rows"]) <= 7
        seen += page["rows"]
        after = page.get("next")
    assert len({row["id"] for row in seen}) == len(seen) == 60
    assert {row["id"].split(":")[0] for row in seen} == {"0", "1", "2"}
    assert {row["name"]: row["members"] for row in one.call("groups")["rows"]} == {"all": 60, "half": 30}
    assert len(one.call("connections", 0, 200, None, "half")["rows"]) == 30
    for worker in "012":
        row = next(row for row in seen if row["id"].startswith(worker))
        facts = one.call("connection", row["id"])
        number = int(facts["request"]["query"].split("=")[1])
        assert one.call("drop", row["id"]) is True
        assert visitors[number].expect_close() == (4000, "dropped by the operator")
    for bad in ("3:1000000", "99:1", "-1:1", "1:", ":1", "1:xyz"):
        assert isinstance(try_call(one, "drop", bad), RpcError)


def test_the_work_of_all_workers_is_summed(crew):
    server, admin = crew
    one = inspector(admin)
    one.call("watch")
    one.expect("tick")  # the others know by now
    one.expect("tick")
    visitors = [WebSocket(server, "/test") for _ in range(30)]
    for visitor in visitors:
        visitor.call("ping")
        try_call(visitor, "crash")
    ticks = ticks_until(one, lambda ticks: [m for tick in ticks for m in tick["methods"] if (m["method"], m["calls"]) == ("ping", 30)]
                        and sum(len(tick["events"]) + tick["dropped"] for tick in ticks) >= 120)
    latest = {m["method"]: m for tick in ticks for m in tick["methods"]}
    assert sum(n for _, n in latest["ping"]["buckets"]) == 30
    assert latest["crash"]["errors"] == 30
    assert {event["conn"].split(":")[0] for event in events(ticks, "call")} == {"0", "1", "2"}
    assert ticks[-1]["metrics"]["calls"] >= 60
    faults = inspector(admin).call("hello")["faults"]
    assert len(faults) == 30 and [fault["at"] for fault in faults] == sorted(fault["at"] for fault in faults)
    assert len({fault["conn"] for fault in faults}) >= 3
    # a second watcher gets all sums; when all are gone, nobody counts any more
    two = inspector(admin)
    two.call("watch")
    assert {m["method"]: m["calls"] for m in two.expect("tick")["methods"]}["ping"] == 30
    one.close()
    two.close()


# ---- in a browser -------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def browser():
    if not browsers.find_chromium():
        pytest.skip("chromium is not installed (Debian: apt install chromium)")
    with browsers.Browser() as one:
        yield one


@pytest.fixture
def page(browser, dev):
    """page(view, ...): a tab with the inspector. Afterwards: nothing went wrong, nobody else was asked."""
    tabs = []

    def start(view="traffic", **how):
        tab = browser.tab(f"http://{dev.netloc}/-/#/{view}", **how)
        tabs.append(tab)
        tab.wait("document.querySelector('#figures b').textContent !== '–'")  # it watches
        return tab

    yield start
    for tab in tabs:
        assert tab.errors == []
        assert tab.eval("document.title").endswith("Perigee inspector")
        assert tab.count("main :is(img, script, b:not(#figures b))") == 0
        own = (f"http://{dev.netloc}/", f"ws://{dev.netloc}/")
        assert [url for url in tab.requests if not url.startswith(own)] == []
        tab.close()


def test_page_shows_traffic(page, dev):
    tab = page()
    visitor = WebSocket(dev, "/test")
    for _ in range(5):
        visitor.call("ping")
    for method, *params in (("crash",), (HOSTILE, TRICK), (TRICK, HOSTILE), ("refuse", TRICK)):
        with pytest.raises(RpcError):
            visitor.call(method, *params)
    tab.wait_text("#method-table tbody tr", "ping")
    tab.wait("[...document.querySelectorAll('#method-table tr')].some(r => r.cells[0].innerText === 'ping' && r.cells[2].innerText === '5')")
    tab.wait_text("#events li", HOSTILE)
    tab.wait_text("#events li", "pwned? <script>document.title='pwned'</script> <U+202E>gpj.exe & <U+001B>[31m")
    tab.wait_text("#events li", "connected")
    assert "\u202e" not in tab.text("body") and "\x1b" not in tab.text("body")
    visitor.close(4001, TRICK[:40])
    tab.wait_text("#events li", "4001")
    tab.wait_text("#errors-badge", "1")
    tab.click("nav a[href='#/errors']")
    tab.wait_text("#faults summary", "attempt to concatenate a nil value")
    tab.click("#faults summary")
    tab.wait_text("#faults pre", "crash")
    assert tab.text("#errors-badge") == ""
    tab.click("nav a[href='#/traffic']")
    tab.click("[name=kind][value=connection]")
    assert not tab.is_visible("#events li[data-kind=connection]")
    tab.click("#pause")
    before = tab.count("#events li")
    WebSocket(dev, "/test").call("ping")
    tab.wait("[...document.querySelectorAll('#method-table tr')].some(r => r.cells[0].innerText === 'ping' && r.cells[2].innerText === '6')")
    assert tab.count("#events li") == before
    tab.click("#clear")
    assert tab.count("#events li") == 0


def test_page_shows_a_flood(page, dev):
    tab = page()
    visitor = WebSocket(dev, "/test")
    for i in range(40):
        visitor.send_text(json.dumps([{"jsonrpc": "2.0", "id": k, "method": "ping"} for k in range(50)]))
    for _ in range(40):
        visitor.receive()
    tab.wait("[...document.querySelectorAll('#method-table tr')].some(r => r.cells[2].innerText === '2,000')")
    tab.wait_text("#dropped", "left out")
    assert tab.count("#events li") <= 300


def test_page_shows_connections(page, dev):
    visitors = [WebSocket(dev, f"/test?number={i}") for i in range(70)]
    for visitor in visitors[:3]:
        visitor.call("join", "first three")
    tab = page("connections")
    tab.wait("[...document.querySelector('#filter-path').options].some(o => o.value === '/test')")
    tab.eval("document.querySelector('#filter-path').value = '/test'")
    tab.eval("document.querySelector('#connection-filter').dispatchEvent(new Event('input'))")
    tab.wait_text("#connection-page", "50 shown, of those that fit")
    first = tab.texts("#connection-table tbody th")
    tab.click("#next-page")
    tab.wait("document.querySelectorAll('#connection-table tbody tr').length === 20")
    assert not set(first) & set(tab.texts("#connection-table tbody th"))
    tab.click("#first-page")
    tab.wait("document.querySelectorAll('#connection-table tbody tr').length === 50")
    tab.fill("#filter-group", "first three")
    tab.wait("document.querySelectorAll('#connection-table tbody tr').length === 3")
    tab.fill("#filter-group", "")
    tab.fill("#filter-text", "number=42 ")
    tab.wait("document.querySelectorAll('#connection-table tbody tr').length === 1")

    tab.click("#connection-table button.link")
    tab.wait_text("#connection-facts", "number=42")
    tab.wait_text("#connection-facts .names", "all")
    tab.click("#drop")
    assert visitors[42].expect_close() == (4000, "dropped by the operator")
    tab.wait_text("#connection-error", "being closed")
    tab.press("Escape")
    tab.wait("document.querySelectorAll('#connection-table tbody tr').length === 0")
    assert tab.is_visible("#connections-empty")

    tab.click("nav a[href='#/groups']")
    tab.wait_text("#group-table", "first three")
    assert tab.texts("#group-table tbody tr td:nth-child(2)") == ["69", "3"]
    tab.fill("#filter-name", "three")
    tab.wait("document.querySelectorAll('#group-table tbody tr').length === 1")
    tab.click("#group-table a")
    tab.fill("#filter-text", "")
    tab.wait("document.querySelectorAll('#connection-table tbody tr').length === 3")
    tab.click("#connection-table .danger-text")
    with pytest.raises(Closed):
        visitors[0].receive()
    tab.wait("document.querySelectorAll('#connection-table tbody tr').length === 2")


def test_page_shows_reloads(page, dev, folder):
    tab = page("methods")
    tab.wait_text("#method-list", "ping")
    (folder / "test.lua").write_text(APP.replace('"ping"', '"pong"'))
    tab.wait_text("#method-list", "pong")
    (folder / "test.lua").write_text("nonsense " + HOSTILE)
    tab.click("nav a[href='#/apps']")
    tab.wait_text("#reloads", "could not be reloaded")
    tab.wait_text("#reloads pre", HOSTILE)
    tab.wait_text("#reloads", "generation 2")
    assert tab.texts("#app-table tbody td.n") == ["2"]


def choose(tab, method):
    tab.wait_text("#method-list", method)
    tab.eval(f"[...document.querySelectorAll('#method-list button')].find(b => b.querySelector('code').innerText === {json.dumps(method)}).click()")
    tab.wait(f"document.querySelector('#trial h2 code').innerText === {json.dumps(method)}")


def test_page_calls_methods(page, dev):
    tab = page("methods")

    def submit(fields, answer, over="websocket"):
        for selector, value in fields.items():
            tab.eval(f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('input')); }})(document.querySelector('{selector}'))")
        tab.eval(f"document.querySelector('#transport').value = '{over}'")
        before = tab.count("#wire [data-way=in], #wire [data-way=error]")
        tab.click("#trial button[type=submit]")
        tab.wait(f"document.querySelectorAll('#wire [data-way=in], #wire [data-way=error]').length > {before}")
        got = json.loads(tab.text("#wire [data-way=in] pre, #wire [data-way=error] pre"))
        assert answer == got.get("result", got.get("error", {}).get("code")), got
        return got

    choose(tab, "add")
    assert tab.texts("#trial .field > label:first-child") == ["a", "b"]
    assert "1 to 5" in tab.text("#trial")
    submit({"#param-0": "9007199254740993"}, 9007199254740993)
    submit({"#param-0": "1", "#param-1": "2"}, 3)
    submit({"#param-0": "1", "#param-1": "2"}, 3, over="http")
    submit({"#param-0": "1", "#param-1": "9"}, -32602)
    tab.eval("document.querySelector('#param-0').value = 'one'")
    tab.click("#trial button[type=submit]")
    tab.wait_text("#trial [role=alert]", "is no number")

    choose(tab, "many")
    submit({}, {})
    submit({"#param-0": "1", "#param-1": "0", "#param-2": "[1,{}]", "#param-3": HOSTILE, "#param-4": "0.5"},
           {"word": "no", "is": True, "list": [1, {}], "text": HOSTILE, "ratio": 0.5})
    choose(tab, "all")
    submit({"#param-0": "text", "#param-1": "[1, null]"}, ["text", 1, None])
    choose(tab, "crash")
    submit({}, -32603)
    choose(tab, HOSTILE)
    submit({"#param-0": TRICK}, -32000)

    choose(tab, "note")
    tab.eval("document.querySelector('#param-0').value = 'hello'")
    tab.click("#trial button[type=submit]")
    tab.wait("document.querySelector('#wire [data-way=in] pre')?.innerText.includes('noted')")

    choose(tab, "which")  # its origins are others
    tab.eval("document.querySelector('#capture-0').value = 'a/b'")
    tab.eval("document.querySelector('#transport').value = 'websocket'")
    tab.click("#trial button[type=submit]")
    tab.wait_text("#trial [role=alert]", "https://elsewhere.example")
    assert only_refused([error for error in tab.errors if "403" not in error])
    tab.errors.clear()


def test_page_comes_back(browser, serve, folder):
    first = serve(folder, verb="dev")
    tab = browser.tab(f"http://{first.netloc}/-/")
    tab.wait_text("#status", "Live")
    first.stop()
    tab.wait_text("#status", "Offline")
    second = serve(folder, verb="dev", listen=first.netloc)
    tab.wait_text("#status", "Live", servers.PATIENCE)
    visitor = WebSocket(second, "/test")
    until(lambda: visitor.call("ping") and "ping" in tab.text("#method-table"), "a call on the page")  # it watches soon
    assert [error for error in tab.errors if "ERR_CONNECTION_REFUSED" not in error] == []
    tab.close()


VIEWS = ["traffic", "connections", "groups", "methods", "apps", "errors"]


@pytest.fixture
def lively(dev):
    """A server on which everything has happened once."""
    visitors = [WebSocket(dev, "/test") for _ in range(3)]
    for visitor in visitors:
        visitor.call("join", "a group with " + "a long name " * 10)
        for method in ("crash", "ping", "refuse"):
            try_call(visitor, method)
    yield visitors
    for visitor in visitors:
        visitor.drop()


def fill_view(tab, view, visitors):
    tab.eval(f"location.hash = '#/{view}'")
    tab.wait(f"!document.querySelector('#{view}').hidden")
    for method in ("crash", "ping"):
        try_call(visitors[0], method)
    if view == "methods":
        choose(tab, "many")
        tab.click("#trial button[type=submit]")
        tab.wait("document.querySelectorAll('#wire li').length > 2")
    elif view == "errors":
        tab.wait("document.querySelectorAll('#faults li').length > 0")
        tab.eval("document.querySelector('#faults details').open = true")
    else:
        tab.wait(f"document.querySelectorAll('#{view} tbody tr').length > 0")


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_page_fits(page, lively, width):
    tab = page(width=width, height=700, phone=width < 1000)
    for view in VIEWS:
        fill_view(tab, view, lively)
        assert tab.eval("document.documentElement.scrollWidth <= innerWidth"), view


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_can_be_read(page, lively, dark):
    tab = page(dark=dark)
    for view in VIEWS:
        fill_view(tab, view, lively)
        assert contrasts(tab) == [], view
    fill_view(tab, "connections", lively)
    tab.click("#connection-table button.link")
    tab.wait_text("#connection-facts", "websocket")
    assert contrasts(tab) == []


def test_page_has_names_for_everything(page, lively):
    tab = page()
    for view in VIEWS:
        fill_view(tab, view, lively)
        assert tab.eval("""[...document.querySelectorAll('button, a, input, select, textarea, [role=group], [tabindex], svg[role=img]')]
            .filter(e => e.checkVisibility({ visibilityProperty: true }) && e.tagName !== 'PRE')
            .filter(e => !(e.ariaLabel || e.ariaLabelledByElements?.length || e.labels?.length || e.textContent.trim()))
            .map(e => e.outerHTML.slice(0, 100))""") == [], view
        assert tab.eval("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length")


def test_page_by_keyboard(page, lively):
    tab = page("connections")
    tab.wait("document.querySelectorAll('#connection-table tbody tr').length >= 3")
    tab.eval("document.querySelector('#connection-table button.link').focus()")
    time.sleep(2.5)  # the table is looked up anew meanwhile: the focus stays where it is
    assert tab.eval("document.activeElement.matches('#connection-table button.link')")
    tab.press("Enter")
    tab.wait("document.querySelector('#connection-dialog').open")
    tab.press("Escape")
    tab.wait("!document.querySelector('#connection-dialog').open")
    tab.eval("document.querySelector('nav a').focus()")
    for _ in range(3):
        tab.press("Tab")
    tab.press("Enter")
    tab.wait("!document.querySelector('#methods').hidden")
