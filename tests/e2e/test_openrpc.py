"""rpc.discover: a valid OpenRPC document, and what it says of parameters is what the server holds them to."""
import json
import pathlib
import shutil
import subprocess

import pytest

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (Debian: python3-jsonschema)")

from server import PATIENCE, ROOT, Server, apps_folder  # noqa: E402
from wire import WebSocket, call_http, call_text, fetch, post  # noqa: E402

NODE = shutil.which("node")
MODULES = ROOT / "build/npm/node_modules"
FIXTURES = ROOT / "tests/e2e/apps"

# ---- the schemas ------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def validator():
    """OpenRPC's own JSON schema, and the one of JSON Schema that it refers to."""
    if not NODE or not (MODULES / "@open-rpc/meta-schema").exists():
        pytest.skip("OpenRPC's schema is not installed: server/setup --tests")
    script = """const of = name => require(name).default;
        console.log(JSON.stringify([of('@open-rpc/meta-schema'), of('@json-schema-tools/meta-schema')]))"""
    printed = subprocess.run([NODE, "-e", script], env={"NODE_PATH": str(MODULES)}, capture_output=True, text=True,
                             timeout=PATIENCE, check=True).stdout
    openrpc, json_schema = json.loads(printed)
    store = {name: json_schema for name in ("https://meta.json-schema.tools", "https://meta.json-schema.tools/")}
    try:
        import referencing
        from referencing.jsonschema import DRAFT7
    except ImportError:  # Debian 12
        return jsonschema.Draft7Validator(openrpc, resolver=jsonschema.RefResolver.from_schema(openrpc, store=store))
    registry = referencing.Registry().with_resources(
        (name, DRAFT7.create_resource(schema)) for name, schema in store.items())
    return jsonschema.Draft7Validator(openrpc, registry=registry)


def all_schemas(document):
    for method in document["methods"]:
        for one in method["params"] + ([method["result"]] if "result" in method else []):
            yield one["schema"]


def check(validator, document):
    validator.validate(document)
    names = [method["name"] for method in document["methods"]]
    assert len(set(names)) == len(names)
    for schema in all_schemas(document):
        jsonschema.Draft7Validator.check_schema(schema)
    for method in document["methods"]:
        for example in method.get("examples", []):
            for shown, param in zip(example["params"], method["params"]):
                assert shown["name"] == param["name"]
                jsonschema.Draft7Validator(param["schema"]).validate(shown["value"])
            if "result" in example:
                jsonschema.Draft7Validator(method["result"]["schema"]).validate(example["result"]["value"])


def test_the_schema_is_no_rubber_stamp(validator):
    good = {"openrpc": "1.3.2", "info": {"title": "x", "version": "1"}, "methods": [{"name": "m", "params": []}]}
    check(validator, good)
    for bad in [{}, {**good, "openrpc": "9"}, {**good, "methods": [{"name": "m"}]},
                {**good, "methods": [{"name": "m", "params": [{"name": "p", "schema": {"type": "text"}}]}]}]:
        with pytest.raises((jsonschema.ValidationError, jsonschema.SchemaError)):
            check(validator, bad)


# ---- documents --------------------------------------------------------------------------------------

def discover(server, path):
    """What path says of itself over both transports; None when it is not discovered there."""
    answer = fetch(server, post(path, call_text("rpc.discover", id=1))).json()
    if "error" in answer:
        assert answer["error"]["code"] == -32601
        return None
    with WebSocket(server, path) as client:
        return answer["result"], client.call("rpc.discover")


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    """A server in dev with all fixture apps."""
    names = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
    with Server(apps_folder(tmp_path_factory.mktemp("openrpc") / "apps", names), verb="dev") as server:
        yield server


EXAMPLES = sorted(path.name for path in (ROOT / "apps").iterdir() if (path / "init.lua").exists())


def test_example_apps(serve, validator):
    server = serve(ROOT / "apps", verb="dev")
    for name in EXAMPLES:
        for document in discover(server, f"/{name}"):
            check(validator, document)
            assert document["info"]["title"] == name
            assert document["methods"]


