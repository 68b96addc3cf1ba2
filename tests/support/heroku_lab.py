# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for Heroku whose time passes only while somebody waits for it, and the seam to it over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku import stopping
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.api import Heroku
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import Http
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.patience import Patience
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.steps import World as StepWorld
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from tests.sandbox.heroku import HerokuStandIn
from tests.sandbox.heroku_world import App, Database, World

APP, LEADER, FOLLOWER = "shop", "postgresql-leader-1", "postgresql-follower-1"
FORMATION = {"web": 2, "worker": 1, "cron": 0}
NOTHING = dict.fromkeys(FORMATION, 0)


class Killed(BaseException):
    """The process ends here; nothing catches it."""


@dataclass
class Fuse:
    """Counts requests and records of the journal, and ends the process right before one of them.

    That is right after the one before it, too: nothing else has effects.
    """

    at: int = 0
    count: int = 0

    @contextmanager
    def effect(self) -> Iterator[None]:
        self.count += 1
        if self.count == self.at:
            raise Killed
        yield

    def let_be(self) -> None:
        self.at = 0


class FusedHttp(Http):
    """The seam, with a fuse in it."""

    fuse: Fuse

    def _send(self, *given: Any) -> Any:
        with self.fuse.effect():
            return super()._send(*given)


@dataclass
class Lab:
    """An app with a leader and a follower, and everything that the utilities need."""

    stand_in: HerokuStandIn
    directory: Path
    fuse: Fuse = field(default_factory=Fuse)

    @property
    def world(self) -> World:
        return self.stand_in.world

    @property
    def app(self) -> App:
        return self.world.apps[APP]

    @property
    def leader(self) -> Database:
        return self.world.databases[LEADER]

    @property
    def follower(self) -> Database:
        return self.world.databases[FOLLOWER]

    @property
    def heroku(self) -> Heroku:
        http = FusedHttp(self.world.key, timeout=5, pause=self.pause, clock=self.clock)
        http.fuse = self.fuse
        return Heroku(http, self.stand_in.url, self.stand_in.url)

    @property
    def operations(self) -> OperationStore:
        return OperationStore(str(self.directory / "operations"))

    def clock(self) -> float:
        return self.world.now.timestamp()

    def pause(self, seconds: float) -> None:
        with self.stand_in.lock:
            self.world.advance(seconds)

    def patience(self, limit: float = 7200) -> Patience:
        return Patience(limit, max(5.0, limit / 60), self.clock, self.pause)

    def steps(self) -> StepWorld:
        return StepWorld(self.heroku, self.patience(120))

    def stop(self, *, maintenance: bool = True, check: bool = False, **more: Any) -> dict[str, Any]:
        given = {"note": {}, "keep": lambda: None, **more}
        with stopping.alone(self.operations, APP):
            return stopping.stop(self.steps(), self.operations, APP, maintenance=maintenance, check=check, **given)

    def restore(self, *, check: bool = False, note: dict[str, Any] | None = None) -> dict[str, Any]:
        with stopping.alone(self.operations, APP):
            return stopping.restore(self.steps(), self.operations, APP, check=check, note=note)

    def quantities(self) -> dict[str, int]:
        return {kind: one["quantity"] for kind, one in self.app.formation.items()}

    def check_as_before(self, *, maintenance: bool = False) -> None:
        """Assert that the app runs what it was laid out with, and that nothing says that it was stopped."""
        assert self.quantities() == FORMATION
        assert self.app.maintenance is maintenance
        assert {state for _name, _kind, state in self.world.dynos(self.app)} == {"up"}
        assert stopping.begun_in(stopping.live_of(self.operations, APP)) == set()

    def check_stopped(self) -> None:
        assert self.quantities() == NOTHING
        assert self.app.maintenance
        assert self.world.dynos(self.app) == []

    def make_ready(self, plan: str = "standard-2") -> None:
        """Have a change of the leader's plan prepared, and the app stopped."""
        self.world.change_plan(self.leader, plan)
        self.world.advance(4000)
        assert self.leader.maintenance.status == "ready"
        self.app.maintenance = True


@contextmanager
def lab_in(directory: Path) -> Iterator[Lab]:
    """Lay an app out, and serve it as long as it is needed."""
    world = World()
    world.add_app(APP, **FORMATION)
    world.add_database(LEADER, APP, "DATABASE", "standard-0")
    world.add_database(FOLLOWER, APP, "HEROKU_POSTGRESQL_GRAY", "standard-0", leader=LEADER)
    with HerokuStandIn(world) as stand_in:
        yield Lab(stand_in, directory)
