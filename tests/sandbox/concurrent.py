# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Concurrent host to migrate from version to version: a git checkout, and its origin beside it."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ._base import IMAGE_PREFIX, run, wait_for
from .engine import Engine, up
from .project import Project
from .projects import TEMPLATES, compose_command, free_ports, name_project
from .recipes_concurrent import VERSIONS

__all__ = ["VERSIONS", "ConcurrentProject", "concurrent_project"]

# The folder was renamed once.
FOLDERS = ("docs", "_docs")


@dataclass
class ConcurrentProject(Project):
    """A host; ``directory`` is the folder of its compose file, wherever a checkout has moved it to."""

    checkout: Path = field(default_factory=Path)

    def compose(self, *args: str, check: bool = True) -> str:
        """Run compose in the folder where the checkout has its file now."""
        self.directory = next(
            (folder for folder in map(self.checkout.joinpath, FOLDERS) if (folder / "compose.yml").exists()),
            self.directory,
        )
        return super().compose(*args, check=check)

    def up(self, *services: str, build: bool = True) -> ConcurrentProject:
        """Start, and wait until the stores and the services that were asked for answer."""
        super().up(*services, build=build)
        if not services:
            wait_for(lambda: self.web_status() == 200, f"{self.name}: the gateway reaches a healthy api")
        elif "api" in services:
            wait_for(lambda: self.api_health() == (200, "ok"), f"{self.name}: the api is healthy")
        return self

    def git(self, *args: str) -> str:
        """Run git in the checkout, as its admin would."""
        return run([*_git(self.checkout), *args]).stdout.strip()

    def switch(self, version: str) -> ConcurrentProject:
        """Fetch and check out another version; nothing that runs notices."""
        self.git("fetch", "-q")
        self.git("checkout", "-q", version)
        return self

    def publish(self, version: str) -> None:
        """Let the floating tag of the host's images mean another version, as a pull would; name that version too."""
        self._publish(f"{IMAGE_PREFIX}/concurrent:{version}", _floating(self.name))

    def publish_postgres(self, tag: str) -> None:
        """Let the database's untagged image mean another one, as a pull would; it has its own tag besides."""
        self._publish(f"{IMAGE_PREFIX}/postgres:{tag}", _untagged(self.name))

    def ccadmin(
        self, *args: str, input: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``ccadmin`` on the host's stores in the api's container, whatever its exit code."""
        flags = [word for key, value in (env or {}).items() for word in ("-e", f"{key}={value}")]
        command = ["ccadmin", "-H", "db", "-r", "redis:6379", *args]
        argv = [self.engine.client, "exec", "-i", *flags, self.container("api") or "api", *command]
        return run(argv, check=False, env=self.engine.env, input=input or "")

    def api(self, path: str) -> Any:
        """Return what the api answers through the gateway, read as JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def api_health(self) -> tuple[int, str]:
        """Ask the api for its health from inside its container; 0 where it does not answer."""
        answer = self.exec("api", "curl", "-s", "-w", " %{http_code}", "http://127.0.0.1:8000/health", check=False)
        body, _blank, status = answer.rpartition(" ")
        return int(status or 0), body

    def down(self) -> None:
        """Remove all that the project made, every tag of its own repositories included."""
        super().down()
        for repository in (_floating(self.name), _untagged(self.name)):
            tags = self.engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}", repository).split()
            if tags:
                self.engine.docker("rmi", *tags, check=False)

    def _publish(self, image: str, repository: str) -> None:
        for tag in ("latest", image.rpartition(":")[2]):
            self.engine.docker("tag", image, f"{repository}:{tag}")


