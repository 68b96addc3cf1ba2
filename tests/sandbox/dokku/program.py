# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The subcommands there are, and the flags that stand before them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import ground
from .words import Fail, plain, raw_error, unknown, warn

Command = Callable[[ground.Host, list[str]], "int | None"]

PLUGINS = {
    "00_dokku-standard": ("dokku", "dokku core standard plugin"),
    "20_events": ("dokku", "dokku core events logging plugin"),
    "apps": ("dokku", "dokku core apps plugin"),
    "config": ("dokku", "dokku core config plugin"),
    "docker-options": ("dokku", "dokku core docker-options plugin"),
    "maintenance": ("maintenance", "Maintenance mode for apps"),
    "network": ("dokku", "dokku core network plugin"),
    "postgres": ("postgres", "dokku postgres service plugin"),
    "ps": ("dokku", "dokku core ps plugin"),
}


def _version(host: ground.Host, _args: list[str]) -> None:
    plain(f"dokku version {host.settings.versions['dokku']}")


def _plugins(host: ground.Host, _args: list[str]) -> None:
    for name, (versioned, description) in PLUGINS.items():
        if versioned in host.settings.versions:
            plain(f"  {name:<20} {host.settings.versions[versioned]} enabled    {description}")


CORE: dict[str, Command] = {"version": _version, "plugin:list": _plugins}
# Which modules have the subcommands of a plugin.
MODULES = {
    "apps": ("apps",), "git": ("apps",), "docker-options": ("apps",), "network": ("apps",), "config": ("config",),
    "ps": ("processes",), "maintenance": ("maintenance",), "postgres": ("services", "links", "data"),
    "backups": ("backups",),
}  # fmt: skip


def find(host: ground.Host, name: str) -> Command | None:
    """Return a subcommand that this installation's plugins have; only what it needs is loaded."""
    if name in CORE:
        return CORE[name]
    plugin = name.partition(":")[0]
    if plugin in ("maintenance", "postgres") and plugin not in host.settings.versions:
        return None
    family = "backups" if name.startswith("postgres:backup") else plugin
    for module in MODULES.get(family, ()):
        found: Command | None = importlib.import_module(f".{module}", __package__).COMMANDS.get(name)
        if found is not None:
            return found
    return None


def main(argv: Sequence[str]) -> int:
    """Run one subcommand and return the exit code."""
    host = ground.load(Path(os.environ[ground.ROOT_VARIABLE]))
    args = list(argv)
    app: list[str] = []
    while args and args[0].startswith("--"):
        flag = args.pop(0)
        if flag in ("--version", "--help"):
            args.insert(0, flag.lstrip("-"))
        elif flag == "--force":
            os.environ["DOKKU_APPS_FORCE_DELETE"] = "1"
        elif flag == "--quiet":
            os.environ["DOKKU_QUIET_OUTPUT"] = "1"
        elif flag == "--app" and args:
            app = [args.pop(0)]
    name = args.pop(0) if args else "help"
    try:
        command = find(host, name)
        if command is None:
            raise unknown(name)
        # A plugin's service comes before the app.
        place = 1 if name.startswith("postgres:") else 0
        return command(host, [*args[:place], *app, *args[place:]]) or 0
    except Fail as failed:
        if failed.marked:
            warn(failed.words)
        else:
            raw_error(failed.words)
        return failed.code
    except BrokenPipeError:
        # Who reads the output has left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
