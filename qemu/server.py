# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small HTTP server for bundles on the host's loopback, which guests reach as 10.0.2.2. It knows ranges, as real ones do."""

import contextlib
import http.server
import os
import re
import threading

HOST = '10.0.2.2'       # the host's loopback, as QEMU's user network shows it to a guest


class _Handler(http.server.BaseHTTPRequestHandler):
    files = {}
    requests = None

    def do_GET(self):
        path = self.files.get(self.path.lstrip('/'))
        if not path:
            return self.send_error(404)
        with open(path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            first, last = self._range(size)
            self.requests.append((self.path, first, last))
            self.send_response(206 if (first, last) != (0, size - 1) else 200)
            self.send_header('Accept-Ranges', 'bytes')
            self.send_header('Content-Length', str(last - first + 1))
            if (first, last) != (0, size - 1):
                self.send_header('Content-Range', 'bytes %d-%d/%d' % (first, last, size))
            self.end_headers()
            file.seek(first)
            left = last - first + 1
            while left and (data := file.read(min(left, 1 << 16))):
                self.wfile.write(data)
                left -= len(data)
        return None

    def _range(self, size):
        match = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
        if not match or int(match[1]) >= size:
            return 0, size - 1
        return int(match[1]), min(int(match[2] or size - 1), size - 1)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(**files):
    """Serves files under their names while the block runs; yields url(name), which is valid in a guest."""
    handler = type('Handler', (_Handler,), {'files': files, 'requests': []})
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None       # a guest that went away in the middle is no news
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield lambda name: 'http://%s:%d/%s' % (HOST, server.server_port, name)
    finally:
        server.shutdown()
        server.server_close()
