"""server/setup and CMakeLists.txt where something is missing: all of it is told at once."""
import shutil
import subprocess

import pytest

from server import ROOT

TOOLS = ["sh", "cat", "grep", "mktemp", "rm", "dirname", "tr", "sed", "env", "uname",
         "cc", "as", "ld", "make", "cmake", "pkg-config"]


@pytest.fixture
def elsewhere(tmp_path):
    """elsewhere(words...): runs them with a PATH that has no package manager, and no libraries for pkg-config."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    env = {"PATH": str(tmp_path / "bin"), "PKG_CONFIG_LIBDIR": str(tmp_path), "HOME": str(tmp_path)}
    return lambda *words: subprocess.run(words, env=env, cwd=tmp_path, text=True, capture_output=True, timeout=100)


LIBRARIES = {"libuv": "libuv1-dev", "lua5.4": "liblua5.4-dev", "libcrypto": "libssl-dev", "zlib": "zlib1g-dev",
             "sqlite3": "libsqlite3-dev", "libsodium": "libsodium-dev"}


def test_libraries_that_are_missing(elsewhere, tmp_path):
    ended = elsewhere("cmake", "-S", str(ROOT), "-B", str(tmp_path / "build"))
    assert ended.returncode == 1
    for library, package in LIBRARIES.items():
        assert any(library in line and package in line for line in ended.stderr.splitlines()), (library, ended.stderr)
    assert "server/setup" in ended.stderr


def test_a_system_that_is_no_debian(elsewhere):
    ended = elsewhere(str(ROOT / "server/setup"))
    assert ended.returncode == 1 and "no Debian" in ended.stderr
    for library in LIBRARIES:
        assert f"\n  {library}" in ended.stderr
    ended = elsewhere(str(ROOT / "server/setup"), "--tests")
    assert ended.returncode == 1
    for tool in ["redis-server", "chromium", "luacheck", "cmocka"]:
        assert f"\n  {tool}" in ended.stderr


def test_one_that_has_it_all(elsewhere, tmp_path):
    """Nothing is said, and nothing asked of apt."""
    ended = subprocess.run([str(ROOT / "server/setup")], text=True, capture_output=True, timeout=100,
                           env={"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
