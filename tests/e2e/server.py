"""Starts perigee on a folder of apps, reads its log, and checks that it ended well.

A server is made for a group of tests or for one; it listens on a port the kernel chose and is ready
when its log says so. Whoever starts one ends it with SIGTERM and thereby asserts: exit code 0, no
sanitizer report, no failed check, nothing left on the loop.
"""
import contextlib
import ctypes
import os
import pathlib
import re
import resource
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
APPS = HERE / "apps"
BINARY = pathlib.Path(os.environ.get("PERIGEE", ROOT / "build/dev/perigee")).resolve()

# How long something may take before it counts as never happening. Nothing is slept for so long.
PATIENCE = float(os.environ.get("E2E_PATIENCE", 30))

# What sanitizers and failed checks say; and what else does not belong into the log of a server, however
# it was treated.
REPORTS = re.compile(
    r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehaviorSanitizer|runtime error:"
    r"|panic|this must hold and does not|outlived its worker", re.IGNORECASE)
ALARMS = re.compile(
    REPORTS.pattern + r"|out of memory"
    r"|an error could not be reported|disconnect hooks did not end in time",
    re.IGNORECASE)

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def environment(**more):
    """The environment of a server: nothing of the caller's may set it up, sanitizers look for leaks."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PERIGEE")}
    if "PERIGEE_LUA" in os.environ:  # Lua files from the checkout instead of those compiled in
        env["PERIGEE_LUA"] = os.environ["PERIGEE_LUA"]
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    env.setdefault("LSAN_OPTIONS", f"suppressions={ROOT}/tests/lsan.supp:print_suppressions=0")
    env.update(more)
    return env


def apps_folder(where, names=(), files=None):
    """An apps folder with links to fixture apps and files of its own ("chat/init.lua": text)."""
    where = pathlib.Path(where)
    where.mkdir(parents=True, exist_ok=True)
    for name in names:
        (where / name).symlink_to(APPS / name)
    for name, content in (files or {}).items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return where


def until(is_so, what="it"):
    """Asks again and again; for what no event tells."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"{what} never happened"
        time.sleep(0.005)


