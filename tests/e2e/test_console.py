"""What a developer sees: a line per call, a block per error, in colour on a terminal; and what logs say of it."""
import json
import os
import pty
import re
import shlex
import subprocess

import pytest

from server import BINARY, apps_folder, environment, run
from wire import BINARY as BINARY_FRAME
from wire import Closed, RpcError, WebSocket, call_http, call_text, fetch, frame, handshake, post, request

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
    server.expect_log("  /bank ", 5)


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


# ---- what no handler gets -------------------------------------------------------------------------

REFUSED = [  # message, code, reason, counter
    ('{"jsonrpc":"2.0","method":"note","params":null}', -32602, "Invalid params: params must be an array or an object", "params_refused"),
    ('{"jsonrpc":"2.0","method":"note","params":7}', -32602, "Invalid params: params must be an array or an object", "params_refused"),
    ('{"jsonrpc":"2.0","method":"note","params":[99999999999999999999]}', -32602, "Invalid params: a number beyond 64 bits", "params_refused"),
    ('{"jsonrpc":"2.0","method":"note","params":[1,1,1,1,1]}', -32001, "Request too large: array over 4", "limits_exceeded"),
    ('{"jsonrpc":"2.0","method":"withdraw","params":null,"id":1}', -32602, "Invalid params: params must be an array or an object", "params_refused"),
    ('{"jsonrpc":"2.0","method":1}', -32600, "Invalid Request: method must be a string", "messages_malformed"),
    ('{"jsonrpc":"1.0","method":"withdraw","id":2}', -32600, 'Invalid Request: jsonrpc must be the string "2.0"', "messages_malformed"),
    ('{"id":2}', -32600, "Invalid Request: no method", "messages_malformed"),
    ("7", -32600, "Invalid Request: not an object", "messages_malformed"),
    ("no JSON", -32700, "Parse error: value expected", "messages_malformed"),
    ("[]", -32600, "Invalid Request: an empty batch", "messages_malformed"),
    ("[1,", -32700, "Parse error: ", "messages_malformed"),
    ("[" + ",".join('{"jsonrpc":"2.0","method":"note"}' for _ in range(4)) + "]", -32600, "Invalid Request: a batch may have at most 3 members", "limits_exceeded"),
    ('{"jsonrpc":"2.0","id":9,"result":1}', -32600, "Invalid Request: an answer to no call", "answers_unknown"),
    ('{"jsonrpc":"2.0","method":"' + "m" * 21 + '","id":1}', -32001, "Request too large", "limits_exceeded"),
]
SMALL = ["--max-array", "4", "--max-batch", "3", "--max-method", "20"]


def test_a_refused_message_has_one_line(bank):
    """Its method cannot write the next one."""
    server = bank()
    with WebSocket(server, "/bank") as ws:
        ws.send_text('{"jsonrpc":"3.0","method":"a\\n12:00:00.000  /bank\\tforged","id":1}')
        server.wait_log(r"^\d\d:\d\d:\d\d\.\d{3}  /bank +a 12:00:00\.000  /bank forged +#\d+ ")
    assert not server.log_lines("^12:00:00")


@pytest.mark.parametrize("verb", ["dev", "serve"])
def test_each_message_that_is_refused_leaves_a_line_and_a_count(bank, verb):
    server = bank(*SMALL, "--log-level", "debug", verb=verb)
    before = server.metrics()
    counted = {}
    with WebSocket(server, "/bank") as ws:
        for n, (text, code, reason, counter) in enumerate(REFUSED):
            ws.send_text(text)
            if verb == "dev":
                server.wait_log(rf"^\d\d:\d\d:\d\d\.\d{{3}}  /bank +\S+ +#\d+ +{code} {re.escape(reason)}")
            else:
                shown = re.escape(reason.replace('"', '\\"'))
                server.wait_log(rf'debug message refused code={code} conn=\w+ (method=\w+ )?path=/bank reason="{shown}.*transport=websocket')
            counted[counter] = counted.get(counter, 0) + 1
            now = server.metrics()
            assert {name: now[name] - before[name] for name in counted} == counted, f"after {text[:60]}"


def test_messages_that_are_refused_over_http(bank):
    server = bank("--log-level", "debug", verb="serve")
    assert fetch(server, post("/bank", "no JSON")).status == 200
    server.wait_log("debug message refused code=-32700 conn=.* path=/bank .* transport=http")
    assert server.metrics()["messages_malformed"] == 1


@pytest.mark.parametrize("verb", ["dev", "serve"])
def test_unknown_methods_are_counted_and_limited(bank, verb):
    """Names that clients make up are one kind: they do not fill a log."""
    server = bank("--log-level", "debug", verb=verb)
    with WebSocket(server, "/bank") as ws:
        for n in range(200):
            ws.send_notification(f"made_up_{n}")
        with pytest.raises(RpcError):
            ws.call("no_such_method")
    assert server.metrics()["methods_unknown"] == 201
    server.stop()
    shown = server.log_lines("unknown (method|notification)")
    told = sum(int(found) for found in re.findall(r"suppressed=(\d+)", server.log))
    real = [line for line in shown if "more like it" not in line]
    assert len(real) + told == 201 and len(real) < 100


