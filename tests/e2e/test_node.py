"""Node's "ws", the client most people use, against the server."""
import json
import os
import shutil
import subprocess

import pytest

from server import HERE, PATIENCE

NODE = shutil.which("node")
MODULES = "/usr/share/nodejs"  # where Debian's node-ws lives, for a node from elsewhere, too


@pytest.fixture(scope="module")
def talk():
    """talk(server): what node_client.js found out, by name."""
    if not NODE or not os.path.isdir(f"{MODULES}/ws"):
        pytest.skip("nodejs or node-ws is not installed")

    def run(server, *names):
        ended = subprocess.run([NODE, str(HERE / "node_client.js"), f"ws://{server.netloc}", *names], capture_output=True, text=True,
                               timeout=PATIENCE, env={**os.environ, "NODE_PATH": MODULES, "NODE_OPTIONS": ""})
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


def test_calls(everything, talk):
    assert talk(everything, "calls") == {
        "pong": "pong", "echo": {"text": "é😀\0", "list": [1, None, {}], "big": "x" * 100000}, "overlapping": ["fast", "slow"],
        "many": list(range(200)), "error": -32601}


def test_fragments(everything, talk):
    assert talk(everything, "fragments") == {"text": "hello, world", "binary": "00ff01fe" * 1000, "ponged": "between"}


def test_pings(everything, talk):
    assert talk(everything, "pings") == {"pong": "are you there?", "empty": ""}


def test_closing(everything, talk):
    assert talk(everything, "closing") == {
        "by us": [4001, ""], "by the server": [4002, "good night"], "without a code": [1005, ""], "of bad data": [1003, None],
        "too big": [1009, None]}
    assert "code=4001" in everything.wait_log(r"gone .*\bwho=node\b").string


def test_refusals(everything, talk):
    assert talk(everything, "refusals") == {"no path": 404, "refused": 403, "in its own words": 418, "other origin": 403}


def test_handshake(everything, talk):
    assert talk(everything, "handshake") == {"protocol": "jsonrpc.v2", "extensions": ""} or \
        talk(everything, "handshake")["extensions"].startswith("permessage-deflate")
