# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup as what an operation journals of it."""

from __future__ import annotations

import os

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Copy
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup import run
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.backup.model import VERIFY, Wanted
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

JOBS = 2


def backed_up(engine: Engine, session: Session, service: str, path: str, form: str, *, prove: str = VERIFY) -> Copy:
    """Take a backup of a running server into ``path`` and prove it, or find it there.

    ``form`` and ``prove`` are words of the module's options.
    """
    source = run.open_source(engine, session, service)
    wanted = Wanted(path, form, prove, JOBS)
    made = run.carry_out(source, wanted, run.observe(source, wanted))
    status = os.stat(path)
    return Copy(
        role="backup",
        service=service,
        path=path,
        moment=made.moment,
        size_bytes=made.bytes,
        protected="a directory of its own",
        proof=made.proof,
        device=status.st_dev,
        inode=status.st_ino,
    )
