# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print as JSON what this Python lacks: libraries that are missing, or older than the modules need."""

from __future__ import annotations

import json
import re
import sys

NEEDED = {"docker": (5, 0, 3), "psycopg": (3, 1, 7), "yaml": (5, 4)}


def numbers(version: str) -> tuple[int, ...]:
    """Return ``(3, 1, 7)`` for ``3.1.7.dev1``."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()


def lacking() -> list[str]:
    """Import each library, because a package can be there and still not work."""
    found = []
    for name, oldest in NEEDED.items():
        wanted = ".".join(map(str, oldest))
        try:
            version = __import__(name).__version__
        except ImportError as error:
            found.append(f"{name} >= {wanted} ({error})")
            continue
        if numbers(version) < oldest:
            found.append(f"{name} >= {wanted} (it is {version})")
    return found


if __name__ == "__main__":
    json.dump({"python": sys.executable, "lacking": lacking()}, sys.stdout)
