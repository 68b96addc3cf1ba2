# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to the seams of a storage operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import connection, project_options
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import (
    ComposeCli,
    find_compose,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection, connect
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.refusals import refuse_unsupported, require_root
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import beside, default_directory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.bare import Bare
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.by_compose import ByCompose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import AUTO, MountRequest, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Store
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import Maker, World

CHANGE_ARGUMENTS: dict[str, Any] = {
    "backup_dir": {"type": "path", "default": ""},
    "rewrite": {"type": "str", "choices": ["in_place", "override", "none"], "default": "in_place"},
    "accept_drift": {"type": "bool", "default": False},
    "max_downtime": {"type": "float", "default": 0},
    "stop_before": {"type": "str", "choices": ["switch", "commit"]},
    "stop_timeout": {"type": "int", "default": 120},
    "ready_timeout": {"type": "int", "default": 120},
    "operations_dir": {"type": "path", "default": ""},
}
"""Of every module that changes what a service runs on; the doc fragment is ``project.change``."""

MOUNT_ARGUMENTS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {
        "service": {"type": "str", "required": True},
        "target": {"type": "str", "default": ""},
        "source": {"type": "str", "required": True},
    },
}


def connect_world(params: Mapping[str, Any], stores: Mapping[str, Store], *, as_root: bool = True) -> World:
    """Open the seams; raises where there is no engine, no compose, no right to them, or no way to move data there.

    ``params`` name a project, or by ``container`` one that no compose project runs, with its ``dependents``.
    ``as_root``: whether what is to be done reads or writes data, which root on the engine's host alone may.
    """
    way = connection(params)
    engine = connect(way)
    if as_root:
        require_root()
    refuse_unsupported(engine, way.docker_host)
    return World(
        engine=engine,
        maker=_maker_of(params, way),
        project=params.get("project_name", ""),
        stores=stores,
        stop_timeout=float(params["stop_timeout"]),
        ready_timeout=float(params["ready_timeout"]),
        discard_writes=bool(params.get("discard_writes", False)),
    )


def _maker_of(params: Mapping[str, Any], way: Connection) -> Maker:
    if not params.get("container"):
        return ByCompose(compose_of(params))
    dependents = tuple(name for name in params["dependents"] if name != AUTO)
    return Bare(params["container"], way.docker_host, dependents)


def compose_of(params: Mapping[str, Any]) -> ComposeCli:
    """Return the compose CLI for the project; raises where there is none."""
    return find_compose(project_options(params), connection(params), program=tuple(params["compose_program"]))


def mount_requests(params: Mapping[str, Any]) -> tuple[MountRequest, ...]:
    return tuple(
        MountRequest(service=entry["service"], source=entry["source"], target=entry["target"], written=entry["source"])
        for entry in params["mounts"]
    )


def operations_directory(params: Mapping[str, Any]) -> str:
    return params["operations_dir"] or default_directory()


def request_from(params: Mapping[str, Any], project: Services, mounts: tuple[MountRequest, ...]) -> Request:
    operations_dir = operations_directory(params)
    return Request(
        project=project.name,
        project_dir=project.working_dir,
        mounts=mounts,
        strategy=params["strategy"],
        backup=params["backup"],
        backup_dir=params["backup_dir"] or beside(operations_dir, "backups"),
        retained_dir=beside(operations_dir, "retained"),
        rewrite=params["rewrite"],
        pin_images=params["pin_images"],
        accept_drift=params["accept_drift"],
        max_downtime=float(params["max_downtime"] or 0),
        compose=project.compose.typed(),
    )
