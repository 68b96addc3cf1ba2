# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.sandbox <verb>``."""

from __future__ import annotations

import sys

from ._base import SandboxError
from .cli import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SandboxError as exc:
        print(exc, file=sys.stderr)
        sys.exit(2)
