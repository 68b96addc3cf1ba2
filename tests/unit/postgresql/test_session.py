# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount, ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import session, transport
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import Route
from tests.unit.postgresql.fakes import Asked, FakeEngine, a_container

LOGIN = transport.Login(
    user="app admin",
    password="se cret",
    database="it's",
    socket_directory="/run/pg",
    port=5433,
    os_user="999:999",
    statement_timeout=1.5,
)


def psql(answer: object = None, *, rc: int = 0, stderr: bytes = b"") -> tuple[session.Session, FakeEngine]:
    def reply(asked: Asked) -> ExecResult:
        return ExecResult(asked.argv, rc, json.dumps(answer).encode() + b"\n", stderr)

    engine = FakeEngine(answer=reply)
    psql_transport = transport.PsqlTransport(engine, "c", LOGIN)  # type: ignore[arg-type]
    return session.Session(engine, a_container(), LOGIN, psql_transport), engine  # type: ignore[arg-type]


def test_psql_gets_secrets_by_environment_and_statements_by_stdin() -> None:
    connection, engine = psql([{"n": 1}])
    assert connection.rows("SELECT %s AS n", ("pass'word",)) == [(1,)]
    (asked,) = engine.asked
    assert asked.argv[0] == "psql"
    assert not [word for word in asked.argv if "se cret" in word or "SELECT" in word or "pass'word" in word]
    assert asked.environment["PGPASSWORD"] == "se cret"
    assert asked.environment["PGOPTIONS"].startswith("-c search_path=pg_catalog -c statement_timeout=1500")
    assert b"SELECT 'pass''word' AS n" in asked.stdin
    assert asked.user == "999:999"
    assert asked.argv[asked.argv.index("-d") + 1] == "it's"
    assert asked.argv[asked.argv.index("-h") + 1] == "/run/pg"


def test_an_answer_may_span_lines() -> None:
    assert transport.parse_psql(b'[{"a":1}, \n {"a":"x\\ny"}]\n') == '[{"a":1}, \n {"a":"x\\ny"}]'
    assert transport.parse_psql(b"") == ""


def test_a_refusal_carries_its_code() -> None:
    said = b'psql:<stdin>:1: ERROR:  42P01: Relation "x" existiert nicht\nPOSITION:  parserOpenTable, x.c:1'
    connection, _engine = psql(rc=3, stderr=said)
    with pytest.raises(transport.SqlError, match="Relation") as caught:
        connection.run("SELECT * FROM x")
    assert caught.value.sqlstate == "42P01"


@pytest.mark.parametrize("message", ["psql: error: connection refused", "", "port 5432: closed", "psql: FATAL: no"])
def test_no_code_is_no_code(message: str) -> None:
    assert transport.sqlstate_of(message) == ""


def test_scalar_wants_one_value() -> None:
    with pytest.raises(transport.SqlError, match="2 rows"):
        psql([{"a": 1}, {"a": 2}])[0].scalar("SELECT 1")
    with pytest.raises(transport.SqlError, match="1 rows"):
        psql([{"a": 1, "b": 2}])[0].scalar("SELECT 1, 2")
    assert psql([{"a": None}])[0].scalar("SELECT NULL") is None


def test_a_limit_never_becomes_no_limit() -> None:
    assert transport.milliseconds(0) == 0
    assert transport.milliseconds(0.0001) == 1
    connection, engine = psql([{"a": 1}])
    connection.limited(0.0001).scalar("SELECT 1")
    assert "statement_timeout=1 " in engine.asked[0].environment["PGOPTIONS"] + " "


@pytest.mark.parametrize("seconds,expected", [(0.0, 0), (0.0004, 1), (1, 1000), (1.0001, 1001), (2.5, 2500)])
def test_a_limit_is_never_shorter_than_asked_and_never_none_by_rounding(seconds: float, expected: int) -> None:
    assert transport.milliseconds(seconds) == expected


@pytest.mark.parametrize(
    "tag,rows",
    [
        *(("INSERT 0 5", "5"), ("INSERT 16385 1", "1"), ("UPDATE 0", "0"), ("DELETE 12", "12"), ("MERGE 3", "3")),
        *(("COPY 7", "7"), ("SELECT 5", None), ("FETCH 5", None), ("MOVE 5", None), ("CREATE TABLE", None)),
        *(("INSERT 5", None), ("COPY", None), ("", None), ("UPDATE 3 ", None)),
    ],
)
def test_rows_are_counted_where_a_command_changes_them(tag: str, rows: str | None) -> None:
    found = transport.CHANGING.fullmatch(tag)
    assert (found and found[1]) == rows


@pytest.mark.parametrize(
    "env, user, database", [({}, "postgres", "postgres"), ({"POSTGRES_USER": "paperless"}, "paperless", "postgres")]
)
def test_a_stopped_container_names_its_login(env: dict[str, str], user: str, database: str) -> None:
    told = session.credentials_of(a_container(pid=0, status="exited", env=env))
    assert (told.user, told.password, told.database) == (user, "", database)


def test_the_secret_of_a_stopped_container_is_read_from_its_mount(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    mount = EngineMount("bind", str(tmp_path / "secret"), "/run/secrets/db", False)
    env = {"POSTGRES_PASSWORD_FILE": "/run/secrets/db"}
    told = session.credentials_of(a_container(pid=0, status="exited", env=env, mounts=(mount,)))
    assert told.password == "hunter2"
    assert "hunter2" not in repr(told)
    assert session.credentials_of(a_container(pid=0, status="exited", env=env)).password == ""


def test_the_login_is_in_no_representation_of_a_route() -> None:
    assert "hunter2" not in repr(Route("h", 1, "u", "none", (), {"PGPASSWORD": "hunter2"}))
    assert "se cret" not in repr(LOGIN)


def test_what_an_interrupted_drop_left_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no matter of a login, and connections to it are refused for ever."""

    def refused(*_asked: object) -> None:
        raise session.SqlError('FATAL: cannot connect to invalid database "half"')

    monkeypatch.setattr(session, "open_driver", refused)
    login = transport.Login("boss", "", "half", "", 5432, "")
    with pytest.raises(session.SqlError, match="interrupted") as told:
        session._open(FakeEngine(), a_container(), login, only="psycopg")  # type: ignore[arg-type]
    assert told.value.next_command.startswith("docker exec app-db-1 psql -U boss -d template1")
    assert "DROP DATABASE" in told.value.next_command


@pytest.mark.parametrize(("ourselves", "role"), [(True, {"role": "none"}), (False, {})])
def test_another_session_stays_who_we_are_whatever_role_its_database_has(
    ourselves: bool, role: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that became somebody else by its own default is left to that: it may be a superuser by it alone."""
    opened: list[transport.Login] = []
    monkeypatch.setattr(session, "_open", lambda engine, container, login, only: opened.append(login))
    connection, engine = psql([{"?column?": ourselves}])
    connection.sibling("forum", {"lock_timeout": "1000"})
    connection.sibling()
    assert [login.extra for login in opened] == [{**role, "lock_timeout": "1000"}, role]
    assert opened[0].database == "forum"
    assert len(engine.asked) == 1
