# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which handler does which kind of step of a storage operation."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Handler
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.steps import (
    changeover,
    copies,
    dependents,
    downtime,
    files,
    moves,
    volumes,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

STORAGE_HANDLERS: dict[str, Handler[World]] = {
    "backup": copies.Backup(),
    "count_before": copies.CountBefore(),
    "hold_volume": volumes.HoldVolume(),
    "warm_copy": moves.WarmCopy(),
    "arrange_stop": downtime.ArrangeStop(),
    "hold_restarts": downtime.HoldRestarts(),
    "stop_dependents": dependents.StopDependents(),
    "stop_stores": downtime.StopStores(),
    "keep_layer": copies.KeepLayer(),
    "rename": moves.Rename(),
    "free_name": moves.FreeName(),
    "clone": moves.Clone(),
    "settle": moves.Settle(),
    "rewrite": files.RewriteFiles(),
    "reverse_files": files.ReverseFiles(),
    "create_containers": changeover.CreateContainers(),
    "start_stores": changeover.StartStores(),
    "prove_goal": changeover.ProveGoal(),
    "remove_replaced": changeover.RemoveReplaced(),
    "start_dependents": dependents.StartDependents(),
    "restore_restarts": downtime.RestoreRestarts(),
    "compare_counts": copies.CompareCounts(),
    "release_volume": volumes.ReleaseVolume(),
    "retain": copies.Retain(),
    "vacate": copies.Vacate(),
    "keep_volume": copies.KeepVolume(),
    "keep_in_place": copies.KeepInPlace(),
}
