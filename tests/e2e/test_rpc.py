"""JSON-RPC over WebSocket and HTTP: the shared cases, and what api.md sections 4 to 6 promise."""
import base64
import json
import pathlib
import re

import pytest

from wire import (CLOSE, TEXT, Closed, Http, RpcError, WebSocket, call_text, chunked, fetch, post, request)

CASES = json.loads(pathlib.Path(__file__).with_name("jsonrpc_cases.json").read_text())

# Where reasonable servers differ, api.md decides: the expectation that holds here.
DECIDED = {
    # section 4: nothing is bound to what is absent, so the handler's arithmetic fails
    "params/none-for-two": {"expect": {"error_code": -32603, "id": 1}},
    "params/missing-name": {"expect": {"error_code": -32603, "id": 1}},
    # section 6: "beyond: -32602 names the path"
    "value/overflow-minus-1e400": {"expect": {"error_code": -32602, "id": 1}},
    # section 6: 1.0 has no batches, its params are an array
    "batch/with-v1-item": {"expect": {"unordered_batch": [
        {"json": {"jsonrpc": "2.0", "result": "pong", "id": 1}}, {"error_code": -32600, "id": 2}]}},
    "v1/named-params": {"expect": {"error_code": -32602, "id": 1, "v1": True}},
    # section 6: "unreadable text with -32700"; section 3: 500 for other errors
    "http/empty-body": {"expect": {"error_code": -32700, "id": None}, "expect_http": {"status": 500}},
    "http/invalid-utf8": {"expect": {"error_code": -32700, "id": None}, "expect_http": {"status": 500}},
    # section 6: an id comes back byte for byte
    "id/float-integral": {"check_text": '"id":2.0'},
    # the depth limit of the text itself comes before any judgement of its members
    "seq/survives-deep-nesting": {"any_error": True},
    "size/depth-100000": {"any_error": True},
}


def decided(case):
    return {**case, **DECIDED.get(case["name"], {})}


CASES = [decided(case) for case in CASES]


# ---- reading expectations -------------------------------------------------------------------------

def same(a, b):
    """Equal as JSON values: numbers by value, true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b
    return type(a) is type(b) and a == b


def why_not(answer, expect):
    """None when the answer is as expected, else what is wrong with it."""
    if "json" in expect:
        return None if same(answer, expect["json"]) else f"not {expect['json']!r}"
    if "error_code" in expect:
        if not isinstance(answer, dict) or not isinstance(answer.get("error"), dict):
            return "no error answer"
        error, is_v1 = answer["error"], expect.get("v1", "jsonrpc" not in answer)
        if error.get("code") != expect["error_code"]:
            return f"not {expect['error_code']}"
        if not isinstance(error.get("message"), str) or not error["message"]:
            return "no message"
        if not same(answer.get("id", "missing"), expect["id"]):
            return f"id is not {expect['id']!r}"
        if is_v1:
            return None if answer.get("result", 0) is None and "jsonrpc" not in answer else "not of the 1.0 shape"
        return None if "result" not in answer and answer["jsonrpc"] == "2.0" else "not of the 2.0 shape"
    if "unordered_batch" in expect:
        if not isinstance(answer, list) or len(answer) != len(expect["unordered_batch"]):
            return f"not {len(expect['unordered_batch'])} answers"
        left = list(answer)
        for one in expect["unordered_batch"]:
            for candidate in left:
                if why_not(candidate, one) is None:
                    left.remove(candidate)
                    break
            else:
                return f"no answer is {one}"
        return None
    raise AssertionError(f"an expectation that is not understood: {expect}")


def check(text, case, expect):
    answer = json.loads(text)
    if case.get("any_error"):
        expect = None
        if isinstance(answer, list):
            answer = answer[0]
        assert answer["error"]["code"] in (-32700, -32600, -32001), text[:300]
    else:
        wrong = why_not(answer, expect)
        assert wrong is None, f"{wrong}: {text[:500]}"
    if "check_text" in case:
        assert case["check_text"] in text, text[:500]


def message_of(case):
    if "send_parts" in case:
        return "".join(text * times for text, times in case["send_parts"]).encode()
    if "send_b64" in case:
        return base64.b64decode(case["send_b64"])
    return case["send"].encode()


def cases_for(*transports):
    return [pytest.param(case, id=case["name"]) for case in CASES if case["transport"] in transports]


# ---- the cases ------------------------------------------------------------------------------------

def run_on_websocket(ws, case):
    for step in case.get("steps") or [{**case, "send": message_of(case)}]:
        text = step["send"].encode() if isinstance(step["send"], str) else step["send"]
        ws.send_frame(TEXT, text)
        if step["expect"].get("none"):  # then the next thing to come is the answer to this
            assert ws.call("ping") == "pong"
        else:
            is_first = step["send"] == case.get("send") or "steps" not in case
            check(ws.receive(), case if is_first else {}, step["expect"])


@pytest.mark.parametrize("case", cases_for("both", "ws"))
def test_case_over_websocket(everything, case):
    with WebSocket(everything, "/cases") as ws:
        run_on_websocket(ws, case)
        assert ws.call("ping") == "pong"


def test_all_cases_on_one_connection(everything):
    with WebSocket(everything, "/cases") as ws:
        for case in CASES:
            if case["transport"] != "http":
                run_on_websocket(ws, case)
        assert ws.close() == (1000, "")


def http_request(case, path):
    """The bytes of a case's request, in the pieces to send, an interim answer between them."""
    how = case.get("http", {"method": "POST", "headers": {"Content-Type": "application/json"}})
    headers, body = dict(how["headers"]), message_of(case)
    if headers.get("Transfer-Encoding") == "chunked":
        return [request(how["method"], path, headers) + chunked(body, 3, 10)]
    if "Expect" in headers:
        headers["Content-Length"] = str(len(body))
        return [request(how["method"], path, headers), body]
    has_body = how["method"] == "POST" or body
    return [request(how["method"], path, headers, body if has_body else None)]


