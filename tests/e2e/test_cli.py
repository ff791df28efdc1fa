"""The command line, as people and scripts use it: the real binary, its output and its exit codes."""
import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading

import pytest

from server import BINARY, PATIENCE, Server, apps_folder, environment, run
from wire import call_http, call_text, fetch, post

VERBS = ["new", "dev", "serve", "check", "test", "call", "routes", "reload", "config", "completion", "version", "help"]


# ---- every command --------------------------------------------------------------------------------

@pytest.mark.parametrize("verb", VERBS)
def test_help_of(verb):
    """Usage, what it does, and an example; the same from --help and from help."""
    shown = run("help", verb)
    assert shown.returncode == 0 and shown.stderr == ""
    assert re.match(rf"Usage: perigee {verb}\b", shown.stdout) and re.search(r"\nExamples?\n", shown.stdout)
    assert run(verb, "--help").stdout == shown.stdout
    assert max(map(len, shown.stdout.split("\n"))) <= 120


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("test",)])
def test_unknown_flag_of(verb):
    ended = run(verb, "--jsno")
    assert ended.returncode == 2 and f"perigee {verb}: there is no flag --jsno" in ended.stderr and ended.stdout == ""


def test_help_lists_every_command():
    shown = run("help").stdout
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\w", shown, re.M)
    ended = run("help", "sevre")
    assert ended.returncode == 2 and "did you mean 'serve'?" in ended.stderr


ENDS_WELL = [["version"], ["help"], ["help", "--man"], ["help", "call"], ["call", "--help"], ["config"], ["config", "--json"],
             ["config", "max_body"], ["config", "--defaults"], ["completion", "bash"], ["completion", "zsh"], ["completion", "fish"],
             ["check"], ["check", "--strict"], ["routes"], ["routes", "echo"]]


@pytest.mark.parametrize("words", ENDS_WELL, ids=" ".join)
def test_ends_well(tmp_path, words):
    """Exit code 0, something said, and nothing on standard error."""
    apps_folder(tmp_path / "apps", ["echo"])
    ended = run(*words, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "") and ended.stdout.endswith("\n")


def test_version():
    assert re.fullmatch(r"perigee \d+\.\d+\.\d+ \(Lua 5\.4, libuv 1\.\d+\.\d+\)\n", run("version").stdout)
    assert run("version", "x").returncode == 2


# ---- settings -------------------------------------------------------------------------------------

def project(where, conf, files=None):
    apps_folder(where / "apps", ["echo"], files)
    (where / "perigee.conf.lua").write_text(conf)
    return where


def test_files_with_a_mark_of_byte_order(tmp_path):
    """As Notepad and Visual Studio write them: configuration, apps, modules, specs, secrets; every command takes them."""
    bom = "\ufeff"
    apps = tmp_path / "apps" / "a"
    (apps / "spec").mkdir(parents=True)
    (apps / "init.lua").write_text(bom + '''local perigee = require "perigee"
local A = perigee.consumer {}
A:rpc_method("seven", function() return require "a.seven" end)
A:rpc_method("blocking", function() return perigee.blocking("a.work", "seven") end)
return A
''')
    (apps / "seven.lua").write_text(bom + "return 7\n")
    (apps / "work.lua").write_text(bom + "return { seven = function() return 7 end }\n")
    (apps / "spec" / "a_spec.lua").write_text(bom + '''local testing = require "perigee.testing"
it("counts", function() assert.equal(7, testing.app("apps/a"):connect("/a"):call("seven")) end)
''')
    (tmp_path / "key").write_text(bom + "k" * 32 + "\r\n")
    (tmp_path / "perigee.conf.lua").write_text(bom + 'return { apps = "apps", max_body = "3MiB", secret = secret "KEY" }\n')
    env = {"KEY_FILE": str(tmp_path / "key")}
    checked = run("check", cwd=tmp_path, env=env)
    assert (checked.returncode, checked.stdout) == (0, "1 app, 4 files: nothing wrong\n")
    assert "seven()" in run("routes", "a", cwd=tmp_path, env=env).stdout
    assert run("config", "max_body", cwd=tmp_path, env=env).stdout.split()[:2] == ["max_body", "3MiB"]
    assert "1 success" in run("test", cwd=tmp_path, env=env).stdout
    with Server(apps.parent, cwd=tmp_path, env=env) as server:
        assert call_http(server, "/a", "seven") == 7
        assert call_http(server, "/a", "blocking") == 7


def test_folders_that_are_left_out(tmp_path):
    """Named with the reason by the server, when it starts and once when they appear; counted nowhere."""
    files = {f"{name}/init.lua": "" for name in ("v1.2", "my app", "node_modules")}
    good = 'return require "perigee".consumer {}'
    apps = apps_folder(tmp_path / "apps", [], {"good.lua": good, **files})
    checked = run("check", cwd=tmp_path)
    assert checked.returncode == 0 and "1 app, " in checked.stdout and checked.stdout.count("not served as an app") == 3
    with Server(apps, "--watch", alarms=False) as server:
        for name in ("v1.2", "my app"):
            server.wait_log(rf"not served as an app.*{re.escape(name)}.*rename it")
        server.wait_log("not served as an app.*node_modules.*npm")
        (apps / "Ünï").mkdir()
        (apps / "Ünï" / "init.lua").write_text("")
        (apps / "good.lua").write_text(good + "\n")
        server.wait_log("not served as an app.*Ünï.*rename it")
        assert sum("not served as an app" in line for line in server.lines) == 4


