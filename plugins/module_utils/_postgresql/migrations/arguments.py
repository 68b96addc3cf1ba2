# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to a server that migrations run against."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore, beside
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server

LIST_ARGUMENTS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True},
        "undo": {"type": "str", "default": ""},
        "transaction": {"type": "bool"},
        "repeatable": {"type": "bool"},
        "expect_rows": {"type": "raw"},
        "done_when": {"type": "str"},
        "statement_timeout": {"type": "float"},
        "lock_timeout": {"type": "float"},
        "marker": {
            "type": "dict",
            "options": {
                "read": {"type": "list", "elements": "str", "required": True},
                "set": {"type": "list", "elements": "str", "default": []},
                "remove": {"type": "list", "elements": "str", "default": []},
                "expected": {"type": "str", "default": ""},
            },
        },
    },
}
KNOWN = (
    *("project_src", "project_name", "files", "profiles", "env_files", "compose_program"),
    *("service", "container", "docker_host", "login_user", "login_db", "user"),
)
"""Options by which a server is found again; passwords are not journaled."""


def subject_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an operation journals of its server."""
    return {name: params[name] for name in KNOWN}


def server_from(params: Mapping[str, Any], reached: Reached | None = None) -> Server:
    """Return the running server that the options name; raises :class:`InvalidInput` with the way out."""
    found = reached or subject.reach({**DEFAULTS, **params})
    return Server(
        engine=found.engine,
        container=found.container,
        name=params["service"] or params["container"],
        connect=lambda: subject.open_session(found, params),
        user=params.get("user", ""),
        environment={name: str(value) for name, value in params.get("environment", {}).items()},
    )


def backups_directory(params: Mapping[str, Any], operations: OperationStore) -> str:
    """Return where backups go: where the option says, else beside the journal of operations."""
    return os.path.abspath(params["backup_dir"] or beside(operations.directory, "backups"))


DEFAULTS: dict[str, Any] = {"project_name": "", "files": [], "profiles": [], "env_files": []}