def ask(http, case, path):
    pieces = http_request(case, path)
    http.send(pieces[0])
    for piece in pieces[1:]:
        assert http.response().status == 100
        http.send(piece)
    return http.response(case.get("http", {}).get("method", "POST"))


def check_http(response, case):
    expect = case["expect"]
    if expect.get("none"):
        if response.status not in (204, 405, 415):
            raise AssertionError(f"no JSON-RPC answer was expected: {response}")
        assert response.status != 204 or response.body == b""
        assert (response["Content-Type"] or "").split(";")[0] != "application/json", response
    else:
        assert response["Content-Type"] == "application/json"
        check(response.body.decode(), case, expect)
    http_note = case.get("expect_http", {})
    if "header" in http_note:
        assert response[http_note["header"]]
    if "empty_body" in http_note:
        assert response.body == b""


@pytest.mark.parametrize("case", cases_for("both", "http"))
def test_case_over_http(everything, case):
    """http_status = "ok": every JSON-RPC answer is 200, none at all is 204."""
    with Http(everything) as http:
        response = ask(http, case, "/cases")
    check_http(response, case)
    if not case["expect"].get("none"):
        assert response.status == 200
    elif case.get("http", {}).get("method", "POST") == "POST":
        assert response.status == case.get("expect_http", {}).get("status", 204)


def mapped_status(case, answer):
    if "expect_http" in case:
        return case["expect_http"]["status"]
    if isinstance(answer, dict) and answer.get("error"):
        return {-32600: 400, -32601: 404}.get(answer["error"]["code"], 500)
    return 200


@pytest.mark.parametrize("case", cases_for("both", "http"))
def test_case_over_http_mapped(everything, case):
    """http_status = "mapped": 400 invalid request, 404 method not found, 500 other errors."""
    with Http(everything) as http:
        response = ask(http, case, "/cases/mapped")
    check_http(response, case)
    if case["expect"].get("none"):
        assert response.status == case.get("expect_http", {}).get("status", 204)
    else:
        assert response.status == mapped_status(case, response.json())


# ---- ids ------------------------------------------------------------------------------------------

IDS = ["1", "0", "-0", "-1", "1e2", "1E+2", "2.0", "0.1", "-0.0", "1.50", "9007199254740993", "123456789012345678901234567890",
       "1e400", "0." + "3" * 30, "9" * 256, '""', '"a"', '"1"', '"null"', '"\\u00e9"', '"é"', '"\\/"', '"/"', '"\\n\\t\\"\\\\"',
       '"\\ud83d\\ude00"', '"😀"', '"\\u0000"', '"' + "a" * 254 + '"', '"' + "a" * 255 + '"', '"' + "a" * 256 + '"',
       '"' + "é" * 128 + '"', '"' + "\\u00e9" * 42 + '1234"', "9" * 255, "null"]


def id_text(answer):
    """The id's own bytes: the last member of an answer."""
    found = re.fullmatch(r'\{.*,"id":((?:"(?:[^"\\]|\\.)*"|[^",}]+))\}', answer, re.S)
    assert found, answer
    return found[1]


