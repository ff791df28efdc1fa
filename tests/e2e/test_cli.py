"""The command line, as people and scripts use it: the real binary, its output and its exit codes."""
import json
import re

import pytest

from server import Server, apps_folder, run
from wire import call_http, call_text, fetch, post

VERBS = ["dev", "serve", "test", "config", "version", "help"]


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


# ---- settings -------------------------------------------------------------------------------------

def project(where, conf, files=None):
    apps_folder(where / "apps", ["echo"], files)
    (where / "perigee.conf.lua").write_text(conf)
    return where


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
