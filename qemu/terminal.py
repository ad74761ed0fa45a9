# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the demos show: sentences, and commands with what they print in a guest."""

import os
import sys

from agent import AgentLost

COLOUR = os.isatty(1)


def say(text):
    print(('\n\033[1m%s\033[0m' if COLOUR else '\n%s') % ('── ' + text), flush=True)


class Terminal:
    """Of a guest."""

    def __init__(self, box, prompt='appliance #'):
        self.box, self.prompt = box, prompt

    def type(self, command):
        """A command on a terminal of the guest, as a person sees it; the machine may go down under it. Returns what it printed."""
        printed = []

        def show(data):
            printed.append(data)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        print(('\033[32m%s\033[0m %s' if COLOUR else '%s %s') % (self.prompt, command), flush=True)
        terminal = ['env', 'TERM=xterm', 'script', '-qefc', 'stty cols 130 rows 40; ' + command, '/dev/null']
        try:
            self.box.guest.run(terminal if COLOUR else ['bash', '-c', command], on_out=show, on_err=show)
        except AgentLost:
            pass
        return b''.join(printed).decode(errors='replace').replace('\r', '')
