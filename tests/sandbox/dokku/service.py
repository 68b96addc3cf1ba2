# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service's files, and what can be read from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .ground import Host
from .words import Fail, info2, plain, verbose

PORT = 5432
NETWORKS = ("initial-network", "post-create-network", "post-start-network")


@dataclass(frozen=True)
class Service:
    """One service of the plugin; its directory need not exist."""

    host: Host
    name: str

    @property
    def root(self) -> Path:
        """The service's directory."""
        return self.host.services / self.name

    @property
    def data(self) -> Path:
        """The directory that is mounted into the container."""
        return self.root / "data"

    @property
    def container(self) -> str:
        """The container's name."""
        return f"dokku.postgres.{self.name}"

    @property
    def hostname(self) -> str:
        """The name by which linked apps know it."""
        return self.container.replace(".", "-").replace("_", "-")

    @property
    def id(self) -> str:
        """The id of the last container that was made for it; empty where none was."""
        return self.read("ID")

    @property
    def database(self) -> str:
        """The name of its one database."""
        return self.read("DATABASE_NAME") or self.name

    @property
    def image(self) -> tuple[str, str]:
        """The image and version of its container, as written down."""
        default = self.host.default_image
        return self.read("IMAGE") or default[0], self.read("IMAGE_VERSION") or default[1]

    @property
    def version(self) -> str:
        """The image of the container that there is, as ``image:tag``; empty without one."""
        found = self.host.docker.inspect(self.container)
        return str(found["Config"]["Image"]) if found else ""

    @property
    def status(self) -> str:
        """The state of the container, ``missing`` without one."""
        return self.host.docker.state(self.id) or "missing"

    @property
    def running(self) -> bool:
        """Tell whether the container runs and stays up."""
        return self.status == "running"

    @property
    def links(self) -> list[str]:
        """The apps that are linked, by the plugin's own list."""
        return self.read("LINKS").split()

    @property
    def ports(self) -> str:
        """What is exposed, in the plugin's words."""
        port = self.read("PORT")
        return f"{PORT}->{port} " if port else "-"

    def dsn(self, scheme: str = "postgres") -> str:
        """Return the address that a linked app gets."""
        return f"{scheme}://postgres:{self.read('PASSWORD')}@{self.hostname}:{PORT}/{self.database}"

    def read(self, name: str) -> str:
        """Return what a file of the service holds, empty without it."""
        path = self.root / name
        return path.read_text().strip() if path.exists() else ""

    def write(self, name: str, value: str) -> None:
        """Write a file of the service."""
        (self.root / name).write_text(f"{value}\n")

    def network(self, key: str) -> str:
        """Return one of the networks that its container is put into."""
        return self.host.get_property("postgres", self.name, key)

    def write_links(self, apps: set[str]) -> None:
        """Write the plugin's own list of linked apps."""
        (self.root / "LINKS").write_text("".join(f"{app}\n" for app in sorted(apps)))


def existing(host: Host, name: str) -> Service:
    """Return a service that exists."""
    service = Service(host, name)
    if not name:
        raise Fail("Please specify a valid name for the service")
    if not service.root.is_dir():
        raise Fail(f"Postgres service {name} does not exist")
    return service


def every(host: Host) -> list[Service]:
    """Return all services."""
    return [Service(host, path.name) for path in sorted(host.services.iterdir()) if path.is_dir()]


def facts(service: Service) -> dict[str, Callable[[], str]]:
    """Return what ``info`` knows, by its flags."""
    return {
        # In this plugin the configuration is where the data is.
        "--config-dir": lambda: str(service.data),
        "--config-options": lambda: service.read("CONFIG_OPTIONS"),
        "--data-dir": lambda: str(service.data),
        "--dsn": service.dsn,
        "--exposed-ports": lambda: service.ports,
        "--id": lambda: service.id,
        "--internal-ip": lambda: service.host.docker.address(service.id),
        "--initial-network": lambda: service.network("initial-network"),
        "--links": lambda: "".join(f"{app} " for app in service.links) or "-",
        "--post-create-network": lambda: service.network("post-create-network"),
        "--post-start-network": lambda: service.network("post-start-network"),
        "--service-root": lambda: str(service.root),
        "--status": lambda: service.status,
        "--version": lambda: service.version,
    }


def show(service: Service, flag: str = "") -> None:
    """Print one fact bare, or all of them."""
    known = facts(service)
    if flag:
        if flag not in known:
            raise Fail(f"Invalid flag passed, valid flags: {' '.join(known)}")
        plain(known[flag]())
        return
    info2(f"{service.name} postgres service information")
    for name, value in known.items():
        verbose(f"{name.removeprefix('--').replace('-', ' ').capitalize() + ':':<20} {value():<25}")
