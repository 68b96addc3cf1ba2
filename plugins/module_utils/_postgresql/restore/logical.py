# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A logical backup into a running server that holds nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import (
    Blocker,
    StatefulError,
    refusal,
    shell,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import globals as cluster_globals
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    helpers,
    logical_catalogue,
    logical_proof,
    logical_restore,
    paths,
    routes,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import Record
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.counts import emptied_before
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import from_dict
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_catalogue import Catalogue
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.logical_restore import TEMPLATE
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.pg_restore import Target
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore import empty, note
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore.model import (
    NOTHING,
    RESTORE,
    Plan,
    Restored,
    not_empty,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mounts


@dataclass(frozen=True)
class Server:
    """The running server that is restored into; ``directory`` is its data directory as this host sees it.

    ``session`` is connected to the one database that is not replaced, ``template1``.
    """

    engine: Engine
    session: Session
    cluster: Cluster
    directory: str

    @property
    def container(self) -> Container:
        return self.session.container

    def content_of(self, database: str) -> list[str]:
        return empty.content_of(self.session, database, self.cluster.server_version_num)


def open_server(engine: Engine, session: Session) -> Server:
    session.without_timeouts()
    cluster = observe_cluster(session)
    return Server(engine, session, cluster, paths.seen_path(session.container, cluster.data_directory))


def plan(server: Server, record: Record, path: str) -> Plan:
    """Say what a run does; changes nothing."""
    cluster = server.cluster
    system = mounts.filesystem_of(_host_path(server, cluster.data_directory))
    catalogue = logical_catalogue.read_catalogue(os.path.join(path, logical_catalogue.DUMP))
    target = f"the cluster {cluster.system_identifier} in {server.container.name}"
    left = note.read(server.directory)
    if left is not None and left.state == note.RESTORED and left.backup == record.id:
        text = f"{target} holds this backup already: it was restored there from {left.path}."
        return Plan(NOTHING, record, target, 0, system.bytes_free, text)
    # A tablespace may lie on a disk of its own.
    apart = [_host_path(server, space.location) for space in catalogue.globals.tablespaces]
    system = replace(system, bytes_free=mounts.bytes_free((system.path, *apart)))
    # The dump is compressed; what it becomes was noted with it, if not by an earlier version.
    needed = max(2 * record.bytes, int(record.evidence.get("database_bytes", 0)))
    return Plan(
        action=RESTORE,
        record=record,
        target=target,
        needed_bytes=needed,
        free_bytes=system.bytes_free,
        text=f"The logical backup {path} ({record.source}, {record.moment}, Postgres {record.server_version}) is"
        f" restored into {target}: {len(catalogue.directories)} databases and {len(catalogue.globals.roles)} roles.",
        blockers=tuple(_blockers(server, record, catalogue, left, system, needed)),
    )


def _host_path(server: Server, path: str) -> str:
    return paths.mountable_path(server.container, path) or paths.seen_path(server.container, path)


def _blockers(
    server: Server,
    record: Record,
    catalogue: Catalogue,
    left: note.Note | None,
    system: mounts.FileSystem,
    needed: int,
) -> list[Blocker]:
    cluster, container = server.cluster, server.container
    found = []
    if cluster.server_version_num // 10000 < record.server_version_num // 10000:
        found.append(
            Blocker(
                f"The backup is of Postgres {record.major}, and {container.name} runs {cluster.major}: a dump goes into"
                " the same or a newer major version."
            )
        )
    if cluster.in_recovery:
        found.append(Blocker(f"The server in {container.name} is a standby: it takes no writes but its primary's."))
    interrupted = left is not None and left.state == note.RESTORING
    ours = (*left.roles, *left.tablespaces) if left is not None and interrupted else ()
    published = interrupted and _is_published(server, record, left)
    reasons = empty.occupants(server.session, cluster.server_version_num, ours=ours).reasons
    if reasons and not published:
        look = ("docker", "exec", container.name, "psql", "-U", cluster.superuser, "-d", TEMPLATE, "-c", r"\l")
        found.append(not_empty(f"The cluster in {container.name}", reasons, shell(*look)))
    # What is published needs no room any more: all but template1 is there.
    if not published:
        reclaimed = logical_restore.leftover_bytes(server.session) if interrupted else 0
        found += _lack(system, needed - system.bytes_free - reclaimed)
    existing = cluster_globals.tablespace_names(server.session)
    for space in catalogue.globals.tablespaces:
        if space.name not in existing and not _is_empty_directory(container, space.location):
            make = ("docker", "exec", "-u", "0", container.name, "install", "-d", "-m", "700")
            uid, gid = paths.owner_of(server.directory)
            found.append(
                Blocker(
                    f"The tablespace {space.name} belongs into {space.location} in {container.name}, which is no empty"
                    " directory there: mount one.",
                    shell(*make, "-o", str(uid), "-g", str(gid), space.location),
                )
            )
    return found


def _lack(system: mounts.FileSystem, missing: int) -> list[Blocker]:
    if missing <= 0:
        return []
    return [
        Blocker(
            f"{system.mount_point} lacks about {missing:,} bytes for what the backup holds.",
            shell("df", "-h", system.mount_point),
        )
    ]


def _is_published(server: Server, record: Record, left: note.Note | None) -> bool:
    """Tell whether an interrupted restore of this backup got as far as the names: what is there is in use then."""
    ours = left is not None and left.backup == record.id
    return ours and logical_restore.is_published(logical_restore.database_names(server.session))


def _is_empty_directory(container: Container, path: str) -> bool:
    place = paths.seen_path(container, path)
    return os.path.isdir(place) and not os.listdir(place)


def carry_out(server: Server, planned: Plan, path: str, *, jobs: int, operation: str) -> Restored:
    """Restore, compare, publish. Where it fails before that the cluster is empty again, or the message says why not."""
    if planned.blockers:
        raise refusal(planned.blockers, plan_text=planned.text)
    left = note.read(server.directory)
    if planned.action == NOTHING:
        return Restored("it was restored before", _drop_leftovers(server))
    record, session, engine = planned.record, server.session, server.engine
    logical_catalogue.check_sums(path)
    dump = os.path.join(path, logical_catalogue.DUMP)
    catalogue = logical_catalogue.read_catalogue(dump)
    route = routes.find_route(engine, server.container, server.cluster, session.login, replication=False)
    target = Target(session, server.cluster.server_version_num, route, server.container.image_id, helpers.alone(engine))
    if left is not None and left.state == note.RESTORING:
        if _is_published(server, record, left):
            return _finish(server, target, planned, path, dump, catalogue, left, operation)
        logical_restore.clear(session, left.roles, left.tablespaces)
    begun = note.Note(
        note.RESTORING,
        record.id,
        path,
        record.moment,
        logical_restore.missing_roles(target, catalogue.globals),
        logical_restore.missing_tablespaces(target, catalogue.globals),
    )
    note.write(server.directory, begun)
    try:
        brought = logical_restore.bring(
            target,
            dump,
            catalogue,
            jobs=jobs,
            operation=operation,
            labels={},
            expected=from_dict(record.content) if record.content else None,
        )
        logical_restore.publish(session, catalogue)
    except BaseException as error:
        _take_back(server, begun, error)
        raise
    done = _finish(server, target, planned, path, dump, catalogue, begun, operation)
    also = "; nothing that the backup had when it was proved is missing" if record.content else ""
    if brought.emptied_behind:
        also += (
            f"; {', '.join(brought.emptied_behind[:20])}: emptied or rewritten while the dump was taken, could not be"
            " counted, and restored with the rows that the dump has"
        )
    without = emptied_before(catalogue.replaced, brought.counts)
    if without:
        also += (
            f"; {', '.join(without[:20])}: rewritten or emptied when the dump began, which has no row of them, whatever"
            " they held"
        )
    compared = logical_proof.compared(catalogue.counts, brought.counts)
    return Restored(
        f"{compared['tables_compared']} of {compared['tables_restored']} tables ({compared['rows_compared']} rows) were"
        f" compared with the snapshot of the dump before anybody could write to them, and are equal{also}",
        (*(f"the role {name} was there, and is as it was" for name in brought.kept_roles), *done.kept),
        brought.left_out,
    )


def _finish(
    server: Server,
    target: Target,
    planned: Plan,
    path: str,
    dump: str,
    catalogue: Catalogue,
    begun: note.Note,
    operation: str,
) -> Restored:
    """Fill template1, which the others do not need, and note that all is there."""
    if TEMPLATE in catalogue.directories and not server.content_of(TEMPLATE):
        try:
            logical_restore.fill_template(target, dump, catalogue, operation=operation, labels={})
        except StatefulError as error:
            error.state = (
                f"all databases but {TEMPLATE} are restored in {server.container.name}, compared, and in use;"
                f" {TEMPLATE} is empty. The backup in {path} is untouched."
            )
            raise
    note.write(server.directory, note.Note(note.RESTORED, begun.backup, path, begun.moment))
    return Restored("an interrupted restore was finished", _drop_leftovers(server))


def _drop_leftovers(server: Server) -> tuple[str, ...]:
    kept = logical_restore.drop_leftovers(server.session, is_empty=lambda name: not server.content_of(name))
    return tuple(f"somebody wrote into a database that was to be replaced: it is kept as {name}" for name in kept)


def _take_back(server: Server, begun: note.Note, error: BaseException) -> None:
    """Make the cluster empty again, and let the failure say what is in it."""
    name = server.container.name
    try:
        with server.session.sibling() as session:
            if logical_restore.is_published(logical_restore.database_names(session)):
                state = (
                    f"all databases are restored in {name} and have their names; the next run finishes what is left."
                    f" The backup in {begun.path} is untouched"
                )
            else:
                logical_restore.clear(session, begun.roles, begun.tablespaces)
                note.remove(server.directory)
                state = (
                    f"the cluster in {server.container.name} is empty again; the backup in {begun.path} is untouched"
                )
    except StatefulError as second:
        state = (
            f"the cluster in {name} holds what was restored so far, in databases whose names begin"
            f" with {logical_restore.TEMPORARY}, and the roles {', '.join(begun.roles) or '(none)'}: {second.msg} The"
            f" backup in {begun.path} is untouched."
        )
        if isinstance(error, StatefulError):
            error.next_command = second.next_command or error.next_command
    if isinstance(error, StatefulError):
        error.state = state
