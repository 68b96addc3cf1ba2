# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make and remove the server of a scenario: ``python molecule/server.py create|destroy SCENARIO``."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.sandbox import images  # noqa: E402
from tests.sandbox._base import cache_dir, locked, run  # noqa: E402
from tests.sandbox.ces import lay_out_ces  # noqa: E402
from tests.sandbox.concurrent import VERSIONS, concurrent_project  # noqa: E402
from tests.sandbox.dokku import installation  # noqa: E402
from tests.sandbox.dokku.ground import SETTINGS  # noqa: E402
from tests.sandbox.engine import Engine  # noqa: E402
from tests.sandbox.projects import mastodon_project  # noqa: E402
from tests.sandbox.server import Server, ssh_key  # noqa: E402

# One a checkout: two of them on one machine do not remove each other's.
APPLICATION = ("redis:8", "mastodon-base:latest")
LIBRARIES = ("docker", "psycopg[binary]", "PyYAML")
WHEELS = "/srv/wheels"
CHECKOUT = "/home/mastodon/live"
DOKKU = "/srv/dokku"


@dataclass(frozen=True)
class Scenario:
    """The images that the server gets, and what lies on it: laid out in a directory that is copied to ``place``."""

    images: tuple[str, ...]
    lay_out: Callable[[Path, Engine], object]
    place: str = CHECKOUT


def mastodon(**era: Any) -> Callable[[Path, Engine], object]:
    """Return what lays a checkout of Mastodon out."""

    def lay_out(folder: Path, engine: Engine) -> None:
        mastodon_project(folder, name="sfs-live", engine=engine, **era)
        # The name is the directory's, as in every checkout.
        (folder / ".env").unlink(missing_ok=True)

    return lay_out


def concurrent(folder: Path, engine: Engine) -> None:
    """Lay a checkout of Concurrent out, whose origin lies beside it."""
    project = concurrent_project(folder, postgres="17", redis="8", name="sfs-live", engine=engine)
    project.git("remote", "set-url", "origin", "/srv/live/origin.git")


def dokku(folder: Path, engine: Engine) -> None:
    """Lay the program of a dokku out, as it is to lie on the server."""
    with tempfile.TemporaryDirectory() as beside, installation.make(Path(beside) / "made", engine=engine) as made:
        made.export_program(folder)
    for name in ("bin/dokku", SETTINGS):
        path = folder / name
        path.write_text(path.read_text().replace(str(folder), DOKKU))


def cloudogu(folder: Path, engine: Engine) -> None:
    """Lay a CES out, whose dogus are installed on the server."""
    lay_out_ces(folder, "sfs-live", data="/srv/live/volumes/data", engine=engine)


SCENARIOS = {
    # As of the era whose file has the mounts, commented out.
    "default": Scenario(("postgres:17", *APPLICATION), mastodon(era="v1.4")),
    # As it is today, but for the major: musl, a bind mount that is named for the major, logins by trust.
    "postgresql_image": Scenario(
        ("postgres:15-alpine", "postgres:17", *APPLICATION),
        mastodon(era="v4.3", persisted=True, postgres="15-alpine"),
    ),
    # From the first version of the ladder to the newest.
    "concurrent": Scenario(
        ("postgres:17", "redis:8", "concurrent-base:latest", *(f"concurrent:{each}" for each in VERSIONS)),
        concurrent,
        "/srv/live",
    ),
    # An app that writes all the time, to another major version.
    "dokku": Scenario(("postgres:15", "postgres:17", "dokku-app:latest"), dokku, DOKKU),
    # Up a major version, by a dump and a restore of its own.
    "cloudogu": Scenario(("ces-postgresql:15.18-1", "ces-postgresql:17.6-1"), cloudogu, "/srv/live"),
}


def name_of(scenario: str) -> str:
    """Return the name of a scenario's server, one for each working copy."""
    return f"sfs-server-{scenario.replace('_', '-')}-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]


def create(name: str) -> dict[str, object]:
    """Start the server, bring along what it will need, and say how it is reached."""
    server, scenario = Server(name_of(name)), SCENARIOS[name]
    built = images.ensure(("server:trixie", *scenario.images), server.engine)
    server.stop()
    server.start()
    # A server of one file system, as most are: the container's own root would be refused as the place of a database.
    for place in ("home", "srv", "var/lib/selfhost-stateful"):
        kept = f"/var/lib/docker/.{place.replace('/', '-')}"
        server.ssh("mkdir", "-p", kept, f"/{place}")
        server.ssh("mount", "--bind", kept, f"/{place}")
    for image in built[1:]:
        server.load_image(image.ref)
    put(server, wheels(server), WHEELS)
    with tempfile.TemporaryDirectory() as folder:
        scenario.lay_out(Path(folder), server.engine)
        put(server, Path(folder), scenario.place)
    return {
        "instance": "server",
        "address": "127.0.0.1",
        "user": "root",
        "port": server.published_port,
        "identity_file": str(ssh_key()),
    }


def wheels(server: Server) -> Path:
    """Return a directory with the libraries for the server's own Python, fetched once."""
    asked = server.ssh("python3", "-c", "'import platform, sys; print(*sys.version_info[:2], platform.machine())'")
    major, minor, machine = asked.stdout.split()
    folder = cache_dir("wheels", f"{major}.{minor}-{machine}")
    done = folder / ".complete"
    with locked(cache_dir("locks") / "wheels.lock"):
        if not done.exists():
            platforms = [
                f"--platform={name}_{machine}" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
            ]
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            run([*command, "--only-binary=:all:", f"--python-version={major}.{minor}", *platforms,
                 "--dest", str(folder), *LIBRARIES])  # fmt: skip
            done.touch()
    return folder


def put(server: Server, folder: Path, target: str) -> None:
    """Copy a directory to the server, owners by number."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".")
    server.ssh("mkdir", "-p", target)
    unpack = [*server.ssh_args, "tar", "--numeric-owner", "-x", "-C", target]
    subprocess.run(unpack, input=buffer.getvalue(), check=True)


def main(verb: str = "", scenario: str = "") -> int:
    """Run one verb; ``create`` prints JSON."""
    if scenario not in SCENARIOS or verb not in ("create", "destroy"):
        sys.stderr.write(f"create or destroy, and one of {', '.join(SCENARIOS)}; not {verb} {scenario}\n")
        return 2
    if verb == "create":
        json.dump(create(scenario), sys.stdout)
    else:
        Server(name_of(scenario)).stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
