"""perigee.js, the client that every server offers: in Node and in a browser."""
import json
import os
import re
import shutil
import subprocess

import pytest

import browser as browsers
import server as servers
from server import HERE, PATIENCE, ROOT, apps_folder
from wire import fetch, request

NODE = shutil.which("node")
WEB = ROOT / "lua/perigee/web"
CASES = re.findall(r"^  async (\w+)\(", (HERE / "client_cases.mjs").read_text(), re.M)
ENV = {**os.environ, "NODE_OPTIONS": ""}


@pytest.fixture(scope="module")
def node():
    if not NODE or not os.path.isdir("/usr/share/nodejs/ws"):
        pytest.skip("nodejs or node-ws is not installed")
    return NODE


@pytest.fixture
def client(tmp_path, everything):
    """The client as the server gives it, in a file that Node takes for a module."""
    path = tmp_path / "perigee.mjs"
    path.write_bytes(fetch(everything, request("GET", "/-/perigee.js")).body)
    return path


@pytest.fixture
def talk(node, client, everything):
    """talk(name): what client_talks.mjs found out."""
    def run(name):
        ended = subprocess.run([node, HERE / "client_talks.mjs", client, f"ws://{everything.netloc}", name], env=ENV,
                               stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)
    return run


# ---- by itself ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("case", CASES)
def test_case(node, case, tmp_path):
    client = tmp_path / "perigee.mjs"
    shutil.copy(WEB / "perigee.js", client)
    ended = subprocess.run([node, HERE / "client_cases.mjs", client, case], env=ENV, capture_output=True, text=True,
                           timeout=PATIENCE)
    assert ended.returncode == 0, ended.stderr


def test_all_cases_are_run():
    assert len(CASES) >= 25


# ---- against a server ---------------------------------------------------------------------------------

def test_calls(talk):
    assert talk("calls") == {
        "early": "pong", "echo": {"text": "é😀\0", "list": [1, None, {}]}, "overlapping": ["slow", "fast"],
        "error": [True, -32601, {"method": "no_such"}], "timeout": "timeout", "aborted": "TimeoutError", "after": "pong"}


def test_calls_from_the_server(talk):
    assert talk("calls_from_the_server") == {
        "add": {"result": 3}, "fail": {"code": 9, "message": "I will not", "data": {"why": "so"}}, "unknown": -32601}


def test_notifications(talk):
    assert talk("notifications") == {"heard": "hello"}


def test_a_refusal(talk):
    assert talk("a_refusal") == {"code": "offline", "state": "closed"}