@pytest.mark.parametrize("id", IDS, ids=lambda id: id if len(id) < 24 else f"{id[:8]}...{len(id.encode())}")
def test_id_comes_back_byte_for_byte(everything, id):
    messages = [
        (f'{{"jsonrpc":"2.0","method":"ping","id":{id}}}', "result"),
        (f'{{"jsonrpc":"2.0","method":"no such","id": {id} }}', "error"),
        (f'{{"id":{id},"jsonrpc":"2.0","method":"sleep","params":[0.001]}}', "result"),
        (f'{{"jsonrpc":"2.0","id":{id},"method":"echo","params":[1,2,3]}}', "error"),
    ]
    with WebSocket(everything, "/echo") as ws:
        for text, member in messages:
            ws.send_text(text)
            answer = ws.receive()
            assert id_text(answer) == id
            assert member in json.loads(answer)
        # in a batch, where each member waits for the others
        ws.send_text("[" + ",".join(text for text, _ in messages) + "]")
        batch = ws.receive()
        assert batch.count(f'"id":{id}}}') == len(messages), batch
    for text, _ in messages:
        assert id_text(fetch(everything, post("/echo", text)).body.decode()) == id


@pytest.mark.parametrize("id", ['"' + "a" * 257 + '"', '"' + "é" * 128 + 'x"', '"' + "\\u00e9" * 42 + '12345"', "9" * 257, "true", "false", "[]", "{}", "[1]", '{"a":1}'],
                         ids=lambda id: id[:12])
def test_id_that_is_none(everything, id):
    """More than 256 bytes, or of another type: an invalid request, whose id cannot be told."""
    with WebSocket(everything, "/echo") as ws:
        ws.send_text(f'{{"jsonrpc":"2.0","method":"mark","id":{id}}}')
        answer = ws.receive_json()
        assert answer["error"]["code"] == -32600 and answer["id"] is None
        assert "at most 256 bytes" in answer["error"]["message"]
        ws.send_text(f'[{{"jsonrpc":"2.0","method":"ping","id":1}},{{"jsonrpc":"2.0","method":"mark","id":{id}}}]')
        good, bad = ws.receive_json()
        assert (good["result"], bad["error"]["code"], bad["id"]) == ("pong", -32600, None)
        assert ws.call("marks") == 0
    answer = fetch(everything, post("/echo", f'{{"jsonrpc":"2.0","method":"mark","id":{id}}}')).json()
    assert (answer["error"]["code"], answer["id"]) == (-32600, None)


def test_null_id_is_a_request(everything):
    with WebSocket(everything, "/echo") as ws:
        ws.send_text('{"jsonrpc":"2.0","method":"ping","id":null}')
        assert ws.receive_json() == {"jsonrpc": "2.0", "result": "pong", "id": None}


# ---- batches --------------------------------------------------------------------------------------

def batch(*members):
    return "[" + ",".join(members) + "]"


@pytest.mark.parametrize("transport", ["websocket", "http"])
def test_batch_runs_at_once_and_answers_in_order(everything, transport):
    """Members that wait for each other all end, so they overlap; answers keep the request's order."""
    gate = f"batch over {transport}"
    text = batch(
        call_text("wait", gate, id="first"),
        call_text("ping", id="second"),
        '{"jsonrpc":"2.0","method":"ping"}',
        call_text("wait", gate, id="third"),
        "1",
        call_text("open", gate, id="opens"),
        call_text("ping", id="last"))
    if transport == "http":
        response = fetch(everything, post("/gate", text))
        assert response.status == 200
        answers = response.json()
    else:
        with WebSocket(everything, "/gate") as ws:
            ws.send_text(text)
            answers = ws.receive_json()
    assert [answer["id"] for answer in answers] == ["first", "second", "third", None, "opens", "last"]
    assert [answer.get("result") for answer in answers] == \
        [f"through {gate}", "pong", f"through {gate}", None, 2, "pong"]


def test_batch_does_not_hold_up_others(everything):
    with WebSocket(everything, "/gate") as ws:
        ws.send_text(batch(call_text("wait", "held batch", id=1), call_text("ping", id=2)))
        assert ws.call("ping") == "pong"
        ws.send_call("open", "held batch", id="opens")
        messages = [ws.receive_json(), ws.receive_json()]
        assert [1, 2] in [[answer["id"] for answer in message] for message in messages if isinstance(message, list)]


def test_batch_members_count_one_by_one(everything):
    with WebSocket(everything, "/echo/small") as ws:
        ws.send_text(batch(*[call_text("ping", id=i) for i in range(3)]))
        assert [answer["id"] for answer in ws.receive_json()] == [0, 1, 2]
        ws.send_text(batch(*[call_text("ping", id=i) for i in range(4)]))
        answer = ws.receive_json()
        assert answer["error"]["code"] == -32600 and answer["id"] is None
        # a member over a limit does not spoil the others
        ws.send_text(batch(call_text("ping", id=1), call_text("echo", [0] * 6, id=2), call_text("ping", id=3)))
        one, two, three = ws.receive_json()
        assert (one["result"], three["result"]) == ("pong", "pong")
        assert two["error"]["code"] == -32001 and two["error"]["data"]["limit"] == "array"


