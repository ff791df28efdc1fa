"""What is longer than output_hard is an error of who made it: no connection ends, nobody is called slow."""
import json

import pytest

from server import Server, apps_folder
from wire import TEXT, Http, RpcError, WebSocket, call_text, frame, post

HARD = 256 * 1024
ANSWER = HARD - 64 * 1024  # what is left for an answer that has company

APP = """
local perigee = require "perigee"
local A = perigee.consumer { groups = { "all" } }
local function text(n) return ("x"):rep(n) end
A:rpc_method("result", function(_, n) return text(n) end)
A:rpc_method("failure", function(_, n) return nil, perigee.error { code = 7, message = "m", data = text(n) } end)
A:rpc_method("ping", function() return "pong" end)
A:rpc_method("notify", function(ctx, n) ctx:notify("n", { text(n) }) end)
A:rpc_method("send", function(ctx, n) ctx.consumer:send(text(n), true) end)
A:rpc_method("ask", function(ctx, n) return ctx:call("n", { text(n) }) end)
A:rpc_method("group", function(_, n) A:notify_group("all", "n", { text(n) }) end)
A:rpc_method("channel", function(ctx, n) A:notify_channel(ctx.consumer.channel_name, "n", { text(n) }) end)
A:rpc_method("caught", function(ctx, n) return select(2, pcall(ctx.notify, ctx, "n", { text(n) })) end)
local B = perigee.consumer { path = "/raw", codec = { encode = function(v) return '"' .. v .. '"' end } }
B:rpc_method("result", function(_, n) return text(n) end)
return { A, B }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    apps = apps_folder(tmp_path_factory.mktemp("output") / "apps", files={"out/init.lua": APP})
    with Server(apps, "--output-soft", "64KiB", "--output-hard", str(HARD), "--max-batch", "1000") as one:
        yield one
        assert one.metrics()["slow_readers"] == 0
        assert not one.log_lines("slow reader")


def length_of(id):
    return len('{"jsonrpc":"2.0","result":"","id":%d}' % id)


def internal_error(failed, server):
    assert failed["code"] == -32603
    found = server.wait_log(r"error_id=%s" % failed["data"]["error_id"]).string
    return found


def test_result_over_a_websocket(server):
    with WebSocket(server, "/out") as ws:
        most = HARD - 10 - length_of(1)
        for n in (most - 1, most):
            ws.send_call("result", n, id=1)
            assert len(ws.receive_json()["result"]) == n
        ws.send_call("result", most + 1, id=1)
        line = internal_error(ws.receive_json()["error"], server)
        assert "result cannot be sent" in line and "method=result" in line
        assert "longer than output_hard: return less at a time, or raise it" in line
        assert ws.call("ping") == "pong"


@pytest.mark.parametrize("path, method", [("/raw", "result"), ("/out", "failure")])
def test_other_long_answers(server, path, method):
    with WebSocket(server, path) as ws:
        with pytest.raises(RpcError) as failed:
            ws.call(method, HARD)
        assert failed.value.code == -32603
        assert len(ws.call("result", 100)) == 100


def test_result_over_http(server):
    with Http(server) as http:
        most = ANSWER - length_of(1)
        for n in (most - 1, most):
            assert len(http.ask(post("/out", call_text("result", n))).json()["result"]) == n
        answer = http.ask(post("/out", call_text("result", most + 1)))
        assert answer.status == 200
        internal_error(answer.json()["error"], server)
        assert http.ask(post("/out", call_text("ping"))).json()["result"] == "pong"


def batch(server, is_http, *lengths):
    text = "[%s]" % ",".join(call_text("result", n, id=i) for i, n in enumerate(lengths))
    if is_http:
        with Http(server) as http:
            return http.ask(post("/out", text)).json()
    with WebSocket(server, "/out") as ws:
        ws.send(frame(TEXT, text))
        answers = ws.receive_json()
        assert ws.call("ping") == "pong"
        return answers


@pytest.mark.parametrize("is_http", [False, True])
def test_batch_that_adds_up(server, is_http):
    """The members that fit are answered, the others get an error each."""
    each = ANSWER // 2 - length_of(1)
    for below in (4, 3):  # the brackets and a comma
        fits = batch(server, is_http, each, each - below)
        assert [len(one["result"]) for one in fits] == [each, each - below]
    one_over = batch(server, is_http, each, each - 2)
    assert len(one_over[0]["result"]) == each
    assert one_over[1]["error"]["code"] == -32603 and one_over[1]["error"]["data"]["error_id"]
    server.wait_log("result cannot be sent.*with the other answers of its batch longer than output_hard")
    many = batch(server, is_http, *[ANSWER // 10] * 30)
    assert [("result" in one) for one in many] == [True] * 9 + [False] * 21
    assert [one["id"] for one in many] == list(range(30))


def test_batch_of_one(server):
    most = ANSWER - length_of(1) - len("[]")
    for n in (most - 1, most):
        assert [len(one["result"]) for one in batch(server, True, n)] == [n]
    assert batch(server, True, most + 1)[0]["error"]["code"] == -32603


def last_word(id):
    return '{"jsonrpc":"2.0","error":{"code":-32603,"message":"Internal error"},"id":%s}' % json.dumps(id)


@pytest.mark.parametrize("is_http", [False, True])
def test_batch_whose_errors_add_up(server, is_http):
    """No longer than output_hard, with the head of its frame: it arrives as it is. Over that there is one error for all."""
    ids = ["i" * 250] * 201
    first = ANSWER - len(last_word(ids[0]))  # leaves no room for an error with its cause
    head = 0 if is_http else 10
    room = HARD - head - len("[]") - first - sum(len(",") + len(last_word(id)) for id in ids) - len(",") - len(last_word(""))

    def ask(last):
        members = [call_text("result", first - length_of(0), id=0)]
        members += [call_text("result", HARD, id=id) for id in [*ids, "e" * last]]
        text = "[%s]" % ",".join(members)
        if is_http:
            with Http(server) as http:
                return http.ask(post("/out", text)).body
        with WebSocket(server, "/out") as ws:
            ws.send(frame(TEXT, text))
            answer = ws.receive_frame().payload
            assert ws.call("ping") == "pong"
            return answer
    assert 1 < room < 250
    for last in (room - 1, room):
        answer = ask(last)
        assert len(answer) == HARD - head - room + last
        assert json.loads(answer)[-1] == json.loads(last_word("e" * last))
    assert json.loads(ask(room + 1)) == {"jsonrpc": "2.0", "id": None, "error": {"code": -32603, "message": "Internal error"}}


@pytest.mark.parametrize("method", ["notify", "send", "ask", "group", "channel"])
def test_message_to_clients(server, method):
    with WebSocket(server, "/out") as ws, WebSocket(server, "/out") as member:
        with pytest.raises(RpcError) as failed:
            ws.call(method, HARD)
        line = internal_error({"code": failed.value.code, "data": failed.value.data}, server)
        assert "is over output_hard (262144 bytes): send less at a time, or raise that setting" in line
        assert ws.call("ping") == "pong"
        assert not ws.inbox
        assert member.call("ping") == "pong"
        assert not member.inbox


def test_longest_message_to_clients(server):
    with WebSocket(server, "/out") as ws:
        most = HARD - 10 - len('{"jsonrpc":"2.0","method":"n","params":[""]}')
        for n in (most - 1, most):
            ws.call("notify", n)
            assert len(ws.expect("n")[0]) == n
        assert "is over output_hard" in ws.call("caught", most + 1)
        assert not ws.inbox


def test_several_long_answers_in_one_turn(server):
    """Two that fit, but not together: who reads them is no slow reader."""
    with WebSocket(server, "/out") as ws:
        ws.send(b"".join(frame(TEXT, call_text("result", 150000, id=i)) for i in range(6)))
        for i in range(6):
            assert len(ws.answer(i)) == 150000
