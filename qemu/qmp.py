# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's machine protocol (QMP) over a connected socket."""

import json


class Refused(Exception):
    """QEMU does not do what was asked; the text says why."""


class Gone(OSError):
    """QEMU has ended, or closed the connection."""


class Monitor:
    def __init__(self, connection):
        self._stream = connection.makefile('rwb', buffering=0)
        self._events = []
        self._read()                            # its greeting
        self.ask('qmp_capabilities')

    def _read(self):
        try:
            line = self._stream.readline()
        except ConnectionError as error:
            raise Gone(str(error)) from None
        if not line:
            raise Gone('QEMU has closed its monitor')
        return json.loads(line)

    def ask(self, command, **arguments):
        """Its answer to a command."""
        try:
            self._stream.write(json.dumps({'execute': command, 'arguments': arguments}).encode() + b'\n')
        except ConnectionError as error:
            raise Gone(str(error)) from None
        while True:
            answer = self._read()
            if 'event' in answer:
                self._events.append(answer)
            elif 'error' in answer:
                raise Refused('QEMU refused %s: %s' % (command, answer['error']['desc']))
            else:
                return answer['return']

    def next_event(self):
        """The next event, those first that came while an answer was awaited."""
        return self._events.pop(0) if self._events else self._read()