def test_batch_of_hundred_and_one(everything):
    with WebSocket(everything, "/echo") as ws:
        ws.send_text(batch(*[call_text("echo", i, id=i) for i in range(100)]))
        assert [(answer["id"], answer["result"]) for answer in ws.receive_json()] == [(i, i) for i in range(100)]
        ws.send_text(batch(*[call_text("mark", id=i) for i in range(101)]))
        answer = ws.receive_json()
        assert answer["error"]["code"] == -32600 and answer["id"] is None
        assert ws.call("marks") == 0
    response = fetch(everything, post("/cases/mapped", batch(*["1"] * 101)))
    assert response.status == 400


def test_batch_with_a_fault(everything):
    with WebSocket(everything, "/faults") as ws:
        ws.send_text(batch(call_text("index_nil", 1, id=1), call_text("ping", id=2), call_text("text", id=3)))
        one, two, three = ws.receive_json()
        assert one["error"]["code"] == -32603 and "error_id" in one["error"]["data"]
        assert two["result"] == "pong"
        assert three["error"]["message"] == "that is not possible"


# ---- params ---------------------------------------------------------------------------------------

def error_of(server, path, text, transport="websocket"):
    if transport == "http":
        return fetch(server, post(path, text)).json()["error"]
    with WebSocket(server, path) as ws:
        ws.send_text(text)
        answer = ws.receive_json()
        assert "error" in answer, answer
        return answer["error"]


@pytest.mark.parametrize("transport", ["websocket", "http"])
@pytest.mark.parametrize("params, param", [
    ("[1,2]", 2), ("[1,2,3]", 2), ('{"valeu":1}', "valeu"), ('{"value":1,"":2}', ""), ("1", "params"), ('"a"', "params"),
    ("null", "params"), ("true", "params")])
def test_invalid_params_say_which(everything, params, param, transport):
    error = error_of(everything, "/echo",
                     f'{{"jsonrpc":"2.0","method":"echo","params":{params},"id":1}}', transport)
    assert error["code"] == -32602
    assert {"param", "expected", "got"} <= error["data"].keys()
    assert error["data"]["param"] == param


def test_params_bind(everything):
    with WebSocket(everything, "/cases") as ws:
        for params, result in [("[42,23]", 19), ('{"subtrahend":23,"minuend":42}', 19)]:
            ws.send_text(f'{{"jsonrpc":"2.0","method":"subtract","params":{params},"id":1}}')
            assert ws.receive_json()["result"] == result
        for params, result in [("[]", 0), ("[1,2,3,4,5,6,7,8,9,10]", 55)]:  # a handler with ...
            ws.send_text(f'{{"jsonrpc":"2.0","method":"sum","params":{params},"id":1}}')
            assert ws.receive_json()["result"] == result
        for params in ["", '"params":[],', '"params":{},', '"params":[null],', '"params":{"value":null},']:
            ws.send_text(f'{{"jsonrpc":"2.0","method":"echo",{params}"id":1}}')
            assert ws.receive_json()["result"] is None


@pytest.mark.parametrize("value, path", [
    ("[9223372036854775808]", "[0]"), ("[-9223372036854775809]", "[0]"), ("[[1,123456789012345678901234567890]]", "[0][1]"),
    ('{"value":{"a":[1e400]}}', "value")])
def test_number_beyond_64_bits(everything, value, path):
    error = error_of(everything, "/echo", f'{{"jsonrpc":"2.0","method":"echo","params":{value},"id":1}}')
    assert error["code"] == -32602
    assert path in error["data"]["param"]


# ---- limits ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("transport", ["websocket", "http"])
@pytest.mark.parametrize("text, limit, most", [
    (call_text("echo", [0] * 10001), "array", 10000),
    (call_text("echo", *[0] * 10001), "array", 10000),
    (call_text("echo", "a" * (1 << 20) + "a"), "string", 1 << 20),
    (call_text("echo", {"é" * (1 << 19) + "a": 1}), "string", 1 << 20),
    (call_text("echo", json.loads("[" * 20 + "1" + "]" * 20)), "depth", 20),
    (call_text("echo", json.loads("[" * 21 + "]" * 21)), "depth", 20),
    (call_text("echo", json.loads('{"a":' * 20 + "1" + "}" * 20)), "depth", 20),
    (call_text("m" * 257), "method", 256),
], ids=["array", "params", "string", "key", "depth", "depth around nothing", "depth of objects", "method"])
def test_over_a_limit(everything, text, limit, most, transport):
    error = error_of(everything, "/echo", text, transport)
    assert error["code"] == -32001
    assert (error["data"]["limit"], error["data"]["max"]) == (limit, most)


