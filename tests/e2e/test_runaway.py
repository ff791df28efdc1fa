"""Code that never ends and code that takes all memory: its caller gets one answer, the others go on."""
import os

import pytest

from server import APPS, Server
from wire import TEXT, Http, RpcError, WebSocket, call_http, call_text, frame, handshake, post

WAYS = ["plainly", "in_pcall", "in_xpcall", "in_a_coroutine", "in_nested_coroutines", "in_a_metamethod",
        "in_a_comparison", "in_a_replacement", "in_tostring", "in_close", "in_close_of_a_coroutine", "after_a_wait",
        "in_all"]
C_WAYS = ["in_a_pattern", "in_a_pattern_in_pcall", "in_a_pattern_in_a_coroutine", "in_a_pattern_in_a_comparison", "in_gsub",
          "in_gmatch", "in_sort", "in_move", "in_concat", "in_load", "in_a_result", "in_a_notification", "in_shared",
          "in_blocking"]
SILENT_WAYS = ["in_a_result", "in_a_notification", "in_shared", "in_blocking"]  # what they do runs no Lua to warn of


@pytest.fixture(scope="module")
def runaway():
    with Server(["runaway"], "--slice-warn", "60ms", "--slice-stop", "200ms", "--lua-memory", "48MiB",
                alarms=False) as server:  # "an error could not be reported": it ran on while it was being ended
        yield server


@pytest.fixture(scope="module")
def patient():
    """It has time: sanitized, filling the memory takes longer than a slice."""
    with Server(["runaway"], "--slice-warn", "60ms", "--slice-stop", "100s", "--lua-memory", "24MiB") as server:
        yield server


def timed_out(ws, way):
    with pytest.raises(RpcError) as failed:
        ws.call("spin", way)
    assert failed.value.code == -32002
    # what perigee.all waits for has a slice of its own, so it is not the call that ran over it
    assert failed.value.data == (None if way == "in_all" else {"timeout": 0.2})


@pytest.mark.parametrize("way", WAYS + C_WAYS)
def test_code_that_never_ends(runaway, way):
    """Ended after the slice, whatever it catches; the connection and everybody else are as before."""
    before = runaway.metrics()
    with WebSocket(runaway, "/runaway") as ws, WebSocket(runaway, "/runaway") as other:
        timed_out(ws, way)
        assert ws.call("ping") == "pong"
        assert other.call("ping") == "pong"
    after = runaway.metrics()
    assert after["slices_ended"] > before["slices_ended"]
    if way not in SILENT_WAYS:
        assert after["slices_warned"] > before["slices_warned"]
    if after["slices_held"] == 0:
        assert not runaway.log_lines("what held a worker has come back")


@pytest.mark.parametrize("way", WAYS)
def test_notification_that_never_ends(runaway, way):
    with WebSocket(runaway, "/runaway") as ws:
        ws.send_text('{"jsonrpc":"2.0","method":"spin","params":["%s"]}' % way)
        assert ws.call("ping") == "pong"


def test_a_pattern_of_a_schema(runaway):
    with WebSocket(runaway, "/runaway") as ws:
        with pytest.raises(RpcError) as failed:
            ws.call("spin_in_a_schema", " " * 100_000)
        assert (failed.value.code, failed.value.data) == (-32002, {"timeout": 0.2})
        assert ws.call("ping") == "pong"


def line_of(mark):
    source = (APPS / "runaway/init.lua").read_text().split("\n")
    return 1 + next(i for i, text in enumerate(source) if mark in text)


def test_what_cannot_be_ended_is_named(runaway, tmp_path):
    """A C function that waits, and a __gc that loops: the log says for which path, and where it was once it has come back."""
    before = runaway.metrics()["slices_held"]
    with WebSocket(runaway, "/runaway") as ws:
        os.mkfifo(tmp_path / "pipe")
        ws.send_call("hold", str(tmp_path / "pipe"), id=1)
        line = runaway.wait_log("held by a C function").string
        assert "path=/runaway" in line
        (tmp_path / "pipe").write_text("")
        assert ws.receive_json()["error"]["code"] == -32002
        line = runaway.wait_log("what held a worker has come back").string
        assert "function=open" in line and f"runaway/init.lua:{line_of('-- the line that holds')}" in line
        assert runaway.metrics()["slices_held"] > before
        assert ws.call("ping") == "pong"
        with pytest.raises(RpcError):
            ws.call("hold_in_gc")
        assert ws.call("ping") == "pong"


