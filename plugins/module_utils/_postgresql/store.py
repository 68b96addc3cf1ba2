# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Postgres as a store whose data can be moved: the parts of this package, in the order in which a move asks them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    control,
    counts,
    impediments,
    orphans,
    paths,
    postmaster,
    readiness,
    session,
    shutdown,
    store_backup,
    transport,
    wal_place,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import POSTGRESQL, REPLICA, StoreFacts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.processes import programs_in
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import (
    BackupRequest,
    Declared,
    Identity,
    Orphan,
    Report,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

SERVERS = frozenset(("postgres", "postmaster"))
COUNT_BUDGET = 10.0
COUNT_EXACT_UP_TO = 5_000_000


@dataclass(frozen=True)
class Login:
    """With whom the collection logs in; what is empty comes from the container's environment."""

    user: str = ""
    password: str = ""
    database: str = ""


class PostgresqlStore:
    """Meets ``_storage.store.Store``."""

    kind = POSTGRESQL

    def __init__(self, login: Login) -> None:
        self._login = login

    def session(self, engine: Engine, container: Container, like: Container | None = None) -> session.Session:
        """Connect to the server in ``container``, by the login of ``like`` where its own environment names none."""
        told = session.credentials_of(like or container)
        return session.connect(
            engine,
            container,
            user=self._login.user or told.user,
            password=self._login.password or told.password,
            database=self._login.database or told.database,
        )

    # -- questions ---------------------------------------------------------

    def declares(self, image_ref: str, env: Mapping[str, str]) -> Declared | None:
        if not session.is_postgresql(image_ref, env):
            return None
        return Declared(version=env.get("PG_MAJOR", ""), data_path=env.get("PGDATA", ""))

    def recognises(self, engine: Engine, container: Container, host_path_of: Callable[[str], str]) -> str:
        declared = self.declares(container.image_ref, container.env)
        if declared is None:
            return ""
        candidates = [declared.data_path or session.data_directory_of(container), "/var/lib/postgresql/data"]
        candidates += [mount.destination for mount in container.mounts]
        found = next((path for path in dict.fromkeys(candidates) if _is_cluster(host_path_of(path))), "")
        # What stands at the usual place may be an old cluster that this server does not use.
        return self._asked(engine, container, otherwise=found) if container.running else found

    def _asked(self, engine: Engine, container: Container, *, otherwise: str) -> str:
        """Return the data directory by the server's own word.

        Where none runs in this container, be it an exporter or a client of another
        server, that is ``otherwise``: what the files tell.
        """
        try:
            with self.session(engine, container) as connection:
                directory = str(connection.scalar("SHOW data_directory"))
        except StatefulError:
            if otherwise or (container.pid and not SERVERS & programs_in(container)):
                return otherwise
            raise
        here = postmaster.read_pid_file(paths.seen_path(container, directory)) is not None
        return directory if here else otherwise

    def observe(self, engine: Engine, container: Container, data_path: str, host_path: str) -> StoreFacts:
        identity = self.identity(host_path)
        if not container.running:
            return StoreFacts(
                kind=self.kind,
                version=str(identity["major"]),
                data_path=data_path,
                identity=identity,
                against={REPLICA: "the server does not run"},
                outside={
                    place: f"the tablespace {name}" for name, place in linked_tablespaces(host_path, data_path).items()
                },
                blockers=tuple(wal_place.blockers(container, data_path, host_path)),
            )
        with self.session(engine, container) as connection:
            cluster = observe_cluster(connection)
            lasting_session = connection.holds_transactions
        if str(cluster.system_identifier) != identity["system_identifier"]:
            raise StatefulError(
                f"{host_path} holds the cluster {identity['system_identifier']}, and the server in {container.name}"
                f" runs the cluster {cluster.system_identifier} in {cluster.data_directory}: its data is elsewhere.",
                next_command=shell(
                    *("docker", "exec", container.name, "psql", "-U", cluster.superuser, "-d", "postgres"),
                    *("-c", "SHOW data_directory"),
                ),
            )
        server = postmaster.read_pid_file(host_path)
        against = impediments.to_standby(cluster, container, lasting_session=lasting_session)
        return StoreFacts(
            kind=self.kind,
            version=cluster.major,
            data_path=cluster.data_directory,
            identity=identity,
            against={REPLICA: "; ".join(against)} if against else {},
            blockers=(
                *_blockers(cluster, container),
                *wal_place.blockers(container, cluster.data_directory, host_path),
            ),
            warnings=tuple(_warnings(cluster)),
            details={
                "server_version_num": cluster.server_version_num,
                "data_checksums": cluster.data_checksums,
                "databases": [database.name for database in cluster.databases],
                "relations": cluster.relations,
                "tablespaces": [asdict(space) for space in cluster.tablespaces],
                "unlogged_tables": cluster.unlogged_tables,
                "slots": [slot.name for slot in cluster.slots],
                "wal_level": cluster.wal_level,
                "listens": bool(server and server.listen_address),
                "physical_backup": impediments.to_physical_backup(cluster, container),
                "logical_backup": impediments.to_logical_backup(cluster),
            },
            outside={
                space.location: f"the tablespace {space.name}"
                for space in cluster.tablespaces
                if not _is_inside(space.location, cluster.data_directory)
            },
        )

    def identity(self, host_path: str) -> Identity:
        if not _is_cluster(host_path):
            raise StatefulError(
                f"{host_path} holds no Postgres cluster: a server started there would initialise an empty one.",
                next_command=shell("ls", "-la", host_path),
            )
        return _identity(host_path, control.read_control(host_path))

    def prove_stopped(self, host_path: str, facts: StoreFacts, since: float = 0.0) -> Identity:
        return _identity(host_path, shutdown.prove_shut_down(host_path))

    def differences(self, wanted: Identity, found: Identity) -> list[str]:
        different = [
            f"{key} is {found[key]} and should be {wanted[key]}"
            for key in ("system_identifier", "major")
            if str(wanted[key]) != str(found[key])
        ]
        if not different and _lsn(found["checkpoint"]) < _lsn(wanted["checkpoint"]):
            different.append(f"its checkpoint {found['checkpoint']} is older than {wanted['checkpoint']}")
        return different

    def took_writes(self, host_path: str, since: Identity) -> str:
        found = self.identity(host_path)
        if found["state"] not in control.SHUT_DOWN_STATES:
            return f"its server ended without a shutdown ({found['state']}), so nobody can tell from its files"
        transactions = int(found["next_xid"]) - int(since["next_xid"])
        return f"about {transactions} transactions" if transactions > 0 else ""

    def wait_ready(self, engine: Engine, container_id: str, facts: StoreFacts, timeout: float) -> None:
        readiness.wait_ready(
            engine,
            container_id,
            deadline=time.monotonic() + timeout,
            clock=time.monotonic,
            pause=time.sleep,
            expect_system_identifier=int(facts.identity["system_identifier"]),
            tcp=bool(facts.details.get("listens", True)),
            data_directory=facts.data_path,
            login=readiness.Login(self._login.user, self._login.password, self._login.database),
        )

    def counts(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        with self.session(engine, container) as connection:
            counted = counts.count_rows(connection, budget_seconds=COUNT_BUDGET, exact_up_to=COUNT_EXACT_UP_TO)
        return counts.as_dict(counted)

    def orphans(self, directory: str) -> list[Orphan]:
        return [
            Orphan(
                path=cluster.path,
                store=self.kind,
                version=cluster.major,
                identifier=str(cluster.system_identifier),
                state=cluster.state,
                last_write=cluster.last_write.isoformat(timespec="seconds"),
            )
            for cluster in orphans.find_clusters(directory)
        ]

    def compare_counts(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        found = counts.compare_counts(counts.from_dict(before), counts.from_dict(after))
        return [str(difference) for difference in found if difference.lost]

    # -- verbs -------------------------------------------------------------

    def backup(
        self, engine: Engine, container: Container, facts: StoreFacts, request: BackupRequest, report: Report
    ) -> Copy:
        with self.session(engine, container) as connection:
            return store_backup.take(engine, container, connection, request, report)

    def arrange_stop(self, engine: Engine, container: Container, facts: StoreFacts) -> Mapping[str, Any]:
        with self.session(engine, container) as connection:
            shutdown.checkpoint(connection)
        return {}

    def unarrange_stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any]) -> None:
        return None

    def halt(self, engine: Engine, container: Container, host_path: str, since: Identity, timeout: float) -> str:
        self.stop(engine, container, {}, timeout)
        return self.took_writes(host_path, since)

    def stop(self, engine: Engine, container: Container, arranged: Mapping[str, Any], timeout: float) -> None:
        # Found before the signal: the search walks /proc and belongs to the time when the server still serves.
        with self.session(engine, container) as connection:
            data_directory = connection.scalar("SHOW data_directory")
            server = postmaster.find_postmaster(container, data_directory)
            shutdown.checkpoint(connection)
        shutdown.stop_fast(engine, container, server, timeout=timeout, clock=time.monotonic, pause=time.sleep)


def postgresql_store(world: World) -> PostgresqlStore:
    """Return the world's own store of this kind, with all that it can do."""
    store = world.stores[POSTGRESQL]
    if not isinstance(store, PostgresqlStore):
        raise TypeError("the store of the kind postgresql is not one")
    return store


def _is_cluster(host_path: str) -> bool:
    return bool(host_path) and os.path.isfile(os.path.join(host_path, "global", "pg_control"))


def _identity(host_path: str, data: control.ControlData) -> dict[str, Any]:
    return {
        "system_identifier": str(data.system_identifier),
        "major": control.major_of(host_path),
        "state": data.state,
        "checkpoint": data.checkpoint_lsn,
        "next_xid": data.next_xid,
    }


def linked_tablespaces(host_path: str, data_path: str) -> dict[str, str]:
    """Return the tablespaces of a stopped cluster outside its data directory: their places by their oids.

    The links name paths inside the container, so that they are read and not followed.
    """
    directory = os.path.join(host_path, "pg_tblspc")
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    links = [name for name in names if os.path.islink(os.path.join(directory, name))]
    places = {name: os.readlink(os.path.join(directory, name)) for name in links}
    return {name: place for name, place in places.items() if not _is_inside(place, data_path)}


def _is_inside(path: str, directory: str) -> bool:
    return (path.rstrip("/") + "/").startswith(directory.rstrip("/") + "/")


def _lsn(text: str) -> int:
    high, _slash, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def _blockers(cluster: Cluster, container: Container) -> list[Blocker]:
    found = []
    if cluster.in_recovery:
        asking = ("docker", "exec", container.name, "psql", "-U", cluster.superuser, "-d", "postgres", "-xc")
        found.append(
            Blocker(
                f"The server in {container.name} is a standby in recovery: move its primary, or promote it first.",
                shell(*asking, "SELECT * FROM pg_stat_wal_receiver"),
            )
        )
    return found


def _warnings(cluster: Cluster) -> list[str]:
    found = []
    if cluster.prepared_transactions:
        found.append(f"{cluster.prepared_transactions} prepared transactions are open; they survive the restart.")
    lacking = transport.driver_missing()
    if lacking and cluster.server_version_num >= transport.FIRST_WITH_DRIVER:
        found.append(
            f"psycopg 3 is not on this host ({lacking}), so that psql in the container is asked,"
            " which takes longer, also in the downtime. The role selfhost.stateful.host_requirements installs it."
        )
    return found
