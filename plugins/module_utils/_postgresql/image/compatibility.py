# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands between a cluster and a candidate image, and which ways lead there. Pure: facts in, a comparison out."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import costs, needs
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    ANOTHER_CLUSTER,
    GLIBC,
    PG_UPGRADE,
    STRATEGIES,
    SWAP,
    CandidateImage,
    Comparison,
    Subject,
    Way,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.needs import Lack, looking, shown
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster

MANY_RELATIONS = 3000
GLIBC_THAT_CHANGED_MOST = (2, 28)
STANDBY = "standby"
CLONE = "clone"
COPY = "copy"
HOW = {
    STANDBY: "hard links on a standby that is promoted",
    CLONE: "shared blocks of a clone",
    COPY: "hard links on a copy",
}


def compare(
    subject: Subject,
    candidate: CandidateImage,
    *,
    standby_possible: bool,
    reflinks: bool,
    same_filesystem: bool,
    container: str = "",
) -> Comparison:
    """Return what a change from the subject's image to ``candidate`` meets.

    ``standby_possible``: whether a physical standby of the cluster can be made.
    ``reflinks`` and ``same_filesystem``: whether the file system of the data shares
    blocks between files, and whether the new data directory will lie on it.
    ``container`` is named in the commands that look at what a blocker is about.
    """
    reindex = order_change(subject, candidate)
    if candidate.id == subject.image.id:
        return _nothing_to_do(subject, reindex)
    of_the_cluster = _of_the_cluster(subject.cluster, container, reindex=bool(reindex))
    lacks = (*needs.lacks(subject, candidate, container), *of_the_cluster)
    same_major = candidate.major == subject.cluster.major
    closed = {
        strategy: against for strategy in STRATEGIES if (against := _against(strategy, subject, candidate, same_major))
    }
    # What every way that is open at all meets forbids the change; the rest only closes a way more.
    open_ways = [strategy for strategy in STRATEGIES if strategy not in closed]
    blocking = tuple(lack for lack in lacks if set(open_ways) <= set(lack.ways))
    lesser = tuple(lack for lack in lacks if lack not in blocking)
    by = CLONE if reflinks and same_filesystem else STANDBY if standby_possible else COPY
    ways = tuple(
        Way(
            strategy=strategy,
            impediments=closed.get(strategy, ()) + tuple(lack.text for lack in lesser if strategy in lack.ways),
            downtime=costs.downtime(strategy, subject.cluster, subject.inventory, reindex=bool(reindex), by=by),
            space=costs.space(strategy, subject.cluster, subject.inventory, reindex=bool(reindex), by=by),
            reason=_reason(strategy, subject, candidate, by),
        )
        for strategy in STRATEGIES
    )
    return Comparison(
        same_image=False,
        same_major=same_major,
        reindex=reindex,
        updates=needs.updates(subject, candidate),
        ways=ways,
        blockers=tuple(Blocker(lack.text, lack.command) for lack in blocking),
        warnings=tuple(_warnings(subject, candidate, reindex)),
        goes_down=not same_major and not _goes_up(subject, candidate),
    )


def _nothing_to_do(subject: Subject, reindex: str) -> Comparison:
    why = f"the server runs this very image already ({subject.image.id[7:19]})"
    return Comparison(
        same_image=True,
        same_major=True,
        reindex=reindex,
        updates=(),
        ways=tuple(Way(strategy, (why,), 0.0, 0) for strategy in STRATEGIES),
        warnings=tuple(_reindex_warnings(subject, reindex)),
    )


