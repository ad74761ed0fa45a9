# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the HTTPS interface share: docs/openapi.json, against which each answer is held, and who asks.

The words of the program that imports this begin with DIRECTORY PORT OPENAPI. What was met is noted in DIRECTORY: `met` has
"SCHEMA.MEMBER TYPE" of what was in an answer, and "SCHEMA.MEMBER = VALUE" of what can be one of a few; `statuses` has "METHOD PATH
STATUS", the path as it is described; `kinds` the kinds of errors.
"""
import http.client
import json
import re
import ssl
import sys
from pathlib import Path

W, PORT, OPENAPI = Path(sys.argv[1]), int(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
SCHEMAS = OPENAPI["components"]["schemas"]
# What only a controller says: 90-controller-api.sh.
OF_A_CLUSTER = {"store-failed", "certificate-refused", "token-refused", "joined-after-snapshot"}
# Which schemas say how one machine is: 90-api.sh meets their members, whatever their values are.
OF_A_MACHINE = ("LocalOperation", "Slot", "Snapshot", "Status", "Step", "Rescue")
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}
failed = 0


def check(what, good, why=""):
    global failed
    failed += not good
    print(f"ok: {what}" if good else f"NOT OK: {what}: {why}", flush=True)


def same(what, expected, found):
    check(what, expected == found, f"expected {expected!r}, found {found!r}")


# --- JSON Schema, as far as the description uses it ---

def misfit(value, schema, at="body"):
    """What is wrong with it, or None."""
    if "$ref" in schema:
        return misfit(value, SCHEMAS[schema["$ref"].rsplit("/", 1)[1]], at)
    if "oneOf" in schema:
        found = [misfit(value, s, at) for s in schema["oneOf"]]
        return None if found.count(None) == 1 else f"{at} fits {found.count(None)} of {len(found)}: {found}"
    strange = set(schema) - {"type", "properties", "required", "additionalProperties", "items", "enum", "pattern", "minimum",
                             "maximum", "maxItems", "format", "description"}
    if strange:
        return f"{at}: the schema says {strange}, which this test does not know"
    types = types_of(schema)
    if not any(isinstance(value, TYPES[t]) and (t == "boolean") == isinstance(value, bool) for t in types):
        return f"{at} is {value!r}, not {types}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{at} is {value!r}, none of {schema['enum']}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{at} is {value!r}, which {schema['pattern']} does not match"
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{at} is {value}"
    if isinstance(value, dict):
        missing = set(schema["required"]) - set(value)
        unknown = set() if schema["additionalProperties"] else set(value) - set(schema["properties"])
        if missing or unknown:
            return f"{at} lacks {missing}, and has {unknown}, which is not described"
        known = {k: v for k, v in value.items() if k in schema["properties"]}
        return next(filter(None, (misfit(v, schema["properties"][k], f"{at}.{k}") for k, v in known.items())), None)
    if isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            return f"{at} has {len(value)} items"
        return next(filter(None, (misfit(v, schema.get("items"), f"{at}[{i}]") for i, v in enumerate(value))), None)
    return None


def types_of(schema):
    return schema["type"] if isinstance(schema["type"], list) else [schema["type"]]


def members(schema, name):
    """All that a value can have: as `met` has it."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        schema = SCHEMAS[name]
    if "oneOf" in schema:
        return set().union(*(members(s, name) for s in schema["oneOf"]))
    found = {f"{name} {t}" for t in types_of(schema) if t not in ("array", "object")}
    if len(schema.get("enum", [])) > 1 and not name.endswith("kind"):  # those of errors are counted apart
        found |= {f"{name} = {v}" for v in schema["enum"]}
    for k, v in schema.get("properties", {}).items():
        found |= members(v, f"{name}.{k}")
    return found | (members(schema["items"], f"{name}[]") if "items" in schema else set())


