# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logins that applications are told, in every form that is common, and none to another server."""

from __future__ import annotations

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import logins
from tests.unit.postgresql.fakes import Asked, FakeEngine, a_container

SERVER = a_container(name="app-db-1", labels={"com.docker.compose.service": "db"})
WEB = {"com.docker.compose.service": "web"}


@pytest.mark.parametrize(
    "env",
    [
        {"DATABASE_URL": "postgres://app:p%40ss@db/site"},
        {"DATABASE_URL": "postgresql+psycopg://app:p%40ss@db:5432/site?sslmode=disable"},
        {"DB_HOST": "db", "DB_PORT": "5432", "DB_USER": "app", "DB_PASS": "p@ss", "DB_NAME": "site"},
        {"PGHOST": "db", "PGUSER": "app", "PGPASSWORD": "p@ss", "PGDATABASE": "site"},
        {"POSTGRES_HOST": "db:5432", "POSTGRES_USER": "app", "POSTGRES_PASSWORD": "p@ss", "POSTGRES_DB": "site"},
        {"DSN": "host=db user=app password='p@ss' dbname=site port=5432 sslmode=disable"},
    ],
)
def test_every_form_is_read(env: dict[str, str]) -> None:
    (found,) = logins.logins_of([a_container(labels=WEB, env=env)], SERVER)
    assert str(found) == "web as app to site at db:5432"
    assert found.password == "p@ss"
    assert "p@ss" not in repr(found)


@pytest.mark.parametrize(
    "env",
    [
        {"DATABASE_URL": "postgres://app:x@elsewhere/site"},
        {"REDIS_HOST": "redis", "REDIS_USER": "app"},
        {"SMTP_HOST": "db"},
        {"DATABASE_URL": "postgres://app:x@db:port/site"},
        {"REDIS_URL": "redis://app:x@db/0"},
        {},
    ],
)
def test_what_leads_elsewhere_is_none(env: dict[str, str]) -> None:
    assert logins.logins_of([a_container(labels=WEB, env=env)], SERVER) == []


def test_a_server_without_a_service_is_known_by_its_name_and_its_aliases() -> None:
    server = a_container(name="pg", labels={}, aliases=("database",))
    told = [
        a_container(name=host, labels={}, env={"PGHOST": host, "PGUSER": "app"}) for host in ("pg", "database", "db")
    ]
    assert [login.host for login in logins.logins_of(told, server)] == ["database", "pg"]


def test_one_that_is_told_twice_is_tried_once() -> None:
    env = {"DATABASE_URL": "postgres://app:x@db/site", "OTHER_URL": "postgresql://app:x@db:5432/site"}
    assert len(logins.logins_of([a_container(labels=WEB, env=env)] * 2, SERVER)) == 1


def test_the_password_is_no_argument_and_the_refusal_is_the_servers_own() -> None:
    def answer(asked: Asked) -> ExecResult:
        assert "geheim" not in " ".join(asked.argv)
        right = asked.environment["PGPASSWORD"] == "geheim"
        return ExecResult(asked.argv, 0, b"1\n", b"") if right else ExecResult(asked.argv, 2, b"", b"FATAL: no\n")

    login = logins.AppLogin("web", "db", "5432", "o'app", "site", "geheim")
    engine = FakeEngine(answer)
    assert logins.refusal(engine, SERVER, login) == ""  # type: ignore[arg-type]
    assert r"user='o\'app'" in " ".join(engine.asked[0].argv)
    other = logins.AppLogin("web", "db", "5432", "app", "site", "wrong")
    assert logins.refusal(engine, SERVER, other) == "FATAL: no"  # type: ignore[arg-type]
