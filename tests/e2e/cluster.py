"""Servers with several places to connect to: workers of one process, or processes on one Redis."""
import contextlib
import itertools
import time

from redis_server import Redis
from server import PATIENCE, Server, until
from wire import WebSocket

KINDS = ["memory, 1 worker", "memory, 3 workers", "Redis, 3 processes", "Redis, 3 processes of 2 workers"]


class Cluster:
    """connect(place) gives a WebSocket to one of `n` places."""

    def __init__(self, kind, apps=("cluster",), flags=()):
        self.kind = kind
        self.redis = Redis() if kind.startswith("Redis") else None
        self.servers = []
        try:
            if self.redis:
                workers = 2 if "2 workers" in kind else 1
                for _ in range(3):
                    self.servers.append(Server(apps, "--workers", str(workers), "--layer", self.redis.url, *flags))
            else:
                self.servers.append(Server(apps, "--workers", "3" if "3 workers" in kind else "1", *flags))
        except BaseException:
            self.abandon()
            raise
        self.n = 3 if kind != KINDS[0] else 1

    def connect(self, place, path="/cluster"):
        place %= self.n
        if self.redis:
            return WebSocket(self.servers[place], path)
        # the kernel chooses the worker: ask until it has chosen the right one
        end = time.monotonic() + PATIENCE
        while True:
            ws = WebSocket(self.servers[0], path)
            if self.n == 1 or int(ws.call("where").split(".")[1]) == place:
                return ws
            ws.drop()
            assert time.monotonic() < end, f"the kernel never chose worker {place}"

    def stop(self):
        try:
            for one in self.servers:
                one.stop()
        finally:
            if self.redis:
                self.redis.stop()

    def abandon(self):
        for one in self.servers:
            if one.exit_code is None:
                one.kill()
        if self.redis:
            self.redis.stop()


@contextlib.contextmanager
def started(kind, **more):
    cluster = Cluster(kind, **more)
    try:
        yield cluster
    except BaseException:
        cluster.abandon()
        raise
    cluster.stop()


# ---- is it whole? -----------------------------------------------------------------------------------

marks = itertools.count()


def is_whole(members, group="g"):
    """Does a message of the first reach all, and does each know how many there are?"""
    mark = f"mark {next(marks)}"
    members[0].call("publish", group, mark)

    def has_heard(member):
        end = time.monotonic() + 1
        while not any(note["params"] == [mark] for note in member.inbox):
            if time.monotonic() > end:
                return False
            member.call("where")
        return True

    return all(map(has_heard, members)) and all(member.call("count", group) == len(members) for member in members)


def until_whole(members):
    until(lambda: is_whole(members), "the cluster's being whole")
    settle(members)


def settle(members):
    for member in members:
        member.call("where")
        member.inbox.clear()
