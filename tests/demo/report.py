# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo claims, whether it holds, and the table that says so. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """All that was counted, by table and store, before the playbook and after the last recreation."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    mounts_before: Mapping[str, Mapping[str, Any]]
    mounts_after: Mapping[str, Mapping[str, Any]]
    # Per store what the writer did: acknowledged, attempts, longest_gap_seconds.
    written: Mapping[str, Mapping[str, Any]]
    acknowledged_missing: int
    storage: Mapping[str, Any]
    project_dir: str

    @property
    def rows_before(self) -> int:
        return sum(self.before["tables"].values())

    @property
    def rows_after(self) -> int:
        return sum(self.after["tables"].values())

    @property
    def gaps(self) -> dict[str, float]:
        """The longest time without an acknowledged write while the playbook ran, per store."""
        return {store: float(record["longest_gap_seconds"]) for store, record in self.written.items()}

    @property
    def acknowledged(self) -> dict[str, int]:
        """The acknowledged writes per store."""
        return {store: int(record["acknowledged"]) for store, record in self.written.items()}


def failures(outcome: Outcome) -> list[str]:
    """Return a sentence for every claim that does not hold."""
    found = []
    if outcome.acknowledged_missing:
        found.append(f"{outcome.acknowledged_missing} acknowledged writes are missing")
    probe = outcome.after["probe_table"]
    for table, rows in outcome.before["tables"].items():
        now = outcome.after["tables"].get(table, 0)
        if now < rows:
            found.append(f"table {table}: {rows} rows before, {now} after")
    found += _unaccounted("rows", outcome.after["tables"].get(probe, 0), outcome, "postgres")
    found += _unaccounted("keys", outcome.after["probe_keys"], outcome, "redis")
    if outcome.after["keys"] < outcome.before["keys"]:
        found.append(f"Redis: {outcome.before['keys']} keys before, {outcome.after['keys']} after")
    for service, mount in outcome.mounts_after.items():
        if mount.get("Type") != "bind" or not str(mount.get("Source", "")).startswith(f"{outcome.project_dir}/"):
            found.append(f"{service} does not run on a bind mount of the project: {dict(mount)}")
    return found


def _unaccounted(what: str, there: int, outcome: Outcome, store: str) -> list[str]:
    """Compare what is there with what the writer did; a write whose answer was cut off may or may not be there."""
    acknowledged = outcome.acknowledged[store]
    doubtful = int(outcome.written[store]["attempts"]) - acknowledged
    if acknowledged <= there <= acknowledged + doubtful:
        return []
    return [f"the writer had {acknowledged} {what} acknowledged (and {doubtful} cut off), but {there} are there"]


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return what goes into ``build/demo.json``."""
    return {
        "downtime_seconds": outcome.storage["downtime_seconds"],
        "downtime_phases": dict(outcome.storage.get("downtime_phases", {})),
        "longest_gap_seconds": max(outcome.gaps.values()),
        "longest_gap_seconds_by_store": outcome.gaps,
        "rows_before": outcome.rows_before,
        "rows_after": outcome.rows_after,
        "redis_keys_before": outcome.before["keys"],
        "redis_keys_after": outcome.after["keys"],
        "acknowledged_missing": outcome.acknowledged_missing,
        "acknowledged": outcome.acknowledged,
        "mounts": {
            service: {"before": dict(mount), "after": dict(outcome.mounts_after[service])}
            for service, mount in outcome.mounts_before.items()
        },
        "failures": failures(outcome),
    }


def table(outcome: Outcome) -> str:
    """Return the table for the person who ran the demo."""
    names = {"db": "Postgres", "redis": "Redis"}
    lines = [_row("", "before", "after"), "-" * 92]
    for service, mount in outcome.mounts_before.items():
        after = _mount(outcome.mounts_after[service], outcome.project_dir)
        lines.append(_row(f"{names.get(service, service)} data in", _mount(mount, outcome.project_dir), after))
    probe = outcome.before["probe_table"]
    rows = outcome.after["tables"].get(probe, 0) - outcome.before["tables"].get(probe, 0)
    keys = outcome.after["probe_keys"] - outcome.before["probe_keys"]
    lines.append(_row("Postgres rows", *_grown(outcome.rows_before, outcome.rows_after, rows)))
    lines.append(_row("Redis keys", *_grown(outcome.before["keys"], outcome.after["keys"], keys)))
    total, missing = sum(outcome.acknowledged.values()), outcome.acknowledged_missing
    lines += ["", f"Acknowledged to the writer     {total:,} writes, of which {missing:,} are missing now", ""]
    lines.append(f"Downtime of the stores         {_seconds(outcome.storage['downtime_seconds'])}")
    for phase, seconds in outcome.storage.get("downtime_phases", {}).items():
        lines.append(f"  {phase.replace('_', ' '):28} {_seconds(seconds)}")
    for store, gap in outcome.gaps.items():
        lines.append(f"Longest gap seen by a writer   {_seconds(gap)}  ({store})")
    return "\n".join(lines)


def _grown(before: int, after: int, written: int) -> tuple[str, str]:
    """Return a count before and after, and who made the difference."""
    return f"{before:,}", f"{after:,}  ({written:+,} by the writer, {after - before - written:+,} by Mastodon)"


def _row(label: str, before: str, after: str) -> str:
    return f"{label:18}{before:30}{after}".rstrip()


def _seconds(value: Any) -> str:
    return f"{float(value):6.2f} s"


def _mount(mount: Mapping[str, Any], project_dir: str) -> str:
    if not mount:
        return "the container itself"
    if mount["Type"] == "volume":
        return f"anonymous volume {str(mount['Name'])[:7]}…"
    source = str(mount["Source"])
    return f"{mount['Type']} {source.replace(project_dir, '.', 1)}"
