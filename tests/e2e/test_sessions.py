"""Sessions and users with real cookies, restarts, and a store that fails."""
import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading

import pytest

import library
import redis_server
from server import HERE, PATIENCE, Server, apps_folder, environment, run, until
from wire import Closed, WebSocket, call_http, call_text, fetch, post

KILLS = int(os.environ.get("E2E_KILLS", 20))  # a hundred take two minutes with the sanitizers


class Visitor:
    """Keeps its cookie, as browsers do; HTTP by Python's own client."""

    def __init__(self, server, cookie=None, path="/visits"):
        self.server, self.cookie, self.path = server, cookie, path
        self.set_cookie = None
        self.connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)

    def ask(self, method, *params, headers=None):
        fields = {"Content-Type": "application/json", **(headers or {})}
        if self.cookie:
            fields["Cookie"] = self.cookie
        self.connection.request("POST", self.path, call_text(method, *params).encode(), fields)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        self.set_cookie = response.getheader("Set-Cookie")
        if self.set_cookie:
            self.cookie = self.set_cookie.split(";")[0]
        return answer

    def call(self, method, *params, **more):
        answer = self.ask(method, *params, **more)
        assert "error" not in answer, answer
        return answer["result"]

    def socket(self):
        ws = WebSocket(self.server, self.path, [("Cookie", self.cookie)] if self.cookie else [])
        line = ws.opening["Set-Cookie"]
        if line:
            self.cookie = line.split(";")[0]
        return ws


def ask(ws, method, *params):
    """The whole answer to a call over a WebSocket."""
    ws.send_text(call_text(method, *params, id=method))
    return ws.receive_json()


def sessions_file(state):
    return pathlib.Path(state) / "sessions.sqlite"


# ---- visitors ---------------------------------------------------------------------------------------

def test_one_session_for_http_and_websocket(everything):
    ann, bob = Visitor(everything), Visitor(everything)
    assert ann.call("get", "name") is None and ann.cookie is None
    ann.call("set", "name", "Ann")
    assert re.fullmatch(r"perigee_session_[\da-f]{16}=[\w-]{43}; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax", ann.set_cookie)
    bob.call("set", "name", "Bob")
    with ann.socket() as ws:
        assert ws.opening["Set-Cookie"] is None
        assert ws.call("get", "name") == "Ann"
        assert ws.call("push", "list", "a") == 1
        assert ann.call("push", "list", "b") == 2
        assert ws.call("get", "list") == ["a", "b"]
    assert bob.call("all") == {"name": "Bob"}


def test_the_101_brings_the_cookie(everything):
    ann = Visitor(everything)
    with ann.socket() as ws:
        assert "; HttpOnly; SameSite=Lax" in ws.opening["Set-Cookie"]
        ws.call("set", "a", 1)
        assert ann.call("get", "a") == 1
    assert ann.call("all") == {"a": 1}


def test_python_websockets_carries_it(everything):
    async def talk():
        url = f"ws://{everything.netloc}/visits"
        async with library.connect(url) as ws:
            cookie = library.response_headers(ws)["Set-Cookie"].split(";")[0]
            await ws.send(call_text("set", "from", "websockets"))
            assert json.loads(await ws.recv())["result"] is True
        async with library.connect(url, {"Cookie": cookie}) as ws:
            await ws.send(call_text("get", "from"))
            return json.loads(await ws.recv())["result"], "Set-Cookie" in library.response_headers(ws)

    assert asyncio.run(asyncio.wait_for(talk(), PATIENCE)) == ("websockets", False)


def test_node_ws_carries_it(everything):
    node, modules = shutil.which("node"), "/usr/share/nodejs"
    if not node or not os.path.isdir(f"{modules}/ws"):
        pytest.skip("nodejs or node-ws is not installed")
    ended = subprocess.run([node, str(HERE / "node_client.js"), f"ws://{everything.netloc}", "visits"], text=True,
                           capture_output=True, timeout=PATIENCE, env={**os.environ, "NODE_PATH": modules, "NODE_OPTIONS": ""})
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"cookie": True, "n": [1, 2, 3], "again": False}


def test_calls_that_overlap_keep_each_others_keys(everything):
    ann = Visitor(everything)
    ann.call("set", "x", 0)
    with ann.socket() as ws:
        for i in range(50):
            ws.send_text(call_text("slowly", f"k{i}", i, 0.05, id=100 + i))
        got = set()
        while len(got) < 50:
            got.add(ws.receive_json()["id"])
    assert ann.call("all") == {"x": 0, **{f"k{i}": i for i in range(50)}}


