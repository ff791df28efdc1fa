"""Python's websockets, in the version of Debian 12 (10) and in that of Debian 13 (15): what they call differently."""
import inspect

import websockets

KNOWN = inspect.signature(websockets.connect).parameters
Refused = websockets.InvalidStatus if "additional_headers" in KNOWN else websockets.InvalidStatusCode


def connect(url, headers=None, **more):
    if headers:
        more["additional_headers" if "additional_headers" in KNOWN else "extra_headers"] = headers
    if "proxy" in KNOWN:
        more["proxy"] = None  # nothing of the environment's stands between
    return websockets.connect(url, **more)


def extensions(ws):
    """Names of what was agreed on."""
    return [one.name for one in (ws.extensions if hasattr(ws, "extensions") else ws.protocol.extensions)]


def response_headers(ws):
    return ws.response_headers if hasattr(ws, "response_headers") else ws.response.headers


def status_of(refusal):
    """The HTTP status in a Refused."""
    return refusal.status_code if hasattr(refusal, "status_code") else refusal.response.status_code
