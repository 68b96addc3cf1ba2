# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app's variables as they lie in its directory."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .ground import Host

# Zero in a stopped app, which a change of variables then does not start.
RESTORE = "DOKKU_APP_RESTORE"


def load(host: Host, app: str) -> dict[str, str]:
    """Return an app's variables."""
    path = host.app(app) / "ENV"
    pairs = (line.split("=", 1) for line in path.read_text().splitlines()) if path.exists() else ()
    return {key: json.loads(value) for key, value in pairs}


def save(host: Host, app: str, variables: Mapping[str, str]) -> None:
    """Write an app's variables."""
    path = host.app(app) / "ENV"
    path.write_text("".join(f"{key}={json.dumps(value)}\n" for key, value in sorted(variables.items())))
    path.chmod(0o600)
