# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An admin who runs playbooks on a project, and a compose CLI that gets in the way when it is told to."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sandbox.projects import Project
from tests.tools import playbook

COMPOSE = """\
#!/bin/sh
# Compose as it is, with a note of every call and with the trouble that is laid out for one of its words.
printf '%s\\n' "$*" >>{log}
for word in "$@"; do
    if [ -f {trouble}/"$word" ]; then . {trouble}/"$word"; fi
done
exec {compose} "$@"
"""
VERBS = frozenset({"build", "config", "ps", "pull", "rm", "run", "up", "version"})


@dataclass(frozen=True)
class Play:
    """One run of a playbook: its exit code, what its tasks returned, and what compose was asked to do."""

    code: int
    events: Sequence[playbook.Event]
    calls: Sequence[str]
    log: str

    def said(self) -> str:
        """Return everything that the playbook printed for a person, failures included."""
        lines: list[str] = []
        for event in self.events:
            if event["event"] == "failed" or event["action"] == "ansible.builtin.debug":
                for result in event["result"].get("results") or [event["result"]]:
                    message = result.get("msg", "")
                    lines += message if isinstance(message, list) else [str(message)]
        return "\n".join(lines)

    def ok(self) -> Play:
        """Return itself, which must have succeeded."""
        assert self.code == 0, self.log
        return self

    def failed(self) -> Play:
        """Return itself, which must have failed, on its host and not before."""
        assert self.code == 2, self.log
        return self

    def ran(self, action: str) -> list[Mapping[str, Any]]:
        """Return the results of every task with this module."""
        return [event["result"] for event in self.events if event["action"] == f"selfhost.stateful.{action}"]

    @property
    def verbs(self) -> list[str]:
        """Return what compose was asked to do, in order."""
        return [word for call in self.calls for word in call.split() if word in VERBS]


@dataclass
class Admin:
    """Runs playbooks on ``project`` with ``variables``; everything else of theirs is below ``directory``."""

    project: Project
    directory: Path
    variables: Mapping[str, Any] = field(default_factory=dict)
    _plays: int = 0

    def __post_init__(self) -> None:
        self._trouble.mkdir(parents=True)
        words = {
            "log": str(self._calls),
            "trouble": str(self._trouble),
            "compose": shlex.join(self.project.compose_argv),
        }
        self.compose.write_text(COMPOSE.format(**words))
        self.compose.chmod(0o755)

    @property
    def compose(self) -> Path:
        return self.directory / "compose"

    @property
    def operations(self) -> Path:
        return self.directory / "state" / "operations"

    @property
    def _trouble(self) -> Path:
        return self.directory / "trouble"

    @property
    def _calls(self) -> Path:
        return self.directory / "calls"

    def when(self, word: str, script: str, *, once: bool = False) -> None:
        """Have ``script`` run by the shell before every call of compose that has ``word`` among its arguments."""
        place = self._trouble / word
        place.write_text(f"rm {place}\n{script}\n" if once else f"{script}\n")

    def calm(self) -> None:
        """Take all trouble away."""
        for path in self._trouble.iterdir():
            path.unlink()

    def play(self, name: str, *arguments: str, **variables: Any) -> Play:
        """Run a playbook, by its path or by its name in the collection."""
        self._plays += 1
        folder = self.directory / f"play-{self._plays}"
        events: list[playbook.Event] = []
        known = len(self._called())
        code = playbook.run(
            name if name.startswith("/") else f"selfhost.stateful.{name}",
            inventory=playbook.here(self.project.name),
            variables={**self.variables, **variables},
            folder=folder,
            follow=events.append,
            arguments=arguments,
            env={"PATH": os.pathsep.join([str(Path(self.project.engine.client).parent), os.environ["PATH"]])},
        )
        return Play(code, events, self._called()[known:], (folder / "ansible.log").read_text())

    def _called(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def containers(self) -> dict[str, str]:
        """Return the id of each container by its service, running or not."""
        form = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        label = f"label=com.docker.compose.project={self.project.name}"
        listed = self.project.engine.docker("ps", "-a", "--no-trunc", "--filter", label, "--format", form)
        return dict(line.split() for line in listed.splitlines())

    def sources(self, *kinds: str) -> list[tuple[str, str]]:
        """Return of each store the type and the source of its one mount."""
        found = []
        for kind in kinds:
            (mount,) = self.project.mounts(kind)
            found.append((str(mount["Type"]), str(mount["Source"])))
        return found
