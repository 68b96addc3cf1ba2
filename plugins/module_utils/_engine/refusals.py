# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Said before any data is touched: this user may not, or data cannot be moved under this engine."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.kind import unsupported
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError


def require_root() -> None:
    """Raise where this user may not read and write the data of containers."""
    if os.geteuid() != 0:
        raise StatefulError(
            "Data of containers belongs to root on the Docker host, and this user is not root: run the task with"
            " become: true.",
            next_command="set become: true and run the same task again",
        )


def refuse_unsupported(engine: Engine, docker_host: str) -> None:
    """Raise :class:`InvalidInput` where the data of this engine's containers is out of reach from here."""
    info = engine.info()
    reasons = unsupported(info, docker_host=docker_host, root_dir_here=os.path.isdir(info.root_dir))
    if reasons:
        raise InvalidInput(" ".join(reasons), next_command="docker info", blockers=reasons)