@pytest.mark.parametrize("value", [
    [0] * 10000, "a" * (1 << 20), "é" * (1 << 19), "\x01" * (1 << 17), json.loads("[" * 19 + "1" + "]" * 19),
    [[0] * 10000, [0] * 10000],
], ids=["array", "string", "two-byte string", "escaped string", "depth", "two arrays"])
def test_at_a_limit(everything, value):
    with WebSocket(everything, "/echo") as ws:
        assert ws.call("echo", value) == value
    response = fetch(everything, post("/echo", call_text("echo", value)))
    assert response.json()["result"] == value


@pytest.mark.parametrize("params, limit", [([[0] * 6], "array"), (["a" * 21], "string"), ([{"a": {"b": {"c": 1}}}], "depth")])
def test_limits_of_a_consumer(everything, params, limit):
    with WebSocket(everything, "/echo/small") as ws:
        with pytest.raises(RpcError) as failed:
            ws.call("echo", *params)
        assert failed.value.code == -32001 and failed.value.data["limit"] == limit
        assert ws.call("echo", [0] * 5) == [0] * 5
        assert ws.call("echo", "a" * 20) == "a" * 20
        with pytest.raises(RpcError) as failed:
            ws.call("m" * 11)
        assert failed.value.code == -32001 and failed.value.data == {"limit": "method", "max": 10}
        with pytest.raises(RpcError) as failed:
            ws.call("m" * 10)
        assert failed.value.code == -32601


def test_limits_by_flags(serve):
    server = serve(["echo"], "--max-array", "7", "--max-string", "1KiB", "--max-depth", "4", "--max-batch", "2")
    for text, limit in [(call_text("echo", [0] * 8), "array"), (call_text("echo", "a" * 1025), "string"),
                        (call_text("echo", [[[[1]]]]), "depth")]:
        error = error_of(server, "/echo", text)
        assert error["code"] == -32001 and error["data"]["limit"] == limit
    assert error_of(server, "/echo", "[1,2,3]")["code"] == -32600


def test_limits_are_counted(serve):
    server = serve(["echo"], "--max-array", "7", "--max-string", "1KiB", "--max-depth", "4", "--max-batch", "2",
                   "--max-method", "20")
    assert server.metrics()["limits_exceeded"] == 0
    for text in [call_text("echo", [0] * 8), call_text("echo", "a" * 1025), call_text("echo", [[[[1]]]]),
                 "[1,2,3]", call_text("m" * 21)]:
        error_of(server, "/echo", text)
    metrics = server.metrics()
    assert metrics["limits_exceeded"] == 5
    assert metrics["connections"] == 1  # the one that asks
    assert metrics["lua_memory_bytes"] > 100_000


def test_limit_of_method_names_by_flag(serve):
    server = serve(["echo"], "--max-method", "20")
    error = error_of(server, "/echo", call_text("m" * 21))
    assert (error["code"], error.get("data")) == (-32001, {"limit": "method", "max": 20})


def test_long_messages_of_many_calls(everything):
    """Near the message limit, over frames of every length form."""
    with WebSocket(everything, "/echo") as ws:
        for n in [100, 125, 126, 127, 65000, 65535, 65536, 70000, 1 << 20]:
            assert ws.call("length", "a" * n) == n
            assert ws.call("repeated", "a", n) == "a" * n


# ---- notifications --------------------------------------------------------------------------------

NOTIFICATIONS = [
    '{"jsonrpc":"2.0","method":"update","params":[1]}',
    '{"jsonrpc":"2.0","method":"update","params":[1,2,3,4,5]}',  # more than it takes
    '{"jsonrpc":"2.0","method":"update","params":{"nope":1}}',
    '{"jsonrpc":"2.0","method":"update","params":5}',
    '{"jsonrpc":"2.0","method":"notify_hello"}',  # a fault in the handler
    '{"jsonrpc":"2.0","method":"no_such"}',
    '{"jsonrpc":"2.0","method":"ping"}',  # a method, not a notification
    '{"jsonrpc":"2.0","method":"rpc.discover"}',
    '{"jsonrpc":"2.0","method":"_private"}',
    '{"jsonrpc":"2.0","method":"update","params":[' + "[" * 30 + "]" * 30 + "]}",
    '{"method":"update","params":[],"id":null}',
    '{"method":"update","params":[]}',
    '{"method":"no_such","params":[],"id":null}',
]


@pytest.mark.parametrize("text", NOTIFICATIONS, ids=lambda text: text[:60])
def test_notification_is_silent(everything, text):
    with WebSocket(everything, "/cases") as ws:
        ws.send_text(text)
        assert ws.call("ping") == "pong"
        ws.send_text(f"[{text}]" if "jsonrpc" in text else text)
        assert ws.call("ping") == "pong"
    for path in ["/cases", "/cases/mapped"]:
        response = fetch(everything, post(path, text))
        assert (response.status, response.body) == (204, b"")
        assert response["Content-Type"] is None


