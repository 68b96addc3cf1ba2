# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of a container, told by the namespace that its first process is in."""

from __future__ import annotations

import os
import subprocess

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.processes import programs_in
from tests.unit.compose_project.fakes import a_container


def test_programs_are_found_by_their_namespace() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            assert "sleep" in programs_in(a_container(pid=os.getpid()))
        finally:
            other.kill()
