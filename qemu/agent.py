# SPDX-License-Identifier: LGPL-2.1-or-later
"""Talk to qemu-guest-agent in a guest: run commands as root, read and write files.

The agent listens on a virtio-serial port, which QEMU offers here as a Unix socket: no network, no keys, and it works from early
boot on. The socket serves one client at a time, so every conversation holds a lock file. A long command gives the lock back
between its polls: several commands can run in one guest.

A command writes to two files in the guest's /run that are unlinked as soon as it starts. They are read while it runs, so its
output is seen as it comes, may be of any size, and what was printed before a reboot is not lost with the guest.
"""

import base64
import contextlib
import fcntl
import json
import os
import random
import socket
import time

READ_SIZE = 1 << 20
WRITE_SIZE = 1 << 20
HOLD_SECONDS = 3            # a command that runs longer shares the agent with others
EXIT_TIMEOUT = 124          # as timeout(1)


class AgentError(Exception):
    """The agent cannot be reached, or refused a request."""


class AgentLost(AgentError):
    """The guest stopped answering, or went down, while a command ran in it."""


class Result:
    """What a command left: exit code, and its output in bytes."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def text(self):
        return self.out.decode('utf-8', 'replace')

    @property
    def errors(self):
        return self.err.decode('utf-8', 'replace')


def quote(argument):
    """One argument as a bash word in plain ASCII: the agent's JSON carries no other bytes faithfully."""
    data = os.fsencode(argument)
    if b'\0' in data:
        raise AgentError('an argument holds a NUL byte, which no command line can carry')
    return "$'" + ''.join(chr(b) if 32 <= b < 127 and b not in b"'\\" else '\\%03o' % b for b in data) + "'"


class Agent:
    def __init__(self, directory, listens=lambda: True):
        """`directory` holds the socket `agent.sock`; the lock is made beside it. `listens` tells whether the guest has the port open:
        when its agent ends, nothing else says so."""
        self.directory, self.listens = directory, listens
        self._socket = None
        self._pending = b''

    # --- one conversation ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def conversation(self, timeout=10):
        """Hold the agent: calls within share one connection. Nests."""
        if self._socket:
            yield self
            return
        deadline = time.monotonic() + timeout
        with open(os.path.join(self.directory, 'agent.lock'), 'w') as lock:
            self._lock(lock, deadline)
            try:
                self._connect(deadline)
                yield self
            finally:
                self._disconnect()

    def _lock(self, lock, deadline):
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AgentError('the guest agent is busy with another client of this guest') from None
                time.sleep(0.02)

    def _connect(self, deadline):
        if not self.listens():
            raise AgentLost('no agent listens in the guest: it is booting, or going down')
        # Through the directory's descriptor: the path of a Unix socket may be 107 bytes long, a clone may lie deeper.
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect('/proc/self/fd/%d/agent.sock' % directory)
        except OSError as error:
            self._disconnect()
            raise AgentLost('no guest agent socket: is the guest running? (%s)' % error.strerror) from None
        finally:
            os.close(directory)
        # What an earlier client left unread, or the agent half wrote, ends at the 0xff that it sends before this answer.
        token = random.getrandbits(31)
        self._send(b'\xff' + json.dumps({'execute': 'guest-sync-delimited', 'arguments': {'id': token}}).encode())
        while self._receive(deadline, delimiter=b'\xff').get('return') != token:
            pass

    def _disconnect(self):
        if self._socket:
            self._socket.close()
        self._socket, self._pending = None, b''

    def _send(self, data):
        try:
            self._socket.settimeout(60)
            self._socket.sendall(data + b'\n')
        except OSError as error:
            raise AgentLost('the guest agent does not take requests: %s' % error) from None

    def _receive(self, deadline, delimiter=b''):
        """The next line as JSON; with a delimiter, the next line that follows it."""
        while True:
            start = self._pending.find(delimiter)
            end = self._pending.find(b'\n', start + len(delimiter)) if start >= 0 else -1
            if end >= 0:
                line, self._pending = self._pending[start + len(delimiter):end], self._pending[end + 1:]
                if not line.strip():
                    continue
                return json.loads(line)
            self._pending += self._receive_some(deadline)

    def _receive_some(self, deadline):
        while True:
            self._socket.settimeout(max(min(deadline - time.monotonic(), 1), 0.001))
            try:
                data = self._socket.recv(1 << 20)
            except TimeoutError:
                if time.monotonic() > deadline or not self.listens():
                    raise AgentLost('the guest agent does not answer') from None
                continue
            except OSError:
                data = b''
            if not data:
                raise AgentLost('the guest went away')
            return data

    def call(self, command, timeout=30, **arguments):
        """One request of the agent's protocol; returns its `return` value."""
        request = {'execute': command, 'arguments': arguments}
        with self.conversation(timeout):
            self._send(json.dumps(request).encode())
            answer = self._receive(time.monotonic() + timeout)
        if 'error' in answer:
            raise AgentError('%s: %s' % (command, answer['error'].get('desc', answer['error'])))
        return answer.get('return')

    # --- commands -----------------------------------------------------------------------------------------------------------

    def answers(self, timeout=3):
        try:
            with self.conversation(timeout):
                return True
        except AgentError:
            return False

    def run(self, argv, timeout=None, stdin=None, on_out=None, on_err=None, connect_timeout=30):
        """Run argv as root in /root. Output is collected, or handed to on_out and on_err piece by piece as it comes."""
        out, err = [], []
        with self.conversation(connect_timeout):
            command = _Command(self, argv, stdin, on_out or out.append, on_err or err.append)
        code = command.follow(timeout)
        return Result(code, b''.join(out), b''.join(err))

    # --- files --------------------------------------------------------------------------------------------------------------

    def read(self, handle, sink):
        """Hand what is in an open file to sink, up to its present end."""
        while True:
            piece = self.call('guest-file-read', handle=handle, count=READ_SIZE)
            if piece['count']:
                sink(base64.b64decode(piece['buf-b64']))
            if piece['eof'] or not piece['count']:
                return

    def pull(self, path, sink):
        with self.conversation():
            handle = self.call('guest-file-open', path=path, mode='r')
            try:
                self.read(handle, sink)
            finally:
                self.call('guest-file-close', handle=handle)

    def push(self, source, path):
        """Write what the open binary file `source` yields to path."""
        with self.conversation():
            handle = self.call('guest-file-open', path=path, mode='w')
            try:
                while data := source.read(WRITE_SIZE):
                    self._write(handle, data)
                self.call('guest-file-flush', handle=handle)
            finally:
                self.call('guest-file-close', handle=handle)

    def _write(self, handle, data):
        text = base64.b64encode(data).decode()
        count = self.call('guest-file-write', **{'handle': handle, 'buf-b64': text})['count']
        if count != len(data):
            raise AgentError('only %d of %d bytes were written: is the file system full?' % (count, len(data)))


