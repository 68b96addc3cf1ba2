# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What dokku's nginx is to an app's visitors: one address, whatever container is behind it, and the page."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Front:
    """Answers on the loopback: 503 in maintenance, 502 without a container, else what web answers."""

    def __init__(self, address: Callable[[], str], in_maintenance: Callable[[], bool]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(address, in_maintenance))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The address that visitors use."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Front:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def fetch(url: str, *, data: bytes | None = None, timeout: float = 10) -> tuple[int, bytes]:
    """Return the status and the body, 502 where nobody answers."""
    try:
        with urllib.request.urlopen(url, data=data, timeout=timeout) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()
    except OSError as exc:
        return 502, str(exc).encode()


def _handler(address: Callable[[], str], in_maintenance: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._forward(None)

        def do_POST(self) -> None:
            self._forward(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

        def _forward(self, data: bytes | None) -> None:
            if in_maintenance():
                code, body = 503, b"maintenance\n"
            else:
                behind = address()
                code, body = fetch(f"http://{behind}{self.path}", data=data) if behind else (502, b"no container\n")
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
