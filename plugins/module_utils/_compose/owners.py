# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who else starts and stops this project: systemd units and updaters. Questions only."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import Runner, run_process
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container

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

    blockers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def units_of(
    working_dir: str, *, directories: Iterable[str] = UNIT_DIRECTORIES, runner: Runner = run_process
) -> Owners:
    """Look for systemd units that name the project's directory together with compose."""
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
                blockers.append(
                    f"The systemd unit {name} runs 'compose up' of this project in the foreground and would act when"
                    f" the services stop: systemctl stop {name} (which stops the project), start the project without"
                    f" it (docker compose up -d in {working_dir}), run the same task again, and then systemctl start"
                    f" {name}."
                )
            else:
                warnings.append(
                    f"The systemd unit {name} names this project"
                    + (" and runs it in the foreground, but does not run now" if foreground else "")
                    + f": do not start or stop it during the change. To look at it: systemctl cat {name}"
                )
    return Owners(tuple(blockers), tuple(warnings))


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
    joined = re.sub(r"\\\n\s*", " ", text)
    for command in re.findall(r"^\s*ExecStart\s*=\s*(.+)$", joined, re.MULTILINE):
        _program, compose, rest = command.partition("compose")
        words = rest.split()
        if compose and "up" in words and not {"-d", "--detach", "--no-start", "--wait"} & set(words):
            return True
    return False


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
