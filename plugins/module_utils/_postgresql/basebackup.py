# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy a running cluster with its own ``pg_basebackup``, and prove the copy by its manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Bind, Container, Helper
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.control import read_control
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.manifest import Manifest, read_manifest
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.routes import Route

DATA_TARGET = "/selfhost-stateful/data"
FIRST_WITH_MANIFEST = 130000
VERIFIED = "backup successfully verified"
DAYS = 86400.0
FOLLOWED = ("pg_tblspc", "pg_wal", "pg_xlog")

# bytes done, bytes in all
Progress = Callable[[int, int], None]


def make_owned(directory: str, owner: tuple[int, int]) -> None:
    """Create an empty directory that only the server's user may enter."""
    os.mkdir(directory, 0o700)
    os.chown(directory, *owner)


def give_privately(path: str, owner: tuple[int, int]) -> None:
    """Give a file or a pipe to the server's user, and to nobody else, whatever files are made with."""
    os.chmod(path, 0o600)
    os.chown(path, *owner)


def left_out(container: Container, cluster: Cluster) -> list[str]:
    """Return the symbolic links below the data directory that a base backup leaves out.

    It follows those of tablespaces and that of the log, and skips all others as special
    files, which the manifest then does not know either.
    """
    return sorted(_links(paths.seen_path(container, cluster.data_directory), "")) if container.pid else []


def _links(top: str, below: str) -> Iterator[str]:
    try:
        with os.scandir(os.path.join(top, below)) as entries:
            for entry in entries:
                path = os.path.join(below, entry.name)
                if path in FOLLOWED:
                    continue
                if entry.is_symlink():
                    yield path
                elif entry.is_dir(follow_symlinks=False):
                    yield from _links(top, path)
    except FileNotFoundError:
        return  # the server removed it meanwhile


def copy(
    engine: Engine,
    container: Container,
    cluster: Cluster,
    route: Route,
    *,
    directory: str,
    tablespaces: Mapping[str, str],
    operation: str,
    role: str,
    labels: Mapping[str, str],
    progress: Progress | None = None,
    timeout: float = DAYS,
) -> None:
    """Copy the cluster into ``directory``, which is empty and owned by the server's user.

    ``tablespaces`` names the host directory for each tablespace's location. Each is
    mounted at that very location, so that the links in pg_tblspc are those of the original.
    """
    owner = paths.owner_of(directory)
    argv = ["pg_basebackup", *route.switches(), "-D", DATA_TARGET, "-F", "plain", "-X", "stream"]
    argv += ["--checkpoint=fast", "--label=selfhost.stateful"]
    if cluster.server_version_num >= FIRST_WITH_MANIFEST:
        argv += ["--manifest-checksums=SHA256"]
    helper = Helper(
        operation=operation,
        role=role,
        image_id=container.image_id,
        argv=tuple(argv),
        user=f"{owner[0]}:{owner[1]}",
        binds=(*_binds(directory, tablespaces, read_only=False), *route.binds),
        environment=route.environment,
        network_mode=route.network_mode,
        labels=labels,
    )
    places = (directory, *tablespaces.values())
    tick = (lambda: progress(_used_bytes(places), cluster.size_bytes)) if progress else None
    helpers.must_succeed(helpers.run(engine, helper, timeout=timeout, tick=tick), "The physical copy of the cluster")


def verify(
    engine: Engine,
    image_id: str,
    *,
    directory: str,
    tablespaces: Mapping[str, str],
    system_identifier: int,
    operation: str,
    role: str,
    labels: Mapping[str, str],
    switches: tuple[str, ...] = (),
    timeout: float = DAYS,
) -> Manifest:
    """Prove a copy: every file against the manifest's SHA-256, the WAL readable, and whose cluster it is.

    Nothing may have been started on it. The copy is mounted read-only. ``switches``
    are further ones of pg_verifybackup.
    """
    owner = paths.owner_of(directory)
    helper = Helper(
        operation=operation,
        role=role,
        image_id=image_id,
        argv=("pg_verifybackup", *switches, DATA_TARGET),
        user=f"{owner[0]}:{owner[1]}",
        binds=_binds(directory, tablespaces, read_only=True),
        environment=helpers.ENGLISH,
        labels=labels,
    )
    answer = helpers.must_succeed(helpers.run(engine, helper, timeout=timeout), "The proof of the physical copy")
    if VERIFIED not in answer.output:
        raise StatefulError(f"pg_verifybackup ended with 0 but did not say {VERIFIED!r}:\n{answer.last_words()}")
    found = read_control(directory).system_identifier
    if found != system_identifier:
        raise StatefulError(f"{directory} holds the cluster {found}, not {system_identifier}.")
    return read_manifest(directory)


def _binds(directory: str, tablespaces: Mapping[str, str], *, read_only: bool) -> tuple[Bind, ...]:
    links = (Bind(source, location, read_only=read_only) for location, source in tablespaces.items())
    return (Bind(directory, DATA_TARGET, read_only=read_only), *links)


def _used_bytes(places: tuple[str, ...]) -> int:
    total = 0
    for place in places:
        for parent, _directories, files in os.walk(place):
            for name in files:
                try:
                    total += os.lstat(os.path.join(parent, name)).st_size
                except FileNotFoundError:  # renamed while we look
                    continue
    return total
