# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real clusters moved by a standby, with a writer that never pauses."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    impediments,
    postmaster,
    routes,
    shutdown,
    standby,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from tests.integration import postgresql_lab
from tests.integration.postgresql_lab import MAJORS, USUAL, Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with postgresql_lab.lab(tmp_path) as made:
        yield made


def create(lab: Lab, container: Container, cluster: Cluster, connection: Session, directory: Path) -> standby.Standby:
    assert impediments.to_standby(cluster, container) == []
    return standby.create(
        lab.engine,
        container,
        cluster,
        connection,
        routes.find_route(lab.engine, container, cluster, connection.login, replication=True),
        directory=str(directory),
        operation=lab.operation,
        labels={},
        deadline=lab.deadline,
        clock=time.monotonic,
        pause=time.sleep,
    )


def stop(lab: Lab, container: Container, cluster: Cluster) -> None:
    server = postmaster.find_postmaster(container, cluster.data_directory)
    shutdown.stop_fast(lab.engine, container, server, timeout=60, clock=time.monotonic, pause=time.sleep)


@pytest.mark.parametrize("major", MAJORS)
def test_the_service_starts_on_the_standby_with_every_acknowledged_row(lab: Lab, major: str) -> None:
    # Passwords only, arguments of its own, and a configuration file from a mount.
    extra = lab.directory / "extra.conf"
    extra.write_text("work_mem = '7MB'\n")
    options = ("-e", "POSTGRES_PASSWORD=s3 cr'et", "-v", f"{extra}:/etc/extra.conf:ro")
    arguments = ("-c", "max_connections=200", "-c", "shared_preload_libraries=pg_stat_statements")
    container = lab.start(major, *arguments, options=options, trust=False)
    lab.fill(container, 2000)
    # Up to 13 passwords are stored as md5 unless told otherwise.
    method = "md5" if major == "13" else "scram-sha-256"
    hba = f"local all all {method}\\nhost all,replication all 127.0.0.1/32 {method}\\n"
    script = f'printf "{hba}" > $PGDATA/pg_hba.conf; echo "include \'/etc/extra.conf\'" >> $PGDATA/postgresql.conf'
    lab.host.docker("exec", container.name, "sh", "-c", script)
    with lab.session(container) as connection:
        connection.rows("SELECT pg_reload_conf()")
    postgresql_lab.until(lambda: _work_mem(lab, container) == "7MB")
    cluster = lab.observe(container)
    data = lab.data_of(container, cluster)
    configuration = (Path(data) / "postgresql.auto.conf").read_bytes()

    writer = postgresql_lab.Writer(lab, container)
    writer.wait_for(50)
    directory = lab.directory / "standby"
    with lab.session(container) as connection:
        made = create(lab, container, cluster, connection, directory)
        (helper,) = lab.helpers()
        assert helper.id == made.container_id
        assert not [word for word in helper.command if "s3 cr" in word]
        postgresql_lab.until(lambda: connection.rows("SELECT slot_name FROM pg_replication_slots") == [])
        with standby.open_session(lab.engine, made, connection) as there:
            assert there.scalar("SHOW max_connections") == "200"
            assert there.scalar("SHOW listen_addresses") == ""
            assert there.scalar("SELECT pg_is_in_recovery()")
        lag = standby.settle(
            lab.engine, made, connection, deadline=lab.deadline, clock=time.monotonic, pause=time.sleep
        )
        assert lag.bytes < 1 << 24
        follower = standby.open_session(lab.engine, made, connection)
    before = len(writer.acknowledged)
    writer.wait_for(before + 20)
    stop(lab, container, cluster)
    control = standby.finish(
        lab.engine,
        made,
        follower,
        primary_directory=data,
        deadline=lab.deadline,
        clock=time.monotonic,
        pause=time.sleep,
    )
    acknowledged = writer.join()
    assert len(acknowledged) >= before + 20
    assert control.system_identifier == cluster.system_identifier
    assert control.checkpoint_lsn == shutdown.prove_shut_down(data).checkpoint_lsn
    left = {"standby.signal", "backup_label", "backup_label.old", "backup_manifest", "recovery.signal"}
    assert not left & set(os.listdir(directory))
    assert (directory / "postgresql.auto.conf").read_bytes() == configuration
    lab.engine.remove_container(made.container_id)
    with pytest.raises(StatefulError, match="not removed"):
        standby.abandon(lab.engine, operation=lab.operation, directory=str(directory))

    moved = lab.start(major, *arguments, options=(*options, "-v", f"{directory}:{cluster.data_directory}"), trust=False)
    with lab.session(moved) as connection:
        assert {number for (number,) in connection.rows("SELECT id FROM public.written")} >= acknowledged
        assert connection.scalar("SELECT count(*) FROM public.t") == 2000
        assert connection.scalar("SELECT timeline_id FROM pg_control_checkpoint()") == control.timeline == 1
        assert not connection.scalar("SELECT pg_is_in_recovery()")
        assert connection.rows("SELECT name FROM pg_settings WHERE name = 'primary_conninfo' AND setting <> ''") == []
    assert lab.observe(moved).system_identifier == cluster.system_identifier


