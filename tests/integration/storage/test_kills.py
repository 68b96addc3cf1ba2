# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Killed at every step, and run again: the same end state, with all that was acknowledged.

The worker is killed at each point in turn, in one operation: at a step's beginning, the next
run in the middle of it, the next when it is done and not noted yet, the next when it is
noted. Each run finds what the last one left. That a run which is killed just once ends well,
too, is the full product, which ``make test-faults`` runs.
"""

from __future__ import annotations

from pathlib import Path

from .lab import laid_out

MOMENTS = ["before", "in", "after"]


def test_rename_killed_at_every_step(tmp_path: Path) -> None:
    with laid_out(tmp_path, dependent=True) as lab, lab.prober() as probe:
        result = lab.sweep(moments=MOMENTS, effects=[1])
        assert {move["strategy"] for move in result["plan"]["moves"]} == {"rename"}
        lab.assert_moved(probe)
        assert lab.states() == ["done"]
        struck = {(step, moment) for step, moment, _effect, _undoing in lab.points()}
        for step in ("back up db:/var/lib/postgresql/data", "hold restarts", "stop the dependents", "stop the stores",
                     "move db:/var/lib/postgresql/data", "rewrite the compose file", "create the containers",
                     "start the stores", "prove", "start the dependents", "restore restart policies"):  # fmt: skip
            assert {moment for name, moment in struck if name == step} >= {"before", "after"}, step
            assert {moment for name, moment in struck if name == step} & {"in", "applied"}, step
        assert lab.run().ok()["changed"] is False
