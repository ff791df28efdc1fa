"""What a burst has taken is given back when it is over, though hardly anything happens any more."""
import time

import pytest

from server import BINARY, apps_folder, until
from wire import Http, WebSocket, post

APP = """
local perigee = require "perigee"
local A = perigee.consumer {}
A:rpc_method("burst", function(_, n)
  local all = {}
  for i = 1, n do all[i] = { i } end
  return #all
end)
A:rpc_method("collect", function(_, mode) return collectgarbage(mode) end)
A:rpc_method("ping", function() return "pong" end)
return A
"""
MB = 1 << 20
IS_SANITIZED = b"__asan_init" in BINARY.read_bytes()


@pytest.fixture
def server(serve, tmp_path):
    apps = apps_folder(tmp_path / "apps", files={"mem/init.lua": APP})
    return serve(apps, "--slice-stop", "60s", "--slice-warn", "60s", lean=True,
                 env={"ASAN_OPTIONS": "detect_leaks=1:allocator_release_to_os_interval_ms=100"})


def is_idle(server):
    """Nothing was computed for a while."""
    before = server.cpu_ticks()
    time.sleep(0.3)
    return server.cpu_ticks() == before


@pytest.mark.parametrize("mode", ["incremental", "generational"])
def test_garbage_of_a_burst_is_collected(server, mode):
    with WebSocket(server, "/mem") as ws:
        assert ws.call("collect", mode) == "incremental"
        before, resident = server.metrics()["lua_memory_bytes"], server.resident()
        for _ in range(3):
            assert ws.call("burst", 300000) == 300000
        assert server.metrics()["lua_memory_bytes"] > before + 20 * MB
        peak = server.resident()
        server.until(lambda m: m["lua_memory_bytes"] < before + 4 * MB, "a collection")
        if not IS_SANITIZED:  # its allocator keeps small blocks for good
            server.until(lambda _: server.resident() < resident + (peak - resident) / 2, "memory given back")
        until(lambda: is_idle(server), "an end of it")
        assert ws.call("collect", "incremental") == mode
        assert ws.call("ping") == "pong"


def test_memory_of_unfinished_bodies_is_given_back(server):
    resident = server.resident()
    bodies = [Http(server) for _ in range(60)]
    for http in bodies:
        http.send(post("/mem", b"x" * MB)[:-1])
    server.until(lambda _: server.resident() > resident + 50 * MB)
    peak = server.resident()
    for http in bodies:
        http.socket.close()
    server.until(lambda _: server.resident() < resident + (peak - resident) / 3, "memory given back")