class _Command:
    """A command that runs in the guest, and the two files that it writes to."""

    def __init__(self, agent, argv, stdin, on_out, on_err):
        self.agent = agent
        self.handles = []
        name = '/run/vm-%08x' % random.getrandbits(32)
        for suffix, sink in (('out', on_out), ('err', on_err)):
            handle = agent.call('guest-file-open', path='%s.%s' % (name, suffix), mode='w+')
            self.handles.append((handle, sink))
        script = 'exec >>{0}.out 2>>{0}.err; rm {0}.out {0}.err; export HOME=/root LANG=C.UTF-8; cd; exec {1}'.format(
            name, ' '.join(map(quote, argv)))
        arguments = {'path': '/bin/bash', 'arg': ['-c', script]}
        if stdin is not None:
            arguments['input-data'] = base64.b64encode(stdin).decode()
        self.pid = agent.call('guest-exec', **arguments)['pid']

    def follow(self, timeout):
        """Hand on the output until the command ends; returns its exit code, 128 + N if signal N ended it, 124 at the timeout."""
        start = time.monotonic()
        pause = 0.005
        with contextlib.ExitStack() as hold:
            hold.enter_context(self.agent.conversation())
            while True:
                with self.agent.conversation():
                    code = self._poll()
                if code is not None:
                    return code
                elapsed = time.monotonic() - start
                if timeout is not None and elapsed > timeout:
                    return self._kill()
                if elapsed > HOLD_SECONDS:
                    hold.close()
                time.sleep(pause)
                pause = min(pause * 1.5, 0.5)     # every question costs the emulated guest some 10 ms

    def _poll(self):
        try:
            status = self.agent.call('guest-exec-status', pid=self.pid)
            for handle, sink in self.handles:
                self.agent.read(handle, sink)
        except AgentError as error:
            raise AgentLost('the guest went down, or its agent ended, while the command ran (%s)' % error) from None
        if not status['exited']:
            return None
        self._close()
        return status['exitcode'] if 'exitcode' in status else 128 + status['signal']

    def _close(self):
        for handle, _ in self.handles:
            self.agent.call('guest-file-close', handle=handle)

    def _kill(self):
        with self.agent.conversation():
            self.agent.call('guest-exec', path='/bin/bash', arg=['-c', 'kill -TERM %d; sleep 2; kill -KILL %d' % (self.pid, self.pid)])
            self._close()
        return EXIT_TIMEOUT
