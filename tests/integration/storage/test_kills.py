# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Killed at every step, and run again: the same end state, with all that was acknowledged.

The worker is killed at each point in turn, in one operation: at a step's beginning, the next
run in the middle of it, the next when it is noted. Each run finds what the last one left.
That a run which is killed just once ends well, too, is the full product, which ``make
test-faults`` runs.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.isolated import IsolatedEngine
from tests.sandbox.loopfs import loopfs

from .lab import Lab, laid_out

MOMENTS = ["before", "in", "after"]
DB = "db:/var/lib/postgresql/data"
FAIL_LATE = {"step": "create the containers", "moment": "applied", "do": "fail"}


def assert_struck(lab: Lab, *steps: str, undoing: bool = False) -> None:
    """Assert that a kill struck before, in and after each of ``steps``."""
    for step in steps:
        struck = {moment for name, moment, _effect, undone in lab.points() if (name, undone) == (step, undoing)}
        # The proof only looks, so that it is found to be done and never has an intent.
        assert struck >= ({"after"} if step == "prove" else {"before", "after"}), (step, struck)
        assert struck & {"in", "applied"}, (step, struck)


def test_rename_killed_at_every_step(tmp_path: Path) -> None:
    """Of an anonymous volume and of a named one, whose store nobody can recognise while its directory is away."""
    named: dict[str, Any] = {
        "redis_lines": ("volumes:", "  - redis-data:/data"),
        "edit": lambda text: text + "volumes:\n  redis-data:\n",
    }
    with laid_out(tmp_path, dependent=True, **named) as lab, lab.prober() as probe:
        result = lab.sweep(moments=MOMENTS, effects=[1])
        assert {move["strategy"] for move in result["plan"]["moves"]} == {"rename"}
        lab.assert_moved(probe)
        assert lab.states() == ["done"], lab.story()
        assert_struck(
            lab, f"back up {DB}", "back up redis:/data", "count", "arrange the stop", "hold restarts",
            "stop the dependents", "stop the stores", f"move {DB}", "move redis:/data", "rewrite the compose file",
            "create the containers", "start the stores", "prove", "start the dependents", "restore restart policies",
            "count again",
        )  # fmt: skip
        assert lab.run().ok()["changed"] is False


@pytest.mark.faults
def test_replica_and_copy_killed_at_their_steps(tmp_path: Path) -> None:
    steps = [f"prepare {DB}", "prepare redis:/data", f"move {DB}", "move redis:/data",
             f"remove the standby of {DB}", f"retain the original of {DB}",
             "retain the original of redis:/data"]  # fmt: skip
    with loopfs("ext4", 1024) as place:
        sources = {"db": place / "postgres", "redis": place / "redis"}
        with laid_out(tmp_path, sources=sources) as lab, lab.prober() as probe:
            result = lab.sweep(moments=MOMENTS, effects=[1], steps=steps)
            chosen = {move["service"]: move["strategy"] for move in result["plan"]["moves"]}
            assert chosen == {"db": "replica", "redis": "copy"}
            lab.assert_moved(probe)
            assert lab.states()[-1] == "done", lab.story()
            assert_struck(lab, *steps)


@pytest.mark.faults
def test_layer_killed_at_its_steps(tmp_path: Path) -> None:
    """Data outside the declared volume lies in the container's own layer, and dies with the container.

    The operations are on another file system, where no hard link reaches from the layer.
    """
    lines = ("  POSTGRES_INITDB_ARGS: --no-sync", "  PGDATA: /srv/cluster")
    steps = ["keep the layer of db:/srv/cluster", "move db:/srv/cluster"]
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(loopfs("ext4", 640))
        lab = stack.enter_context(laid_out(place / "lab", services=["db"], db_lines=lines))
        probe = stack.enter_context(lab.prober())
        result = lab.sweep(moments=MOMENTS, effects=[1], steps=[*steps, "create the containers"])
        (move,) = result["plan"]["moves"]
        assert (move["from"]["kind"], move["strategy"]) == ("layer", "copy")
        lab.assert_moved(probe)
        assert_struck(lab, *steps)
        (kept,) = [Path(copy["path"]) for copy in result["copies"] if copy["role"] == "original"]
        stack.callback(shutil.rmtree, kept.parent)
        assert (kept / "PG_VERSION").exists()
        assert kept.stat().st_dev != place.stat().st_dev


@pytest.mark.faults
def test_volume_with_options_killed_at_its_steps(tmp_path: Path) -> None:
    """Its directory is a mount of something else, and empty while nothing uses it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = f"    driver_opts:\n      type: none\n      o: bind\n      device: {elsewhere}\n"
    steps = ["hold the volume of redis:/data", "move redis:/data", "release the volume of redis:/data"]
    with (
        laid_out(tmp_path, services=["redis"], named_volumes=True, edit=lambda text: text + options) as lab,
        lab.prober() as probe,
    ):
        result = lab.sweep(moments=MOMENTS, effects=[1], steps=steps)
        (move,) = result["plan"]["moves"]
        assert (move["from"]["kind"], move["strategy"]) == ("named", "copy")
        lab.assert_moved(probe)
        assert_struck(lab, *steps)
        assert any(elsewhere.iterdir()), "the original was emptied"
        (kept,) = [copy for copy in result["copies"] if copy["role"] == "original"]
        assert (kept["path"], kept["size_bytes"] > 0) == (str(elsewhere), True)
        assert "never removed" in kept["protected"]


@pytest.mark.faults
@pytest.mark.xdist_group("reflinks")
def test_clone_killed_at_its_step(reflinks: IsolatedEngine) -> None:
    place = reflinks.data_root.parent / "clone"
    with (
        laid_out(place, engine=reflinks.engine, options={"strategy": "clone"}) as lab,
        lab.prober() as probe,
    ):
        result = lab.sweep(moments=MOMENTS, effects=[1, 8], steps=[f"move {DB}", f"retain the original of {DB}"])
        assert {move["strategy"] for move in result["plan"]["moves"]} == {"clone"}
        lab.assert_moved(probe)
        assert_struck(lab, f"move {DB}")


@pytest.mark.faults
def test_undo_killed_at_every_step(tmp_path: Path) -> None:
    """A failure in the downtime is undone, whatever happens to the undoing, and a new attempt follows."""
    with laid_out(tmp_path, dependent=True) as lab, lab.prober() as probe:
        lab.sweep(moments=MOMENTS, effects=[1], undoing=True, faults=[FAIL_LATE])
        lab.assert_moved(probe)
        assert lab.states() == ["rolled_back", "done"], lab.story()
        assert_struck(
            lab, "rewrite the compose file", "move redis:/data", f"move {DB}", "stop the stores",
            "stop the dependents", "hold restarts", "arrange the stop", undoing=True,
        )  # fmt: skip
