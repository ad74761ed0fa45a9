#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two network namespaces with a pair of veth between them: an HTTP server on a shaped link, and the machine.

tbf shapes what the server sends; where packets are to be lost, the machine drops them at random as they come in (statistic of iptables:
this needs no netem, which many kernels lack). There is no added delay but that of the shaper's queue. A long link is made otherwise: a
TUN device on each side, and a process between them (relay.py). Root only; nothing outside the two namespaces is touched."""

import array
import contextlib
import fcntl
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import termios
import threading
import time

import host
import relay

SERVER, MACHINE = '10.99.7.1', '10.99.7.2'
PORT = 8000
SEGMENT, FRAME = 1448, 1514     # of content in a full packet, and what the shaper counts for it


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of the current directory; connections are kept."""
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        begin = time.monotonic()
        with open(os.path.basename(self.path), 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            match = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
            start, end = (int(match[1]), min(int(match[2] or size - 1) + 1, size)) if match else (0, size)
            self.send_response(206 if match else 200)
            self.send_header('Content-Length', str(end - start))
            self.send_header('ETag', '"%d"' % size)
            if match:
                self.send_header('Content-Range', 'bytes %d-%d/%d' % (start, end - 1, size))
            self.end_headers()
            file.seek(start)
            sent = 0
            try:
                while sent < end - start and (data := file.read(min(1 << 16, end - start - sent))):
                    self.wfile.write(data)
                    sent += len(data)
                self.wait_until_received()
            finally:
                self.server.note(begin, time.monotonic(), sent)

    def wait_until_received(self):
        """Acknowledged by the other side: what waits in this one's queues did not arrive yet."""
        waiting = array.array('i', [1])
        while waiting[0]:
            fcntl.ioctl(self.connection, termios.TIOCOUTQ, waiting)
            time.sleep(0.0005)

    def log_message(self, *_):
        pass


class Files(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, log, congestion):
        super().__init__((SERVER, PORT), Handler)
        if congestion:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        self.log, self.lock = open(log, 'a'), threading.Lock()

    def note(self, *words):
        with self.lock:
            self.log.write(json.dumps(words) + '\n')
            self.log.flush()

    def handle_error(self, *_):
        pass


class Link:
    """The two namespaces; gone at the end, with all that is in them."""

    def __init__(self, rate, loss=0.0, round_trip=0.0):
        """rate: Mbit/s; round_trip: seconds, and the server sends by Reno, which every kernel has and which minds each loss"""
        self.round_trip, self.relay = round_trip, None
        self.names = ['bootmgr-%s-%d' % (name, os.getpid()) for name in ('server', 'machine')]
        self.rate, self.loss = rate, loss
        self.machine = ['nsenter', '--net=/run/netns/' + self.names[1]]         # before a command that is to run there

    def __enter__(self):
        try:
            return self.begin()
        except BaseException:
            self.__exit__()
            raise

    def begin(self):
        server, machine = self.names
        for name in self.names:
            host.run(['ip', 'netns', 'add', name])
        if self.round_trip:
            self.relay = relay.start(self.names, (SERVER, MACHINE), self.rate, self.loss, self.round_trip)
            return self
        host.run(['ip', 'link', 'add', 'eth0', 'netns', server, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', machine])
        for name, address in zip(self.names, (SERVER, MACHINE)):
            self.inside(name, 'ip', 'address', 'add', address + '/24', 'dev', 'eth0')
            self.inside(name, 'ip', 'link', 'set', 'eth0', 'up')
            # A veth hands over what was never cut into packets of the link: the shaper and the loss must see packets.
            self.inside(name, 'ip', 'link', 'set', 'eth0', 'gso_max_segs', '1')
        self.inside(server, 'tc', 'qdisc', 'add', 'dev', 'eth0', 'root', 'tbf', 'rate', '%gmbit' % self.rate,
                    'burst', '%dk' % max(16, self.rate), 'latency', '100ms')
        if self.loss:
            self.inside(machine, 'iptables', '-A', 'INPUT', '-i', 'eth0', '-m', 'statistic', '--mode', 'random', '--probability',
                        str(self.loss), '-j', 'DROP')
        return self

    def __exit__(self, *_):
        if self.relay:
            self.relay.terminate()
            self.relay.wait()
        for name in self.names:
            subprocess.run(['ip', 'netns', 'del', name], check=False)

    @staticmethod
    def inside(name, *command):
        return host.run(['ip', 'netns', 'exec', name, *command])

    def can_carry(self):
        """Of its rate, in content: what headers and lost packets leave of it."""
        return SEGMENT / FRAME * (1 - self.loss)


class Server:
    """Of the files of a directory, on the server's side of a link; what it sent is known."""

    def __init__(self, link, directory):
        self.link, self.directory, self.log = link, directory, os.path.join(directory, 'server.log')

    def __enter__(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.log)
        command = ['ip', 'netns', 'exec', self.link.names[0], sys.executable, '-B', os.path.abspath(__file__), self.log,
                   'reno' if self.link.round_trip else '']
        where = os.path.dirname(os.path.abspath(host.__file__))
        self.process = subprocess.Popen(command, cwd=self.directory, env={**os.environ, 'PYTHONPATH': where})
        while not os.path.exists(self.log):
            if self.process.poll() is not None:
                raise host.HostError('the server did not start')
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    @staticmethod
    def url(name):
        return 'http://%s:%d/%s' % (SERVER, PORT, name)

    def mark(self):
        return os.path.getsize(self.log)

    def sent(self, mark):
        """Since then: bytes of bodies, requests, and seconds from the first request until the last byte had arrived. That it had is known
        here a way later."""
        time.sleep(2 * self.link.round_trip)
        with open(self.log) as file:
            file.seek(mark)
            rows = [json.loads(line) for line in file]
        return sum(row[2] for row in rows), len(rows), max(row[1] for row in rows) - min(row[0] for row in rows)


if __name__ == '__main__':
    Files(*sys.argv[1:3]).serve_forever()
