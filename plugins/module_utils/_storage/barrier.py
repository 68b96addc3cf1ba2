# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep the engine from starting a service on a directory that was just renamed away.

It makes the missing source of a bind mount anew, and the image would initialise an
empty store there, if somebody typed 'up' before the service stands on its new
place. It refuses to mount a file on a directory, so a file is left there. The
missing directory of a volume it refuses anyway.
"""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import BIND
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import Location


def seal(location: Location) -> None:
    """Leave an empty file where the directory of a bind mount was."""
    if location.kind == BIND:
        os.close(os.open(location.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def unseal(location: Location) -> None:
    """Take the empty file away; anything else that bears the name stays."""
    if is_sealed(location):
        os.unlink(location.path)


def is_sealed(location: Location) -> bool:
    path = location.path
    return location.kind == BIND and not os.path.islink(path) and os.path.isfile(path) and os.path.getsize(path) == 0
