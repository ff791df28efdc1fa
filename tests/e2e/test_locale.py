"""A process whose locale has a decimal comma, as any library may have set it: numbers keep their point."""
import json
import re
import subprocess

import pytest

from server import environment, run
from wire import RpcError, WebSocket, fetch, request

CHARMAP = """<code_set_name> MINI
<comment_char> %
<escape_char> /
<mb_cur_min> 1
<mb_cur_max> 1
CHARMAP
""" + "".join(f"<U{i:04X}> /x{i:02x} CHARACTER\n" for i in range(128)) + "END CHARMAP\n"

LOCALE = """comment_char %
escape_char /
LC_NUMERIC
decimal_point "<U002C>"
thousands_sep "<U002E>"
grouping 3;3
END LC_NUMERIC
"""

# a library that does what toolkits do when they are loaded; it says so, as a test that cannot fail is none
LIBRARY = """
#include <locale.h>
#include <stdio.h>
__attribute__((constructor)) static void set_up(void) {
  setlocale(LC_ALL, "");
  fprintf(stderr, "here half is %g\\n", 0.5);
}
"""

APP = """
local perigee = require "perigee"
local A = perigee.consumer { timeout = 2.5 }
local shared = perigee.shared("numbers")

A:rpc_method("texts", function(ctx)
  ctx.log:info("counted", { share = 0.125 })
  return { tostring(1.5), ("%.2f"):format(2.25), 0.5 .. "", tostring(tonumber("3.5")), math.type(tonumber("1e3")) }
end)
A:rpc_method("sum", function()
  shared:set("n", 0.25)
  shared:add("once", 1.125)
  return { shared:incr("n", 1.5), shared:get("n"), shared:get("once"), shared:incr("n", 0.1) }
end)
A:rpc_method("aside", function(_, n) return perigee.blocking("a.aside", "twice", n) end)
A:rpc_method("slow", { timeout = 0.05 }, function() perigee.sleep(60) end)
A:rpc_method("numbers", function(_, n) return { n, 0.1, 1e300, 2.5e-7, 123456789.125 } end)
return A
"""

ASIDE = """
return { twice = function(n) return tostring(n * 2), tonumber("0.75") end }
"""


@pytest.fixture(scope="module")
def comma(tmp_path_factory):
    """The environment of a program in which half is written 0,5."""
    where = tmp_path_factory.mktemp("locale")
    (where / "charmap").write_text(CHARMAP)
    (where / "source").write_text(LOCALE)
    (where / "library.c").write_text(LIBRARY)
    subprocess.run(["localedef", "--no-archive", "-c", "-f", where / "charmap", "-i", where / "source", where / "comma"],
                   capture_output=True)  # it warns of the categories that are not there, by its exit code as well
    subprocess.run(["cc", "-shared", "-fPIC", "-o", where / "library.so", where / "library.c"], check=True)
    return {"LOCPATH": str(where), "LC_ALL": "comma", "LD_PRELOAD": str(where / "library.so"),
            "ASAN_OPTIONS": environment()["ASAN_OPTIONS"] + ":verify_asan_link_order=0"}


@pytest.fixture(params=["memory", "redis"])
def server(request, serve, comma, tmp_path):
    flags = ["--log-format", "json", "--workers", "2"]
    if request.param == "redis":
        from redis_server import Redis
        one = Redis()
        request.addfinalizer(one.stop)
        flags += ["--layer", one.url]
    apps = tmp_path / "apps"
    (apps / "a").mkdir(parents=True)
    (apps / "a/init.lua").write_text(APP)
    (apps / "a/aside.lua").write_text(ASIDE)
    server = serve(apps, *flags, env=comma)
    assert "here half is 0,5" in server.log
    return server


def test_numbers_of_apps(server):
    with WebSocket(server, "/a") as ws:
        assert ws.call("texts") == ["1.5", "2.25", "0.5", "3.5", "float"]
        assert ws.call("sum") == [1.75, 1.75, 1.125, 1.85]
        assert ws.call("aside", 1.25) == "2.5"
        assert ws.call("numbers", 0.3) == [0.3, 0.1, 1e300, 2.5e-7, 123456789.125]
        with pytest.raises(RpcError) as failed:
            ws.call("slow")
        assert (failed.value.code, failed.value.data) == (-32002, {"timeout": 0.05})


def test_numbers_in_the_log(server):
    with WebSocket(server, "/a") as ws:
        ws.call("texts")
    server.wait_log("counted")
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    assert [line["share"] for line in lines if line.get("msg", line.get("event")) == "counted"] == [0.125]


def test_numbers_of_metrics(server):
    for line in fetch(server, request("GET", "/-/metrics")).body.decode().splitlines():
        assert line.startswith("#") or re.fullmatch(r"\S+ [0-9.e+-]+", line), line


def test_settings(comma, tmp_path):
    (tmp_path / "apps").mkdir()
    (tmp_path / "perigee.conf.lua").write_text("return { ping_interval = 2.5, pong_timeout = 0.0125 }\n")
    shown = run("config", "--grace", "1.5s", cwd=tmp_path, env={**comma, "PERIGEE_IDLE_TIMEOUT": "7.5s"})
    assert shown.returncode == 0 and shown.stderr == "here half is 0,5\n", shown
    for text in ["2.5s", "12.5ms", "1.5s", "7.5s"]:
        assert text in shown.stdout, shown.stdout
