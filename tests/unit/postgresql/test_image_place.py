# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a container of another image has its data, and as whom it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import user_given
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.survey import wanted_place
from tests.support.memory_engine import MemoryEngine

from .fakes import a_container
from .subjects import IMAGE, UPGRADED
from .test_image_plan import DATA

OLD_PLACE = "/var/lib/postgresql/data"
LATEST = replace(UPGRADED, major="18", data_directory="/var/lib/postgresql/18/docker", volumes=("/var/lib/postgresql",))


def test_the_images_place_is_left_for_that_of_the_next() -> None:
    container = a_container(env={"PGDATA": OLD_PLACE})  # the engine shows the image's own there, too
    wanted = wanted_place(container, IMAGE.data_directory, DATA, LATEST, {})
    assert (wanted.target, wanted.subpath) == ("/var/lib/postgresql", "18/docker")


def test_a_place_that_the_service_names_stays_also_where_it_is_the_images() -> None:
    """The environment stays, and a server of 18 would have its data at PGDATA, and find none there."""
    container = a_container(env={"PGDATA": OLD_PLACE})
    wanted = wanted_place(container, IMAGE.data_directory, DATA, LATEST, {"PGDATA": OLD_PLACE})
    assert (wanted.target, wanted.subpath) == (DATA.target, DATA.subpath)


def test_a_user_of_the_services_own_is_told_from_that_of_the_image(tmp_path: Path) -> None:
    engine = MemoryEngine(tmp_path)
    image = engine.add_image("postgres:15")
    engine.images[image.id] = replace(image, user="1001")
    assert user_given(engine, a_container(image_id=image.id, user="1001")) == ""
    assert user_given(engine, a_container(image_id=image.id, user="1000:1000")) == "1000:1000"