HTTP_REFUSED = [  # request, status, counter, reason
    (request("GET", "/nowhere"), 404, "http_not_found", "Not Found"),
    (request("GET", "/nowhere/%0a%1b[31m"), 404, "http_not_found", "Not Found"),
    (request("DELETE", "/bank"), 405, "http_not_found", "Method Not Allowed"),
    (request("GET", "/bank/none.txt"), 404, "http_not_found", "Not Found"),
    (post("/bank", "{}", content_type="text/plain"), 415, "http_unsupported", "Content-Type must be application/json"),
    (post("/bank", "{}", {"Content-Encoding": "gzip"}), 415, "http_unsupported", "no Content-Encoding is understood"),
    (post("/bank", "{}", {"Expect": "more"}), 417, "http_unsupported", "only Expect: 100-continue is understood"),
    (post("/bank", "x" * 2000), 413, "http_too_large", "announced body over the limit"),
    (request("GET", "/bank?" + "x" * 2000), 414, "http_too_large", ".*"),
    (request("GET", "/bank", {"X-Long": "x" * 5000}), 431, "http_too_large", ".*"),
    (b"nonsense\r\n\r\n", 400, "http_malformed", ".*"),
    (handshake("/bank", version="12"), 426, "handshakes_refused", ".*"),
    (handshake("/bank", key="short"), 400, "handshakes_refused", ".*"),
    (handshake("/nowhere"), 404, "handshakes_refused", "Not Found"),
    (handshake("/bank", {"Origin": "http://elsewhere.example"}), 403, "handshakes_refused", "origin not allowed"),
    (handshake("/closed"), 403, "handshakes_refused", "the app's connect hook"),
]


ALSO = {400: "http_malformed", 426: "http_malformed", 404: "http_not_found"}


@pytest.mark.parametrize("verb", ["dev", "serve"])
def test_each_request_that_is_refused_leaves_a_line_and_a_count(serve, tmp_path, verb):
    apps = apps_folder(tmp_path / "apps", files={
        "bank/init.lua": BANK, "bank/public/index.html": "hi",
        "closed/init.lua": 'local C = require("perigee").consumer {}\nfunction C:connect() return false end\nreturn C\n'})
    server = serve(apps, "--log-level", "debug", "--max-body", "1KiB", "--max-target", "1KiB", "--max-head", "4KiB", verb=verb)
    level = "info " if verb == "dev" else "debug"
    before, counted = server.metrics(), {}
    for data, status, counter, reason in HTTP_REFUSED:
        seen = len(server.log_lines("request refused|bad HTTP request"))
        assert fetch(server, data).status == status, data[:60]
        server.wait_log("request refused|bad HTTP request", seen + 1)
        line = server.log_lines("request refused|bad HTTP request")[-1]
        assert re.search(rf'({level} request refused|info  bad HTTP request) conn=\w+ peer=127\.0\.0\.1 .*status={status} reason="?{reason}"?$', line), line
        assert "\x1b" not in line
        for name in {counter, "http_refused"} | ({ALSO[status]} if status in ALSO else set()):
            counted[name] = counted.get(name, 0) + 1
        now = server.metrics()
        assert {name: now[name] - before[name] for name in counted} == counted, (data[:60], line)


def test_nothing_of_it_without_debug(bank):
    server = bank(verb="serve")
    with WebSocket(server, "/bank") as ws:
        ws.send_text("no JSON")
        ws.receive()
    assert fetch(server, request("GET", "/nowhere")).status == 404
    server.stop()
    assert not server.log_lines("refused")


def test_requests_without_end(bank):
    server = bank("--log-level", "debug", verb="serve")
    for n in range(100):
        fetch(server, request("GET", f"/nowhere/{n}"))
    assert server.metrics()["http_not_found"] == 100
    server.stop()
    shown = server.log_lines("debug request refused ")
    assert len(shown) < 100
    assert len(shown) + sum(int(n) for n in re.findall(r"suppressed=(\d+)", server.log)) == 100


def test_binary_messages_that_nobody_takes(bank):
    server = bank("--log-level", "debug", verb="serve")
    with WebSocket(server, "/bank") as ws:
        ws.send(frame(BINARY_FRAME, b"\0"))
        with pytest.raises(Closed) as closed:
            ws.receive()
    assert closed.value.code == 1003
    server.wait_log("debug binary message refused conn=.* path=/bank")
    assert server.metrics()["messages_unsupported"] == 1
    server.wait_log("debug connection ended conn=.* protocol=websocket why=")


def test_a_subprotocol_that_nobody_knows_is_told(bank):
    offer = [("Sec-WebSocket-Protocol", "bearer, hush")]
    server = bank()
    with WebSocket(server, "/bank"):
        pass
    assert not server.log_lines("subprotocol")
    with WebSocket(server, "/bank", offer) as ws:
        assert ws.opening["Sec-WebSocket-Protocol"] is None
    line = server.wait_log("no offered subprotocol is known.*")[0]
    assert "path=/bank" in line and "option subprotocols" in line and "hush" not in server.log
    served = bank(verb="serve")
    with WebSocket(served, "/bank", offer):
        pass
    assert not served.log_lines("subprotocol")
