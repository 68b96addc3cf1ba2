# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fixups that ship: an affected minor is put right, a server that is not affected is left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError
from tests.integration.postgresql_lab import Lab, lab
from tests.support.module_run import answer_of, start

FIXUPS = Path(__file__).resolve().parents[2] / "roles/postgresql_image/files/fixups"
STATISTICS, FOREIGN_KEYS = sorted(path.name for path in FIXUPS.iterdir())
AFFECTED = [pytest.param(major, marks=pytest.mark.faults) for major in ("16-older", "13-older")]
UNAFFECTED = [
    pytest.param("17"),
    *(pytest.param(major, marks=pytest.mark.faults) for major in ("13-newer", "15", "18")),
]

SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE shop.customers_1 PARTITION OF shop.customers FOR VALUES FROM (0) TO (100);
CREATE TABLE shop.customers_2 PARTITION OF shop.customers FOR VALUES FROM (100) TO (200);
CREATE TABLE shop."Orders" (id int, customer int REFERENCES shop.customers) PARTITION BY RANGE (id);
CREATE TABLE shop."Orders of 2023" PARTITION OF shop."Orders" FOR VALUES FROM (0) TO (100);
CREATE TABLE shop.orders_2024 PARTITION OF shop."Orders" FOR VALUES FROM (100) TO (200);
CREATE TABLE shop.plain (id int, customer int REFERENCES shop.customers);
CREATE TABLE shop.trees (id int PRIMARY KEY, parent int REFERENCES shop.trees) PARTITION BY RANGE (id);
CREATE TABLE shop.trees_1 PARTITION OF shop.trees FOR VALUES FROM (0) TO (100);
INSERT INTO shop.customers VALUES (1), (101);
INSERT INTO shop."Orders" VALUES (1, 1), (2, 101), (101, 1);
INSERT INTO shop.plain VALUES (1, 1);
COMMENT ON CONSTRAINT "Orders_customer_fkey" ON shop."Orders of 2023" IS 'who bought';
ALTER TABLE shop."Orders" DETACH PARTITION shop."Orders of 2023";
"""
STATISTICS_OF_A_SECRET = """
CREATE TABLE shop.salaries (name int, salary int);
INSERT INTO shop.salaries SELECT g % 10, 4711 FROM generate_series(1, 1000) g;
CREATE STATISTICS shop.paid (mcv) ON name, salary FROM shop.salaries;
CREATE STATISTICS shop.doubled ON (salary * 2) FROM shop.salaries;
ANALYZE shop.salaries;
CREATE ROLE stranger LOGIN;
CREATE ROLE boss LOGIN;
ALTER TABLE shop.salaries OWNER TO boss;
"""
VIEWS = ("pg_stats_ext", "pg_stats_ext_exprs")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path / "lab") as made:
        yield made


def run(here: Lab, server: Container, *, check: bool = False) -> dict[str, Any]:
    options = {
        "container": server.name,
        "docker_host": here.host.host,
        "src": str(FIXUPS),
        "src_on": "host",
        "series": "fixups",
        "backup": "none",
        "operations_dir": str(here.directory / "operations"),
    }
    return answer_of(start("postgresql_migrations", options, check=check))


def states(result: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in result["ledger"]}


def seen_by(session: Session, role: str) -> dict[str, int]:
    session.run(f"SET ROLE {role}")
    try:
        return {view: session.scalar(f"SELECT count(*) FROM {view} WHERE tablename = 'salaries'") for view in VIEWS}
    finally:
        session.run("RESET ROLE")


def is_enforced(session: Session) -> bool:
    """Tell whether a customer who has orders in the detached table cannot go."""
    session.run("BEGIN")
    try:
        session.run("DELETE FROM shop.customers WHERE id = 101")
    except SqlError as error:
        return "violates foreign key constraint" in error.msg
    finally:
        session.run("ROLLBACK")
    return False


def definitions(session: Session) -> list[tuple[Any, ...]]:
    return session.rows(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')"
        " FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1, 2"
    )


def view_definitions(session: Session) -> list[tuple[Any, ...]]:
    return session.rows(
        "SELECT relname, pg_get_viewdef(oid), reloptions::text, relacl::text FROM pg_class"
        " WHERE relname IN ('pg_stats_ext', 'pg_stats_ext_exprs') ORDER BY 1"
    )


@pytest.mark.parametrize("major", AFFECTED)
def test_an_affected_server_is_put_right_once(here: Lab, major: str) -> None:
    server = here.start(major)
    with here.session(server) as session:
        session.script(SCHEMA)
        shows = int(major[:2]) > 13
        if shows:
            session.script(STATISTICS_OF_A_SECRET)
            # A stranger sees what is in a table of which no column may be read.
            assert seen_by(session, "stranger")["pg_stats_ext_exprs"] == 1
        keys = definitions(session)
        assert not is_enforced(session), "the server that the test is for is not affected"

        result = run(here, server)
        assert states(result) == {STATISTICS: "done" if shows else "recognised", FOREIGN_KEYS: "done"}
        assert is_enforced(session)
        assert definitions(session) == keys
        if shows:
            assert seen_by(session, "stranger") == dict.fromkeys(VIEWS, 0)
            assert seen_by(session, "boss") == {"pg_stats_ext": 2, "pg_stats_ext_exprs": 1}
        again = run(here, server)
        assert (again["changed"], again["ran"]) == (False, [])


@pytest.mark.parametrize("major", UNAFFECTED)
def test_a_server_that_is_not_affected_is_left_as_it_is(here: Lab, major: str) -> None:
    server = here.start(major)
    with here.session(server) as session:
        session.script(SCHEMA)
        # 13.23 lets go of the key while it detaches: what is not there cannot be told from what never was.
        assert major == "13-newer" or is_enforced(session)
        before = definitions(session), view_definitions(session)

        result = run(here, server)
        assert states(result) == {STATISTICS: "recognised", FOREIGN_KEYS: "recognised"}
        # By hand, past what guards them: the files alone are idempotent too.
        for name in (STATISTICS, FOREIGN_KEYS):
            session.script((FIXUPS / name).read_text())
        assert (definitions(session), view_definitions(session)) == before


@pytest.mark.faults
def test_rows_that_came_in_meanwhile_are_named_and_nothing_is_changed(here: Lab) -> None:
    server = here.start("16-older")
    with here.session(server) as session:
        session.script(SCHEMA)
        session.run("DELETE FROM shop.customers WHERE id = 101")  # which the broken key lets happen
        keys = definitions(session)

        result = run(here, server)
        assert result["failed"]
        assert all(
            word in result["msg"] for word in ("Orders of 2023", "shop.customers", "Orders_customer_fkey", "101")
        )
        assert definitions(session) == keys
        assert states({"ledger": [{"name": row[0], "state": row[1]} for row in session.rows(
            "SELECT name, state FROM selfhost_stateful.migrations")]}) == {STATISTICS: "done"}  # fmt: skip

        session.run("INSERT INTO shop.customers VALUES (101)")
        assert states(run(here, server))[FOREIGN_KEYS] == "done"
        assert is_enforced(session)


@pytest.mark.faults
def test_the_views_become_what_upstreams_own_file_makes_of_them(here: Lab) -> None:
    """On a 15 with its views put back as an older minor made them."""
    server = here.start("15")
    upstream = here.host.docker("exec", server.name, "cat", "/usr/share/postgresql/15/fix-CVE-2024-4317.sql")
    with here.session(server) as session:
        fixed = view_definitions(session)
        for name, text, _options, _acl in fixed:
            older = text.rstrip(";").split(" WHERE ")[0] if name == "pg_stats_ext_exprs" else _with_columns(text)
            session.run(f"CREATE OR REPLACE VIEW pg_catalog.{name} WITH (security_barrier) AS {older}")
        assert view_definitions(session) != fixed
        session.script((FIXUPS / STATISTICS).read_text())
        assert view_definitions(session) == fixed
        session.script(upstream)
        assert view_definitions(session) == fixed


def _with_columns(text: str) -> str:
    asks = (
        "NOT EXISTS (SELECT 1 FROM unnest(s.stxkeys) k(k) JOIN pg_attribute a ON a.attrelid = s.stxrelid AND a.attnum"
        " = k.k WHERE NOT has_column_privilege(c.oid, a.attnum, 'select'))"
    )
    return text.rstrip(";").replace("pg_has_role(c.relowner, 'USAGE'::text)", asks)
