# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of Postgres images and of a running cluster, on real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import OPERATION_LABEL
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import examine
from tests.integration import postgresql_lab
from tests.integration.postgresql_lab import Lab
from tests.sandbox import images


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with postgresql_lab.lab(tmp_path) as made:
        yield made


def test_images_tell_what_they_bring(lab: Lab) -> None:
    found = {
        major: examine(lab.engine, images.ref(f"postgres:{major}"), operation=lab.operation)
        for major in ("13", "15", "17", "18")
    }
    for major, image in found.items():
        assert image.major == major
        assert image.version.startswith(f"{major}.")
        assert image.server_version_num // 10000 == int(major)
        assert image.libc == "glibc"
        assert image.loader
        assert image.icu.isdigit()
        assert image.user == (999, 999)
        assert image.library_directory.endswith(f"/{major}/lib")
        assert {"plpgsql", "hstore"} <= image.extensions.keys()
        assert image.extensions["hstore"] in image.updates["hstore"]
        assert "1.4" in image.updates["hstore"]
        assert {"pg_stat_statements", "auto_explain"} <= set(image.libraries)
        assert {"c", "posix", "en_us.utf8"} <= set(image.locales)
        assert "shared_preload_libraries" in image.parameters
    versions = [tuple(map(int, image.libc_version.split("."))) for image in found.values()]
    assert versions == sorted(versions)
    assert found["17"].data_directory == "/var/lib/postgresql/data"
    assert found["18"].data_directory == "/var/lib/postgresql/18/docker"
    assert found["18"].volumes == ("/var/lib/postgresql",)
    assert "adminpack" in found["15"].extensions
    assert "adminpack" not in found["17"].extensions
    assert "old_snapshot_threshold" in found["15"].parameters
    assert "old_snapshot_threshold" not in found["17"].parameters


def test_another_image_is_refused_and_leaves_nothing_behind(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="no Postgres image"):
        examine(lab.engine, images.ref("redis:8"), operation=lab.operation)
    assert lab.engine.containers(labels={OPERATION_LABEL: lab.operation}) == []
    with pytest.raises(InvalidInput) as caught:
        examine(lab.engine, "selfhost-sandbox/postgres:1", operation=lab.operation)
    assert caught.value.next_command == "docker pull selfhost-sandbox/postgres:1"
