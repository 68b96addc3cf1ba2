# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A physical backup into the empty data directory of a service that is stopped.

It is filled in place, because it may be a mount point of its own. PG_VERSION comes last,
when all else is on disk and proved: until then no server starts there, and no image
initialises a cluster, because the directory is not empty either.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import mounts_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import (
    AGAIN,
    Blocker,
    InvalidInput,
    StatefulError,
    refusal,
    shell,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import (
    basebackup,
    control,
    physical_backup,
    session,
    staging,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.files import copy_files
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import Record
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import examine
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore import note
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore.model import (
    NOTHING,
    RESTORE,
    Plan,
    Restored,
    not_empty,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable, mounts, scan

ROLE = "physical-restore"
VERSION = "PG_VERSION"
FIRST_WITH_TAR = 180000
"""The first pg_verifybackup that knows another format than plain, as server_version_num."""


@dataclass(frozen=True)
class Place:
    """The directories on this host that are filled: of the data, and of each tablespace by its name."""

    data: str
    tablespaces: dict[str, str]


def find_place(container: Container, record: Record) -> Place:
    """Return where the backup goes; raises :class:`InvalidInput` where that is no directory of this host."""
    data = _host_path(container, session.data_directory_of(container), "the data directory")
    spaces = {
        space["name"]: _host_path(container, space["location"], f"the tablespace {space['name']}")
        for space in record.tablespaces
    }
    return Place(data, spaces)


def _host_path(container: Container, path: str, what: str) -> str:
    mount = container.mount_at(path)
    if mount is None or mount.type not in ("bind", "volume") or not mount.source or not mount.rw:
        raise InvalidInput(
            f"{path} in {container.name}, which is {what}, lies in no volume and no bind mount that can be written:"
            " what is restored there would go with the container. Mount a directory there, and create the container"
            " anew.",
            next_command=mounts_of(container.name),
        )
    inner = path.rstrip("/")[len(mount.destination.rstrip("/")) :].lstrip("/")
    return os.path.join(mount.source, inner) if inner else mount.source


def plan(engine: Engine, container: Container, record: Record, path: str, operation: str) -> Plan:
    """Say what a run does; changes nothing."""
    place = find_place(container, record)
    system = mounts.filesystem_of(place.data)
    left = note.read(place.data)
    # The note is on disk before the file that makes a cluster of the directory.
    whole = left is not None and os.path.exists(os.path.join(place.data, VERSION))
    if left is not None and whole and left.backup == record.id:
        text = f"{place.data} holds this backup already: it was restored there from {left.path}."
        return Plan(NOTHING, record, place.data, 0, system.bytes_free, text)
    blockers = [*_running(container), *_others(engine, container, place)]
    for directory in (place.data, *place.tablespaces.values()):
        blockers += _occupied(place, directory, record)
    image = examine(engine, container.image_id, operation=operation, user=container.user)
    if image.major != record.major:
        blockers.append(
            Blocker(
                f"The backup is of Postgres {record.major}, and the image {container.image_ref} is {image.major}: files"
                " go into the same major version only. Take a logical backup, or start from an image of that version."
            )
        )
    # A tablespace may lie on a disk of its own, because it would not fit beside the data.
    free = mounts.bytes_free((place.data, *place.tablespaces.values()))
    missing = record.bytes - free - _reclaimed(place)
    if missing > 0:
        blockers.append(
            Blocker(
                f"{system.mount_point} has {free:,} bytes free{' with the tablespaces' if place.tablespaces else ''},"
                f" and the backup takes {record.bytes:,}: {missing:,} bytes are missing.",
                shell("df", "-h", system.mount_point),
            )
        )
    return Plan(
        action=RESTORE,
        record=record,
        target=place.data,
        needed_bytes=record.bytes,
        free_bytes=free,
        text=f"The physical backup {path} ({record.source}, {record.moment}, Postgres {record.server_version}) is"
        f" restored into {place.data}, the data directory of {container.name}, which stays stopped.",
        blockers=tuple(blockers),
        warnings=_warnings(container, record),
    )


def _reclaimed(place: Place) -> int:
    """Return how many bytes an interrupted restore left, which :func:`_filled` removes."""
    directories = (place.data, *place.tablespaces.values())
    return sum(scan.tree_size(each).bytes_allocated for each in directories if _is_ours(place, each))


def _warnings(container: Container, record: Record) -> tuple[str, ...]:
    if container.image_id == record.image_id:
        return ()
    return (
        f"The backup was taken on the image {record.image} ({record.image_id[:19]}), and {container.name} has"
        f" {container.image_ref} ({container.image_id[:19]}). If their C libraries sort text differently, as musl and"
        " glibc do, indexes over text have to be built anew: REINDEX DATABASE, in every database, before it is used.",
    )


def _running(container: Container) -> list[Blocker]:
    if not container.running:
        return []
    return [
        Blocker(
            f"{container.name} runs ({container.status}), and a physical backup is restored into a stopped service"
            " only.",
            shell("docker", "stop", container.name),
        )
    ]


def _others(engine: Engine, container: Container, place: Place) -> list[Blocker]:
    ours = [os.path.realpath(path) + "/" for path in (place.data, *place.tablespaces.values())]
    found = []
    for other in engine.containers():
        if other.id == container.id or not other.running:
            continue
        sources = [os.path.realpath(mount.source) + "/" for mount in other.mounts if mount.rw and mount.source]
        if any(path.startswith(source) or source.startswith(path) for path in ours for source in sources):
            text = f"{other.name} runs and may write to {place.data}, too: stop it first."
            found.append(Blocker(text, shell("docker", "stop", other.name)))
    return found


def _occupied(place: Place, directory: str, record: Record) -> list[Blocker]:
    if not os.path.lexists(directory):
        return []
    if not os.path.isdir(directory):
        return [not_empty(directory, ("a file",), shell("ls", "-la", directory))]
    names = sorted(os.listdir(directory))
    if not names or _is_ours(place, directory):
        return []
    if directory == place.data and VERSION in names:
        cluster = control.read_control(directory).system_identifier
        same = ", the one that was backed up" if str(cluster) == record.system_identifier else ""
        words = f"the cluster {cluster} of Postgres {control.major_of(directory)}{same}"
        return [not_empty(directory, (words,), shell("ls", "-la", directory))]
    return [not_empty(directory, tuple(names), shell("ls", "-la", directory))]


def _is_ours(place: Place, directory: str) -> bool:
    """Tell whether an interrupted restore left it: then nothing ever ran there.

    A tablespace has no PG_VERSION of its own. It is ours only where its mark is that of this data directory: one that
    is left in the tablespace of another cluster, which may be in use since, says nothing about it.
    """
    mark = _mark_of(directory)
    if mark is None or os.path.exists(os.path.join(place.data, VERSION)):
        return False
    return mark == _mark_of(place.data) or os.listdir(directory) == [staging.MARKER]


def _mark_of(directory: str) -> bytes | None:
    """Return what the marker says, which an earlier version left empty; None where there is none."""
    try:
        with open(os.path.join(directory, staging.MARKER), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _mark(directory: str, mark: str) -> None:
    path = os.path.join(directory, staging.MARKER)
    with open(path, "x", encoding="ascii") as file:
        file.write(mark)
    staging.sync_directory(path)
    staging.sync_directory(directory)


def _unmark(place: Place) -> None:
    # The data directory last: the others are known by its mark.
    for directory in (*place.tablespaces.values(), place.data):
        durable.remove_file(os.path.join(directory, staging.MARKER))


def carry_out(engine: Engine, container: Container, planned: Plan, path: str, *, operation: str) -> Restored:
    """Copy, prove the copy against its manifest, and only then make it a cluster."""
    if planned.blockers:
        raise refusal(planned.blockers, plan_text=planned.text)
    record, place = planned.record, find_place(container, planned.record)
    if planned.action == NOTHING:
        # A run that was killed over its last steps left them, and every base backup of the cluster would hold one.
        _unmark(place)
        return Restored("it was restored before")
    image = examine(engine, container.image_id, operation=operation, user=container.user)
    origin = os.path.join(path, physical_backup.DATA)
    with _filled(place, image.user, path):
        # A backup may hold a marker: of a cluster that an interrupted restore left one in.
        copy_files(origin, place.data, image.user, leave=(VERSION, staging.MARKER))
        for name, directory in place.tablespaces.items():
            copy_files(physical_backup.place_of(path, name), directory, image.user)
        locations = {space["location"]: place.tablespaces[space["name"]] for space in record.tablespaces}
        _prove(engine, container, record, place, locations, path, operation)
        version = os.path.join(place.data, f".{VERSION}.selfhost-stateful")
        shutil.copyfile(os.path.join(origin, VERSION), version)
        basebackup.give_privately(version, image.user)
        note.write(place.data, note.Note(note.RESTORED, record.id, path, record.moment))
        for directory in (*place.tablespaces.values(), place.data):
            staging.sync_tree(directory)
    os.rename(version, os.path.join(place.data, VERSION))
    staging.sync_directory(place.data)
    _unmark(place)
    return Restored(
        f"pg_verifybackup read {record.evidence['manifest_files']} files of the copy against their manifest"
    )


def verify_switches(record: Record) -> tuple[str, ...]:
    """Return what pg_verifybackup has to be told of a marked copy without its ``VERSION``.

    From 18 on it tells the format by that file.
    """
    plain = ("--format=plain",) if record.server_version_num >= FIRST_WITH_TAR else ()
    # What is ignored is told by its path in the data directory, and a tablespace is walked by its link there.
    spaces = (f"--ignore=pg_tblspc/{space['oid']}/{staging.MARKER}" for space in record.tablespaces)
    return (*plain, f"--ignore={VERSION}", f"--ignore={staging.MARKER}", *spaces)


def _prove(
    engine: Engine,
    container: Container,
    record: Record,
    place: Place,
    locations: dict[str, str],
    path: str,
    operation: str,
) -> None:
    try:
        proved = basebackup.verify(
            engine,
            container.image_id,
            directory=place.data,
            tablespaces=locations,
            system_identifier=int(record.system_identifier),
            operation=operation,
            role=ROLE,
            labels={},
            switches=verify_switches(record),
        )
    except StatefulError as error:
        raise StatefulError(
            f"The copy of the backup is damaged, or the backup itself is: {error.msg}",
            next_command=error.next_command or AGAIN,
        ) from error
    if proved.sha256 != record.evidence["manifest_sha256"]:
        raise StatefulError(
            f"The manifest of {path} is not the one that the backup was finished with, so that it proves nothing.",
            next_command=shell("ls", "-la", path),
        )


@contextmanager
def _filled(place: Place, owner: tuple[int, int], path: str) -> Iterator[None]:
    """Have the directories empty and marked as ours inside the block, and as they were where it fails."""
    directories = (place.data, *place.tablespaces.values())
    made = [_make(directory, owner) for directory in directories]
    before = {directory: os.stat(directory) for directory in directories}
    try:
        # The data directory last: the others are known by its mark.
        for directory in reversed(directories):
            if _is_ours(place, directory):
                _clear(directory)
        mark = secrets.token_hex(16)
        for directory in directories:
            if os.listdir(directory):
                raise InvalidInput(
                    f"{directory} was filled by somebody else meanwhile.", next_command=shell("ls", "-la", directory)
                )
            _mark(directory, mark)
            os.chown(directory, *owner)
            os.chmod(directory, 0o700)
        yield
    except BaseException as error:
        state = f"{place.data} is as it was before; the backup in {path} is untouched"
        try:
            for directory, new in reversed([*zip(directories, made)]):
                if _is_ours(place, directory):
                    _clear(directory)
                _as_before(directory, before[directory], new)
        except OSError as second:
            state = (
                f"{place.data} holds part of the copy and is no cluster ({second}); the backup in {path} is untouched"
            )
        if isinstance(error, StatefulError):
            error.state = state
            raise
        if isinstance(error, OSError):
            raise StatefulError(
                f"The backup could not be copied to {place.data}: {error}.",
                state=state,
                next_command=shell("df", "-h", mounts.nearest_existing(place.data)),
            ) from error
        raise


def _make(directory: str, owner: tuple[int, int]) -> list[str]:
    """Make a directory and what is missing above it; return what was made, the deepest first."""
    made: list[str] = []
    missing = directory
    while not os.path.isdir(missing):
        made.append(missing)
        missing = os.path.dirname(missing)
    for each in reversed(made):
        os.mkdir(each, 0o700)
        os.chown(each, *owner)
    return made


def _clear(directory: str) -> None:
    """Empty a directory of what an interrupted restore left; one that holds anything else was refused before."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif name != staging.MARKER:
            os.unlink(path)
    if os.path.exists(os.path.join(directory, staging.MARKER)):
        os.unlink(os.path.join(directory, staging.MARKER))


def _as_before(directory: str, before: os.stat_result, made: list[str]) -> None:
    os.chown(directory, before.st_uid, before.st_gid)
    os.chmod(directory, before.st_mode & 0o7777)
    for each in made:
        os.rmdir(each)
