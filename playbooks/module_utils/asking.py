"""What modules ask services, with the standard library alone: it is shipped with each of them.

A redirect is an answer here, and a proxy for the web has no business between hosts of a cluster.
"""

from __future__ import annotations

import http.client
import json
import socket
import urllib.error
import urllib.request

TIMEOUT_S = 5.0

#: No answer that a module reads is longer.
LIMIT = 64 << 20


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args):
        return None


def ask(method, url, body=None, follow=False, limit=LIMIT):
    """Status, headers and bytes; `body` is sent as JSON. OSError without a whole answer."""
    try:
        return _ask(method, url, body, follow, limit)
    except http.client.HTTPException as error:
        # So does a server that ends amidst its answer.
        raise ConnectionAbortedError(f"{type(error).__name__}: {error}") from error


def _ask(method, url, body, follow, limit):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    handlers = [urllib.request.ProxyHandler({})] + ([] if follow else [_NoRedirect])
    try:
        opener = urllib.request.build_opener(*handlers)
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.headers, _read(answer, limit)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, _read(error, limit)


def _read(answer, limit):
    data = answer.read(limit)
    if answer.length and len(data) < limit:
        # Python says so itself only of answers that are read without a limit, or in chunks.
        raise http.client.IncompleteRead(data, answer.length)
    return data


def ask_json(method, url, body=None):
    """As `ask`, with the answer parsed; text where it is no JSON, None where it is empty."""
    status, headers, data = ask(method, url, body)
    try:
        return status, headers, json.loads(data) if data else None
    except ValueError:
        return status, headers, data.decode(errors="replace")


def zookeeper_mode(address, port):
    """`leader`, `follower` or `standalone` of a server that serves; else None and what it said."""
    try:
        with socket.create_connection((address, port), TIMEOUT_S) as connection:
            connection.sendall(b"srvr")
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
    except OSError as error:
        return None, f"it cannot be reached: {error}"
    for line in answer.decode(errors="replace").splitlines():
        if line.startswith("Mode: "):
            return line[6:], line
    return None, answer.decode(errors="replace").strip()[:200]
