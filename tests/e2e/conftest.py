"""Fixtures of the end-to-end tests. See server.py and wire.py for what they are made of."""
import signal
import sys

import pytest

sys.dont_write_bytecode = True

import server as servers  # noqa: E402


def pytest_configure():
    if not servers.BINARY.exists():
        pytest.exit(f"there is no {servers.BINARY}: build it with 'cmake --preset dev && cmake --build --preset dev', "
                    "or name another with PERIGEE", returncode=2)


TOO_LONG = 120  # seconds: ten times what the slowest test takes


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that hangs fails, and the others still run."""
    def ring(*_):
        raise AssertionError(f"{item.name} took more than {TOO_LONG} s")
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(TOO_LONG)
    yield
    signal.alarm(0)


@pytest.fixture
def serve():
    """serve(apps, flags...): a server for one test, stopped and checked when the test is over."""
    started = []

    def start(*args, **more):
        started.append(servers.Server(*args, **more))
        return started[-1]

    yield start
    failures = []
    for one in started:
        try:
            one.stop()
        except AssertionError as e:
            failures.append(str(e))
    assert not failures, "\n\n".join(failures)


@pytest.fixture(scope="session")
def shared_servers():
    """At most one running server with all fixture apps; a new one when a test has killed the last."""
    running, failures = [], []

    def current():
        if failures:  # what did not start once need not be tried a thousand times
            pytest.fail(failures[0], pytrace=False)
        if not running:
            names = sorted(path.name for path in servers.APPS.iterdir() if path.is_dir())
            try:
                # a sanitized server on a busy machine needs seconds for a deep recursion
                running.append(servers.Server(names, "--slice-stop", "60s"))
            except AssertionError as e:
                failures.append(str(e))
                raise
        return running[0]

    current.running = running
    yield current
    for one in running:
        one.stop()


@pytest.fixture
def everything(shared_servers):
    """A server with all fixture apps and the default settings, for tests that leave no traces."""
    one = shared_servers()
    yield one
    if not one.is_running():
        shared_servers.running.clear()
        one.wait()
        pytest.fail("the server ended during this test:\n" + "\n".join(one.lines[-60:]))
