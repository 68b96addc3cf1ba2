# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program that the runtime lost before it began is told from one that ran, or cannot be run."""

from __future__ import annotations

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.execs import never_ran

FAILED = b"OCI runtime exec failed: exec failed: unable to start container process: "


@pytest.mark.parametrize(
    ("rc", "said", "expected"),
    [
        (126, FAILED + b"waiting for init preliminary setup: read init-p: connection reset by peer: unknown", True),
        (127, FAILED + b'exec: "redis-cli": executable file not found in $PATH: unknown', False),
        (126, FAILED + b'exec: "/etc/passwd": permission denied: unknown', False),
        (0, FAILED + b"waiting for init preliminary setup", False),
        (127, b"sh: 1: nothing: not found", False),
    ],
)
def test_only_what_never_began_is_begun_again(rc: int, said: bytes, expected: bool) -> None:
    assert never_ran(rc, said) == expected
