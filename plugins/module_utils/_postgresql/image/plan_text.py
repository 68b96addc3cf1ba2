# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the plan of an image change looks like to the person who reads it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    ANOTHER_CLUSTER,
    SWAP,
    CandidateImage,
    ImageFindings,
    ImageRequest,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.preflight import estimated_downtime
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.report import size_text, stopping, told


def summary(request: ImageRequest, found: ImageFindings, backup_dir: str) -> dict[str, Any]:
    """Return the ``plan`` of a result."""
    old, new = found.subject.image, found.candidate
    return {
        "service": request.service,
        "strategy": found.way.strategy,
        "reason": found.way.reason,
        "against": dict(found.way.against),
        "from": {"image": old.id, "version": old.version, "libc": f"{old.libc} {old.libc_version}"},
        "to": {
            "image": new.id,
            "reference": request.image,
            "version": new.version,
            "libc": f"{new.libc} {new.libc_version}",
        },
        "bytes": found.move.data.size_bytes,
        "data_directory": found.move.data.host_path if found.way.strategy == SWAP else found.move.source,
        "copy_strategy": found.copying.strategy if found.way.strategy in ANOTHER_CLUSTER else "",
        "backup": {"mode": request.storage.backup, "directory": backup_dir},
        "stops": stopping(found.findings),
        "files": list(found.findings.rewrite.paths),
        "estimated_downtime_seconds": round(estimated_downtime(found), 1),
    }


def plan_text(
    request: ImageRequest, found: ImageFindings, blockers: Sequence[Blocker], warnings: Sequence[str], backup_dir: str
) -> str:
    """Return the plan as a person reads it."""
    data, old, new = found.move.data, found.subject.image, found.candidate
    lines = [
        heading(request) if request.bare else f"{heading(request)} in {request.storage.project_dir}",
        f"  {request.service}: Postgres {old.version} → {new.version}, {size_text(data.size_bytes)},"
        f" {found.subject.cluster.relations} relations",
        f"    from  {_shown(old)}",
        f"    to    {_shown(new)}, {request.image}",
        f"    by    {found.way.strategy or 'no strategy'}: {found.way.reason}",
    ]
    if found.way.strategy in ANOTHER_CLUSTER:
        lines.append(f"    in    {found.move.source}, from a copy of it ({found.copying.strategy})")
        lines.append(f"    kept  {data.host_path}, as it is, until the operation is committed")
    elif found.way.strategy == SWAP:
        lines.append(f"    in    {data.host_path}, where the data stays")
    lines.append(f"  Backup first, while the service runs ({request.storage.backup}): {backup_dir}")
    lines.append(f"  Stops, in this order: {', '.join(stopping(found.findings)) or 'nothing'}")
    before, after = request.hooks.pre, (*request.hooks.post, *request.hooks.migrations)
    asked = [each["name"] for each in (*before, *after)]
    lines += [f"  Runs of the image's own: {', '.join(asked)}"] if asked else []
    stays = [each["name"] for each in (before if found.way.strategy in ANOTHER_CLUSTER else (*before, *after))]
    if stays:
        lines.append(f"  What they change stays in the data, also where the change is undone: {', '.join(stays)}")
    files, how = found.findings.rewrite.paths, found.findings.rewrite.how
    if request.bare:
        lines.append(f"  Makes {request.service} anew as it was made, and keeps the old one, stopped, until the commit")
    else:
        lines.append(f"  Changes {', '.join(files)} ({how})" if files else f"  Compose file: {how or 'left as it is'}")
    lines.append(f"  Downtime of the database, estimated: about {estimated_downtime(found):.1f} s")
    lines += [f"  Note: {warning}" for warning in warnings]
    return "\n".join([*lines, *told(blockers)])


def heading(request: ImageRequest) -> str:
    """Return what the change is about."""
    return f"Container {request.service}" if request.bare else f"Project {request.storage.project}"


def _shown(image: CandidateImage) -> str:
    return f"{image.id[7:19]} ({image.libc} {image.libc_version})"
