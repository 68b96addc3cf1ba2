# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan and its result look like to the person who reads them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import History
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    FilesAlone,
    Findings,
    PlannedRewrite,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.preflight import (
    estimated_downtime,
    name_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Transfer

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size_text(size: int) -> str:
    """Return ``size`` in bytes as a person writes it: ``2.1 GiB``."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size} bytes" if unit == 0 else f"{value:.1f} {UNITS[unit]}"


def summary(
    request: Request,
    findings: Findings,
    choices: Mapping[str, Choice],
    transfers: Sequence[Transfer],
    backup_dir: str,
) -> dict[str, Any]:
    """Return the ``plan`` of a result."""
    return {
        "moves": [
            {
                "service": transfer.service,
                "target": transfer.target,
                "from": transfer.origin.as_dict(),
                "to": transfer.goal.path,
                "store": transfer.store,
                "version": transfer.facts.get("version", ""),
                "bytes": transfer.size_bytes,
                "strategy": transfer.strategy,
                "reason": choices[transfer.name].reason,
                "against": dict(choices[transfer.name].against),
            }
            for transfer in transfers
        ],
        "backup": {"mode": request.backup, "directory": "" if request.backup == "none" else backup_dir},
        "stops": [container.name for group in findings.dependents for container in group]
        + [container.name for container in findings.stores if any(t.running for t in transfers)],
        "files": list(findings.rewrite.paths),
        "estimated_downtime_seconds": round(estimated_downtime(findings, choices), 1),
    }


def plan_text(
    request: Request,
    findings: Findings,
    choices: Mapping[str, Choice],
    blockers: Sequence[Blocker],
    warnings: Sequence[str],
    backup_dir: str,
) -> str:
    """Return the plan as a person reads it: what moves where and how, what stops, for how long, what forbids it."""
    lines = [f"Project {request.project} in {request.project_dir}"]
    for move in findings.moves:
        data, choice = move.data, choices[name_of(move)]
        what = f"{data.store} {data.facts.version}".strip() if data.facts else data.store
        kind = "the container's own layer" if data.kind == "layer" else f"{data.kind} volume {data.volume[:12]}"
        lines.append(f"  {data.service}: {what}, {size_text(data.size_bytes)}, at {data.target}")
        lines.append(f"    from  {kind} ({data.host_path})")
        lines.append(f"    to    {move.source}")
        lines.append(f"    by    {choice.strategy or 'no strategy'}: {choice.reason}")
    if request.backup != "none":
        lines.append(f"  Backup first, while the services run ({request.backup}): {backup_dir}")
    lines.append(f"  Stops, in this order: {', '.join(stopping(findings)) or 'nothing'}")
    if findings.rewrite.paths:
        lines.append(f"  Changes {', '.join(findings.rewrite.paths)} ({findings.rewrite.how})")
    else:
        lines.append(f"  Compose file: {findings.rewrite.how or 'left as it is'}")
    lines.append(f"  Downtime of the stores, estimated: about {estimated_downtime(findings, choices):.1f} s")
    lines += [f"  Note: {warning}" for warning in warnings]
    lines += told(blockers)
    return "\n".join(lines)


def stopping(findings: Findings) -> list[str]:
    """Return the names of all that stops, in that order."""
    names = [container.name for group in findings.dependents for container in group]
    return names + [container.name for container in findings.stores]


def file_only_text(
    project: str,
    rewrite: PlannedRewrite,
    never_created: Sequence[str],
    blockers: Sequence[Blocker],
    warnings: Sequence[str],
) -> str:
    why = f"; never started: {', '.join(never_created)}" if never_created else "; the data is in place already"
    what = f"only the compose file changes ({', '.join(rewrite.paths)}: {rewrite.how})"
    lines = [f"Project {project}: {what if rewrite.paths else 'nothing can be changed'}{why}"]
    lines += [f"  Note: {warning}" for warning in warnings]
    lines += told(blockers)
    return "\n".join(lines)


def files_alone_text(lacking: str, found: FilesAlone | None) -> str:
    """Return the incomplete plan of a host that lacks libraries, as ``lacking`` says; None: the files were not read."""
    rest = "where the data is now, which way it takes, what stops for how long, and what else stands in the way"
    if found is None:
        return f"{lacking}\nNot looked at before that: the compose file, {rest}."
    lines = [lacking, f"Project in {found.directory}, from its files alone"]
    for mount in found.mounts:
        lines.append(f"  {mount.service}: at {mount.target or 'a path for which the engine has to be asked'}")
        lines.append(f"    to    {mount.source}")
    if found.rewrite.paths:
        lines.append(f"  Changes {', '.join(found.rewrite.paths)} ({found.rewrite.how})")
    elif found.rewrite.how:
        lines.append(f"  Compose file: {found.rewrite.how}")
    lines += [f"  Note: {warning}" for warning in found.rewrite.warnings]
    lines += told(found.rewrite.blockers)
    lines.append(f"  Not looked at before that: {rest}.")
    return "\n".join(lines)


def told(blockers: Sequence[Blocker]) -> list[str]:
    """Return each blocker with its command below it: a failure has one next command, and these may be several."""
    lines = []
    for blocker in blockers:
        lines.append(f"  BLOCKER: {blocker.text}")
        if blocker.command:
            lines.append(f"    $ {blocker.command}")
    return lines


def outcome(history: History, transfers: Sequence[Transfer], steps: Mapping[str, float]) -> dict[str, Any]:
    """Return the result of an operation from its journal: downtime, copies, mounts, verification."""
    stop, prove = history.evidence.get("stop the stores", {}), history.evidence.get("prove", {})
    marks = [
        ("stop", stop.get("stopping_at"), stop.get("stopped_at")),
        ("restart", history.evidence.get("start the stores", {}).get("starting_at"), prove.get("ready_at")),
    ]
    downtime = _between(stop.get("stopping_at"), prove.get("ready_at"))
    phases = {name: _between(first, last) for name, first, last in marks if first and last}
    if downtime and len(phases) == len(marks):
        phases["move_and_create"] = round(downtime - sum(phases.values()), 3)
    counts = history.evidence.get("count again", {})
    return {
        "downtime_seconds": downtime if any(transfer.running for transfer in transfers) else 0.0,
        "downtime_phases": phases,
        "bytes_copied": sum(int(evidence.get("bytes_copied", 0)) for evidence in history.evidence.values()),
        "copies": [copy.as_dict() for copy in history.copies()],
        "mounts": dict(prove.get("mounts", {})),
        "verification": {
            **dict(prove.get("verification", {})),
            "counts": {"before": counts.get("before", {}), "after": counts.get("after", {})},
            "fewer": list(counts.get("fewer", ())),
        },
        "steps": {name: round(seconds, 3) for name, seconds in steps.items()},
    }


def fewer_warnings(history: History) -> list[str]:
    """Return a sentence for everything that was counted less after the change than before it, and what steps told."""
    fewer = history.evidence.get("count again", {}).get("fewer", ())
    told = [warning for found in history.evidence.values() for warning in found.get("warnings", ())]
    return told + [
        f"Fewer than before the change, which deletions by the service explain, or not: {what}" for what in fewer
    ]


def _between(first: Any, last: Any) -> float:
    return round(float(last) - float(first), 3) if first and last else 0.0
