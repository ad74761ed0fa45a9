#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Becomes QEMU (argv), with a child beside it that makes each warm reset as good as a cold start.

An emulating QEMU keeps what it has translated of the system before the reset. Memory that holds some of it is written many times
as slowly, and the firmware takes 5 to 30 s instead of 4, at times for ever: where it is the stack of its timer's interrupt, that
leaves no time for anything else. So QEMU stops instead of resetting; the child resets it, makes it throw away its translations,
and lets it go on. A guest cannot tell."""

import os
import socket
import sys

sys.dont_write_bytecode = True
import qmp                                                      # noqa: E402

RESETS = ('guest-reset', 'host-qmp-system-reset')               # of the reasons for which QEMU stops; all others end it


def keep(monitor):
    while event := monitor.next_event():
        if event['event'] != 'SHUTDOWN':
            continue
        if event['data']['reason'] not in RESETS:
            monitor.ask('quit')
            return
        monitor.ask('set-action', reboot='reset')
        monitor.ask('system_reset')
        while monitor.next_event()['event'] != 'RESET':
            pass
        monitor.ask('set-action', reboot='shutdown')
        drop_translations(monitor)
        monitor.ask('cont')


def drop_translations(monitor):
    """There is no command for it. QEMU does it after it has stepped a single instruction for a debugger."""
    monitor.ask('human-monitor-command', **{'command-line': 'gdbserver unix:gdb.sock,server=on,wait=off'})
    with socket.socket(socket.AF_UNIX) as debugger:
        debugger.settimeout(30)
        debugger.connect('gdb.sock')
        for packet in (b'$?#3f', b'$s#73', b'$D#44'):
            debugger.sendall(packet)
            while b'#' not in (answer := debugger.recv(4096)):
                if not answer:
                    raise OSError('QEMU hung up on its debugger')
            debugger.sendall(b'+')
    monitor.ask('human-monitor-command', **{'command-line': 'gdbserver none'})


def main():
    ours, theirs = socket.socketpair()
    if os.fork() > 0:
        ours.close()
        theirs.set_inheritable(True)
        os.execvp(sys.argv[1], [*sys.argv[1:], '-action', 'reboot=shutdown,shutdown=pause',
                                '-chardev', 'socket,id=keeper,fd=%d' % theirs.fileno(), '-mon', 'chardev=keeper,mode=control'])
    theirs.close()
    with ours:
        try:
            keep(qmp.Monitor(ours))
        except qmp.Gone:
            pass


if __name__ == '__main__':
    main()
