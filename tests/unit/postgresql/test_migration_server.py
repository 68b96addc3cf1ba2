# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What commands and scripts of migrations say is told without the values that they were given."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import ExecResult
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.server import Server, must_run
from tests.unit.postgresql.fakes import a_container


class Engine:
    """Has every command fail, and complain of its variables."""

    def execute(self, _container: str, argv: tuple[str, ...], *, environment: dict[str, str], user: str) -> ExecResult:
        return ExecResult(argv, 3, b"", f"as {user}: no login with {environment}".encode())


def test_a_mark_that_cannot_be_set_is_told_without_secrets() -> None:
    engine: Any = Engine()
    environment = {"TOKEN": "s3cret", "LONGER": "s3cret-and-more", "EMPTY": ""}
    server = Server(engine, a_container(), "db", connect=lambda: None, environment=environment)  # type: ignore[arg-type, return-value]
    with pytest.raises(StatefulError, match=r"The mark could not be set: doguctl ended with 3") as caught:
        must_run(server, "The mark could not be set", ("doguctl", "config"))
    assert "no login with" in caught.value.msg
    assert "s3cret" not in caught.value.msg
    assert "and-more" not in caught.value.msg


def test_what_is_no_secret_is_told_as_it_is() -> None:
    """A hook's failure names versions, and says true or false."""
    public = {"FROM_VERSION": "16.4", "FULL_BACKUP": "true"}
    environment = {"TOKEN": "s3cret"}
    engine: Any = Engine()
    server = Server(engine, a_container(), "db", connect=lambda: None, public=public, environment=environment)  # type: ignore[arg-type, return-value]
    with pytest.raises(StatefulError, match=r"'FROM_VERSION': '16\.4', 'FULL_BACKUP': 'true'") as caught:
        must_run(server, "The mark could not be set", ("doguctl", "config"))
    assert "s3cret" not in caught.value.msg