def order_change(subject: Subject, candidate: CandidateImage) -> str:
    """Return why text would be ordered otherwise than its indexes are; empty where it is not.

    musl tells no version of its collations and orders by code point in every
    locale, so that one musl follows another, and any other libc is a change.
    """
    image, collations = subject.image, subject.inventory.collations
    # Nobody can look into a database that is closed: it may name any collation.
    providers = {collation.provider for collation in collations} | set("ci" if _closed(subject.cluster) else "")
    reasons = []
    if candidate.id != image.id and "c" in providers:
        if candidate.libc != image.libc:
            reasons.append(
                f"the libc changes from {image.libc} {image.libc_version} to {candidate.libc} {candidate.libc_version}"
            )
        elif candidate.libc == GLIBC and candidate.libc_version != image.libc_version:
            across = _across_2_28(image.libc_version, candidate.libc_version)
            reasons.append(f"glibc changes from {image.libc_version} to {candidate.libc_version}{across}")
    if candidate.id != image.id and "i" in providers and candidate.icu != image.icu:
        reasons.append(f"ICU changes from {image.icu or 'none'} to {candidate.icu or 'none'}")
    stale = [c for c in collations if c.recorded and c.actual and c.recorded != c.actual]
    if stale:
        where = ", ".join(dict.fromkeys(f"{c.database} ({c.recorded}, runs on {c.actual})" for c in stale))
        reasons.append(f"the collation versions of the libraries differ already from those recorded in {where}")
    return "; ".join(reasons)


def _across_2_28(one: str, other: str) -> str:
    versions = sorted(tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) for version in (one, other))
    if versions[0] < GLIBC_THAT_CHANGED_MOST <= versions[1]:
        return ", across 2.28, which ordered most languages anew"
    return ""


def _major(server_version_num: int) -> int:
    """Return a number by which majors are compared: 906 for 9.6, 1700 for 17."""
    return server_version_num // 10000 * 100 if server_version_num >= 100000 else server_version_num // 100


def _goes_up(subject: Subject, candidate: CandidateImage) -> bool:
    return _major(candidate.server_version_num) > _major(subject.cluster.server_version_num)


def _against(strategy: str, subject: Subject, candidate: CandidateImage, same_major: bool) -> tuple[str, ...]:
    """Return why a way does not lead there at all, whatever the cluster holds."""
    here, there = subject.cluster.major, candidate.major
    if strategy == SWAP and not same_major:
        return (f"a server of {there} cannot run on the files of {here}",)
    if strategy == PG_UPGRADE and same_major:
        return (f"both are of major {here}, and pg_upgrade goes to a higher one",)
    if strategy == PG_UPGRADE and not _goes_up(subject, candidate):
        return (f"pg_upgrade does not go down from {here} to {there}",)
    return ()


def _reason(strategy: str, subject: Subject, candidate: CandidateImage, by: str) -> str:
    here, there = subject.image.version, candidate.version
    if strategy == SWAP:
        return f"the same files, served by {there} in place of {here}"
    if strategy == PG_UPGRADE:
        return f"the files are taken from {here} to {there} by {HOW[by]}, and the original stays"
    up = _goes_up(subject, candidate) or candidate.major == subject.cluster.major
    clients = candidate.major if up else subject.cluster.major
    return f"dumped from {here} by the clients of {clients} and restored into a new cluster of {there}"


def _closed(cluster: Cluster) -> list[str]:
    return [d.name for d in cluster.databases if not d.allows_connections and d.name != "template0"]


def _of_the_cluster(cluster: Cluster, container: str, *, reindex: bool) -> Iterable[Lack]:
    if cluster.in_recovery:
        yield Lack(
            "The server is in recovery, a standby of another one: change the image of its primary, and make the standby"
            " anew from that.",
            STRATEGIES,
            looking(container, cluster, "postgres", "SELECT * FROM pg_stat_wal_receiver"),
        )
    if cluster.prepared_transactions:
        yield Lack(
            f"{cluster.prepared_transactions} prepared transactions are open, and only the very files carry them: let"
            " the application finish them, or COMMIT PREPARED or ROLLBACK PREPARED each.",
            ANOTHER_CLUSTER,
            looking(container, cluster, "postgres", "TABLE pg_prepared_xacts"),
        )
    if cluster.tablespaces:
        # In a tablespace pg_upgrade links beside the original's own files, and the new server would write to those.
        named = ", ".join(f"{space.name} ({space.location})" for space in cluster.tablespaces)
        yield Lack(
            f"The cluster has tablespaces: {named}. What another server makes there would lie beside the files of the"
            " original, which has to stay as it is: move what they hold to pg_default and drop them first.",
            ANOTHER_CLUSTER,
            looking(container, cluster, "postgres", "SELECT spcname FROM pg_tablespace"),
        )
    shut = _closed(cluster)
    if shut:
        reindexing = ", nor can their indexes be built in the new order of text" if reindex else ""
        yield Lack(
            f"The databases {', '.join(shut)} allow no connections, so neither pg_upgrade nor a dump gets at them"
            f"{reindexing}: set ALLOW_CONNECTIONS true for each, or drop it.",
            STRATEGIES if reindex else ANOTHER_CLUSTER,
            looking(container, cluster, "postgres", "SELECT datname FROM pg_database WHERE NOT datallowconn"),
        )


