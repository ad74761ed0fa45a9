#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command on a terminal of its own: terminal.py [-i INPUT] COMMAND...

Prints what the terminal showed and, at the end, "exit status N". INPUT is typed when the command is
quiet for a moment, one line after another.
"""
import os
import pty
import select
import sys
import time


def main():
    argv = sys.argv[1:]
    lines = []
    if argv[0] == "-i":
        text = argv[1].replace("\\t", "\t").replace("\\n", "\n")
        lines = [line + "\n" for line in text.rstrip("\n").split("\n")]
        argv = argv[2:]
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(argv[0], argv)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([fd], [], [], 0.5)
        if not ready:
            if lines:
                os.write(fd, lines.pop(0).encode())
            continue
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        sys.stdout.buffer.write(data)
    _, status = os.waitpid(pid, 0)
    print(f"\nexit status {os.waitstatus_to_exitcode(status)}")


main()
