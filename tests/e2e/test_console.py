"""What a developer sees: a line per call, a block per error, in colour on a terminal; and what logs say of it."""
import json
import os
import pty
import re
import shlex
import subprocess

import pytest

from server import BINARY, apps_folder, environment, run
from wire import RpcError, WebSocket, call_http, call_text, fetch, post

BANK = """local perigee = require "perigee"
local Bank = perigee.consumer {}
local function owner(account, secret)
  local rate = 1.5
  return account.owner.name, rate, secret
end
Bank:rpc_method("withdraw", function(_, amount)
  if amount <= 0 then error("Amounts are positive") end
  return amount
end)
Bank:rpc_method("close", function(_, account)
  local name = owner(account, ("x"):rep(1000))
  return name
end)
Bank:rpc_method("slow", function() perigee.sleep(0.02) return 1 end)
Bank:rpc_method("spin", function() local t = os.clock() while os.clock() < t + 0.2 do end end)
Bank:rpc_notification("note", function() end)
return Bank
"""
CALL = r"^\d\d:\d\d:\d\d\.\d{3}  /bank +%s +%s +\d+(\.\d)? m?s  %s$"


@pytest.fixture
def bank(serve, tmp_path):
    def start(*flags, verb="dev", **more):
        return serve(apps_folder(tmp_path / "apps", files={"bank/init.lua": BANK}), *flags, verb=verb, **more)
    return start


def test_a_line_per_call(bank):
    server = bank()
    with WebSocket(server, "/bank") as ws:
        assert ws.call("withdraw", 1) == 1
        server.wait_log(CALL % ("withdraw", r"#\d+", "ok"))
        with pytest.raises(RpcError):
            ws.call("withdraw", 0)
        server.wait_log(CALL % ("withdraw", r"#\d+", "-32000 Amounts are positive"))
        ws.send_notification("note")
        server.wait_log(CALL % ("note", r"#\d+", "-"))
        ws.call("slow")
        server.wait_log(CALL % ("slow", r"#\d+", "ok"))
        with pytest.raises(RpcError):
            ws.call("withdrow", 1)
        server.wait_log("unknown method did_you_mean=withdraw method=withdrow path=/bank")
    call_http(server, "/bank", "withdraw", 1)
    server.wait_log(CALL % ("withdraw", "http", "ok"))
    assert len(server.log_lines("  /bank ")) == 5


def test_a_block_per_error(bank):
    """Message, source, local variables, way there, and the command that does it again."""
    server = bank()
    with WebSocket(server, "/bank?a=1&b=2") as ws:
        with pytest.raises(RpcError) as caught:
            ws.call("close", {"it's": "$HOME\x1b[31m"})
    server.wait_log("again: ")
    block = server.log[server.log.index("handler failed"):]
    for line in [f"handler failed /bank close  {caught.value.data['error_id']}", "bank/init.lua:5: attempt to index a nil value",
                 ">    5 |   return account.owner.name, rate, secret", "    rate = 1.5", "(1000 bytes)",
                 "bank/init.lua:5: in upvalue 'owner'", "bank/init.lua:12: in function"]:
        assert line in block, f"no {line!r} in\n{block}"
    assert re.search(r'\n    account = \{.*\n    secret = "x{60}"… \(1000 bytes\)\n    rate = 1\.5\n', block)
    assert "\x1b" not in server.log and "error_id=" not in block
    assert "perigee/" not in block.replace(str(server.apps), ""), "the server's own frames say nothing"
    words = shlex.split(re.search("again: (.*)", block)[1])
    assert words[:4] == ["perigee", "call", f"ws://{server.netloc}/bank?a=1&b=2", "close"]
    assert json.loads(words[4]) == [{"it's": "$HOME\x1b[31m"}]
    if run("call", "--help").returncode == 0:
        again = run(*words[1:])
        assert again.returncode == 1 and "-32603" in again.stdout + again.stderr
        server.wait_log("again: ", 2)


def test_errors_that_no_call_caused(serve, tmp_path):
    server = serve(apps_folder(tmp_path / "apps", files={
        "a/init.lua": BANK.replace("return Bank", "perigee.after(0, function() local x = nil; x() end)\nreturn Bank")}), verb="dev")
    server.wait_log("spawn failed")
    server.wait_log("attempt to call a nil value")
    server.wait_log("    x = nil")
    assert not server.log_lines("again: ")


def test_code_that_blocks_is_named(bank):
    for verb in ["dev", "serve"]:
        server = bank("--slice-stop", "20s", verb=verb)
        call_http(server, "/bank", "spin")
        server.wait_log(r"slow code: nothing else runs on this worker meanwhile at=\S+bank/init.lua:16 method=spin ms=100")
        server.stop()


def test_logs_are_quiet_unless_asked(bank):
    server = bank(verb="serve")
    call_http(server, "/bank", "withdraw", 1)
    fetch(server, post("/bank", call_text("close", {})))
    line = server.wait_log("handler failed").string
    assert "error_id=" in line and "method=close" in line
    server.stop()
    assert not server.log_lines(r"withdraw (method|path)|  /bank|again: |^ +rate = 1")


@pytest.mark.parametrize("verb, flags, level", [
    ("serve", ["--log-level", "debug"], "debug"), ("dev", [], "info"), ("dev", ["--log-level", "debug"], "info")])
def test_json_lines(bank, verb, flags, level):
    server = bank("--log-format", "json", *flags, verb=verb)
    call_http(server, "/bank", "withdraw", 1)
    fetch(server, post("/bank", call_text("close", {})))
    server.wait_log('"method":"close".*"outcome"')
    server.stop()
    lines = [json.loads(line) for line in server.lines]
    calls = [line for line in lines if line["event"] == "call"]
    assert [(line["method"], line["outcome"].split("  ")[0], line["level"]) for line in calls] \
        == [("withdraw", "ok", level), ("close", "-32603 Internal error", level)]
    assert all(isinstance(line["ms"], (int, float)) for line in calls)
    fault, = [line for line in lines if line["event"] == "handler failed"]
    assert "account.owner" in fault["detail"]


def on_terminal(apps, **more):
    """Runs perigee dev with a terminal as its standard error until a call has failed; returns what it shows."""
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm", **more)
    for name in ["NO_COLOR"]:
        if name not in more:
            env.pop(name, None)
    process = subprocess.Popen([str(BINARY), "dev", str(apps), "--listen", "127.0.0.1:0"], env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while not re.search(rb"http://([\d.]+):(\d+)", shown):
            shown += os.read(ours, 4096)
        found = re.search(rb"http://([\d.]+):(\d+)", shown)

        class Where:
            address, netloc = (found[1].decode(), int(found[2])), f"{found[1].decode()}:{int(found[2])}"
        fetch(Where, post("/bank", call_text("close", {})))
        while b"Internal error" not in shown:
            shown += os.read(ours, 4096)
    finally:
        process.terminate()
        process.wait(30)
        os.close(ours)
    return shown.decode()


def test_colours(tmp_path):
    apps = apps_folder(tmp_path / "apps", files={"bank/init.lua": BANK})
    shown = on_terminal(apps)
    assert "\x1b[31mhandler failed" in shown and "\x1b[33m    >    5 |" in shown
    assert "\x1b" not in on_terminal(apps, NO_COLOR="1")
    assert "\x1b[31m" in on_terminal(apps, NO_COLOR="")