def test_cookies_of_every_kind_are_anonymous_visitors(everything):
    ann = Visitor(everything)
    ann.call("set", "a", 1)
    name, value = ann.cookie.split("=")
    other = Visitor(everything)
    other.call("set", "a", 2)
    for cookie in [
        f"{name}=", name, "=", ";;;", f"{name}={value[:-1]}", f"{name}={value}x", f"{name}=%41{value[1:]}",
        f"{name}=\"{value}\"", f"{name}={value}; {name}={value}", f"{ann.cookie}; {other.cookie}", f"x{name}={value}",
        f"__Host-{name}={value}", f"{name}={'A' * 43}", f"{name}={'é' * 20}", f"{name}={'A' * 15000}",
        "; ".join(f"c{i}={i}" for i in range(1000)), "%zz=%; %00=%ff", " " * 15000 + "x",
    ]:
        visitor = Visitor(everything, cookie.encode("utf-8").decode("latin-1"))
        assert visitor.call("get", "a") is None, cookie[:80]
        assert visitor.set_cookie is None
        with WebSocket(everything, "/visits", [("Cookie", visitor.cookie)]) as ws:
            assert ws.call("get", "a") is None
            assert value not in ws.opening["Set-Cookie"]
    assert fetch(everything, post("/visits", call_text("get", "a"), [("Cookie", "a=" + "x" * 17000)])).status == 431
    many = "; ".join(f"c{i}={i}" for i in range(1000))
    assert Visitor(everything, f"{many}; {ann.cookie}").call("get", "a") == 1
    assert Visitor(everything, f"{ann.cookie}; {many}").call("get", "a") == 1


def test_behind_https_the_cookie_is_bound_to_the_host(serve):
    server = serve(["visits"], "--trusted-proxies", "127.0.0.1")
    https = {"X-Forwarded-Proto": "https"}
    ann = Visitor(server)
    ann.call("set", "a", 1, headers=https)
    assert re.fullmatch(r"__Host-perigee_session_[\da-f]{16}=[\w-]{43}; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax; Secure", ann.set_cookie)
    assert ann.call("get", "a", headers=https) == 1
    assert ann.call("get", "a") is None  # over plain HTTP that name means nothing
    name, value = ann.cookie.split("=")
    planted = Visitor(server, f"{name.removeprefix('__Host-')}={value}")
    assert planted.call("get", "a", headers=https) is None


@pytest.mark.parametrize("value, plain, secure", [("strict", "Strict", "Strict"), ("none", "Lax", "None"), ("lax", "Lax", "Lax")])
def test_pages_of_which_sites_send_it(serve, value, plain, secure):
    server = serve(["visits"], "--session-same-site", value, "--trusted-proxies", "127.0.0.1")
    ann = Visitor(server)
    ann.call("set", "a", 1)
    assert ann.set_cookie.endswith(f"; HttpOnly; SameSite={plain}")
    ann = Visitor(server)
    ann.call("set", "a", 1, headers={"X-Forwarded-Proto": "https"})
    assert ann.set_cookie.endswith(f"; HttpOnly; SameSite={secure}; Secure")


def test_signing_in_makes_a_new_id(everything):
    attacker = Visitor(everything)
    attacker.call("set", "cart", [1])
    victim = Visitor(everything, attacker.cookie)
    with attacker.socket() as spy:
        assert victim.call("sign_in", {"id": "victim"}) == {"id": "victim"}
        assert victim.cookie != attacker.cookie
        assert victim.call("get", "cart") == [1]
        assert attacker.call("who") is None and attacker.call("get", "cart") is None
        assert spy.call("who") is None and spy.call("get", "cart") is None


@pytest.mark.parametrize("by_app", [False, True], ids=["ctx:spawn", "perigee.spawn"])
@pytest.mark.parametrize("what", ["set", "identify", "scope", "notify", "close", "group_add"])
def test_what_outlives_its_request_keeps_to_its_own_visitor(serve, what, by_app):
    """A proxy sends the requests of many visitors over one connection."""
    server = serve(["visits"])
    ann, bob, shared = Visitor(server), Visitor(server), Visitor(server)
    ann.call("sign_in", "ann")
    bob.call("sign_in", "bob")
    operator = Visitor(server)
    shared.cookie = ann.cookie
    shared.call("later", what, by_app, headers={"X-Name": "ann"})
    assert shared.set_cookie is None
    until(lambda: operator.call("waits", "later"), "what goes on after the answer")
    body = call_text("hold").encode()
    shared.connection.request("POST", "/visits", body, {"Content-Type": "application/json", "Cookie": bob.cookie})
    until(lambda: operator.call("waits", "hold"), "the next request")
    operator.call("open", "later")
    until(lambda: operator.call("waits", "done"), "the end of what went on")
    operator.call("open", "hold")
    response = shared.connection.getresponse()
    answer = json.loads(response.read())
    assert response.getheader("Set-Cookie") is None and answer["result"] is None
    assert bob.call("who") == "bob" and bob.call("get", "mine") is None
    assert operator.call("latecomers") == 0
    if by_app:  # which knows nothing of the request
        assert ann.call("who") == "ann" and ann.call("get", "mine") is None
    elif what == "identify":
        assert "its request is over" in server.wait_log("a session's new id cannot reach its client.*")[0]
        assert ann.call("who") is None  # her session has got a new id, which nobody knows
    else:
        assert ann.call("get", "mine") == {"set": "late", "scope": "ann"}.get(what)