def test_over_http_and_in_a_batch(runaway):
    with Http(runaway) as http:
        answer = http.ask(post("/runaway", call_text("spin", "plainly")))
        assert (answer.status, answer.json()["error"]["code"]) == (200, -32002)
        assert http.ask(post("/runaway", call_text("ping"))).json()["result"] == "pong"
    with WebSocket(runaway, "/runaway") as ws:
        ws.send(frame(TEXT, "[%s,%s]" % (call_text("spin", "in_pcall", id=1), call_text("ping", id=2))))
        first, second = ws.receive_json()
        assert (first["id"], first["error"]["code"]) == (1, -32002)
        assert (second["id"], second["result"]) == (2, "pong")


@pytest.mark.parametrize("method", ["spawn", "after"])
def test_beside_the_call(runaway, method):
    before = runaway.metrics()["slices_ended"]
    with WebSocket(runaway, "/runaway") as ws:
        assert ws.call(method) is True
        runaway.until(lambda m: m["slices_ended"] > before)
        assert ws.call("ping") == "pong"


def test_slow_code_is_named_with_its_line(patient):
    """Slow, but not too slow: it is warned of while it runs, and gets its answer."""
    with WebSocket(patient, "/runaway") as ws:
        assert ws.call("long", 0.2) is True
    line = patient.wait_log("slow code").string
    assert f"runaway/init.lua:{line_of('-- the slow line')} " in line and "method=long" in line


def test_healthy_code_is_not_warned_of(runaway):
    before = runaway.metrics()
    with WebSocket(runaway, "/runaway") as ws:
        for _ in range(50):
            assert ws.call("long", 0.002) is True
    after = runaway.metrics()
    assert (after["slices_warned"], after["slices_ended"]) == (before["slices_warned"], before["slices_ended"])


def test_in_hooks(runaway):
    with Http(runaway) as http:
        http.send(handshake("/runaway/doors?at=connect"))
        assert http.response().status == 500
    with WebSocket(runaway, "/runaway/doors?at=receive") as ws:
        ws.send(frame(TEXT, "not JSON"))
        assert ws.call("ping") == "pong"
        assert ws.call("event") is True
        assert ws.call("ping") == "pong"
    before = runaway.metrics()["slices_ended"]
    with WebSocket(runaway, "/runaway/doors?at=disconnect") as ws:
        ws.close()
    runaway.until(lambda m: m["slices_ended"] > before)
    assert call_http(runaway, "/runaway", "ping") == "pong"


@pytest.mark.parametrize("method", ["in_middleware", "in_permission", "in_on_error", "in_json_default"])
def test_around_the_call(runaway, method):
    """Here on_error loops as well, so each is ended twice: still one answer."""
    with WebSocket(runaway, "/runaway/around") as ws:
        for _ in range(2):
            with pytest.raises(RpcError) as failed:
                ws.call(method)
            assert failed.value.code == -32002
        assert ws.call("ping") == "pong"


@pytest.mark.parametrize("method", ["hoard", "one_long_text", "deep"])
def test_code_that_takes_all_memory(patient, method):
    """It gets an error, the others their memory back."""
    with WebSocket(patient, "/runaway") as ws, WebSocket(patient, "/runaway") as other:
        with pytest.raises(RpcError) as failed:
            ws.call(method)
        assert failed.value.code == -32603
        assert other.call("ping") == "pong"
        assert ws.call("ping") == "pong"


def test_memory_that_is_caught_is_still_bounded(patient):
    with WebSocket(patient, "/runaway") as ws:
        assert ws.call("hoard_in_pcall") == "survived"
        assert ws.call("ping") == "pong"
    metrics = patient.metrics()
    assert metrics["memory_refused"] >= 3
    assert metrics["lua_memory_bytes"] <= 24 << 20


def test_memory_that_is_kept():
    """With all memory taken for good calls may fail, each with one answer; the process and its connections live."""
    server = Server(["runaway"], "--slice-stop", "100s", "--lua-memory", "24MiB")
    try:
        with WebSocket(server, "/runaway") as ws:
            with pytest.raises(RpcError):
                ws.call("hoard_for_good")
            for i in range(20):
                ws.send_call("ping", id=i)
            assert sorted(ws.receive_json()["id"] for _ in range(20)) == list(range(20))
            assert server.is_running()
            ws.drop()
    finally:
        server.kill()  # it cannot end cleanly: that takes memory as well