def _warnings(subject: Subject, candidate: CandidateImage, reindex: str) -> Iterable[str]:
    cluster, inventory, image = subject.cluster, subject.inventory, subject.image
    if candidate.major == cluster.major and candidate.server_version_num < cluster.server_version_num:
        yield (
            f"{candidate.reference} has {candidate.version}, which is older than the {image.version} that runs: fixes"
            " since then are taken back."
        )
    yield from _reindex_warnings(subject, reindex)
    yield from needs.warnings(subject, candidate)
    if candidate.user != image.user:
        yield (
            f"The server runs as {_owner(candidate)} in place of {_owner(image)}: its files change their owner to that."
        )
    if (candidate.data_directory, candidate.volumes) != (image.data_directory, image.volumes):
        yield (
            f"The image keeps its cluster in {candidate.data_directory} (volume {shown(candidate.volumes) or 'none'})"
            f" in place of {image.data_directory} ({shown(image.volumes) or 'none'}): mount and PGDATA change together."
        )
    if inventory.md5_roles:
        yield (
            f"Roles with an md5 password ({shown(inventory.md5_roles)}) go on by it, because pg_hba.conf and"
            " password_encryption are kept; Postgres 18 warns of such passwords, and a later one drops them."
        )
    relations = costs.own_relations(cluster)
    if relations >= MANY_RELATIONS and _goes_up(subject, candidate):
        yield f"{relations} relations make pg_upgrade slow: each takes its time, whatever its size."
    if cluster.unlogged_tables and _goes_up(subject, candidate):
        yield (
            f"{cluster.unlogged_tables} unlogged tables: a standby does not carry their rows, so that the files are"
            " copied or cloned for pg_upgrade; a crash empties them at any time."
        )
    if cluster.slots and candidate.major != cluster.major:
        yield (
            f"Replication slots ({shown([slot.name for slot in cluster.slots])}) are not carried over by pg_upgrade and"
            " dump: their consumers begin anew."
        )
    if cluster.tablespaces:
        places = [f"{space.name} in {space.location}" for space in cluster.tablespaces]
        yield f"Tablespaces lie outside of the data directory, and have to be mounted where they are: {shown(places)}."


def _owner(image: CandidateImage) -> str:
    return f"{image.user[0]}:{image.user[1]}"


def _reindex_warnings(subject: Subject, reindex: str) -> Iterable[str]:
    inventory = subject.inventory
    # Only musl records none. The server refuses to refresh from none to one, so this stays after the indexes were
    # rebuilt, and is no reason to rebuild them.
    unrecorded = dict.fromkeys(c.database for c in inventory.collations if c.actual and not c.recorded)
    if unrecorded:
        yield (
            f"No collation version is recorded in {shown(unrecorded)}, made on another libc: if the text indexes were"
            " not rebuilt when the data came here, REINDEX DATABASE is due."
        )
    if not reindex:
        return
    what = f"{inventory.text_indexes} indexes on text ({inventory.text_index_bytes / costs.MIB:.0f} MiB)"
    told = (
        f"{what} have to be built anew wherever files are taken along"
        if inventory.text_indexes
        else "No index depends on it"
    )
    yield f"The order of text changes: {reindex}. {told}."
    if inventory.text_partitions:
        yield (
            f"{inventory.text_partitions} tables are partitioned by text: where rows of theirs belong to"
            " another partition in the new order, the change is undone."
        )