def test_config_shows_sources(tmp_path):
    """Value and source of every setting; the file is found in the current folder."""
    project(tmp_path, 'return {\n  max_body = "3MiB",\n  grace = 90,\n}\n')
    shown = run("config", "--max-head=32k", cwd=tmp_path, env={"PERIGEE_MAX_DEPTH": "7"})
    assert shown.returncode == 0 and shown.stderr == ""
    rows = {row.split()[0]: row.split()[1:] for row in shown.stdout.splitlines()}
    assert rows["max_body"] == ["3MiB", "perigee.conf.lua:2"]
    assert rows["grace"] == ["90s", "perigee.conf.lua:3"]
    assert rows["max_depth"] == ["7", "PERIGEE_MAX_DEPTH"]
    assert rows["max_head"] == ["32KiB", "--max-head"]
    assert rows["listen"] == ["127.0.0.1:8080", "default"]
    shown = run("config", "--json", "max_body", "max-depth", cwd=tmp_path)
    told = json.loads(shown.stdout)
    assert told.keys() == {"max_body", "max_depth"}
    assert (told["max_body"]["value"], told["max_body"]["unit"]) == (3 << 20, "bytes")
    everything = json.loads(run("config", "--json", cwd=tmp_path).stdout)
    for name, one in everything.items():
        assert one.get("unit") == {"size": "bytes", "duration": "seconds"}.get(one["type"]), name
        assert one["flag"] == "--" + name.replace("_", "-") and one["variable"] == f"PERIGEE_{name.upper()}" and one["doc"], name
        assert ("min" in one) == ("max" in one) or one["type"] not in ("size", "duration", "integer"), name
        if one["source"] == "default" and one.get("default") != "auto":
            assert one.get("text") == one.get("default"), name
        if isinstance(one.get("value"), str):
            assert one["value"] == one["text"], name
        if "choices" in one:
            assert one["value"] in one["choices"], name
    assert everything["log_level"]["choices"] == ["error", "warn", "info", "debug"]
    assert everything["grace"]["value"] == 90 and everything["grace"]["text"] == "90s"
    assert everything["deflate"]["value"] is False and everything["slice_warn"]["value"] > 0
    ended = run("config", "maxbody")
    assert ended.returncode == 2 and "did you mean 'max_body'?" in ended.stderr


def test_config_defaults_is_a_config_file(tmp_path):
    (tmp_path / "perigee.conf.lua").write_text(run("config", "--defaults").stdout)
    shown = run("config", cwd=tmp_path)
    assert shown.returncode == 0
    assert {row.split()[-1] for row in shown.stdout.splitlines()} == {"default"}


def test_config_masks_secrets(tmp_path):
    (tmp_path / "perigee.conf.lua").write_text('return { apps = "x/" .. secret "API_KEY" }\n')
    for args in [["config"], ["config", "--json"]]:
        shown = run(*args, cwd=tmp_path, env={"API_KEY": "hush-hush"})
        assert shown.returncode == 0 and "hush" not in shown.stdout and "******" in shown.stdout


def test_serve_with_a_file(tmp_path):
    """serve takes --config, dev a project's folder; both find the apps beside the file."""
    where = project(tmp_path, 'return { max_body = 100, listen = "0.0.0.0:1", log_level = env("LEVEL", "debug") }\n')
    with Server(where / "apps", "--config", str(where / "perigee.conf.lua"), env={"LEVEL": "info"}) as server:
        assert fetch(server, post("/echo", call_text("echo", "a" * 100))).status == 413
    with Server(where, verb="dev") as server:
        assert call_http(server, "/echo", "ping") == "pong"


def test_dev_leaves_public_addresses_of_the_file_out(tmp_path):
    """A file for production does not make `dev` listen to the world."""
    project(tmp_path, 'return { listen = "0.0.0.0:0" }\n')
    shown = run("serve", "--apps", "missing", cwd=tmp_path)
    assert shown.returncode == 1
    ended = run("dev", tmp_path, env={"PERIGEE_LISTEN": "0.0.0.0:0"})
    assert ended.returncode == 2 and "PERIGEE_LISTEN" in ended.stderr and "serve" in ended.stderr


