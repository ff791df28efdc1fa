"""Redis that dies, stops answering, comes back, refuses, or holds what is not ours: everything inside a
process goes on, what is lost is counted, and the cluster heals."""
import contextlib
import os
import random
import re
import signal
import socket
import threading
import time

import pytest

from cluster import settle, started, until_whole
from redis_server import Proxy, Redis, Unready
from server import APPS, apps_folder, run, until
from wire import RpcError, WebSocket, call_text, fetch, post

UNAVAILABLE = -32006
TIMEOUT = 1.0  # layer_timeout of these servers
QUICK = ("--layer-timeout", "1s")


@pytest.fixture
def redis():
    made = []

    def start(*options, **more):
        made.append(Redis(*options, **more))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def proxy():
    made = []

    def start(redis):
        made.append(Proxy((redis.host, redis.port)))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def two(serve, redis):
    """Two processes on one Redis, and a member of the group "g" on each."""
    one = redis()
    servers = [serve(["cluster"], "--layer", one.url, *QUICK) for _ in range(2)]
    members = [WebSocket(server, "/cluster") for server in servers]
    for member in members:
        member.channel = member.call("where")
        member.call("join", "g")
    yield one, servers, members
    for member in members:
        member.drop()


def goes_on_alone(server, member):
    """Without Redis: local calls, groups and events work; what needs Redis ends in time."""
    assert fetch(server, post("/cluster", call_text("where"))).status == 200
    member.inbox.clear()
    member.call("publish", "g", "here")
    assert member.expect("said") == ["here"]
    member.call("group_send", "g", "here")
    assert member.expect("shouted") == ["here", member.channel]
    assert member.call("whisper", member.channel, "me") is True
    assert member.expect("said") == ["me"]
    assert member.call("join", "another group") is True
    assert member.call("count", "another group") == 1
    assert [m["channel"] for m in member.call("members", "another group")["members"]] == [member.channel]
    assert member.call("leave", "another group") is True
    began = time.monotonic()
    for words in (("get", "k"), ("set", "k", 1), ("add", "k", 1), ("incr", "k"), ("expire", "k", 1), ("delete", "k")):
        with pytest.raises(RpcError) as failed:
            member.call("shared", *words)
        assert failed.value.code == UNAVAILABLE
    assert member.call("whisper", "fedcba9876543210.0.1000000", "?") is False
    # at most the first call meets a Redis of which nobody knows yet that it is gone
    assert time.monotonic() - began < 5 * TIMEOUT


def signals(member):
    return [signal[0] for signal in member.call("signals")]


# ---- a Redis that goes away -----------------------------------------------------------------------

def test_killed_and_started_again(two):
    redis, servers, members = two
    until_whole(members)
    redis.kill()
    for server, member in zip(servers, members):
        server.wait_log("channel layer is down")
        goes_on_alone(server, member)
        assert server.metrics()["layer_dropped"] > 0
        until(lambda: signals(member)[-1] == "layer_down", "the signal layer_down")
    redis.start()
    for server in servers:
        server.wait_log("channel layer is up", 2)
    until_whole(members)
    for member in members:
        until(lambda: signals(member)[-1] == "layer_up", "the signal layer_up")
        assert member.call("shared", "incr", "k") > 0
    members[0].call("publish", "g", "back")
    assert members[1].expect("said") == ["back"]


def test_paused(two):
    """SIGSTOP: connections stay, answers do not come."""
    redis, servers, members = two
    until_whole(members)
    redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(RpcError) as failed:
        members[0].call("shared", "get", "k")
    assert failed.value.code == UNAVAILABLE
    for call in (("count", "g"), ("members", "g"), ("whisper", members[1].channel, "?"), ("join", "a new group")):
        members[0].call(*call)
    assert time.monotonic() - began < 8 * TIMEOUT
    for server, member in zip(servers, members):
        server.wait_log("channel layer is down")
        goes_on_alone(server, member)
    redis.signal(signal.SIGCONT)
    until_whole(members)
    members[0].call("leave", "a new group")


def test_clients_killed(two):
    redis, servers, members = two
    until_whole(members)
    for kind in ("normal", "pubsub", "normal"):
        n = [len(server.log_lines("channel layer is up")) for server in servers]
        redis.command("CLIENT", "KILL", "TYPE", kind)
        for server, before in zip(servers, n):
            server.wait_log("channel layer is up", before + 1)
        until_whole(members)


