# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Scripts that go on in a container when the task that began them was broken off."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import ledger
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    SQL,
    UNDOING,
    Migration,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

VARIABLE = "SELFHOST_STATEFUL_OPERATION"
"""The variable by which the processes of a script are found: they outlive whoever began them."""
# It does not find itself: what it is asked for is an argument, and not in its environment.
IS_RUNNING = (
    "for each in /proc/[0-9]*/environ; do"
    ' if tr "\\0" "\\n" 2>/dev/null <"$each" | grep -qxF "$1"; then exit 0; fi; done 2>/dev/null; exit 1'
)


def must_have_ended(server: Server, session: Session, series: str, migration: Migration) -> None:
    """Raise where what was broken off goes on in the container: the lock ended with its worker, the script did not."""
    was = next((row for row in ledger.read(session, series) if row.number == migration.number), None)
    if was is None or was.complete or migration.kind == SQL:
        return
    rc, _said = server.command(("sh", "-c", IS_RUNNING, "sh", f"{VARIABLE}={was.operation}"))
    if rc == 0:
        what = f"what takes {migration.name} back" if was.state == UNDOING else migration.name
        left = f"{what} goes on in {server.name}, and the ledger says {was.state}"
        then = shell("docker", "top", server.container.name)
        raise StatefulError(
            f"{what[0].upper()}{what[1:]}, which was begun on {was.at}, or a program that it started, is still running"
            f" in the container {server.container.name}. Let it end, or end it; then run the same task again.",
            state=left,
            next_command=then,
            left=left,
            then=then,
        )
