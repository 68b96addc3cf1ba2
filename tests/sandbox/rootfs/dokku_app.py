# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small app: ``web`` answers while its database does, ``worker`` writes and notes what was acknowledged.

Both read ``DATABASE_URL``. The worker appends ``<id> <host of the database>`` to ``/acknowledged/<process>``
once the commit is acknowledged, so that a test can tell whether a row is missing, and where it was written.
Neither makes tables: in an empty database ``/`` answers 500 and the worker retries.
"""

from __future__ import annotations

import os
import signal
import sys

# The first process ignores what it has no handler for, and the imports below take a moment.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

ERRORS = (psycopg.Error, OSError, KeyError)
ACKNOWLEDGED = "/acknowledged"
FAULT = os.environ.get("SANDBOX_APP_FAULT", "")


def address() -> str:
    """Return ``DATABASE_URL`` with a scheme that libpq knows."""
    return "postgresql://" + os.environ["DATABASE_URL"].partition("://")[2]


def connect() -> psycopg.Connection[Any]:
    """Connect, and give a silent server up after a few seconds."""
    return psycopg.connect(address(), connect_timeout=3, autocommit=True, tcp_user_timeout=3000)


class Page(BaseHTTPRequestHandler):
    """``/health`` asks the database anything, ``/`` counts rows, a POST adds one."""

    def do_GET(self) -> None:
        if FAULT == "app-does-not-answer":
            self._answer(500, "the app is broken")
            return
        question = "SELECT 1" if self.path == "/health" else "SELECT count(*) FROM worker_rows"
        self._ask(question)

    def do_POST(self) -> None:
        self._ask(f"INSERT INTO worker_rows (id) VALUES ({time.time_ns()}) RETURNING id")

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def _ask(self, question: str) -> None:
        try:
            with connect() as connection:
                row = connection.execute(question.encode()).fetchone()
        except ERRORS as exc:
            self._answer(500, f"{type(exc).__name__}: {exc}")
            return
        self._answer(200, str(row[0] if row else ""))

    def _answer(self, code: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def web() -> int:
    """Answer until asked to stop."""
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT") or 5000)), Page)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.05)
    return 0


def worker() -> int:
    """Write a row at a time, whatever the database is going through."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    interval = float(os.environ.get("WORKER_INTERVAL") or 0.01)
    host = urllib.parse.urlsplit(os.environ.get("DATABASE_URL", "")).hostname
    notes = os.open(f"{ACKNOWLEDGED}/{os.environ.get('DYNO', 'worker')}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    connection: psycopg.Connection[Any] | None = None
    said = ""
    while not stop.wait(interval):
        try:
            connection = connection or connect()
            number = time.time_ns()
            connection.execute("INSERT INTO worker_rows (id) VALUES (%s)", [number])
        except ERRORS as exc:
            words = f"{type(exc).__name__}: {exc}".strip()
            if words != said:
                print(f"retrying: {words}", flush=True)
                said = words
            if connection is not None:
                connection.close()
            connection = None
            stop.wait(0.05)
            continue
        os.write(notes, f"{number} {host}\n".encode())
    if connection is not None:
        connection.close()
    return 0


if __name__ == "__main__":
    if FAULT == "app-does-not-start":
        sys.exit("the app is broken")
    sys.exit({"web": web, "worker": worker}[sys.argv[1]]())
