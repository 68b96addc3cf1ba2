# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who else starts and stops this project: systemd units and updaters. Questions only, answered in warnings."""

from __future__ import annotations

import glob
import os
import re

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project

UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system")


def owners_of(project: Project) -> list[str]:
    """Return a sentence for each unit file that names the project's directory together with compose."""
    found = []
    directory = re.compile(re.escape(project.working_dir) + r"(?![\w.-])")
    for path in _unit_files():
        try:
            with open(path, encoding="utf-8", errors="replace") as handle:
                text = handle.read()
        except OSError:
            continue
        if directory.search(text) and "compose" in text:
            name = os.path.basename(path)
            found.append(
                f"The systemd unit {name} names this project: if it supervises 'compose up' in the foreground, it sees"
                f" the services stop and may act on that. Look at it first: systemctl cat {name}"
            )
    return found


def _unit_files() -> list[str]:
    patterns = [os.path.join(directory, "*.service") for directory in UNIT_DIRECTORIES]
    return sorted({os.path.realpath(path) for pattern in patterns for path in glob.glob(pattern)})
