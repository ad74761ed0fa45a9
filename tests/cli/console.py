# SPDX-License-Identifier: LGPL-2.1-or-later
"""Types on a terminal of its own: console.py KEYS OUTPUT COMMAND... The word TTY in the command becomes the terminal's name.

The keys are typed one after the other, each once the command has shown a page and waits; then the terminal hangs up. What it
showed is written to OUTPUT; the exit status is the command's."""
import os
import pty
import re
import select
import subprocess
import sys
import time


def main():
    keys, output, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    process = subprocess.Popen([name if word == "TTY" else word for word in command], stdin=subprocess.DEVNULL)
    shown, marks, deadline = b"", 0, time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        if master >= 0 and select.select([master], [], [], 0.05)[0]:
            shown += os.read(master, 4096)
        if master >= 0 and len(re.findall(b"seconds|Press it again", shown)) > marks:
            marks += 1
            time.sleep(0.1)
            if marks > len(keys):
                shown += drain(master)
                os.close(slave)
                os.close(master)
                slave = master = -1
            else:
                os.write(master, keys[marks - 1].encode())
    if master >= 0:
        shown += drain(master)
    if process.poll() is None:
        process.kill()
        sys.exit("it did not end")
    with open(output, "wb") as file:
        file.write(shown.replace(b"\r", b""))
    sys.exit(process.returncode)


def drain(master):
    data = b""
    while select.select([master], [], [], 0)[0]:
        data += os.read(master, 4096)
    return data


main()
