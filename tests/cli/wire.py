# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes to a server on this machine and back, below what a library for HTTP would send."""
import socket
import ssl


def exchange(port, context, data, timeout, source="127.0.0.1"):
    """What comes back on a connection of its own, until its end or for so long; nothing when it is cut."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout, (source, 0)) as s:
            with context.wrap_socket(s, server_hostname="127.0.0.1") as t:
                t.sendall(data)
                answer = b""
                try:
                    while part := t.recv(65536):
                        answer += part
                except TimeoutError:
                    pass  # it waits for more
                return answer
    except (ConnectionError, ssl.SSLError):
        return b""
