# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The full product: each step of each strategy, killed once before, in and after it, and then run again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sandbox.engine import Engine
from tests.sandbox.isolated import IsolatedEngine
from tests.sandbox.loopfs import loopfs

from .lab import Lab, laid_out

pytestmark = pytest.mark.faults

DB = "db:/var/lib/postgresql/data"
MOMENTS = ["before", "in", "after"]
# Effects of a step after which it is killed: the first, and some on the way to thousands.
EFFECTS = [1, 2, 4, 8, 32, 128, 512]
SERVICES = {"rename": ["db", "redis"], "clone": ["db", "redis"], "replica": ["db"], "copy": ["db", "redis"]}
TARGETS = {"db": DB, "redis": "redis:/data"}


def steps_of(strategy: str) -> list[str]:
    """Return the names of the steps of a plan by ``strategy``, with a dependent."""
    targets = [TARGETS[service] for service in SERVICES[strategy]]
    steps = [f"back up {target}" for target in targets] + ["count"]
    if strategy in ("replica", "copy"):
        steps += [f"prepare {target}" for target in targets]
    steps += switch_of(strategy) + ["prove", "start the dependents", "restore restart policies", "count again"]
    if strategy == "replica":
        steps.append(f"remove the standby of {DB}")
    if strategy != "rename":
        steps += [f"retain the original of {target}" for target in targets]
    return steps


def switch_of(strategy: str) -> list[str]:
    """Return the steps of the downtime that can be undone whatever was written since."""
    moves = [f"move {TARGETS[service]}" for service in SERVICES[strategy]]
    return [
        "arrange the stop", "hold restarts", "stop the dependents", "stop the stores", *moves,
        "rewrite the compose file", "create the containers", "start the stores",
    ]  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """Where a strategy can be used: an engine, the place of the projects, the place of the targets."""

    strategy: str
    place: Path
    engine: Engine | None = None
    targets: Path | None = None

    @contextlib.contextmanager
    def lab(self, name: str) -> Iterator[Lab]:
        """Lay a project out and take it away again."""
        services = SERVICES[self.strategy]
        sources = {service: self.targets / name / service for service in services} if self.targets else None
        with laid_out(
            self.place / name, services=services, sources=sources, engine=self.engine, dependent=True,
            options={"strategy": self.strategy},
        ) as lab:  # fmt: skip
            yield lab


# Each strategy's tests one after the other: its ground is made once.
@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in SERVICES])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Return the ground of each strategy in turn."""
    strategy = request.param
    place = tmp_path_factory.mktemp(strategy)
    with contextlib.ExitStack() as stack:
        if strategy == "rename":
            yield Ground(strategy, place)
        elif strategy == "clone":
            disk = stack.enter_context(loopfs("xfs", 8192))
            isolated = stack.enter_context(IsolatedEngine(disk / "engine"))
            for image in ("postgres:17", "redis:8", "mastodon-base"):
                isolated.load_image(f"selfhost-sandbox/{image}")
            yield Ground(strategy, disk / "projects", isolated.engine)
        else:
            disk = stack.enter_context(loopfs("ext4", 8192))
            yield Ground(strategy, place, targets=disk)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", range(max(len(steps_of(strategy)) for strategy in SERVICES)))
def test_killed_once(ground: Ground, number: int, moment: str) -> None:
    """Killed at one point, the next run ends as if nothing had been."""
    steps = steps_of(ground.strategy)
    if number >= len(steps):
        pytest.skip("this strategy has fewer steps")
    if (steps[number], moment) == ("prove", "before"):
        pytest.skip("it only looks, and is found to be done: it never has an intent")
    with ground.lab(f"once-{number}-{moment}") as lab, lab.prober() as probe:
        result = lab.sweep(moments=[moment], effects=EFFECTS[:1], steps=[steps[number]])
        assert {move["strategy"] for move in result["plan"]["moves"]} == {ground.strategy}
        assert len(lab.points()) == 1, lab.points()
        lab.assert_moved(probe)
        assert lab.run().ok()["changed"] is False


def test_killed_after_many_effects(ground: Ground) -> None:
    """Every step of the move, killed deep inside, in one operation."""
    with ground.lab("deep") as lab, lab.prober() as probe:
        lab.sweep(moments=["in"], effects=EFFECTS)
        lab.assert_moved(probe)


@pytest.mark.parametrize("number", range(max(len(switch_of(strategy)) for strategy in SERVICES)))
def test_undo_killed_everywhere(ground: Ground, number: int) -> None:
    """A step of the downtime fails, and its undoing is killed at every point."""
    steps = switch_of(ground.strategy)
    if number >= len(steps):
        pytest.skip("this strategy has fewer steps")
    failing = {"step": steps[number], "moment": "applied", "do": "fail"}
    with ground.lab(f"undo-{number}") as lab, lab.prober() as probe:
        if steps[number] == "start the stores" and ground.strategy != "rename":
            # The copy may have taken writes by now, and then nothing may be undone.
            lab.run(faults={"faults": [failing]}).refusal()
            lab.run().ok()
        else:
            lab.sweep(moments=MOMENTS, effects=[1, 4], undoing=True, faults=[failing])
            assert "rolled_back" in lab.states()
        lab.assert_moved(probe)