def met(value, schema, name):
    """What of that such a value has, which fits."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        schema = SCHEMAS[name]
    if "oneOf" in schema:
        return next(met(value, s, name) for s in schema["oneOf"] if misfit(value, s) is None)
    if isinstance(value, dict):
        return set().union(*(met(v, schema["properties"][k], f"{name}.{k}") for k, v in value.items() if k in schema["properties"]))
    if isinstance(value, list):
        return set().union(*(met(v, schema.get("items"), f"{name}[]") for v in value))
    found = {f"{name} {t}" for t in types_of(schema) if isinstance(value, TYPES[t]) and (t == "boolean") == isinstance(value, bool)}
    return found | ({f"{name} = {value}"} if f"{name} = {value}" in members(schema, name) else set())


def all_members():
    """Of each answer that is described, and of what nodes say and are told."""
    found = set().union(*(members({"$ref": f"#/components/schemas/{name}"}, name) for name in ("NodeView", "NodeStatus", "Vote")))
    for path, methods in OPENAPI["paths"].items():
        for method, spec in methods.items():
            for answer in spec["responses"].values():
                answer = OPENAPI["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]] if "$ref" in answer else answer
                for kind, content in answer.get("content", {}).items():
                    if kind == "application/json":
                        found |= members(content["schema"], f"{method.upper()} {path}")
    return found


def of_a_machine(found):
    """Of these the members of such schemas that hold something, without what that may be."""
    return {x.split()[0] for x in found if x.split(".")[0] in OF_A_MACHINE and not x.endswith(" null")}


def note(file, lines):
    with open(W / file, "a") as f:
        f.writelines(f"{line}\n" for line in lines)


def noted(file):
    return set((W / file).read_text().splitlines()) if (W / file).exists() else set()


def fit(value, schema, name):
    """What is wrong with it, or None: then its members are met."""
    why = misfit(value, schema)
    if why is None:
        note("met", met(value, schema, name))
    return why


def template_of(path):
    return next((t for t in OPENAPI["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", t), path)), None)


def described(method, path, status):
    """The media types that the description has for an answer, or None."""
    template = template_of(path)
    if not template:
        return OPENAPI["components"]["responses"][f"E{status}"]["content"] if status in (401, 404) else None
    methods = OPENAPI["paths"][template]
    answer = methods.get(method.lower(), next(iter(methods.values())))["responses"].get(str(status))
    if answer and "$ref" in answer:
        answer = OPENAPI["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    return answer and answer.get("content", {})


# --- asking ---

class Client:
    def __init__(self, certificate=None, token=None, source=None):
        self.context = ssl.create_default_context(cafile=W / "ca.pem")
        if certificate:
            self.context.load_cert_chain(W / f"{certificate}.pem", W / f"{certificate}.key")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.source = source

    def connect(self, timeout=60):
        return http.client.HTTPSConnection("127.0.0.1", PORT, context=self.context, timeout=timeout,
                                           source_address=self.source and (self.source, 0))

    def ask(self, method, path, body=None, headers=None):
        """Status and body, which must be as described."""
        c = self.connect()
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        try:
            c.request(method, path, data, {**self.headers, **(headers or {})})
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass  # it has answered before it had everything
        answer = c.getresponse()
        text, kind = answer.read(), answer.headers.get_content_type()
        self.answer = answer.headers
        c.close()
        content = described(method, path, answer.status)
        value = text if kind == "application/octet-stream" else text.decode()
        if content is None:
            why = "this status is not described"
        elif not content:
            why = f"it has a body of {len(text)} bytes" if text else None
        else:
            why = None if kind in content else f"it is {kind}"
            if kind == "application/json":
                value = json.loads(text)
                why = why or fit(value, content[kind]["schema"], f"{method} {template_of(path)}")
        note("statuses", [f"{method} {template_of(path)} {answer.status}"])
        if why:
            check(f"{method} {path}: {answer.status} is as described", False, f"{why}: {text[:300]!r}")
        return answer.status, value

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, body, headers=None):
        return self.ask("POST", path, body, headers)


def operator():
    return Client("operator")


def refused(what, status, kind, answer):
    note("kinds", [kind])
    same(f"{what}: {kind}", (status, kind), (answer[0], answer[1].get("kind") if isinstance(answer[1], dict) else answer[1]))


def events(client, headers=None):
    c = client.connect()
    c.request("GET", "/api/events", headers={**client.headers, **(headers or {})})
    return c, c.getresponse()


def next_event(answer, names=("operation", "status")):
    """id, name, data of the next event of these names."""
    event = {}
    while True:
        line = answer.readline().decode()
        if not line:
            raise EOFError("the stream ended")
        if line == "\n":
            if event.get("event") in names:
                return event["id"], event["event"], json.loads(event["data"])
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.rstrip("\n").partition(": ")
            event[name] = value


def metrics(client):
    """What a parser that is not ours makes of /metrics: ({name: family}, {(name, labels...): value}, the text)."""
    from prometheus_client.parser import text_string_to_metric_families
    text = client.get("/metrics")[1]
    families = {f.name: f for f in text_string_to_metric_families(text)}
    return families, {(s.name, *sorted(s.labels.items())): s.value for f in families.values() for s in f.samples}, text


def checked_metrics(client):
    families, samples, text = metrics(client)
    same("each line of /metrics was understood", len([x for x in text.splitlines() if x and x[0] != "#"]), len(samples))
    same("every metric has a help text", [], [f.name for f in families.values() if not f.documentation])
    same("every counter is called so", [], [f.name for f in families.values() if f.type == "unknown"])
    return families, samples
