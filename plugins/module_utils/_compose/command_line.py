# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is typed to run compose: argument lists and environment, built by pure functions.

Only :func:`effective_files` looks at the disk, and it only asks which files are there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.dotenv import settings_from

DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_FILES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
"""In the order in which compose 2 looks for them. It takes the first of each, whatever the other is called:
https://github.com/compose-spec/compose-go/blob/main/cli/options.go"""
DEFAULT_FILES_V1 = (*DEFAULT_FILES[2:], "compose.yml", "compose.yaml")
OVERRIDE_FILES_V1 = (*OVERRIDE_FILES[2:], *OVERRIDE_FILES[:2])
"""Compose 1.29 prefers the older names, and refuses a project with two override files:
https://github.com/docker/compose/blob/1.29.2/compose/config/config.py"""


@dataclass(frozen=True)
class ProjectOptions:
    """Which project is meant, in the words of ``community.docker``: what is left out, compose finds by itself."""

    project_src: str
    project_name: str = ""
    files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Invocation:
    """A compose program with everything that stands before its command."""

    program: tuple[str, ...]
    version: tuple[int, ...]
    options: ProjectOptions
    connection_flags: tuple[str, ...] = ()

    def base(self, *, profiles: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the argv up to the command."""
        # `docker compose` takes the connection's flags before the word compose.
        head = (self.program[0], *self.connection_flags, *self.program[1:])
        return (*head, *ANSI, *project_flags(self.options, profiles))

    def with_files(self, files: Sequence[str], extra: Sequence[str]) -> Invocation:
        """Return the invocation with ``extra`` laid over ``files``; unchanged where there is nothing to add."""
        if not extra:
            return self
        return replace(self, options=replace(self.options, files=(*files, *extra)))


ANSI = ("--ansi", "never")


def project_flags(options: ProjectOptions, profiles: Sequence[str] = ()) -> tuple[str, ...]:
    """Return ``-p``, ``-f``, ... for the options that were given, and nothing else."""
    flags: list[str] = []
    first = os.path.dirname(os.path.join(options.project_src, options.files[0])) if options.files else ""
    if first and os.path.normpath(first) != os.path.normpath(options.project_src):
        # Compose takes the first file's directory for the project's: paths, name
        # and .env would come from there and not from project_src.
        flags += ["--project-directory", options.project_src]
    if options.project_name:
        flags += ["--project-name", options.project_name]
    for option, values in (
        ("--file", options.files),
        ("--profile", (*options.profiles, *profiles)),
        ("--env-file", options.env_files),
    ):
        for value in values:
            flags += [option, value]
    return tuple(flags)


def environment(inherited: Mapping[str, str], options: ProjectOptions, docker_host: str) -> dict[str, str]:
    """Return the environment for compose: ours, as seen from the project's directory."""
    # The engine that compose talks to has to be the one that we look at, so a
    # docker context of the user's never counts. PWD is what compose calls the
    # project's directory where the admin came through a symbolic link.
    env = {key: value for key, value in inherited.items() if key != "DOCKER_CONTEXT"}
    return {**env, "DOCKER_HOST": docker_host, "PWD": options.project_src}


def settings(options: ProjectOptions, env: Mapping[str, str], *, v1: bool = False) -> dict[str, str]:
    """Return compose's own settings (COMPOSE_FILE, ...): those of its env files, and ``env`` over them."""
    return settings_from(env_file_paths(options, env, v1=v1), env, v1=v1)


def env_file_paths(options: ProjectOptions, env: Mapping[str, str], *, v1: bool = False) -> tuple[str, ...]:
    """Return the files that compose takes variables from: those named, else ``.env``."""
    named = options.env_files or tuple(env.get("COMPOSE_ENV_FILES", "").split(",") if not v1 else ())
    files = tuple(name for name in named if name) or (".env",)
    return tuple(os.path.join(options.project_src, name) for name in files)


def effective_files(options: ProjectOptions, env: Mapping[str, str], *, v1: bool = False) -> tuple[str, ...]:
    """Return the absolute paths of the compose files in use: options, else COMPOSE_FILE, else the default names."""
    src = options.project_src
    named = options.files
    if not named:
        known = settings(options, env, v1=v1)
        separator = known.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        named = tuple(name for name in known.get("COMPOSE_FILE", "").split(separator) if name)
    if not named:
        named = _default_files(src, v1=v1)
    return tuple(os.path.normpath(os.path.join(src, name)) for name in named)


def _default_files(src: str, *, v1: bool) -> tuple[str, ...]:
    def first(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if os.path.isfile(os.path.join(src, name)))[:1]

    base = first(DEFAULT_FILES_V1 if v1 else DEFAULT_FILES)
    return (*base, *first(OVERRIDE_FILES_V1 if v1 else OVERRIDE_FILES)) if base else ()


def config_argv(invocation: Invocation, *, interpolate: bool, profiles: Sequence[str] = ()) -> tuple[str, ...]:
    argv = [*invocation.base(profiles=profiles), "config"]
    if invocation.version >= (2,):
        argv += ["--format", "json"]
    if not interpolate:
        argv.append("--no-interpolate")
    return tuple(argv)


def up_argv(
    invocation: Invocation,
    services: Sequence[str],
    *,
    no_deps: bool,
    force_recreate: bool,
    no_start: bool,
    wait: bool,
    timeout: float,
) -> tuple[str, ...]:
    v2 = invocation.version >= (2,)
    argv = [*invocation.base(), "up"]
    # v1 refuses --detach beside --no-start.
    argv += ["--no-start"] if no_start else ["--detach"]
    argv += ["--no-deps"] if no_deps and services else []
    argv += ["--force-recreate"] if force_recreate else []
    argv += ["--no-build"]
    # A newer image under the same tag must not slip in; v1 pulls only what is missing.
    argv += ["--pull", "never"] if v2 else []
    argv += ["--wait"] if wait and v2 and not no_start else []
    return (*argv, "--timeout", f"{timeout:.0f}", *services)


def rm_argv(invocation: Invocation, services: Sequence[str]) -> tuple[str, ...]:
    # Never -v: that deletes the anonymous volumes, and with them the data.
    return (*invocation.base(), "rm", "--force", *services)


def build_argv(invocation: Invocation, services: Sequence[str]) -> tuple[str, ...]:
    return (*invocation.base(), "build", *services)


def run_argv(
    invocation: Invocation,
    service: str,
    argv: Sequence[str],
    env_names: Sequence[str] = (),
    *,
    no_deps: bool,
) -> tuple[str, ...]:
    flags = ["--rm", "-T"]
    flags += ["--no-deps"] if no_deps else []
    for name in env_names:
        # The bare name: compose takes the value from its own environment.
        flags += ["-e", name]
    return (*invocation.base(), "run", *flags, service, *argv)


def as_typed(argv: Sequence[str], project_src: str, docker_host: str = "") -> str:
    """Return the command as an admin would type it; ``docker_host`` is given where another engine would answer."""
    words = list(argv)
    for at in range(len(words) - 1):
        if tuple(words[at : at + 2]) == ANSI:
            del words[at : at + 2]
            break
    host = f"DOCKER_HOST={shlex.quote(docker_host)} " if docker_host else ""
    return f"cd {shlex.quote(project_src)} && {host}{shlex.join(words)}"