@pytest.mark.parametrize("by_app", [False, True], ids=["ctx:spawn", "perigee.spawn"])
@pytest.mark.parametrize("what", ["set", "identify", "notify", "close", "group_add"])
def test_what_outlives_its_request_finds_no_websocket(serve, what, by_app):
    """A proxy opens a visitor's WebSocket on the connection that had another's request."""
    server = serve(["visits"])
    operator, bob = Visitor(server), Visitor(server)
    bob.call("sign_in", "bob")
    before = post("/visits", call_text("later", what, by_app))
    with WebSocket(server, "/visits", [("Cookie", bob.cookie)], before=before) as ws:
        until(lambda: operator.call("waits", "later"), "what goes on after the answer")
        operator.call("open", "later")
        until(lambda: operator.call("waits", "done"), "the end of what went on")
        assert ws.call("who") == "bob" and ws.call("get", "mine") is None
        assert operator.call("latecomers") == 0
        assert not ws.inbox
    assert bob.call("who") == "bob" and bob.call("get", "mine") is None


def test_users_are_told_and_closed(everything):
    ann, bob = Visitor(everything), Visitor(everything)
    ann.call("sign_in", "e2e-ann")
    bob.call("sign_in", "e2e-bob")
    with ann.socket() as one, ann.socket() as two, bob.socket() as other:
        other.call("tell", "e2e-ann", "hello")
        for ws in (one, two):
            assert ws.receive_json() == {"jsonrpc": "2.0", "method": "told", "params": ["hello"]}
        other.call("kick", "e2e-ann", "signed out elsewhere")
        for ws in (one, two):
            with pytest.raises(Closed) as closed:
                ws.receive()
            assert (closed.value.code, closed.value.reason) == (4001, "signed out elsewhere")
        assert other.call("who") == "e2e-bob"


def test_tokens_open_doors(everything):
    ann = Visitor(everything)
    ticket = ann.call("ticket", "ann", 60)
    door = Visitor(everything, path="/visits/token")
    assert door.call("who") is None
    assert door.call("who", headers={"Authorization": f"Bearer {ticket}"}) == "ann"
    assert door.ask("who", headers={"Authorization": f"Bearer {ticket}x"})["error"]["code"] == -32004
    with WebSocket(everything, f"/visits/token?access_token={ticket}") as ws:
        assert ws.call("who") == "ann"
    with WebSocket(everything, "/visits/token", [("Sec-WebSocket-Protocol", f"bearer, {ticket}")]) as ws:
        assert ws.opening["Sec-WebSocket-Protocol"] == "bearer"
        assert ws.call("who") == "ann"
    assert not everything.log_lines(re.escape(ticket))


def test_passwords_are_hashed_beside_the_loop(everything):
    ann = Visitor(everything)
    with ann.socket() as ws:
        ws.send_text(call_text("hash", "correct horse", id="hash"))
        ws.send_text(call_text("who", id="who"))
        answers = [ws.receive_json() for _ in range(2)]
    assert [answer["id"] for answer in answers] == ["who", "hash"]
    hashed = answers[1]["result"]
    assert hashed.startswith("$argon2id$")
    assert ann.call("verify", "correct horse", hashed) is True
    assert ann.call("verify", "correct house", hashed) is False


# ---- what stays -------------------------------------------------------------------------------------

def test_sessions_and_tokens_survive_a_restart(serve, tmp_path):
    state = tmp_path / "a" / "state"
    first = serve(["visits"], "--state", str(state))
    ann = Visitor(first)
    ann.call("set", "a", {"deep": [1, 2]})
    ann.call("sign_in", 7)
    ticket = ann.call("ticket", "ann", 60)
    first.stop()
    assert state.stat().st_mode & 0o777 == 0o700
    assert sessions_file(state).stat().st_mode & 0o777 == 0o600
    assert (state / "secret").stat().st_mode & 0o777 == 0o600
    second = serve(["visits"], "--state", str(state))
    ann = Visitor(second, ann.cookie)
    assert ann.call("get", "a") == {"deep": [1, 2]} and ann.call("who") == 7
    door = Visitor(second, path="/visits/token")
    assert door.call("who", headers={"Authorization": f"Bearer {ticket}"}) == "ann"
    # what is in the file does not open a session
    value = ann.cookie.split("=")[1].encode()
    assert all(value not in path.read_bytes() for path in state.iterdir())


def test_in_memory_they_do_not(serve):
    first = serve(["visits"], "--sessions", "memory")
    ann = Visitor(first)
    ann.call("set", "a", 1)
    assert ann.call("get", "a") == 1
    second = serve(["visits"], "--sessions", "memory")
    assert Visitor(second, ann.cookie).call("get", "a") is None


def test_two_servers_share_a_file(serve, tmp_path):
    one, two = (serve(["visits"], "--sessions", f"sqlite:{tmp_path}/s.sqlite") for _ in range(2))
    ann = Visitor(one)
    ann.call("set", "a", 1)
    other = Visitor(two, ann.cookie)
    assert other.call("get", "a") == 1
    other.call("set", "b", 2)
    assert ann.call("all") == {"a": 1, "b": 2}