def test_fixture_apps(fixtures, validator):
    found = 0
    for path in sorted(FIXTURES.iterdir()):
        try:
            documents = discover(fixtures, f"/{path.name}")
        except (AssertionError, json.JSONDecodeError):
            continue  # its path is another, or it lets nobody in
        for document in documents or ():
            check(validator, document)
            found += 1
    assert found >= 10


def method_of(document, name):
    found = [method for method in document["methods"] if method["name"] == name]
    assert len(found) == 1, name
    return found[0]


def test_every_feature(fixtures, validator):
    by_post, by_socket = discover(fixtures, "/schemas")
    for document in (by_post, by_socket):
        check(validator, document)
        names = {method["name"] for method in document["methods"]}
        assert "secret" not in names and {"refused", "noted", "told"} <= names
        assert not any(name.startswith(("rpc.", "_", "$")) for name in names)
        told = method_of(document, "told")
        assert told["description"] == "Says *all* there is to say." and told["deprecated"] is True
        assert told["x-notification"] is True  # both, under one name
        assert [error["code"] for error in told["errors"]] == [1, 2] and told["errors"][1]["data"] == {"least": 1}
        assert [len(example["params"]) for example in told["examples"]] == [2, 1, 0]
        assert "result" not in method_of(document, "noted")
        assert method_of(document, "any_number")["paramStructure"] == "by-position"
    assert "by_socket" not in {method["name"] for method in by_post["methods"]}
    assert "by_post" not in {method["name"] for method in by_socket["methods"]}


# ---- what is told is what is held -------------------------------------------------------------------

VALUES = [
    None, True, False, 0, 1, 2, 3, 4, 100, 101, -1, 0.5, 1.5, 0.25, -0.5, 2**62, 1e300,
    "", "a", "ab", "abcd", "abcde", "é" * 4, "é" * 5, "red", "green", "blue", "123", "one", "text 1",
    [], [1], [None], [1, None], ["a"], ["a", "b", "c"], ["a", "b", "c", "d"], [[]], [[1, 2.5], [3]], [[1], ["x"]], [{}],
    {}, {"name": "Ann"}, {"name": ""}, {"name": "Ann", "age": 7}, {"name": "Ann", "age": -1}, {"name": "Ann", "age": None},
    {"name": "Ann", "nmae": 1}, {"age": 7}, {"name": "Ann", "address": {"street": "x"}}, {"name": "Ann", "address": {}},
    {"name": "Ann", "address": {"street": "x", "floors": [1, 2]}}, {"name": "Ann", "address": {"street": "x", "floors": ["1"]}},
    {"name": "Ann", "address": None}, {"name": "Ann", "address": {"street": "x", "floors": None}},
]


def test_told_as_held(fixtures):
    """Each value for each schema: the server takes it exactly if the JSON schema that it tells allows it."""
    document = discover(fixtures, "/schemas")[1]
    differ, taken = [], 0
    with WebSocket(fixtures, "/schemas") as client:
        for method in document["methods"]:
            if [param["name"] for param in method["params"]] != ["value"] or "result" not in method:
                continue
            schema = method["params"][0]["schema"]
            if "x-lua-pattern" in schema:  # JSON Schema has patterns of another kind
                continue
            allows = jsonschema.Draft7Validator(schema).is_valid
            for value in VALUES:
                if isinstance(value, float) and value.is_integer():
                    continue  # JSON Schema calls 1.0 an integer, Lua does not
                client.send_text(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method["name"], "params": [value]}))
                answer = client.receive_json()
                is_taken = "result" in answer
                if not is_taken:
                    assert answer["error"]["code"] == -32602, answer
                taken += is_taken
                if is_taken != allows(value):
                    differ.append(f"{method['name']}: {json.dumps(value)} is {'taken' if is_taken else 'refused'}")
    assert not differ, "\n".join(differ)
    assert taken > 200


def test_pattern(fixtures):
    assert call_http(fixtures, "/schemas", "digits", "123") == "123"
    answer = fetch(fixtures, post("/schemas", call_text("digits", "12a"))).json()
    assert answer["error"]["data"] == {"param": "value", "expected": "string that matches ^%d+$", "got": "12a"}
