# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for Mastodon's image: small, but its web, streaming, sidekiq and rails tasks do real work.

Called under every name that Mastodon's compose files and admins use: ``bundle exec
rails s``, ``rails db:migrate``, ``npm run start``, ``node ./streaming``, ``bundle exec sidekiq``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import redis

ROOT = Path("/mastodon")
MIGRATIONS = {
    "20160220174730": "CREATE TABLE IF NOT EXISTS statuses ("
    "id bigserial PRIMARY KEY, text text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())",
    "20160223162837": "CREATE TABLE IF NOT EXISTS jobs ("
    "id bigserial PRIMARY KEY, queue text NOT NULL, done_at timestamptz NOT NULL DEFAULT now())",
    "20160223164502": "CREATE INDEX IF NOT EXISTS index_statuses_on_text ON statuses (text)",
}
ASSETS = {"application.css": "body { color: #282c37 }\n" * 64, "application.js": "void 0;\n" * 64}
STORE_ERRORS = (psycopg.Error, redis.RedisError, OSError)


def database() -> psycopg.Connection[Any]:
    """Connect as ``.env.production`` says."""
    return psycopg.connect(
        host=os.environ.get("DB_HOST", "localhost"),
        port=int(os.environ.get("DB_PORT") or 5432),
        user=os.environ.get("DB_USER") or "postgres",
        dbname=os.environ.get("DB_NAME") or "postgres",
        password=os.environ.get("DB_PASS") or None,
        connect_timeout=5,
        autocommit=True,
    )


def store() -> redis.Redis[Any]:
    """Return a client for the Redis that ``.env.production`` names."""
    return redis.Redis(
        host=os.environ.get("REDIS_HOST", "localhost"),
        port=int(os.environ.get("REDIS_PORT") or 6379),
        password=os.environ.get("REDIS_PASSWORD") or None,
        socket_connect_timeout=5,
    )


class Page(BaseHTTPRequestHandler):
    """The web and the streaming service."""

    def do_GET(self) -> None:
        if self.path in ("/health", "/api/v1/streaming/health"):
            self._answer(200, b"OK")
            return
        try:
            with database() as connection:
                statuses = connection.execute("SELECT count(*) FROM statuses").fetchone()
                jobs = connection.execute("SELECT count(*) FROM jobs").fetchone()
            answer = {"statuses": statuses and statuses[0], "jobs": jobs and jobs[0], "redis_keys": store().dbsize()}
        except STORE_ERRORS as exc:
            self._answer(500, f"{type(exc).__name__}: {exc}\n".encode())
            return
        self._answer(200, json.dumps(answer).encode())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        try:
            with database() as connection:
                row = connection.execute("INSERT INTO statuses (text) VALUES (%s) RETURNING id", [text]).fetchone()
            status = row[0] if row else 0
            store().set(f"status:{status}", text)
        except STORE_ERRORS as exc:
            self._answer(500, f"{type(exc).__name__}: {exc}\n".encode())
            return
        self._answer(200, json.dumps({"id": status}).encode())

    def log_message(self, *_args: object) -> None:
        """Say nothing: health checks come every few seconds."""

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def serve(port: int) -> int:
    """Answer on ``port`` until asked to stop."""
    server = ThreadingHTTPServer(("0.0.0.0", port), Page)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on 0.0.0.0:{port}", flush=True)
    server.serve_forever()
    return 0


def sidekiq() -> int:
    """Write a row and a key for each job, five a second, whatever the stores are going through."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    connection: psycopg.Connection[Any] | None = None
    while not stop.wait(0.2):
        try:
            connection = connection or database()
            row = connection.execute("INSERT INTO jobs (queue) VALUES ('default') RETURNING id").fetchone()
            store().set(f"sidekiq:job:{row[0] if row else 0}", "done")
        except STORE_ERRORS as exc:
            print(f"retrying: {type(exc).__name__}: {exc}".strip(), flush=True)
            if connection is not None:
                connection.close()
            connection = None
    return 0


def migrate() -> int:
    """Apply what ``schema_migrations`` does not list yet, each with its record in one transaction."""
    with database() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS schema_migrations (version varchar PRIMARY KEY)")
        applied = {row[0] for row in connection.execute("SELECT version FROM schema_migrations")}
        for version, statement in MIGRATIONS.items():
            if version in applied:
                continue
            with connection.transaction():
                connection.execute(statement)
                connection.execute("INSERT INTO schema_migrations VALUES (%s)", [version])
            print(f"== {version}: migrated", flush=True)
    return 0


def precompile() -> int:
    """Write the assets, named by their content, and the manifest that lists them."""
    target = ROOT / "public/assets"
    target.mkdir(parents=True, exist_ok=True)
    manifest = {}
    for name, content in ASSETS.items():
        stem, dot, suffix = name.rpartition(".")
        final = f"{stem}-{hashlib.sha256(content.encode()).hexdigest()[:32]}{dot}{suffix}"
        (target / final).write_text(content)
        manifest[name] = final
    (target / ".sprockets-manifest.json").write_text(json.dumps({"assets": manifest}))
    print(f"{len(manifest)} assets written to {target}")
    return 0


TASKS = {"db:migrate": migrate, "db:setup": migrate, "db:prepare": migrate, "assets:precompile": precompile}


def main(name: str, args: list[str]) -> int:
    """Find out what is wanted from the program's name and its arguments."""
    if name == "bundle":
        if args[:1] != ["exec"] or len(args) < 2:
            print(f"bundle: only `bundle exec` is known here, not {args}", file=sys.stderr)
            return 1
        name, args = args[1], args[2:]
    name = Path(name).name
    if name == "sidekiq":
        return sidekiq()
    if name == "puma" or (name == "rails" and args[:1] in (["s"], ["server"])):
        return serve(int(args[args.index("-p") + 1]) if "-p" in args else int(os.environ.get("PORT") or 3000))
    if (name == "node" and "streaming" in " ".join(args)) or (name in ("npm", "yarn") and args[-1:] == ["start"]):
        return serve(int(os.environ.get("PORT") or 4000))
    if name in ("rails", "rake") and args and all(task in TASKS for task in args):
        for task in args:
            TASKS[task]()
        return 0
    print(f"{name}: nothing known about {args}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
    except STORE_ERRORS as error:
        print(f"{type(error).__name__}: {error}".strip(), file=sys.stderr)
        sys.exit(1)