WRONG_FILES = {
    "syntax": ("return {\n  max_body = = 1\n}\n", 2, ["unexpected symbol"]),
    "unknown key": ("return {\n  max_bodi = 1,\n}\n", 2, ["'max_bodi'", "did you mean 'max_body'?"]),
    "unit": ('return {\n\n  grace = "10 parsec",\n}\n', 3, ["10 parsec", "500ms, 10s"]),
    "range": ("return {\n  max_depth = 0,\n}\n", 2, ["at least 1"]),
    "endless": ("local n = 0\nwhile true do n = n + 1 end\n", 2, ["does not come to an end"]),
    "memory": ('local s = "x"\nwhile true do s = s .. s end\n', 2, ["memory"]),
    "secret": ('return {\n  apps = secret "API_KEY",\n}\n', 2, ["API_KEY is missing", "API_KEY_FILE"]),
    "escape": ('return {\n  apps = os.getenv "HOME",\n}\n', 2, ["there is no 'os' here"]),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_file_stops_the_start(tmp_path, name):
    """File and line, what is wrong, the source line; nothing listens."""
    text, line, words = WRONG_FILES[name]
    project(tmp_path, text)
    for verb in ["serve", "dev", "config"]:
        ended = run(verb, cwd=tmp_path)
        assert ended.returncode == 1, ended
        assert f"perigee {verb}: perigee.conf.lua:{line}: " in ended.stderr, ended.stderr
        for word in words:
            assert word in ended.stderr, ended.stderr
        assert re.search(rf"(?m)^> +{line} \| {re.escape(text.splitlines()[line - 1])}$", ended.stderr), ended.stderr
        assert "listening" not in ended.stderr


def test_file_that_is_named_must_be_there(tmp_path):
    ended = run("serve", "--config", tmp_path / "other.lua")
    assert ended.returncode == 1 and "other.lua: cannot be read: no such file" in ended.stderr
    ended = run("serve", env={"PERIGEE_CONFIG": str(tmp_path)})
    assert ended.returncode == 1 and "folder" in ended.stderr


def test_misspelled_variable(tmp_path):
    ended = run("serve", env={"PERIGEE_MAX_BODI": "1"})
    assert ended.returncode == 2 and "did you mean 'PERIGEE_MAX_BODY'?" in ended.stderr


# ---- new, check, routes ---------------------------------------------------------------------------

@pytest.fixture
def fresh(tmp_path):
    """A project as `perigee new` leaves it."""
    made = run("new", "hello", cwd=tmp_path)
    assert made.returncode == 0 and made.stderr == "", made
    return tmp_path / "hello"


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_new_project_checks_tests_and_lints(fresh):
    files = files_below(fresh)
    assert {"perigee.conf.lua", ".luarc.json", ".luacheckrc", ".gitignore", "README.md", "apps/chat/init.lua",
            "apps/chat/public/index.html", "apps/chat/spec/chat_spec.lua", ".perigee/types/perigee.lua"} <= files.keys()
    assert not [path for path in fresh.parent.iterdir() if path != fresh], "something was left beside the project"
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o755
    checked = run("check", "--strict", cwd=fresh)
    assert checked.returncode == 0 and "nothing wrong" in checked.stdout, checked
    tested = run("test", cwd=fresh)
    assert tested.returncode == 0 and "0 failures / 0 errors" in tested.stdout, tested
    if shutil.which("luacheck"):
        linted = subprocess.run(["luacheck", "-q", "--no-color", "."], cwd=fresh, capture_output=True, text=True)
        assert linted.returncode == 0, linted.stdout
    luarc = json.loads(files[".luarc.json"])
    assert all((fresh / path).is_dir() for path in luarc["workspace.library"])
    assert files_below(fresh) == files, "checking and testing leave files alone"


def test_new_project_is_found_from_outside(fresh):
    for verb in ["check", "routes"]:
        args = [verb, "hello"] if verb == "check" else [verb, "--config", "hello/perigee.conf.lua"]
        ended = run(*args, cwd=fresh.parent)
        assert ended.returncode == 0, ended


def test_new_overwrites_nothing(fresh):
    """Neither folders with something in them, nor files, nor what links lead to; and a failure leaves nothing behind."""
    before = files_below(fresh)
    where = fresh.parent
    (where / "file").write_text("mine")
    (where / "link").symlink_to(fresh)
    (where / "empty").mkdir()
    names = {path.name for path in where.iterdir()}
    for name in ["hello", "hello/", "file", "link"]:
        ended = run("new", name, cwd=where)
        assert ended.returncode == 1 and "is there already; nothing was written" in ended.stderr, ended
    for name, code in [("no/such/folder", 1), ("", 2), (".", 2), ("..", 2), ("a b", 2), ("-x", 2)]:
        ended = run("new", name, cwd=where)
        assert ended.returncode == code and ended.stderr, ended
    assert run("new", cwd=where).returncode == 2
    assert {path.name for path in where.iterdir()} == names
    assert files_below(fresh) == before and (where / "file").read_text() == "mine"
    assert run("new", "empty", cwd=where).returncode == 0
    assert files_below(where / "empty").keys() == before.keys()


def test_new_types(fresh):
    types = fresh / ".perigee/types/perigee.lua"
    written = types.read_text()
    types.write_text("old")
    assert run("new", "--types", cwd=fresh).returncode == 0 and types.read_text() == written
    ended = run("new", "--types", cwd=fresh.parent)
    assert ended.returncode == 1 and "perigee.conf.lua" in ended.stderr and not (fresh.parent / ".perigee").exists()


FINE = """local perigee = require "perigee"
local C = perigee.consumer {}
C:rpc_method("ping", { doc = "Answers." }, function() return "pong" end)
return C
"""


def test_check_tells_all_at_once(tmp_path):
    """Settings, syntax, load errors, globals, luacheck: each with file, line and what to write instead."""
    project(tmp_path, "return {\n  max_bodi = 1,\n}\n", {
        "syntax/init.lua": "local x = = 1\n",
        "double/init.lua": FINE.replace("return C", 'C:rpc_method("ping", print)\nreturn C'),
        "option/init.lua": FINE.replace("doc =", "dco ="),
        "late/init.lua": FINE.replace('return "pong"', "return tostirng(1)"),
        "style/init.lua": FINE.replace("return C", "local unused = 1\nreturn C"),
    })
    expected = [
        ("perigee.conf.lua", 2, "error", "config", "did you mean 'max_body'?"),
        ("apps/double/init.lua", 4, "error", "load", "'ping' was registered already"),
        ("apps/late/init.lua", 3, "error", "global", "undeclared global 'tostirng' (did you mean 'tostring'?)"),
        ("apps/option/init.lua", 3, "error", "load", "did you mean 'doc'?"),
        ("apps/style/init.lua", 4, "warning", "luacheck", "unused variable"),
        ("apps/syntax/init.lua", 1, "error", "syntax", "unexpected symbol"),
    ]
    if not shutil.which("luacheck"):
        expected = [one for one in expected if one[3] != "luacheck"]
    told = run("check", "--json", cwd=tmp_path)
    assert told.returncode == 1
    told = json.loads(told.stdout)
    assert not told["ok"] and told["apps"] == 6
    found = [(one["file"], one["line"], one["level"], one["kind"]) for one in told["problems"]]
    assert found == [one[:4] for one in expected]
    for one, problem in zip(expected, told["problems"]):
        assert one[4] in problem["message"]
    shown = run("check", cwd=tmp_path)
    assert shown.returncode == 1
    for file, line, level, _, words in expected:
        assert re.search(rf"(?m)^{re.escape(file)}:{line}:(\d+:)? {level}: .*{re.escape(words)}", shown.stdout), shown.stdout
    assert "listening" not in shown.stderr


def test_check_of_what_is_fine(tmp_path):
    apps = apps_folder(tmp_path / "apps", files={"a/init.lua": FINE + "-- luacheck: ignore\n"})
    assert run("check", cwd=tmp_path).returncode == 0
    assert json.loads(run("check", apps, "--json").stdout) == {
        "ok": True, "apps": 1, "files": 1, "problems": [], "luacheck": shutil.which("luacheck") is not None}
    ended = run("check", tmp_path / "missing")
    assert ended.returncode == 1 and "cannot read the apps folder" in ended.stdout


def test_check_warnings(tmp_path):
    """Warnings fail only when they are to; without luacheck it is said."""
    apps = apps_folder(tmp_path / "apps", files={"a/init.lua": FINE.replace("return C", "function C:conect() end\nreturn C")})
    shown = run("check", apps, "--no-luacheck")
    assert shown.returncode == 0 and "misspelled hook" in shown.stdout and "0 errors, 1 warning" in shown.stdout
    assert run("check", apps, "--no-luacheck", "--strict").returncode == 1
    shown = run("check", apps, env={"PATH": "/nowhere"})
    assert "luacheck is not installed" in shown.stdout


def test_check_of_the_examples():
    """The example apps, and the apps of these tests, hold only the mistakes that are meant."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    assert run("check", "apps", "--strict", cwd=root).returncode == 0
    told = json.loads(run("check", "tests/e2e/apps", "--json", cwd=root).stdout)
    assert {one["message"] for one in told["problems"] if one["level"] == "error"} <= {"undeclared global 'undeclared_thing'"}


def test_routes(tmp_path):
    """Paths, signatures, transports and docs; a consumer or a method alone; what is misspelled."""
    project(tmp_path, "return {}\n", {"shop/init.lua": FINE.replace("return C", """
C:rpc_method("buy", { doc = "Buys. At once.", params = { { "what", "string" }, { "n", { "integer?", min = 1 } } }, http = false },
  function(_, what, n) return what, n end)
C:rpc_notification("look", function(_, ...) return ... end)
C:get("orders/:id", { doc = "One order." }, function() return "" end)
return C"""), "shop/public/index.html": "<p>shop"})
    shown = run("routes", cwd=tmp_path)
    assert shown.returncode == 0 and shown.stderr == ""
    assert re.search(r"(?m)^/shop  \(apps/shop/init.lua:2\)$", shown.stdout)
    assert re.search(r"(?m)^  ping\(\) +ws http +Answers\.$", shown.stdout)
    assert re.search(r"(?m)^  buy\(what: string, n: integer\?\) +ws +Buys\.$", shown.stdout)
    assert re.search(r"(?m)^  look\(\.\.\.\) +notification, ws http$", shown.stdout)
    assert re.search(r"(?m)^  GET /shop/orders/:id +plain http +One order\.$", shown.stdout)
    assert "/shop/  files of apps/shop/public" in shown.stdout and "/echo" in shown.stdout
    told = {one["path"]: one for one in json.loads(run("routes", "--json", cwd=tmp_path).stdout)}
    buy = told["/shop"]["methods"][1]
    assert buy["params"][1] == {"name": "n", "required": False, "schema": {"type": ["integer", "null"], "minimum": 1}}
    assert [(one["verb"], one["path"]) for one in told["/shop"]["routes"]] == [("GET", "/shop/orders/:id")]
    assert buy["transports"] == ["websocket"] and told["/shop"]["versions"] == ["2.0", "1.0"]
    assert "/echo" not in run("routes", "/shop", cwd=tmp_path).stdout
    assert "At once." in run("routes", "shop", "buy", cwd=tmp_path).stdout
    for args, words in [(["shpo"], "did you mean 'shop'?"), (["shop", "byu"], "did you mean 'buy'?")]:
        ended = run("routes", *args, cwd=tmp_path)
        assert ended.returncode == 2 and words in ended.stderr


def test_routes_of_what_does_not_load(tmp_path):
    project(tmp_path, "return {}\n", {"bad/init.lua": "return {\n"})
    ended = run("routes", cwd=tmp_path)
    assert ended.returncode == 1 and "bad/init.lua:2" in ended.stderr and "/echo" in ended.stdout
    for args in ["--json"], ["echo"], ["echo", "ping"], ["--json", "echo", "ping"], ["bad"]:
        ended = run("routes", *args, cwd=tmp_path)
        assert ended.returncode == 1 and "bad/init.lua:2" in ended.stderr, args


# ---- call -----------------------------------------------------------------------------------------

def call(server, path, *args, scheme="ws", **more):
    return run("call", f"{scheme}://{server.netloc}/{path}", *args, **more)


@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_call(everything, scheme):
    """The result on standard output, on one line; exit code 0."""
    for args, result in [(["echo", "value=text"], '"text"'), (["echo", "value:=[1, 2.5]"], "[1,2.5]"), (["echo", "x"], '"x"'),
                         (["echo", "17"], "17"), (["echo", '{"value": {"b": 1, "a": null}}'], '{"a":null,"b":1}'),
                         (["echo"], "null"), (["ping", ",", "echo", "1", ",", "echo", "2"], '"pong"\n1\n2')]:
        ended = call(everything, "echo", *args, scheme=scheme)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, result + "\n", ""), args


@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_call_that_is_answered_with_an_error(everything, scheme):
    """Code, message and data on standard error, exit code 1; nothing is called after it."""
    ended = call(everything, "echo", "nope", ",", "ping", scheme=scheme)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.startswith("error -32601 Method not found") and "\n" in ended.stderr
    told = call(everything, "echo", "nope", "--json", scheme=scheme)
    assert told.returncode == 1 and json.loads(told.stdout)["error"]["code"] == -32601


def test_call_names_the_nearest_method(serve):
    server = serve(["echo"], verb="dev")  # which tells what there is to call
    ended = call(server, "echo", "ehco", "1")
    assert ended.returncode == 1 and "did you mean 'echo'?" in ended.stderr


def test_call_shows_faults_in_dev(serve):
    """Message and lines, where the server tells them; else the id that is in its log."""
    server = serve(["faults"], verb="dev")
    ended = call(server, "faults", "index_nil", "1")
    assert ended.returncode == 1 and "error -32603" in ended.stderr
    assert re.search(r"(?m)^  \S+init\.lua:\d+: attempt to index", ended.stderr) and re.search(r"(?m)^> +\d+ \| ", ended.stderr), ended.stderr
    ended = call(serve(["faults"]), "faults", "index_nil", "1")
    assert ended.returncode == 1 and "error_id" in ended.stderr and "init.lua" not in ended.stderr


def test_call_of_this_project(tmp_path, serve):
    """A path alone means the server of the settings; one that nobody serves is held against the apps."""
    server = serve(["echo"])
    project(tmp_path, f'return {{ listen = "{server.netloc}" }}\n')
    for word in ["echo", "/echo", f"{server.netloc}/echo"]:
        assert run("call", word, "ping", cwd=tmp_path).stdout == '"pong"\n'
    ended = run("call", "ehco", "ping", cwd=tmp_path)
    assert ended.returncode == 3
    assert ended.stderr == "perigee call: there is no consumer at /ehco (404) (did you mean '/echo'?)\n"


def test_call_notify(serve):
    """A notification was read when the command ends."""
    server = serve(["diary"])
    for scheme in ["ws", "http"]:
        ended = call(server, "diary", "note", f"by {scheme}", "--notify", scheme=scheme)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        server.wait_log(f"by {scheme}")


def test_call_with_headers(serve):
    server = serve(["echo"])
    ended = call(server, "echo", "ping", "-H", "Origin: http://elsewhere.example")
    assert ended.returncode == 3 and "refuses: 403" in ended.stderr
    assert call(server, "echo", "ping", "--header", "X-Any: thing").returncode == 0


class Watch:
    """`perigee call … --watch`, line by line."""

    def __init__(self, server, *args):
        self.process = subprocess.Popen([str(BINARY), "call", *args, "--watch"], env=environment(), text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def end(self, number=None):
        if number:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


CLOCK = FINE.replace("return C", """
C:rpc_method("go", function(ctx)
  ctx:spawn(function() for i = 1, 3 do perigee.sleep(0.01) C:notify_group("all", "tick", { i }) end end)
  return "gone"
end)
C:rpc_method("ask", function(ctx) local _, err = ctx:call("question") return err.code end)
return C""").replace("{}", '{ groups = { "all" } }', 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_call_watch(serve, tmp_path, number):
    """Notifications come in order, as they come; Ctrl-C ends with 0, and the server sees a normal close."""
    server = serve(apps_folder(tmp_path / "apps", files={"clock/init.lua": CLOCK}), "--log-level", "debug")
    watch = Watch(server, f"ws://{server.netloc}/clock", "go")
    assert [watch.line() for _ in range(4)] == ['"gone"', "← tick [1]", "← tick [2]", "← tick [3]"]
    assert watch.end(number) == (0, "")


def test_call_watch_count_and_json(serve, tmp_path):
    server = serve(apps_folder(tmp_path / "apps", files={"clock/init.lua": CLOCK}))
    ended = call(server, "clock", "go", "--watch", "--count", "2")
    assert (ended.returncode, ended.stdout) == (0, '"gone"\n← tick [1]\n← tick [2]\n')
    ended = call(server, "clock", "go", "--watch", "--count=1", "--json")
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert lines[0]["result"] == "gone" and (lines[1]["method"], lines[1]["params"]) == ("tick", [1])
    ended = call(server, "clock", "ask", "--watch", "--count", "1")  # calls of the server are shown and answered
    assert (ended.returncode, ended.stdout) == (0, "← question\n-32601\n")


def test_call_prints_in_the_order_of_arrival(serve, tmp_path):
    """What the server sends right behind an answer is shown behind it."""
    app = FINE.replace("return C", """
C:rpc_method("go", function(ctx)
  ctx:spawn(function() for i = 1, 3 do ctx:notify("behind", { i }) end end)
  ctx:notify("before")
  return "gone"
end)
return C""")
    server = serve(apps_folder(tmp_path / "apps", files={"order/init.lua": app}))
    ended = call(server, "order", "go", ",", "go", "--watch", "--count", "8")
    one = ["← before", '"gone"', "← behind [1]", "← behind [2]", "← behind [3]"]
    assert ended.stdout.splitlines() == one + one, ended


def test_call_watch_ends_with_the_server(tmp_path):
    with Server(apps_folder(tmp_path / "apps", files={"clock/init.lua": CLOCK})) as server:
        watch = Watch(server, f"ws://{server.netloc}/clock", "ping")
        assert watch.line() == '"pong"'
        server.stop()
        code, errors = watch.end()
    assert code == 3 and errors.startswith("perigee call: the server closed the connection: 1001")


def test_call_watch_ends_with_its_reader(serve, tmp_path):
    """As in `perigee call … --watch | head -1`."""
    server = serve(apps_folder(tmp_path / "apps", files={"clock/init.lua": CLOCK}))
    watch = Watch(server, f"ws://{server.netloc}/clock", "go")
    assert watch.line() == '"gone"'
    watch.process.stdout.close()
    assert watch.process.wait(PATIENCE) == 0
    watch.process.stderr.close()


@contextlib.contextmanager
def impostor(behave):
    """Something else that listens: behave(socket) for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def run_it():
            with contextlib.suppress(OSError):
                while True:
                    one, _ = listener.accept()
                    with one, contextlib.suppress(OSError):
                        behave(one)
        thread = threading.Thread(target=run_it, daemon=True)
        thread.start()
        yield "127.0.0.1:%d" % listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)


