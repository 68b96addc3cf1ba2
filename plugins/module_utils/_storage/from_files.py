# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be planned on a host whose engine cannot be asked yet: the edit of the compose files. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import (
    ProjectFiles,
    named_targets,
    project_files,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import refusal
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.find import with_sources
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    FilesAlone,
    MountRequest,
    PlannedRewrite,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.preflight import check_request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.report import files_alone_text
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import planned_rewrite


def plan_from_files(
    compose: ComposeCli | None, mounts: Sequence[MountRequest], rewrite: str, lacking: str, missing: Sequence[str]
) -> dict[str, Any]:
    """Return the result of a check on a host that lacks the libraries ``missing``, as ``lacking`` says.

    ``compose`` is None where the files cannot be read for want of one of them. Raises
    :class:`InvalidInput` where what the files say forbids any plan.
    """
    found = _look(compose, mounts, rewrite) if compose is not None else None
    known = found.rewrite if found is not None else PlannedRewrite()
    told: dict[str, Any] = {
        "plan": {"moves": [], "files": list(known.paths)},
        "plan_text": files_alone_text(lacking, found),
        "plan_complete": False,
        "missing": list(missing),
    }
    if known.blockers:
        raise refusal(known.blockers, **told)
    return {"changed": True, **told, "warnings": list(known.warnings), "diff": list(known.diff)}


def _look(compose: ComposeCli, mounts: Sequence[MountRequest], rewrite: str) -> FilesAlone:
    files = project_files(compose.options, compose.environment, v1=compose.is_v1)
    resolved = with_sources(mounts, files.directory)
    check_request(resolved)
    named = tuple(_named(files, mount) for mount in resolved)
    targeted = tuple(mount for mount in named if mount.target)
    check_request(targeted)
    request = Request("", files.directory, targeted, rewrite=rewrite)
    return FilesAlone(files.directory, named, planned_rewrite(compose, request, {}) if targeted else PlannedRewrite())


def _named(files: ProjectFiles, mount: MountRequest) -> MountRequest:
    """Return the mount with the target that the files name for its directory, where they name one and no other."""
    targets = named_targets(files, mount.service, mount.written)
    return replace(mount, target=targets[0]) if not mount.target and len(targets) == 1 else mount
