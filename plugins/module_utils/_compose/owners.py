# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who else starts and stops this project: systemd units and updaters. Questions only."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import Runner, run_process
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell

UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
UPDATERS = ("watchtower", "ouroboros", "wud", "whats-up-docker")
"""Programs that recreate other containers by themselves, by the last word of their image's name."""
LEFT_TO_OTHERS = {"watchtower": "com.centurylinklabs.watchtower.enable"}
"""The label by which a container is kept from an updater."""
ANSWER_LIMIT = 10.0


@dataclass(frozen=True)
class Owners:
    """What forbids a change because somebody would act in the middle of it, and what has to be known."""

    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()


def units_of(
    working_dir: str, *, start: str, directories: Iterable[str] = UNIT_DIRECTORIES, runner: Runner = run_process
) -> Owners:
    """Look for systemd units that name the project's directory together with compose.

    ``start``: what is typed to start the project's containers as they are.
    """
    blockers, warnings = [], []
    for path in _unit_files(directories):
        try:
            with open(path, encoding="utf-8", errors="replace") as handle:
                text = handle.read()
        except OSError:
            continue
        for name in _named(os.path.basename(path), text, working_dir):
            foreground, active = runs_in_foreground(text), _is_active(name, runner)
            if "@." in os.path.basename(path) and not active:
                continue  # a template names every directory, and nothing says that this instance was ever meant
            if foreground and active:
                blockers.append(_in_the_foreground(name, removes_containers(text), start))
            else:
                warnings.append(
                    f"The systemd unit {name} names this project"
                    + (" and runs it in the foreground, but does not run now" if foreground else "")
                    + f": do not start or stop it during the change. To look at it: systemctl cat {name}"
                )
    return Owners(tuple(blockers), tuple(warnings))


def _in_the_foreground(name: str, removes: bool, start: str) -> Blocker:
    said = (
        f"The systemd unit {name} runs 'compose up' of this project in the foreground and would act when the services"
        f" stop: systemctl stop {name} (which stops the project), start the containers without it ({start}), run the"
        f" same task again, and then systemctl start {name}."
    )
    stop = shell("systemctl", "stop", name)
    if not removes:
        return Blocker(said, f"{stop} && {start}")
    override = f"/run/systemd/system/{name}.d"
    return Blocker(
        f"{said} But what it runs to stop removes the containers, after which nothing leads to their anonymous volumes:"
        f" let it forget that first (ExecStop= in a file in {override}, which lasts until the next boot).",
        f"{shell('mkdir', '-p', override)}"
        f" && printf '[Service]\\nExecStop=\\nExecStopPost=\\n' > {shlex.quote(override + '/keep-containers.conf')}"
        f" && systemctl daemon-reload && {stop} && {start}",
    )


def updaters_of(everyone: Iterable[Container], services: Sequence[Container]) -> Owners:
    """Tell of the containers of this engine that recreate others; pure."""
    warnings = []
    for container in everyone:
        program = container.image_ref.rpartition("/")[2].partition(":")[0].partition("@")[0]
        if program not in UPDATERS or not container.running:
            continue
        label = LEFT_TO_OTHERS.get(program, "")
        meant = [each.name for each in services if each.labels.get(label, "").lower() != "false"]
        if meant:
            warnings.append(
                f"{container.name} ({container.image_ref}) updates containers by itself and could recreate"
                f" {', '.join(meant)} in the middle of the change: docker stop {container.name} before it, and docker"
                f" start {container.name} afterwards."
            )
    return Owners(warnings=tuple(warnings))


def runs_in_foreground(text: str) -> bool:
    """Tell whether a unit's text starts ``compose up`` and stays with it."""
    return any(
        "up" in words and not {"-d", "--detach", "--no-start", "--wait"} & set(words)
        for words in _compose_commands(text, "ExecStart")
    )


def removes_containers(text: str) -> bool:
    """Tell whether a unit's text removes the project's containers when the unit stops."""
    return any({"down", "rm"} & set(words) for words in _compose_commands(text, "ExecStop(?:Post)?"))


def _compose_commands(text: str, setting: str) -> Iterator[list[str]]:
    """Yield what follows the word compose in each command of a unit's ``setting``."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for command in re.findall(rf"^\s*{setting}\s*=\s*(.+)$", joined, re.MULTILINE):
        _program, compose, rest = command.partition("compose")
        if compose:
            yield rest.split()


def _named(name: str, text: str, working_dir: str) -> Iterator[str]:
    """Yield the unit's name if its text names the directory; of a template, that of the instance that would."""
    if "compose" not in text:
        return
    if "@." not in name:
        if _names(text, working_dir):
            yield name
        return
    for instance, value in (
        (os.path.basename(working_dir), os.path.basename(working_dir)),
        (_escaped(working_dir), working_dir.strip("/")),
    ):
        if _names(text.replace("%i", value).replace("%I", value), working_dir):
            yield name.replace("@.", f"@{instance}.")
            return


def _names(text: str, working_dir: str) -> bool:
    return re.search(r"(?<![\w.])" + re.escape(working_dir) + r"(?![\w.-])", text) is not None


def _escaped(path: str) -> str:
    """Return a path as systemd writes it into the name of an instance (systemd-escape --path)."""
    return "-".join(
        "".join(char if char.isalnum() or char in ":_." else f"\\x{ord(char):02x}" for char in part)
        for part in path.strip("/").split("/")
    )


def _is_active(name: str, runner: Runner) -> bool:
    answer = runner(["systemctl", "is-active", name], "/", dict(os.environ), ANSWER_LIMIT)
    return answer.stdout.strip() in ("active", "activating", "reloading")


def _unit_files(directories: Iterable[str]) -> list[str]:
    """Return the unit files, each under one of its names; of several with one name the first is the one that counts."""
    found: dict[str, str] = {}
    for directory in directories:
        for path in sorted(glob.glob(os.path.join(directory, "*.service"))):
            real = os.path.realpath(path)
            found.setdefault(os.path.basename(real), real)
    return list(found.values())