def wait_for_end(one):
    while one.recv(65536):
        pass


def says(text):
    def behave(one):
        one.recv(65536)
        one.sendall(text)
        wait_for_end(one)
    return behave


def ssh(one):
    one.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    wait_for_end(one)


HTTP = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nContent-Type: text/html\r\n\r\n%s"
IMPOSTORS = {
    # name: (what it does, flags, what `perigee call` says of it; for WebSocket and for HTTP)
    "hangs up": (lambda one: None, [], "without an answer", "without an answer"),
    "never answers": (wait_for_end, ["--timeout", "50ms"], "does not answer the handshake within 50ms", "no answer to 'ping' within 50ms"),
    "another protocol": (ssh, [], "speaks something else: its answer is not HTTP", "speaks something else: its answer is not HTTP"),
    "half an answer": (says(b"HTTP/1.1 200 OK\r\nContent-"), ["--timeout", "50ms"], "within 50ms", "within 50ms"),
    "endless head": (says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300000), [], "its answer is not HTTP", "its answer is not HTTP"),
    "a page": (says(HTTP % (b"200 OK", 5, b"<html")), [], "there is no WebSocket at /x (200)", "/x does not speak JSON-RPC (200)"),
    "elsewhere": (says(HTTP % (b"404 Not Found", 0, b"")), [], "there is no consumer at /x (404)", "there is no consumer at /x (404)"),
    "forbidden": (says(HTTP % (b"403 Forbidden", 5, b"<html")), [], "/x refuses: 403", "/x refuses: 403"),
    "endless chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffec\r\n"), [], "its answer is not HTTP", "its answer is not HTTP"),
    "escape": (says(b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\n\x1b[31mred\n"), [], r"refuses: 500 \u001b[31mred", r"refuses: 500 \u001b[31mred"),
}


@pytest.mark.parametrize("name", IMPOSTORS)
def test_call_of_something_else(name):
    """One line says what it is; exit code 3."""
    behave, flags, by_ws, by_http = IMPOSTORS[name]
    with impostor(behave) as netloc:
        for scheme, words in [("ws", by_ws), ("http", by_http)]:
            ended = run("call", f"{scheme}://{netloc}/x", "ping", *flags)
            assert ended.returncode == 3 and ended.stdout == "", ended
            assert re.fullmatch(r"perigee call: [^\n\x1b]+\n", ended.stderr), ended
            assert words in ended.stderr


HOSTILE = [  # what an error holds, what of it may be seen
    ({"code": "\x1b]0;pwned\x07", "message": "m"}, r'error "\u001b]0;pwned\u0007" m'),
    ({"code": {"a": "\x9b31m"}, "message": "m"}, r'error {"a":"\u009b31m"} m'),
    ({"code": 7, "message": "\u202egpj.exe\x1b[2J\n2"}, r"error 7 \u202egpj.exe\u001b[2J 2"),
    ({"code": 7, "message": "m", "data": {"\x1b[2J": "\u2028"}}, r'{"\u001b[2J":"\u2028"}'),
    ({"code": 7, "message": "m", "data": {"dev": {"message": "\x9b", "excerpt": "> 1 | \x1b[31m\u2066"}}}, r"> 1 | \u001b[31m\u2066"),
]


@pytest.mark.parametrize("error, shown", HOSTILE)
def test_errors_of_a_server_cannot_steer_a_terminal(error, shown):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}, ensure_ascii=False).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with impostor(says(answer)) as netloc:
        ended = run("call", f"http://{netloc}/x", "ping")
    assert ended.returncode == 1 and shown in ended.stderr
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", ended.stderr), ended.stderr


def test_call_of_a_server_that_is_down():
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    for scheme in ["ws", "http"]:
        ended = run("call", f"{scheme}://127.0.0.1:{port}/x", "ping")
        assert ended.returncode == 3
        assert ended.stderr == f"perigee call: nothing listens at 127.0.0.1:{port}: is the server running?\n"


def test_call_that_is_never_answered(everything):
    for scheme in ["ws", "http"]:
        ended = call(everything, "timers", "sleep", "3600", "--timeout", "100ms", scheme=scheme)
        assert (ended.returncode, ended.stderr) == (3, "perigee call: no answer to 'sleep' within 100ms\n")


def test_call_of_frames_without_rpc(everything):
    ended = call(everything, "frames/raw", "ping")
    assert ended.returncode == 3 and "not in JSON-RPC" in ended.stderr


def test_call_of_answers_with_neither_result_nor_error(serve, tmp_path):
    """What has the look of an answer and says nothing is no JSON-RPC."""
    app = """
local perigee = require "perigee"
local Vague = perigee.consumer {}
Vague:rpc_method("ping", { timeout = false }, function(ctx)
  ctx.consumer:send('{"jsonrpc":"2.0","id":1}')
  perigee.sleep(3600)
end)
return Vague
"""
    ended = call(serve(apps_folder(tmp_path / "apps", files={"vague/init.lua": app})), "vague", "ping", "--timeout", "5s")
    assert (ended.returncode, ended.stdout) == (3, "") and 'not in JSON-RPC: {"jsonrpc":"2.0","id":1}' in ended.stderr


@pytest.mark.parametrize("args, words", [
    ([], ["URL"]),
    (["ws://127.0.0.1:1/x"], ["METHOD", "--watch"]),
    (["wss://127.0.0.1:1/x", "m"], ["no TLS", "proxy", "ws://HOST:PORT/x"]),
    (["ftp://a/x", "m"], ["ws://127.0.0.1:8080/chat"]),
    (["ws://127.0.0.1:1/x", "m", "a:=b"], ["a:=b", "not JSON"]),
    (["ws://127.0.0.1:1/x", "m", "a=b", "c"], ["all or none"]),
    (["ws://127.0.0.1:1/x", "m", ","], ["method", ","]),
    (["http://127.0.0.1:1/x", "m", "--watch"], ["--watch needs ws://127.0.0.1:1/x"]),
    (["ws://127.0.0.1:1/x", "m", "--count", "2"], ["--watch"]),
    (["ws://127.0.0.1:1/x", "m", "--wtach"], ["did you mean '--watch'?"]),
    (["ws://127.0.0.1:1/x", "m", "--timeout", "0"], ["at least 1ms"]),
    (["ws://127.0.0.1:1/x", "m", "-H", "nothing"], ["Name: value"]),
], ids=lambda value: " ".join(value))
def test_call_usage(args, words):
    ended = run("call", *args)
    assert ended.returncode == 2 and ended.stdout == ""
    for word in words:
        assert word in ended.stderr, ended.stderr


def on_a_terminal(*args, **env):
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([str(BINARY), *args], env=environment(TERM="xterm", **env), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    assert process.wait(PATIENCE) in (0, 1)
    return shown.decode().replace("\r\n", "\n")


def test_call_colours(everything):
    """Colours and several lines on a terminal; none with NO_COLOR, none in a pipe."""
    url = f"ws://{everything.netloc}/echo"
    value = json.dumps({"value": {"key": ["x" * 80]}})
    shown = on_a_terminal("call", url, "echo", value)
    assert "\x1b[34m\"key\"\x1b[0m: [\n" in shown
    plain = on_a_terminal("call", url, "echo", value, NO_COLOR="1")
    assert "\x1b" not in plain and '"key": [\n' in plain
    assert "\x1b[31merror -32601\x1b[0m" in on_a_terminal("call", url, "nope")
    assert "\x1b" not in call(everything, "echo", "echo", value).stdout
    hostile = on_a_terminal("call", url, "echo", '"\\u001b[2J\\u009b"', NO_COLOR="1")
    assert hostile == '"\\u001b[2J\\u009b"\n'


# ---- completion and manual ------------------------------------------------------------------------

def completion(shell, folder):
    path = folder / f"perigee.{shell}"
    made = run("completion", shell)
    assert made.returncode == 0 and made.stderr == ""
    path.write_text(made.stdout)
    return path


# what is typed, and what is offered for its last word
COMPLETIONS = [
    (["se"], ["serve"]),
    (["serve", "--log-l"], ["--log-level"]),
    (["serve", "--log-level", "d"], ["debug"]),
    (["config", "max_b"], ["max_batch", "max_body"]),
    (["completion", "z"], ["zsh"]),
    (["help", "ch"], ["check"]),
    (["check", "pro"], ["project"]),
    (["call", "--config", "pro"], ["project", "prose"]),
    (["new", "--t"], ["--types"]),
    (["call", "--js"], ["--json"]),
]


@pytest.fixture
def folder_to_complete(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "prose").write_text("a file")
    return tmp_path


@pytest.mark.parametrize("words, offered", COMPLETIONS, ids=lambda value: " ".join(value))
def test_completion_in_bash(folder_to_complete, words, offered):
    script = f"""source {completion("bash", folder_to_complete)}
        COMP_WORDS=(perigee "$@"); COMP_CWORD=$#; _perigee; printf '%s\\n' "${{COMPREPLY[@]}}" """
    told = subprocess.run(["bash", "-c", script, "-", *words], cwd=folder_to_complete, capture_output=True, text=True)
    assert told.stderr == "" and sorted(told.stdout.split()) == offered


@pytest.mark.parametrize("words, offered", COMPLETIONS, ids=lambda value: " ".join(value))
def test_completion_in_fish(folder_to_complete, words, offered):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    script = f'source {completion("fish", folder_to_complete)}; complete -C "perigee {" ".join(words)}"'
    told = subprocess.run(["fish", "--no-config", "-c", script], cwd=folder_to_complete, capture_output=True, text=True,
                          env={**os.environ, "HOME": str(folder_to_complete)})
    found = sorted(line.split("\t")[0].rstrip("/") for line in told.stdout.splitlines())
    assert told.stderr == "" and found == offered


def test_completion_in_zsh(folder_to_complete):
    """It loads, and a tab in a shell that has it writes the rest of the word."""
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    completion("zsh", folder_to_complete).rename(folder_to_complete / "_perigee")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(["zsh", "-f", "-i"], cwd=folder_to_complete, stdin=theirs, stdout=theirs, stderr=theirs,
                               start_new_session=True, env={**os.environ, "TERM": "dumb", "HOME": str(folder_to_complete)})
    os.close(theirs)
    shown = b""

    def until_shown(text):
        nonlocal shown
        while text not in shown:
            chunk = os.read(ours, 65536)
            assert chunk, shown
            shown += chunk
        shown = shown.split(text, 1)[1]

    os.write(ours, b"PS1='re''ady> '; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D\n")
    until_shown(b"ready> ")
    for words, offered in COMPLETIONS:
        if len(offered) == 1 and words[0] != "check":
            rest = offered[0][len(words[-1]):].encode()
            os.write(ours, " ".join(["perigee", *words]).encode() + b"\t")
            until_shown(words[-1].encode() + rest)
            os.write(ours, b"\x15\n")
            until_shown(b"ready> ")
    os.write(ours, b"exit\n")
    with contextlib.suppress(OSError):
        while os.read(ours, 65536):
            pass
    os.close(ours)
    assert process.wait(PATIENCE) == 0


def test_completion_of_another_shell():
    ended = run("completion", "fsh")
    assert ended.returncode == 2 and "did you mean 'fish'?" in ended.stderr
    assert run("completion").returncode == 2


def test_manual_page(tmp_path):
    """Every command, flag and setting is in it, and troff has nothing to say against it."""
    page = run("help", "--man").stdout
    for verb in VERBS:
        assert re.search(rf"(?m)^\.SS {verb}$", page)
    for name in json.loads(run("config", "--json").stdout):
        assert f"\\fB{name}, " in page
    (tmp_path / "perigee.1").write_text(page)
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    shown = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=100n", tmp_path / "perigee.1"], capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stderr == "", shown.stderr
    assert "--max-body SIZE" in shown.stdout and "perigee call: no answer came." in shown.stdout


def test_install(tmp_path):
    """The program, its manual and its completion land where they are looked for."""
    installed = subprocess.run(["cmake", "--install", str(BINARY.parent), "--prefix", str(tmp_path)], capture_output=True, text=True,
                               env=environment())
    assert installed.returncode == 0, installed.stderr
    files = files_below(tmp_path)
    assert files["share/man/man1/perigee.1"].startswith(b".TH PERIGEE 1")
    assert b"complete -o filenames -F _perigee perigee" in files["share/bash-completion/completions/perigee"]
    assert files["share/zsh/site-functions/_perigee"].startswith(b"#compdef perigee\n")
    assert b"complete -c perigee" in files["share/fish/vendor_completions.d/perigee.fish"]
    version = subprocess.run([tmp_path / "bin/perigee", "version"], capture_output=True, text=True, env=environment())
    assert version.stdout == run("version").stdout


# ---- a newcomer -----------------------------------------------------------------------------------

def test_ten_minutes(tmp_path):
    """new, check, test, dev, call, a changed method, a message from one client to another."""
    made = run("new", "hello", cwd=tmp_path)
    assert made.returncode == 0 and made.stdout.endswith("\nNext:\n  cd hello\n  perigee dev\n")
    where = tmp_path / "hello"
    assert run("check", "--strict", cwd=where).returncode == 0
    assert run("test", cwd=where).returncode == 0
    assert "say(text: string)" in run("routes", "chat", cwd=where).stdout
    with Server(where, verb="dev") as server:
        assert b"<title>" in fetch(server, b"GET /chat/ HTTP/1.1\r\nHost: localhost\r\n\r\n").body
        netloc = {"PERIGEE_LISTEN": server.netloc}
        rooms = run("call", "chat", "rooms", cwd=where, env=netloc)
        assert rooms.returncode == 0 and {room["name"] for room in json.loads(rooms.stdout)} >= {"lobby"}, rooms
        ann = Watch(server, f"ws://{server.netloc}/chat", "join", "room=lobby", "name=Ann")
        lines = [ann.line()]
        while not lines[-1].startswith("{"):
            lines.append(ann.line())
        said = run("call", "chat", "join", "room=lobby", "name=Bob", ",", "say", "hello there", cwd=where, env=netloc)
        assert said.returncode == 0 and json.loads(said.stdout.splitlines()[-1])["from"] == "Bob", said
        while not lines[-1].startswith("← message "):
            lines.append(ann.line())
        assert json.loads(lines[-1].removeprefix("← message "))["text"] == "hello there"
        assert ann.end(signal.SIGINT) == (0, "")
        wrong = run("call", "chat", "romms", cwd=where, env=netloc)
        assert wrong.returncode == 1 and "did you mean 'rooms'?" in wrong.stderr
    assert run("call", "chat", "rooms", cwd=where, env=netloc).returncode == 3
