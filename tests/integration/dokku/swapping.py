# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app that writes all the time, swapped from one image to another, and what has to be true whatever happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox._base import IMAGE_PREFIX, wait_for
from tests.sandbox.dokku.installation import Installation
from tests.sandbox.dokku.service import Service
from tests.support import module_run
from tests.support.killing import kill_worker

REPOSITORY = f"{IMAGE_PREFIX}/postgres"


@dataclass
class Swapping:
    """One app on one dokku, and the place of its operations."""

    dokku: Installation
    app: str
    old: Service
    directory: Path
    before: Mapping[str, str]

    @property
    def new(self) -> Service:
        """The service that the module makes; it is called that in every test."""
        return self.dokku.service(f"{self.app}-new")

    @property
    def known(self) -> dict[str, Any]:
        return {"docker_host": self.dokku.engine.host, "operations_dir": str(self.directory)}

    @property
    def options(self) -> dict[str, Any]:
        return {
            **self.known, "dokku_program": [str(self.dokku.program)], "app": self.app, "image": REPOSITORY,
            "version": "17", "name": self.new.name, "ready_timeout": 20,
        }  # fmt: skip

    def swap(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        process = module_run.start("dokku_postgres_image", {**self.options, **options}, check=check)
        return module_run.answer_of(process)

    def end(self, state: str, **options: Any) -> dict[str, Any]:
        process = module_run.start("operation", {**self.known, "project": self.app, "state": state, **options})
        return module_run.answer_of(process)

    def killed(self, step: str, what: str, **options: Any) -> None:
        """Begin, and kill it once the journal has ``what`` of a step: ``intent`` or ``evidence``."""
        process = module_run.start("dokku_postgres_image", {**self.options, **options})
        kill_worker(process, self.directory, step, what=what)

    def check_swapped(self) -> None:
        """Nothing is missing, the app runs on the new service, and nothing of it points at the old one."""
        variables = self.dokku.config(self.app)
        assert variables["DATABASE_URL"] == self.new.dsn()
        # As after a crash, or a restart of the engine: linked to a container that stands still they could not start.
        docker = self.dokku.engine.docker
        docker("restart", "-t", "1", *docker("ps", "-q", "--filter", f"label=com.dokku.app-name={self.app}").split())
        assert self.old.dsn() not in variables.values()
        self.dokku.wait_writing(self.app)
        assert self.dokku.acknowledged(self.app)[-1].host == self.new.hostname
        assert self.dokku.missing(self.app, self.new) == set()
        assert self.dokku.count(self.new) == 100
        # The worker may write again before the web process, which was restarted with it, answers.
        wait_for(lambda: self.dokku.web_status(self.app) == 200, f"{self.app} answers")
        assert not self.shown
        assert self.old.status in ("exited", "missing")
        assert self.old.links == []
        assert self.old.container not in self.dokku.dokku("docker-options:report", self.app).out

    def check_as_before(self) -> None:
        """Nothing is missing, the app runs on the old service, with the very variables that it had, and writes."""
        assert self.dokku.config(self.app) == self.before
        assert not self.new.root.exists()
        self.dokku.wait_writing(self.app)
        assert self.dokku.acknowledged(self.app)[-1].host == self.old.hostname
        assert self.dokku.missing(self.app, self.old) == set()
        assert self.dokku.web_status(self.app) == 200
        assert not self.shown
        assert self.old.links == [self.app]

    @property
    def shown(self) -> bool:
        """Whether visitors see the page."""
        return '"enabled":"true"' in self.dokku.dokku("maintenance:report", self.app, "--format", "json").out

    def journal(self) -> str:
        return "".join(path.read_text() for path in self.directory.glob("*/journal.jsonl"))


def of(dokku: Installation, directory: Path, word: str, *flags: str) -> Swapping:
    """Make an app with a service of Postgres 15 that has rows; its worker writes already."""
    app, old = dokku.create_linked(word, "-I", "15", *flags)
    return Swapping(dokku, app, old, directory, dokku.config(app))
