"""Ambiguous requests: what two parsers could read differently is refused and ends the connection.

Each of them is followed by a request that calls "mark". A server that finds it, by whatever reading,
answers twice or leaves a mark. Shapes: research/llhttp.md.
"""
import pytest

from server import growth_below
from wire import Http, call_http, call_text, handshake, post, request

SMUGGLED = post("/echo", call_text("mark"))
MARK = call_text("mark").encode()

HOST = b"Host: 127.0.0.1\r\n"
TYPE = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
START = b"POST /echo HTTP/1.1\r\n" + HOST + TYPE


def with_fields(*lines, body=b"0\r\n\r\n", start=START):
    """A POST whose last field lines are given as bytes, each with its own line end."""
    return start + b"".join(line if line.endswith(b"\n") else line + b"\r\n" for line in lines) + b"\r\n" + body


def chunks(*raw):
    return START + CHUNKED + b"\r\n" + b"".join(raw)


AMBIGUOUS = {
    # two lengths
    "CL then TE": with_fields(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "TE then CL": with_fields(b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "CL and unknown TE": with_fields(b"Content-Length: 5", b"Transfer-Encoding: foo"),
    "CL and empty TE": with_fields(b"Content-Length: 5", b"Transfer-Encoding:"),
    "CL twice": with_fields(b"Content-Length: 5", b"Content-Length: 6"),
    "CL list": with_fields(b"Content-Length: 5, 6"),
    "CL list of equals": with_fields(b"Content-Length: 5, 5"),
    # lengths that are none
    "CL plus": with_fields(b"Content-Length: +5"),
    "CL minus": with_fields(b"Content-Length: -5"),
    "CL hex": with_fields(b"Content-Length: 0x5"),
    "CL empty": with_fields(b"Content-Length:"),
    "CL with a space inside": with_fields(b"Content-Length: 5 5"),
    "CL fraction": with_fields(b"Content-Length: 5.0"),
    "CL exponent": with_fields(b"Content-Length: 5e0"),
    "CL quoted": with_fields(b'Content-Length: "5"'),
    "CL of 2^64": with_fields(b"Content-Length: 18446744073709551616"),
    "CL of 2^64 + 5": with_fields(b"Content-Length: 18446744073709551621"),
    "CL of 2^64 - 1": with_fields(b"Content-Length: 18446744073709551615"),
    "CL with underscore": with_fields(b"Content_Length: 5"),
    # codings that are not chunked
    "TE xchunked": with_fields(b"Transfer-Encoding: xchunked"),
    "TE chunkedx": with_fields(b"Transfer-Encoding: chunkedx"),
    "TE quoted": with_fields(b'Transfer-Encoding: "chunked"'),
    "TE parameter": with_fields(b"Transfer-Encoding: chunked;q=1"),
    "TE identity": with_fields(b"Transfer-Encoding: identity"),
    "TE chunked, identity": with_fields(b"Transfer-Encoding: chunked, identity"),
    "TE gzip, chunked": with_fields(b"Transfer-Encoding: gzip, chunked"),
    "TE chunked, chunked": with_fields(b"Transfer-Encoding: chunked, chunked"),
    "TE ,chunked": with_fields(b"Transfer-Encoding: ,chunked"),
    "TE chunked,": with_fields(b"Transfer-Encoding: chunked,"),
    "TE on two lines": with_fields(b"Transfer-Encoding: cow", b"Transfer-Encoding: chunked"),
    "TE twice": with_fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "TE chunked then identity": with_fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    "TE empty": with_fields(b"Transfer-Encoding:"),
    "TE vertical tab": with_fields(b"Transfer-Encoding: \x0bchunked"),
    "TE NUL": with_fields(b"Transfer-Encoding: chunked\0"),
    "TE high byte": with_fields(b"Transfer-Encoding: chunked\xa0"),
    "TE in HTTP/1.0": b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\n" + TYPE + CHUNKED + b"\r\n0\r\n\r\n",
    # names
    "CL with a space before the colon": with_fields(b"Content-Length : 5"),
    "TE with a space before the colon": with_fields(b"Transfer-Encoding : chunked"),
    "TE with a tab before the colon": with_fields(b"Transfer-Encoding\t: chunked"),
    "any name with a space before the colon": with_fields(b"Content-Length: 0", b"X-Name : v", body=b""),
    "space in a name": with_fields(b"Content-Length: 0", b"X Name: v", body=b""),
    "empty name": with_fields(b"Content-Length: 0", b": v", body=b""),
    "no colon": with_fields(b"Content-Length: 0", b"X-Name", body=b""),
    "NUL in a name": with_fields(b"Content-Length: 0", b"X\0Name: v", body=b""),
    "NUL in a value": with_fields(b"Content-Length: 0", b"X-Name: a\0b", body=b""),
    "control in a value": with_fields(b"Content-Length: 0", b"X-Name: a\x01b", body=b""),
    "high byte in a name": with_fields(b"Content-Length: 0", b"X\xe9: v", body=b""),
    # folded lines
    "CL folded away": with_fields(b"X-Name: v", b" Content-Length: 44"),
    "CL folded away with a tab": with_fields(b"X-Name: v", b"\tContent-Length: 44"),
    "TE folded": with_fields(b"Transfer-Encoding:", b" chunked"),
    "fold in a value": with_fields(b"Content-Length: 0", b"X-Name: a", b" b", body=b""),
    "fold of nothing": with_fields(b"Content-Length: 0", b"X-Name:", b" ", body=b""),
    "fold before the first field": b"POST /echo HTTP/1.1\r\n " + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    # line ends
    "LF after the request line": b"POST /echo HTTP/1.1\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "LF after a field": with_fields(b"X-Name: v\n", b"Content-Length: 0", body=b""),
    "LF after the last field": with_fields(b"Content-Length: 0\n", body=b""),
    "LF as the empty line": START + b"Content-Length: 0\r\n\n",
    "LF only": b"POST /echo HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 0\n\n",
    "CR only": b"POST /echo HTTP/1.1\rHost: x\rContent-Length: 0\r\r",
    "CR in a value": with_fields(b"Content-Length: 0", b"X-Name: a\rb", body=b""),
    "CR as the end of an empty value": with_fields(b"X-Name:\rContent-Length: 44", body=b""),
    "CR as the end of a value": with_fields(b"X-Name: v\rContent-Length: 44", body=b""),
    "CR CR LF": with_fields(b"Content-Length: 0\r", body=b""),
    "CR before the request line's end": b"POST /echo HTTP/1.1\r\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "head ended by CR LF CR and another byte": START + b"Content-Length: 0\r\n\rz",
    "head ended by CR LF CR and a request": START + b"Content-Length: 0\r\n\r",
    # Host
    "no Host": b"POST /echo HTTP/1.1\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host twice": with_fields(b"Host: other", b"Content-Length: 0", body=b""),
    "Host twice, alike": with_fields(b"Host: 127.0.0.1", b"Content-Length: 0", body=b""),
    "Host empty": b"POST /echo HTTP/1.1\r\nHost:\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host with a space": b"POST /echo HTTP/1.1\r\nHost: a b\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host with a slash": b"POST /echo HTTP/1.1\r\nHost: a/b\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host with a user": b"POST /echo HTTP/1.1\r\nHost: a@b\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host with two ports": b"POST /echo HTTP/1.1\r\nHost: a:80:80\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host with an open bracket": b"POST /echo HTTP/1.1\r\nHost: [::1\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host of a port alone": b"POST /echo HTTP/1.1\r\nHost: :80\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host with a port beyond": b"POST /echo HTTP/1.1\r\nHost: a:65536\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host with a comma": b"POST /echo HTTP/1.1\r\nHost: a,b\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    "Host with a query": b"POST /echo HTTP/1.1\r\nHost: a?b\r\n" + TYPE + b"Content-Length: 0\r\n\r\n",
    # chunks
    "chunk size with a space": chunks(b"5 \r\n12345\r\n0\r\n\r\n"),
    "chunk size with a leading space": chunks(b" 5\r\n12345\r\n0\r\n\r\n"),
    "chunk size plus": chunks(b"+5\r\n12345\r\n0\r\n\r\n"),
    "chunk size minus": chunks(b"-5\r\n12345\r\n0\r\n\r\n"),
    "chunk size 0x": chunks(b"0x5\r\n12345\r\n0\r\n\r\n"),
    "chunk size empty": chunks(b"\r\n12345\r\n0\r\n\r\n"),
    "chunk size not hex": chunks(b"g\r\n12345\r\n0\r\n\r\n"),
    "chunk size of 2^63": chunks(b"8000000000000000\r\n12345\r\n0\r\n\r\n"),
    "chunk size of 2^64 - 1": chunks(b"ffffffffffffffff\r\n12345\r\n0\r\n\r\n"),
    "chunk size of 2^64": chunks(b"10000000000000000\r\n12345\r\n0\r\n\r\n"),
    "chunk size of 2^64 + 5": chunks(b"10000000000000005\r\n12345\r\n0\r\n\r\n"),
    "second chunk of 2^64 - 5": chunks(b"5\r\n12345\r\nfffffffffffffffb\r\nx\r\n0\r\n\r\n"),
    "LF after a chunk size": chunks(b"5\n12345\r\n0\r\n\r\n"),
    "LF after chunk data": chunks(b"5\r\n12345\n0\r\n\r\n"),
    "CR and another byte after a chunk size": chunks(b"5\rx12345\r\n0\r\n\r\n"),
    "two other bytes after chunk data": chunks(b"5\r\n12345xx0\r\n\r\n"),
    "nothing after chunk data": chunks(b"5\r\n123450\r\n\r\n"),
    "LF in a chunk extension": chunks(b"5;a\nb\r\n12345\r\n0\r\n\r\n"),
    "CR in a chunk extension": chunks(b"5;a\rb\r\n12345\r\n0\r\n\r\n"),
    "TE in a trailer": chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "CR and another byte after a trailer": chunks(b"0\r\nX: y\rz\r\n\r\n"),
    "space in a trailer's name": chunks(b"0\r\nX : y\r\n\r\n"),
    # versions and protocols
    "no version": b"POST /echo\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "HTTP/0.9": b"GET /pages/ HTTP/0.9\r\n" + HOST + b"\r\n",
    "HTTP/2.0": b"POST /echo HTTP/2.0\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "HTTP/1.2": b"POST /echo HTTP/1.2\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "HTTP/1.10": b"POST /echo HTTP/1.10\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "HTTP/01.1": b"POST /echo HTTP/01.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "http/1.1": b"POST /echo http/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "HTTP/1,1": b"POST /echo HTTP/1,1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "RTSP/1.0": b"POST /echo RTSP/1.0\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "ICE/1.0": b"SOURCE /echo ICE/1.0\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "space after the version": b"POST /echo HTTP/1.1 \r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    # methods
    "unknown method": b"GETX /pages/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "lower-case method": b"get /pages/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT to a path": b"CONNECT /echo HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE /echo HTTP/1.1\r\n" + HOST + b"\r\n",
    # targets
    "target with a space": b"POST /echo /x HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target with a tab": b"POST /echo\tx HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target with a fragment": b"POST /echo#x HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target with a backslash": b"POST /x\\..\\echo HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target with a bad escape": b"POST /echo%zz HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target with half an escape": b"POST /echo%4 HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target with NUL": b"POST /echo%00 HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target with a high byte": b"POST /echo\xff HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target of another scheme": b"POST ftp://127.0.0.1/echo HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "target without authority": b"POST http:///echo HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "POST *": b"POST * HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    "empty target": b"POST  HTTP/1.1\r\n" + HOST + TYPE + b"Content-Length: 0\r\n\r\n",
    # before the request
    "too many blank lines": b"\r\n" * 50 + with_fields(b"Content-Length: 0", body=b""),
    "LF before the request": b"\n" + with_fields(b"Content-Length: 0", body=b""),
    "CR before the request": b"\r" + with_fields(b"Content-Length: 0", body=b""),
    "space before the request": b" " + with_fields(b"Content-Length: 0", body=b""),
    # bodies where none belong, or that are refused: never read as requests
    "GET of a file with a body": request("GET", "/pages/", body=SMUGGLED),
    "HEAD of a file with a body": request("HEAD", "/pages/", body=SMUGGLED),
    "GET of a file with chunks": b"GET /pages/ HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n",
    "GET of a consumer with a body": request("GET", "/echo", body=SMUGGLED),
    "wrong type with a body": request("POST", "/echo", [("Content-Type", "text/plain")], SMUGGLED),
    "wrong path with a body": request("POST", "/nowhere", [("Content-Type", "text/plain")], SMUGGLED),
    "handshake with a body": handshake("/echo", [("Content-Length", str(len(SMUGGLED)))]),
    "handshake with chunks": handshake("/echo", [("Transfer-Encoding", "chunked")]),
    "handshake by POST": handshake("/echo", [("Content-Length", "0")], method="POST"),
}


def answers_in(data):
    return data.count(b"HTTP/1.1 ") + data.count(b"HTTP/1.0 ")


@pytest.mark.parametrize("how", ["whole", "in pieces"])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_request(everything, name, how):
    data = AMBIGUOUS[name] + SMUGGLED
    with Http(everything) as http:
        http.send_until_cut([data] if how == "whole" else [data[i:i + 1] for i in range(len(data))])
        rest = http.rest()
    assert answers_in(rest) == 1, rest
    assert rest[9:10] in (b"4", b"5"), rest
    assert b"\r\nConnection: close\r\n" in rest
    assert call_http(everything, "/echo", "marks") == 0, "the request behind it was run"


# Requests that look odd and are not: exactly as many answers as there are requests.
SOUND = {
    "several spaces in OWS": (with_fields(b"Content-Length:    0   ", body=b""), 2),
    "a blank line before": (b"\r\n" + with_fields(b"Content-Length: 0", body=b""), 2),
    "high bytes in a value": (with_fields(b"Content-Length: 0", b"X-Name: \xc3\xa9\xff", body=b""), 2),
    "an empty value": (with_fields(b"Content-Length: 0", b"X-Name:", body=b""), 2),
    "an upgrade to something else": (with_fields(b"Content-Length: 0", b"Connection: Upgrade", b"Upgrade: h2c", body=b""), 2),
    "Connection: upgrade without more": (with_fields(b"Content-Length: 0", b"Connection: Upgrade", body=b""), 2),
    "close with a tab": (with_fields(b"Content-Length: 0", b"Connection: close\t", body=b""), 1),
    "close among others": (with_fields(b"Content-Length: 0", b"Connection: x, close", body=b""), 1),
    "close on a second line": (with_fields(b"Content-Length: 0", b"Connection: x", b"Connection: close", body=b""), 1),
    "HTTP/1.0": (b"POST /echo HTTP/1.0\r\n" + TYPE + b"Content-Length: 0\r\n\r\n", 1),
    "trailer with a length": (chunks(b"0\r\nContent-Length: 300\r\n\r\n"), 2),
    "a request inside a body": (post("/echo", SMUGGLED), 2),
    "a request inside a chunk": (START + CHUNKED + b"\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n", 2),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_request(everything, name):
    data, answers = SOUND[name]
    with Http(everything) as http:
        http.send(data + post("/echo", call_text("ping"), [("Connection", "close")]))
        rest = http.rest()
    assert answers_in(rest) == answers and b"HTTP/1.1 4" not in rest, rest
    assert (b'"pong"' in rest) == (answers == 2)
    assert call_http(everything, "/echo", "marks") == 0


ENDLESS = {
    "blank lines": (b"", b"\r\n" * 5000),
    "a field": (b"GET / HTTP/1.1\r\nX: ", b"x" * 10000),
    "spaces before a value": (b"GET / HTTP/1.1\r\nX:", b" " * 10000),
    "fields": (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 1000),
    "a target": (b"GET /", b"x" * 10000),
    "spaces in the request line": (b"GET ", b" " * 10000),
    "a method": (b"", b"GET" * 3000),
    "a chunk extension": (START + CHUNKED + b"\r\n5;", b"x" * 10000),
    "chunk extensions": (START + CHUNKED + b"\r\n", b"1;" + b"x" * 2000 + b"\r\ny\r\n"),
    "zeros of a chunk size": (START + CHUNKED + b"\r\n", b"0" * 10000),
    "a trailer": (START + CHUNKED + b"\r\n0\r\n", b"X: y\r\n" * 1000),
    "a trailer's value": (START + CHUNKED + b"\r\n0\r\nX: ", b"y" * 10000),
    "a body": (START + CHUNKED + b"\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless(serve, name):
    """What has no end is ended, and costs next to nothing."""
    start, more = ENDLESS[name]
    server = serve(["echo"], lean=True)
    call_http(server, "/echo", "ping")
    with growth_below(server, 16_000_000, name), Http(server) as http:
        taken = http.send_until_cut([start] + [more] * (20_000_000 // len(more)))
        rest = http.rest()
    assert taken < 20_000_000, "all of it was taken"
    assert answers_in(rest) <= 1 and rest[9:10] in (b"", b"4"), rest
    assert call_http(server, "/echo", "ping") == "pong"
