"""A copy of the tree that is changed, built and tested in place of the tree itself."""
import os
import pathlib
import shutil
import signal
import subprocess
import time

# by what is changed: C is built with sanitizers, as a leak is to be noticed; Lua needs none
BUILDS = {".c": ("build/dev", ["--preset", "dev"]),
          ".lua": ("build/plain", ["-S", ".", "-B", "build/plain", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"])}
FLOORS = {"base", "wire", "net", "hub", "bridge"}
MEMORY_MB = 3000  # a change may let a program grow without end


class Broken(Exception):
    """The tests fail without any change."""


class Tree:
    """root   the tree that is copied, and only read
    folder  where the copy is; made when it is not there
    jobs    of the build when nothing has been built yet
    """

    def __init__(self, root, folder, jobs):
        self.root, self.folder, self.jobs = pathlib.Path(root), pathlib.Path(folder), jobs
        self.is_passing = set()  # steps that passed without a change
        self.stale = {}  # by build: the file that was changed when its program was built last
        self._ready = set()  # builds that were made since the copy was

    # ---- the copy ----------------------------------------------------------------------------------

    def sync(self):
        """Makes the copy what the tree is now; files that are the same keep their time."""
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=self.root, check=True,
                                capture_output=True).stdout.decode().split("\0")
        names = {name for name in listed if name and (self.root / name).is_file()}
        for name in names:
            self._copy(name)
        for there in list(self.folder.rglob("*")) if self.folder.exists() else []:
            name = str(there.relative_to(self.folder))
            if there.is_file() and not name.startswith("build/") and name not in names:
                there.unlink()
        npm = self.folder / "build/npm"
        if not npm.exists() and (self.root / "build/npm").exists():
            npm.parent.mkdir(parents=True, exist_ok=True)
            npm.symlink_to(self.root / "build/npm")

    def _copy(self, name):
        source, copy = self.root / name, self.folder / name
        if copy.is_file() and copy.read_bytes() == source.read_bytes():
            return
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        shutil.copymode(source, copy)

    def write(self, name, text):
        (self.folder / name).write_text(text)

    # ---- programs ------------------------------------------------------------------------------------

    def build_of(self, file):
        """The folder in which a change of this file is built."""
        return BUILDS[pathlib.Path(file).suffix][0]

    def program(self, file, name="perigee"):
        return self.folder / self.build_of(file) / name

    def prepare(self, file):
        """Builds the unchanged program; unit tests are built when they are needed."""
        build = self.build_of(file)
        if build not in self._ready:
            more = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
            self._must("cmake", *BUILDS[pathlib.Path(file).suffix][1], *more)
            self._must("cmake", "--build", build, "-j", str(self.jobs), "--target", "perigee")
            shutil.copy(self.program(file), self.program(file, "perigee.unchanged"))
            self._ready.add(build)
        elif build in self.stale:
            self.make("perigee", self.stale.pop(build))

    def _must(self, *words):
        ended = subprocess.run(words, cwd=self.folder, env=self._environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
        if ended.returncode != 0:
            raise Broken(f"{' '.join(words)}\n{ended.stdout[-4000:]}")

    def make(self, target, file, is_alone=True):
        """Builds one program, when at most this file has changed since; False when it does not compile."""
        build, floor = self.build_of(file), pathlib.Path(file).parent.name
        words = ["cmake", "--build", build, "--target", target]
        if is_alone and file.endswith(".c") and floor in FLOORS:  # to look through all takes longer than to build it
            words = ["make", "-s", "-C", build, f"perigee_{floor}/fast", f"{target}/fast"]
        return self.run(words, 300)[0] == 0

    def _environment(self, **more):
        env = {name: value for name, value in os.environ.items() if not name.startswith("PERIGEE")}
        env.update(
            ASAN_OPTIONS=f"detect_leaks=1:detect_stack_use_after_return=1:hard_rss_limit_mb={MEMORY_MB}",
            UBSAN_OPTIONS="print_stacktrace=0",
            LSAN_OPTIONS=f"suppressions={self.folder}/tests/lsan.supp:print_suppressions=0",
            PERIGEE_BUILD=str(self.folder / "build"), CCACHE_BASEDIR=str(self.folder), CCACHE_NOHASHDIR="1")
        env.update({name: str(value) for name, value in more.items()})
        return env

    def run(self, words, limit, cwd=".", **env):
        """(exit code, output) of a program; the exit code is None when it took longer than `limit` seconds."""
        with subprocess.Popen(words, cwd=self.folder / cwd, env=self._environment(**env), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                              preexec_fn=_hear_hangups) as process:
            try:
                output, _ = process.communicate(timeout=limit)
                return process.returncode, output.decode("utf-8", "replace")
            except subprocess.TimeoutExpired:
                return None, _end(process)


def _hear_hangups():
    """What nohup ignores, programs that are started would ignore too, and tests of hangups fail."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _end(process):
    """Ends a program and all it started, gently first: pytest stops its servers."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        end = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
    try:
        return process.communicate(timeout=5)[0].decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        return ""
