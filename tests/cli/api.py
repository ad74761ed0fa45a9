#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a bootmgrd as its users and its enemies do: api.py DIRECTORY PORT OPENAPI PART

DIRECTORY holds the certificates, tokens and bundles of 90-api.sh. Prints a line for each check, "ok: ..." or "NOT OK: ...".

  documented   every path answers with what docs/openapi.json says, and with nothing else; /metrics and /api/events
  rights       who may do what
  requests     upgrade, abort, rollback, finalize: once each, however often they are asked for
  kinds        refusals of a machine that has a way back; then: each kind of error was met, or cannot be from outside
  hostile      what is too much, too slow, or no HTTP
"""
import concurrent.futures
import http.client
import json
import os
import re
import socket
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
import wire  # noqa: E402
from openapi import (  # noqa: E402
    OF_A_CLUSTER, OPENAPI, PORT, SCHEMAS, W, Client, all_members, check, checked_metrics, events, fit, metrics, next_event, noted,
    of_a_machine, operator, refused, same)

PART = sys.argv[4]
# The interface passes on what `bootmgr` says: these kinds are met on its command line (tests/cli), by the same words.
PASSED_ON = {"previous-not-bootable", "previous-altered", "below-floor", "version-refused", "too-many-rollbacks", "slot-in-use",
             "slot-not-bootable", "loader-would-not-choose", "configuration-path", "configuration-invalid", "no-space",
             "no-bootmgr-machine", "state-unreadable", "esp-unusable", "content-mismatch"}
# What this machine has no reason to say.
MET_ELSEWHERE = {"LocalOperation.superseded_by": "81-way-back.sh", "LocalOperation.fallback": "27-delta.sh",
                 "LocalOperation.end": "50-output.sh", "LocalOperation.reason": "50-output.sh", "Slot.root_hash": "26-verity.sh",
                 "Slot.tries_left": "30-circle.sh", "Status.notes[]": "62-rescue.sh", "Status.refused": "90-controller-api.sh"}
# Of verbs that no path of the interface runs, or of the boot.
UNREACHABLE = {"disk-not-empty": "init", "not-on-trial": "no verb says it", "hook-failed": "migration hooks, at boot",
               "unhealthy": "health checks, at boot", "degraded": "the degraded target, at boot",
               **{k: "a controller's: 90-controller-api.sh" for k in OF_A_CLUSTER}}


def run(*words):
    import subprocess
    p = subprocess.run([W / "bootmgr-image", *words, "--json"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    return json.loads(p.stdout)


def put_program(text):
    """What runs just now cannot be written to."""
    new = W / "bootmgr-image.new"
    new.write_text(text)
    new.chmod(0o755)
    new.replace(W / "bootmgr-image")


def identifier(n):
    return f"{n:032x}"


# --- the parts ---

def part_documented():
    o = operator()
    for path, methods in OPENAPI["paths"].items():
        if "get" not in methods or path == "/api/events":
            continue
        if methods["get"].get("x-of-nodes"):
            refused(f"GET {path} of a machine that stands alone", 404, "not-found", o.get(path.replace("{digest}", "a" * 64)))
            continue
        status, body = o.get(path)
        same(f"GET {path}", 200, status)
        same(f"HEAD {path}", (200, ""), head(o, path))
    same("the nodes are those that `bootmgr show nodes` prints", run("show", "nodes"), o.get("/api/cluster/nodes")[1])
    local = run("show", "upgrade", "status")
    _, remote = o.get("/api/cluster/upgrade/status")
    same("the status, as one machine has it", local, {k: v for k, v in remote.items() if k in local})
    same("and what a cluster has besides", ["epoch", "nodes", "nodes_failed"], sorted(set(remote) - set(local)))
    _, runtime = o.get("/api/cluster/runtime")
    same("the runtime holds what `bootmgr status` prints", run("status"), runtime["status"])
    for path in ("/", "/api", "/api/cluster/nodes/", "/api/cluster/nodes/a/b", "/metrics/", "/healthz2", "//healthz"):
        refused(f"GET {path}", 404, "not-found", o.get(path))
    for path, methods in OPENAPI["paths"].items():
        other = "DELETE" if "delete" not in methods else "GET"
        path = path.replace("{name}", "x").replace("{digest}", "a" * 64)
        refused(f"{other} {path}", 405, "method-not-allowed", o.ask(other, path))
        same(f"{path} says what it takes", next(iter(methods)).upper(), o.answer["Allow"])
    refused("a node that is none", 404, "not-found", o.ask("DELETE", "/api/cluster/nodes/elsewhere"))
    refused("the machine itself", 400, "usage", o.ask("DELETE", f"/api/cluster/nodes/{socket.gethostname()}"))
    refused("no controller lets nobody in", 400, "usage", Client().post("/api/cluster/join", {"token": "x", "name": "x", "csr": "x"}))
    refused("nor renews a certificate", 400, "usage", Client("engine").post("/api/cluster/renew", {"csr": "x"}))
    refused("which is for nodes", 403, "not-authorized", Client(token="operating-token").post("/api/cluster/renew", {"csr": "x"}))
    refused("only", 403, "not-authorized", o.post("/api/cluster/renew", {"csr": "x"}))
    (W / "data/cluster/ca.pem").rename(W / "ca.away")
    refused("no cluster, no CA", 404, "not-found", Client().get("/api/cluster/ca"))
    (W / "ca.away").rename(W / "data/cluster/ca.pem")
    same("which is for anyone", (200, (W / "ca.pem").read_text()), Client().get("/api/cluster/ca"))
    part_metrics(o)
    part_events(o)


def head(client, path):
    c = client.connect()
    c.request("HEAD", path, headers=client.headers)
    answer = c.getresponse()
    return answer.status, answer.read().decode()


def part_metrics(o):
    families, samples = checked_metrics(o)
    status = run("status")
    same("a metric: the generation", status["generation"], samples[("bootmgr_generation",)])
    slots = [dict(s.labels) for s in families["bootmgr_slot_info"].samples]
    same("a metric: the slots", [{"slot": s["name"], "version": s["version"] or "", "state": s["state"]} for s in status["slots"]],
         slots)
    answers = ("bootmgr_http_responses_total", ("code", "2xx"))
    same("it counts", samples[answers] + 1, metrics(o)[1][answers])


def part_events(o):
    c, answer = events(o)
    same("the stream's type", "text/event-stream", answer.headers.get_content_type())
    first = {name: data for _, name, data in (next_event(answer), next_event(answer))}
    same("first how things stand", o.get("/api/cluster/upgrade/status")[1], first.get("operation"))
    same("the status event fits its schema", None, fit(first.get("status"), SCHEMAS["Runtime"], "Runtime"))
    c.close()


def part_rights():
    reading = ["/api/cluster/upgrade/status", "/api/cluster/runtime", "/metrics"]
    changing = [("/api/cluster/rollback", {"prechecks_only": True}), ("/api/cluster/abort", {"id": identifier(1)}),
                ("/api/cluster/finalize", {"id": identifier(1)}), ("/api/cluster/rollback", {"id": identifier(1)}),
                ("/api/cluster/upgrade", {"id": identifier(1), "source": str(W / "2.bundle")})]
    before = run("status")
    readers = {"an engine's certificate": Client("engine"), "a token that reads": Client(token="reading-token")}
    for who, client in readers.items():
        same(f"{who} reads", 200, client.get(reading[0])[0])
        for path, body in changing:
            refused(f"{who}: POST {path}", 403, "not-authorized", client.post(path, body))
        refused(f"{who}: DELETE", 403, "not-authorized", client.ask("DELETE", "/api/cluster/nodes/x"))
    unknown = {"nobody": Client(), "a certificate that has expired": Client("expired"), "of another authority": Client("stranger"),
               "of no known role": Client("nobody"), "that is for servers": Client("server-only"),
               "a token that is none": Client(token="guess"), "an empty token": Client(token="")}
    unknown["an empty token"].headers = {"Authorization": "Bearer "}
    for who, client in unknown.items():
        refused(f"{who}: GET", 401, "not-authenticated", client.get(reading[0]))
        refused(f"{who}: POST", 401, "not-authenticated", client.post(*changing[-1]))
        same(f"{who} is told how", 'Bearer realm="bootmgr"', client.answer["WWW-Authenticate"])
    refused("what is there is for those who are known", 401, "not-authenticated", Client().get("/nothing"))
    same("but for the health", (200, {"status": "ok"}), Client().get("/healthz"))
    for who, client in (("a token that operates", Client(token="operating-token")), ("an operator", operator())):
        status, body = client.post(*changing[0])
        same(f"{who} may ask for the checks", (200, False, "no-previous-version"), (status, body.get("allowed"), body.get("kind")))
    same("nothing was changed", before, run("status"))
    lines = (W / "tokens").read_text()
    (W / "tokens").write_text(lines.replace("updater operate", "updater read"))
    refused("a right that was taken", 403, "not-authorized", Client(token="operating-token").post(*changing[0]))
    (W / "tokens").chmod(0o644)
    refused("a file of tokens that others can read", 401, "not-authenticated", Client(token="reading-token").get(reading[0]))
    (W / "tokens").chmod(0o600)
    (W / "tokens").write_text("nonsense\n" + lines)
    refused("a file that is not understood", 401, "not-authenticated", Client(token="reading-token").get(reading[0]))
    (W / "tokens").write_text(lines)
    same("a file that is mended", 200, Client(token="reading-token").get(reading[0])[0])


def wait_for_end(o, id):
    while True:
        _, body = o.get("/api/cluster/runtime")
        if not body["working"]:
            return o.get("/api/cluster/upgrade/status")[1]
        time.sleep(0.1)


def part_requests():
    o, upgrade = operator(), "/api/cluster/upgrade"
    two, three = str(W / "2.bundle"), str(W / "3.bundle")
    bad = [("no id", {"source": two}), ("no source", {"id": identifier(1)}),
           ("a relative path", {"id": identifier(1), "source": "2.bundle"}),
           ("an unknown member", {"id": identifier(1), "source": two, "force": True}),
           ("an id that is none", {"id": "1", "source": two}),
           ("an id of zeros", {"id": identifier(0), "source": two}),
           ("a number for a boolean", {"id": identifier(1), "source": two, "no_reboot": 1}),
           ("an array", []), ("no JSON", "{"), ("two values", "{}{}"),
           ("a key twice", '{"id":"%s","id":"%s"}' % (identifier(1), identifier(2))),
           ("deep nesting", "[" * 40000), ("a NUL", '{"id":"%s","source":"/x\\u0000y"}' % identifier(1)), ("no UTF-8", b'{"id":"\xff"}')]
    before = run("status")
    for what, body in bad:
        refused(what, 400, "usage", o.post(upgrade, body))
    for more in ({"strict": True}, {"one_instant": True}, {"lead_sec": 5}, {"engines": "rolling"},
                 {"max_unavailable": 2, "engines": "rolling"}):
        refused(f"of a machine that stands alone, {more}", 400, "usage", o.post(upgrade, {"id": identifier(1), "source": two, **more}))
        refused(f"a rollback, {more}", 400, "usage", o.post("/api/cluster/rollback", {"id": identifier(1), **more}))
    refused("two ids that differ", 400, "usage", o.post(upgrade, {"id": identifier(1), "source": two}, {"Idempotency-Key": identifier(2)}))
    refused("a bundle that is not there", 502, "fetch-failed", o.post(upgrade, {"id": identifier(1), "source": str(W / "none")}))
    refused("a bundle that is none", 422, "bundle-invalid", o.post(upgrade, {"id": identifier(1), "source": str(W / "2.altered")}))
    refused("nothing to go back to", 409, "no-previous-version", o.post("/api/cluster/rollback", {"id": identifier(1)}))
    check("with all checks", bool(o.post("/api/cluster/rollback", {"id": identifier(1)})[1].get("checks")))
    refused("nothing to abort", 400, "usage", o.post("/api/cluster/abort", {"id": identifier(1)}))
    same("a refusal changes nothing", before, run("status"))

    c, stream = events(o)
    next_event(stream)
    before_it = next_event(stream)[0]
    body = {"id": "00000000-0000-0000-0000-0000000000AB", "source": two, "no_reboot": True}
    status, op = o.post(upgrade, body)
    same("an upgrade is begun, with the id", (202, identifier(0xAB), "UPGRADE"), (status, op.get("id"), op.get("operation")))
    again = o.post(upgrade, body)
    same("at once again", identifier(0xAB), again[1].get("id"))
    op = wait_for_end(o, identifier(0xAB))
    same("it is prepared", ("2", True), (op["to_version"], op["staged"]))
    seen = []
    while not seen or not seen[-1][2]["staged"]:
        seen.append(next_event(stream, ("operation",)))
    c.close()
    same("the stream told of it, from before it was recorded", identifier(0xAB), seen[-1][2]["id"])
    same("each event fits the schema", [], [m for m in (fit(e[2], SCHEMAS["Operation"], "Operation") for e in seen) if m])
    c, stream = events(o, {"Last-Event-ID": before_it})
    resumed = next_event(stream, ("operation",))
    c.close()
    same("the stream goes on behind the last event", seen[0], resumed)
    c, stream = events(o, {"Last-Event-ID": "0123abcd.7"})
    same("an id of another daemon: how things stand", {"status", "operation"}, {next_event(stream)[1], next_event(stream)[1]})
    c.close()

    same("repeated, with the header", (202, op), o.post(upgrade, {"source": two, "no_reboot": True}, {"Idempotency-Key": identifier(0xAB)}))
    refused("the id for another bundle", 409, "id-reused", o.post(upgrade, {"id": identifier(0xAB), "source": three}))
    refused("the id for a rollback", 409, "id-reused", o.post("/api/cluster/rollback", {"id": identifier(0xAB)}))
    refused("another one meanwhile", 409, "operation-in-progress", o.post(upgrade, {"id": identifier(3), "source": three}))
    same("an abort", (200, identifier(4)), (lambda a: (a[0], a[1].get("id")))(o.post("/api/cluster/abort", {"id": identifier(4)})))
    same("the aborted operation", "ABORTED", o.get("/api/cluster/upgrade/status")[1]["state"])
    same("is told to who repeats it", (200, "ABORTED"), (lambda a: (a[0], a[1].get("state")))(o.post(upgrade, body)))
    status, op = o.post(upgrade, {"id": identifier(5), "source": three, "no_reboot": True})
    same("and another one is begun", (202, identifier(5)), (status, op.get("id", op)))
    wait_for_end(o, identifier(5))
    same("the abort again does not touch what came after it", 200, o.post("/api/cluster/abort", {"id": identifier(4)})[0])
    same("that is still prepared", (identifier(5), True), (lambda op: (op["id"], op["staged"]))(o.get("/api/cluster/upgrade/status")[1]))
    same("the history has both, once", [identifier(5), identifier(0xAB)],
         [h["id"] for h in o.get("/api/cluster/upgrade/history")[1]["operations"]][:2])
    same("abort", 200, o.post("/api/cluster/abort", {"id": identifier(6)})[0])
    part_early(o, body, three)
    same("finalize", 200, o.post("/api/cluster/finalize", {"id": identifier(7)})[0])
    refused("the id of a finalize", 409, "id-reused", o.post("/api/cluster/abort", {"id": identifier(7)}))


def part_early(o, ended, bundle):
    """While a worker does not know yet what it is to do: its bundle does not come."""
    upgrade, fifo = "/api/cluster/upgrade", W / "early.bundle"
    body = {"id": identifier(0xEA), "source": str(fifo), "no_reboot": True}
    os.mkfifo(fifo)
    gone = o.connect()
    gone.request("POST", upgrade, json.dumps(body), o.headers)
    while not o.get("/api/cluster/runtime")[1]["working"]:
        time.sleep(0.05)
    gone.close()
    again = concurrent.futures.ThreadPoolExecutor().submit(o.post, upgrade, body)
    same("repeated early: it is not told of another operation", set(), concurrent.futures.wait([again], 1)[0])
    refused("another one beside it", 409, "operation-in-progress", o.post(upgrade, {"id": identifier(0xEB), "source": bundle}))
    same("what has ended is told to who repeats it", (200, "ABORTED"), (lambda a: (a[0], a[1].get("state")))(o.post(upgrade, ended)))
    refused("its id for another bundle", 409, "id-reused", o.post(upgrade, {"id": ended["id"], "source": bundle}))
    refused("the id of what is at work, for another bundle", 409, "id-reused", o.post(upgrade, {"id": identifier(0xEA), "source": bundle}))
    fifo.write_bytes(Path(bundle).read_bytes())
    status, op = again.result()
    same("it is told of its own", (202, identifier(0xEA)), (status, op.get("id")))
    wait_for_end(o, identifier(0xEA))
    same("given up", 200, o.post("/api/cluster/abort", {"id": identifier(0xEC)})[0])


def part_kinds():
    o, rollback = operator(), "/api/cluster/rollback"
    o.get("/api/cluster/runtime")
    same("a way back: the checks allow it", True, o.post(rollback, {"prechecks_only": True})[1].get("allowed"))
    conf = (W / "conf").read_text()
    (W / "conf").write_text(conf + "[System]\nRollbackMinVersion=9\n")
    refused("the version gate", 409, "previous-version-too-old", o.post(rollback, {"id": identifier(20)}))
    status, body = o.post(rollback, {"prechecks_only": True})
    same("the checks say so, too", (200, False, "previous-version-too-old"), (status, body["allowed"], body["kind"]))
    (W / "conf").write_text(conf)
    for n, name, kind in ((21, "untrusted", "bundle-untrusted"), (22, "other", "bundle-incompatible")):
        body = {"id": identifier(n), "source": str(W / f"{name}.bundle")}
        refused(f"{name}.bundle", 422, kind, o.post("/api/cluster/upgrade", body))
    archive = next((W / "data/snapshots").glob("*.tar.zst"))
    good = archive.read_bytes()
    archive.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    refused("a changed byte in the snapshot", 409, "snapshot-altered", o.post(rollback, {"id": identifier(23)}))
    archive.rename(W / "away")
    refused("no snapshot", 409, "snapshot-missing", o.post(rollback, {"id": identifier(24)}))
    archive.write_bytes(good)
    program = (W / "bootmgr-image").read_text()
    for what, words, status, kind in (("killed", "kill -9 $$", 503, "interrupted"), ("silent", "exit 1", 500, "failed")):
        put_program("#!/bin/sh\n" + words + "\n")
        refused(f"a worker that is {what}", status, kind, o.post(rollback, {"id": identifier(25)}))
    put_program(program)
    same("finalize", 200, o.post("/api/cluster/finalize", {"id": identifier(26)})[0])
    refused("no way back any more", 409, "finalized", o.post(rollback, {"id": identifier(27)}))
    same("repeated, it says that it was done", (200, {"id": identifier(26), "epoch": 0, "result": "done"}),
         o.post("/api/cluster/finalize", {}, {"Idempotency-Key": identifier(26)}))
    run("slot", "mark-bad", "a")
    status, body = o.get("/api/cluster/runtime")
    slots = {s["name"]: s for s in body["status"]["slots"]}
    same("a slot that an operator called bad says why", (200, "BAD", run("status")["slots"][0]["reason"]),
         (status, slots["a"]["state"].upper(), slots["a"].get("reason")))


def part_all_kinds():
    told = set(SCHEMAS["Error"]["properties"]["kind"]["enum"])
    source = Path(__file__).parent.parent.parent / "bootmgr/slot/kinds.h"
    there = {"failed", "usage", *re.findall(r'X\(\w+,\s*"([a-z-]+)"', source.read_text())}
    same("the kinds that are described are those there are", there, told)
    unmet = of_a_machine(all_members()) - of_a_machine(noted("met"))
    same("each member of what a machine says of itself was met", [], sorted(unmet - set(MET_ELSEWHERE)))
    met = noted("kinds")
    same("each was met, or cannot be", set(), told - met - PASSED_ON - set(UNREACHABLE))
    same("what was met is told", set(), met - told)
    same("what is passed on is met on the command line", set(),
         {k for k in PASSED_ON if not any(k in f.read_text() for f in Path(__file__).parent.glob("[0-8]*.sh"))})


def part_hostile():
    o = operator()
    before = run("status")
    path = "/api/cluster/upgrade"
    refused("10 MB", 413, "too-large", o.post(path, b" " * 10000000))
    refused("10 MB of somebody unknown", 413, "too-large", Client().post(path, b" " * 10000000))
    refused("chunks", 413, "too-large", o.ask("POST", path, iter([b"{}"]), {"Transfer-Encoding": "chunked"}))
    header = b"GET /api/cluster/version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    for what, data in (("a header of 64 KiB", header + b"X: " + b"a" * 65536 + b"\r\n\r\n"),
                       ("a path of 64 KiB", b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
                       ("ten thousand headers", header + b"".join(b"X%d: y\r\n" % i for i in range(10000)) + b"\r\n"),
                       ("no HTTP", b"\x16\x03\x01\x00\xff" * 100 + b"\r\n\r\n"), ("HTTP/9", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n"),
                       ("a length beyond all numbers", header + b"Content-Length: 99999999999999999999999\r\n\r\n"),
                       ("no host", b"GET /healthz HTTP/1.1\r\n\r\n"), ("an empty line", b"\r\n" * 100 + b"x\r\n\r\n"),
                       ("a negative length", header + b"Content-Length: -1\r\n\r\n"),
                       ("two lengths", header.replace(b"GET", b"POST") + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}")):
        answer = wire.exchange(PORT, operator().context, data, 5)
        check(f"{what}: an error or nothing", not answer.startswith(b"HTTP/1.1 2"), answer[:200])
    with socket.create_connection(("127.0.0.1", PORT), 20) as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        try:
            same("no TLS: no HTTP", False, s.recv(1000).startswith(b"HTTP/1.1 2"))
        except ConnectionError:
            check("no TLS: no HTTP", True)
    same("it lives", 200, o.get("/healthz")[0])
    part_flood(o)
    part_idle(o)
    same("nothing was changed by all that", before, run("status"))


def flood(what, client):
    """What it is answered until it is one too many: an address gets 20 requests a second back, so all of them are sent before the first
    answer is read, over one connection. Else a busy machine asks no faster."""
    c = client.connect()
    c.connect()
    headers = "".join("%s: %s\r\n" % pair for pair in {"Host": "localhost", **client.headers}.items())
    c.sock.sendall(("GET /api/cluster/version HTTP/1.1\r\n%s\r\n" % headers).encode() * 300)
    found, answers = [], c.sock.makefile("rb")
    while len(found) < 300 and 429 not in found:
        found.append(int(answers.readline().split()[1]))
        length = int(http.client.parse_headers(answers)["Content-Length"])
        body = json.loads(answers.read(length))
        if found[-1] == 429:
            refused(what, 429, "too-many-requests", (429, body))
    c.close()
    return found


def part_flood(o):
    found = flood("a flood of requests without a name", Client(source="127.0.0.3"))
    same("not before its share is used up", (True, {401, 429}), (found.count(401) >= 50, set(found)))
    same("somebody known, at the same address, is not", 200, Client("operator", source="127.0.0.3").get("/api/cluster/version")[0])
    same("somebody unknown, at another, neither", 200, Client(source="127.0.0.4").get("/healthz")[0])
    found = flood("a flood of guesses", Client(token="a-guess", source="127.0.0.6"))
    same("who guesses at tokens is answered so often", (True, {401, 429}), (found.count(401) >= 50, set(found)))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        guesses = [pool.submit(Client(token="a-guess", source="127.0.0.6").get, "/api/cluster/version") for _ in range(90)]
        found = [Client(token="reading-token", source="127.0.0.6").get("/api/cluster/version")[0] for _ in range(20)]
        concurrent.futures.wait(guesses)
    same("and meanwhile the right one is no better", (True, {200, 429}), (429 in found, {200, *found}))
    found = [Client(token="reading-token", source="127.0.0.7").get("/api/cluster/version")[0] for _ in range(90)]
    same("who has it at once is not limited", {200}, set(found))


def part_idle(o):
    """1,000 connections that say nothing, of one address; and one that is known keeps its connection."""
    known = o.connect()
    known.request("GET", "/healthz", headers=o.headers)
    known.getresponse().read()
    idle, start = [], time.monotonic()
    for _ in range(1000):
        s = socket.socket()
        s.settimeout(20)
        s.connect(("127.0.0.1", PORT))
        idle.append(s)
    for who, client in (("somebody new at the same address", o), ("at another", Client("operator", source="127.0.0.2"))):
        asked = time.monotonic()
        same(f"1,000 idle connections: {who} is answered", 200, client.get("/api/cluster/version")[0])
        took = time.monotonic() - asked
        check(f"{who}: within 10 s", took < 10, f"it took {took:.1f} s")
    try:
        known.request("GET", "/healthz", headers=o.headers)
        same("who is known is not ended for them", 200, known.getresponse().status)
    except (ConnectionError, http.client.HTTPException) as e:
        check("who is known is not ended for them", False, repr(e))
    samples = metrics(o)[1]
    check("their number was bounded", samples[("bootmgr_http_connections",)] <= 140, samples[("bootmgr_http_connections",)])
    check("the oldest were ended", samples[("bootmgr_http_dropped_connections_total", ("reason", "evicted"))] >= 800)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        left = metrics(o)[1][("bootmgr_http_connections",)]
        if left <= 4:
            break
        time.sleep(1)
    check("those that stay silent are ended", left <= 4, left)
    for s in idle:
        s.close()
    print(f"# 1,000 idle connections: {time.monotonic() - start:.1f} s in all")


{"documented": part_documented, "rights": part_rights, "requests": part_requests, "kinds": part_kinds, "hostile": part_hostile,
 "all-kinds": part_all_kinds}[PART]()
