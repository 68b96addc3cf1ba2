# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is kept of the edits of a project's files: the hunks that take each back, and whether it was proved.

It is written before the edit is, so that a run that was killed in between is found.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import moment
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.atomic import read_text, write_atomically
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import Rewrite
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

SCHEMA_VERSION = 1


def path_for(directory: str, project_src: str) -> str:
    """Return the journal of a project's edits below the operations' directory."""
    real = os.path.realpath(project_src)
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", os.path.basename(real)) or "project"
    return os.path.join(directory, "files", f"{name}-{hashlib.sha256(real.encode()).hexdigest()[:8]}.json")


def begin(path: str, plan: Rewrite, mounts: Sequence[Mount], images: Mapping[str, str]) -> None:
    """Note an edit that is about to be written."""
    entry = {
        "at": moment(),
        "how": plan.how,
        "mounts": [asdict(mount) for mount in mounts],
        "images": dict(images),
        "files": plan.hunks(),
        "settled": False,
    }
    _write(path, [*entries(path), entry])


def unsettled(path: str) -> dict[str, Any] | None:
    """Return the edit whose run was killed before its proof, if there is one."""
    known = entries(path)
    return known[-1] if known and not known[-1]["settled"] else None


def settle(path: str) -> None:
    """Note that the last edit stays."""
    *others, last = entries(path)
    _write(path, [*others, {**last, "settled": True}])


def forget(path: str) -> None:
    """Drop the last edit, which was taken back or never written."""
    _write(path, entries(path)[:-1])


def entries(path: str) -> list[dict[str, Any]]:
    if not os.path.exists(path):
        return []
    journal = json.loads(read_text(path))
    if journal["schema_version"] > SCHEMA_VERSION:
        raise StatefulError(
            f"{path} was written by a newer version of this collection.",
            next_command="install that version of selfhost.stateful and run the same task again",
        )
    found: list[dict[str, Any]] = journal["edits"]
    return found


def _write(path: str, edits: Sequence[Mapping[str, Any]]) -> None:
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StatefulError(
            f"The journal of edits cannot be written in {folder}: {error.strerror}.",
            next_command="run the task with become: true, or set operations_dir to a directory that can be written",
        ) from error
    text = json.dumps({"schema_version": SCHEMA_VERSION, "edits": list(edits)}, indent=1, sort_keys=True)
    write_atomically(path, text + "\n")
