# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where an installation keeps its state, which is as dokku lays it out, and how it differs from others.

``standin.json`` in the root holds the settings; ``faults/NAME`` switches a fault on, for the services
and apps that it lists, or for all of them while it is empty.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from .engine_calls import Docker
from .words import Fail

ROOT_VARIABLE = "DOKKU_STANDIN_ROOT"
SETTINGS = "standin.json"
SERVICE_NAME = re.compile(r"[A-Za-z0-9_-]+")

# What can be made to go wrong, and where.
FAULTS = {
    "import-half-way": "postgres:import reads its dump to the middle only",
    "busybox-missing": "postgres:destroy finds no helper image: rc 125, the container gone, the directory left",
    "default-image-missing": "the plugin's default image is not there: start says so and answers 0",
    "backup-empty": "postgres:backup uploads an object without a byte and claims success",
    "backup-torn": "postgres:backup has no room for all of its dump, uploads what there is and claims success",
    "app-does-not-start": "an app's new containers end at once: the old ones stay, and config:set answers 0",
    "app-does-not-answer": "an app's new containers run, and web answers 500",
    "late-retirement": "containers that a deploy replaced run on, as for dokku's minute, until ps:retire",
}


@dataclass(frozen=True)
class Settings:
    """What differs between installations."""

    token: str
    docker: str
    docker_host: str
    program: str = "/usr/bin/dokku"
    app_image: str = "selfhost-sandbox/dokku-app:latest"
    postgres_image: str = "selfhost-sandbox/postgres"
    postgres_image_version: str = "17"
    # The plugin waits half a minute for a server that does not come; one that starts again and again is noticed.
    wait_seconds: float = 30.0
    # ``broken``: maintenance:enable answers 1 although it did its work; ``works``: it answers 0.
    nginx: str = "broken"
    versions: dict[str, str] = field(
        default_factory=lambda: {"dokku": "0.38.22", "postgres": "1.48.0", "maintenance": "0.6.0"}
    )


@dataclass(frozen=True)
class Host:
    """One installation."""

    root: Path
    settings: Settings

    @property
    def docker(self) -> Docker:
        """The engine, as this installation calls it."""
        return Docker(self.settings.docker, self.settings.docker_host)

    @property
    def home(self) -> Path:
        """One directory for each app."""
        return self.root / "home/dokku"

    @property
    def services(self) -> Path:
        """One directory for each service."""
        return self.root / "var/lib/dokku/services/postgres"

    @property
    def label(self) -> str:
        """What every container and network of this installation carries, so that all can be removed."""
        return f"selfhost.stateful.sandbox.dokku={self.settings.token}"

    @property
    def default_image(self) -> tuple[str, str]:
        """The plugin's default image and version, by the variables that the plugin reads."""
        return (
            os.environ.get("POSTGRES_IMAGE") or self.settings.postgres_image,
            os.environ.get("POSTGRES_IMAGE_VERSION") or self.settings.postgres_image_version,
        )

    def version(self, plugin: str) -> tuple[int, ...]:
        """The version of dokku or of a plugin, to compare."""
        return tuple(int(part) for part in self.settings.versions[plugin].split("."))

    def cron_file(self, service: str) -> Path:
        """Where the schedule of a service's backups is."""
        return self.root / f"etc/cron.d/dokku-postgres-{service}"

    def fault(self, name: str, subject: str) -> bool:
        """Tell whether a fault is on for this service or app."""
        try:
            subjects = (self.root / "faults" / name).read_text().split()
        except FileNotFoundError:
            return False
        return not subjects or subject in subjects

    # Properties lie in files of their own, such as config/postgres/SERVICE/initial-network.
    def get_property(self, plugin: str, subject: str, key: str) -> str:
        """Return a property, empty where it is not set."""
        path = self._property(plugin, subject, key)
        return path.read_text().strip() if path.exists() else ""

    def set_property(self, plugin: str, subject: str, key: str, value: str) -> None:
        """Set a property, or remove it with an empty value."""
        path = self._property(plugin, subject, key)
        if value:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
        else:
            path.unlink(missing_ok=True)

    def property_directory(self, plugin: str, subject: str) -> Path:
        """Where all properties of one subject are."""
        return self.root / "var/lib/dokku/config" / plugin / subject

    def app(self, name: str) -> Path:
        """Return the directory of an app that exists."""
        if not name:
            raise Fail("Please specify an app to run the command on")
        if not (self.home / name).is_dir():
            raise Fail(f"App {name} does not exist", 20)
        return self.home / name

    def apps(self) -> list[str]:
        """Return the names of all apps."""
        return sorted(path.name for path in self.home.iterdir() if path.is_dir())

    def _property(self, plugin: str, subject: str, key: str) -> Path:
        return self.property_directory(plugin, subject) / key


def load(root: Path) -> Host:
    """Read an installation's settings."""
    return Host(root, Settings(**json.loads((root / SETTINGS).read_text())))
