# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import fit_for_a_message, last_words
from tests.unit.postgresql.fakes import a_container

POSTGRES = """\
2026-01-01 UTC [1] LOG:  database system is ready to accept connections
2026-01-01 UTC [9] ERROR:  role "app" does not exist
2026-01-01 UTC [9] STATEMENT:  ALTER ROLE app
\t  PASSWORD 'hunter2'
2026-01-01 UTC [9] ERROR:  duplicate key value violates unique constraint "users_email"
2026-01-01 UTC [9] DETAIL:  Key (email)=(jane@example.org) already exists.
psql:<stdin>:3: LINE 1: ALTER ROLE app PASSWORD 'hunter2'
                           ^
2026-01-01 UTC [1] FATAL:  database files are incompatible with server
2026-01-01 UTC [1] DETAIL:  The data directory was initialized by PostgreSQL version 15.
"""


def words(log: str, **container: Any) -> str:
    engine: Any = SimpleNamespace(logs=lambda _id, *, tail: log)
    return last_words(engine, a_container(**container), tail=20)


def test_what_clients_sent_is_left_out() -> None:
    said = words(POSTGRES)
    assert "hunter2" not in said
    assert "jane" not in said
    assert [line.partition("]")[2].split(":")[0] for line in said.splitlines()] == [
        " LOG", " ERROR", " ERROR", " FATAL", " DETAIL"
    ]  # fmt: skip


def test_secrets_of_the_container_are_masked() -> None:
    env = {
        "POSTGRES_PASSWORD": "s3cret",
        "DATABASE_URL": "postgres://a:w0rd@db/x",
        "POSTGRES_HOST_AUTH_METHOD": "trust",
    }
    command = ("redis-server", "--requirepass", "open-sesame")
    said = words("s3cret w0rd open-sesame, trust: 1\n", env=env, command=command)
    assert said == "******** ******** ********, trust: 1"


def test_of_what_lacks_its_beginning_the_first_statement_is_left_out_too() -> None:
    said = "word 'hunter2' OR\n\t  'swordfish'\n2026-01-01 UTC [9] ERROR:  no such role"
    assert fit_for_a_message(said, {}, (), cut=True) == "2026-01-01 UTC [9] ERROR:  no such role"
    assert fit_for_a_message(said, {}, ()) == said
    assert fit_for_a_message("", {}, (), cut=True) == ""
