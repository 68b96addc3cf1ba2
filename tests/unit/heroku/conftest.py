# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where there is no ansible, there is none of its HTTP helper: what stands on that is left out."""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.heroku_lab import Lab

OVER_HTTP = ("backing", "http", "maintaining", "modules", "postgres", "stopping", "stopping_killed")
collect_ignore = [] if importlib.util.find_spec("ansible") else [f"test_{each}.py" for each in OVER_HTTP]


@pytest.fixture(autouse=True)
def without_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ansible's helper load no certificates for each request: on loopback that takes longer than all the rest."""
    if not collect_ignore:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        monkeypatch.setattr("ansible.module_utils.urls.make_context", lambda *_given, **_more: context)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return an app at a stand-in for Heroku."""
    from tests.support.heroku_lab import lab_in

    with lab_in(tmp_path) as made:
        yield made