def test_emptied(two):
    """FLUSHALL takes leases and counts away: they come back."""
    redis, servers, members = two
    until_whole(members)
    redis.command("FLUSHALL")
    until_whole(members)


def test_killed_again_and_again_under_load(two):
    """Members on the publisher's own process hear everything, in order; the others in order."""
    redis, servers, members = two
    until_whole(members)
    is_over = threading.Event()
    publisher, near, far = WebSocket(servers[0], "/cluster"), *members
    heard = {near: [], far: []}

    def listen(member):
        while not heard[member] or heard[member][-1] != -1:
            heard[member].append(member.expect("said")[0])

    listeners = [threading.Thread(target=listen, args=(member,), daemon=True) for member in members]
    for one in listeners:
        one.start()

    def disturb():
        for _ in range(3):
            redis.kill()
            time.sleep(0.2)  # so long there is none
            redis.start()
            for server in servers:
                until(lambda: server.log_lines("channel layer is (up|down)")[-1].find("is up") > 0, "being up")
        is_over.set()

    disturber = threading.Thread(target=disturb, daemon=True)
    disturber.start()
    last = 0
    while not is_over.is_set():
        publisher.call("publish_many", "g", last + 1, last + 20)
        last += 20
    disturber.join()
    until(lambda: publisher.call("whisper", far.channel, -1) is True, "the far member's being reachable")
    assert publisher.call("whisper", near.channel, -1) is True
    for one in listeners:
        one.join(60)
    assert heard[near] == list(range(1, last + 1)) + [-1]
    assert heard[far] == sorted(set(heard[far][:-1])) + [-1]
    assert len(heard[far]) > 1
    publisher.drop()
    until_whole(members)


def test_everything_at_once(two):
    """Calls that wait for Redis while it dies all end, none later than its timeout."""
    redis, servers, members = two
    asker = members[0]
    redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    ids = [asker.send_call(*call) for call in [
        ("shared", "incr", "k"), ("count", "g"), ("members", "g"), ("whisper", members[1].channel, "?"),
        ("send", members[1].channel, "?"), ("join", "new 1"), ("join", "new 2"), ("shared", "get", "k")] * 5]
    answers = {}
    while len(answers) < len(ids):
        message = asker.receive_json()
        if "id" in message:
            answers[message["id"]] = message
    assert time.monotonic() - began < 5 * TIMEOUT
    redis.signal(signal.SIGCONT)
    until_whole(members)


def test_stops_while_redis_is_away(two):
    """Disconnect hooks and farewells do not wait for a Redis that is gone."""
    redis, servers, members = two
    redis.signal(signal.SIGSTOP)
    servers[0].stop()
    redis.kill()
    servers[1].stop()


# ---- the way to Redis -----------------------------------------------------------------------------

def test_who_joins_twice_waits_twice(serve, redis, proxy):
    """Also the second time the answer says that messages of other machines arrive."""
    way = proxy(redis())
    server = serve(["cluster"], "--layer", way.url, "--layer-timeout", "20s")
    with WebSocket(server, "/cluster") as ws:
        way.hold()
        for n in (1, 2):
            ws.send_text(call_text("join", "g", id=n))
        ws.send_text(call_text("where", id=3))
        assert ws.receive_json()["id"] == 3
        way.release()
        assert sorted((answer["id"], answer["result"]) for answer in (ws.receive_json(), ws.receive_json())) == [
            (1, True), (2, False)]


def test_a_way_that_is_cut_and_held(serve, redis, proxy):
    one = redis()
    way = proxy(one)
    servers = [serve(["cluster"], "--layer", url, *QUICK) for url in (way.url, one.url)]
    members = [WebSocket(server, "/cluster") for server in servers]
    for member in members:
        member.channel = member.call("where")
        member.call("join", "g")
    until_whole(members)
    way.delay = 0.05
    until_whole(members)
    way.delay = 0
    for begin, end in ((way.cut, way.mend), (way.hold, way.release)):
        n = len(servers[0].log_lines("channel layer is up"))
        begin()
        servers[0].wait_log("channel layer is down", n)
        goes_on_alone(servers[0], members[0])
        members[1].call("publish", "g", "not for the other side")
        assert members[1].expect("said") == ["not for the other side"]
        end()
        servers[0].wait_log("channel layer is up", n + 1)
        until_whole(members)
    for member in members:
        member.drop()


