# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure: ``python -m tests.bench [PART ...]``, all parts without names.

BENCH_GB and BENCH_ROUNDS set size and rounds, BENCH_LARGE_GB the size that is compared with it,
BENCH_DIR the place. The tables go to the terminal, the figures to ``build/bench-<part>.json``.
"""

from __future__ import annotations

import sys

from tests.bench import dokku, persist, postgresql_image, stream
from tests.bench.ground import place

PARTS = {
    "persist": persist.measure,
    "postgresql-image": postgresql_image.measure,
    "stream": stream.measure,
    "dokku": dokku.measure,
}


def main() -> int:
    """Measure, print, write."""
    names = sys.argv[1:] or list(PARTS)
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for name in names:
        with place():
            PARTS[name](name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
