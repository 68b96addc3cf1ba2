# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of real servers: taken, proved, started from, and damage found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    logical_backup,
    logical_proof,
    physical_backup,
    routes,
    sql,
)
from tests.integration import postgresql_lab
from tests.integration.postgresql_lab import MAJORS, USUAL, Lab

ODD = "we ird/d'b"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with postgresql_lab.lab(tmp_path) as made:
        yield made


def take(lab: Lab, container: Container, destination: Path) -> dict[str, Any]:
    cluster = lab.observe(container)
    with lab.session(container) as connection:
        route = routes.find_route(lab.engine, container, cluster, connection.login, replication=True)
    return physical_backup.take(
        lab.engine, container, cluster, route, destination=str(destination), operation=lab.operation, labels={}
    )


@pytest.mark.parametrize("major", MAJORS)
def test_a_physical_backup_is_proved_starts_and_shows_a_flipped_byte(lab: Lab, major: str) -> None:
    container = lab.start(major)
    lab.host.docker("exec", "-u", "postgres", container.name, "mkdir", "/tmp/fast")
    with lab.session(container) as connection:
        connection.run("CREATE TABLESPACE fast LOCATION '/tmp/fast'")
        connection.run("CREATE TABLE public.apart TABLESPACE fast AS SELECT generate_series(1, 99) AS id")
    lab.fill(container, 5000)
    writer = postgresql_lab.Writer(lab, container)
    writer.wait_for(20)
    acknowledged = set(writer.acknowledged)
    goal = lab.directory / "backup é"
    evidence = take(lab, container, goal)
    cluster = lab.observe(container)
    lab.engine.stop(container.id, signal="SIGINT", timeout=60)
    written = writer.join()

    assert evidence["system_identifier"] == str(cluster.system_identifier)
    assert evidence["bytes"] > 20_000_000
    assert evidence["files"] > 900
    assert evidence["start_lsn"] < evidence["stop_lsn"]
    assert os.stat(goal).st_mode & 0o777 == 0o700
    assert os.stat(goal).st_uid == 0
    assert os.stat(goal / "data").st_uid == 999
    assert not (lab.directory / "backup é.partial").exists()

    again = _verify(lab, container, goal, cluster.system_identifier)
    assert again["manifest_sha256"] == evidence["manifest_sha256"]
    with pytest.raises(StatefulError, match="holds the cluster"):
        _verify(lab, container, goal, 4711)

    # The proof works on the bytes, and one of them is enough.
    victim = next(
        path for path in sorted((goal / "data" / "base").rglob("*")) if path.is_file() and path.stat().st_size > 9000
    )
    original = victim.read_bytes()
    damaged = bytearray(original)
    damaged[8500] ^= 1
    victim.write_bytes(damaged)
    with pytest.raises(StatefulError, match="checksum mismatch"):
        _verify(lab, container, goal, cluster.system_identifier)
    victim.write_bytes(original)

    tablespace = goal / "tablespaces" / "fast"
    restored = lab.start(
        major,
        options=("-v", f"{goal}/data:{cluster.data_directory}", "-v", f"{tablespace}:/tmp/fast"),
    )
    with lab.session(restored) as connection:
        assert connection.scalar("SELECT count(*) FROM public.t") == 5000
        assert connection.scalar("SELECT count(*) FROM public.apart") == 99
        kept = {number for (number,) in connection.rows("SELECT id FROM public.written")}
    assert acknowledged <= kept
    assert kept <= written | {len(written) + 1}


def _verify(lab: Lab, container: Container, goal: Path, identifier: int) -> dict[str, Any]:
    return physical_backup.verify(
        lab.engine,
        container.image_id,
        destination=str(goal),
        system_identifier=identifier,
        tablespaces={"fast": "/tmp/fast"},
        operation=lab.operation,
        labels={},
    )


def test_a_full_disk_leaves_nothing_and_a_second_try_works(lab: Lab) -> None:
    container = lab.start(USUAL)
    with lab.small_file_system(16) as small:
        with pytest.raises(StatefulError, match="No space left on device"):
            take(lab, container, small / "backup")
        assert os.listdir(small) == []
        with pytest.raises(StatefulError, match="exists already"):
            take(lab, container, small)
    assert take(lab, container, lab.directory / "backup")["kind"] == "physical"


@pytest.mark.faults
def test_with_passwords_only_the_password_is_used_and_without_replication_the_reason_is_told(lab: Lab) -> None:
    container = lab.start(USUAL, options=("-e", "POSTGRES_PASSWORD=s3 cr'et"), trust=False)
    _hba(lab, container, "local all all scram-sha-256", "host all all all scram-sha-256")
    cluster = lab.observe(container)
    with lab.session(container) as connection:
        login = connection.login
    with pytest.raises(routes.NoRoute, match=r"no pg_hba\.conf entry for replication") as caught:
        routes.find_route(lab.engine, container, cluster, login, replication=True)
    assert cluster.hba_file in caught.value.next_command
    assert "s3 cr" not in caught.value.msg

    # Over the socket alone, then over loopback: whatever the server allows is found.
    _hba(lab, container, "local all,replication all scram-sha-256")
    by_socket = routes.find_route(lab.engine, container, cluster, login, replication=True)
    assert by_socket.network_mode == "none"
    assert take(lab, container, lab.directory / "by-socket")["files"] > 900
    _hba(lab, container, "local all all scram-sha-256", "host all,replication all 127.0.0.1/32 scram-sha-256")
    by_loopback = routes.find_route(lab.engine, container, cluster, login, replication=True)
    assert (by_loopback.host, by_loopback.network_mode) == ("127.0.0.1", f"container:{container.id}")