def test_a_new_server(node, client, serve):
    first = serve(["gate"])
    process = subprocess.Popen([node, HERE / "client_talks.mjs", client, f"ws://{first.netloc}", "a_new_server"], env=ENV,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "waiting\n"
        first.kill()
        first.exit_code, first.lines = 0, []  # it was not asked to end well
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "lost\n"
        serve(["gate"], listen=first.netloc)
        output, errors = process.communicate("\n", PATIENCE)
    assert process.returncode == 0, errors
    assert json.loads(output) == {"inFlight": "lost", "state": True, "now": "offline", "again": "pong", "notSentAgain": 0}


# ---- how it is served ---------------------------------------------------------------------------------

@pytest.mark.parametrize("name, kind", [("perigee.js", "text/javascript; charset=utf-8"),
                                        ("perigee.d.ts", "text/plain; charset=utf-8")])
def test_it_is_served(everything, name, kind):
    got = fetch(everything, request("GET", f"/-/{name}"))
    assert got.status == 200 and got.body == (WEB / name).read_bytes()
    assert got["Content-Type"] == kind
    assert got["Cache-Control"] == "no-cache" and re.fullmatch(r'"[\w-]+"', got["ETag"])
    assert got["X-Content-Type-Options"] == "nosniff"
    head = fetch(everything, request("HEAD", f"/-/{name}"))
    assert head.status == 200 and head["Content-Length"] == str(len(got.body)) and head["ETag"] == got["ETag"]
    same = fetch(everything, request("GET", f"/-/{name}", {"If-None-Match": f'"x", W/{got["ETag"]}'}))
    assert same.status == 304 and same.body == b"" and same["ETag"] == got["ETag"]
    assert fetch(everything, request("GET", f"/-/{name}", {"If-None-Match": '"x"'})).status == 200
    refused = fetch(everything, request("POST", f"/-/{name}", body="{}"))
    assert refused.status == 405 and refused["Allow"] == "GET, HEAD"


def test_it_is_for_every_page(everything):
    """Pages of other origins may import it, too: what it reaches is decided when it connects."""
    got = fetch(everything, request("GET", "/-/perigee.js", {"Origin": "https://elsewhere.example"}, host="public.example"))
    assert got.status == 200 and got["Access-Control-Allow-Origin"] == "*"
    assert fetch(everything, request("GET", "/-/web/perigee.js")).status == 404
    assert fetch(everything, request("GET", "/-/perigee.js/")).status == 404


def test_types_name_everything():
    """What the client has is in its types, and the other way round."""
    source, types = (WEB / "perigee.js").read_text(), (WEB / "perigee.d.ts").read_text()
    exported = re.findall(r"^export (?:class|function) (\w+)", source, re.M)
    assert exported == ["RpcError", "connect", "Connection"]
    assert sorted(re.findall(r"^export (?:class|function) (\w+)", types, re.M)) == sorted(exported)
    connection = source[source.index("export class Connection"):]
    members = set(re.findall(r"^  (?:get |async )?([a-z]\w*)\(.*\{$", connection, re.M)) - {"constructor"}
    declared = types[types.index("export class Connection"):types.index("export function connect")]
    assert set(re.findall(r"^  (?:readonly )?([a-z]\w*)[<(:]", declared, re.M)) - {"constructor", "addEventListener"} == members
    options = set(re.findall(r"[oO]ptions\.(\w+)", source)) | {"reconnect", "firstWait", "longestWait"}
    declared = types[types.index("interface ConnectOptions"):types.index("interface CallOptions")]
    assert set(re.findall(r"^  (\w+)\?:", declared, re.M)) == options


# ---- in a browser, and what apps/README.md shows ------------------------------------------------------

@pytest.fixture(scope="module")
def browser():
    if not browsers.find_chromium():
        pytest.skip("chromium is not installed (Debian: apt install chromium)")
    with browsers.Browser() as one:
        yield one


def test_readme_page(serve, browser, node, tmp_path):
    text = (ROOT / "apps/README.md").read_text()
    app = re.search(r"```lua\n(.*?)```", text, re.S)[1]
    page = re.search(r"```html\n(.*?)```", text, re.S)[1]
    script = next(block for block in re.findall(r"```js\n(.*?)```", text, re.S) if "perigee.mjs" in block)
    site = serve(apps_folder(tmp_path / "apps", files={
        "hello/init.lua": app, "hello/public/index.html": "<!doctype html>\n" + page}), verb="dev")
    tabs = [browser.tab(f"http://{site.netloc}/hello/") for _ in range(2)]
    for tab in tabs:
        tab.wait_text("#state", "open")
    tabs[0].fill("#name", "Ann")
    tabs[0].press("Enter")
    tabs[1].wait_text("#greetings", "Hello, Ann!")
    tabs[0].wait_text("#greetings", "You said: Hello, Ann!")
    tabs[0].fill("#name", "")
    tabs[0].press("Enter")
    tabs[0].wait_text("#greetings", "-32000: Who?")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/ws").symlink_to("/usr/share/nodejs/ws")
    (tmp_path / "perigee.mjs").write_bytes(fetch(site, request("GET", "/-/perigee.js")).body)
    (tmp_path / "hello.mjs").write_text(script.replace("127.0.0.1:8080", site.netloc))
    ended = subprocess.run([node, "hello.mjs"], cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.stdout, ended.stderr) == ("Hello, Node!\n", "")
    for tab in tabs:
        tab.wait_text("#greetings", "Hello, Node!")
        assert [error for error in tab.errors if "favicon" not in error] == []
        tab.close()
