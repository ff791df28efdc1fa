"""Three hosts and a Redis on a fourth, in network namespaces: one host is cut off, and comes back."""
import contextlib
import ctypes
import os
import shutil
import subprocess

import pytest

from cluster import until_whole
from redis_server import Redis
from server import Server, until
from wire import WebSocket

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
TOOLS = ("unshare", "nsenter", "ip", "sleep")


def is_permitted():
    return (all(map(shutil.which, TOOLS)) and os.geteuid() == 0
            and subprocess.run(["unshare", "-n", "ip", "link", "add", "type", "veth"], capture_output=True).returncode == 0)


pytestmark = pytest.mark.skipif(not is_permitted(), reason="needs root, iproute2 and network namespaces (unshare -n)")


class Host:
    """A network namespace, alive as long as a process in it."""

    def __init__(self):
        self.process = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        until(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != own, "the namespace")
        self.prefix = ["nsenter", "-t", str(self.process.pid), "-n"]
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *words):
        subprocess.run([*self.prefix, *words], check=True)

    @contextlib.contextmanager
    def inside(self):
        """This thread's sockets are made in the namespace."""
        with open("/proc/thread-self/ns/net") as home, open(f"/proc/{self.process.pid}/ns/net") as there:
            assert libc.setns(there.fileno(), CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0

    def connect(self, server):
        with self.inside():
            ws = WebSocket(server, "/cluster")
        ws.channel = ws.call("where")
        return ws

    def stop(self):
        self.process.kill()
        self.process.wait()


class Network:
    """Hosts 10.77.0.1 to .n on one switch."""

    def __init__(self, n):
        self.switch, self.hosts = Host(), []
        self.switch.run("ip", "link", "add", "br0", "type", "bridge")
        self.switch.run("ip", "link", "set", "br0", "up")
        for i in range(1, n + 1):
            host = Host()
            self.hosts.append(host)
            self.switch.run("ip", "link", "add", f"port{i}", "type", "veth", "peer", "name", "eth0",
                            "netns", str(host.process.pid))
            self.switch.run("ip", "link", "set", f"port{i}", "master", "br0", "up")
            host.run("ip", "address", "add", f"10.77.0.{i}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")

    def cut(self, i):
        """Nothing passes any more; nobody is told."""
        self.switch.run("ip", "link", "set", f"port{i}", "nomaster")

    def mend(self, i):
        self.switch.run("ip", "link", "set", f"port{i}", "master", "br0")

    def stop(self):
        for host in [*self.hosts, self.switch]:
            host.stop()


def test_a_host_is_cut_off_and_comes_back():
    network = Network(4)
    servers, redis = [], None
    try:
        redis = Redis(host="10.77.0.4", port=6379, prefix=network.hosts[3].prefix)
        for host in network.hosts[:3]:
            servers.append(Server(["cluster"], "--layer", redis.url, "--layer-timeout", "1s", prefix=host.prefix))
        members = [host.connect(server) for host, server in zip(network.hosts, servers)]
        for member in members:
            member.call("join", "g")
        until_whole(members)
        here, there, cut_off = members

        network.cut(3)
        servers[2].wait_log('channel layer is down.*why="no answer in time"')
        here.call("publish", "g", "to those who are left")
        cut_off.call("publish", "g", "to myself")
        assert here.expect("said") == there.expect("said") == ["to those who are left"]
        assert cut_off.expect("said") == ["to myself"]
        assert cut_off.call("count", "g") == 1
        until(lambda: here.call("count", "g") == 2, "the end of the lease of the host that was cut off")
        until_whole([here, there])

        network.mend(3)
        servers[2].wait_log("channel layer is up", 2)
        until_whole(members)
        cut_off.call("publish", "g", "back")
        assert here.expect("said") == there.expect("said") == cut_off.expect("said") == ["back"]
        assert here.call("whisper", cut_off.channel, "welcome") is True
        assert cut_off.expect("said") == ["welcome"]
        for server in servers[:2]:
            server.expect_log("channel layer is (up|down)", 1)  # nothing happened to the others
        for member in members:
            member.drop()
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            if server.exit_code is None:
                server.kill()
        if redis:
            redis.stop()
        network.stop()
