"""Public folders: what is served, how, and what never is."""
import email.utils
import gzip
import hashlib
import itertools
import os
import random
import threading
import time

import pytest

from server import APPS, Server, apps_folder, growth_below
from wire import Ended, Http, WebSocket, call_text, fetch, post, request

SECRET = b"nobody may read this"


def get(target, headers=(), method="GET"):
    return request(method, target, headers)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server whose app "site" has a public folder that tests may change: site.public."""
    where = tmp_path_factory.mktemp("static")
    apps = apps_folder(where / "apps", ["echo"], {
        "site/init.lua": (APPS / "pages/init.lua").read_text().replace('"/pages"', '"/site"'),
        "site/store.lua": "-- " + SECRET.decode(),
        "site/notes.txt": SECRET,
        "site/public/index.html": "<!doctype html><title>Site</title>",
        "site/public/sub/index.html": "<!doctype html><title>Below</title>",
        "site/public/sub/page.txt": "below",
        "site/public/plain.txt": "plain\n",
        "site/public/empty.txt": "",
        "site/public/a b+c&d.txt": "odd name",
        "site/public/é.txt": "accent",
        "site/public/.env": SECRET,
        "site/public/.git/config": SECRET,
        "site/public/sub/.hidden": SECRET,
        "site/public/code.lua": SECRET,
        "site/public/CODE.LUA": SECRET,
        "site/public/sub/code.lua": SECRET,
        "secret.txt": SECRET,
        # nothing at its path but a folder, which has a page only further below
        "plain/init.lua": 'return require "perigee".consumer { path = "/elsewhere" }',
        "plain/public/file.txt": "file",
        "plain/public/deep/er/index.html": "<!doctype html>",
        "plain/public/odd/index.html/file.txt": "a folder of that name is no page",
        # a consumer, and a folder without a page
        "odd/init.lua": 'return require "perigee".consumer {}',
        "odd/public/file.txt": "file",
    })
    (where / "outside.txt").write_bytes(SECRET)
    (where / "outside").mkdir()
    (where / "outside/file.txt").write_bytes(SECRET)
    public = apps / "site/public"
    (public / "link-relative.txt").symlink_to("../notes.txt")
    (public / "link-up.txt").symlink_to("../../../outside.txt")
    (public / "link-absolute.txt").symlink_to(where / "outside.txt")
    (public / "link-folder").symlink_to(where / "outside")
    (public / "link-root").symlink_to("/")
    (public / "link-loop").symlink_to("link-loop")
    (public / "link-dangling").symlink_to("nothing")
    os.mkfifo(public / "fifo")
    with Server(apps, lean=True) as one:
        one.public = public
        yield one


# ---- what is served -------------------------------------------------------------------------------

TYPES = {
    "html": "text/html; charset=utf-8", "htm": "text/html; charset=utf-8", "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8", "mjs": "text/javascript; charset=utf-8", "json": "application/json",
    "txt": "text/plain; charset=utf-8", "svg": "image/svg+xml", "png": "image/png", "jpg": "image/jpeg",
    "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp", "ico": "image/x-icon", "woff2": "font/woff2",
    "wasm": "application/wasm", "pdf": "application/pdf", "mp4": "video/mp4", "unknown": "application/octet-stream",
    "HTML": "text/html; charset=utf-8",
}


@pytest.mark.parametrize("extension", TYPES)
def test_type(site, extension):
    (site.public / f"file.{extension}").write_bytes(b"content")
    response = fetch(site, get(f"/site/file.{extension}"))
    assert (response.status, response.body) == (200, b"content")
    assert response["Content-Type"] == TYPES[extension]
    assert response["X-Content-Type-Options"] == "nosniff"


def test_name_without_extension(site):
    (site.public / "README").write_bytes(b"read")
    (site.public / "v1.2").mkdir()
    (site.public / "v1.2/file").write_bytes(b"read")
    for target in ["/site/README", "/site/v1.2/file"]:
        assert fetch(site, get(target))["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("target, body", [
    ("/site/", b"<!doctype html><title>Site</title>"), ("/site/index.html", b"<!doctype html><title>Site</title>"),
    ("/site/sub/", b"<!doctype html><title>Below</title>"), ("/site/sub/page.txt", b"below"), ("/site/plain.txt", b"plain\n"),
    ("/site/plain.txt?version=1", b"plain\n"), ("/site/pl%61in.txt", b"plain\n"), ("/site/empty.txt", b""),
    ("/site/a%20b+c&d.txt", b"odd name"), ("/site/%C3%A9.txt", b"accent"), ("http://127.0.0.1/site/plain.txt", b"plain\n"),
])
def test_file(site, target, body):
    with Http(site) as http:
        for _ in range(2):  # on one connection
            response = http.ask(get(target))
            assert (response.status, response.body) == (200, body)
            assert response["Content-Length"] == str(len(body))


def test_head(site):
    with Http(site) as http:
        full, head = http.ask(get("/site/plain.txt")), http.ask(get("/site/plain.txt", method="HEAD"))
        assert head.status == 200 and head.body == b""
        for name in ["Content-Length", "Content-Type", "ETag", "Cache-Control"]:
            assert head[name] == full[name]
        assert http.ask(get("/site/plain.txt")).body == b"plain\n"


@pytest.mark.parametrize("target, location", [
    ("/site", "/site/"), ("/site?", "/site/"), ("/site?room=7&a=%20", "/site/?room=7&a=%20"), ("/site?a?b", "/site/?a?b"),
    ("/site/sub", "/site/sub/"), ("/site/sub?x=1", "/site/sub/?x=1"), ("/site/s%75b?x=1", "/site/s%75b/?x=1"),
    ("http://127.0.0.1/site/sub?x=1", "/site/sub/?x=1"), ("/site?" + "q" * 8000, "/site/?" + "q" * 8000),
    ("/plain/deep/er?x", "/plain/deep/er/?x"),
])
def test_a_folder_leads_to_its_page(site, target, location):
    with Http(site) as http:
        for method in ["GET", "HEAD", "GET"]:  # on one connection
            response = http.ask(get(target, method=method), method)
            assert (response.status, response["Location"], response.body) == (302, location, b"")
        page = http.ask(get(location))
        assert page.status == 200 and page["Content-Type"] == "text/html; charset=utf-8"
    refused = fetch(site, request("GET", target, [("Content-Type", "text/plain")], body=b"x"))
    assert refused.status == 413


@pytest.mark.parametrize("target, status, allow", [
    ("/plain", 404, None), ("/plain?x", 404, None), ("/plain/deep", 404, None), ("/plain/deep?x", 404, None),
    ("/odd", 405, "POST, OPTIONS"), ("/odd?x", 405, "POST, OPTIONS"), ("/plain/odd", 404, None), ("/plain/file.txt/", 404, None),
])
def test_a_folder_without_a_page_leads_nowhere(site, target, status, allow):
    with Http(site) as http:
        for method in ["GET", "HEAD", "GET"]:
            response = http.ask(get(target, method=method), method)
            assert (response.status, response["Allow"], response["Location"]) == (status, allow, None)
    assert fetch(site, post("/odd", call_text("none"))).json()["error"]["code"] == -32601


@pytest.mark.parametrize("target", ["/site/missing", "/site/sub/missing.txt", "/site/missing/", "/site/plain.txt/",
                                    "/site/plain.txt/x", "/site/fifo", "/site/link-loop", "/site/link-dangling", "/sit/", "/sitee/",
                                    "/site/" + "a" * 300, "/site/" + "a/" * 2000, "/site/v1.2/", "/site/%"])
def test_not_found(site, target):
    for method in ["GET", "HEAD"]:
        response = fetch(site, get(target, method=method))
        assert response.status in (400, 404), response
        assert str(site.public).encode() not in response.body


def test_not_found_keeps_the_connection(site):
    with Http(site) as http:
        assert http.ask(get("/site/missing")).status == 404
        assert http.ask(get("/site/plain.txt")).status == 200


# ---- tags -----------------------------------------------------------------------------------------

def test_etag(site):
    first = fetch(site, get("/site/plain.txt"))
    tag = first["ETag"]
    assert tag.startswith('"') and tag.endswith('"') and len(tag) > 4
    assert fetch(site, get("/site/plain.txt"))["ETag"] == tag
    assert fetch(site, get("/site/sub/page.txt"))["ETag"] != tag
    with Http(site) as http:
        for value in [tag, f"W/{tag}", f'"other", {tag}', f'"a,b" , W/"c",{tag}', "*"]:
            for method in ["GET", "HEAD"]:
                response = http.ask(get("/site/plain.txt", [("If-None-Match", value)], method))
                assert (response.status, response.body) == (304, b""), value
                assert response["ETag"] == tag
                assert response["Content-Length"] in (None, first["Content-Length"])
        for value in ['"other"', tag.strip('"'), tag[:-2] + '"', "", "nonsense", f'"x{tag}"'[:-1]]:
            response = http.ask(get("/site/plain.txt", [("If-None-Match", value)]))
            assert (response.status, response.body) == (200, b"plain\n"), value


def test_conditions_count_wherever_their_field_stands(site):
    """First, last, in between."""
    first = fetch(site, get("/site/plain.txt"))
    tag, modified = first["ETag"], first["Last-Modified"]
    others = ["Host: h", "Accept: */*", "X-A: b"]
    for field in f"If-None-Match: {tag}", f"If-Modified-Since: {modified}", "Range: bytes=0-1":
        wanted = 206 if field.startswith("Range") else 304
        for at in range(len(others) + 1):
            lines = others[:at] + [field] + others[at:]
            with Http(site) as http:
                http.send("\r\n".join(["GET /site/plain.txt HTTP/1.1", *lines, "", ""]).encode())
                assert http.response().status == wanted, lines


def test_etag_changes_with_the_file(site):
    path = site.public / "changing.txt"
    tags = set()
    for i in range(5):
        path.write_text(str(i))  # the same length each time
        os.utime(path, ns=(1, 10**18 + i))  # and, to be sure, another time
        response = fetch(site, get("/site/changing.txt", [("If-None-Match", ", ".join(tags) or '""')]))
        assert (response.status, response.body) == (200, str(i).encode())
        tags.add(response["ETag"])
    assert len(tags) == 5


def test_modified_since(site):
    first = fetch(site, get("/site/plain.txt"))
    modified = first["Last-Modified"]
    assert modified == email.utils.formatdate((site.public / "plain.txt").stat().st_mtime, usegmt=True)
    with Http(site) as http:
        assert http.ask(get("/site/plain.txt", [("If-Modified-Since", modified)])).status == 304
        for fields in [[("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], [("If-Modified-Since", "yesterday")],
                       [("If-Modified-Since", modified), ("If-None-Match", '"other"')]]:  # the tag says more
            assert http.ask(get("/site/plain.txt", fields)).status == 200


# ---- for caches -----------------------------------------------------------------------------------

@pytest.mark.parametrize("name, is_kept", [("app.3f9a1c2b.js", True), ("app-0123abcd4567.css", True), ("app.js", False),
                                           ("photo-20241231.jpg", False)])
def test_names_with_a_fingerprint_are_kept_by_caches(site, name, is_kept):
    (site.public / name).write_bytes(b"content")
    expected = "public, max-age=31536000, immutable" if is_kept else "no-cache"
    first = fetch(site, get(f"/site/{name}"))
    assert first["Cache-Control"] == expected
    assert fetch(site, get(f"/site/{name}", [("If-None-Match", first["ETag"])]))["Cache-Control"] == expected


# ---- compressed beforehand ------------------------------------------------------------------------

GZIP = [("Accept-Encoding", "br, gzip")]


@pytest.fixture(scope="module")
def packed(site):
    """/site/packed.js and packed.js.gz, made after it."""
    content = b"let x = 1;\n" * 1000
    (site.public / "packed.js").write_bytes(content)
    (site.public / "packed.js.gz").write_bytes(gzip.compress(content))
    return content


def test_gzip_for_who_takes_it(site, packed):
    with Http(site) as http:
        for headers in [[], [("Accept-Encoding", "identity")], [("Accept-Encoding", "gzip;q=0")]]:
            plain = http.ask(get("/site/packed.js", headers))
            assert (plain.status, plain.body, plain["Content-Encoding"]) == (200, packed, None)
            assert plain["Vary"] == "Accept-Encoding"
        small = http.ask(get("/site/packed.js", GZIP))
        assert (small.status, small["Content-Encoding"], small["Vary"]) == (200, "gzip", "Accept-Encoding")
        assert small["Content-Type"] == "text/javascript; charset=utf-8"
        assert gzip.decompress(small.body) == packed
        assert len(small.body) < 200 and small["ETag"] != plain["ETag"]
        head = http.ask(get("/site/packed.js", GZIP, "HEAD"))
        assert (head["Content-Length"], head["Content-Encoding"]) == (str(len(small.body)), "gzip")
        # each form is known by its own tag
        for headers, tag, status in [(GZIP, small["ETag"], 304), (GZIP, plain["ETag"], 200), ([], plain["ETag"], 304),
                                     ([], small["ETag"], 200)]:
            answer = http.ask(get("/site/packed.js", [*headers, ("If-None-Match", tag)]))
            assert (answer.status, answer["Vary"]) == (status, "Accept-Encoding")
        # the file itself is a file like others
        itself = http.ask(get("/site/packed.js.gz", GZIP))
        assert (itself["Content-Type"], itself["Content-Encoding"], itself["Vary"]) == ("application/gzip", None, None)
        assert http.ask(get("/site/plain.txt", GZIP)).body == b"plain\n"
        assert http.ask(get("/site/", GZIP)).body == b"<!doctype html><title>Site</title>"


def test_gzip_that_must_not_be(site, packed):
    public = site.public
    with Http(site) as http:
        # older than its file: of what that was before
        (public / "stale.js").write_bytes(b"new")
        (public / "stale.js.gz").write_bytes(gzip.compress(b"old"))
        then = (public / "stale.js").stat().st_mtime - 10
        os.utime(public / "stale.js.gz", (then, then))
        # alone, for a type that is compressed already, a folder, a link to elsewhere, a pipe
        (public / "alone.js.gz").write_bytes(gzip.compress(b"alone"))
        (public / "photo.png").write_bytes(b"png")
        (public / "photo.png.gz").write_bytes(gzip.compress(b"other"))
        for name in ["folder", "linked", "pipe"]:
            (public / f"{name}.css").write_bytes(name.encode())
        (public / "folder.css.gz").mkdir()
        (public / "linked.css.gz").symlink_to("../notes.txt")
        os.mkfifo(public / "pipe.css.gz")
        for name, body in [("stale.js", b"new"), ("photo.png", b"png"), ("folder.css", b"folder"), ("linked.css", b"linked"),
                           ("pipe.css", b"pipe")]:
            answer = http.ask(get(f"/site/{name}", GZIP))
            assert (answer.status, answer.body, answer["Content-Encoding"]) == (200, body, None)
        assert http.ask(get("/site/alone.js", GZIP)).status == 404


# ---- parts ----------------------------------------------------------------------------------------

TEXT = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def parted(site):
    path = site.public / "parted.bin"
    path.write_bytes(TEXT)
    os.utime(path, (1700000000, 1700000000))
    return fetch(site, get("/site/parted.bin"))


@pytest.mark.parametrize("value, first, behind", [
    ("bytes=0-0", 0, 1), ("bytes=0-", 0, 1024), ("bytes=100-199", 100, 200), ("bytes=1000-5000", 1000, 1024), ("bytes=-1", 1023, 1024),
    ("bytes=-24", 1000, 1024), ("bytes=-9999", 0, 1024), ("bytes=1023-1023", 1023, 1024),
])
def test_range(site, parted, value, first, behind):
    with Http(site) as http:
        part = http.ask(get("/site/parted.bin", [("Range", value)]))
        assert (part.status, part.reason, part.body) == (206, "Partial Content", TEXT[first:behind])
        assert part["Content-Range"] == f"bytes {first}-{behind - 1}/1024"
        assert part["Accept-Ranges"] == parted["Accept-Ranges"] == "bytes"
        assert part["ETag"] == parted["ETag"] and part["Content-Type"] == parted["Content-Type"]
        assert http.ask(get("/site/plain.txt")).body == b"plain\n"


@pytest.mark.parametrize("value", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_range_beyond_the_end(site, parted, value):
    with Http(site) as http:
        answer = http.ask(get("/site/parted.bin", [("Range", value)]))
        assert (answer.status, answer["Content-Range"]) == (416, "bytes */1024")
        assert http.ask(get("/site/plain.txt")).body == b"plain\n"


@pytest.mark.parametrize("value", ["bytes=0-1,3-4", "bytes=9-3", "lines=1-2", "bytes", "bytes=a-b", ""])
def test_range_that_is_none(site, parted, value):
    answer = fetch(site, get("/site/parted.bin", [("Range", value)]))
    assert (answer.status, answer.body, answer["Content-Range"]) == (200, TEXT, None)
    empty = fetch(site, get("/site/empty.txt", [("Range", "bytes=0-")]))
    assert (empty.status, empty.body) == (200, b"")


def test_range_with_conditions(site, parted):
    tag, modified = parted["ETag"], parted["Last-Modified"]
    part = [("Range", "bytes=1-2")]
    with Http(site) as http:
        for fields, status in [
            ([("If-Range", tag)], 206), ([("If-Range", f"W/{tag}")], 200), ([("If-Range", '"other"')], 200), ([("If-Range", tag[1:])], 200),
            ([("If-Range", modified)], 206), ([("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT")], 200), ([("If-Range", "")], 200),
            ([("If-Range", tag), ("If-Range", tag)], 200), ([("If-None-Match", tag)], 304), ([("If-None-Match", '"other"')], 206),
            ([("Range", "bytes=3-4")], 200),  # twice
        ]:
            answer = http.ask(get("/site/parted.bin", part + fields))
            assert answer.status == status, fields
            assert answer.body == {206: TEXT[1:3], 200: TEXT, 304: b""}[status]
        head = http.ask(get("/site/parted.bin", part, "HEAD"))  # only GET has parts
        assert (head.status, head["Content-Length"]) == (200, "1024")


def test_range_of_a_file_changed_just_now(site):
    """Its date is that of the second it was changed in: it says nothing."""
    (site.public / "now.bin").write_bytes(b"abc")
    later = time.time() + 3600
    os.utime(site.public / "now.bin", (later, later))
    modified = fetch(site, get("/site/now.bin"))["Last-Modified"]
    assert fetch(site, get("/site/now.bin", [("Range", "bytes=0-0"), ("If-Range", modified)])).status == 200
    while True:  # again when so much time went by that it was no longer just now
        now = int(time.time())
        os.utime(site.public / "now.bin", (now, now))
        modified = fetch(site, get("/site/now.bin"))["Last-Modified"]
        answer = fetch(site, get("/site/now.bin", [("Range", "bytes=0-0"), ("If-Range", modified)]))
        if int(time.time()) <= now + 1:
            break
    assert answer.status == 200
    os.utime(site.public / "now.bin", (now - 2, now - 2))
    modified = fetch(site, get("/site/now.bin"))["Last-Modified"]
    assert fetch(site, get("/site/now.bin", [("Range", "bytes=0-0"), ("If-Range", modified)])).status == 206


def test_range_of_what_is_compressed(site, packed):
    """A download that was cut goes on in the form it began with."""
    with Http(site) as http:
        small = http.ask(get("/site/packed.js", GZIP))
        rest = http.ask(get("/site/packed.js", [*GZIP, ("Range", "bytes=10-"), ("If-Range", small["ETag"])]))
        assert (rest.status, rest["Content-Encoding"]) == (206, "gzip")
        assert gzip.decompress(small.body[:10] + rest.body) == packed
        assert http.ask(get("/site/packed.js", [("Range", "bytes=10-"), ("If-Range", small["ETag"])])).body == packed


def test_range_of_a_large_file(site, large):
    content = (site.public / "large.bin").read_bytes()
    with Http(site) as http:
        for first, behind in [(0, 1), (LARGE // 2, LARGE), (1_000_000, 5_000_001), (LARGE - 1, LARGE)]:
            assert http.ask(get("/site/large.bin", [("Range", f"bytes={first}-{behind - 1}")])).body == content[first:behind]


# ---- what never is --------------------------------------------------------------------------------

UPS = ["..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "..%00", "%2e%2e%00", "%252e%252e", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "%uff0e%uff0e",
       "..;", "...", "....", "..%20", "..%09", ".%0a.", "..%ff"]
SEPARATORS = ["/", "%2f", "%2F", "\\", "%5c", "//", "/./", "%252f", "%c0%af", ";/"]
TRAVERSALS = sorted({f"/site/{up}{separator}{target}" for up, separator in itertools.product(UPS, SEPARATORS[:5])
                     for target in ["notes.txt"]}
                    | {f"/site/sub{separator}{up}{separator}{up}{separator}init.lua"
                       for up, separator in itertools.product(UPS[:3], SEPARATORS)}
                    | {"/site/" + f"{up}/" * depth + target for up in ["..", "%2e%2e"] for depth in [1, 2, 3, 8]
                       for target in ["secret.txt", "etc/passwd"]}
                    | {"/site//etc/passwd", "/site///etc/passwd", "/site/%2fetc%2fpasswd", "/site/%2Fetc/passwd", "/site/./../notes.txt",
                       "/site/sub/../../notes.txt", "/site/sub/..", "/site/..", "/site/../", "/site/../site/notes.txt", "/site/%2e%2e",
                       "/site/file:///etc/passwd", "/site/C:/windows", "/site/~root/", "/site/proc/self/environ", "/../site/notes.txt",
                       "/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "http://127.0.0.1/site/../notes.txt"}
                    | {f"/site/{name}" for name in [
                        ".env", "%2eenv", ".git/config", "%2egit/config", "sub/.hidden", "sub/%2ehidden", ".", "./", "./.env", "sub/./.hidden",
                        "code.lua", "CODE.LUA", "code.lu%61", "code%2elua", "sub/code.lua", "code.lua/", "code.lua%00.html", "code.lua%00", "code.lua%20",
                        "code.lua.", "code.lua?x.html", "init.lua", "store.lua", "notes.txt", "public/plain.txt"]}
                    | {f"/site/{name}" for name in ["link-relative.txt", "link-up.txt", "link-absolute.txt", "link-folder/file.txt",
                                                    "link-root/etc/passwd", "link-folder/", "link-root/"]})


def test_there_are_many_traversals():
    assert len(TRAVERSALS) >= 150


@pytest.mark.parametrize("target", TRAVERSALS)
def test_no_way_out(site, target):
    for method in ["GET", "POST"]:
        with Http(site) as http:
            http.send(request(method, target, body=b"" if method == "POST" else None))
            response = http.response()
        assert response.status in (302, 400, 404, 405), response
        if response.status == 302:  # "/site/../site": nothing but the way to the page itself
            assert response["Location"] == "/site/"
        assert SECRET not in response.body and b"root:" not in response.body and b"perigee" not in response.body.lower()


def test_raw_bytes_in_targets(site):
    """Also those no client sends."""
    for raw in [b"/site/..\xc0\xaf../notes.txt", b"/site/\xff", b"/site/a\0b", b"/site/\x7f", b"/site/..\\..\\notes.txt"]:
        with Http(site) as http:
            http.send(b"GET " + raw + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            response = http.response()
            assert response.status in (400, 404) and SECRET not in response.body


def test_links_that_stay_inside(site):
    """Never an error; a server that resolves below the folder may follow them."""
    (site.public / "inside.txt").symlink_to("sub/page.txt")
    response = fetch(site, get("/site/inside.txt"))
    assert response.status in (200, 404)
    assert response.status == 404 or response.body == b"below"


def test_folder_swapped_for_a_link(site):
    """What is checked is what is opened: a folder that turns into a link lets nobody out."""
    path, stop = site.public / "swapped", threading.Event()
    outside = site.public.parent.parent.parent / "outside"
    inside = site.public / "sub-real"
    inside.mkdir()
    (inside / "file.txt").write_bytes(b"inside")

    def swap():
        for target in itertools.cycle([outside, "sub-real"]):
            if stop.is_set():
                return
            fresh = path.with_name("swapped-new")
            fresh.symlink_to(target)
            fresh.rename(path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        with Http(site) as http:
            for _ in range(500):
                response = http.ask(get("/site/swapped/file.txt"))
                assert response.status in (200, 404)
                assert response.status == 404 or response.body == b"inside"
    finally:
        stop.set()
        thread.join()


# ---- large ----------------------------------------------------------------------------------------

LARGE = 20 * 1024 * 1024


@pytest.fixture(scope="module")
def large(site):
    """A file of 20 MB of noise in /site/large.bin; its digest."""
    content = random.Random(7).randbytes(LARGE)
    (site.public / "large.bin").write_bytes(content)
    return hashlib.sha256(content).digest()


def test_large_file(site, large):
    with Http(site) as http:
        for _ in range(2):
            response = http.ask(get("/site/large.bin"))
            assert hashlib.sha256(response.body).digest() == large
        assert http.ask(get("/site/plain.txt")).body == b"plain\n"


def test_large_files_and_slow_readers(site, large):
    """Twenty clients ask for 20 MB and do not read: what they have not taken stays on the disk."""
    with WebSocket(site, "/echo") as other:
        with growth_below(site, 30_000_000, "twenty slow readers of 20 MB"):
            slow = [Http(site, receive_buffer=16384) for _ in range(20)]
            for http in slow:
                http.send(get("/site/large.bin"))
            for http in slow:  # the head is there, so the sending has begun
                while b"\r\n\r\n" not in http.buffer:
                    assert http.fill()
            for i in range(50):
                assert other.call("echo", i) == i  # nobody is held up
        for http in slow[2:]:
            http.drop()
        for http in slow[:2]:
            response = http.response()
            assert hashlib.sha256(response.body).digest() == large
            http.drop()
        assert other.call("ping") == "pong"


def test_large_file_for_a_half_closed_client(site, large):
    """It has said all it wanted to say, and reads slowly: it gets all of it."""
    with Http(site, receive_buffer=4096) as http:
        http.send(get("/site/large.bin") + get("/site/plain.txt"))
        http.end()
        for _ in range(20):
            assert fetch(site, get("/site/plain.txt")).body == b"plain\n"
        assert hashlib.sha256(http.response().body).digest() == large
        assert http.response().body == b"plain\n"
        http.expect_end()


def test_large_files_at_once(site, large):
    failures = []

    def read():
        try:
            for _ in range(2):
                assert hashlib.sha256(fetch(site, get("/site/large.bin")).body).digest() == large
        except BaseException as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_large_file_between_pipelined_requests(site, large):
    with Http(site) as http:
        http.send(post("/echo", call_text("sleep", 0.01, 1)) + get("/site/large.bin") + post("/echo", call_text("ping"))
                  + get("/site/large.bin") + get("/site/plain.txt"))
        http.end()
        assert http.response().json()["result"] == 1
        assert hashlib.sha256(http.response().body).digest() == large
        assert http.response().json()["result"] == "pong"
        assert hashlib.sha256(http.response().body).digest() == large
        assert http.response().body == b"plain\n"
        http.expect_end()


def test_file_replaced_while_it_is_read(site):
    """Who began to read the old file gets the old file."""
    path = site.public / "replaced.bin"
    old, new = random.Random(1).randbytes(LARGE), random.Random(2).randbytes(LARGE // 2)
    path.write_bytes(old)
    with Http(site, receive_buffer=16384) as http:
        http.send(get("/site/replaced.bin"))
        assert http.fill()
        fresh = path.with_name("fresh.bin")
        fresh.write_bytes(new)
        fresh.rename(path)
        assert fetch(site, get("/site/replaced.bin")).body == new
        assert http.response().body == old
        assert http.ask(get("/site/replaced.bin")).body == new
    path.unlink()


def test_file_cut_short_while_it_is_read(site):
    """The promised length cannot be kept: the connection ends, so that nobody takes it for the whole."""
    path = site.public / "shortened.bin"
    path.write_bytes(bytes(LARGE))
    with Http(site, receive_buffer=16384) as http:
        http.send(get("/site/shortened.bin"))
        assert http.fill()
        os.truncate(path, 1000)
        with pytest.raises(Ended):
            http.response()
    path.unlink()
    assert fetch(site, get("/site/plain.txt")).status == 200


def test_file_growing_while_it_is_read(site):
    path = site.public / "growing.bin"
    path.write_bytes(b"a" * LARGE)
    with Http(site, receive_buffer=16384) as http:
        http.send(get("/site/growing.bin"))
        assert http.fill()
        with path.open("ab") as file:
            file.write(b"b" * 100000)
        assert http.response().body == b"a" * LARGE
        assert http.ask(get("/site/plain.txt")).body == b"plain\n"
    path.unlink()


def test_clients_that_leave_while_they_are_served(site, large):
    """Descriptors of their files are given back."""
    fetch(site, get("/site/large.bin"))
    site.until(lambda m: m["connections_accepted"] == m["connections_closed"] + 1)
    before = site.descriptors()
    for i in range(60):
        http = Http(site, receive_buffer=16384)
        http.send(get("/site/large.bin") + get("/site/large.bin"))
        if i % 3:
            http.fill()
        http.reset() if i % 2 else http.drop()
    site.until(lambda m: m["connections_accepted"] == m["connections_closed"] + 1)
    site.until(lambda _: site.descriptors() <= before, "giving back descriptors")


def test_files_are_counted(site):
    before = site.metrics()["files_served"]
    fetch(site, get("/site/plain.txt"))
    assert site.metrics()["files_served"] == before + 1


def test_app_of_one_file_has_no_folder(serve, tmp_path):
    apps = apps_folder(tmp_path / "apps", files={
        "single.lua": (APPS / "pages/init.lua").read_text().replace('"/pages"', '"/single"'),
        "public/index.html": SECRET.decode()})
    server = serve(apps)
    assert fetch(server, get("/single/")).status == 404
    assert fetch(server, get("/public/")).status == 404
    assert fetch(server, post("/single", call_text("ping"))).json()["result"] == "pong"
