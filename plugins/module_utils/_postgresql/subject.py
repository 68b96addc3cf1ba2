# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which Postgres server a task is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._compose import subject
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.arguments import POSTGRESQL_LOGIN_ARGUMENTS
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.subject import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import session
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session

SUBJECT_ARGUMENTS: dict[str, Any] = {**subject.SUBJECT_ARGUMENTS, **POSTGRESQL_LOGIN_ARGUMENTS}


def reach(params: Mapping[str, Any]) -> Reached:
    """Return the container that the options name, running; raises :class:`InvalidInput` with the way out.

    ``params`` hold at least ``SUBJECT_ARGUMENTS``. Changes nothing.
    """
    found = subject.find(params)
    serving(found, params["service"])
    return found


def open_session(reached: Reached, params: Mapping[str, Any]) -> Session:
    """Connect to the server with the login of the options; raises :class:`SqlError` saying what was tried."""
    return session.connect(
        reached.engine,
        reached.container,
        user=params["login_user"],
        password=params["login_password"],
        database=params["login_db"],
    )


def serving(found: Reached, service: str = "") -> Container:
    """Return the container as it is, if a Postgres image runs in it; raises else.

    That its server answers, only a session proves.
    """
    container = found.container
    if not session.is_postgresql(container.image_ref, container.env):
        raise InvalidInput(
            f"The container {container.name} runs {container.image_ref}, which is no image of Postgres: it sets neither"
            " PGDATA nor PG_MAJOR.",
            next_command="docker ps -a",
        )
    return subject.running(found, service)