def test_notification_has_its_own_registry(everything):
    with WebSocket(everything, "/cases") as ws:
        with pytest.raises(RpcError) as failed:
            ws.call("update", 1)
        assert failed.value.code == -32601


# ---- JSON-RPC 1.0 ---------------------------------------------------------------------------------

@pytest.mark.parametrize("text, answer", [
    ('{"method":"ping","params":[],"id":1}', {"result": "pong", "error": None, "id": 1}),
    ('{"method":"subtract","params":[5,3],"id":"a"}', {"result": 2, "error": None, "id": "a"}),
    ('{"method":"fail","params":[],"id":2}',
     {"result": None, "error": {"code": -32000, "message": "fake_error", "data": ["fake_error"]}, "id": 2}),
])
def test_v1_shapes(everything, text, answer):
    with WebSocket(everything, "/cases") as ws:
        ws.send_text(text)
        assert ws.receive_json() == answer
    response = fetch(everything, post("/cases", text))
    assert response.json() == answer


@pytest.mark.parametrize("text, code", [
    ('{"method":"no_such","params":[],"id":1}', -32601),
    ('{"method":"ping","params":[1],"id":1}', -32602),
    ('{"method":"subtract","params":{"minuend":1,"subtrahend":2},"id":1}', -32602),
    ('{"method":"subtract","params":[],"id":1}', -32603),
    ('{"method":7,"params":[],"id":1}', -32600),
])
def test_v1_errors(everything, text, code):
    with WebSocket(everything, "/cases") as ws:
        ws.send_text(text)
        answer = ws.receive_json()
        assert answer.keys() == {"result", "error", "id"}
        assert answer["result"] is None and answer["id"] == 1 and answer["error"]["code"] == code


def test_versions_of_a_consumer(everything):
    error = error_of(everything, "/echo/modern", '{"method":"ping","params":[],"id":1}')
    assert error["code"] == -32600
    with WebSocket(everything, "/echo/modern") as ws:
        assert ws.call("ping") == "pong"


# ---- names ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["rpc.discover", "rpc.x", "_x", "__index", "constructor", "ping ", "Ping", "os.exit", ""])
def test_names_that_are_not_found(everything, name):
    error = error_of(everything, "/cases", call_text(name))
    assert error["code"] == -32601


def test_refused_transport_looks_like_an_unknown_method(everything):
    def shape(path, name, transport):
        return json.dumps(error_of(everything, path, call_text(name), transport)).replace(name, "NAME")
    for transport, hidden in [("http", "ws_only"), ("websocket", "http_only")]:
        assert shape("/cases", hidden, transport) == shape("/cases", "no_such", transport)
    assert call_over(everything, "http_only", "http") == "http"
    assert call_over(everything, "ws_only", "websocket") == "ws"


def call_over(server, name, transport):
    if transport == "http":
        return fetch(server, post("/cases", call_text(name))).json()["result"]
    with WebSocket(server, "/cases") as ws:
        return ws.call(name)


# ---- JSON -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("text", [
    "0", "-1", "9223372036854775807", "-9223372036854775808", "9007199254740993", "0.1", "1.5e-300", "1.7976931348623157e+308",
    "5e-324", "123456.789", "0.30000000000000004", "1e+22", "[]", "{}", "[[],{}]", '{"a":[],"b":{}}', "[null]", "[null,1,null]",
    '{"a":null}', "true", "false", '""', '"a"', '"é😀"', '"\\u0000"', '"\\u0001\\u001f"', '"\\"\\\\/"', '"\\b\\f\\n\\r\\t"',
    '"\u2028\u2029\u007f"', '"\ufeff"', '"\U0010ffff"', '[1,[2,[3,[4]]]]', '{"":""}', '[true,false,null,0,"",[],{}]'])
def test_value_survives_a_round_trip(everything, text):
    value = json.loads(text)
    for transport in ["websocket", "http"]:
        message = f'{{"jsonrpc":"2.0","method":"echo","params":[{text}],"id":1}}'
        if transport == "http":
            answer = fetch(everything, post("/echo", message)).body.decode()
        else:
            with WebSocket(everything, "/echo") as ws:
                ws.send_text(message)
                answer = ws.receive()
        assert same(json.loads(answer)["result"], value), answer
        if isinstance(value, int) and not isinstance(value, bool):
            assert f'"result":{text},' in answer  # an integer stays one
        if isinstance(value, float):
            written = re.search(r'"result":([^,]+),', answer)[1]
            assert len(written) <= len(repr(value)) + 1, f"{written} is longer than {value!r}"


