"""What the READMEs show is run, and must come out as they show it."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest

import docs
from server import BINARY, PATIENCE, ROOT, Server, apps_folder, environment
from wire import Closed, WebSocket, fetch, handshake

SKIPPED_FOLDERS = {"build", "node_modules", ".git"}


def find_documents():
    paths = [path for path in sorted(ROOT.rglob("*.md")) if not SKIPPED_FOLDERS & set(path.relative_to(ROOT).parts)]
    return [docs.Document(path, str(path.relative_to(ROOT))) for path in paths]


DOCUMENTS = find_documents()
NAMES = [document.name for document in DOCUMENTS]
RUN = [(document, section) for document in DOCUMENTS for section in document.sections
       if any(block.language in ("jsonrpc", "console") and not block.reason for block in section.blocks)]


# ---- what must be there -----------------------------------------------------------------------------

@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_block_is_run_or_says_why(document):
    wrong = [f"{document.name}:{block.line}: {why}" for block in document.blocks if (why := docs.why_not_run(block))]
    for block in document.blocks:
        for path in re.findall(r"\btests/[\w/]+\.\w+", block.reason or ""):
            if not (ROOT / path).exists():
                wrong.append(f"{document.name}:{block.line}: {path}, which is said to run it, is not there")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(document):
    wrong = []
    for line, target in document.links:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        path = (document.path.parent / name) if name else document.path
        if not path.exists():
            wrong.append(f"{document.name}:{line}: {target}: there is no such file")
        elif fragment:
            path = path / "README.md" if path.is_dir() else path
            if fragment not in docs.Document(path, name).anchors():
                wrong.append(f"{document.name}:{line}: {target}: there is no such heading")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["apps/README.md", "server/README.md"])
def test_contents_are_complete(name):
    """Every heading of the second level is linked at the top, in order."""
    document = DOCUMENTS[NAMES.index(name)]
    text = document.path.read_text()
    top = text[:text.index("\n## ")]
    linked = re.findall(r"^- \[([^\]]+)\]\(#", top, re.M)
    assert linked == [section.heading for section in document.sections if section.level == 2]


@pytest.mark.parametrize("name, folder, pattern", [("server/README.md", "server", "*/*.c"), ("lua/README.md", "lua/perigee", "*.lua")])
def test_every_room_is_listed(name, folder, pattern):
    document = DOCUMENTS[NAMES.index(name)]
    linked = {(document.path.parent / target.partition("#")[0]).resolve() for _, target in document.links}
    missing = [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).glob(pattern)) if path not in linked]
    assert not missing, f"{name} does not say what these are:\n" + "\n".join(missing)


def test_first_app_is_short():
    app = DOCUMENTS[NAMES.index("README.md")].files()["apps/hello/init.lua"]
    assert len(app.splitlines()) <= 22  # twenty, its name and a line between


# ---- a document's own server ------------------------------------------------------------------------

class Place:
    """A folder with a document's apps and the example apps, and a server on them."""

    def __init__(self, document):
        self.document = document
        self._folder = tempfile.TemporaryDirectory(prefix="perigee-docs-")
        self.folder = pathlib.Path(self._folder.name)
        files = document.files()
        examples = [path for path in sorted((ROOT / "apps").iterdir()) if path.is_dir()]
        apps_folder(self.folder / "apps")
        for path in examples:
            (self.folder / "apps" / path.name).symlink_to(path)
        apps_folder(self.folder, files=files)
        (self.folder / "lua").symlink_to(ROOT / "lua")
        (self.folder / "bin").mkdir()
        (self.folder / "bin/perigee").symlink_to(BINARY)
        (self.folder / ".curlrc").write_text('silent\nshow-error\nnoproxy = "*"\n')
        self.env = environment(PATH=f"{self.folder}/bin:{os.environ['PATH']}", CURL_HOME=str(self.folder),
                               NO_COLOR="1", HOME=str(self.folder))
        self.cwd = self.folder  # of the commands of a section, which may change it
        self._server = self._failure = None

    @property
    def server(self):
        if self._failure:  # what did not start once need not be tried again
            pytest.fail(self._failure, pytrace=False)
        if self._server is None:
            try:
                self._server = Server("apps", verb="dev", cwd=self.folder)
            except AssertionError as e:
                self._failure = f"{self.document.name}: {e}"
                pytest.fail(self._failure, pytrace=False)
        return self._server

    def close(self):
        try:
            if self._server:
                self._server.stop()
        finally:
            self._folder.cleanup()


@pytest.fixture(scope="module")
def places():
    """places(document): made when it is first asked for."""
    made = {}

    def get(document):
        if document.name not in made:
            made[document.name] = Place(document)
        return made[document.name]

    yield get
    failures = []
    for place in made.values():
        try:
            place.close()
        except AssertionError as e:
            failures.append(str(e))
    assert not failures, "\n\n".join(failures)


# ---- exchanges --------------------------------------------------------------------------------------

