# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.demo`` and ``python -m tests.demo clean``."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import sys
from collections.abc import Iterator, Sequence

from tests.sandbox._base import SandboxError, cache_dir

from . import setup
from .story import tell


def main(argv: Sequence[str]) -> int:
    """Run the demo, or remove what it left; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("verb", nargs="?", choices=["run", "clean"], default="run")
    parser.add_argument("--server", action="store_true", help="use a server-in-a-container even where root would do")
    parser.add_argument("--rows", type=int, default=20_000, help="rows to fill Postgres with (%(default)s)")
    parser.add_argument("--keys", type=int, default=2_000, help="keys to fill Redis with (%(default)s)")
    args = parser.parse_args(argv)
    with _alone():
        if args.verb == "clean":
            print("\n".join(f"removed {what}" for what in setup.clean()) or "There was nothing to remove.")
            return 0
        return tell(rows=args.rows, keys=args.keys, server=args.server)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Refuse to run twice at the same time: both would be the same project."""
    with (cache_dir("locks") / "demo.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SandboxError("Another demo is running on this machine; wait until it ends.") from None
        yield


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SandboxError as exc:
        print(exc, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nInterrupted. `make demo` starts over, `make demo-clean` removes what is there.", file=sys.stderr)
        sys.exit(130)
