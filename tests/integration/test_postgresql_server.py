# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of a running server, on real ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    control,
    counts,
    orphans,
    paths,
    postmaster,
    readiness,
    session,
    shutdown,
    sql,
    transport,
)
from tests.integration import postgresql_lab
from tests.integration.postgresql_lab import MAJORS, USUAL, Lab

ODD = "we ird/d'b"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with postgresql_lab.lab(tmp_path) as made:
        yield made


@pytest.mark.parametrize("major", MAJORS)
def test_questions_a_clean_stop_and_the_control_file(lab: Lab, major: str) -> None:
    container = lab.start(major, "-c", "max_connections=177", "-c", "shared_preload_libraries=pg_stat_statements")
    lab.fill(container, 1234)
    with lab.session(container) as connection:
        connection.run(f"CREATE DATABASE {sql.identifier(ODD)}")
        with connection.sibling(ODD) as there:
            there.run('CREATE SCHEMA "Od""d"')
            there.run('CREATE TABLE "Od""d"."it\'s" AS SELECT generate_series(1, 7) AS id')
            there.run('CREATE UNLOGGED TABLE "Od""d".fleeting (id int)')
            there.run('CREATE MATERIALIZED VIEW "Od""d".never AS SELECT 1 AS one WITH NO DATA')
            there.run("CREATE TABLE public.p (id int) PARTITION BY RANGE (id)")
            there.run("CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES FROM (0) TO (100)")
            there.run("INSERT INTO public.p SELECT generate_series(1, 50)")

        cluster = lab.observe(container)
        assert cluster.major == major
        assert cluster.max_connections == 177
        assert cluster.shared_preload_libraries == "pg_stat_statements"
        assert cluster.unlogged_tables == 1
        assert cluster.superuser == "postgres"
        assert cluster.free_wal_senders == cluster.max_wal_senders > 1
        assert {database.name for database in cluster.databases} == {"postgres", "template0", "template1", ODD}
        assert cluster.relations > 300
        assert cluster.database_bytes > 20_000_000
        assert not cluster.in_recovery
        assert not cluster.files_outside()

        counted = counts.count_rows(connection, budget_seconds=60, exact_up_to=10_000)
        assert counts.as_dict(counted)["databases"] == {
            "postgres": {"public.t": 1234},
            "template1": {},
            ODD: {"Od\"d.it's": 7, 'Od"d.fleeting': 0, 'Od"d.never': "~0", "public.p1": 50},
        }
        assert counted.skipped == {"template0": "does not allow connections"}

    # The same through the other transport, type for type.
    with lab.session(container, "psql") as connection:
        assert connection.rows(
            "SELECT %s::text AS a, %s AS a, NULL AS b, true, 2::bigint ^ 3, ARRAY[1, 2]", ("it's \\ 100% \n é", 7)
        ) == [("it's \\ 100% \n é", 7, None, True, 8, [1, 2])]
        assert connection.scalar("SHOW max_connections") == "177"
        with pytest.raises(transport.SqlError) as caught:
            connection.rows("SELECT * FROM public.not_there")
        assert caught.value.sqlstate == "42P01"
        with pytest.raises(transport.SqlError) as caught:
            connection.limited(0.1).rows("SELECT pg_sleep(20)")
        assert caught.value.sqlstate == "57014"

    ready = readiness.wait_ready(
        lab.engine,
        container.id,
        deadline=lab.deadline,
        clock=time.monotonic,
        pause=time.sleep,
        expect_system_identifier=cluster.system_identifier,
    )
    assert ready.container_id == container.id

    live = control.read_control(paths.seen_path(container, cluster.data_directory))
    assert (live.state, live.system_identifier) == ("in production", cluster.system_identifier)
    with pytest.raises(StatefulError, match="left"):
        shutdown.prove_shut_down(paths.seen_path(container, cluster.data_directory))

    data = lab.data_of(container, cluster)
    server = postmaster.find_postmaster(container, cluster.data_directory)
    assert server.is_main
    with lab.session(container) as connection:
        shutdown.checkpoint(connection)
    shutdown.stop_fast(lab.engine, container, server, timeout=60, clock=time.monotonic, pause=time.sleep)
    proved = shutdown.prove_shut_down(data)
    printed = _controldata(lab, container, data)
    assert proved.checkpoint_lsn == printed["Latest checkpoint location"]
    assert proved.redo_lsn == printed["Latest checkpoint's REDO location"]
    assert str(proved.system_identifier) == printed["Database system identifier"]
    assert str(proved.control_version) == printed["pg_control version number"]
    assert str(proved.catalog_version) == printed["Catalog version number"]
    assert proved.state == printed["Database cluster state"]
    assert str(proved.timeline) == printed["Latest checkpoint's TimeLineID"]
    assert f"{proved.next_xid >> 32}:{proved.next_xid & 0xFFFFFFFF}" == printed["Latest checkpoint's NextXID"]
    assert f"{proved.checkpoint_time:%a %b %e %H:%M:%S %Y}" == " ".join(printed["Time of latest checkpoint"].split())
    mount = container.mount_at(cluster.data_directory)
    assert mount is not None
    (found,) = orphans.find_clusters(mount.source)
    assert (found.path, found.major, found.state) == (data.rstrip("/"), major, "shut down")


