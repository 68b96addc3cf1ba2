# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that shall run another image, with words whose order tells whose libc built their index."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration.storage.lab import Lab, laid_out
from tests.sandbox import images

DB = "db:/var/lib/postgresql/data"
MOMENTS = ["before", "in", "after"]
WORDS = "'a b', 'ab', 'a-b', 'A', 'b', 'é', 'z'"


@contextlib.contextmanager
def service(tmp_path: Path, major: str, wanted: str, *, place: Path | None = None, **more: Any) -> Iterator[Lab]:
    """Run a service of one image, filled, that shall run another one; ``wanted`` is a reference or one of ours.

    ``place`` gets the new cluster, which else lies in the project.
    """
    image = wanted if "/" in wanted else images.ref(f"postgres:{wanted}")
    options = {"service": "db", "image": image, **more.pop("options", {})}
    major_wanted = wanted.rpartition(":")[2].partition("-")[0]
    more.setdefault("bind_mounts", True)
    new = place or tmp_path / "project"
    if place is not None:
        options["source"] = str(new / f"postgres{major_wanted}")
    with laid_out(
        tmp_path, services=["db"], postgres=major, module="postgresql_image", options=options,
        sources={"db": new / f"postgres{major_wanted}"}, **more,
    ) as lab:  # fmt: skip
        lab.project.sql(f"CREATE TABLE words (w text PRIMARY KEY); INSERT INTO words SELECT unnest(ARRAY[{WORDS}])")
        yield lab


def image_id(lab: Lab, reference: str) -> str:
    return str(lab.engine.api(f"/images/{reference}/json")["Id"])


def around(lab: Lab) -> tuple[list[str], str]:
    """Return what lies in the project's directory, and its compose file; the server writes to its own all the time."""
    directory = lab.project.directory
    return sorted(path.name for path in directory.iterdir()), (directory / "docker-compose.yml").read_text()


def now_runs(lab: Lab) -> None:
    """Note that the wanted image is the one to run from now on, and the wanted directory the one to mount."""
    lab.images["db"] = image_id(lab, lab.options["image"])


def assert_words(lab: Lab) -> None:
    """Assert that the index finds each word, and that its order is the server's own."""
    found = lab.project.sql(
        "SET enable_seqscan = off; SET enable_sort = off;"
        "SELECT string_agg(w, '|') FROM (SELECT w FROM words ORDER BY w) x"
    )
    sorted_anew = lab.project.sql("SELECT string_agg(w, '|' ORDER BY w) FROM (SELECT w || '' AS w FROM words) x")
    assert found == sorted_anew
    assert lab.project.sql("SELECT count(*) FROM words WHERE w = 'a-b'").strip() == "1"


def build(lab: Lab, of: str, reference: str, *lines: str) -> None:
    """Build an image on one of ours, and give it the name ``reference``, which another one may have had."""
    images.build_on(of, lab.engine, lab.directory / "build", reference, *lines)


def another_build(lab: Lab, of: str, *lines: str) -> contextlib.AbstractContextManager[str]:
    """Build an image of the same major that is another one, and remove it at the end."""
    return images.derived(of, lab.engine, lab.directory / "build", *lines)