class Talk:
    """The clients of one section."""

    def __init__(self, server):
        self.server, self.clients, self.asked = server, {}, {}

    def step(self, name, what, detail):
        if what == "connect":
            assert name not in self.clients, f"{name or 'the client'} is connected already"
            self.clients[name] = WebSocket(self.server, detail)
            return
        if what == "refused":
            path, status = detail
            assert fetch(self.server, handshake(path, host=self.server.netloc)).status == status
            return
        client = self.clients[name]
        if what == "send":
            # an answer to the server has the id it asked with
            client.send_text(detail.replace(f'"id":{docs.MORE}', f'"id":{json.dumps(self.asked.get(name))}'))
        elif what == "receive":
            message = client.receive_json()
            assert docs.fits(docs.read_pattern(detail), message), \
                f"{name}: this was shown:\n  {detail}\nthis came:\n  {json.dumps(message, ensure_ascii=False)}"
            if "method" in message and "id" in message:
                self.asked[name] = message["id"]
        elif what == "close":
            assert self.clients.pop(name).close(*detail)[0] == detail[0]
        else:
            assert self.clients.pop(name).expect_close() == detail

    def end(self):
        """Everything that came was shown."""
        for name, client in self.clients.items():
            client.send_frame(8, b"\x03\xe8")
            try:
                message = client.receive()
            except Closed:
                client.socket.close()
            else:
                raise AssertionError(f"{name or 'the client'} also gets what is not shown:\n  {message}")


# ---- commands ---------------------------------------------------------------------------------------

SHOWN = "127.0.0.1:8080"


def serves(command, expected):
    """Does this go on until it is stopped? What it shows tells."""
    return re.match(r"(?:\w+=\S+ )*perigee (dev|serve)\b", command) and any("http://" in line for line in expected)


def run_command(place, command, expected):
    """A command that ends, and what it says."""
    uses_server = SHOWN in command
    if uses_server:
        command = command.replace(SHOWN, place.server.netloc)
    after = place.folder / ".cwd"
    ended = subprocess.run(["bash", "-c", f'{command}\npwd >"{after}"'], env=place.env, cwd=place.cwd,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
    if after.exists():
        place.cwd = after.read_text().rstrip("\n")
    output = ended.stdout.decode().rstrip("\n")
    if uses_server:
        output = output.replace(place.server.netloc, SHOWN)
    lines = output.split("\n") if output else []
    assert docs.output_fits(expected, lines), \
        f"$ {command}\nthis was shown:\n" + "\n".join(expected) + "\nthis came:\n" + output


def run_serving(place, command, expected):
    """A command that serves until it is stopped: shows its first lines."""
    if "--listen" in command:
        command = re.sub(r"(--(?:listen|admin)[ =]\S*:)\d+", r"\g<1>0", command)
    else:
        command += " --listen 127.0.0.1:0"
    process = subprocess.Popen(["bash", "-c", "exec " + command], env=place.env, cwd=place.cwd,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    lines, changed = [], threading.Condition()

    def read():
        for line in process.stdout:
            with changed:
                lines.append(line.decode().rstrip("\n"))
                changed.notify_all()
        with changed:
            lines.append(None)
            changed.notify_all()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    expected = [re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{docs.MORE}", line) for line in expected]
    end = time.monotonic() + PATIENCE
    try:
        with changed:
            while not docs.output_fits(expected, [line for line in lines if line is not None], is_prefix=True):
                left = end - time.monotonic()
                assert left > 0 and None not in lines, \
                    f"$ {command}\nthis was shown:\n" + "\n".join(expected) + "\nthis came:\n" + "\n".join(map(str, lines))
                changed.wait(left)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE)
        reader.join(PATIENCE)
        process.stdout.close()
    assert code == 0, "\n".join(map(str, lines))


# ---- the tests --------------------------------------------------------------------------------------

@pytest.mark.parametrize("document, section", RUN, ids=[f"{document.name}: {section.heading}" for document, section in RUN])
def test_section(places, document, section):
    place, talk = places(document), None
    place.cwd = place.folder
    for block in section.blocks:
        if block.reason:
            continue
        if block.language == "jsonrpc":
            talk = talk or Talk(place.server)
            for step in docs.steps(block):
                talk.step(*step)
        elif block.language == "console":
            for command, expected in docs.commands(block):
                run = run_serving if serves(command, expected) else run_command
                run(place, command, expected)
    if talk:
        talk.end()


WITH_LUA = [document for document in DOCUMENTS if document.files()]


@pytest.mark.parametrize("document", WITH_LUA, ids=[document.name for document in WITH_LUA])
def test_lua_loads(places, document):
    """All of a document's apps are served together, and nothing in them is a slip."""
    place = places(document)
    assert place.server.is_running()
    if shutil.which("luacheck"):
        files = [str(place.folder / path) for path in document.files()]
        checked = subprocess.run(["luacheck", "--no-config", "--no-color", "-q", "--std", "lua54+busted", "--no-unused-args",
                                  *files], capture_output=True, text=True, timeout=PATIENCE)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("document", WITH_LUA, ids=[document.name for document in WITH_LUA])
def test_specs_pass(places, document):
    specs = [path for path in document.files() if path.endswith("_spec.lua")]
    if specs:
        ended = subprocess.run(["perigee", "test", *specs], env=places(document).env, cwd=places(document).folder,
                               capture_output=True, text=True, timeout=PATIENCE)
        assert ended.returncode == 0, ended.stdout + ended.stderr
