# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two services of dokku's, whose containers dokku makes: what the steps that move files see of them.

Meets ``_storage.world.Maker``. Nothing is made here: of the two the one that runs on the data is the service, and the
way back is to stop the one and start the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Services
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.store import Login, PostgresqlStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import world as of_moves
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.bare import Alone, DockerCli, named
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import POSTGRESQL, Findings, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location, Transfer
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import Change, Maker


@dataclass(frozen=True)
class Pair:
    """``old`` and ``new`` are the names of the two containers. A transfer is one of ``old``'s service."""

    old: str
    new: str

    @property
    def compose(self) -> ComposeCli:
        raise StatefulError(f"The container {self.old} is dokku's, and belongs to no compose project.")

    def observe(self, engine: Engine, services: Sequence[str] = ()) -> Alone:
        return Alone(self.old, {self.old: tuple(named(engine, self.old))}, DockerCli(""))

    def seeing(self, project: Services) -> Maker:
        return self

    def facts(self) -> dict[str, Any]:
        return {}

    def resumed(self, facts: Mapping[str, Any]) -> Maker:
        return self

    def around(self, world: of_moves.World, project: Services, request: Request, change: Change) -> Findings:
        return Findings(moves=())

    def containers_of(self, engine: Engine, project: str, service: str) -> list[Container]:
        successor = named(engine, self.new)
        return successor if any(container.running for container in successor) else named(engine, self.old)

    def is_of(self, container: Container, transfer: Transfer) -> bool:
        return container.name in (self.old, self.new)

    def family(self, engine: Engine, project: str, transfer: Transfer) -> list[Container]:
        return [*named(engine, self.old), *named(engine, self.new)]

    def make(
        self,
        world: of_moves.World,
        transfers: Sequence[Transfer],
        locations: Mapping[str, Location],
        *,
        directory: str,
        pins: Mapping[str, str],
        file_is_theirs: bool,
    ) -> None:
        raise StatefulError(
            f"The container {self.old} is not as it was: another one has its name, or it is gone.",
            state="the data is where it was, and no container was made",
            next_command=self.listing(self.old),
        )

    def unfinished(self, engine: Engine, project: str, transfer: Transfer) -> list[Container]:
        return []

    def let_go(self, engine: Engine, transfer: Transfer) -> None:
        return None

    def listing(self, service: str) -> str:
        return DockerCli("").typed("ps", "-a", "--filter", f"name={service}")


def world_of_moves(world: World, old: str, new: str) -> of_moves.World:
    """Return what the steps that move files work with, for the data of service ``old`` on its way to ``new``."""
    return of_moves.World(
        engine=world.engine,
        maker=Pair(container_of(old), container_of(new)),
        project=container_of(old),
        stores={POSTGRESQL: PostgresqlStore(Login())},
        stop_timeout=world.stop_timeout,
        ready_timeout=world.ready_timeout,
    )
