#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a controller for what is for nodes as its enemies do: hostile.py DIRECTORY PORT STORE, for 95-hostile.sh, which made the
certificates. Prints a line for each check, "ok: ..." or "NOT OK: ..."."""
import base64
import http.client
import json
import socket
import ssl
import sys
import threading
import time
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True
import wire  # noqa: E402

W, PORT, STORE = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
NODE = "/api/cluster/node/"
VIEW, VOTE, STATUS, TIME = NODE + "view", NODE + "vote", NODE + "status", NODE + "time"
ALL = [("GET", VIEW, None), ("POST", VOTE, {}), ("POST", STATUS, {}), ("GET", TIME, None)]
OPERATION = f"{5:032d}"
V1 = {"version": "1", "digest": f"{1:064d}"}


def check(what, good, why=""):
    print(f"ok: {what}" if good else f"NOT OK: {what}: {why}", flush=True)


def same(what, expected, found):
    check(what, expected == found, f"expected {expected!r}, found {found!r}")


def context(certificate):
    c = ssl.create_default_context(cafile=W / "c1/cluster/ca.pem")
    if certificate:
        c.load_cert_chain(W / f"{certificate}.pem", W / f"{certificate}.key")
    return c


def connect(certificate, source="127.0.0.1", timeout=40):
    return http.client.HTTPSConnection("127.0.0.1", PORT, context=context(certificate), timeout=timeout, source_address=(source, 0))


def ask(certificate, method, path, body=None, headers=None, source="127.0.0.1"):
    """Status and body; of a stream the status only."""
    c = connect(certificate, source)
    data = json.dumps(body) if isinstance(body, (dict, list)) else body
    try:
        c.request(method, path, data, headers or {})
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        pass  # it has answered before it had everything
    answer = c.getresponse()
    text = b"" if answer.headers.get_content_type() == "text/event-stream" else answer.read()
    c.close()
    return answer.status, json.loads(text) if text else None


def ask_status(certificate, path):
    """Of what may be no JSON, or not end."""
    c = connect(certificate)
    c.request("GET", path)
    answer = c.getresponse()
    c.close()
    return answer.status


def refused(what, status, kind, answer):
    same(f"{what}: {kind}", (status, kind, True), (answer[0], (answer[1] or {}).get("kind"), bool((answer[1] or {}).get("message"))))


def stored():
    """All that the store holds of the cluster: keys and values."""
    c = ssl.create_default_context(cafile=W / "c1/cluster/store-ca.pem")
    c.load_cert_chain(W / "c1/cluster/store.pem", W / "c1/cluster/store.key")
    body = {"key": base64.b64encode(b"bootmgr/").decode(), "range_end": base64.b64encode(b"bootmgr0").decode()}
    with urllib.request.urlopen(f"{STORE}/v3/kv/range", json.dumps(body).encode(), 20, context=c) as answer:
        kvs = json.load(answer).get("kvs", [])
    return {base64.b64decode(x["key"]).decode(): json.loads(base64.b64decode(x["value"])) for x in kvs}


def status(running=V1, epoch=3, **more):
    return {"status": {"format": 1, "minor": 0, "epoch": epoch, "settled": True, "confirmed": True, "running": running, "generation": 4,
                       "message": "", **more}}


def vote(yes, operation=OPERATION, **more):
    return {"operation": operation, "vote": {"format": 1, "minor": 0, "yes": yes, "kind": "", "message": "", **more}}


def part_who():
    before = stored()
    for who, certificate in (("nobody", None), ("a certificate that has expired", "expired"), ("one of another authority", "stranger")):
        for method, path, body in ALL:
            refused(f"{who}: {path}", 401, "not-authenticated", ask(certificate, method, path, body))
    for who, certificate in (("a person", "person"), ("who is no member", "nobody"), ("a member's name with another key", "same-name")):
        for method, path, body in ALL:
            refused(f"{who}: {path}", 403, "not-authorized", ask(certificate, method, path, body))
    for method, path, body in ALL:
        refused(f"who joined after the snapshot: {path}", 409, "joined-after-snapshot", ask("late", method, path, body))
    for path in ("/api/events", "/metrics", "/api/cluster/upgrade/status", "/api/cluster/upgrade/history", "/api/cluster/runtime",
                 "/api/cluster/version", "/api/cluster/bundles/" + "0" * 64):
        refused(f"who joined after the snapshot: {path}", 409, "joined-after-snapshot", ask("late", "GET", path))
        for who in ("nobody", "same-name", "gone"):
            refused(f"{who}: {path}", 403, "not-authorized", ask(who, "GET", path))
    for path, expected in (("/api/events", 200), ("/metrics", 200), ("/api/cluster/bundles/" + "0" * 64, 404)):
        same(f"who is a member: {path}", expected, ask_status("e1", path))
    for who in ("late", "nobody", "gone"):
        same(f"{who} sees why", "fenced", {n["name"]: n["state"] for n in ask(who, "GET", "/api/cluster/nodes")[1]["nodes"]}["late"])
    for method, path, body in (("POST", "abort", {"id": OPERATION}), ("POST", "finalize", {"id": OPERATION}), ("DELETE", "nodes/e2", None),
                               ("POST", "renew", {"csr": "x"}), ("POST", "upgrade", {"id": OPERATION, "source": "/x"})):
        refused(f"a controller that was deleted: {path}", 403, "not-authorized", ask("gone", method, "/api/cluster/" + path, body))
    for method, path in (("POST", VIEW), ("GET", VOTE), ("DELETE", STATUS), ("PUT", TIME)):
        refused(f"{method} {path}", 405, "method-not-allowed", ask("e1", method, path))
    for path, body in (("upgrade", {"id": OPERATION, "source": "/x"}), ("rollback", {"id": OPERATION}), ("abort", {"id": OPERATION}),
                       ("finalize", {"id": OPERATION})):
        refused(f"an engine asks for what operators do: {path}", 403, "not-authorized", ask("e1", "POST", "/api/cluster/" + path, body))
    refused("and to delete another", 403, "not-authorized", ask("e1", "DELETE", "/api/cluster/nodes/e2"))
    same("nothing of that is in the store", before, stored())


def part_malformed():
    before = stored()
    deep = b"[" * 100000
    bodies = [b"", b"{", b"null", b"[]", b"17", b'"x"', b"\xff\xfe", b"{}{}", b'{"status":1}', b'{"vote":{}}', b'{"a":1,"a":2}', deep,
              b'{"status":' * 20000, b"{" + b'"x":1,' * 9000, b'\x00', b'{"operation":"x","vote":{"format":1,"yes":true}}',
              json.dumps(status(epoch=-1)).encode(), json.dumps(status(epoch=1 << 70)).encode(),
              json.dumps(status(generation=-5)).encode(), json.dumps(status(format=2)).encode(),
              json.dumps(status(message="\x1b[2J")).encode(), json.dumps(status(message="x" * 5000)).encode(),
              json.dumps(status({"version": "../../x", "digest": "0"})).encode(),
              json.dumps(status({"version": "1", "digest": 7})).encode(),
              json.dumps(status(settled="yes")).encode(), json.dumps(status(**{f"x{i}": i for i in range(100)})).encode(),
              json.dumps(vote("maybe")).encode(), json.dumps(vote(True, "../" * 10)).encode(), json.dumps(vote(True, 5)).encode(),
              json.dumps(vote(True, message=["x"])).encode()]
    for path in (VOTE, STATUS):
        for body in bodies:
            answer = ask("e1", "POST", path, body)
            refused(f"{path}: {body[:60]!r} ({len(body)})", *(413, "too-large") if len(body) > 65536 else (400, "usage"), answer)
        refused(f"{path}: 10 MB", 413, "too-large", ask("e1", "POST", path, b" " * 10000000))
        refused(f"{path}: 10 MB of somebody unknown", 413, "too-large", ask(None, "POST", path, b" " * 10000000))
        refused(f"{path}: chunks", 413, "too-large", ask("e1", "POST", path, iter([b"{}"]), {"Transfer-Encoding": "chunked"}))
    same("nothing of that is in the store", before, stored())


def part_too_much():
    """What the store keeps of a node is little, and it does not change at any pace."""
    long = {"x": "y" * 60000}
    before = stored()
    refused("a status of 60 KB", 413, "too-large", ask("e1", "POST", STATUS, status(**long)))
    body = vote(True)
    body["vote"].update(long)
    refused("a vote of 60 KB", 413, "too-large", ask("e1", "POST", VOTE, body))
    same("nothing of that is in the store", before, stored())
    same("what is not known and short", 200, ask("e2", "POST", STATUS, status(x="y" * 3000))[0])
    same("is kept", "y" * 3000, stored()["bootmgr/status/engine/e2"].get("x"))
    answers = [ask("e2", "POST", STATUS, status(x=i))[0] for i in range(100)]
    check("a hundred changes one after the other: most are refused", 20 <= answers.count(200) <= 60 and set(answers) == {200, 429}, answers)
    refused("by name", 429, "too-many-requests", ask("e2", "POST", STATUS, status(x="another")))
    same("another node is heard all the same", 200, ask("e1", "POST", STATUS, status(message="here"))[0])
    same("and takes it back", 200, ask("e1", "POST", STATUS, status())[0])
    kept = stored()["bootmgr/status/engine/e2"]["x"]
    time.sleep(0.5)     # until the watch has told it
    same("who says what is so already, too", 200, ask("e2", "POST", STATUS, status(x=kept))[0])


def part_no_http():
    before = stored()
    post = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % STATUS.encode()
    good = json.dumps(status()).encode()
    for what, data in (("two lengths", post + b"Content-Length: 2\r\nContent-Length: %d\r\n\r\n%s" % (len(good), good)),
                       ("a length and chunks", post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                       ("a negative length", post + b"Content-Length: -1\r\n\r\n" + good),
                       ("a length beyond all numbers", post + b"Content-Length: 99999999999999999999\r\n\r\n" + good),
                       ("a header of 64 KiB", post + b"X: " + b"a" * 65536 + b"\r\n\r\n"),
                       ("ten thousand headers", post + b"".join(b"X%d: y\r\n" % i for i in range(10000)) + b"\r\n"),
                       ("no host", b"POST %s HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" % STATUS.encode()),
                       ("HTTP/9", b"POST %s HTTP/9.9\r\nHost: x\r\n\r\n" % STATUS.encode()),
                       ("no HTTP", b"\x16\x03\x01\x00\xff" * 200 + b"\r\n\r\n"),
                       ("a path of 64 KiB", b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n")):
        answer = wire.exchange(PORT, context("e1"), data, 5)
        check(f"of a node, {what}: an error or nothing", not answer.startswith(b"HTTP/1.1 2"), answer[:200])
    same("nothing of that is in the store", before, stored())
    same("it lives", 200, ask("e1", "GET", TIME)[0])


def part_lies():
    """A node can say what it likes of itself; of anything else it says nothing."""
    before = stored()
    same("of another epoch: taken, and left out", 200, ask("e1", "POST", STATUS, status(epoch=2))[0])
    again = "has not heard of that"
    check("of an epoch to come: to be said again", again in str(ask("e1", "POST", STATUS, status(epoch=4))))
    check("a vote in another operation: the same", again in str(ask("e1", "POST", VOTE, vote(True, f"{6:032d}"))))
    same("nothing of that is in the store", before, stored())
    lie = {"version": "9", "digest": f"{9:064d}"}
    same("another version than it runs", 200, ask("e1", "POST", STATUS, status(lie, name="e2", role="controller"))[0])
    after = stored()
    same("is said of itself only", {"bootmgr/status/engine/e1"}, {k for k in set(before) | set(after) if before.get(k) != after.get(k)})
    same("as it was said", lie, after["bootmgr/status/engine/e1"]["running"])
    time.sleep(1.5)
    same("no controller follows it", before["bootmgr/record"], stored()["bootmgr/record"])
    same("the truth takes its place", 200, ask("e1", "POST", STATUS, status())[0])


def part_replayed():
    key = f"bootmgr/votes/{OPERATION}/e1"
    same("a vote", 200, ask("e1", "POST", VOTE, vote(True))[0])
    first = stored()
    same("is written", True, first.get(key, {}).get("yes"))
    for what, body in (("the same again", vote(True)), ("another one", vote(False, message="no room"))):
        answers = []
        threads = [threading.Thread(target=lambda b=body: answers.append(ask("e1", "POST", VOTE, b)[0])) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        check(f"{what}, eight times at once: no error but to try again", set(answers) <= {200, 503}, answers)
        same(f"{what}: the vote stands", first, stored())
    refused("of another node, with its own certificate only", 403, "not-authorized", ask("same-name", "POST", VOTE, vote(False)))
    answers = []
    bodies = [vote(True) if i % 2 else vote(False) for i in range(12)]
    threads = [threading.Thread(target=lambda b=b: answers.append(ask("e2", "POST", VOTE, b)[0])) for b in bodies]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    written = stored()
    check("of a node that votes YES and NO at once one is written", f"bootmgr/votes/{OPERATION}/e2" in written, answers)
    same("and it stays", written[f"bootmgr/votes/{OPERATION}/e2"],
         (ask("e2", "POST", VOTE, vote(not written[f"bootmgr/votes/{OPERATION}/e2"]["yes"])), stored())[1][f"bootmgr/votes/{OPERATION}/e2"])


def listen(certificate, source="127.0.0.1"):
    c = connect(certificate, source)
    c.request("GET", VIEW)
    return c, c.getresponse()


def next_told(answer):
    while line := answer.readline():
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    return None


def part_slow():
    """1,000 connections that say nothing, requests that do not end, and one who never reads: others do not notice."""
    c, stream = listen("e1")
    same("a node listens", ("e1", True), ("e1", next_told(stream)["you"]["member"]))
    halves = []
    for certificate in ("e2", "e2", None):
        s = context(certificate).wrap_socket(socket.create_connection(("127.0.0.1", PORT), 60), server_hostname="127.0.0.1")
        s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{" % STATUS.encode())
        halves.append(s)
    deaf, _ = listen("e2")  # never read
    idle = []
    for _ in range(1000):
        s = socket.socket()
        s.settimeout(60)
        s.connect(("127.0.0.1", PORT))
        idle.append(s)
    asked = time.monotonic()
    same("with 1,000 idle connections a node is heard", 200, ask("e1", "POST", STATUS, status(message="here"))[0])
    same("at another address, too", 200, ask("e1", "POST", STATUS, status(), source="127.0.0.2")[0])
    check("within 10 s", time.monotonic() - asked < 10, f"{time.monotonic() - asked:.1f} s")
    begun = time.monotonic()
    for s in halves:
        try:
            s.settimeout(60)
            while s.recv(4096):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        except TimeoutError:
            check("who does not end a request is ended", False, "after 60 s it was not")
    check("who does not end a request is ended", time.monotonic() - begun < 50)
    _, again = listen("e1")
    same("who comes again is told", True, next_told(again)["you"]["member"])
    end = threading.Thread(target=stream.read, daemon=True)
    end.start()
    end.join(30)
    check("and what it had before is ended", not end.is_alive())
    for s in idle:
        s.close()
    deaf.close()
    c.close()


def part_many():
    """One node that opens connection upon connection: others get in."""
    held = []
    for _ in range(200):
        try:
            held.append(listen("e2", "127.0.0.5")[0])
        except (ConnectionError, ssl.SSLError, http.client.HTTPException):
            pass
    same("beside a node with 200 streams another one is told", True, next_told(listen("e1")[1])["you"]["member"])
    for c in held:
        c.close()
    same("it lives", 200, ask("e1", "GET", TIME)[0])


for part in (part_who, part_malformed, part_no_http, part_lies, part_replayed, part_slow, part_many, part_too_much):
    try:
        part()
    except Exception as e:  # the other parts tell more
        check(part.__name__, False, repr(e))
