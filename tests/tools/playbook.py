# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a playbook through ansible-playbook, as a user would, and hands on what its tasks return."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.tools import tree

CALLBACKS = Path(__file__).parent / "callback"
CONFIG = """\
[defaults]
collections_path = {collections}
callback_plugins = {callbacks}
callbacks_enabled = playbook_events
callback_result_format = yaml
host_key_checking = False
interpreter_python = auto_silent
nocolor = True

[connection]
pipelining = True
"""

Event = Mapping[str, Any]
"""``event`` (ok, ignored, failed), ``task``, ``action``, ``result`` and ``seconds`` of one result."""


def here(host: str) -> str:
    """Return an inventory of this machine: as root already, with the libraries of this very interpreter."""
    return f"{host} ansible_connection=local ansible_become=false ansible_python_interpreter={sys.executable}\n"


def run(
    playbook: str,
    *,
    inventory: str,
    variables: Mapping[str, Any],
    folder: Path,
    follow: Callable[[Event], None],
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> int:
    """Return the exit code; ``folder`` keeps ``inventory``, ``variables.json`` and ``ansible.log``."""
    folder.mkdir(parents=True, exist_ok=True)
    hosts, settings, config = folder / "inventory", folder / "variables.json", folder / "ansible.cfg"
    hosts.write_text(inventory)
    settings.write_text(json.dumps(variables, indent=2) + "\n")
    # One of its own, so that nothing of the user's takes part.
    config.write_text(CONFIG.format(collections=tree.link(), callbacks=CALLBACKS))
    program = Path(sys.executable).with_name("ansible-playbook")
    argv = [str(program), playbook, "-i", str(hosts), "-e", f"@{settings}", *arguments]
    reading, writing = os.pipe()
    with (folder / "ansible.log").open("w") as sink:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, pass_fds=(writing,),
            env={**os.environ, **(env or {}), "ANSIBLE_CONFIG": str(config), "PLAYBOOK_EVENTS": str(writing)},
        )  # fmt: skip
    os.close(writing)
    with os.fdopen(reading) as events:
        for line in events:
            follow(json.loads(line))
    return process.wait()