def _work_mem(lab: Lab, container: Container) -> str:
    with lab.session(container) as connection:
        return str(connection.scalar("SHOW work_mem"))


@pytest.mark.faults
def test_a_standby_that_was_cut_off_is_refused_and_the_original_is_whole(lab: Lab) -> None:
    container = lab.start(USUAL)
    lab.fill(container)
    cluster = lab.observe(container)
    data = lab.data_of(container, cluster)
    directory = lab.directory / "standby"
    with lab.session(container) as connection:
        made = create(lab, container, cluster, connection, directory)
        follower = standby.open_session(lab.engine, made, connection)
        lag = standby.lag_of(lab.engine, made, connection)
        assert lag is not None
        assert lag.bytes < 1 << 24
        # From here on nobody may replicate, and who does is sent away.
        lab.host.docker("exec", container.name, "sh", "-c", "echo 'local all all trust' > $PGDATA/pg_hba.conf")
        connection.rows("SELECT pg_reload_conf()")
        postgresql_lab.until(
            lambda: (
                connection.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_replication") == []
                and follower.scalar("SELECT count(*) FROM pg_stat_wal_receiver") == 0
            )
        )
        assert standby.lag_of(lab.engine, made, connection) is None
        connection.run("INSERT INTO public.t VALUES (-1, 'late')")
    stop(lab, container, cluster)
    with pytest.raises(StatefulError, match="does not hold all of the stopped cluster") as caught:
        standby.finish(
            lab.engine,
            made,
            follower,
            primary_directory=data,
            deadline=time.monotonic() + 1,
            clock=time.monotonic,
            pause=time.sleep,
        )
    assert "complete in its old place" in caught.value.state
    follower.close()
    standby.abandon(lab.engine, operation=lab.operation, directory=str(directory))
    assert lab.helpers() == []
    assert not directory.exists()
    lab.engine.start(container.id)
    with lab.session(lab.ready(container.name)) as connection:
        assert connection.scalar("SELECT x FROM public.t WHERE id = -1") == "late"


def test_a_full_disk_on_the_target_leaves_neither_helper_nor_directory(lab: Lab) -> None:
    container = lab.start(USUAL)
    cluster = lab.observe(container)
    with lab.small_file_system(16) as small, lab.session(container) as connection:
        with pytest.raises(StatefulError, match="No space left on device"):
            create(lab, container, cluster, connection, small / "standby")
        assert lab.helpers() == []
        assert os.listdir(small) == []
        postgresql_lab.until(lambda: connection.rows("SELECT slot_name FROM pg_replication_slots") == [])
        (lab.directory / "taken").mkdir()
        (lab.directory / "taken" / "precious").touch()
        with pytest.raises(StatefulError, match="in the way"):
            create(lab, container, cluster, connection, lab.directory / "taken")
    assert (lab.directory / "taken" / "precious").exists()