def _controldata(lab: Lab, container: Container, data: str) -> dict[str, str]:
    text = lab.host.docker(
        *("run", "--rm", "--network", "none", "--user", "999:999", "-e", "LC_ALL=C", "-e", "TZ=UTC"),
        *("--tmpfs", "/var/lib/postgresql", "--tmpfs", "/var/lib/postgresql/data", "-v", f"{data}:/data:ro"),
        *("--entrypoint", "pg_controldata", container.image_id, "/data"),
    )
    return {key: value.strip() for key, _colon, value in (line.partition(":") for line in text.splitlines())}


def test_the_driver_gives_the_same_values_as_psql(lab: Lab) -> None:
    container = lab.start(USUAL)
    query = "SELECT 1 AS a, 'x' AS a, NULL AS b, false, 2.50, 'NaN'::float8, '2020-01-01'::date, '1/2'::pg_lsn"
    with lab.session(container) as driver, lab.session(container, "psql") as psql:
        assert driver.rows(query) == psql.rows(query)
        assert driver.holds_transactions
        assert not psql.holds_transactions


def test_another_cluster_a_dead_server_and_a_temporary_one_are_not_ready(lab: Lab) -> None:
    container = lab.start(USUAL)
    with pytest.raises(StatefulError, match="another cluster"):
        _wait(lab, container.id, 4711)
    identifier = lab.observe(container).system_identifier
    lab.engine.stop(container.id, signal="SIGINT", timeout=60)
    with pytest.raises(StatefulError, match="instead of becoming ready"):
        _wait(lab, container.id, identifier)

    # While init scripts run, the temporary server answers on the socket: not ready by any probe.
    script = lab.directory / "wait.sh"
    script.write_text("until [ -e /tmp/go-on ]; do sleep 0.05; done\n")
    name = f"{container.name}-first"
    lab.undo.callback(lab.host.docker, "rm", "-fv", name, check=False)
    lab.host.docker(
        *("run", "-d", "--name", name, "-e", "POSTGRES_HOST_AUTH_METHOD=trust"),
        *("-v", f"{script}:/docker-entrypoint-initdb.d/wait.sh:ro", container.image_id),
    )
    postgresql_lab.until(lambda: _answers_by_socket(lab, name))
    first = lab.engine.container(name)
    assert first is not None
    assert readiness.obstacle(first, tcp=True) == "the server to listen on TCP"
    assert readiness.obstacle(first, tcp=False) == "the temporary server to end"
    lab.host.docker("exec", name, "touch", "/tmp/go-on")
    final = lab.ready(name)
    assert readiness.obstacle(final, tcp=False) == ""
    assert _wait(lab, final.id, lab.observe(final).system_identifier).container_id == final.id


def _answers_by_socket(lab: Lab, name: str) -> bool:
    container = lab.engine.container(name)
    assert container is not None
    try:
        lab.session(container).close()
        return True
    except StatefulError:
        return False


def _wait(lab: Lab, container_id: str, identifier: int) -> readiness.Ready:
    return readiness.wait_ready(
        lab.engine,
        container_id,
        deadline=lab.deadline,
        clock=time.monotonic,
        pause=time.sleep,
        expect_system_identifier=identifier,
    )


@pytest.mark.parametrize("front", ["init", "shell"])
def test_a_server_that_is_not_the_main_process_is_stopped_cleanly(lab: Lab, front: str) -> None:
    if front == "init":
        container = lab.start(USUAL, options=("--init",))
    else:
        command = "trap '' INT; docker-entrypoint.sh postgres & wait $!; exit 0"
        container = lab.start(USUAL, "-c", command, options=("--entrypoint", "sh"))
    cluster = lab.observe(container)
    server = postmaster.find_postmaster(container, cluster.data_directory)
    assert not server.is_main
    data = lab.data_of(container, cluster)
    stopped = shutdown.stop_fast(lab.engine, container, server, timeout=60, clock=time.monotonic, pause=time.sleep)
    assert not stopped.running
    assert shutdown.prove_shut_down(data).system_identifier == cluster.system_identifier


def test_a_password_is_found_and_a_wrong_one_is_explained(lab: Lab) -> None:
    secret = lab.directory / "secret"
    secret.write_text("it's \\ a secret\n")
    container = lab.start(
        USUAL,
        options=(
            "-e",
            "POSTGRES_PASSWORD_FILE=/run/secret",
            "-v",
            f"{secret}:/run/secret:ro",
            "-e",
            "POSTGRES_USER=Boss",
        ),
        trust=False,
    )
    lab.host.docker("exec", container.name, "sh", "-c", "echo 'local all all scram-sha-256' > $PGDATA/pg_hba.conf")
    with lab.session(container) as connection:
        connection.rows("SELECT pg_reload_conf()")
    postgresql_lab.until(lambda: _refused(lab, container, "wrong"))
    for way in ("psycopg", "psql"):
        with lab.session(container, way) as connection:
            assert connection.scalar("SELECT current_user::text") == "Boss"
    assert lab.observe(container).superuser == "Boss"


def _refused(lab: Lab, container: Container, password: str) -> bool:
    try:
        session.connect(lab.engine, container, password=password).close()
    except transport.SqlError as error:
        # Both ways were tried, and both answers are told.
        return error.msg.count("password authentication failed") >= 2
    return False