def test_last_of_equal_keys_wins(everything):
    with WebSocket(everything, "/echo") as ws:
        ws.send_text('{"jsonrpc":"2.0","method":"no","method":"echo","params":[{"a":1,"a":2}],"id":1,"id":2}')
        assert ws.receive_json() == {"jsonrpc": "2.0", "result": {"a": 2}, "id": 2}


@pytest.mark.parametrize("text", [
    b"\xef\xbb\xbf" + call_text("ping").encode(), b'{"jsonrpc":"2.0","method":"echo","params":["\\ud800"],"id":1}',
    b'{"jsonrpc":"2.0","method":"echo","params":["\\udc00\\ud800"],"id":1}', b'{"jsonrpc":"2.0","method":"ping","id":1}}',
    b'{"jsonrpc":"2.0","method":"ping","id":1,}', b'{"jsonrpc":"2.0","method":"ping","id":01}',
    b'{"jsonrpc":"2.0","method":"ping","id":+1}', b'{"jsonrpc":"2.0","method":"ping","id":.5}',
    b'{"jsonrpc":"2.0","method":"ping","id":1.}', b'{"jsonrpc":"2.0","method":"ping","id":0x1}',
    b'{"jsonrpc":"2.0","method":"ping","id":NaN}', b'{"jsonrpc":"2.0","method":"ping","id":"\t"}',
    b'/* */{"jsonrpc":"2.0","method":"ping","id":1}', b'{"jsonrpc":"2.0","method":"ping","id":"a\\x"}',
    b'[{"jsonrpc":"2.0","method":"ping","id":1},]', b'[' + call_text("mark").encode() + b"", b"\0", b"[" * 200 + b"]" * 200,
], ids=lambda text: repr(text[:40]))
def test_text_that_is_not_json(everything, text):
    with WebSocket(everything, "/echo") as ws:
        ws.send_frame(TEXT, text)
        answer = ws.receive_json()
        assert answer["jsonrpc"] == "2.0" and answer["id"] is None
        if text.startswith(b"[["):
            assert answer["error"]["code"] in (-32700, -32600)
        else:
            assert answer["error"]["code"] == -32700
        assert ws.call("marks") == 0
    answer = fetch(everything, post("/echo", text)).json()
    assert answer["error"]["code"] in (-32700, -32600) and answer["id"] is None


# ---- results and errors ---------------------------------------------------------------------------

@pytest.mark.parametrize("method, error", [
    ("text", {"code": -32000, "message": "that is not possible", "data": ["that is not possible"]}),
    ("text_level_2", {"code": -32000, "message": "not from here", "data": ["not from here"]}),
    ("returned_text", {"code": -32000, "message": "that is not possible either", "data": ["that is not possible either"]}),
    ("object", {"code": 4711, "message": "out of stock", "data": {"left": 0}}),
    ("returned_object", {"code": -32003, "message": "not yours"}),
    ("own_coroutine", {"code": -32000, "message": "inside", "data": ["inside"]}),
    ("after_a_wait", {"code": -32000, "message": "too late", "data": ["too late"]}),
])
def test_error_on_purpose(everything, method, error):
    for transport in ["websocket", "http"]:
        assert error_of(everything, "/faults", call_text(method), transport) == error


@pytest.mark.parametrize("name, code", [
    ("parse", -32700), ("invalid_request", -32600), ("method_not_found", -32601), ("invalid_params", -32602),
    ("internal", -32603), ("application", -32000), ("too_large", -32001), ("timeout", -32002), ("forbidden", -32003),
    ("unauthenticated", -32004), ("rate_limited", -32005), ("unavailable", -32006), ("cancelled", -32800)])
def test_named_codes(everything, name, code):
    assert error_of(everything, "/faults", call_text("coded", name))["code"] == code


FAULTS = ["index_nil", "call_nil", "assertion", "arithmetic", "library", "table", "error_nil", "bad_tostring", "recursion",
          "undeclared", "yields", "fault_after_a_wait"]
UNENCODABLE = ["function_result", "userdata_result", "nan_result", "infinite_result", "bytes_result", "endless_result",
               "odd_keys_result", "unencodable_data"]