def test_a_crashed_process_is_forgotten(serve, redis):
    """Its lease ends, and nobody counts its members any more."""
    one = redis()
    servers = [serve(["cluster"], "--layer", one.url, *QUICK) for _ in range(2)]
    crashing = serve(["cluster"], "--layer", one.url, *QUICK)
    members = [WebSocket(server, "/cluster") for server in servers]
    gone = WebSocket(crashing, "/cluster")
    gone.channel = gone.call("where")
    for member in [*members, gone]:
        member.call("join", "g")
    until_whole([*members, gone])
    os.kill(crashing.pid, signal.SIGKILL)
    crashing.exit_code = 0
    crashing.kill()
    assert members[0].call("whisper", gone.channel, "?") is False  # nobody listens there any more
    assert len(members[0].call("members", "g")["members"]) == 2
    until(lambda: members[0].call("count", "g") == 2, "the lease's end")
    until_whole(members)
    assert not one.command("EXISTS", "perigee:c:" + gone.channel.split(".")[0])
    for member in members:
        member.drop()


def test_a_message_to_a_process_that_is_gone(serve, redis):
    """Redis says that nobody listens there: that is the answer, at once, however long the layer may take."""
    server = serve(["cluster"], "--layer", redis().url, "--layer-timeout", "60s")
    with WebSocket(server, "/cluster") as ws:
        assert ws.call("whisper", "fedcba9876543210.0.1000000", "?") is False


def test_a_process_that_stops_leaves_nothing(serve, redis):
    one = redis()
    server = serve(["cluster"], "--layer", one.url)
    with WebSocket(server, "/cluster") as ws:
        ws.call("join", "g", {"a": 1})
        until(lambda: one.command("PUBSUB", "NUMSUB", "perigee:g:g")[1] == 1, "the subscription")
    until(lambda: one.command("PUBSUB", "NUMSUB", "perigee:g:g")[1] == 0, "the subscription's end")
    until(lambda: one.command("HKEYS", one.command("KEYS", "perigee:c:*")[0]) == [""], "the count's end")
    server.stop()
    assert one.command("KEYS", "*") == []


# ---- a Redis that refuses -------------------------------------------------------------------------

def test_out_of_memory(two):
    """Commands that need memory fail; messages go on, and what failed is made up for."""
    redis, servers, members = two
    until_whole(members)
    redis.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(RpcError) as failed:
        members[0].call("shared", "set", "k", 1)
    assert failed.value.code == UNAVAILABLE and "OOM" in str(failed.value.data)
    members[0].call("publish", "g", "still here")
    for member in members:
        assert member.expect("said") == ["still here"]
    third = WebSocket(servers[1], "/cluster")
    third.call("join", "g")
    redis.command("CONFIG", "SET", "maxmemory", "0")
    until_whole([*members, third])
    third.drop()


def test_read_only(two, redis):
    one, servers, members = two
    until_whole(members)
    other = redis()
    one.command("REPLICAOF", other.host, other.port)
    until(lambda: one.command("INFO", "replication").find("master_link_status:up") > 0, "the replica")
    with pytest.raises(RpcError) as failed:
        members[0].call("shared", "set", "k", 1)
    assert failed.value.code == UNAVAILABLE and "READONLY" in str(failed.value.data)
    assert members[0].call("shared", "get", "k") is None  # can be read
    members[0].call("publish", "g", "still here")
    for member in members:
        assert member.expect("said") == ["still here"]
    one.command("REPLICAOF", "NO", "ONE")
    until_whole(members)


def refused(url, *words, code=1):
    ended = run("serve", "--apps", "apps", "--listen", "127.0.0.1:0", "--layer", url, cwd=refused.folder)
    assert ended.returncode == code, ended
    for word in ("layer", *words):
        assert word in ended.stderr, ended.stderr
    assert "secret" not in ended.stderr and "listening" not in ended.stderr


@pytest.fixture
def folder(tmp_path):
    apps_folder(tmp_path / "apps", ["cluster"])
    refused.folder = tmp_path
    return tmp_path


@pytest.mark.parametrize("url", ["redis:/x", "http://h", "redis//h", "memry", "unix:x", "rediss://h"])
def test_urls_of_no_kind(folder, url):
    refused(url, "redis://", code=2)


@pytest.mark.parametrize("url, why", [
    ("redis://:secret@", "no host"), ("redis://h:0", "port"), ("redis://h:65536", "port"), ("redis://h:x", "port"),
    ("redis://h/x", "DB"), ("redis://h/-1", "DB"), ("redis://[::1", "IPv6"), ("redis://user@h", "password"),
    ("redis://u:%zz@h", "%XX"), ("unix:/x?db=y", "unix"), ("unix:/x?wrong=1", "unix")])
