# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a backup of a running cluster and prove it, or find that it is there already."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL, Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import (
    AGAIN,
    InvalidInput,
    StatefulError,
    refusal,
    shell,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    impediments,
    logical_backup,
    logical_catalogue,
    logical_proof,
    paths,
    physical_backup,
    routes,
    staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup import live, physical_proof, record
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import (
    AUTO,
    LOGICAL,
    NOTHING,
    PHYSICAL,
    RESTORE,
    VERIFY,
    Facts,
    Place,
    Plan,
    Record,
    Wanted,
    changes_since,
    closed_databases,
    not_dumped_in_words,
    plan_backup,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import as_dict
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import take
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable, mounts, scan

PROOF_SUFFIX = ".proof"


@dataclass(frozen=True)
class Source:
    """The server that is backed up; ``name`` is what an admin calls it."""

    engine: Engine
    session: Session
    cluster: Cluster
    name: str

    @property
    def container(self) -> Container:
        return self.session.container

    @property
    def operation(self) -> str:
        """The name that helpers bear: the same at every attempt, also at another path, so that the next finds them."""
        who = f"{self.container.name} {self.cluster.system_identifier}"
        return f"backup-{hashlib.sha256(who.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Observed:
    """What is known before anything is done; ``route`` is None where no replication connection is let in."""

    plan: Plan
    existing: Record | None
    route: routes.Route | None


def open_source(engine: Engine, session: Session, name: str) -> Source:
    """Ask the server for its facts."""
    return Source(engine, session, observe_cluster(session), name)


def observe(source: Source, wanted: Wanted) -> Observed:
    """Find what is there and plan; raises :class:`InvalidInput` where the path cannot be that of a backup."""
    existing = _existing(source, wanted)
    _check_outside(source, wanted.path)
    route, refused = _replication(source) if wanted.format != LOGICAL and existing is None else (None, "")
    cluster = source.cluster
    facts = Facts(
        against_physical=(
            *impediments.to_physical_backup(cluster, source.container),
            *((refused,) if refused else ()),
        ),
        against_logical=tuple(impediments.to_logical_backup(cluster)),
        size_bytes=cluster.size_bytes,
        database_bytes=cluster.database_bytes,
        unlogged_tables=cluster.unlogged_tables,
        closed=closed_databases(one.name for one in cluster.databases if not one.allows_connections),
    )
    planned = plan_backup(wanted, facts, _place(wanted.path), existing, source.name)
    return Observed(replace(planned, warnings=(*planned.warnings, *_left_beside(wanted.path))), existing, route)


def _left_beside(path: str) -> Iterator[str]:
    """Yield what to say of partial backups with another name: nobody but an admin can tell whether one is at work."""
    parent = os.path.dirname(path)
    for name in sorted(os.listdir(parent)) if os.path.isdir(parent) else ():
        left = os.path.join(parent, name)
        ours = name.endswith(staging.SUFFIX) and os.path.isfile(os.path.join(left, staging.MARKER))
        if ours and left != path + staging.SUFFIX:
            yield f"{left} belongs to a backup that is at work, or was interrupted: remove it in that case."


def carry_out(source: Source, wanted: Wanted, observed: Observed) -> Record:
    """Do what was planned, and return the record of the backup; the caller holds the project's lock."""
    plan = observed.plan
    if plan.blockers:
        raise refusal(plan.blockers, plan_text=plan.text)
    operation = source.operation
    if observed.existing is not None and plan.action == NOTHING:
        return observed.existing
    for helper in source.engine.containers(labels={OPERATION_LABEL: operation}):
        source.engine.remove_container(helper.id, force=True)
    with told(wanted.path, existing=observed.existing is not None):
        if observed.existing is not None:
            return _prove_existing(source, wanted, observed.existing, operation)
        durable.make_private(os.path.dirname(wanted.path))
        with staging.staged(wanted.path) as place:
            taken = _take_physical if plan.format == PHYSICAL else _take_logical
            made = taken(source, wanted, observed.route, place, operation)
            record.write(place, made)
            return made


@contextmanager
def told(path: str, *, existing: bool) -> Iterator[None]:
    """Let every failure say where the data is."""
    state = (
        f"the backup in {path} is as it was; the server was only read"
        if existing
        else f"nothing is left at {path}; the server was only read and goes on working"
    )
    try:
        yield
    except StatefulError as error:
        if error.state == StatefulError.NOTHING_CHANGED:
            error.state = state
        raise
    except OSError as error:
        raise StatefulError(
            f"The backup could not be written: {error}.",
            state=state,
            next_command=shell("df", "-h", mounts.nearest_existing(path)),
        ) from error


def _existing(source: Source, wanted: Wanted) -> Record | None:
    path = wanted.path
    if not os.path.lexists(path):
        return None
    found = record.read(path)
    if found.system_identifier != str(source.cluster.system_identifier):
        raise InvalidInput(
            f"{path} holds a backup of the cluster {found.system_identifier} ({found.source}, {found.moment}), and"
            f" {source.name} is the cluster {source.cluster.system_identifier}: name another path.",
            next_command=shell("ls", "-la", os.path.dirname(path)),
        )
    if wanted.format not in (AUTO, found.format):
        raise InvalidInput(
            f"{path} holds a {found.format} backup of {found.moment}, and format: {wanted.format} is asked for: name"
            " another path.",
            next_command=shell("ls", "-la", os.path.dirname(path)),
        )
    files, size = record.measure(path)
    changed = changes_since(found, files=files, size=size)
    if changed:
        raise StatefulError(
            f"The backup in {path} is not as it was finished at {found.moment}: {'; '.join(changed)}. Do not rely on"
            " it; move it away and take another.",
            state=f"{path} was only looked at",
            next_command=shell("mv", path, f"{path}.damaged"),
        )
    return found


def _check_outside(source: Source, path: str) -> None:
    cluster = source.cluster
    for inside in (cluster.data_directory, *(space.location for space in cluster.tablespaces)):
        real = os.path.realpath(paths.mountable_path(source.container, inside) or "/nonexistent")
        if (os.path.realpath(path) + "/").startswith(real.rstrip("/") + "/"):
            raise InvalidInput(
                f"{path} lies inside {real}, which is the data of {source.name}: name a path elsewhere, best on another"
                " disk.",
                next_command=shell("df", "-h", real),
            )


def _replication(source: Source) -> tuple[routes.Route | None, str]:
    """Return the way by which a base backup can be taken, or why there is none."""
    login = source.session.login
    try:
        return routes.find_route(source.engine, source.container, source.cluster, login, replication=True), ""
    except routes.NoRoute as error:
        return None, error.msg


def _place(path: str) -> Place:
    system = mounts.filesystem_of(path)
    left = path + staging.SUFFIX
    reclaimed = scan.tree_size(left).bytes_allocated if os.path.isdir(left) and not os.path.islink(left) else 0
    return Place(system.mount_point, system.bytes_free, reclaimed, system.read_only)


def _take_physical(source: Source, wanted: Wanted, route: routes.Route | None, place: str, operation: str) -> Record:
    if route is None:
        raise StatefulError(f"No replication connection to {source.name} is let in any more.", next_command=AGAIN)
    session, engine, container, cluster = source.session, source.engine, source.container, source.cluster
    before = live.look(session, wanted.jobs) if wanted.prove == RESTORE else None
    evidence = physical_backup.fill(
        engine,
        container,
        cluster,
        route,
        place=place,
        destination=wanted.path,
        operation=operation,
        labels={},
    )
    made = _record(source, PHYSICAL, place, evidence, f"pg_verifybackup read {evidence['manifest_files']} files")
    if before is None:
        return made
    return _prove_physical(source, made, place, os.path.join(place, "scratch"), operation, before, wanted.jobs)


def _prove_physical(
    source: Source, made: Record, place: str, directory: str, operation: str, before: live.Look | None, jobs: int
) -> Record:
    """Restore into a scratch server; ``before`` is None for a backup of another day, which only itself can tell of."""
    snapshot, after = live.snapshot(source.session), live.tables_of(source.session)
    with physical_proof.restored(
        source.engine,
        source.container,
        source.cluster,
        place=place,
        directory=directory,
        operation=operation,
        labels={},
    ) as server:
        found = take(server, jobs=jobs)
        tables = live.tables_of(server)
    content = as_dict(found)
    if before is None:
        return replace(made, prove=RESTORE, proof=f"{made.proof}; {live.read(found)}", content=content)
    verdict = live.judge(before, after, snapshot, tables, found)
    if verdict.lost:
        raise StatefulError(
            f"The restored backup lacks what the live server has: {'; '.join(verdict.lost[:20])}.",
            next_command=AGAIN,
        )
    words = f"{made.proof}; {live.in_words(verdict, found)}"
    return replace(made, prove=RESTORE, proof=words, content=content, differences=verdict.moved)


def _take_logical(source: Source, wanted: Wanted, route: routes.Route | None, place: str, operation: str) -> Record:
    session, cluster = source.session, source.cluster
    owner = paths.owner_of(paths.seen_path(source.container, cluster.data_directory))
    dumped = logical_backup.take(
        source.engine, session, cluster, place=place, owner=owner, operation=operation, labels={}, jobs=wanted.jobs
    )
    evidence = logical_backup.evidence_of(place, wanted.path, cluster, dumped)
    if wanted.prove == RESTORE:
        return _prove_logical(
            source,
            _record(source, "logical", place, evidence, ""),
            place,
            os.path.join(place, "scratch"),
            operation,
            wanted,
        )
    logical_proof.read_whole(source.engine, source.container.image_id, place=place, operation=operation, labels={})
    read = f"pg_restore read every dump to its end; it was restored nowhere{not_dumped_in_words(evidence)}"
    others = [f"{one.name}: {table}" for one in dumped for table in one.replaced]
    if others:
        read += (
            f"; somebody rewrote or emptied {', '.join(others[:20])} meanwhile: whether their rows are in it, only"
            " prove: restore tells"
        )
    return _record(source, "logical", place, evidence, read)


def _prove_logical(source: Source, made: Record, place: str, directory: str, operation: str, wanted: Wanted) -> Record:
    proved = logical_proof.prove(
        source.engine,
        source.container,
        source.cluster,
        place=place,
        scratch_directory=directory,
        owner=paths.owner_of(os.path.join(place, logical_catalogue.DUMP)),
        operation=operation,
        labels={},
        jobs=wanted.jobs,
        fingerprint=True,
    )
    proof = (
        f"restored into a scratch container; {proved['tables_compared']} of {proved['tables_restored']} tables"
        f" ({proved['rows_compared']} rows) were compared with the snapshot of the dump, and are equal"
        f"{not_dumped_in_words(made.evidence)}"
    )
    if proved["left_out"]:
        proof += f"; the server did not know these settings of roles and databases: {', '.join(proved['left_out'])}"
    return replace(made, prove=RESTORE, proof=proof, content=proved["content"])


def _prove_existing(source: Source, wanted: Wanted, found: Record, operation: str) -> Record:
    directory = wanted.path + PROOF_SUFFIX
    with staging.working(directory) as scratch:
        inner = os.path.join(scratch, "scratch")
        if found.format == PHYSICAL:
            physical_backup.verify(
                source.engine,
                source.container.image_id,
                destination=wanted.path,
                system_identifier=int(found.system_identifier),
                tablespaces={space["name"]: space["location"] for space in found.tablespaces},
                operation=operation,
                labels={},
            )
            proved = _prove_physical(source, found, wanted.path, inner, operation, None, wanted.jobs)
        else:
            logical_catalogue.check_sums(wanted.path)
            proved = _prove_logical(source, found, wanted.path, inner, operation, wanted)
    record.write(wanted.path, proved)
    return proved


def _record(source: Source, format_name: str, place: str, evidence: dict[str, Any], proof: str) -> Record:
    cluster, container = source.cluster, source.container
    files, size = record.measure(place)
    return Record(
        format=format_name,
        moment=evidence["moment"],
        server_version=str(source.session.scalar("SHOW server_version")).split()[0],
        server_version_num=cluster.server_version_num,
        major=cluster.major,
        system_identifier=str(cluster.system_identifier),
        superuser=cluster.superuser,
        image=container.image_ref,
        image_id=container.image_id,
        source=source.name,
        bytes=size,
        files=files,
        tablespaces=tuple(
            {"oid": space.oid, "name": space.name, "location": space.location} for space in cluster.tablespaces
        ),
        prove=VERIFY,
        proof=proof,
        evidence={key: value for key, value in evidence.items() if key not in ("path", "seconds", "bytes", "files")},
    )