@pytest.mark.parametrize("method", FAULTS + UNENCODABLE)
def test_fault_tells_an_id_and_nothing_else(everything, method):
    seen = []
    for transport in ["websocket", "http"]:
        text = json.dumps({"jsonrpc": "2.0", "method": method, "id": 1})
        if transport == "http":
            answer = fetch(everything, post("/faults", text)).body.decode()
        else:
            with WebSocket(everything, "/faults") as ws:
                ws.send_text(text)
                answer = ws.receive()
                assert ws.call("ping") == "pong"  # an error never closes the connection
        error = json.loads(answer)["error"]
        assert (error["code"], error["message"]) == (-32603, "Internal error")
        assert error["data"].keys() == {"error_id"}
        for secret in [".lua", "stack traceback", "init", "/apps", "attempt", str(everything.apps)]:
            assert secret not in answer
        everything.wait_log(rf"error_id={re.escape(error['data']['error_id'])}\b")
        everything.expect_log(re.escape(error["data"]["error_id"]), 1)
        seen.append(error["data"]["error_id"])
    assert len(set(seen)) == 2


def test_fault_is_logged_with_its_source(everything):
    error = error_of(everything, "/faults", call_text("index_nil", 1))
    line = everything.wait_log(rf"error_id={re.escape(error['data']['error_id'])}\b").string
    assert "faults/init.lua:" in line and "method=index_nil" in line and "path=/faults" in line
    block = everything.log.split(line)[1]
    assert re.search(r">\s+\d+ \| Faults:rpc_method\(\"index_nil\"", block)
    assert "stack traceback:" in block


def test_unencodable_result_is_logged_with_its_path(everything):
    error = error_of(everything, "/faults", call_text("function_result"))
    line = everything.wait_log(rf"error_id={re.escape(error['data']['error_id'])}\b").string
    assert "list" in line and re.search(r"\[[12]\]", line) and "function" in line


def test_fault_in_dev_shows_everything(serve):
    server = serve(["faults", "cases"], verb="dev")
    error = error_of(server, "/faults", call_text("index_nil", 1))
    assert error["code"] == -32603
    dev = error["data"]["dev"]
    assert dev["file"].endswith("faults/init.lua") and isinstance(dev["line"], int)
    assert "attempt to index" in dev["message"] and "stack traceback" in dev["traceback"]
    assert f"> {dev['line']:4} | " in dev["excerpt"]
    error = error_of(server, "/faults", call_text("nan_result"))
    assert "value" in error["data"]["dev"]["message"]
    # an error on purpose stays what it is
    assert error_of(server, "/cases", call_text("fail")) == \
        {"code": -32000, "message": "fake_error", "data": ["fake_error"]}


def test_fault_in_a_notification_is_silent_and_logged(everything):
    with WebSocket(everything, "/faults") as ws:
        before = len(everything.log_lines("method=notified "))
        ws.send_notification("notified", 1)
        assert ws.call("ping") == "pong"
        everything.wait_log("method=notified ", before + 1)


def test_faults_beside_a_call(everything):
    with WebSocket(everything, "/faults") as ws:
        assert ws.call("spawned") is True
        everything.wait_log("in a spawned function")
        everything.wait_log("in a timer")
        assert ws.call("ping") == "pong"


def test_many_errors_on_one_connection(everything):
    with WebSocket(everything, "/faults") as ws:
        for method in FAULTS + UNENCODABLE + ["text", "object", "no_such"]:
            ws.send_call(method, id=method)
            answers = [ws.receive_json()]
            assert answers[0]["id"] == method and "error" in answers[0]
        assert ws.call("ping") == "pong"
        assert ws.close() == (1000, "")


# ---- what a consumer may choose --------------------------------------------------------------------

def test_json_default(everything):
    with WebSocket(everything, "/choices/odd") as ws:
        assert ws.call("odd") == {"f": "a function", "list": ["a userdata", 1]}
        assert ws.call("fine") == [1, "two", None]


def test_codec(everything):
    with WebSocket(everything, "/choices/own") as ws:
        assert ws.call("number", 5) == "5"
        assert ws.call("number", "five") == "five"
    assert fetch(everything, post("/choices/own", call_text("number", 5))).json()["result"] == "5"


# ---- answers to calls nobody made -----------------------------------------------------------------

@pytest.mark.parametrize("text", [
    '{"jsonrpc":"2.0","result":1,"id":1}', '{"jsonrpc":"2.0","error":{"code":1,"message":"x"},"id":"nobody"}',
    '{"result":1,"error":null,"id":7}'])
def test_answer_to_no_call_is_ignored(everything, text):
    with WebSocket(everything, "/echo") as ws:
        ws.send_text(text)
        assert ws.call("ping") == "pong"


def test_closing_during_errors(everything):
    """A close frame right behind bad messages: all are answered, then the close is."""
    with WebSocket(everything, "/echo") as ws:
        ws.send_text("{")
        ws.send_text(call_text("no_such", id=2))
        ws.send_frame(CLOSE, b"\x03\xe8")
        assert ws.receive_json()["error"]["code"] == -32700
        assert ws.receive_json()["error"]["code"] == -32601
        with pytest.raises(Closed) as closed:
            ws.receive()
        assert closed.value.code == 1000
