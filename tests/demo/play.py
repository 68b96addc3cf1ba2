# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the real playbook through ansible-playbook; the plan is shown, Ansible's own output goes to a log."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox._base import SandboxError
from tests.tools import playbook, tree

from .place import Place

PLAYBOOK = "selfhost.stateful.persist_mastodon"
STORAGE = "selfhost.stateful.compose_storage"
LOG_TAIL = 30


@dataclass(frozen=True)
class Played:
    """What the storage task returned when it moved the data."""

    storage: Mapping[str, Any]


def play(place: Place, variables: Mapping[str, Any], folder: Path, say: Callable[[str], None]) -> Played:
    """Run the playbook; raise with the end of its log where it fails."""
    moved: list[Mapping[str, Any]] = []

    def follow(event: playbook.Event) -> None:
        storage = _follow(event, say)
        if storage:
            moved.append(storage)

    say(f"$ ansible-playbook {PLAYBOOK} -i {_short(folder / 'inventory')} -e @{_short(folder / 'variables.json')}\n")
    code = playbook.run(
        PLAYBOOK, inventory=place.inventory, variables=variables, folder=folder, follow=follow, env=place.env
    )
    log = folder / "ansible.log"
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL:])
        raise SandboxError(f"ansible-playbook ended with {code}; the end of {log}:\n{tail}")
    if not moved:
        raise SandboxError(f"the playbook moved nothing; its log is {log}")
    return Played(moved[-1])


def _follow(event: playbook.Event, say: Callable[[str], None]) -> Mapping[str, Any] | None:
    """Show one event; return the storage task's result when it is that and moved something."""
    result = event["result"]
    if event["event"] == "failed":
        for key in ("msg", "state", "next_command"):
            if result.get(key):
                say(f"    {key}: {result[key]}")
        return None
    if event["action"] == "ansible.builtin.debug" and result.get("msg"):
        say(f"{_shown(result['msg'])}\n")
    if result.get("changed"):
        say(f"  changed: {event['task'].removeprefix('selfhost.stateful.')} ({event['seconds']:.0f} s)\n")
    if event["action"] == STORAGE and result.get("downtime_seconds"):
        return dict(result)
    return None


def _shown(message: Any) -> str:
    """Return what the playbook printed, indented; without the volumes of others, and with their names cut short."""
    lines = message if isinstance(message, list) else str(message).splitlines()
    kept = [line for line in lines if not line.lstrip().startswith("Orphaned volume")]
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1...", "\n".join(f"      {line}".rstrip() for line in kept))


def _short(path: Path) -> str:
    return str(path.relative_to(tree.ROOT)) if path.is_relative_to(tree.ROOT) else str(path)