def test_every_answered_save_survives_kill_9(tmp_path):
    """Saves go on until the server is killed in their midst; the next one must have all it answered."""
    apps = apps_folder(tmp_path / "apps", ["visits"])
    state = tmp_path / "state"
    env = {"PERIGEE_STATE": str(state)}
    visitors = {}  # thread -> cookie, last number answered, last number sent

    def save(server, who, is_going):
        visitor = Visitor(server, visitors.get(who, (None,))[0])
        n = visitors[who][1] if who in visitors else 0
        try:
            while True:
                answer = visitor.call("set", "n", n + 1)
                assert answer is True
                n += 1
                visitors[who] = (visitor.cookie, n, n + 1)
                is_going.set()
        except (OSError, http.client.HTTPException):
            if who in visitors:
                visitors[who] = (visitors[who][0], n, n + 1)

    saves = 0
    for _ in range(KILLS):
        server = Server(apps, env=env)
        try:
            for cookie, answered, sent in visitors.values():
                n = Visitor(server, cookie).call("get", "n")
                assert n in (answered, sent), f"{answered} was answered, {n} is there"
                saves += 1
            for who, (cookie, _, _) in list(visitors.items()):  # what was on its way may have arrived
                n = Visitor(server, cookie).call("get", "n")
                visitors[who] = (cookie, n, n + 1)
            events = [threading.Event() for _ in range(4)]
            threads = [threading.Thread(target=save, args=(server, i, event)) for i, event in enumerate(events)]
            for thread in threads:
                thread.start()
            for event in events:
                assert event.wait(PATIENCE)
        finally:
            server.kill()
        for thread in threads:
            thread.join(PATIENCE)
    assert saves == 4 * (KILLS - 1)


# ---- projects ---------------------------------------------------------------------------------------

@contextlib.contextmanager
def two_projects(tmp_path, *flags, verb="serve", **env):
    """Servers of two projects of one user, with one home."""
    env = {"XDG_STATE_HOME": "", "HOME": str(tmp_path / "home"), **env}
    folders = [apps_folder(tmp_path / name / "apps", ["visits"]) for name in ("shop", "admin")]
    with Server(folders[0], *flags, verb=verb, env=env) as shop, Server(folders[1], *flags, verb=verb, env=env) as admin:
        yield shop, admin


@pytest.mark.parametrize("verb", ["serve", "dev"])
def test_two_projects_of_one_user_share_nothing(tmp_path, verb):
    with two_projects(tmp_path, verb=verb) as (shop, admin):
        ann = Visitor(shop)
        ann.call("sign_in", "root")
        ticket = ann.call("ticket", "root", 60)
        name, value = ann.cookie.split("=")
        other = Visitor(admin)
        other.call("set", "a", 1)
        assert other.cookie.split("=")[0] != name  # a browser would send it to both ports
        assert other.call("who") is None
        for cookie in (f"{name}={value}", f"{other.cookie.split('=')[0]}={value}", f"perigee_session={value}"):
            assert Visitor(admin, cookie).call("who") is None
        door = Visitor(admin, path="/visits/token")
        assert door.ask("who", headers={"Authorization": f"Bearer {ticket}"})["error"]["code"] == -32004
        assert not shop.log_lines("another project") and not admin.log_lines("another project")


def test_a_project_keeps_its_own_from_dev_to_serve(tmp_path):
    env = {"XDG_STATE_HOME": "", "HOME": str(tmp_path / "home")}
    project = tmp_path / "shop"
    apps = apps_folder(project / "apps", ["visits"])
    (tmp_path / "link").symlink_to(project)
    cookie = ticket = None
    for verb, folder in [("serve", apps), ("dev", project), ("serve", tmp_path / "link/apps"), ("dev", apps)]:
        with Server(folder, verb=verb, env=env) as server:
            ann = Visitor(server, cookie)
            if cookie is None:
                ann.call("sign_in", "ann")
                ticket, cookie = ann.call("ticket", "ann", 60), ann.cookie
            assert ann.call("who") == "ann"
            door = Visitor(server, path="/visits/token")
            assert door.call("who", headers={"Authorization": f"Bearer {ticket}"}) == "ann"
    shown = run("config", "state", "session_cookie", "--apps", apps, env=env).stdout
    state = next((tmp_path / "home/.local/state/perigee").iterdir())
    assert str(state) in shown and cookie.split("=")[0] in shown


def test_two_projects_on_one_state_folder_are_told_of(tmp_path):
    state = tmp_path / "state"
    with two_projects(tmp_path, "--state", str(state), "--workers", "2") as (shop, admin):
        line = admin.wait_log("another project uses the same state folder.*")[0]
        assert str(state) in line and str(tmp_path / "shop/apps") in line and "--state" in line
        assert len(admin.log_lines("another project")) == 1 and not shop.log_lines("another project")
        ann = Visitor(shop)
        ann.call("sign_in", "root")
        assert Visitor(admin, ann.cookie).call("who") == "root"  # who says so has it so
        with Server(shop.apps, "--state", str(state)) as again:
            assert not again.log_lines("another project")
    with Server(tmp_path / "admin/apps", "--state", str(state)) as alone:
        assert not alone.log_lines("another project")


def test_the_state_of_an_older_version_is_not_taken_over(tmp_path):
    old = tmp_path / "home/.local/state/perigee"
    old.mkdir(parents=True)
    (old / "secret").write_text("x" * 43)
    with two_projects(tmp_path) as (shop, admin):
        for server in (shop, admin):
            line = server.wait_log("of an older version are not used.*")[0]
            assert str(old) in line and "session_cookie" in line
        Visitor(shop).call("ticket", "ann", 60)
        new = next(path for path in old.iterdir() if path.name.startswith("shop-"))
        assert (new / "secret").read_text() != "x" * 43
    with Server(tmp_path / "shop/apps", env={"XDG_STATE_HOME": "", "HOME": str(tmp_path / "home")}) as again:
        assert not again.log_lines("older version")  # once is enough


