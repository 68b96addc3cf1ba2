# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An admin who runs the playbook against a stand-in for Heroku, and a kill that leaves nothing of it running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.playbooks.admin import Play
from tests.sandbox.heroku import BEFORE, DROP, HerokuStandIn, Request
from tests.sandbox.heroku_world import App, Database, Timing, World
from tests.tools import playbook

PLAYBOOK = "selfhost.stateful.upgrade_heroku_postgres"
APP, LEADER, FOLLOWER = "shop", "postgresql-leader-1", "postgresql-follower-1"
FORMATION = {"web": 2, "worker": 1, "cron": 0}
MARK = "SELFHOST_STATEFUL_PLAY"
KEY = "HRKU-2f1c7a90-key-of-a-test"
TO_OPEN = re.compile(r"ansible localhost -m selfhost\.stateful\.heroku_app_formation -a '[^']*'")
CHANGES = {
    "plan": ("PATCH", "/addons/"),
    "window": ("POST", "/window"),
    "close": ("PATCH", "/apps/shop"),
    "stop": ("PATCH", "/formation"),
    "backup": ("POST", "/backups"),
    "run": ("POST", "/run"),
    "start": ("PATCH", "/formation"),
    "open": ("PATCH", "/apps/shop"),
}
TICK = 20.0
"""Seconds that pass at Heroku with every request; hours are minutes there, so that a play has few to make."""


def is_change(name: str, request: Request) -> bool:
    """Tell whether a request is one of :data:`CHANGES`."""
    method, place = CHANGES[name]
    if request.method != method or not (request.path.endswith(place) or place in request.path):
        return False
    if name in ("close", "open"):
        return request.path == place and request.body == {"maintenance": name == "close"}
    if name in ("stop", "start"):
        return request.path.endswith(place) and (request.body["updates"][0]["quantity"] == 0) == (name == "stop")
    return True


@dataclass
class Admin:
    """Runs the playbook with ``variables``; all files are below ``directory``."""

    stand_in: HerokuStandIn
    directory: Path
    variables: dict[str, Any] = field(default_factory=dict)
    plays: int = 0

    @property
    def world(self) -> World:
        return self.stand_in.world

    @property
    def app(self) -> App:
        return self.world.apps[APP]

    @property
    def leader(self) -> Database:
        return self.world.databases[LEADER]

    def play(self, *arguments: str, **variables: Any) -> Play:
        return self._play(arguments, variables, lambda kill: None)

    def killed(self, when: Callable[[str, Request], bool], *arguments: str, **variables: Any) -> Play:
        """Run it, and kill it with everything that it started, at the request of which ``when`` says so."""

        def arm(kill: Callable[[], None]) -> None:
            def watch(moment: str, request: Request) -> str | None:
                if not when(moment, request):
                    return None
                self.stand_in.watch = None
                kill()
                # It never reached Heroku, or it did, and its answer reached nobody.
                return DROP if moment == BEFORE else None

            self.stand_in.watch = watch

        try:
            return self._play(arguments, variables, arm)
        finally:
            self.stand_in.watch = None

    def killed_at(self, name: str, moment: str, *arguments: str, **variables: Any) -> Play:
        """Run it, and kill it at the first change of this name."""
        return self.killed(lambda seen, request: seen == moment and is_change(name, request), *arguments, **variables)

    def _play(
        self, arguments: tuple[str, ...], variables: Mapping[str, Any], arm: Callable[[Callable[[], None]], None]
    ) -> Play:
        self.plays += 1
        folder, mark = self.directory / f"play-{self.plays}", uuid.uuid4().hex
        arm(lambda: kill_marked(mark))
        events: list[playbook.Event] = []
        code = playbook.run(
            PLAYBOOK,
            inventory=playbook.here("localhost"),
            variables={**self.variables, **variables},
            folder=folder,
            follow=events.append,
            arguments=arguments,
            env={MARK: mark, "HEROKU_API_KEY": self.world.key},
        )
        return Play(code, events, [], (folder / "ansible.log").read_text())

    def watch(self, name: str, moment: str, then: Callable[[], object]) -> None:
        """Call ``then`` once, when a change of this name comes or was carried out."""

        def watch(seen: str, request: Request) -> None:
            if seen == moment and is_change(name, request):
                self.stand_in.watch = None
                with self.stand_in.lock:
                    then()

        self.stand_in.watch = watch

    def paste(self, play: Play) -> str:
        """Run the command of which a play said that it opens the app; it must end well."""
        (line,) = set(TO_OPEN.findall(play.said()))
        return self.ansible(line.removeprefix("ansible "))

    def ansible(self, arguments: str) -> str:
        """Run ``ansible`` with these arguments, written as for a shell."""
        program = Path(sys.executable).with_name("ansible")
        env = {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.directory / f"play-{self.plays}" / "ansible.cfg"),
            "HEROKU_API_KEY": self.world.key,
        }
        done = subprocess.run(
            f"{program} {arguments}", shell=True, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def changed(self, name: str) -> int:
        """Return how often this was changed at Heroku."""
        return len([each for each in self.stand_in.changed() if is_change(name, each)])

    def notes(self) -> list[Path]:
        """Return the files that keep what a database was."""
        return list((self.directory / "operations").glob(".heroku-*.before.json"))

    def check_secrets(self) -> None:
        """Raise where any file tells the key, or the password of a database: logs, journals, notes."""
        given = [path for path in self.directory.rglob("*") if path.is_file() and path.name != "variables.json"]
        for path in given:
            text = path.read_text(errors="replace")
            assert self.world.key not in text, path
            assert "s3cret" not in text, path

    def on_plan(self, plan: str = "standard-2") -> None:
        """Have the leader on a plan, as if it had been changed long ago."""
        self.leader.plan = self.leader.serving = plan

    def quantities(self) -> dict[str, int]:
        return {kind: one["quantity"] for kind, one in self.app.formation.items()}

    def changes(self) -> list[str]:
        """Return what was changed at Heroku, in order."""
        return [f"{each.method} {each.path}" for each in self.stand_in.changed()]

    def check_open(self, plan: str) -> None:
        """Raise unless the app runs what it ran, lets people in, and is on ``plan``."""
        assert self.quantities() == FORMATION
        assert not self.app.maintenance
        assert (self.leader.plan, self.leader.serving) == (plan, plan)


def kill_marked(mark: str) -> None:
    """Kill every process that was started with this mark in its environment; until there is none."""
    wanted = f"{MARK}={mark}".encode()
    while found := [pid for pid in _processes() if wanted in _environment(pid)]:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@contextmanager
def admin_in(directory: Path) -> Iterator[Admin]:
    world = World(key=KEY, tick=TICK, timing=Timing(accepted=20, preparing=200, forkable=100))
    world.add_app(APP, **FORMATION)
    world.add_database(LEADER, APP, "DATABASE", "standard-0")
    with HerokuStandIn(world) as stand_in:
        variables = {
            "heroku_postgres_plan_app": APP,
            "heroku_postgres_plan_plan": "standard-2",
            "heroku_postgres_plan_api_url": stand_in.url,
            "heroku_postgres_plan_data_api_url": stand_in.url,
            "heroku_postgres_plan_poll_interval": 0.01,
            "heroku_postgres_plan_operations_dir": str(directory / "operations"),
            "heroku_postgres_plan_allow_ephemeral_journal": True,
        }
        yield Admin(stand_in, directory, variables)
