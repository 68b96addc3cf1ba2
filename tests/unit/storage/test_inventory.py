# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report on where a project's data is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._storage import inventory
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.files_store import FilesStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.store import Orphan
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


@pytest.mark.parametrize(
    "reference, floats",
    [
        ("postgres", True),
        ("postgres:latest", True),
        ("postgres:alpine", True),
        ("postgres:alpine3.20", True),
        ("redis:alpine3.19", True),
        ("redis:bookworm", True),
        ("postgres:14-alpine", False),
        ("postgres:14.9", False),
        ("registry:5000/x/postgres", True),
        ("tootsuite/mastodon:v4.3.0", False),
        ("pgvector/pgvector:pg17", False),
        ("timescale/timescaledb:latest-pg16", False),
        ("postgres@sha256:" + "0" * 64, False),
        ("sha256:" + "0" * 64, False),
        ("", False),
    ],
)
def test_which_tags_float(reference: str, floats: bool) -> None:
    assert inventory.is_floating(reference) is floats


def test_what_a_tag_means_now_is_named_with_its_version(tmp_path: Path) -> None:
    site = site_of(
        tmp_path, "services:\n  db:\n    image: postgres:alpine\n  web:\n    image: live-web\n    build: .\n"
    )
    old = site.container("db").image_id
    site.engine.images[old] = replace(site.engine.images[old], env={"PG_MAJOR": "14"})
    new = site.engine.add_image("postgres:alpine")
    site.engine.images[new.id] = replace(new, env={"PG_MAJOR": "17"})
    db, web = inventory.services(site.world, site.project, (), sizes=False)
    assert db["image"] == {
        "reference": "postgres:alpine",
        "running_id": old,
        "running_version": "14",
        "resolves_to": new.id,
        "resolves_to_version": "17",
        "moved_on": True,
        "built_here": False,
        "floating": True,
    }
    assert (web["image"]["floating"], web["image"]["built_here"]) == (False, True)
    told = inventory.text("site", [db, web], [])
    assert f"it runs {old[7:19]} (14), and the tag means {new.id[7:19]} (17) by now" in told
    assert "live-web  (built here" in told


class Knowing(FakeStore):
    """A store that says where its data is."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.directory = directory

    def recognises(self, engine: Engine, container: Container, host_path_of: Callable[[str], str]) -> str:
        return self.directory if "store" in container.image_ref else ""


def test_a_store_in_memory_is_no_layer(tmp_path: Path) -> None:
    site = site_of(tmp_path, "services:\n  db:\n    image: store:1\n")
    container = site.container("db")
    site.engine.held[container.id] = replace(container, tmpfs=("/data",))
    site.stores = {"fake": Knowing("/data/pg"), "files": FilesStore()}  # type: ignore[dict-item]
    (db,) = inventory.services(site.world, site.project, (), sizes=True)
    (path,) = db["paths"]
    assert (path["kind"], path["store"], path["data_directory"]) == ("tmpfs", "fake", "/data/pg")
    assert path["ephemeral"]
    assert "memory" in path["reason"]


def test_a_named_volume_in_memory_is_ephemeral(tmp_path: Path) -> None:
    site = site_of(tmp_path, "services:\n  db:\n    image: store:1\n    volumes: ['pg:/data']\nvolumes: {pg: {}}\n")
    (db,) = inventory.services(site.world, site.project, (), sizes=False)
    assert not db["paths"][0]["ephemeral"]
    volume = site.engine.known["site_pg"]
    site.engine.known["site_pg"] = replace(volume, options={"type": "tmpfs", "device": "tmpfs"})
    (db,) = inventory.services(site.world, site.project, (), sizes=False)
    assert db["paths"][0]["kind"] == "named"
    assert "in memory" in db["paths"][0]["reason"]


def test_what_the_image_declares_is_known_before_the_first_start(tmp_path: Path) -> None:
    site = a_site(tmp_path, TEXT, {"store:1": {"volumes": ["/data"]}})
    db, web = inventory.services(site.world, site.project, (), sizes=False)
    assert (db["declared_volumes"], web["declared_volumes"]) == (["/data"], [])
    assert "never started" in inventory.text("site", [db, web], [])


def test_one_file_has_its_size(tmp_path: Path) -> None:
    site = site_of(tmp_path, "services:\n  web:\n    image: app:1\n    volumes: ['./my.conf:/etc/my.conf']\n")
    (site.directory / "my.conf").rmdir()
    (site.directory / "my.conf").write_text("12345")
    (web,) = inventory.services(site.world, site.project, (), sizes=True)
    assert (web["paths"][0]["bytes"], web["paths"][0]["files"]) == (5, 1)


def test_what_may_not_be_looked_into_is_unknown_and_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(tmp_path)
    (site.directory / "db" / "file").write_text("x" * 5000)
    site.stores = {"fake": Knowing("/data"), "files": FilesStore()}  # type: ignore[dict-item]
    assert inventory.services(site.world, site.project, ("db",), sizes=True)[0]["paths"][0]["bytes"] >= 5000
    monkeypatch.setattr(os, "access", lambda *_args: False)
    (db,) = inventory.services(site.world, site.project, ("db",), sizes=True)
    (path,) = db["paths"]
    assert path["bytes"] is None
    assert "become: true" in path["unanswered"]
    assert "size unknown" in inventory.text("site", [db], [])


class Finding(FakeStore):
    """A store that finds itself in every directory."""

    def orphans(self, directory: str) -> list[Orphan]:
        return [Orphan(directory, "fake", "1", "id", "clean", "2026-01-01T00:00:00+00:00")]


def test_orphans_and_what_was_not_looked_into(tmp_path: Path) -> None:
    site = site_of(tmp_path, "services:\n  db:\n    image: store:1\n    volumes: ['pg:/data']\nvolumes: {pg: {}}\n")
    site.stores = {"fake": Finding(), "files": FilesStore()}  # type: ignore[dict-item]
    for name in ("old", "nfs", "remote"):
        site.engine.create_volume(name, labels={})
    site.engine.known["nfs"] = replace(site.engine.known["nfs"], options={"type": "nfs", "o": "addr=x"})
    site.engine.known["remote"] = replace(site.engine.known["remote"], driver="rexray")
    lost, unknown = inventory.orphans(site.world)
    assert [(orphan["volume"], orphan["version"]) for orphan in lost] == [("old", "1")]
    assert {entry["volume"]: entry["reason"] for entry in unknown} == {
        "nfs": "a local volume with options (o, type)",
        "remote": "a volume of the driver rexray",
    }
    told = inventory.text("site", [], lost, unknown)
    assert "Orphaned volume old" in told
    assert "2 volumes that no container refers to were not looked into" in told
