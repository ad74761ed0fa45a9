#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small HTTP server on 127.0.0.1 that behaves well or badly, as the first part of the path says.

usage: [PORT=N] http_server.py PORT-FILE LOG [CERTIFICATE KEY CA]

Serves the files of the current directory; its port, N or any that is free, comes into PORT-FILE. With a certificate it speaks HTTPS,
and to those only who have one that CA has signed. It is a proxy too, for what it would serve itself.

  /plain/F     knows no ranges                     /ranges/F     knows them, with an ETag
  /status/N/F  answers with this status            /redirect/N/F  N redirections, then /plain/F
  /short/F     promises all, sends half, always    /breaks/F     the first answer breaks in the middle, then /plain
  /resumes/F   breaks each 400000 bytes, knows ranges and has an ETag
  /weak/F      the same with a weak ETag           /bare/F       the same with none
  /changes/F   breaks; then it is F.new, with another ETag; knows ranges
  /swaps/F     breaks; then it is F.new, without ETags; knows ranges
  /swaps-plain/F  breaks; then it is F.new, without ETags and ranges
  /slow/F      half of it, then nothing any more    /flaky/F      503 at first
  /chunked/F   without a length                    /long/F       promises the length, sends more without one
  /dies/F      the first 131072 bytes, then 503   /longer/F     knows ranges, and has one byte more
  /crawls/F    knows ranges, sends 4 KiB a second  /token/F      knows ranges, for those who send X-Token: secret
  /strolls/F   knows ranges, sends 100 KB a second on each connection
  /creeps/F    knows ranges, a byte every 2 s of what lies behind the first 262144
  /late/F      knows ranges, thinks for 200 ms before each answer
  /outage/[N/]F  knows ranges; after the second request nobody answers for 3, or N, seconds
  /silent/F    nothing, for a minute              /hushes/F     knows ranges; silent from the third request on
  /unsaid/F    knows ranges, and does not say of how much (Content-Range: bytes 0-9/*)
  /forgets/N/F  knows ranges; N answers from the fourth on are 200 with all of it
  /sips/N/F    breaks behind N bytes each, knows ranges
  /altered/N/F  knows ranges; from byte N on it is something else
  /spotted/N/F  knows ranges; from byte 400000 on a byte each 524288 is something else, with N=1 those between
  /stammers/N/F  the same, and thinks for a second behind the first 64 bytes
  /starts/N/F  knows ranges; 503 for N seconds    /later/N/F    the same, and it says so: Retry-After
  /elsewhere/P/R  redirects to /R of the server at port P
  /away        redirects to file:///etc/passwd     /loop         redirects to itself
"""
import http.server
import os
import re
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path

PIECE = 400000


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = Counter()
    lock = threading.Lock()
    at_work = most = 0
    back = 0.0
    ready = {}

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.lock:
            self.seen[self.path] += 1
            count = self.seen[self.path]
            self.note(self.path, self.headers.get("Range", "-"), self.headers.get("If-Range", "-"))
            self.waits = True
            Handler.at_work += 1
            if Handler.at_work > Handler.most:
                Handler.most = Handler.at_work
                self.note("most", Handler.most)
        try:
            self.behave(count)
        finally:
            self.answered()

    def answered(self):
        """At the first byte: whoever has the last one may ask again before this thread knows that it was sent."""
        with self.lock:
            Handler.at_work -= self.waits
            self.waits = False

    def send_response(self, *arguments):
        self.answered()
        super().send_response(*arguments)

    @staticmethod
    def note(*words):
        with open(sys.argv[2], "a", encoding="utf-8") as log:
            print(*words, file=log, flush=True)

    def behave(self, count):
        self.close_connection = True
        if self.path.startswith("http://"):
            self.note("proxy", self.path)
            self.path = "/" + self.path.split("/", 3)[3]
        parts = self.path.strip("/").split("/")
        behaviour = getattr(self, "do_" + parts[0].replace("-", "_"), None)
        if not behaviour:
            return self.answer(404, b"no such thing")
        return behaviour(parts[1:], count)

    @staticmethod
    def content(name):
        with open(os.path.basename(name), "rb") as f:
            return f.read()

    def head(self, status, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def answer(self, status, data, length=None, **headers):
        self.head(status, len(data) if length is None else length, **headers)
        self.wfile.write(data)
        with self.lock:
            self.note("sent", self.path, len(data))

    def ranged(self, data, etag, upto=None):
        """What is asked for; at most `upto` bytes of what is promised."""
        headers = {"ETag": etag} if etag else {}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match or self.headers.get("If-Range") not in (None, etag):
            return self.answer(200, data[:upto], length=len(data), **headers)
        start, end = int(match[1]), min(int(match[2] or len(data) - 1) + 1, len(data))
        if start >= len(data):
            return self.answer(416, b"")
        headers["Content_Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return self.answer(206, data[start:end][:upto], length=end - start, **headers)

    def do_plain(self, parts, _):
        self.answer(200, self.content(parts[0]))

    def do_ranges(self, parts, _):
        time.sleep(0.1)  # so that those who ask at the same time are seen
        self.ranged(self.content(parts[0]), '"one"')

    def do_status(self, parts, _):
        self.answer(int(parts[0]), self.content(parts[1]))

    def do_redirect(self, parts, _):
        left = int(parts[0])
        where = f"/redirect/{left - 1}/{parts[1]}" if left else f"/resumes/{parts[1]}"
        self.answer(302, b"elsewhere", Location=where, ETag='"of the redirection"')

    def do_short(self, parts, _):
        data = self.content(parts[0])
        self.answer(200, data[:len(data) // 2], length=len(data))

    def do_breaks(self, parts, count):
        data = self.content(parts[0])
        self.answer(200, data[:len(data) // 2] if count == 1 else data, length=len(data))

    def do_resumes(self, parts, _):
        self.ranged(self.content(parts[0]), '"one"', PIECE)

    def do_sips(self, parts, _):
        self.ranged(self.content(parts[1]), '"one"', int(parts[0]))

    def do_weak(self, parts, _):
        self.ranged(self.content(parts[0]), 'W/"one"', PIECE)

    def do_bare(self, parts, _):
        self.ranged(self.content(parts[0]), None, PIECE)

    def do_changes(self, parts, count):
        name = parts[0] if count == 1 else parts[0] + ".new"
        self.ranged(self.content(name), f'"{name}"', PIECE if count == 1 else None)

    def do_swaps(self, parts, count):
        self.ranged(self.content(parts[0] if count == 1 else parts[0] + ".new"), None, PIECE if count == 1 else None)

    def do_swaps_plain(self, parts, count):
        data = self.content(parts[0] if count == 1 else parts[0] + ".new")
        self.answer(200, data[:PIECE] if count == 1 else data, length=len(data))

    def do_slow(self, parts, _):
        data = self.content(parts[0])
        self.answer(200, data[:len(data) // 2], length=len(data))
        self.wfile.flush()
        time.sleep(60)

    def do_flaky(self, parts, count):
        self.answer(503 if count == 1 else 200, self.content(parts[0]))

    def do_chunked(self, parts, _):
        data = self.content(parts[0])
        self.head(200, Transfer_Encoding="chunked")
        for at in range(0, len(data), 5000):
            piece = data[at:at + 5000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def do_long(self, parts, _):
        self.head(200)
        self.wfile.write(self.content(parts[0]) + b"and more")

    def do_dies(self, parts, count):
        if count > 1:
            return self.answer(503, b"")
        return self.ranged(self.content(parts[0]), '"one"')

    def do_longer(self, parts, _):
        self.ranged(self.content(parts[0]) + b".", '"longer"')

    def in_pieces(self, data, piece):
        """piece(where in the file): how many bytes at once from there, and the seconds until the next ones."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        at, end = int(match[1]), min(int(match[2]) + 1, len(data))
        self.head(206, end - at, Content_Range=f"bytes {at}-{end - 1}/{len(data)}")
        while at < end:
            length, pause = piece(at)
            self.wfile.write(data[at:min(at + length, end)])
            self.wfile.flush()
            at += length
            time.sleep(pause)

    def do_crawls(self, parts, _):
        self.in_pieces(self.content(parts[0]), lambda at: (4096, 1))

    def do_strolls(self, parts, _):
        self.in_pieces(self.content(parts[0]), lambda at: (10000, 0.1))

    def do_creeps(self, parts, _):
        self.in_pieces(self.content(parts[0]), lambda at: (1, 2) if at >= 262144 else (262144 - at, 0))

    def do_token(self, parts, _):
        self.note("token", self.path, self.headers.get("X-Token", "-"))
        if self.headers.get("X-Token") != "secret":
            return self.answer(403, b"")
        return self.ranged(self.content(parts[0]), '"one"')

    def do_late(self, parts, _):
        time.sleep(0.2)
        self.ranged(self.content(parts[0]), '"one"')

    def do_outage(self, parts, count):
        if count == 2:
            Handler.back = time.monotonic() + (int(parts[0]) if len(parts) > 1 else 3)
        if count >= 2 and time.monotonic() < Handler.back:
            return None
        return self.ranged(self.content(parts[-1]), '"one"')

    def do_silent(self, *_):
        time.sleep(60)

    def do_hushes(self, parts, count):
        if count > 2:
            return time.sleep(60)
        return self.ranged(self.content(parts[0]), '"one"')

    def do_unsaid(self, parts, _):
        data = self.content(parts[0])
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        start, end = int(match[1]), min(int(match[2]) + 1, len(data))
        self.answer(206, data[start:end], Content_Range=f"bytes {start}-{end - 1}/*")

    def do_forgets(self, parts, count):
        data = self.content(parts[1])
        if 4 <= count < 4 + int(parts[0]):
            return self.answer(200, data, ETag='"one"')
        return self.ranged(data, '"one"')

    def altered(self, parts):
        data, start = self.content(parts[1]), int(parts[0])
        return data[:start] + bytes(b ^ 255 for b in data[start:])

    def do_altered(self, parts, _):
        self.ranged(self.altered(parts), '"altered"')

    def do_spotted(self, parts, _):
        data = bytearray(self.content(parts[1]))
        for at in range(400000 + 262144 * int(parts[0]), len(data), 524288):
            data[at] ^= 255
        self.ranged(bytes(data), '"spotted"')

    def do_stammers(self, parts, _):
        self.in_pieces(self.altered(parts), lambda at: (64, 1) if at == 0 else (1 << 20, 0))

    def do_starts(self, parts, count, **headers):
        if count == 1:
            Handler.ready[self.path] = time.monotonic() + int(parts[0])
        if time.monotonic() < Handler.ready[self.path]:
            return self.answer(503, b"", **headers)
        return self.ranged(self.content(parts[1]), '"one"')

    def do_later(self, parts, count):
        self.do_starts(parts, count, Retry_After=parts[0])

    def do_elsewhere(self, parts, _):
        self.answer(302, b"", Location=f"http://127.0.0.1:{parts[0]}/" + "/".join(parts[1:]))

    def do_away(self, *_):
        self.answer(302, b"", Location="file:///etc/passwd")

    def do_loop(self, *_):
        self.answer(302, b"", Location="/loop")


class Server(http.server.ThreadingHTTPServer):
    context = None

    def get_request(self):
        """The first connections, as many as the file `drop` says, are reset before TLS begins."""
        connection, address = super().get_request()
        if not self.context:
            return connection, address
        if os.path.exists("drop") and (left := int(Path("drop").read_text(encoding="ascii"))) > 0:
            Path("drop").write_text(f"{left - 1}\n", encoding="ascii")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            raise OSError("dropped")
        return self.context.wrap_socket(connection, server_side=True), address


def main():
    server = Server(("127.0.0.1", int(os.environ.get("PORT", "0"))), Handler)
    if len(sys.argv) > 3:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=sys.argv[5])
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        context.verify_mode = ssl.CERT_REQUIRED
        server.context = context
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # who goes away in the middle is no news
    with open(sys.argv[1] + ".part", "w", encoding="ascii") as f:
        print(server.server_port, file=f)
    os.rename(sys.argv[1] + ".part", sys.argv[1])
    server.serve_forever()


main()