def _hba(lab: Lab, container: Container, *lines: str) -> None:
    script = f"printf '%s\\n' {' '.join(repr(line) for line in lines)} > $PGDATA/pg_hba.conf"
    lab.host.docker("exec", container.name, "sh", "-c", script)
    with lab.session(container) as connection:
        wanted = connection.scalar("SELECT pg_conf_load_time()::text")
        connection.rows("SELECT pg_reload_conf()")
        postgresql_lab.until(lambda: connection.scalar("SELECT pg_conf_load_time()::text") != wanted)


@pytest.mark.parametrize("major", MAJORS)
def test_a_logical_backup_is_restored_counted_and_shows_a_truncated_dump(lab: Lab, major: str) -> None:
    container = lab.start(major, "-c", "shared_preload_libraries=pg_stat_statements")
    lab.fill(container, 3000)
    with lab.session(container) as connection:
        connection.run("CREATE ROLE grp")
        connection.run("CREATE ROLE app LOGIN PASSWORD 'x' IN ROLE grp")
        connection.run("ALTER ROLE app SET default_transaction_read_only = on")
        name = sql.identifier(ODD)
        connection.run(f"CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' OWNER app")
        connection.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with connection.sibling(ODD) as there:
            there.run("SET default_transaction_read_only = off")
            there.run("CREATE EXTENSION pg_stat_statements SCHEMA public")
            there.run('CREATE TABLE public."it\'s" AS SELECT generate_series(1, 70) AS id')
            there.run('CREATE MATERIALIZED VIEW public.seen AS SELECT * FROM public."it\'s"')
            there.scalar("SELECT lo_from_bytea(0, 'large')")
        # Whoever connects there is somebody who may read neither the roles nor all that is to be dumped.
        connection.run(f"ALTER DATABASE {name} SET role = grp")

        writer = postgresql_lab.Writer(lab, container)
        writer.wait_for(5)
        cluster = lab.observe(container)
        goal = lab.directory / "dump"
        evidence = logical_backup.take_proved(
            lab.engine, connection, cluster, destination=str(goal), operation=lab.operation
        )
        assert evidence["databases"] == ["postgres", "template1", ODD]
        assert evidence["not_dumped"] == ["template0"]
        assert evidence["tables_compared"] == evidence["tables_restored"] == 4
        assert evidence["rows_compared"] >= 3000 + 70 + 70 + 5
        assert sorted(os.listdir(goal)) == ["SHA256SUMS", "dump"]
        files = [path for path in (goal / "dump").rglob("*") if path.is_file()]
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}

        # A dump that lost its tail.
        largest = max((path for path in files if ".dat" in path.name), key=lambda path: path.stat().st_size)
        whole = largest.read_bytes()
        largest.write_bytes(whole[: len(whole) // 2])
        # Some releases of pg_restore take half a file for a whole one; the rows tell.
        with pytest.raises(StatefulError, match=r"restore of the database|does not hold what its snapshot held"):
            _prove(lab, container, goal)
    lab.engine.stop(container.id, signal="SIGINT", timeout=60)
    assert len(writer.join()) > 5


@pytest.mark.faults
def test_a_table_that_is_rewritten_while_the_dump_waits_for_it_is_not_taken_for_an_empty_one(lab: Lab) -> None:
    container = lab.start(USUAL)
    lab.fill(container, 300)
    goal = lab.directory / "dump"
    with lab.session(container) as connection, lab.session(container) as admin, ThreadPoolExecutor(1) as beside:
        cluster = lab.observe(container)
        # It is never shown by a snapshot that is older than its end, and takes its lock until then.
        admin.run("BEGIN")
        admin.run("ALTER TABLE public.t ALTER COLUMN x TYPE integer USING length(x)")
        backup = beside.submit(
            logical_backup.take_proved,
            *(lab.engine, connection, cluster),
            destination=str(goal),
            operation=lab.operation,
        )
        postgresql_lab.until(lambda: admin.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0)
        admin.run("COMMIT")
        with pytest.raises(StatefulError, match=r"holds no row of postgres: public\.t"):
            backup.result()
        again = logical_backup.take_proved(
            lab.engine, connection, cluster, destination=str(goal), operation=lab.operation
        )
    assert again["rows_compared"] == 300


@pytest.mark.faults
def test_rows_that_are_missing_without_any_other_sign_are_found(lab: Lab) -> None:
    container = lab.start(USUAL)
    lab.fill(container, 300)
    goal = lab.directory / "dump"
    with lab.session(container) as connection:
        cluster = lab.observe(container)
        logical_backup.take_proved(lab.engine, connection, cluster, destination=str(goal), operation=lab.operation)
    catalogue = goal / "dump" / "catalogue.json"
    catalogue.write_text(catalogue.read_text().replace('"public.t": 300', '"public.t": 301'))
    with pytest.raises(StatefulError, match=r"public\.t has 300 rows, 301 before"):
        _prove(lab, container, goal)


def _prove(lab: Lab, container: Container, goal: Path) -> None:
    try:
        logical_proof.prove(
            lab.engine,
            container,
            lab.observe(container),
            place=str(goal),
            scratch_directory=str(lab.directory / "scratch"),
            owner=(999, 999),
            operation=lab.operation,
            labels={},
        )
    finally:
        assert not (lab.directory / "scratch").exists()