class Server:
    """One perigee process.

    apps    names of folders in tests/e2e/apps; or a path of an apps folder
    flags   more flags, such as "--max-body", "1KiB"
    files   limit of open files, soft and hard
    lean    freed memory is used again at once, so that the resident size means something
    cwd     folder it is started in
    prefix  words before the command, that start it elsewhere
    alarms  False: only sanitizers and failed checks count, its errors are what the test is about
    """

    def __init__(self, apps, *flags, verb="serve", listen="127.0.0.1:0", files=None, lean=False, env=None,
                 cwd=None, alarms=True, prefix=()):
        self._folder = None
        if not isinstance(apps, (str, pathlib.Path)):
            self._folder = tempfile.TemporaryDirectory(prefix="perigee-e2e-")
            apps = apps_folder(pathlib.Path(self._folder.name) / "apps", apps)
        self.apps = pathlib.Path(apps)
        self.lines = []
        self.exit_code = None
        self._heeds_alarms = alarms
        self._changed = threading.Condition()
        self._is_log_over = False
        where = [str(apps)] if verb == "dev" else ["--apps", str(apps)]
        self._state = tempfile.TemporaryDirectory(prefix="perigee-state-")
        env = environment(**{"XDG_STATE_HOME": self._state.name, **(env or {})})
        if lean:
            env["ASAN_OPTIONS"] += ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
            # glibc's side of the same: few arenas, free tops go back
            env["MALLOC_ARENA_MAX"] = "1"
            env["MALLOC_TRIM_THRESHOLD_"] = "65536"
            env["MALLOC_MMAP_THRESHOLD_"] = "65536"

        def before_exec():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed test run leaves no servers behind
            if files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        self.process = subprocess.Popen(
            [*prefix, str(BINARY), verb, *where, "--listen", listen, *flags], env=env, cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=before_exec)
        self.pid = self.process.pid
        self.output = b""
        self._readers = [threading.Thread(target=self._read_log, daemon=True),
                         threading.Thread(target=self._read_output, daemon=True)]
        for reader in self._readers:
            reader.start()
        try:
            found = self.wait_log(r"\blistening\b.*?http://([\d.]+|\[[\da-f:]+\]):(\d+)")
        except BaseException:
            self.kill()
            raise
        self.host, self.port = found[1], int(found[2])
        self.address = (self.host, self.port)
        self.netloc = f"{self.host}:{self.port}"

    # ---- the log --------------------------------------------------------------------------------

    def _read_log(self):
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._is_log_over = True
            self._changed.notify_all()

    def _read_output(self):
        self.output = self.process.stdout.read()

    @property
    def log(self):
        with self._changed:
            return "\n".join(self.lines)

    def log_lines(self, pattern):
        with self._changed:
            return [line for line in self.lines if re.search(pattern, line)]

    def wait_log(self, pattern, count=1):
        """Waits until `count` log lines match; returns the last one's match."""
        end = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                found = [m for m in (re.search(pattern, line) for line in self.lines) if m]
                if len(found) >= count:
                    return found[count - 1]
                left = end - time.monotonic()
                if self._is_log_over or left <= 0:
                    why = "the server ended" if self._is_log_over else f"{PATIENCE:g} s passed"
                    raise AssertionError(
                        f"{count} log lines like {pattern!r} were waited for, {len(found)} came, then {why}:\n"
                        + "\n".join(self.lines[-40:]))
                self._changed.wait(left)

    def expect_log(self, pattern, count):
        """Waits for `count` such lines - the log has a thread of its own, which answers do not wait for -
        and there are no more of them."""
        self.wait_log(pattern, count)
        assert len(self.log_lines(pattern)) == count, "\n".join(self.log_lines(pattern))

    # ---- facts ----------------------------------------------------------------------------------

    def metrics(self):
        """The counters, without "perigee_" and "_total"."""
        with urllib.request.urlopen(f"http://{self.netloc}/-/metrics", timeout=PATIENCE) as page:
            text = page.read().decode()
        return {name: int(value) for name, value in re.findall(r"^perigee_(\w+?)(?:_total)? (\d+)$", text, re.M)}

    def until(self, is_so, what="it"):
        """Asks for the counters until they are as they should be."""
        until(lambda: is_so(self.metrics()), what)

    def resident(self):
        """Resident memory in bytes."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024

    def cpu_ticks(self):
        """Time that it has computed for, in hundredths of a second."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def is_running(self):
        return self.process.poll() is None

    # ---- the end --------------------------------------------------------------------------------

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self):
        """Waits for the end; returns the exit code."""
        try:
            self.exit_code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            log = self.log
            self.kill()
            raise AssertionError("the server did not end:\n" + log[-4000:]) from None
        for reader in self._readers:
            reader.join(PATIENCE)
        self._cleanup()
        return self.exit_code

    def stop(self):
        """SIGTERM, and everything a server that ended well must be."""
        if self.exit_code is None:
            if self.is_running():
                self.signal()
            self.wait()
        self.check()

    def check(self):
        alarms = [line for line in self.lines if (ALARMS if self._heeds_alarms else REPORTS).search(line)]
        assert not alarms, "the server reported:\n" + "\n".join(self.lines[-80:])
        assert self.exit_code == 0, f"exit code {self.exit_code}:\n" + "\n".join(self.lines[-40:])

    def kill(self):
        if self.is_running():
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        self._cleanup()

    def _cleanup(self):
        self.process.stdout.close()
        self.process.stderr.close()
        self._state.cleanup()
        if self._folder:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        elif self.exit_code is None:  # the test's own failure is the one to show
            self.kill()


def run(*args, env=None, timeout=PATIENCE, cwd=None):
    """Runs perigee to its end; for commands that do not serve."""
    return subprocess.run([str(BINARY), *map(str, args)], env=environment(**(env or {})), cwd=cwd, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)


@contextlib.contextmanager
def growth_below(server, limit, what):
    """Asserts that resident memory grows by less than `limit` bytes within the block."""
    before = server.resident()
    yield
    grown = server.resident() - before
    assert grown < limit, f"{what}: {grown / 1e6:.1f} MB more resident memory, {limit / 1e6:.1f} allowed"
