# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services of one host at work: started and stopped in their order, asked for their health."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import ComposeCli
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.said import (
    ask,
    identity_of,
    says,
    version_said,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control, session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._redis import session as redis
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World

API, DB, REDIS = "api", "db", "redis"
STORES = (DB, REDIS)
HEALTHY = "ok"
POLL = 0.2
STABLE = 3
GRACE_OF_OTHERS = 30.0


@dataclass(frozen=True)
class Host:
    """The project, with its compose file in ``folder``; ``world`` has the seams and the time limits."""

    world: World
    folder: str
    database: str = "concurrent"
    ailing: frozenset[str] = frozenset()
    """The services that did not go on running before anything was changed: none of ours to fail for."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the host is called, by :func:`said.identity_of`, and is to be called by whichever version."""

    @property
    def compose(self) -> ComposeCli:
        options = self.world.compose.options
        # What was said of another folder's files holds for no other, and its name must not come from the folder's.
        same = self.folder == options.project_src
        name = options.project_name if same else self.world.project
        files = options.files if same else ()
        return self.world.compose.with_options(project_src=self.folder, files=files, project_name=name)

    def container(self, service: str) -> Container:
        """Return the one running container of a service; raises where there is none."""
        found = self.world.containers_of(service)
        if len(found) != 1 or not found[0].pid:
            states = ", ".join(each.status for each in found) or "no container"
            raise StatefulError(
                f"The service {service} does not run ({states}).",
                next_command=logs_of(found[0].name) if found else self.compose.typed("ps", "-a"),
            )
        return found[0]

    def postgresql(self) -> Session:
        """Open a session with the project's database."""
        return session.connect(self.world.engine, self.container(DB), database=self.database)

    def redis(self) -> redis.Session:
        """Open a session with the project's Redis."""
        return redis.open_session(self.world.engine, self.container(REDIS))

    def redis_version(self) -> str:
        """Return the version of the project's Redis; raises where it names none."""
        said = str(redis.command(self.redis(), "INFO", "server"))
        found = [line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("redis_version:")]
        if not found:
            raise StatefulError("Redis does not say its version.", next_command=logs_of(self.container(REDIS).name))
        return found[0]

    def running(self) -> list[Container]:
        """Return the project's containers of any service, those of compose's own runs included."""
        label = {"com.docker.compose.project": self.world.project}
        return self.world.engine.containers(labels=label)

    def others(self) -> list[Container]:
        """Return the containers of everything but the stores and the api, whatever their state."""
        return [each for each in self.running() if each.service not in (*STORES, API)]

    # -- verbs ---------------------------------------------------------------

    def start_api(self, version: str = "") -> None:
        """Start both stores and the api, nothing else; return when it is healthy and says that it is ``version``."""
        self.compose.up(STORES, no_deps=True)
        self.compose.up((API,), no_deps=True)
        self.wait_healthy()
        container = self.container(API)
        told = says(container)
        said, named = version_said(told), identity_of(told)
        other = [f"{key} {named[key]} and not {was}" for key, was in self.names.items() if named.get(key, was) != was]
        if other:
            raise StatefulError(
                f"The api calls this host by another name than before: {', '.join(other)}. Its configuration is in"
                " another place, or of another form, in this version; see its release notes.",
                next_command=shell("docker", "inspect", "-f", "{{json .Mounts}}", container.name),
            )
        if version and said and said.lstrip("v") != version.lstrip("v"):
            raise StatefulError(
                f"The api says that it is {said}, and {version} is wanted.",
                next_command=shell("docker", "inspect", "-f", "{{.Image}} {{.Config.Image}}", container.name),
            )

    def stop_others(self) -> None:
        """Stop everything but the stores: nobody writes any more."""
        names = {each.service for each in self.running() if each.running} - set(STORES)
        if names:
            self.compose.stop(sorted(names), timeout=GRACE_OF_OTHERS)

    def save_redis(self) -> None:
        """Have Redis write its data to the disk, and see that it did: where it has no save points, a stop would not.

        Nobody writes any more, so that what is saved is all there is. Where nothing was written since the last time,
        the disk has all of it: it may be full, and the way back must not need room that it can do without.
        """
        found = [each for each in self.world.containers_of(REDIS) if each.pid]
        if found:
            session = redis.open_session(self.world.engine, found[0])
            if unsaved(str(redis.command(session, "INFO", "persistence"))):
                redis.command(session, "SAVE")

    def take_down(self, data: str, *, prove: bool = True) -> str:
        """Stop all, prove that the cluster in ``data`` is shut down, remove the containers; volumes stay.

        Returns the location of its shutdown checkpoint, empty where there is no cluster. Without ``prove`` it may be
        in any state: that is for one that others come in the place of.
        """
        self.stop_others()
        # What is only set aside gets the chance to be whole as well, and need not answer.
        with contextlib.nullcontext() if prove else contextlib.suppress(StatefulError):
            self.save_redis()
        here = {each.service for each in self.running()}
        stores = [name for name in STORES if name in here]
        if stores:
            self.compose.stop(stores, timeout=self.world.stop_timeout)
        location = ""
        if prove and os.path.exists(os.path.join(data, "PG_VERSION")):
            found = control.read_control(data)
            if found.state not in control.SHUT_DOWN_STATES:
                raise StatefulError(
                    f"The cluster in {data} is not shut down ({found.state}): it did not stop in time.",
                    state=f"the data is in {data}; the containers are stopped",
                    next_command=self.compose.typed("logs", "--tail", "50", DB),
                )
            location = found.checkpoint_lsn
        if here:
            self.compose.rm(sorted(here))
        left = self.running()
        if left:
            raise StatefulError(
                f"{', '.join(each.name for each in left)} cannot be removed.",
                state=f"the data is in {data}, and nobody was started on it",
                next_command=self.compose.typed("ps", "-a"),
            )
        return location

    def bring_up(self) -> None:
        """Start every service of the files, and return when the api is healthy and all that were started run."""
        self.compose.up()
        self.wait_healthy()
        self._wait_running()

    def _wait_running(self) -> None:
        """Return when every service runs, twice in a row; compose says 0 also of one that ends at once."""
        ends, seen = time.monotonic() + self.world.ready_timeout, 0
        while seen < STABLE:
            down = [each for each in self.running() if not goes_on(each) and each.service not in self.ailing]
            seen = 0 if down else seen + 1
            if down and time.monotonic() >= ends:
                raise StatefulError(
                    f"{', '.join(f'{each.service} ({each.status})' for each in down)} does not go on running.",
                    next_command=logs_of(down[0].name),
                )
            time.sleep(POLL)

    def start_postgresql(self) -> None:
        """Start the database alone, where it does not run, and return when it lets in."""
        self._start(DB, lambda: self.postgresql().close())

    def start_stores(self) -> None:
        """Start both stores, nothing else, where they do not run, and return when they answer."""
        self.start_postgresql()
        self._start(REDIS, lambda: redis.command(self.redis(), "PING"))

    def _start(self, service: str, answers: Callable[[], object]) -> None:
        if not [each for each in self.world.containers_of(service) if each.pid]:
            self.compose.up((service,), no_deps=True)
        ends = time.monotonic() + self.world.ready_timeout
        while True:
            try:
                answers()
                return
            except StatefulError:
                if time.monotonic() >= ends:
                    raise
            time.sleep(POLL)

    def wait_healthy(self) -> None:
        """Return when ``/health`` of the api answers ok; raises with its log at the end of its time."""
        ends = time.monotonic() + self.world.ready_timeout
        said = "it was never asked"
        while True:
            containers = self.world.containers_of(API)
            container = containers[0] if len(containers) == 1 else None
            if container is not None and container.pid:
                status, said = ask(container, "/health")
                if status == 200 and said.strip() == HEALTHY:
                    return
            elif container is not None:
                said = f"the container is {container.status}, exit code {container.exit_code}"
            if time.monotonic() >= ends:
                last = self.world.engine.logs(container.id, tail=8) if container else "there is no container"
                raise StatefulError(
                    f"The api is not healthy after {self.world.ready_timeout:.0f} s: {said}\n{last}",
                    next_command=logs_of(container.name) if container else self.compose.typed("ps", "-a"),
                )
            time.sleep(POLL)

    def wait_columns(self, columns: Sequence[str]) -> None:
        """Return when the api has added the columns, each as ``table.column``."""
        ends = time.monotonic() + self.world.ready_timeout
        with self.postgresql() as ours, ours.as_application() as there:
            while True:
                missing = [each for each in columns if not _has_column(there, each)]
                if not missing:
                    return
                if time.monotonic() >= ends:
                    raise StatefulError(
                        f"The api is healthy and has not added {', '.join(missing)} in"
                        f" {self.world.ready_timeout:.0f} s: it may be another version than it says.",
                        next_command=logs_of(self.container(API).name),
                    )
                time.sleep(POLL)


def unsaved(persistence: str) -> bool:
    """Tell from ``INFO persistence`` whether something is not on the disk yet; where it is not said, it may be."""
    told = dict(line.strip().partition(":")[::2] for line in persistence.splitlines())
    return told.get("rdb_changes_since_last_save") != "0" or told.get("rdb_last_bgsave_status") != "ok"


def goes_on(container: Container) -> bool:
    """Tell whether a container runs, or has done what it was for."""
    finished = container.status == "exited" and container.exit_code == 0
    return finished or (bool(container.pid) and container.status != "restarting")


def _has_column(there: Session, name: str) -> bool:
    table, _dot, column = name.rpartition(".")
    return bool(
        there.scalar(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
            " AND NOT attisdropped)",
            (table, column),
        )
    )
