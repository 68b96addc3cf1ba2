# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a CES host says of its PostgreSQL dogu. Changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    DUMP_IN_DATA,
    LOCK_OF_DUMP,
    VOLUME,
    Dependent,
    Seen,
    account_of,
    offered,
    version_of_image,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control, session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.cluster import observe_cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.transport import SqlError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.scan import tree_size

AUTO = "auto"


def see(host: Host, dependents: Sequence[str]) -> Seen:
    """Look at the dogu. ``dependents``: ``auto`` for those with a service account, and further ones by name."""
    container = host.container()
    version = version_of_image(container.image_ref)
    if version is None:
        raise InvalidInput(
            f"The image of {host.name}, {container.image_ref}, has no tag such as 14.17-5: it is no dogu.",
            next_command=shell("docker", "inspect", "-f", "{{.Config.Image}}", host.name),
        )
    mount = container.mount_at(VOLUME)
    if mount is None or not mount.source:
        raise InvalidInput(
            f"{host.name} has nothing mounted at {VOLUME}: it is not the PostgreSQL dogu.",
            next_command=shell("docker", "inspect", "-f", "{{json .Mounts}}", host.name),
        )
    volume = os.path.realpath(mount.source)
    keys, has_password, state = (None, False, "")
    if container.pid:
        keys, has_password, state = host.keys(), host.has_password(), host.doguctl("state")
    cluster, superusers, roles, why = _ask(host, container)
    data = _on_host(volume, mount.destination, _data_directory(container, cluster))
    names = [each.name for each in cluster.databases] if cluster else []
    listing = host.listing()
    return Seen(
        name=host.name,
        container=container.id,
        image=container.image_ref,
        image_id=container.image_id,
        status=container.status,
        version=version,
        available=offered(listing or "", host.name),
        listed=listing is not None,
        state=state,
        keys=keys,
        has_password=has_password,
        volume=volume,
        data=data,
        data_major=_major(data),
        cluster=cluster,
        why_silent=why,
        dependents=tuple(_dependents(host, dependents, roles, names)),
        left_over=_left_over(volume),
        superusers=superusers,
        volume_bytes=tree_size(volume).bytes_allocated,
        free_bytes=shutil.disk_usage(volume).free,
        post_upgrade_runs=bool(container.pid) and host.post_upgrade_runs(container),
        at_work=host.at_work(),
        serves=cluster is None or host.serves(container),
        policy=container.restart.name,
        retries=container.restart.maximum_retries,
    )


def _ask(host: Host, container: Container) -> tuple[Cluster | None, tuple[str, ...], list[str], str]:
    if not container.pid:
        return None, (), [], f"it is {container.status}"
    try:
        with host.session(container) as there:
            roles = there.rows("SELECT rolname, rolsuper FROM pg_roles WHERE rolcanlogin ORDER BY rolname")
            superusers = tuple(name for name, is_super in roles if is_super)
            return observe_cluster(there), superusers, [name for name, _is_super in roles], ""
    except SqlError as error:
        return None, (), [], error.msg


def _data_directory(container: Container, cluster: Cluster | None) -> str:
    return cluster.data_directory if cluster else session.data_directory_of(container)


def _on_host(volume: str, destination: str, inside: str) -> str:
    return os.path.normpath(os.path.join(volume, os.path.relpath(inside, destination)))


def data_on_host(container: Container) -> str:
    """Return where the data directory of a container is on this host, whether or not there is a cluster in it."""
    mount = container.mount_at(VOLUME)
    source = os.path.realpath(mount.source) if mount and mount.source else ""
    return _on_host(source, VOLUME, session.data_directory_of(container))


def _major(data: str) -> str:
    try:
        return control.major_of(data)
    except (OSError, StatefulError):
        return ""


def _left_over(volume: str) -> tuple[str, ...]:
    places = (os.path.join(volume, DUMP_IN_DATA), os.path.join(volume, LOCK_OF_DUMP))
    return tuple(path for path in places if os.path.lexists(path))


def dependents_now(host: Host, wanted: Sequence[str]) -> list[Dependent]:
    """Look again at who depends on the dogu, which has to serve."""
    with host.session() as there:
        roles = [row[0] for row in there.rows("SELECT rolname FROM pg_roles WHERE rolcanlogin")]
        names = [row[0] for row in there.rows("SELECT datname FROM pg_database")]
    return _dependents(host, wanted, roles, names)


def _dependents(host: Host, wanted: Sequence[str], roles: list[str], databases: list[str]) -> list[Dependent]:
    found = []
    for container in host.engine.containers():
        named = container.name in wanted
        account = account_of(container.name, roles, databases)
        if container.name == host.name or not (named or (AUTO in wanted and account)):
            continue
        restart = container.restart
        found.append(
            Dependent(container.name, account, container.running, restart.name, restart.maximum_retries)
        )  # fmt: skip
    unknown = sorted(set(wanted) - {AUTO} - {each.name for each in found})
    if unknown:
        raise InvalidInput(f"There is no dogu {unknown[0]} on this host.", next_command="docker ps -a")
    return sorted(found, key=lambda each: each.name)
