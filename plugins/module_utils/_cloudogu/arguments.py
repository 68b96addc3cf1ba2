# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to a host, also where an operation has journaled them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.ces import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import ENGINE_ARGUMENTS, connection
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import connect
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.refusals import refuse_unsupported, require_root

HOST_ARGUMENTS: dict[str, Any] = {
    **ENGINE_ARGUMENTS,
    "name": {"type": "str", "default": "postgresql"},
    "cesapp_program": {"type": "list", "elements": "str", "default": ["cesapp"]},
    "dependents": {"type": "list", "elements": "str", "default": ["auto"]},
    "operations_dir": {"type": "path", "default": ""},
}
KNOWN = ("name", "cesapp_program", "docker_host")
"""Options by which a host is found again."""


def subject_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an operation journals of its host."""
    return {name: params[name] for name in KNOWN}


def host_from(params: Mapping[str, Any]) -> Host:
    """Return the host that the options name; raises :class:`InvalidInput` where its engine is none for this."""
    require_root()
    way = connection(params)
    engine = connect(way)
    refuse_unsupported(engine, way.docker_host)
    limits = {
        name: float(params[name]) for name in ("stop_timeout", "ready_timeout", "upgrade_timeout") if params.get(name)
    }
    return Host(engine, params["name"], tuple(params["cesapp_program"]), way.docker_host, **limits)
