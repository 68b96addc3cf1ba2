# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose files from the wild, where a folder of them is at hand (STATEFUL_COMPOSE_CORPUS)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import (
    Mount,
    read_entry,
    same_target,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_image import set_image
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_mounts import has_mount, set_bind_mounts
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reverse import reverse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.override import override_text

CORPUS = Path(
    os.environ.get("STATEFUL_COMPOSE_CORPUS") or Path(__file__).resolve().parents[3].parent / "shared" / "corpus"
)
FILES = sorted(path for path in CORPUS.rglob("*") if path.suffix in (".yml", ".yaml")) if CORPUS.is_dir() else []
TARGETS = {
    "postgres": ("/var/lib/postgresql/data", "/var/lib/postgresql"),
    "redis": ("/data",),
    "valkey": ("/data",),
}

pytestmark = pytest.mark.skipif(not FILES, reason="no folder of compose files at hand")


def stores(text: str) -> list[tuple[str, str]]:
    """Each service with a known image, with each path that it could keep its data at."""
    services = parse(text).services()
    images = [(key.value, value.get("image")) for key, value in services.pairs()]
    return [
        (name, target)
        for name, image in images
        for kind, targets in TARGETS.items()
        if image is not None and kind in image.value
        for target in targets
    ]


def meaning(text: str, service: str, target: str) -> object:
    """All that a file says, less one mount and the declarations of volumes."""
    root = parse(text).root
    rest = {key.value: value.data() for key, value in root.pairs() if key.value not in ("services", "volumes")}
    for key, value in parse(text).services().pairs():
        own = {k.value: v.data() for k, v in value.pairs() if not (key.value == service and k.value == "volumes")}
        rest[f"service {key.value}"] = own
    volumes = parse(text).services().get(service)
    items = volumes.get("volumes") if volumes is not None else None
    entries = [(item, read_entry(item)) for item in items.resolved.children] if items is not None else []
    rest["others"] = [item.data() for item, entry in entries if entry is None or not same_target(entry, target)]
    return rest


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_store_of_every_file(path: Path) -> None:
    text = path.read_bytes().decode()
    found = stores(text)
    for service, target in found:
        mount = Mount(service, target, "./moved data/store")
        result = set_bind_mounts(text, [mount])
        assert has_mount(result.text, mount)
        assert meaning(result.text, service, target) == meaning(text, service, target)
        assert reverse(result.text, result.hunks).text == text
        assert override_text(None, [mount], {}).changed
    if "mastodon" in path.parts:
        assert {service for service, _target in found} == {"db", "redis"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_image_of_every_file(path: Path) -> None:
    text = path.read_bytes().decode()
    for service, _target in stores(text):
        result = set_image(text, service=service, image="registry.example/store:1.2@sha256:" + "0" * 64)
        assert len(result.hunks) == 1
        assert (len(result.hunks[0].before), len(result.hunks[0].after)) == (1, 1)
        assert reverse(result.text, result.hunks).text == text
