# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one seam that runs the compose CLI: ``docker compose`` (v2) or ``docker-compose`` (v2, v1 1.29).

Compose is run just as the admin runs it: in the project's directory and with
the same files. What compose derives from there (labels, absolute bind sources,
``${PWD}``) goes into the config hash, and a hash that differs would make the
admin's next plain ``up -d`` recreate the containers.

An exit code of 0 proves nothing: compose 2 reports success for services that
died at once, compose 1 merely warns when it keeps an old volume. Whoever calls
a verb here observes afterwards what the engine says.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import (
    Invocation,
    ProjectOptions,
    as_typed,
    build_argv,
    config_argv,
    effective_files,
    env_file_paths,
    environment,
    rm_argv,
    run_argv,
    up_argv,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.secrets import secret_values
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import DEFAULT_HOST, Connection
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.secrets import mask
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

try:
    import yaml

    YAML_IMPORT_ERROR: ImportError | None = None
except ImportError as missing:  # pragma: no cover - met by re-executing in the virtual environment
    YAML_IMPORT_ERROR = missing

OLDEST = (1, 28)
"""Profiles and ``--ansi`` came with 1.28; the tested v1 is 1.29."""

QUESTION_LIMIT = 120.0
"""Seconds after which a question to compose counts as hung."""


class ComposeMissing(StatefulError):
    """No usable compose CLI on this host."""


class ComposeFailed(StatefulError):
    """Compose ended with an error; ``message`` holds its last lines, secrets masked."""

    def __init__(self, msg: str, *, message: str, **rest: Any) -> None:
        super().__init__(msg, **rest)
        self.message = message


@dataclass(frozen=True)
class Completed:
    """What a finished process left: exit code and both streams."""

    rc: int
    stdout: str
    stderr: str


Runner = Callable[[Sequence[str], str, Mapping[str, str], Optional[float]], Completed]
"""argv, working directory, environment, limit in seconds (None: wait for ever)."""


def run_process(argv: Sequence[str], cwd: str, env: Mapping[str, str], limit: float | None) -> Completed:
    """Run ``argv`` with nothing on stdin; a program that is not there answers 127, as a shell would."""
    try:
        # The module's own run_command is out of reach down here, where no module is known.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except FileNotFoundError as error:
        return Completed(127, "", str(error))
    except subprocess.TimeoutExpired:
        return Completed(124, "", f"no answer within {limit:.0f} s")
    return Completed(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def find_compose(
    options: ProjectOptions,
    connection: Connection,
    *,
    program: Sequence[str] = (),
    runner: Runner = run_process,
) -> ComposeCli:
    """Return the compose CLI of this host for one project, v2 before v1.

    ``program`` names another one, for example ``("docker-compose",)``. Raises
    :class:`ComposeMissing`, which names what to install.
    """
    env = environment(os.environ, options, connection.docker_host or DEFAULT_HOST)
    candidates = [tuple(program)] if program else [("docker", "compose"), ("docker-compose",)]
    for candidate in candidates:
        answer = runner((*candidate, "version", "--short"), "/", env, QUESTION_LIMIT)
        version = parse_version(answer.stdout) if answer.rc == 0 else ()
        if version >= OLDEST:
            invocation = Invocation(
                program=candidate, version=version, options=options, connection_flags=_tls_flags(connection)
            )
            return ComposeCli(invocation, env, runner)
    raise ComposeMissing(
        f"No compose CLI answers on this host (tried {', '.join(' '.join(c) for c in candidates)}): "
        "install docker-compose-plugin (Docker's packages) or docker-compose (the distribution's).",
        next_command="docker compose version",
    )


def parse_version(text: str) -> tuple[int, ...]:
    """Return ``(2, 26, 1)`` for ``2.26.1-4``, ``v2.26.1`` and the like; ``()`` for anything else."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()


def _tls_flags(connection: Connection) -> tuple[str, ...]:
    if not (connection.tls or connection.validate_certs):
        return ()
    flags = ["--tlsverify" if connection.validate_certs else "--tls"]
    for name, path in (
        ("--tlscacert", connection.ca_path),
        ("--tlscert", connection.client_cert),
        ("--tlskey", connection.client_key),
    ):
        flags += [name, path] if path else []
    return tuple(flags)


@dataclass
class ComposeCli:
    """The compose CLI for one project. Questions change nothing; verbs are to be proved by the caller."""

    invocation: Invocation
    environment: Mapping[str, str] = field(repr=False)
    runner: Runner = field(default=run_process, repr=False)
    _secrets: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def version(self) -> tuple[int, ...]:
        return self.invocation.version

    @property
    def is_v1(self) -> bool:
        return self.version < (2,)

    @property
    def options(self) -> ProjectOptions:
        return self.invocation.options

    def with_options(self, **changes: Any) -> ComposeCli:
        """Return the same CLI for changed project options (``files``, ``profiles``, ...)."""
        options = replace(self.options, **changes)
        return replace(
            self,
            invocation=replace(self.invocation, options=options),
            environment={**self.environment, "PWD": options.project_src},
        )

    def files(self) -> tuple[str, ...]:
        """Return the absolute paths of the compose files in use, overrides included."""
        return effective_files(self.options, self.environment, v1=self.is_v1)

    def typed(self, *words: str) -> str:
        """Return a command of compose for this project as an admin would type it on the host."""
        return self._as_typed((*self.invocation.base(), *words))

    def _as_typed(self, argv: Sequence[str]) -> str:
        host = self.environment.get("DOCKER_HOST", DEFAULT_HOST)
        return as_typed(argv, self.options.project_src, "" if host == DEFAULT_HOST else host)

    # -- questions ---------------------------------------------------------

    def config(self, *, interpolate: bool = True, all_profiles: bool = False) -> dict[str, Any]:
        """Return the project as compose understands it. Holds secrets: keep it in memory."""
        profiles = ("*",) if all_profiles and not self.is_v1 else ()  # v1 lists every profile's services anyway
        done = self._run(config_argv(self.invocation, interpolate=interpolate, profiles=profiles), QUESTION_LIMIT)
        parsed = yaml.safe_load(done.stdout) if self.is_v1 else json.loads(done.stdout)
        config: dict[str, Any] = _unescaped(parsed or {}) if interpolate else parsed or {}
        self._secrets |= secret_values(config)
        return config

    def service_hashes(self, services: Iterable[str] = ()) -> dict[str, str]:
        """Return the config hash of each of ``services`` (of all when none is named), as in the containers' label."""
        # One call for all: v1 needs half a second for each.
        done = self._run((*self.invocation.base(), "config", "--hash", "*"), QUESTION_LIMIT)
        pairs = (line.split() for line in done.stdout.splitlines())
        hashes = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
        wanted = set(services)
        return {name: value for name, value in hashes.items() if not wanted or name in wanted}

    def ps(self, services: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the ids of the services' containers, stopped ones too."""
        done = self._run((*self.invocation.base(), "ps", "--all", "--quiet", *services), QUESTION_LIMIT)
        return tuple(done.stdout.split())

    # -- verbs -------------------------------------------------------------

    def up(
        self,
        services: Sequence[str] = (),
        *,
        extra_files: Sequence[str] = (),
        no_deps: bool = True,
        force_recreate: bool = False,
        no_start: bool = False,
        wait: bool = False,
        stopped: bool = False,
        timeout: float = 120.0,
    ) -> None:
        """Create and start ``services``; never pulls, never builds. ``timeout``: grace for a stop, in seconds.

        v2 recreates what differs from its file and carries anonymous volumes
        over, except where the file now mounts something at their path. v1 keeps
        the old volume there and dies while recreating on newer engines, so with
        ``force_recreate`` its containers are removed first: it then forgets
        *every* anonymous volume of theirs, and whoever wants one kept mounts it
        by ``extra_files``. ``stopped`` says that they do not run any more, which
        saves v1 a call; v1 ignores ``wait``. What ``extra_files`` change is in
        the config hash: until an ``up`` without them, the admin's next plain one
        recreates, which with v1 on newer engines fails and leaves the service
        stopped.
        """
        if force_recreate and self.is_v1 and services:
            self.rm(services, stop=not stopped, timeout=timeout, extra_files=extra_files)
            force_recreate = False
        argv = up_argv(
            self.invocation.with_files(self.files(), extra_files),
            services,
            no_deps=no_deps,
            force_recreate=force_recreate,
            no_start=no_start,
            wait=wait,
            timeout=timeout,
        )
        self._run(argv, None)

    def stop(self, services: Sequence[str] = (), *, timeout: float = 120.0) -> None:
        """Stop ``services``; after ``timeout`` seconds of grace the engine kills them."""
        self._run((*self.invocation.base(), "stop", "--timeout", f"{timeout:.0f}", *services), None)

    def start(self, services: Sequence[str] = ()) -> None:
        self._run((*self.invocation.base(), "start", *services), None)

    def rm(
        self,
        services: Sequence[str],
        *,
        stop: bool = False,
        timeout: float = 120.0,
        extra_files: Sequence[str] = (),
    ) -> None:
        """Remove the containers of ``services``, their volumes never; running ones only with ``stop``."""
        if stop:
            # Not `rm --stop`, which takes no timeout: v1 would kill after ten seconds.
            self.stop(services, timeout=timeout)
        self._run(rm_argv(self.invocation.with_files(self.files(), extra_files), services), None)

    def build(self, services: Sequence[str] = ()) -> str:
        """Build ``services`` that have a ``build:`` and return what the build said."""
        done = self._run(build_argv(self.invocation, services), None)
        return self._masked(done.stdout + done.stderr)

    def pull(self, services: Sequence[str] = ()) -> None:
        self._run((*self.invocation.base(), "pull", "--quiet", *services), None)

    def run_rm(
        self,
        service: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        no_deps: bool = True,
    ) -> str:
        """Run ``argv`` in a one-off container of ``service`` and return its output.

        Values of ``env`` travel in the environment and stay out of every argv.
        """
        extra = dict(env or {})
        self._secrets |= frozenset(value for value in extra.values() if len(value) > 3)
        done = self._run(run_argv(self.invocation, service, argv, tuple(extra), no_deps=no_deps), None, extra)
        return done.stdout

    def _run(self, argv: Sequence[str], limit: float | None, extra_env: Mapping[str, str] | None = None) -> Completed:
        done = self.runner(argv, self.options.project_src, {**self.environment, **(extra_env or {})}, limit)
        if done.rc == 0:
            return done
        typed = self._as_typed(argv)
        message = self._masked("\n".join(last_lines(done.stderr or done.stdout)))
        raise ComposeFailed(
            f"Compose failed (exit code {done.rc}): {message or 'it said nothing'}",
            message=message,
            state="as compose left it: the containers have to be looked at",
            next_command=typed,
            command=typed,
        )

    def _masked(self, text: str) -> str:
        return mask(text, self._secrets | secret_values({}, env_files=env_file_paths(self.options, self.environment)))


_NOISE = re.compile(r"level=warning|is obsolete|^\s*$|variable is not set")


def last_lines(text: str, count: int = 12) -> list[str]:
    """Return compose's last words without its warnings, or with them where there is nothing else."""
    lines = [line.rstrip() for line in text.splitlines()]
    if any(line.startswith("Traceback") for line in lines):
        return lines[-1:]  # v1 is a Python program, and its last line is the error
    telling = [line for line in lines if not _NOISE.search(line)]
    return (telling or lines)[-count:]


def _unescaped(value: Any) -> Any:
    """Undo the ``$`` -> ``$$`` that ``compose config`` writes so that its output can be read as a file again."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, dict):
        return {key: _unescaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_unescaped(inner) for inner in value]
    return value