# ---- a store that fails -----------------------------------------------------------------------------

def start_fails(tmp_path, *flags):
    apps = tmp_path / "apps"
    if not apps.exists():
        apps_folder(apps, ["visits"])
    ended = run("serve", "--apps", apps, "--listen", "127.0.0.1:0", *flags)
    assert ended.returncode == 1, ended.stderr
    return ended.stderr


def test_a_store_that_cannot_be_opened_is_named_at_start(tmp_path):
    junk = tmp_path / "junk"
    junk.write_bytes(b"not a database" * 1000)
    message = start_fails(tmp_path, "--sessions", f"sqlite:{junk}")
    assert str(junk) in message and "move it away" in message
    assert "/proc/nothing" in start_fails(tmp_path, "--state", "/proc/nothing/here")
    message = start_fails(tmp_path, "--sessions", "sqlite:/proc/version")
    assert "/proc/version" in message and "choose another folder with --state" in message
    locked = tmp_path / "locked"
    with sqlite3.connect(locked, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        message = start_fails(tmp_path, "--sessions", f"sqlite:{locked}")
        assert str(locked) in message and "locked" in message
        other.execute("ROLLBACK")
    newer = tmp_path / "newer"
    with sqlite3.connect(newer) as other:
        other.execute("PRAGMA application_id = 1348817511")
        other.execute("PRAGMA user_version = 2")
    message = start_fails(tmp_path, "--sessions", f"sqlite:{newer}")
    assert str(newer) in message and "format 2" in message
    ended = run("serve", "--sessions", "redys://x")
    assert ended.returncode == 2 and "sqlite" in ended.stderr


def test_apps_without_sessions_need_no_store(serve, tmp_path):
    state = tmp_path / "state"
    server = serve(["echo"], "--state", str(state))
    assert call_http(server, "/echo", "echo", 1) == 1
    assert not state.exists()


def test_a_full_disk_fails_the_call_and_nothing_else(serve, tmp_path):
    server = serve(["visits"], "--state", str(tmp_path / "state"))
    ann = Visitor(server)
    ann.call("set", "a", 1)
    before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    answer = ann.ask("set", "a", 2)
    assert answer["error"]["code"] == -32006, answer
    line = server.wait_log("sessions cannot be saved")[0]
    assert line and "sessions.sqlite" in server.log and "cure=" in server.log
    assert ann.call("get", "a") == 1
    with ann.socket() as ws:
        assert ws.call("get", "a") == 1
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)
    ann.call("set", "a", 3)
    assert ann.call("get", "a") == 3
    assert server.metrics()["session_failures"] >= 1


