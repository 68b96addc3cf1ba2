# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The seams to a CES host: ``cesapp`` on it, ``doguctl`` in its dogus, and the server inside of one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import POLL, until
from ansible_collections.selfhost.stateful.plugins.module_utils._cloudogu.model import (
    KEYS,
    LOCAL_STATE,
    PASSWORD,
    UPGRADING,
    Version,
    version_of_image,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.last_words import last_words, without_statements
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths, postmaster, session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.durable import (
    read_json,
    write_json_atomically,
)

LISTING = 120.0
ABSENT = "empty"
"""What the dogu's own scripts have ``doguctl`` answer for a key that is not there."""
INITS = frozenset({"tini", "docker-init", "dumb-init", "catatonit"})
"""Main processes that only start another one, and take its end over."""
KEPT = 1 << 12
PSQL = ("psql", "-XwqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres")
OF_REGISTRY = b"\\set user `doguctl config user`\n\\set secret `doguctl config -e password`\n"
SET_PASSWORD = (
    OF_REGISTRY
    # Where it failed the server would log it.
    + b"SET log_statement = 'none'; SET log_min_error_statement = 'panic'; SET log_min_duration_statement = -1;\n"
    + b"ALTER ROLE :\"user\" PASSWORD :'secret';\n"
)


@dataclass(frozen=True)
class Host:
    """A CES host, and the dogu on it that is meant. Times are in seconds."""

    engine: Engine
    name: str
    cesapp: tuple[str, ...]
    docker_host: str = ""
    stop_timeout: float = 120.0
    ready_timeout: float = 300.0
    upgrade_timeout: float = 3600.0

    def container(self) -> Container:
        """Return the dogu's container, in whatever state; raises where there is none."""
        found = self.engine.container(self.name)
        if found is None:
            raise InvalidInput(
                f"There is no container {self.name} on this engine: the dogu is not installed, or was removed.",
                next_command="docker ps -a",
            )
        return found

    def version(self) -> Version | None:
        """Return the version of the container that is there; None where there is none, or its image has no such tag."""
        found = self.engine.container(self.name)
        return version_of_image(found.image_ref) if found else None

    def typed(self, *words: str) -> str:
        """Return a call of ``cesapp`` as an admin types it."""
        return shell(*self.cesapp, *words)

    # -- the registry, as the dogu sees it ----------------------------------

    def doguctl(self, *words: str) -> str:
        """Ask ``doguctl`` in the container, which has to run; raises with its words where it fails."""
        answer = self.engine.execute(self.name, ("doguctl", *words))
        if answer.rc != 0:
            raise StatefulError(
                f"doguctl {' '.join(words[:3])} failed in {self.name}: {answer.error_text()}",
                next_command=logs_of(self.name),
            )
        return answer.text().strip()

    def keys(self) -> dict[str, str]:
        """Return what the registry has of the keys that matter, those that it has not left out; never the password."""
        found = {key: self.doguctl("config", "--default", ABSENT, key) for key in KEYS}
        return {key: value for key, value in found.items() if value not in ("", ABSENT)}

    def has_password(self) -> bool:
        """Tell whether there is one; what it is goes no further than this."""
        answer = self.engine.execute(self.name, ("doguctl", "config", "-e", PASSWORD))
        return answer.rc == 0 and bool(answer.stdout.strip())

    def set_password_of_registry(self, container: Container) -> None:
        """Give the server's superuser the password that the registry has, and prove by a login that it is so.

        psql itself asks ``doguctl`` for it, so that it is in no argument, no log and no answer.
        """
        answer = self.engine.execute(container.id, PSQL, stdin=SET_PASSWORD)
        if answer.rc != 0:
            raise StatefulError(
                f"The password of the superuser of {self.name} could not be set to that of the registry:"
                f" {without_statements(answer.error_text())}",
                next_command=logs_of(self.name),
            )
        # Not from 127.0.0.1, which the dogu trusts. Where nobody may log in so, nothing is proved, nor broken.
        if not container.addresses:
            return
        login = f"\\setenv PGPASSWORD :secret\n\\connect postgres :user {container.addresses[0]} 5432\n"
        answer = self.engine.execute(container.id, PSQL, stdin=OF_REGISTRY + login.encode())
        if "authentication failed" in answer.error_text():
            raise StatefulError(
                f"The registry's password of {self.name} does not let its superuser in.",
                next_command=logs_of(self.name),
            )

    def set_key(self, key: str, value: str) -> None:
        """Set a key of the registry, or remove it where ``value`` is empty and it is there."""
        if value:
            self.doguctl("config", key, value)
        elif self.doguctl("config", "--default", ABSENT, key) != ABSENT:
            self.doguctl("config", "--rm", key)

    def waits(self) -> bool:
        """Tell whether a startup may be waiting: ``local_state`` says that an upgrade is under way.

        A container that nobody can ask at this moment, because it ends or begins, is not one that waits.
        """
        try:
            return self.doguctl("config", "--default", ABSENT, LOCAL_STATE) == UPGRADING
        except StatefulError:
            return False

    # -- the server ---------------------------------------------------------

    def session(self, container: Container | None = None) -> Session:
        """Connect as the server's bootstrap superuser, which the dogu's local trust lets in."""
        return session.connect(self.engine, container or self.container(), user="postgres", database="postgres")

    def serves(self, container: Container) -> bool:
        """Tell whether the dogu's final server takes connections, and not a temporary one that its scripts restore in.

        Both may listen on TCP. The final one has taken the place of the script that began it.
        """
        if not container.pid:
            return False
        try:
            directory = session.data_directory_of(container)
            lock = postmaster.read_pid_file(paths.seen_path(container, directory))
            if lock is None or lock.status not in ("", postmaster.READY) or not lock.listen_address:
                return False
            if not self._is_final(container, postmaster.find_postmaster(container, directory)):
                return False
            with self.session(container) as there:
                return bool(there.scalar("SELECT NOT pg_is_in_recovery()"))
        except (OSError, StatefulError):
            return False

    @staticmethod
    def _is_final(container: Container, server: postmaster.Postmaster) -> bool:
        if server.is_main:
            return True
        main = postmaster.argv_of(container.pid)
        is_init = bool(main) and os.path.basename(main[0]) in INITS
        return is_init and postmaster.parent_of(server.pid) == container.pid

    def wait_serving(self, seconds: float) -> Container:
        """Return the container once its server takes connections; raises at the limit, and where it has ended."""
        ends = time.monotonic() + seconds
        while True:
            container = self.container()
            if self.serves(container):
                return container
            if container.status in ("exited", "dead"):
                raise StatefulError(
                    f"{self.name} ended with code {container.exit_code} instead of serving.\n"
                    f"{last_words(self.engine, container, tail=20)}",
                    next_command=logs_of(self.name),
                )
            if time.monotonic() >= ends:
                raise StatefulError(
                    f"{self.name} does not serve after {seconds:.0f} s ({container.status}).\n"
                    f"{last_words(self.engine, container, tail=20)}",
                    next_command=logs_of(self.name),
                )
            time.sleep(POLL)

    def post_upgrade_runs(self, container: Container) -> bool:
        return self._runs(container, "post-upgrade")

    def pre_upgrade_runs(self, container: Container) -> bool:
        return self._runs(container, "pre-upgrade")

    def restores(self, container: Container) -> bool:
        """Tell whether a script of the dogu makes the data that is to be served: that takes as long as it is large."""
        return self._runs(container, "psql", "pg_restore", "initdb")

    @staticmethod
    def _runs(container: Container, *words: str) -> bool:
        programs = postmaster.programs_in(container)
        return any(word in part for argv in programs for part in argv[:3] for word in words)

    # -- cesapp -------------------------------------------------------------

    def listing(self) -> str | None:
        """Return what ``cesapp list-upgrades`` prints; None where it fails, which is not that nothing is offered."""
        try:
            # The module's own run_command is out of reach down here, where no module is known.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                [*self.cesapp, "list-upgrades"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LISTING,
                check=False,
                env=self._environment(),
            )
        except FileNotFoundError:
            raise InvalidInput(
                f"There is no {self.cesapp[0]} on this host: it is no CES, or cesapp_program has to name it.",
                next_command=shell("command", "-v", "cesapp"),
            ) from None
        except subprocess.TimeoutExpired:
            return None
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **({"DOCKER_HOST": self.docker_host} if self.docker_host else {})}

    def begin(self, words: Sequence[str], directory: str) -> subprocess.Popen[bytes]:
        """Start ``cesapp`` in a session of its own; its words go to a log in ``directory``, and a note of who it is."""
        # Before it works: a run that is killed in between is to know that the data may be another's.
        _note(directory, 0, words)
        path = os.path.join(directory, "cesapp.log")
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(log, f"$ {self.typed(*words)}\n".encode())
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                [*self.cesapp, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment(),
            )
        finally:
            os.close(log)
        _note(directory, process.pid, words)
        return process

    def at_work(self) -> bool:
        """Tell whether a ``cesapp`` upgrades this dogu now, whoever began it."""
        return any(self._upgrades(argv) for argv in postmaster.command_lines())

    def _upgrades(self, argv: Sequence[str]) -> bool:
        """Tell whether a command line is an upgrade of this dogu, in any form that is documented."""
        if "upgrade" not in argv or os.path.basename(self.cesapp[-1]) not in map(os.path.basename, argv):
            return False
        rest = argv[list(argv).index("upgrade") + 1 :]
        # official/postgresql, and a version behind a colon, are forms of the name.
        return any(word.rpartition("/")[2].partition(":")[0] == self.name for word in rest)


