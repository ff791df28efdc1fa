"""Which tests are nearest to a source file: its mirrors, then what includes or requires it, then what talks to it."""
import pathlib
import re

# What the end-to-end files are about, as the names of rooms. The first files named are the first run.
TALKS_TO = {
    "test_counters": "metrics call task conn ws_conn http_conn dispatch cors groups web files rpc",
    "test_rpc": "call envelope json task plain rpc params types schema caller consumer ctx errors spelling app instance memory "
                "utf8 buf handover report shared",
    "test_websocket": "ws ws_conn conn utf8 handshake lconn dispatch deflate deadline worker digest buf channel events origin",
    "test_http": "authority chunks http http_conn conn web cors dispatch headers routes origin host metrics call client worker cookie",
    "test_static": "files digest routes dispatch http pages",
    "test_smuggle": "http http_conn chunks",
    "test_fair": "turn held dispatch call task conn ws_conn http_conn web",
    "test_output": "conn call dispatch groups llayer",
    "test_pause": "deadline conn worker ws_conn http_conn",
    "test_access": "access client authority origin",
    "test_memory": "collector memory mem worker",
    "test_names": "redis",
    "test_locale": "locale log json",
    "test_lifecycle": "task lconn lifecycle call wait scope instance consumer worker deadline ws_conn signals group groups pending "
                      "channel state host announce topics mail",
    "test_cluster": "groups topics layer parcel payload shared llayer broker group channel mailbox events remote host announce "
                    "redis reply lifecycle handover",
    "test_deflate": "deflate ws_conn ws",
    "test_proxy": "forwarded network client origin cookie user",
    "test_routes": "routes cors pages web http consumer",
    "test_console": "printable console linspect inspector facts crew shown",
    "test_openrpc": "discover schema types",
    "test_client": "lwsclient client caller traffic perigee reserved",
    "test_reload": "pages reload generation bundle tree watch command check app bytecode settings announce scope signals livepage state",
    "test_sessions": "session store sqlite redis_sessions lstore user token cookie lsecret secret password state handover",
    "test_cli": "project testing source ltest settings configfile config command init flags spelling check lwsclient state bytecode",
    "test_docs": "testing consumer app mail log init channel",
    "test_process": "first outlet streams log_limit printable lluv claim hash source project log metrics host worker listener state command generation settings main lblocking mem config announce",
    "test_runaway": "pattern lstring ltable lbound holder task memory lblocking wait plain json bytecode",
    "test_layer_faults": "broker redis reply redis_sessions llayer layer groups",
    "test_inspector": "linspect facts feed crew shown inspector traffic livepage",
}
# Specs that have another name than the room they are about.
SPECS = {
    "json": "codec", "plain": "codec", "envelope": "rpc", "lblocking": "blocking", "lsecret": "token", "lstore": "session",
    "linspect": "inspector", "feed": "inspector", "facts": "inspector", "crew": "inspector", "shown": "inspector",
    "task": "wait", "web": "http", "files": "public", "llayer": "shared", "pending": "client_calls", "caller": "client_calls",
    "types": "params", "schema": "params", "consumer": "registration", "app": "registration", "configfile": "config",
    "password": "user", "secret": "token", "report": "errors", "channel": "events", "group": "events", "memory": "collector",
    "lluv": "luv", "ltest": "testing", "bytes": "stream", "clock": "token", "lifecycle": "ordering", "routes": "http", "headers": "http", "settings": "config", "client": "client_calls",
}
# Unit tests that have another name.
UNITS = {"pattern": "lstring", "holder": "task"}
MOST_UNITS = 4  # nearly everything includes base/buf.h


class Nearest:
    """root  the tree whose tests are looked through"""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self._units = {path: path.read_text() for path in sorted(self.root.glob("tests/unit/*/test_*.c"))}
        self._ends = {path: path.read_text() for path in sorted(self.root.glob("tests/e2e/test_*.py"))}
        defined = self.root / "server/base/metrics.def"
        self._counters = set(re.findall(r"^(?:COUNTER|GAUGE)\((\w+),", defined.read_text(), re.M))
        self._specs = {path: path.read_text() for path in sorted(self.root.glob("tests/spec/*_spec.lua"))}

    def units(self, file):
        """Names of unit tests, the room's own first."""
        if not file.endswith(".c"):
            return []
        floor, room = pathlib.Path(file).parts[-2:]
        header = f'#include "{floor}/{room[:-2]}.h"'
        own = [path.stem for path in self._units if path.stem == f"test_{UNITS.get(room[:-2], room[:-2])}"]
        others = [path.stem for path, text in self._units.items() if header in text and path.stem not in own]
        return (own + others)[:MOST_UNITS]

    def specs(self, file):
        """Spec files that mirror a room or require it."""
        room = pathlib.Path(file).stem
        if room == "init":
            room = pathlib.Path(file).parent.name
        names = {f"{room}_spec", f"{SPECS.get(room, room)}_spec"}
        module = re.sub(r"/init$", "", file.removesuffix(".lua")).removeprefix("lua/").replace("/", ".")
        wanted = f'require("{module}")'
        return [str(path.relative_to(self.root)) for path, text in self._specs.items()
                if path.stem in names or file.endswith(".lua") and wanted in text]

    def has_specs(self, file):
        """Whether the specs run it at all: they know no connections."""
        return file.endswith(".lua") or file.startswith(("server/bridge/", "server/hub/", "server/base/"))

    def _that_count(self, changed):
        """End-to-end files that look at a counter which the changed lines have."""
        counters = {word for word in re.findall(r"\w+", changed) if word in self._counters}
        return [path.stem for path, text in self._ends.items() if counters and any(re.search(rf"\b{one}\b", text) for one in counters)]

    def _that_know(self, changed):
        """End-to-end files about the room that a changed line calls, as `locale_hold();` or `lbound_open(L);`."""
        called = re.fullmatch(r"(\w+?)_\w+\(.*\);", changed)
        return [name for name, rooms in TALKS_TO.items() if called and called[1] in rooms.split()]

    def ends(self, file, changed=""):
        """End-to-end files that talk to it; first those that count what the changed lines count."""
        path = pathlib.Path(file)
        named = [name for name, rooms in TALKS_TO.items() if path.stem in rooms.split() and (self.root / f"tests/e2e/{name}.py").exists()]
        if path.parent.name == "cli":
            named = ["test_cli"] + [name for name in named if name in ("test_reload", "test_routes", "test_console")]
        if path.parent.name == "inspector":
            named = ["test_console", "test_inspector"]
        mirror = f"test_{path.stem}"
        if not named and (self.root / f"tests/e2e/{mirror}.py").exists():
            named = [mirror]
        named = self._that_count(changed) + self._that_know(changed) + (named or ["test_rpc", "test_lifecycle"])
        return [f"{name}.py" for name in dict.fromkeys(named)]
