#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a controller for all that docs/openapi.json has of a cluster: controller_api.py DIRECTORY PORT OPENAPI, for
90-controller-api.sh, which made certificates, members and what is over. Prints a line for each check, "ok: ..." or "NOT OK: ..."."""
import base64
import concurrent.futures
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

sys.dont_write_bytecode = True
from openapi import (  # noqa: E402
    OF_A_CLUSTER, OF_A_MACHINE, OPENAPI, SCHEMAS, W, Client, all_members, check, checked_metrics, events, fit, next_event, note,
    noted, operator, refused, same)

NODE = "/api/cluster/node/"
FORMAT = {"format": 1, "minor": 0}
# Of any path, before it is looked at, or where the machine fails: 90-api.sh meets them.
GENERAL = {"413", "429", "500", "503", "507"}
# What no controller of this test can say.
ELSEWHERE = {
    r"(Node|OperationNode|Runtime)\.role = standalone": "a machine that stands alone: 90-api.sh",
    r"Runtime\.role = engine": "an engine's own interface",
    r"(Runtime\.status|GET /api/cluster/upgrade/status) null": "a machine without a record, or before its first operation",
    r"(Operation\.(start|from_version|to_version)|DryRun\.to_version|Version\.version) null":
        "a machine on which bootmgr has installed nothing",
    r"(FailedNode\.reason|Check\.message|RefusedVersion\.digest) null": "what has none is not made any more",
    r"Operation\.(fallback|superseded_by|source|to_slot|from_slot) string": "of one machine",
}
UNKNOWN = Client("former")  # a certificate of the cluster, and no member


def identifier(n):
    return f"{n:032x}"


def bootmgr(*words):
    return json.loads(subprocess.run([W / "bootmgr-image", *words, "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout)


def until(what, told, seconds=60):
    """Waits for what comes by itself, and is told what it was at last."""
    end = time.monotonic() + seconds
    while not (found := told()) and time.monotonic() < end:
        time.sleep(0.1)
    check(what, found, "it did not come")
    return found


def csr(name, key):
    return subprocess.run(["openssl", "req", "-new", "-key", W / f"{key}.key", "-subj", f"/CN={name}"], stdout=subprocess.PIPE,
                          check=True, text=True).stdout


def new_key(name):
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", W / f"{name}.key"], check=True)
    return csr(name, name)


class View:
    """The stream of what a node is told."""
    def __init__(self, name):
        self.connection = Client(name).connect()
        self.connection.request("GET", NODE + "view")
        self.answer = self.connection.getresponse()
        note("statuses", [f"GET {NODE}view {self.answer.status}"])
        self.last = None

    def line(self):
        """The next that says something new. Which status of it the store has is told when it is time for a comment, whenever that is."""
        schema = OPENAPI["paths"][NODE + "view"]["get"]["responses"]["200"]["content"]["text/event-stream"]["x-data"]
        while True:
            line = self.answer.readline().decode()
            if not line:
                raise EOFError("the stream ended")
            if line.startswith("data: "):
                told = json.loads(line[len("data: "):])
                same("a line of the view is as described", None, fit(told, schema, "NodeView"))
                news = [told["cluster"], told["operation"], told["controllers"], {**told["you"], "status": None}]
                if news != self.last:
                    self.last = news
                    return told


def why_no_view(name):
    c = Client(name).connect()
    c.request("GET", NODE + "view")
    answer = c.getresponse()
    kind = json.loads(answer.read())["kind"] if answer.status != 200 else None
    c.close()
    return kind


def say(name, epoch, version, settled=True, **more):
    """The status of a node; what is sent must be as described, too."""
    status = {**FORMAT, "epoch": epoch, "settled": settled, "confirmed": True, "running": version, "generation": 7, **more}
    same(f"what {name} says is as described", None, fit(status, SCHEMAS["NodeStatus"], "NodeStatus"))
    same(f"{name} says what it runs", 200, Client(name).post(NODE + "status", {"status": status})[0])


def vote(name, operation, **words):
    same(f"what {name} votes is as described", None, fit({**FORMAT, **words}, SCHEMAS["Vote"], "Vote"))
    return Client(name).post(NODE + "vote", {"operation": operation, "vote": {**FORMAT, **words}})


# --- the parts ---

def part_nodes(o, stream):
    told = stream.line()
    same("the engine is told who it is", ("engine", True, False), (told["you"]["role"], told["you"]["member"], told["you"]["fenced"]))
    running = told["cluster"]["running"]
    same("who listens is known", {"nodes": ["e1"]}, Client("e2").get(NODE + "connected")[1])
    clock = Client("e1").get(NODE + "time")[1]
    check("the time is ours", abs(clock["now_usec"] / 1e6 - time.time()) < 60 and clock["received_usec"] <= clock["now_usec"], clock)
    say("e1", 4, running)
    say("e2", 4, running)
    e4 = View("e4")
    e4.line()
    say("e4", 4, {**running, "version": "1", "digest": "1" * 64}, message="somebody took it off")

    until("the controller has arrived", lambda: o.get("/api/cluster/nodes")[1]["nodes"][0]["state"] == "up")
    families, samples = checked_metrics(o)
    same("a metric: the epoch", 4, samples[("bootmgr_epoch",)])
    same("a metric: who listens", 2, samples[("bootmgr_connected_nodes",)])
    same("a metric: the slot that runs", 1, sum(s.value for s in families["bootmgr_slot_running"].samples))
    say("e5", 4, None, settled=False, message=None)
    states = {n["name"]: n["state"] for n in o.get("/api/cluster/nodes")[1]["nodes"]}
    same("how the nodes stand", {"c1": "up", "e1": "up", "e2": "off", "e3": "silent", "e4": "behind", "e5": "switching",
                                 "late": "fenced"}, states)
    same("an engine is told the same", states, {n["name"]: n["state"] for n in Client("e1").get("/api/cluster/nodes")[1]["nodes"]})
    same("the version is that of the cluster's epoch", 4, o.get("/api/cluster/version")[1]["epoch"])
    same("of this controller", ("c1", "controller"), (lambda r: (r["name"], r["role"]))(o.get("/api/cluster/runtime")[1]))


def part_status_words(o, _):
    """What no node may say."""
    e1, good = Client("e1"), {**FORMAT, "epoch": 4, "settled": True, "confirmed": True, "generation": 7}
    for path, body in ((NODE + "vote", {"operation": "x"}), (NODE + "status", {"status": {}})):
        refused(f"POST {path} of nonsense", 400, "usage", e1.post(path, body))
        refused(f"POST {path} of too much", 413, "too-large", e1.post(path, " " * 70000))
        refused(f"POST {path} of an operator", 403, "not-authorized", o.post(path, body))
        refused(f"POST {path} of nobody", 401, "not-authenticated", Client().post(path, body))
        refused(f"POST {path} of no member", 403, "not-authorized", UNKNOWN.post(path, body))
        refused(f"POST {path} of a fenced one", 409, "joined-after-snapshot", Client("late").post(path, body))
    refused("an epoch that this controller has not heard of", 500, "store-failed",
            e1.post(NODE + "status", {"status": {**good, "epoch": 5}}))
    refused("a vote in an operation that it has not heard of", 500, "store-failed",
            e1.post(NODE + "vote", {"operation": identifier(77), "vote": {**FORMAT, "yes": True}}))


def part_refusals(o, _):
    """Of every path: who is not known, who is no member, who is fenced, another method."""
    for path, methods in OPENAPI["paths"].items():
        method, spec = next(iter(methods.items()))
        method, body = method.upper(), "{}" if "post" in methods else None
        asked = path.replace("{name}", "e3").replace("{digest}", "a" * 64)
        refused(f"DELETE or GET {path}", 405, "method-not-allowed", o.ask("DELETE" if method != "DELETE" else "GET", asked, None))
        note("statuses", [f"{method} {path} 405"])
        if spec.get("security") == []:
            continue
        refused(f"{method} {path} of nobody", 401, "not-authenticated", Client().ask(method, asked, body))
        if "403" in spec["responses"]:
            refused(f"{method} {path} of no member", 403, "not-authorized", UNKNOWN.ask(method, asked, body))
        if "409" in spec["responses"]:
            who = Client("late").ask(method, asked, body)
            needs_more = method in ("POST", "DELETE") and "node/" not in path and "renew" not in path
            refused(f"{method} {path} of a fenced one", *((403, "not-authorized") if needs_more else (409, "joined-after-snapshot")), who)
    same("but why it is refused", ["fenced"],
         [n["state"] for n in Client("late").get("/api/cluster/nodes")[1]["nodes"] if n["name"] == "late"])
    for path in (NODE + "view", NODE + "time", NODE + "connected"):
        refused(f"GET {path} of an operator", 403, "not-authorized", o.get(path))


def part_rollback(o, stream):
    path, id = "/api/cluster/rollback", identifier(20)
    status, checks = o.post(path, {"prechecks_only": True})
    same("the checks allow it, and say who would be fenced", (200, True, ["e5"]), (status, checks["allowed"], checks["fenced"]))
    refused("no id", 400, "usage", o.post(path, {}))
    refused("what is of one machine", 400, "usage", o.post(path, {"id": id, "no_reboot": True}))
    refused("a lead of hours", 400, "usage", o.post(path, {"id": id, "lead_sec": 7200}))
    refused("no time to answer", 400, "usage", o.post(path, {"id": id, "prepare_limit_sec": 0}))
    words = {"id": id, "engines": "rolling", "max_unavailable": 2, "prepare_limit_sec": 50, "switch_limit_sec": 70, "lead_sec": 3}
    status, op = o.post(path, words)
    same("a rollback is opened", (202, id, "ROLLBACK", "IN_PROGRESS"), (status, op.get("id"), op.get("operation"), op.get("state")))
    told = stream.line()
    same("the engine is told", (id, "rolling"), (told["operation"]["id"], told["operation"]["engines"]))
    same("with the times", [50000000, 70000000, 3000000],
         [told["operation"][k] for k in ("prepare_limit_usec", "switch_limit_usec", "lead_usec")])
    same("a vote", 200, vote("e1", id, yes=False, kind="snapshot-missing", message="there is no snapshot", clock_error_usec=1200)[0])
    same("another", 200, vote("e2", id, yes=True, kind=None, message=None, clock_error_usec=800)[0])
    until("the controller votes by itself", lambda: "3 of" in (o.get("/api/cluster/upgrade/status")[1]["steps"][1]["message"] or ""))
    own = store_get(f"bootmgr/votes/{id}/c1")
    same("and names by how much its clock may be off: it is the only one", (True, 0), (own["yes"], own["clock_error_usec"]))
    op = o.get("/api/cluster/upgrade/status")[1]
    nodes = {n["name"]: (n["role"], n["state"], n["message"]) for n in op["nodes"]}
    same("each node has a row", [("engine", "FAILED", "there is no snapshot"), ("engine", "IN_PROGRESS", None)], [nodes["e1"], nodes["e2"]])
    check("who lags is named", {"name": "e1", "reason": "there is no snapshot"} in op["nodes_failed"], op["nodes_failed"])
    refused("another operation meanwhile", 409, "operation-in-progress", o.post(path, {"id": identifier(21)}))
    refused("an upgrade meanwhile", 409, "operation-in-progress",
            o.post("/api/cluster/upgrade", {"id": identifier(22), "source": str(W / "3.bundle")}))
    refused("the end of the way back meanwhile", 409, "operation-in-progress", o.post("/api/cluster/finalize", {"id": identifier(23)}))
    refused("to delete a node meanwhile", 409, "operation-in-progress", o.ask("DELETE", "/api/cluster/nodes/e3"))
    refused("the checks say so, too", 409, "operation-in-progress", (409, o.post(path, {"prechecks_only": True})[1]))
    refused("the id of another request", 409, "id-reused", o.post("/api/cluster/abort", {"id": id}))
    c, events_of = events(o)
    next_event(events_of, ("operation",))
    start = time.monotonic()
    same("one more vote", 200, vote("e4", id, yes=True, kind=None, message=None, clock_error_usec=800)[0])
    until("the stream of events counts it", lambda: "4 of" in (next_event(events_of, ("operation",))[2]["steps"][1]["message"] or ""))
    took = time.monotonic() - start
    check("soon", took < 8, f"it took {took:.1f} s")
    c.close()
    done = o.post("/api/cluster/abort", {"id": identifier(24)})
    same("an abort", (200, {"id": identifier(24), "epoch": 4, "result": "done"}), done)
    same("is told to who repeats it", done, o.post("/api/cluster/abort", {}, {"Idempotency-Key": identifier(24)}))
    same("and the rollback to who repeats that", (200, "ABORTED"), (lambda a: (a[0], a[1].get("state")))(o.post(path, words)))
    refused("with other words it is another request", 409, "id-reused", o.post(path, {**words, "max_unavailable": 1}))
    refused("nothing to abort", 400, "usage", o.post("/api/cluster/abort", {"id": identifier(25)}))
    same("the engine is told that it is over", None, stream.line()["operation"])
    history = o.get("/api/cluster/upgrade/history")[1]["operations"]
    same("the history", [("ABORTED", id), ("PARTIAL", identifier(9)), ("FAILED", identifier(6)), ("DONE", identifier(7))],
         sorted(((h["state"], h["id"]) for h in history), key=lambda h: ["ABORTED", "PARTIAL", "FAILED", "DONE"].index(h[0])))
    same("all of whose nodes would be too long for an answer", [[]] * 4, [h["nodes"] for h in history])
    check("who failed is named", "e3" in [n["name"] for h in history if h["state"] == "PARTIAL" for n in h["nodes_failed"]], str(history))


def while_busy(o, path, words):
    """What was asked for before is told as well, and told apart, while a worker of the daemon is at work: it waits for a server."""
    hanging = socket.create_server(("127.0.0.1", 0))
    hanging.settimeout(30)
    busy = {"id": identifier(34), "source": f"http://127.0.0.1:{hanging.getsockname()[1]}/5.bundle"}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(o.post, path, busy)
        connection = hanging.accept()[0]
        try:
            refused("a new one finds it at work", 409, "operation-in-progress", o.post(path, {**words, "id": identifier(35)}))
            same("repeated, it is told", (200, words["id"]), (lambda a: (a[0], a[1].get("id")))(o.post(path, words)))
            refused("but not with other options", 409, "id-reused", o.post(path, {**words, "strict": False}))
            refused("nor is what is under way", 409, "id-reused", o.post(path, {**busy, "strict": True}))
        finally:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()
            hanging.close()
        refused("the server has none", 502, "fetch-failed", waiting.result())


def part_upgrade(o, stream):
    path, id = "/api/cluster/upgrade", identifier(30)
    refused("no bundle", 400, "usage", o.post(path, {"id": id}))
    refused("one that is not there", 502, "fetch-failed", o.post(path, {"id": id, "source": str(W / "none")}))
    refused("one that nobody knows", 422, "bundle-untrusted", o.post(path, {"id": id, "source": str(W / "untrusted.bundle")}))
    refused("an updater", 400, "usage", o.post(path, {"id": id, "source": str(W / "3.bundle"), "automatic": True}))
    refused("in turn, and all at once", 400, "usage",
            o.post(path, {"id": id, "source": str(W / "3.bundle"), "engines": "rolling", "one_instant": True}))
    c, events_of = events(o)
    note("statuses", [f"GET /api/events {events_of.status}"])
    next_event(events_of)
    next_event(events_of)
    status, op = o.post(path, {"id": id, "source": str(W / "3.bundle"), "strict": True})
    same("an upgrade is opened", (202, id, "UPGRADE", "3"), (status, op.get("id"), op.get("operation"), op.get("to_version")))
    told = stream.line()
    same("the engine is told", (id, True, "UPGRADE"), (told["operation"]["id"], told["operation"]["strict"], told["operation"]["kind"]))
    digest = told["operation"]["to"]["digest"]
    seen = until("the stream of events tells of it", lambda: [d for _, _, d in [next_event(events_of, ("operation",))] if d["id"] == id])
    same("as it is described", None, fit(seen[0], SCHEMAS["Operation"], "Operation"))
    c.close()
    words = {"id": id, "source": str(W / "3.bundle"), "strict": True}
    same("repeated", (202, id), (lambda a: (a[0], a[1].get("id")))(o.post(path, words)))
    refused("with another bundle", 409, "id-reused", o.post(path, {**words, "source": str(W / "4.bundle")}))
    for other in ({"strict": False}, {"one_instant": True}, {"engines": "rolling"}, {"engines": "rolling", "max_unavailable": 2}):
        refused(f"with {other}", 409, "id-reused", o.post(path, {**words, **other}))
    whole, bundle = (W / "3.bundle").read_bytes(), f"/api/cluster/bundles/{digest}"
    start = time.monotonic()
    same("the bundle is there for nodes", (200, whole), Client("e1").get(bundle))
    took = time.monotonic() - start
    check("a megabyte of it within 10 s", took < 10, f"it took {took:.1f} s")
    same("in ranges", (206, whole[10:20]), Client("e1").ask("GET", bundle, None, {"Range": "bytes=10-19"}))
    same("that are in it", 416, Client("e1").ask("GET", bundle, None, {"Range": f"bytes={len(whole)}-"})[0])
    refused("another is not", 404, "not-found", Client("e1").get("/api/cluster/bundles/" + "a" * 64))
    refused("nor what is no digest", 404, "not-found", Client("e1").get("/api/cluster/bundles/x"))
    same("aborted", 200, o.post("/api/cluster/abort", {"id": identifier(31)})[0])
    stream.line()
    same("repeated, it is told how it has ended", (200, "ABORTED"),
         (lambda a: (a[0], a[1].get("state")))(o.post(path, words)))
    while_busy(o, path, words)
    refused("a finalize without an id", 400, "usage", o.post("/api/cluster/finalize", {}))
    same("finalized", (200, {"id": identifier(32), "epoch": 4, "result": "done"}), o.post("/api/cluster/finalize", {"id": identifier(32)}))
    refused("the id of that for a rollback", 409, "id-reused", o.post("/api/cluster/rollback", {"id": identifier(32)}))
    refused("there is no way back any more", 409, "finalized", o.post("/api/cluster/rollback", {"id": identifier(33)}))
    status, checks = o.post("/api/cluster/rollback", {"prechecks_only": True})
    same("which the checks say, too", (200, False), (status, checks["allowed"]))
    until("this node gives it up, too", lambda: o.get("/api/cluster/version")[1]["previous_version"] is None)
    same("the engine is told", (True, "finalize"), (lambda r: (r["finalized"], r["origin"]))(stream.line()["cluster"]))


def part_members(o, _):
    join, renew, anybody = "/api/cluster/join", "/api/cluster/renew", Client()
    token = bootmgr("cluster", "token")["token"]
    body = {"token": token, "name": "e6", "csr": new_key("e6")}
    refused("no token", 409, "token-refused", anybody.post(join, {**body, "token": token[:-66] + "0" * 66}))
    refused("no certificate request", 409, "certificate-refused", anybody.post(join, {**body, "csr": "nonsense"}))
    refused("a name that is taken", 400, "usage", anybody.post(join, {**body, "name": "e1", "csr": csr("e1", "e6")}))
    refused("a name that is fenced", 409, "joined-after-snapshot", anybody.post(join, {**body, "name": "late", "csr": csr("late", "e6")}))
    refused("what nobody knows", 400, "usage", anybody.post(join, {**body, "role": "controller"}))
    status, joined = anybody.post(join, body)
    same("an engine joins", (200, "e6", "engine", 4), (status, joined.get("name"), joined.get("role"), joined.get("epoch")))
    same("again", (200, joined["ca"]), (lambda a: (a[0], a[1].get("ca")))(anybody.post(join, body)))
    (W / "e6.pem").write_text(joined["certificate"])
    same("its certificate is good", 200, Client("e6").get(NODE + "time")[0])
    status, renewed = Client("e6").post(renew, {"csr": csr("e6", "e6")})
    same("it is renewed", (200, "e6", "engine"), (status, renewed.get("name"), renewed.get("role")))
    refused("no request", 409, "certificate-refused", Client("e6").post(renew, {"csr": "nonsense"}))
    refused("nothing", 400, "usage", Client("e6").post(renew, {}))
    refused("another's", 403, "not-authorized", Client("e6").post(renew, {"csr": csr("e1", "e6")}))
    same("the CA is for anyone", (200, joined["ca"]), anybody.get("/api/cluster/ca"))
    same("it is deleted", (200, {"result": "done"}), o.ask("DELETE", "/api/cluster/nodes/e6", None, {"Idempotency-Key": identifier(40)}))
    same("again", 200, o.ask("DELETE", "/api/cluster/nodes/e6", None, {"Idempotency-Key": identifier(40)})[0])
    refused("another with that id", 409, "id-reused", o.ask("DELETE", "/api/cluster/nodes/e3", None, {"Idempotency-Key": identifier(40)}))
    refused("it is gone", 404, "not-found", o.ask("DELETE", "/api/cluster/nodes/e6"))
    refused("itself", 400, "usage", o.ask("DELETE", "/api/cluster/nodes/c1"))
    refused("a token that reads", 403, "not-authorized", Client(token="reading-token").ask("DELETE", "/api/cluster/nodes/e3"))
    refused("its certificate is none any more", 403, "not-authorized", Client("e6").get(NODE + "time"))


def part_controller_joins(*_):
    """The last of those who join: from here on the store waits for an etcd that never starts."""
    body = {"token": bootmgr("cluster", "token", "--role", "controller")["token"], "name": "c2", "csr": new_key("c2"),
            "addresses": ["127.0.0.2"], "url": "https://127.0.0.2:8443", "store_csr": csr("c2", "c2")}
    status, joined = Client().post("/api/cluster/join", body)
    same("a controller joins", (200, "c2", "controller"), (status, joined.get("name"), joined.get("role")))


def ask_store(what, **words):
    c = ssl.create_default_context(cafile=W / "data/cluster/store-ca.pem")
    c.load_cert_chain(W / "data/cluster/store.pem", W / "data/cluster/store.key")
    url = (W / "data/cluster/store.endpoints").read_text().splitlines()[0]
    body = {k: base64.b64encode(v.encode()).decode() for k, v in words.items()}
    with urllib.request.urlopen(f"{url}/v3/kv/{what}", json.dumps(body).encode(), 20, context=c) as answer:
        return json.load(answer)


def store_put(key, value):
    """As a controller that has decided so does."""
    ask_store("put", key=key, value=json.dumps(value))


def store_get(key):
    return json.loads(base64.b64decode(ask_store("range", key=key)["kvs"][0]["value"]))


def part_phases(o, _):
    """How an operation goes on that no controller of this test can finish: the second is silent. And each origin of a record."""
    stream = View("c1")
    record = stream.line()["cluster"]
    for origin, words in (("init", {"operation": None, "previous": None}), ("go-back", {}), ("follow", {})):
        store_put("bootmgr/record", {**record, "origin": origin, **words})
        same(f"a record of {origin} is told", origin, stream.line()["cluster"]["origin"])
    far = 4102444800000000
    op = {**FORMAT, "id": identifier(60), "kind": "UPGRADE", "result": "IN_PROGRESS", "from": record["running"], "to": record["running"],
          "epoch": record["epoch"], "strict": False, "one_instant": False, "engines": "together", "max_unavailable": 1,
          "deadline_usec": far, "switch_limit_usec": far // 2, "lead_usec": 1, "before": {**record, "epoch": record["epoch"] - 1}}
    for phase in ("CONTROLLERS", "ENGINES", "TAKE_BACK"):
        store_put("bootmgr/operation", {**op, "phase": phase})
        same(f"the phase {phase} is told", phase, stream.line()["operation"]["phase"])
        until("who is there is through with it", lambda: "DONE" in [n["state"] for n in o.get("/api/cluster/upgrade/status")[1]["nodes"]])


def part_without_store(o, _):
    """What asks a store that does not answer says so; what this node did itself is not taken for what the cluster does."""
    etcd = int((W / "etcd.pid").read_text())
    os.kill(etcd, signal.SIGSTOP)
    asked = [("GET", "/api/cluster/nodes", None), ("POST", "/api/cluster/rollback", {"prechecks_only": True}),
             ("POST", "/api/cluster/rollback", {"id": identifier(50)}), ("DELETE", "/api/cluster/nodes/e3", None),
             ("GET", "/api/cluster/upgrade/status", None), ("GET", "/api/cluster/upgrade/history", None)]
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answers = [(f"{method} {path}", pool.submit(o.ask, method, path, body)) for method, path, body in asked]
            own = pool.submit(o.get, "/api/cluster/runtime")
            for what, answer in answers:
                refused(f"{what} without a store", 500, "store-failed", answer.result())
            same("what this node itself does is told", (200, "c1"), (own.result()[0], own.result()[1]["name"]))
        until("nodes are sent elsewhere", lambda: why_no_view("e1") == "store-failed")
    finally:
        os.kill(etcd, signal.SIGCONT)
    until("and are told again, when the store is there", lambda: why_no_view("e1") is None)


def part_all_met(o, _):
    """Nothing is described that is not met."""
    for path in ("/metrics", "/healthz", "/api/cluster/runtime"):
        same(f"GET {path}", 200, o.get(path)[0])
    of_alone = {f"{method.upper()} {path} 404" for path, methods in OPENAPI["paths"].items() for method, spec in methods.items()
                if spec.get("x-of-nodes") or path == "/api/cluster/ca"}
    statuses = {f"{method.upper()} {path} {status}" for path, methods in OPENAPI["paths"].items()
                for method, spec in methods.items() for status in spec["responses"] if status not in GENERAL}
    same("each status of each path was met", set(), statuses - of_alone - noted("statuses"))
    unmet = {x for x in all_members() - noted("met") if not any(re.fullmatch(p, x) for p in ELSEWHERE)}
    same("each member that is described was met", [], sorted(x for x in unmet if x.split(".")[0] not in OF_A_MACHINE))
    same("each kind of error that only a cluster has was met", set(), OF_A_CLUSTER - noted("kinds"))


def main():
    o, stream = operator(), View("e1")
    for part in (part_nodes, part_status_words, part_refusals, part_rollback, part_upgrade, part_members, part_without_store,
                 part_controller_joins, part_phases, part_all_met):
        start = time.monotonic()
        part(o, stream)
        print(f"# {part.__name__}: {time.monotonic() - start:.1f} s", flush=True)


main()
