# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report on where a project's data is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import inventory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.files_store import FilesStore
from tests.support.fake_store import FakeStore
from tests.support.site import Site, a_site

TEXT = "services:\n  db:\n    image: store:1\n    volumes: ['./db:/data']\n  web:\n    image: app:1\n"


class Refusing(FakeStore):
    """A store that fails to say whether it is there."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def recognises(self, engine: Engine, container: Container, host_path_of: Callable[[str], str]) -> str:
        if "store" in container.image_ref:
            raise self.error
        return ""


def site_of(tmp_path: Path, text: str = TEXT, **images: Any) -> Site:
    return a_site(tmp_path, text, images).up()


@pytest.mark.parametrize(
    "error, telling",
    [(StatefulError("wrong password"), "wrong password"), (PermissionError(13, "Permission denied"), "become: true")],
)
def test_a_store_that_cannot_be_asked_does_not_hide_the_others(tmp_path: Path, error: Exception, telling: str) -> None:
    site = site_of(tmp_path)
    site.stores = {"fake": Refusing(error), "files": FilesStore()}  # type: ignore[dict-item]
    db, web = inventory.services(site.world, site.project, (), sizes=False)
    assert telling in db["unanswered"]
    assert [path["target"] for path in db["paths"]] == ["/data"]
    assert web["unanswered"] == ""
    assert telling in inventory.text("site", [db, web], [])