def test_urls_that_say_too_little(folder, url, why):
    refused(url, why)


def test_passwords(folder, redis, serve):
    one = redis("--requirepass", "secret word")
    refused(one.url, "NOAUTH", "password")
    refused(f"redis://:secret%20wort@127.0.0.1:{one.port}", "password")
    refused(f"redis://nobody:secret%20word@127.0.0.1:{one.port}", "WRONGPASS", "password")
    for url in (f"redis://:secret%20word@127.0.0.1:{one.port}", f"redis://default:secret%20word@127.0.0.1:{one.port}/3",
                f"redis://:secret%20word@localhost:{one.port}/15"):
        server = serve(["cluster"], "--layer", url)
        with WebSocket(server, "/cluster") as ws:
            assert ws.call("shared", "incr", "k") == 1
        assert "secret" not in server.log
    refused(f"redis://:secret%20word@127.0.0.1:{one.port}/16", "DB index")


RECIPE = """return {
  layer = "redis://:" .. secret "REDIS_PASSWORD" .. "@127.0.0.1:%d/1",
  sessions = "redis://:" .. secret "REDIS_PASSWORD" .. "@127.0.0.1:%d/2",
}
"""


@pytest.mark.parametrize("password", [
    b"Ab/Cd+Ef==", b"50%25off", b"%", b"a@b:c?d#e[f", b" ", "p\u00e4ss".encode(), b"a\0b",
    bytes(set(range(256)) - {10, 13})], ids=ascii)
def test_any_password_by_the_recipe(folder, redis, serve, password):
    """As the guide has it: a secret in the URL of perigee.conf.lua, for the layer and the sessions."""
    one = redis()
    one.command("CONFIG", "SET", "requirepass", password)
    (folder / "apps" / "visits").symlink_to(APPS / "visits")
    (folder / "perigee.conf.lua").write_text(RECIPE % (one.port, one.port))
    (folder / "password").write_bytes(password + b"\n")
    server = serve(folder / "apps", cwd=folder, env={"REDIS_PASSWORD_FILE": str(folder / "password")})
    with WebSocket(server, "/cluster") as ws:
        assert ws.call("shared", "incr", "k") == 1
    with WebSocket(server, "/visits") as ws:
        ws.call("set", "k", "v")
        assert ws.call("get", "k") == "v"


def test_unix_sockets(serve, redis):
    one = redis()
    server = serve(["cluster"], "--layer", f"unix:{one.path}?db=2")
    with WebSocket(server, "/cluster") as ws:
        assert ws.call("shared", "incr", "k") == 1
    assert one.command("KEYS", "*") == []  # another database


def test_started_before_redis(serve, redis):
    """A Redis that cannot be reached at the start may come later."""
    one = redis()
    one.kill()
    server = serve(["cluster"], "--layer", one.url, *QUICK)
    server.wait_log("channel layer cannot be reached.*refused")
    with WebSocket(server, "/cluster") as ws:
        ws.channel = ws.call("where")
        ws.call("join", "g")
        goes_on_alone(server, ws)
        one.start()
        server.wait_log("channel layer is up")
        until(lambda: one.command("PUBSUB", "NUMSUB", "perigee:g:g")[1] == 1, "the subscription")
        assert ws.call("shared", "incr", "k") == 1


@pytest.mark.parametrize("error", ["LOADING Redis is loading the dataset in memory", "MASTERDOWN x"])
def test_started_while_redis_is_not_ready(serve, redis, error):
    one = redis()
    one.kill()
    with Unready(one, error):
        server = serve(["cluster"], "--layer", one.url, *QUICK)
        server.wait_log(f"channel layer cannot be reached.*{error.split()[0]}")
        with WebSocket(server, "/cluster") as ws:
            ws.channel = ws.call("where")
            ws.call("join", "g")
            goes_on_alone(server, ws)
    one.start()
    server.wait_log("channel layer is up")


def test_names_that_do_not_resolve(serve):
    server = serve(["cluster"], "--layer", "redis://no-such-host.invalid", *QUICK)
    server.wait_log("channel layer cannot be reached")
    with WebSocket(server, "/cluster") as ws:
        ws.channel = ws.call("where")
        ws.call("join", "g")
        goes_on_alone(server, ws)


