# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is on its way from one folder to the other, and what came in its place meanwhile.

Whoever types ``up`` where the compose file is by then and the data is not, gets empty directories from the engine and
a new cluster in them. By its path alone that would be taken for what was moved.
"""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.host import Host
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, can_write

FOLLOW = "concurrent_follow"


def note_moves(context: Context[World], moves: list[tuple[str, str]]) -> None:
    """Note which they are that are to be moved, before the first one is; what was noted before stays."""
    known = _noted(context)
    here = {old: os.lstat(old).st_ino for old, _new in moves if os.path.lexists(old)}
    durable.write_json_atomically(_path(context), {**here, **known})


def in_place_of(context: Context[World]) -> list[str]:
    """Return the places to which something is to be moved, or was, and where something else is: it is still behind."""
    step = next((each for each in context.operation.plan.steps if each.kind == FOLLOW), None)
    if step is None:
        return []
    noted = _noted(context)

    def is_behind(old: str) -> bool:
        # One that began before they were noted says by its evidence alone that they were moved.
        return os.lstat(old).st_ino == noted[old] if old in noted else step.name not in context.evidence

    both = [(old, new) for old, new in step.args["moves"] if os.path.lexists(old) and os.path.lexists(new)]
    return [new for old, new in both if is_behind(old)]


def refuse_between(host: Host, context: Context[World]) -> None:
    """Raise where services run on what came in the place of the data: what was written there may be wanted."""
    for place in in_place_of(context):
        on_it = [each.name for each in host.running() if each.running and can_write(each, place)]
        if on_it:
            raise Undecided(
                f"{', '.join(on_it)} was started while the files were on their way to another folder, and runs on"
                f" {place}, which came there in place of the data.",
                state="the data is where it was, whole; what was started runs on another directory and was not touched",
                safe_to_rerun=False,
                next_command=(
                    f"see whether anything was written to {place} that is to be kept; then"
                    f" {host.compose.typed('down')}, and run the same task again"
                ),
            )


def _path(context: Context[World]) -> str:
    return os.path.join(context.operation.directory, "moves.json")


def _noted(context: Context[World]) -> dict[str, int]:
    noted: dict[str, int] = durable.read_json(_path(context)) or {}
    return noted
