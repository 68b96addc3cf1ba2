# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Extensions that were updated: whether they are, and that an older library does not get under them unsaid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import refresh, way_back
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import Extension

from .fakes import FakeEngine, a_container
from .subjects import IMAGE, INVENTORY, SUBJECT


class Session:
    """An extension that each update takes one version on; ``wanted`` is the image's."""

    database = "app"

    def __init__(self, versions: list[str], wanted: str) -> None:
        self.versions, self.wanted = versions, wanted

    def scalar(self, query: str, _values: Any = ()) -> str:
        if "default_version" in query:
            return self.wanted
        return self.versions[0] if "extversion" in query else "public"

    def run(self, _statement: str) -> None:
        self.versions.pop(0)

    def rows(self, statement: str) -> list[Any]:
        self.run(statement)
        return []

    def sibling(self, *_where: Any) -> Session:
        return self

    def without_timeouts(self, **_but: Any) -> Session:
        return self

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_error: object) -> None:
        return None


def update(name: str, versions: list[str], wanted: str) -> str:
    return refresh._update(Session(versions, wanted), Extension("app", name, versions[0]))  # type: ignore[arg-type]


def test_an_update_is_looked_at() -> None:
    assert update("hstore", ["1.7", "1.8"], "1.8") == "hstore in app: 1.7 to 1.8"
    with pytest.raises(StatefulError, match=r"hstore in app is at 1\.8 after its update, and the image has 1\.9"):
        update("hstore", ["1.7", "1.8"], "1.9")


def test_postgis_may_take_two_calls() -> None:
    assert update("postgis", ["2.5.1", "2.5.9", "3.4.2"], "3.4.2") == "postgis in app: 2.5.1 to 3.4.2"
    with pytest.raises(StatefulError, match=r"postgis in app is at 2\.5\.9"):
        update("postgis", ["2.5.1", "2.5.5", "2.5.9"], "3.4.2")


class World:
    """Only what the way back asks of it."""

    engine = FakeEngine()

    def session(self, _engine: Any, _container: Any) -> Session:
        return Session([], "")


def test_the_way_back_is_refused_where_the_former_library_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    former = replace(IMAGE, id="sha256:" + "0a" * 32)
    extensions = (Extension("app", "plpgsql", "1.0"), Extension("app", "hstore", "1.9"))
    subject = replace(SUBJECT, inventory=replace(INVENTORY, extensions=extensions))
    monkeypatch.setattr(way_back, "observe_subject", lambda engine, session: subject)
    monkeypatch.setattr(way_back, "examine", lambda engine, image, user: former)
    monkeypatch.setattr(way_back, "postgresql_store", lambda world: world)
    (refused,) = way_back._against_the_former(World(), a_container(), former.id)  # type: ignore[arg-type]
    assert "has the extension hstore as 1.8, older than the 1.9 in app" in refused.text
    assert "strategy: dump" in refused.text
    monkeypatch.setattr(way_back, "observe_subject", lambda engine, session: SUBJECT)
    assert way_back._against_the_former(World(), a_container(), former.id) == []  # type: ignore[arg-type]