def test_a_locked_file_fails_the_call_and_nothing_else(serve, tmp_path):
    state = tmp_path / "state"
    server = serve(["visits"], "--state", str(state))
    ann = Visitor(server)
    ann.call("set", "a", 1)
    other = sqlite3.connect(sessions_file(state), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert ann.call("get", "a") == 1  # readers need no lock
    assert ann.ask("set", "a", 2)["error"]["code"] == -32006
    assert "another program keeps it locked" in server.wait_log("sessions cannot be saved.*")[0]
    other.execute("ROLLBACK")
    other.close()
    ann.call("set", "a", 3)
    assert ann.call("get", "a") == 3


def test_a_file_damaged_meanwhile_fails_the_call_and_nothing_else(serve, tmp_path):
    state = tmp_path / "state"
    server = serve(["visits"], "--state", str(state))
    ann = Visitor(server)
    ann.call("set", "a", "x" * 100000)
    with sqlite3.connect(sessions_file(state)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.execute("DELETE FROM field")
        other.execute("INSERT INTO field SELECT n, 'a', '{broken' FROM session")
    assert ann.ask("get", "a")["error"]["code"] == -32603
    server.wait_log("is damaged in the store")
    ann.call("set", "a", 1)
    assert ann.call("get", "a") == 1


# ---- several workers, several machines --------------------------------------------------------------

def reach_across(one, other):
    """Users are told and closed, and sessions end, wherever the connections are."""
    ann = Visitor(one)
    ann.call("sign_in", "ann")
    same = Visitor(other, ann.cookie)
    assert same.call("who") == "ann"
    same.call("set", "a", 1)
    assert ann.call("get", "a") == 1
    sockets = [ann.socket(), same.socket(), ann.socket(), same.socket()]
    try:
        Visitor(other).call("tell", "ann", "hello")
        for ws in sockets:
            assert ws.expect("told") == ["hello"]
        same.call("kick", "ann", "enough")
        for ws in sockets:
            with pytest.raises(Closed) as closed:
                ws.receive()
            assert closed.value.code == 4001
    finally:
        for ws in sockets:
            ws.drop()
    sockets = [ann.socket(), same.socket(), ann.socket(), same.socket()]
    try:
        assert all(ws.call("who") == "ann" for ws in sockets)
        ann.call("destroy")
        for ws in sockets:
            until(lambda ws=ws: ws.call("who") is None, "the end of the session")
            assert ws.call("get", "a") is None
    finally:
        for ws in sockets:
            ws.drop()


@pytest.mark.parametrize("sessions", ["sqlite", "memory"])
def test_workers_are_one(serve, sessions):
    server = serve(["visits"], "--workers", "3", "--sessions", sessions)
    reach_across(server, server)


@pytest.fixture
def redis():
    if not redis_server.BINARY:
        pytest.skip("redis-server is not installed")
    one = redis_server.Redis()
    yield one
    one.stop()


def test_machines_are_one(serve, redis):
    one, two = (serve(["visits"], "--sessions", redis.url, "--layer", redis.url) for _ in range(2))
    reach_across(one, two)
    ann = Visitor(one)
    ann.call("set", "a", {"deep": [1, {"x": None}]})
    ann.call("push", "list", "é\0")
    assert Visitor(two, ann.cookie).call("all") == {"a": {"deep": [1, {"x": None}]}, "list": ["é\0"]}
    value = ann.cookie.split("=")[1]
    keys = redis.command("KEYS", "perigee:session:*")
    assert len(keys) == 1 and value not in str(keys)
    assert 0 < redis.command("TTL", keys[0]) <= 14 * 86400


def test_handshakes_succeed_without_the_store(serve, redis):
    server = serve(["visits"], "--sessions", redis.url, alarms=False)
    ann = Visitor(server)
    ann.call("sign_in", "ann")
    loads = server.metrics()["session_loads"]
    for _ in range(5):
        with Visitor(server).socket() as ws:
            assert ws.call("verify", "x", "y") is False  # which touches no session
    assert server.metrics()["session_loads"] == loads
    redis.kill()
    with Visitor(server).socket() as stranger, ann.socket() as known:
        for ws in (stranger, known):
            assert ws.call("verify", "x", "y") is False
            assert ask(ws, "get", "a")["error"]["code"] == -32006
        assert stranger.call("who") is None
        assert ask(known, "who")["error"]["code"] == -32006
        redis.start()  # empty: nobody is signed in any more
        until(lambda: "error" not in ask(known, "who"), "the store's return")
        assert known.call("who") is None and known.call("get", "a") is None


def test_who_opens_without_the_store_hears_of_its_user_once_it_is_back(serve, redis):
    proxy = redis_server.Proxy((redis.host, redis.port))
    server = serve(["visits"], "--sessions", proxy.url, alarms=False)
    ann, bob = Visitor(server), Visitor(server)
    ann.call("sign_in", "ann")
    proxy.cut()
    with ann.socket() as silent, bob.socket() as other:
        other.call("tell", "ann", "too early")
        proxy.mend()

        def is_told():
            other.call("tell", "ann", "hello")
            silent.call("verify", "x", "y")  # which touches no session
            return silent.inbox
        until(is_told, "word for who has touched nothing")
        assert silent.inbox[0]["params"] == ["hello"]
        ann.call("destroy")
        until(lambda: silent.call("who") is None, "the end of the session")
    server.stop()
    proxy.stop()


def test_a_redis_that_is_away_fails_the_call_and_nothing_else(serve, redis):
    server = serve(["visits"], "--sessions", redis.url)
    ann = Visitor(server)
    ann.call("set", "a", 1)
    redis.kill()
    assert ann.ask("set", "a", 2)["error"]["code"] == -32006
    assert redis.url.split("//")[1] in server.wait_log("sessions cannot be kept.*")[0]
    redis.start()
    bob = Visitor(server)
    bob.call("set", "a", 3)
    assert bob.call("get", "a") == 3


def test_a_redis_that_refuses_is_named_at_start(tmp_path, redis):
    redis.command("CONFIG", "SET", "requirepass", "secret-password")
    message = start_fails(tmp_path, "--sessions", redis.url)
    assert redis.url in message and "check user, password" in message
    wrong = redis.url.replace("//", "//:not-this-one@")
    message = start_fails(tmp_path, "--sessions", wrong)
    assert "check user, password" in message and "not-this-one" not in message


@pytest.mark.parametrize("error", ["LOADING Redis is loading the dataset in memory", "BUSY a script", "MASTERDOWN x"])
def test_a_redis_that_is_not_ready_yet_is_asked_again(serve, redis, error):
    """An error reply that is no refusal ends neither the start nor the look for another address."""
    redis.kill()
    with redis_server.Unready(redis, error):
        server = serve(["visits"], "--sessions", redis.url)
        assert error.split()[0] in server.wait_log("sessions cannot be kept.*")[0]
        assert Visitor(server).ask("set", "a", 1)["error"]["code"] == -32006
    redis.start()
    bob = Visitor(server)
    bob.call("set", "a", 3)
    assert bob.call("get", "a") == 3


def test_a_redis_that_is_away_at_the_start_may_come_later(serve, redis):
    redis.kill()
    server = serve(["visits"], "--sessions", redis.url)
    assert "refused" in server.wait_log("sessions cannot be kept.*")[0]
    redis.start()
    bob = Visitor(server)
    bob.call("set", "a", 3)
    assert bob.call("get", "a") == 3


def test_a_redis_that_refuses_later_fails_the_call_and_nothing_else(serve, redis):
    server = serve(["visits"], "--sessions", redis.url)
    ann = Visitor(server)
    ann.call("set", "a", 1)
    redis.command("CONFIG", "SET", "requirepass", "another")
    redis.commands(["AUTH", "another"], ["CLIENT", "KILL", "TYPE", "normal"])
    for _ in range(2):  # the first one meets the connection's end
        assert ann.ask("get", "a")["error"]["code"] == -32006
    server.wait_log("sessions cannot be kept.*NOAUTH")
    redis.commands(["AUTH", "another"], ["CONFIG", "SET", "requirepass", ""])
    assert ann.call("get", "a") == 1


def test_handshakes_find_their_sessions_beside_a_redis_layer(serve, redis):
    """A WebSocket joins its session's group, which Redis confirms later, while it waits for the store."""
    server = serve(["visits"], "--layer", redis.url)
    for _ in range(200):
        with WebSocket(server, "/visits") as ws:
            assert ws.call("get", "nothing") is None
    assert server.metrics()["faults"] == 0


def test_a_session_that_ends_before_redis_has_its_group_is_over(serve, redis):
    """A handshake is held between the read of its session and the server's subscription to the session's end."""
    proxy = redis_server.Proxy((redis.host, redis.port))
    one = serve(["visits"], "--sessions", redis.url, "--layer", proxy.url, "--layer-timeout", "20s", "--workers", "1")
    two = serve(["visits"], "--sessions", redis.url, "--layer", redis.url)
    ann = Visitor(two)
    ann.call("sign_in", "ann")
    same = Visitor(one, ann.cookie)
    assert same.call("who") == "ann"
    proxy.hold()
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        opening = beside.submit(Visitor(one, ann.cookie).socket)
        try:
            until(lambda: b"session:" in b"".join(proxy.held), "the subscription")
            assert same.call("who") == "ann"  # by then whatever the handshake asked before has its answer
            ann.call("destroy")
        finally:
            proxy.release()
        with opening.result(PATIENCE) as ws:
            assert ws.call("who") is None
    one.stop()
    proxy.stop()


# ---- who else could read or change what is kept -----------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed: run as root")


def kept(tmp_path):
    """A state folder in which sessions and a key for tokens are kept."""
    state = tmp_path / "state"
    with Server(["visits"], "--state", str(state)) as server:
        Visitor(server).call("ticket", "ann", 60)
    assert (state / "secret").exists() and sessions_file(state).exists()
    return state


@pytest.mark.parametrize("mode, is_taken", [(0o700, True), (0o755, True), (0o1777, False), (0o777, False), (0o702, False)])
def test_a_state_folder_that_everybody_may_write_is_refused(tmp_path, mode, is_taken):
    state = kept(tmp_path)
    state.chmod(mode)
    if is_taken:
        with Server(["visits"], "--state", str(state)) as server:
            assert server.is_running()
    else:
        message = start_fails(tmp_path, "--state", str(state))
        assert str(state) in message and f"mode {mode:o}" in message and "chmod 700" in message


def key_fails(state):
    """What the log says when the key for tokens is needed."""
    with Server(["visits"], "--state", str(state), alarms=False) as server:
        assert fetch(server, post("/visits", call_text("ticket", "ann", 60))).json()["error"]["code"] == -32603
        return server.wait_log("error handler failed .*")[0]


def test_a_state_folder_that_its_group_may_write_is_warned_of(tmp_path):
    state = kept(tmp_path)
    state.chmod(0o770)
    with Server(["visits"], "--state", str(state)) as server:
        server.wait_log(f"warn .*the state folder may be written by its group.*cure=\"chmod 700 {re.escape(str(state))}\"")


@as_root
@pytest.mark.parametrize("name, words", [
    (".", ["the state folder", "another user (65534)", "chown"]),
    ("secret", ["the key for tokens", "another user (65534)", "remove it"]),
    ("sessions.sqlite", ["sessions.sqlite", "another user (65534)", "chown"])])
def test_what_belongs_to_another_user_is_refused(tmp_path, name, words):
    state = kept(tmp_path)
    os.chown(state / name, 65534, 65534)
    message = key_fails(state) if name == "secret" else start_fails(tmp_path, "--state", str(state))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("mode, is_taken", [(0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o620, False)])
def test_a_key_that_others_may_read_is_refused(tmp_path, mode, is_taken):
    state = kept(tmp_path)
    (state / "secret").chmod(mode)
    if is_taken:
        with Server(["visits"], "--state", str(state)) as server:
            Visitor(server).call("ticket", "ann", 60)
    else:
        message = key_fails(state)
        assert f"mode {mode:o}" in message and "chmod 600" in message


def test_a_key_that_is_no_file_is_refused(tmp_path):
    state = kept(tmp_path)
    (state / "secret").unlink()
    os.mkfifo(state / "secret", 0o600)
    assert "it is no file but a fifo" in key_fails(state)


@pytest.mark.parametrize("mode, is_taken", [(0o600, True), (0o644, True), (0o620, False), (0o602, False)])
def test_a_session_file_that_others_may_write_is_refused(tmp_path, mode, is_taken):
    state = kept(tmp_path)
    sessions_file(state).chmod(mode)
    if is_taken:
        with Server(["visits"], "--state", str(state)) as server:
            warned = server.log_lines("warn .*sessions may be read by others")
            assert bool(warned) == (mode == 0o644)
    else:
        message = start_fails(tmp_path, "--state", str(state))
        assert f"mode {mode:o}" in message and "chmod 600" in message


def test_a_session_file_that_is_none_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "is no file" in start_fails(tmp_path, "--sessions", f"sqlite:{tmp_path / 'fifo'}", "--state", str(tmp_path / "s"))


def filed(tmp_path):
    """A file named by the operator in which sessions are kept, in a folder of its own, after kill -9: all of SQLite's
    files are there."""
    file = tmp_path / "folder" / "visits.sqlite"
    file.parent.mkdir(mode=0o700)
    server = Server(["visits"], "--sessions", f"sqlite:{file}")
    Visitor(server).call("set", "a", 1)
    server.kill()
    file.with_name(file.name + "-journal").touch(0o600)
    return file


BESIDE = ["-wal", "-shm", "-journal"]


@pytest.mark.parametrize("suffix", BESIDE)
@pytest.mark.parametrize("mode, is_taken", [(0o600, True), (0o644, True), (0o620, False), (0o602, False)])
def test_what_sqlite_reads_beside_the_file_is_judged_likewise(tmp_path, suffix, mode, is_taken):
    file = filed(tmp_path)
    beside = file.with_name(file.name + suffix)
    beside.chmod(mode)
    if is_taken:
        with Server(["visits"], "--sessions", f"sqlite:{file}") as server:
            warned = server.log_lines(f"warn .*sessions may be read by others.*{re.escape(str(beside))}")
            assert bool(warned) == (mode == 0o644)
    else:
        message = start_fails(tmp_path, "--sessions", f"sqlite:{file}")
        assert f"{beside} may be written by others (mode {mode:o})" in message and "chmod 600" in message


@as_root
@pytest.mark.parametrize("suffix", ["", *BESIDE])
def test_what_sqlite_reads_must_not_be_another_users(tmp_path, suffix):
    file = filed(tmp_path)
    os.chown(f"{file}{suffix}", 65534, 65534)
    message = start_fails(tmp_path, "--sessions", f"sqlite:{file}")
    assert f"{file}{suffix} belongs to another user (65534)" in message and "chown" in message


@pytest.mark.parametrize("suffix", BESIDE)
def test_what_sqlite_reads_must_be_files(tmp_path, suffix):
    file = filed(tmp_path)
    beside = file.with_name(file.name + suffix)
    beside.unlink()
    beside.symlink_to(tmp_path / "elsewhere")
    assert f"{beside} is no file" in start_fails(tmp_path, "--sessions", f"sqlite:{file}")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("by_link", [False, True])
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770, 0o777, 0o1777])
def test_the_folder_of_a_session_file_is_judged(tmp_path, mode, by_link):
    file = filed(tmp_path)
    folder = file.parent
    folder.chmod(mode)
    if by_link:
        (tmp_path / "link").symlink_to(file)
        file = tmp_path / "link"
    if mode & 2:
        message = start_fails(tmp_path, "--sessions", f"sqlite:{file}")
        assert f"the folder of the session file {folder} may be written by everybody (mode {mode:o})" in message
        assert "--sessions sqlite:FILE" in message
    else:
        with Server(["visits"], "--sessions", f"sqlite:{file}") as server:
            warned = server.log_lines("warn .*the folder of the session file may be written by its group")
            assert len(warned) == (mode == 0o770)