def concurrent_project(
    directory: Path,
    *,
    version: str = "v0.2.5",
    postgres: str = "15",
    redis: str = "7",
    data: Literal["_composeData", "composeData"] = "_composeData",
    git: bool = True,
    floating: bool = False,
    untagged: bool = False,
    environment: Mapping[str, str] | None = None,
    name: str | None = None,
    engine: Engine | None = None,
    compose: Sequence[str] | None = None,
) -> ConcurrentProject:
    """Lay out a host of ``version`` in ``directory``/concurrent, with all its versions in ``directory``/origin.git.

    ``floating``: the host's images have the tag latest, which means ``version`` until ``publish``.
    ``untagged``: the database's image has no tag, which means ``postgres`` until ``publish_postgres``.
    ``environment`` is the api's, in every version. The images must be there: see ``images.ensure``.
    """
    engine = engine or up()
    checkout = directory / "concurrent"
    checkout.mkdir(parents=True)
    name = name_project(directory, name)
    words = {
        "PORT": str(free_ports(1)[0]),
        "DATA": data,
        "POSTGRES": _untagged(name) if untagged else f"{IMAGE_PREFIX}/postgres:{postgres}",
        "REDIS": f"{IMAGE_PREFIX}/redis:{redis}",
        "OTHER": f"{IMAGE_PREFIX}/concurrent-base:latest",
        "ENVIRONMENT": "".join(
            ["    environment:\n", *(f"      - {key}={value}\n" for key, value in environment.items())]
            if environment
            else []
        ),
    }
    images = {
        each: f"{_floating(name)}:latest" if floating else f"{IMAGE_PREFIX}/concurrent:{each}" for each in VERSIONS
    }
    versions = {each: _files(each, name, {**words, "HOST": image}) for each, image in images.items()}
    if git:
        _publish(versions, directory / "origin.git")
        _clone(directory / "origin.git", checkout, version)
    else:
        for path, content in versions[version].items():
            (checkout / path).parent.mkdir(parents=True, exist_ok=True)
            (checkout / path).write_text(content)
    project = ConcurrentProject(
        checkout / _folder(version), name, engine, compose_command(engine, compose),
        {"postgres": "db", "redis": "redis"}, int(words["PORT"]), database="concurrent", checkout=checkout,
    )  # fmt: skip
    if floating:
        project.publish(version)
    if untagged:
        project.publish_postgres(postgres)
    return project


def _floating(name: str) -> str:
    return f"{IMAGE_PREFIX}/concurrent-{name}"


def _untagged(name: str) -> str:
    return f"{IMAGE_PREFIX}/concurrent-{name}-postgres"


def _folder(version: str) -> str:
    return "docs" if version.startswith("v0.") else "_docs"


def _files(version: str, name: str, words: Mapping[str, str]) -> dict[str, str]:
    """Return the files of one version by their paths in the checkout."""
    folder, old = _folder(version), version.startswith("v0.")
    text = (TEMPLATES / "concurrent.yml.in").read_text()
    for word, value in {
        **words,
        "VERSION_KEY": 'version: "3"\n\n' if old else "",
        "CONFIG": "./config:/etc/concurrent/" if old else "./etc:/etc/concrnt/",
    }.items():
        text = text.replace(f"@{word}@", value)
    return {
        "README.md": f"# Concurrent\n\nThis is {version}.\n",
        ".gitignore": "_composeData\ncomposeData\n",
        f"{folder}/compose.yml": text,
        # Not the admin's own here: the project keeps its name in whichever folder the file is.
        f"{folder}/.env": f"COMPOSE_PROJECT_NAME={name}\n",
        f"{folder}/{'config' if old else 'etc/config'}/config.yaml": "concurrent:\n  fqdn: example.com\n",
    }


def _git(directory: Path) -> list[str]:
    return ["git", "-c", "advice.detachedHead=false", "-C", str(directory)]


def _publish(versions: Mapping[str, Mapping[str, str]], origin: Path) -> None:
    """Make the repository that others clone: one commit and one tag for each version, main at the last."""
    lines = []
    for place, (version, files) in enumerate(versions.items()):
        lines += ["commit refs/heads/main", f"committer Sandbox <sandbox@example.com> {1_700_000_000 + place} +0000"]
        lines += [_data(f"Release {version}\n"), "deleteall"]
        lines += [f"M 100644 inline {path}\n{_data(content)}" for path, content in files.items()]
        lines += [f"reset refs/tags/{version}", "from refs/heads/main", ""]
    run(["git", "init", "-q", "--bare", "--initial-branch=main", str(origin)])
    run([*_git(origin), "fast-import", "--quiet"], input="\n".join(lines))


def _data(content: str) -> str:
    return f"data {len(content.encode())}\n{content}"


def _clone(origin: Path, checkout: Path, version: str) -> None:
    """Clone as of ``version``: what came later is fetched by who wants it."""
    run(["git", "clone", "-q", "--no-checkout", str(origin), str(checkout)])
    later = VERSIONS[VERSIONS.index(version) + 1 :]
    run([*_git(checkout), "checkout", "-q", version])
    for ref in ("refs/heads/main", "refs/remotes/origin/main"):
        run([*_git(checkout), "update-ref", ref, version])
    if later:
        run([*_git(checkout), "tag", "-d", *later])
