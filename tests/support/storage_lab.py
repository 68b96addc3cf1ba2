# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A project in temporary directories, moved by the real plan and the real handlers, and watched all the time.

``check`` holds at every moment, also between two effects of one step:
the data is complete somewhere outside the backups; no two running containers
can write to it; whoever runs has all acknowledged rows; nobody ever
initialised an empty database.
"""

from __future__ import annotations

import itertools
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._operation import execute
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation, OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import planner, report, rollback_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.by_compose import ByCompose
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.handlers import STORAGE_HANDLERS
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import remove_leftover_helpers
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    BIND,
    LAYER,
    NAMED,
    DataPath,
    Findings,
    MountRequest,
    Move,
    Place,
    PlannedRewrite,
    Request,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.observe import measured, with_facts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.rollback import hunks_of
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.survey import stopped
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World
from tests.support import fake_store
from tests.support.fake_compose import FakeCompose
from tests.support.fake_store import KIND, FakeStore
from tests.support.fuse import Fuse, laid
from tests.support.memory_engine import MemoryEngine

PROJECT = "app"
TARGET = "/data"


@dataclass
class Lab:
    """``kind``: where the data lives at first. ``theirs``: the file names the new place already and is not ours."""

    root: Path
    kind: str = ANONYMOUS
    strategy: str = "rename"
    theirs: bool = False
    services: tuple[str, ...] = ("db",)
    backup: str = "auto"
    lenient: bool = False
    """An admin's own 'up' in the middle of an undo may leave the container for the next one to make anew."""
    fuse: Fuse = field(default_factory=Fuse)
    store: FakeStore = field(default_factory=FakeStore)
    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    idents: dict[str, str] = field(default_factory=dict)
    initialised: list[str] = field(default_factory=list)
    failure: BaseException | None = None
    rows: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # -- the project -------------------------------------------------------

    def up(self) -> Lab:
        self.project_dir.mkdir(parents=True)
        self.engine = MemoryEngine(
            self.root / "engine", started=self._started, ended=self._ended,
            before=lambda verb: self.fuse.touch(f"before {verb}"), after=lambda verb: self.fuse.touch(f"after {verb}"),
        )  # fmt: skip
        self.engine.add_image("store:1", volumes=() if self.kind == LAYER else (TARGET,))
        self.engine.add_image("app:1")
        self.file.write_text(self._text(moved=False), encoding="utf-8")
        self.compose = FakeCompose(self.engine, ProjectOptions(str(self.project_dir)), PROJECT, before=self.fuse.touch)
        self.compose.up()
        self.idents = {name: fake_store.ident_of(self.data_of(name)) for name in self.services}
        self.initialised.clear()
        for _number in range(3):
            self.write()
        if self.theirs:
            self.file.write_text(self._text(moved=True), encoding="utf-8")
        self.text = self.file.read_bytes()
        self.origins = {name: self.container(name).mount_at(TARGET) for name in self.services}
        return self

    @property
    def project_dir(self) -> Path:
        return self.root / "project"

    @property
    def file(self) -> Path:
        return self.project_dir / "compose.yaml"

    @property
    def operations(self) -> OperationStore:
        return OperationStore(str(self.root / "project" / ".operations"))

    @property
    def world(self) -> World:
        maker = ByCompose(self.compose)  # type: ignore[arg-type]
        return World(self.engine, maker, PROJECT, {KIND: self.store}, stop_timeout=1, ready_timeout=1)

    def goal(self, service: str) -> str:
        return str(self.project_dir / f"{service}-data")

    def _text(self, *, moved: bool) -> str:
        lines = ["services:"]
        for name in self.services:
            lines += [f"  {name}:", "    image: store:1", "    restart: always"]
            if moved:
                lines += ["    volumes:", f"      - ./{name}-data:{TARGET}"]
            elif self.kind == NAMED:
                lines += ["    volumes:", f"      - {name}:{TARGET}"]
        lines += ["  web:", "    image: app:1", "    restart: always", f"    depends_on: [{', '.join(self.services)}]"]
        if self.kind == NAMED and not moved:
            lines += ["volumes:", *(f"  {name}:" for name in self.services)]
        return textwrap.dedent("\n".join(lines) + "\n")

    def container(self, service: str) -> Container:
        found = self.world.containers_of(service)
        assert len(found) == 1, f"{service} has {len(found)} containers"
        return found[0]

    def data_of(self, service: str) -> str:
        return self.engine.host_path(self.container(service).id, TARGET)

    def write(self) -> None:
        """Have every store that runs take a write and acknowledge it."""
        with self.fuse.asleep():
            for name in self.services:
                for container in self.world.containers_of(name):
                    if container.running:
                        row = f"row-{next(self.rows)}"
                        fake_store.write_row(self.engine.host_path(container.id, TARGET), row)
                        self.acknowledged.setdefault(name, set()).add(row)

    def _started(self, container: Container) -> None:
        if container.service not in self.services:
            return
        with self.fuse.asleep():
            place = self.engine.host_path(container.id, TARGET)
            os.makedirs(place, exist_ok=True)
            if not fake_store.ident_of(place):
                fake_store.initialise(place)
                self.initialised.append(f"{container.name} in {place}")
            fake_store.mark(place, "in production")

    def _ended(self, container: Container) -> None:
        if container.service in self.services and container.exit_code != 137:
            with self.fuse.asleep():
                fake_store.mark(self.engine.host_path(container.id, TARGET), "clean")

    # -- the operation -----------------------------------------------------

    def request(self) -> Request:
        return Request(
            project=PROJECT,
            project_dir=str(self.project_dir),
            mounts=tuple(MountRequest(name, self.goal(name), TARGET, f"./{name}-data") for name in self.services),
            backup=self.backup,
            backup_dir=str(self.project_dir / "backups"),
            retained_dir=str(self.root / "engine" / "retained"),
            rewrite="none" if self.theirs else "in_place",
        )

    def begin(self) -> Operation:
        """Plan the move from what is there now, as the real plan does, and begin it."""
        moves = tuple(self._move(name, self.goal(name)) for name in self.services)
        findings = self._findings(moves)
        choices = self._choices(moves)
        goal = planner.goal_of(self.request(), moves)
        operation = self.operations.next_id(goal)
        transfers = planner.transfers_for(self.request(), findings, choices, operation)
        steps = planner.steps_for(
            self.request(), findings, transfers, os.path.join(self.request().backup_dir, operation)
        )
        text = report.plan_text(self.request(), findings, choices, (), (), "")
        made = planner.plan_of(goal, steps, summary={}, text=text, project_dir=str(self.project_dir))
        os.makedirs(self.request().backup_dir + "/" + operation, exist_ok=True)
        return self.operations.begin(made)

    def begin_rollback(self, done: Operation, strategy: str = "") -> Operation:
        """Plan the way back of ``done`` as the real plan does, and begin it."""
        request = self.request()
        moves = tuple(self._move(t.service, t.goal.path) for t in transfers_of_plan(done.plan))
        choices = {name: Choice(strategy or c.strategy, "", {}) for name, c in self._choices(moves).items()}
        new_id = self.operations.next_id(rollback_plan.rollback_goal(PROJECT, done.id))
        transfers = [
            rollback_plan.reverse_transfer(transfer, move, strategy or self.strategy, request, new_id)
            for transfer, move in zip(transfers_of_plan(done.plan), moves)
        ]
        backup_dir = os.path.join(request.backup_dir, new_id)
        os.makedirs(backup_dir, exist_ok=True)
        steps = rollback_plan.rollback_steps(request, self._findings(moves), transfers, backup_dir, hunks_of(done), {})
        plan: Plan = rollback_plan.rollback_plan(request, choices, transfers, steps, done.id)
        return self.operations.begin(plan)

    def _choices(self, moves: tuple[Move, ...]) -> dict[str, Choice]:
        return {f"{move.data.service}:{move.data.target}": Choice(self.strategy, "", {}) for move in moves}

    def _findings(self, moves: tuple[Move, ...]) -> Findings:
        webs = tuple(stopped(c) for c in self.world.containers_of("web") if c.running)
        return Findings(
            moves=moves,
            rewrite=PlannedRewrite() if self.theirs else PlannedRewrite((str(self.file),), "in place"),
            dependents=(webs,) if webs else (),
            stores=tuple(stopped(self.container(name)) for name in self.services),
            hashes=self.compose.service_hashes(self.services),
        )

    def _move(self, service: str, source: str) -> Move:
        container = self.container(service)
        mount = container.mount_at(TARGET)
        kinds = {"bind": BIND, "volume": self.kind}
        data = DataPath(
            service=service,
            target=TARGET,
            kind=kinds[mount.type] if mount else LAYER,
            host_path=self.data_of(service),
            store=KIND,
            volume=mount.name if mount else "",
            container=container.id,
            running=container.running,
        )
        known = with_facts(self.world, measured(data), container)
        return Move(
            data=known,
            source=source,
            written=f"./{os.path.basename(source)}",
            place=Place(source, False, True, "ext4", 1, "/", 1 << 40, False),
            cannot={},
            image_id=container.image_id,
        )

    def run(self, operation: Operation) -> str:
        """Run or resume to the end, from what is on disk; returns the operation's state."""
        remove_leftover_helpers(self.engine, operation.id)
        return execute.run(self.operations.get(operation.id), STORAGE_HANDLERS, self.world).state

    def undo(self, operation: Operation) -> None:
        """Undo an operation that is open, as its roll back does."""
        remove_leftover_helpers(self.engine, operation.id)
        execute.undo(operation, STORAGE_HANDLERS, self.world, reason="It was rolled back on request.")

    def burning(self, at: int | str, work: Callable[[], object], **more: object) -> bool:
        """Do ``work`` with the fuse at ``at``; tell whether it burnt, by Died or by what it raised."""
        self.fuse.reset(at, **more)  # type: ignore[arg-type]
        try:
            with laid(self.fuse, str(self.project_dir)):
                work()
        except BaseException as error:
            if not self.fuse.burnt:
                raise
            self.failure = error
        finally:
            burnt = bool(self.fuse.burnt)
            self.fuse.at = 0
            self.fuse.dead = False
        return burnt

    def finish(self, begin: Callable[[], Operation], operation: Operation) -> Operation:
        """Run as the module does: resume; where that ends undone, begin anew. Returns the one that is done."""
        for _attempt in range(3):
            try:
                if self.run(operation) == DONE:
                    return operation
            except execute.UndoneFailure:
                pass
            self.check()
            operation = begin()
        raise AssertionError("three attempts, and none was done")

    # -- what has to hold --------------------------------------------------

    def check(self) -> None:
        assert not self.initialised, f"an empty database was initialised: {self.initialised}"
        self._check_complete()
        self._check_alone()
        self._check_served()

    def check_served(self) -> None:
        """Assert that everything works, wherever the data is, and whatever compose has left beside it."""
        self.check()
        for name in (*self.services, "web"):
            serving = [c for c in self.world.containers_of(name) if c.running]
            assert [c.restart.name for c in serving] == ["always"], f"{name} is served by {serving}"

    def _check_complete(self) -> None:
        places = self._places()
        for name in self.services:
            rows = self.acknowledged[name]
            complete = [
                place for place, ident in places.items()
                if ident == self.idents[name] and rows <= fake_store.rows_of(place)
            ]  # fmt: skip
            assert complete, f"no place holds all of {name}: {places}"

    def _places(self) -> Mapping[str, str]:
        found = {}
        for directory, names, files in os.walk(self.root):
            names[:] = [name for name in names if name not in ("backups", "rows")]
            if "ident" in files:
                found[directory] = fake_store.ident_of(directory)
        return found

    def _check_alone(self) -> None:
        writers: dict[str, str] = {}
        for container in self.engine.held.values():
            if not container.running or (container.service and container.service not in self.services):
                continue
            for mount in container.mounts:
                if mount.rw:
                    place = os.path.realpath(mount.source)
                    assert place not in writers, f"{writers[place]} and {container.name} both write to {place}"
                    writers[place] = container.name

    def _check_served(self) -> None:
        for name in self.services:
            for container in self.world.containers_of(name):
                if container.running:
                    place = self.engine.host_path(container.id, TARGET)
                    assert fake_store.ident_of(place) == self.idents[name], f"{container.name} serves other data"
                    missing = self.acknowledged[name] - fake_store.rows_of(place)
                    assert not missing, f"{container.name} serves {place} without {missing}"

    def check_moved(self, operation: Operation) -> None:
        """Assert the end of a move: all is as before, but for the mount."""
        self.check_moved_but_for(DONE, operation)

    def check_moved_but_for(self, state: str, operation: Operation) -> None:
        """Assert the end of a move whose operation is in ``state`` by now."""
        self.check()
        assert operation.history().state == state
        for name in self.services:
            container = self.container(name)
            mount = container.mount_at(TARGET)
            assert mount is not None
            assert (mount.type, mount.source, mount.rw) == ("bind", self.goal(name), True)
        self._check_as_before()
        if not self.theirs:
            assert all(f"./{name}-data:{TARGET}" in self.file.read_text() for name in self.services)
        self._check_tidy()
        self._check_the_admins_up()

    def check_at_origin(self) -> None:
        """Assert that everything is back where it was, to the byte of the file."""
        self.check()
        for name in self.services:
            mount, before = self.container(name).mount_at(TARGET), self.origins[name]
            if before is None:
                assert mount is None
            else:
                assert mount is not None
                assert (mount.type, mount.name) == (before.type, before.name)
        self._check_as_before()
        assert self.file.read_bytes() == self.text
        # A layer is lost by the admin's own --force-recreate, as ever.
        if not self.theirs and self.kind != LAYER:
            self._check_the_admins_up()

    def check_undone(self) -> None:
        self.check_at_origin()
        self._check_tidy()
        for name in self.services:
            assert not os.path.exists(self.goal(name)) or not os.listdir(self.goal(name))

    def _check_as_before(self) -> None:
        for name in (*self.services, "web"):
            container = self.container(name)
            assert container.running, f"{name} does not run"
            assert container.restart.name == "always", f"{name} has the restart policy {container.restart.name}"
            assert container.image_ref in ("store:1", "app:1")

    def _check_tidy(self) -> None:
        partial = [str(p) for p in self.root.rglob("*.partial-*")]
        assert not partial, f"partial copies were left: {partial}"

    def _check_the_admins_up(self) -> None:
        """The admin's own commands, now and later, find the data."""
        for force in (False, True):
            before = {name: self.container(name).id for name in self.services}
            self.compose.up(force_recreate=force)
            if not force:
                assert before == {name: self.container(name).id for name in self.services} or self.lenient, (
                    "up -d recreated a store"
                )
            self.write()
            self.check()
