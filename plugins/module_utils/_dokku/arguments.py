# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module about dokku shares, and what they turn into; documented in the fragment ``dokku``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import ENGINE_ARGUMENTS, connection
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import connect
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.refusals import require_root

DOKKU_ARGUMENTS: dict[str, Any] = {
    "dokku_program": {"type": "list", "elements": "str", "default": ["dokku"]},
    "docker_host": ENGINE_ARGUMENTS["docker_host"],
    "timeout": ENGINE_ARGUMENTS["timeout"],
}
SETTINGS_ARGUMENTS: dict[str, Any] = {
    "memory": {"type": "str"},
    "shm_size": {"type": "str"},
    "config_options": {"type": "str"},
    "custom_env": {"type": "dict", "no_log": True},
    "initial_network": {"type": "str"},
    "post_create_network": {"type": "str"},
    "post_start_network": {"type": "str"},
}
LOCAL = {name: option["default"] for name, option in ENGINE_ARGUMENTS.items() if name not in DOKKU_ARGUMENTS}
"""An engine of this host has no TLS."""


@dataclass(frozen=True)
class Reached:
    """The two seams to a host of dokku's."""

    dokku: Dokku
    engine: Engine


def reach(params: Mapping[str, Any], *, as_root: bool = True) -> Reached:
    """Open the seams; raises where there is no dokku, no plugin, no engine, or no right to them."""
    if as_root:
        require_root()
    dokku = command_of(params)
    survey.refuse_old(survey.versions(dokku))
    return Reached(dokku, connect(connection({**LOCAL, **params})))


def command_of(params: Mapping[str, Any]) -> Dokku:
    return Dokku(tuple(params["dokku_program"]))


def settings_given(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a service that the options name; what is left out is None."""
    given = {name: params[name] for name in SETTINGS_ARGUMENTS}
    if given["custom_env"] is not None:
        given["custom_env"] = {str(name): str(value) for name, value in given["custom_env"].items()}
    return given