def test_the_folder_of_a_link_to_the_session_file_is_judged(tmp_path):
    """Who can exchange the link chooses the file."""
    file = filed(tmp_path)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (open_to_all / "link").symlink_to(file)
    message = start_fails(tmp_path, "--sessions", f"sqlite:{open_to_all}/link")
    assert f"the folder of the session file {open_to_all} may be written by everybody" in message


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_lies_where_a_link_leads_is_judged(tmp_path, suffix):
    file = filed(tmp_path)
    pathlib.Path(f"{file}{suffix}").chmod(0o622)
    (tmp_path / "link").symlink_to(file)
    assert "may be written by others (mode 622)" in start_fails(tmp_path, "--sessions", f"sqlite:{tmp_path}/link")


@as_root
def test_the_folder_of_a_session_file_must_not_be_another_users(tmp_path):
    file = filed(tmp_path)
    os.chown(file.parent, 65534, 65534)
    message = start_fails(tmp_path, "--sessions", f"sqlite:{file}")
    assert f"the folder of the session file {file.parent} belongs to another user (65534)" in message


def test_a_session_file_named_without_a_folder_lies_in_the_working_one(tmp_path):
    apps_folder(tmp_path / "apps", ["visits"])
    tmp_path.chmod(0o777)
    ended = run("serve", "--listen", "127.0.0.1:0", "--apps", "apps", "--sessions", "sqlite:s.sqlite", cwd=tmp_path)
    assert ended.returncode == 1 and f"the folder of the session file {tmp_path.resolve()} may be written" in ended.stderr