NOTE = "cesapp.json"


def _note(directory: str, pid: int, words: Sequence[str]) -> None:
    note = {"pid": pid, "started": _started(pid) if pid else "", "words": list(words)}
    write_json_atomically(os.path.join(directory, NOTE), note)


def said(directory: str) -> str:
    """Return the end of what ``cesapp`` said in this operation, without what its scripts sent to the server."""
    try:
        with open(os.path.join(directory, "cesapp.log"), "rb") as file:
            # Cut afterwards: half a line would not be known for what it is.
            return without_statements(file.read().decode("utf-8", "replace"))[-KEPT:].strip()
    except FileNotFoundError:
        return ""


def noted(directory: str) -> Mapping[str, Any] | None:
    """Return which ``cesapp`` was begun last in this operation, also by a run that was killed."""
    found: Mapping[str, Any] | None = read_json(os.path.join(directory, NOTE))
    return found


def has_begun(directory: str) -> bool:
    """Tell whether ``cesapp`` was called in an operation: the data may be another's since."""
    return noted(directory) is not None


def still_runs(note: Mapping[str, Any]) -> bool:
    """Tell whether that very process works: a pid is given out again, its start is not."""
    started: str = note["started"]
    return bool(started) and _started(note["pid"]) == started


def end(note: Mapping[str, Any]) -> None:
    """End a ``cesapp`` that this operation began, and what it began itself."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        if not still_runs(note):
            return
        os.killpg(note["pid"], each)
        until(lambda: not still_runs(note), 10.0)


def _started(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; empty for none, and for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]
