# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container that ``docker run`` made, and no compose project: we make the next one ourselves. Meets ``world.Maker``.

The one that is replaced is not removed. It is stopped, has no restart policy any
more and bears another name; so it keeps its volumes from every prune, and the way
back leads to the very same container. Ids tell which is which, and a label of the
new one names the one that it replaces: a run that was killed between two names
finds both again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import ComposeConfig, Service
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.owners import updaters_of
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import (
    PROJECT_LABEL,
    SERVICE_LABEL,
    WORKING_DIR_LABEL,
    Services,
    Typed,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import lock_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import mounts_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import DEFAULT_HOST
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Bind,
    Container,
    RestartPolicy,
    Successor,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import (
    AGAIN,
    Blocker,
    InvalidInput,
    StatefulError,
    shell,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import (
    NO_RESTART,
    forget_policy,
    note_policy,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    FILES,
    LAYER,
    TMPFS,
    Findings,
    PlannedRewrite,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.neighbours import joined_to
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import data_paths
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import (
    Location,
    Transfer,
    transfers_of_plan,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import Change, Maker, World

REPLACES_LABEL = "selfhost.stateful.replaces"
"""On a container that we made: the id of the one whose place it takes."""
ORCHESTRATORS = ("com.docker.swarm.service.id", "io.kubernetes.pod.uid", "com.hashicorp.nomad.alloc_id")
"""Labels of containers that something else makes anew at its own discretion."""


@dataclass(frozen=True)
class DockerCli:
    """What is typed for a container where no compose file is. Meets ``Typed``."""

    docker_host: str

    def typed(self, *words: str) -> str:
        host = () if self.docker_host in ("", DEFAULT_HOST) else ("--host", self.docker_host)
        return shell("docker", *host, *words)


@dataclass(frozen=True)
class Alone:
    """Containers by their names, looked at as services of a project of their own. Meets ``Services``."""

    name: str
    containers: Mapping[str, tuple[Container, ...]]
    compose: Typed
    working_dir: str = "/"

    @property
    def config(self) -> ComposeConfig:
        return ComposeConfig(self.name, {name: _service(name) for name in self.containers}, {})

    def service(self, name: str) -> Service:
        return self.config.services[name]


def _service(name: str) -> Service:
    """Return what a file would say of a container: nothing that is not known from the container itself."""
    return Service(
        name=name, image="", build=None, mounts=(), depends_on=(), profiles=(), replicas=1, restart="", env_files=(),
        container_name=name, user="", environment={}, command=None, entrypoint=None, ports=(),
    )  # fmt: skip


@dataclass(frozen=True)
class Bare:
    """``name`` is the container's, as it is to stay; ``dependents`` are the names of those that use it."""

    name: str
    docker_host: str = ""
    dependents: tuple[str, ...] = ()

    @property
    def compose(self) -> ComposeCli:
        raise StatefulError(f"The container {self.name} belongs to no compose project.")

    def observe(self, engine: Engine, services: Sequence[str] = ()) -> Alone:
        names = dict.fromkeys((self.name, *services, *self.dependents))
        found = {name: tuple(named(engine, name)) for name in names}
        for container in found[self.name]:
            _refuse_others(container)
        there = {name: those for name, those in found.items() if those or name == self.name}
        return Alone(lock_of(self.name), there, DockerCli(self.docker_host))

    def seeing(self, project: Services) -> Maker:
        return self

    def facts(self) -> dict[str, Any]:
        return {"container": self.name, "docker_host": self.docker_host, "dependents": list(self.dependents)}

    def resumed(self, facts: Mapping[str, Any]) -> Maker:
        return Bare(facts["container"], self.docker_host, tuple(facts["dependents"]))

    def around(self, world: World, project: Services, request: Request, change: Change) -> Findings:
        everyone = world.engine.containers()
        moving = project.containers[self.name]
        absent = [name for name in self.dependents if name not in project.containers]
        blockers = [
            *_of_container(moving[0]),
            *(
                Blocker(f"There is no container {name}: dependents are named as docker ps shows them.")
                for name in absent
            ),
            *(
                Blocker(
                    f"{self.name} keeps its {path.store} data at {path.target}, on no volume, where it is lost with"
                    " the container: restore a backup of it (postgresql_backup) into a container that has a volume"
                    " there."
                )
                for path in data_paths(world, project, self.name)
                if path.store != FILES and path.kind in (LAYER, TMPFS)
            ),
            *_in_the_way(moving[0], change, {path.target for path in data_paths(world, project, self.name)}),
            *joined_to(everyone, moving),
            *_linked_to(everyone, moving[0]),
        ]
        return Findings(
            moves=(),
            rewrite=PlannedRewrite(how="there is none"),
            blockers=tuple(blockers),
            warnings=updaters_of(everyone, moving).warnings,
        )

    def containers_of(self, engine: Engine, project: str, service: str) -> list[Container]:
        return named(engine, service)

    def is_of(self, container: Container, transfer: Transfer) -> bool:
        return container.name == transfer.service or _takes_part(container, transfer)

    def family(self, engine: Engine, project: str, transfer: Transfer) -> list[Container]:
        return [container for container in engine.containers() if self.is_of(container, transfer)]

    def make(
        self,
        world: World,
        transfers: Sequence[Transfer],
        locations: Mapping[str, Location],
        *,
        directory: str,
        pins: Mapping[str, str],
        file_is_theirs: bool,
    ) -> None:
        engine = world.engine
        for transfer in transfers:
            location = locations[transfer.name]
            wanted = _kept(engine, location) if location.container else _made(engine, transfer, location, directory)
            self._replace(engine, transfer, wanted, directory)
            if location == transfer.origin:
                for made in _successors(engine, transfer):
                    engine.remove_container(made.id)

    def _replace(self, engine: Engine, transfer: Transfer, wanted: Container, directory: str) -> None:
        """Give ``wanted`` the name, and put aside the container that has it."""
        for there in named(engine, transfer.service):
            if there.id == wanted.id:
                continue
            if not _takes_part(there, transfer):
                raise Undecided(
                    f"{there.name} ({there.short_id}) was made by somebody else, and {wanted.name}"
                    f" ({wanted.short_id}) was about to take its place.",
                    state=f"{there.name} was left as it is; {wanted.name} has the data of this operation",
                    next_command=shell("docker", "rename", there.name, f"{there.name}-other"),
                )
            if there.running:
                # It runs on what it has, so that going back loses nothing.
                raise StatefulError(
                    f"{there.name} ({there.short_id}) was started meanwhile, and {wanted.name} ({wanted.short_id}) was"
                    " about to take its place.",
                    state=f"{there.name} runs on its own data",
                )
            # Renamed first, it would come back under a name that nobody looks for.
            engine.set_restart_policy(there.id, NO_RESTART)
            forget_policy(directory, there.id)
            word = "before" if there.id == transfer.origin.container else "next"
            engine.rename(there.id, _aside(transfer, directory, word))
        for other in self.family(engine, "", transfer):
            # Also one that an earlier attempt had meant to have the name: of the two, one may come back by itself.
            if other.id != wanted.id:
                forget_policy(directory, other.id)
                if other.restart != NO_RESTART:
                    engine.set_restart_policy(other.id, NO_RESTART)
        note_policy(directory, wanted.id, RestartPolicy(**transfer.restart))
        if wanted.name != transfer.service:
            engine.rename(wanted.id, transfer.service)

    def unfinished(self, engine: Engine, project: str, transfer: Transfer) -> list[Container]:
        found = _successors(engine, transfer)
        return [c for c in found if c.name != transfer.service and not c.started and not c.running]

    def let_go(self, engine: Engine, transfer: Transfer) -> None:
        kept = engine.container(transfer.origin.container)
        if kept is None:
            return
        if kept.running or kept.name == transfer.service:
            raise StatefulError(
                f"{kept.name} ({kept.short_id}) is the container that was replaced, and "
                + ("runs; it is not removed." if kept.running else f"has the name {kept.name}; it is not removed."),
                next_command=mounts_of(kept.id),
            )
        engine.remove_container(kept.id)

    def listing(self, service: str) -> str:
        return DockerCli(self.docker_host).typed("ps", "-a", "--filter", f"name={service}")


def name_of(engine: Engine, given: str, operations: OperationStore) -> str:
    """Return the name of the container that is meant by a name or an id, also by that of one that was put aside."""
    known = [
        (operation, transfer)
        for operation in operations.all()
        if operation.plan.goal.project.startswith(lock_of(""))
        for transfer in transfers_of_plan(operation.plan)
    ]
    if any(transfer.service == given and operation.is_open for operation, transfer in known):
        return given  # between two renames nobody has that name, and it may be how the id of another begins
    found = engine.container(given)
    if found is None:
        return given
    for _operation, transfer in known:
        if found.id in (transfer.origin.container, transfer.goal.container):
            return transfer.service
    return found.name


def kept_by(operations: OperationStore, project: str) -> frozenset[str]:
    """Return the ids of the containers that earlier operations put aside."""
    found = (t.origin.container for o in operations.of_project(project) for t in transfers_of_plan(o.plan))
    return frozenset(found) - {""}


def named(engine: Engine, name: str) -> list[Container]:
    """Return the container of exactly that name; the engine takes the beginning of an id for one, too."""
    found = engine.container(name)
    return [found] if found is not None and found.name == name else []


def _takes_part(container: Container, transfer: Transfer) -> bool:
    """Tell whether a container is one of the two, by its id or by the label that we gave it."""
    known = {*transfer.containers, transfer.origin.container, transfer.goal.container} - {""}
    return container.id in known or container.labels.get(REPLACES_LABEL) in known


def _successors(engine: Engine, transfer: Transfer) -> list[Container]:
    return engine.containers(labels={REPLACES_LABEL: transfer.origin.container})


def _kept(engine: Engine, location: Location) -> Container:
    found = engine.container(location.container)
    if found is None:
        raise StatefulError(
            f"The container {location.container[:12]}, which had the data in {location.shown()}, is gone.",
            state=f"the data is in {location.shown()}",
            next_command="docker ps -a",
        )
    return found


def _made(engine: Engine, transfer: Transfer, location: Location, directory: str) -> Container:
    """Return the successor of the container that serves at the origin, made anew unless it has its name or ran."""
    for found in _successors(engine, transfer):
        if found.name == transfer.service or found.started:
            return found
        engine.remove_container(found.id)  # it may lack some of its networks
    _kept(engine, transfer.origin)
    named_image = engine.image(location.reference)
    image = location.reference if named_image is not None and named_image.id == location.image else location.image
    moves = (location.path, location.volume) != (transfer.origin.path, transfer.origin.volume)
    target = transfer.target_at(location)
    made = engine.create_successor(
        transfer.origin.container,
        Successor(
            name=_aside(transfer, directory, "next"),
            image=image,
            labels={REPLACES_LABEL: transfer.origin.container},
            replaces=transfer.target if moves else "",
            bind=Bind(location.path, target, read_only=False) if moves else None,
        ),
    )
    return _kept(engine, Location(location.kind, location.path, location.volume, container=made))


def _aside(transfer: Transfer, directory: str, word: str) -> str:
    """Return a name beside the container's own: of an operation, what tells it from others of the same container."""
    digest_and_attempt = os.path.basename(directory).rsplit("-", 2)[1:]
    return "-".join((transfer.service, word, *digest_and_attempt))


def _refuse_others(container: Container) -> None:
    """Raise for a container that is not ours to make anew."""
    if container.labels.get(PROJECT_LABEL):
        raise InvalidInput(
            f"The container {container.name} is of the service {container.labels.get(SERVICE_LABEL, '')} of the compose"
            f" project {container.labels[PROJECT_LABEL]}, which would make it anew from its files: name project_src"
            f" ({container.labels.get(WORKING_DIR_LABEL, 'the directory of its compose file')}) and service in place of"
            " container."
        )
    managed = [label for label in ORCHESTRATORS if label in container.labels]
    if managed:
        raise InvalidInput(
            f"The container {container.name} is managed by an orchestrator (label {managed[0]}), which makes it anew by"
            " itself: change the image there. A backup of the data is made by postgresql_backup.",
            next_command=shell("docker", "inspect", "--format", "{{json .Config.Labels}}", container.name),
        )


def _of_container(container: Container) -> list[Blocker]:
    if not container.auto_remove:
        return []
    return [
        Blocker(
            f"{container.name} was made with --rm: the engine removes it, and its anonymous volumes, as soon as it"
            f" stops, and there would be no way back. Take a backup (postgresql_backup), and make it anew without --rm"
            f" on the same volume, which has to have a name; then {AGAIN}.",
            mounts_of(container.name),
        )
    ]


def _in_the_way(container: Container, change: Change, data: Collection[str]) -> list[Blocker]:
    """Say where something else is mounted at the place that the new image has its data at."""
    return [
        Blocker(
            f"{container.name} has {mount.source or mount.name} mounted at {mount.destination}, where"
            " the new container would have its data: make it anew without that mount first.",
            mounts_of(container.name),
        )
        for mount in container.mounts
        if mount.destination.rstrip("/") in change.targets and mount.destination.rstrip("/") not in data
    ]


def _linked_to(everyone: Sequence[Container], moving: Container) -> list[Blocker]:
    """Say which containers were linked to one that is to be replaced: they would look for the one that is put aside."""
    return [
        Blocker(
            f"{container.name} was made with --link to {moving.name}, which leads to the very container and not to its"
            f" name: put both on a network of their own (docker network create), make {container.name} anew there"
            f" without --link, and {AGAIN}.",
            shell("docker", "inspect", "--format", "{{json .HostConfig.Links}}", container.name),
        )
        for container in everyone
        if moving.name in container.linked
    ]
