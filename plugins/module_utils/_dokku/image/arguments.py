# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to what the steps of a swap work with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import reach, settings_given
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import BackupPlace, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import beside


def world_from(params: Mapping[str, Any]) -> World:
    """Open the seams to a host; raises where there is no dokku, no plugin, no engine, or no right to them."""
    given = params.get("custom_env") or {}
    return World(
        reached=reach(params),
        stop_timeout=float(params["stop_timeout"]),
        ready_timeout=float(params["ready_timeout"]),
        discard_writes=bool(params.get("discard_writes", False)),
        answer_path=params.get("answer_path"),
        environment={str(name): str(value) for name, value in given.items()},
    )


def request_from(params: Mapping[str, Any], operations_dir: str) -> Request:
    return Request(
        app=params["app"],
        repository=params["image"],
        version=params["version"],
        name=params["name"],
        strategy=params["strategy"],
        settings=settings_given(params),
        scheme=params["database_scheme"],
        maintenance=params["maintenance"],
        unit=params["unit"],
        backup=BackupPlace(params["bucket"], params["use_iam"]) if params["bucket"] else None,
        backup_dir=os.path.abspath(params["backup_dir"] or beside(operations_dir, "backups")),
        programs_dir=beside(operations_dir, "retained"),
        answer_path=params["answer_path"],
        accept_losses=params["accept_losses"],
    )
