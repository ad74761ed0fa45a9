#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A server that says it is a controller: false_controller.py PORT CERTIFICATE KEY CA LOG [OPERATION [STATUS [VIEW]]]

Gives the file CA to whoever asks for the cluster's CA, OPERATION, as it is then, to whoever asks for the newest operation, VIEW to a
node that listens, and writes every request with its body into LOG. With STATUS it answers that. As long as there is a file VIEW.open it
does not end that answer, and gives VIEW again whenever it is another one.
"""
import http.server
import os
import ssl
import sys
import time

PORT, CERTIFICATE, KEY, CA, LOG = sys.argv[1:6]
FILES = {"/api/cluster/ca": CA, **dict(zip(("/api/cluster/upgrade/status", "/api/cluster/node/view"), sys.argv[6:7] + sys.argv[8:9]))}
STATUS = int((sys.argv[7:] or ["200"])[0])


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with open(LOG, "ab") as f:
            f.write(f"{self.command} {self.path} ".encode() + body + b"\n")
        text = open(FILES[self.path], "rb").read() if self.path in FILES else b"{}"
        self.send_response(STATUS)
        path = FILES.get(self.path, "")
        if not os.path.exists(path + ".open"):
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        while os.path.exists(path + ".open"):
            time.sleep(0.1)
            self.wfile.write(b":\n\n")  # who is silent is left
            if text != open(path, "rb").read():
                text = open(path, "rb").read()
                self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, address):
        pass  # who does not believe the certificate hangs up


server = Server(("127.0.0.1", int(PORT)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