def test_something_else_answers_there(serve):
    """A server of another protocol, and one that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as talker:
        def talk():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = talker.accept()
                    with client, contextlib.suppress(OSError):
                        client.sendall(b"220 mail.example ESMTP\r\n")
        threading.Thread(target=talk, daemon=True).start()
        for one, why in ((silent, "no answer in time"), (talker, "not the Redis protocol")):
            server = serve(["cluster"], "--layer", f"redis://127.0.0.1:{one.getsockname()[1]}", *QUICK)
            server.wait_log(f'channel layer cannot be reached.*why="{why}')
            with WebSocket(server, "/cluster") as ws:
                ws.channel = ws.call("where")
                ws.call("join", "g")
                goes_on_alone(server, ws)
            server.stop()


# ---- what is not ours -----------------------------------------------------------------------------

def test_prefixes_keep_clusters_apart(serve, redis):
    one = redis()
    servers = [serve(["cluster"], "--layer", one.url, "--layer-prefix", prefix) for prefix in ("a:", "b:")]
    a, b = [WebSocket(server, "/cluster") for server in servers]
    a.call("join", "g")
    b.call("join", "g")
    a.call("publish", "g", "among us")
    assert a.expect("said") == ["among us"]
    assert a.call("whisper", b.call("where"), "psst") is False
    assert a.call("count", "g") == b.call("count", "g") == 1
    assert a.call("shared", "incr", "k") == b.call("shared", "incr", "k") == 1
    b.call("where")
    assert not b.inbox
    a.drop()
    b.drop()


def spy(redis, channel, act):
    """One message that act() makes the cluster publish on a channel, as bytes."""
    with socket.create_connection((redis.host, redis.port)) as s:
        s.settimeout(30)
        s.sendall(f"SUBSCRIBE {channel}\r\n".encode())
        replies = s.makefile("rb")
        for _ in range(6):
            replies.readline()
        act()
        for _ in range(5):
            replies.readline()
        length = int(replies.readline()[1:])
        return replies.read(length)


def test_messages_that_are_not_ours(two):
    """On the channels of groups and processes: junk, other versions, every truncation, flipped bits."""
    redis, servers, members = two
    until_whole(members)
    node = members[1].channel.split(".")[0]
    good = spy(redis, "perigee:g:g", lambda: members[0].call("publish", "g", "good", "fedcba9876543210.0.1000000"))
    direct = spy(redis, f"perigee:n:{node}", lambda: members[0].call("send", members[1].channel, "good"))
    random.seed(4)
    bad = [b"", b"PG", b"junk", b"PG\x02F" + good[4:], b"\0" * 100, b"PG\x01Z" + good[4:], os.urandom(1000),
           b"x" * 100_000]
    bad += [good.replace(b"good", text) for text in (b"\xff", b"\xed\xa0\x80", b"\xf8", b"\x80")]
    for message, end in ((good, good.index(b'{"jsonrpc"')), (direct, len(direct))):
        bad += [message[:n] for n in range(len(message))] + [message + b"x"]
        for _ in range(200):
            flipped = bytearray(message)
            flipped[random.randrange(4, end)] ^= 1 << random.randrange(8)
            bad.append(bytes(flipped))
    for server in servers:
        server.before = server.metrics()["layer_foreign"]
    for message in bad:
        redis.command("PUBLISH", "perigee:g:g", message)
        redis.command("PUBLISH", f"perigee:n:{node}", message)
    redis.command("PUBLISH", f"perigee:n:{node}", good)
    redis.command("PUBLISH", "perigee:g:g", direct)
    servers[1].until(lambda m: m["layer_foreign"] - servers[1].before >= 100, "the count of what is not ours")
    servers[1].wait_log("not ours, or of another version")
    settle(members)
    # a bit that flipped in a number makes another good message: what matters is what follows
    until_whole(members)


def test_too_long_for_redis(serve, redis):
    """16 MiB are the longest that travels; inside the process there is no such limit."""
    one = redis()
    flags = ("--layer", one.url, "--max-message", "40MiB", "--max-string", "40MiB", "--output-hard", "100MiB",
             "--output-soft", "90MiB", "--slice-stop", "60s")
    servers = [serve(["cluster"], *flags) for _ in range(2)]
    a, b, far = WebSocket(servers[0], "/cluster"), WebSocket(servers[0], "/cluster"), WebSocket(servers[1], "/cluster")
    for ws in (a, b, far):
        ws.call("join", "g")
    text = "x" * (17 << 20)
    a.call("publish", "g", text)
    assert b.expect("said") == [text] and a.expect("said") == [text]
    servers[0].until(lambda m: m["layer_dropped"] == 1, "the drop's being counted")
    assert servers[0].wait_log("dropped.*16 MiB")
    a.call("publish", "g", text[:15 << 20])
    assert far.expect("said") == [text[:15 << 20]]
    for ws in (a, b, far):
        ws.drop()


# ---- workers --------------------------------------------------------------------------------------

def test_workers_say_who_they_are(serve):
    server = serve(["cluster"], "--workers", "3", "--layer", "redis://127.0.0.1:1", *QUICK)
    server.wait_log("listening worker=0")
    assert "worker=1" not in serve(["cluster"]).log


def test_workers_of_no_number(tmp_path):
    apps = apps_folder(tmp_path / "apps", ["cluster"])
    for bad in ("0", "65", "many", "-1", "1.5"):
        assert run("serve", "--apps", apps, "--workers", bad).returncode == 2


def test_workers_auto(serve):
    server = serve(["cluster"], "--workers", "auto")
    workers = {WebSocket(server, "/cluster").call("where").split(".")[1] for _ in range(64)}
    assert workers == {str(i) for i in range(len(os.sched_getaffinity(0)))}


def test_a_port_that_is_taken_by_a_server_with_workers(serve, tmp_path):
    """Sharing a port is for the workers of one server."""
    server = serve(["cluster"], "--workers", "2")
    apps = apps_folder(tmp_path / "apps", ["cluster"])
    for workers in ("1", "2"):
        ended = run("serve", "--apps", apps, "--workers", workers, "--listen", f"127.0.0.1:{server.port}")
        assert ended.returncode == 1 and "in use" in ended.stderr


def test_an_app_that_does_not_load_stops_all_workers(tmp_path):
    apps = apps_folder(tmp_path / "apps", ["cluster"], {"broken/init.lua": "return nil + 1\n"})
    ended = run("serve", "--apps", apps, "--workers", "4", "--listen", "127.0.0.1:0")
    assert ended.returncode == 1
    assert ended.stderr.count("attempt to perform arithmetic") == 1
    assert "listening" not in ended.stderr


def test_counters_of_all_workers_are_one_page():
    with started("memory, 3 workers") as cluster:
        server = cluster.servers[0]
        everyone = [cluster.connect(i) for i in range(3)]
        before = server.metrics()["calls"]
        for one in everyone:
            one.call("where")
        assert server.metrics()["calls"] == before + 3
        for one in everyone:
            one.drop()


def test_a_worker_that_is_too_busy_for_its_mail():
    """A mailbox holds 65,536 messages; what is over is dropped, counted and logged, in order, and what
    somebody waits for arrives all the same."""
    with started("memory, 3 workers", flags=("--slice-stop", "100s", "--slice-warn", "100s", "--layer-timeout", "30s")) as cluster:
        server = cluster.servers[0]
        speaker, busy, member, other = [cluster.connect(place) for place in (0, 1, 1, 2)]
        member.call("join", "g")
        spinning = busy.send_call("spin", "go")
        until(lambda: speaker.call("shared", "get", "go spins") is True, "the spinning")
        n = 70_000
        speaker.call("publish_many", "g", 1, n)
        asked = speaker.send_call("members", "g")
        server.wait_log("a mailbox is full")
        other.call("shared", "set", "go", True)
        busy.answer(spinning)
        assert [m["channel"] for m in speaker.answer(asked)["members"]] == [member.call("where")]
        dropped = server.metrics()["mail_dropped"]
        heard = [note["params"][0] for note in member.inbox]
        assert heard == list(range(1, n - dropped + 1))
        assert 0 < dropped < n
        for one in (speaker, busy, member, other):
            one.drop()


def test_stopping_under_load_with_workers():
    """SIGTERM while everybody talks across workers: everything ends in order."""
    with started("memory, 3 workers", flags=("--grace", "5s")) as cluster:
        server = cluster.servers[0]
        everyone = [cluster.connect(i) for i in range(12)]
        for one in everyone:
            one.call("join", "g")
        for one in everyone:
            for k in range(20):
                one.send_call("publish_many", "g", k, k + 5)
        server.signal()
        assert server.wait() == 0, server.log
        assert re.search(r"\bstopped$", server.log)
        for one in everyone:
            one.drop()
