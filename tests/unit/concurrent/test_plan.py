# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps to a version: nobody is let in before what proves it, and every path is where the files are by then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    COLUMNS,
    QUERY,
    RELOAD,
    Rung,
    Site,
    Target,
    rung_from,
    version_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.planner import steps_of
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import (
    FINISH,
    PREPARE,
    Goal,
    Plan,
    Step,
)

MIGRATION = {"name": "04-a.sql", "content": "SELECT 1"}
RUNGS = {
    COLUMNS: rung_from({"at": "v1.3.0", "kind": COLUMNS}),
    QUERY: rung_from({"at": "v0.4", "kind": QUERY, "awaits": ["a.b"], "migrations": [MIGRATION]}),
    RELOAD: rung_from({"at": "v0.3", "kind": RELOAD, "kinds": []}),
}
WITH_CHECKOUT = Site(
    folder="/srv/c/docs",
    data="/srv/c/docs/data/db",
    redis="/srv/redis",
    containers=("one", "two"),
    database_image="sha256:1",
    images={"postgres:17": "sha256:1"},
    root="/srv/c",
    head="abc",
    branch="mine",
)
WITHOUT = replace(WITH_CHECKOUT, root="", head="", branch="")
STAYS = Target("/srv/c/docs", False, (), {}, {}, (), ())
MOVES = replace(STAYS, folder="/srv/c/_docs", moves=(("/srv/c/docs/data", "/srv/c/_docs/data"),))


def planned(
    rung: Rung, site: Site = WITH_CHECKOUT, target: Target = STAYS, *, backup: str = "auto"
) -> tuple[dict[str, Step], dict[str, str]]:
    version = version_of("v1.3.0")
    assert version is not None
    steps, aside = steps_of(
        site, target, rung, version, backup=backup, backup_path="/backups/o", dump="/backups/o-dump", operation="o"
    )
    Plan(Goal("concurrent_version", "c", {}), steps)  # refuses names that repeat, and phases out of order
    return {step.kind.partition("_")[2]: step for step in steps}, aside


STEPS = {
    COLUMNS: ["keep_images", "backup", "quiet", "copy_redis", "release", "start_api", "up"],
    QUERY: ["keep_images", "backup", "quiet", "copy_redis", "release", "start_api", "migrate", "up"],
    RELOAD: ["keep_images", "backup", "quiet", "release", "dump", "set_aside", "load", "up"],
}
PROVING = {COLUMNS: "start_api", QUERY: "migrate", RELOAD: "load"}


@pytest.mark.parametrize("kind", RUNGS)
def test_every_kind_has_its_steps_and_the_last_before_all_is_started_proves(kind: str) -> None:
    steps, _aside = planned(RUNGS[kind])
    assert list(steps) == STEPS[kind]
    assert [name for name, step in steps.items() if step.proves] == [PROVING[kind]] == STEPS[kind][-2:-1]
    assert steps["keep_images"].phase == steps["backup"].phase == PREPARE
    assert steps["up"].phase == FINISH
    assert steps["up"].args["version"] == "v1.3.0"


@pytest.mark.parametrize("kind", RUNGS)
def test_without_a_checkout_nothing_is_checked_out(kind: str) -> None:
    steps, _aside = planned(RUNGS[kind], WITHOUT)
    assert list(steps) == [name for name in STEPS[kind] if name != "release"]


@pytest.mark.parametrize("kind", RUNGS)
def test_without_a_backup_none_is_taken(kind: str) -> None:
    steps, _aside = planned(RUNGS[kind], backup="none")
    assert list(steps) == [name for name in STEPS[kind] if name not in ("backup", "copy_redis")]


def test_the_backup_is_of_the_kind_and_at_the_place_that_were_asked_for() -> None:
    steps, _aside = planned(RUNGS[COLUMNS], backup="physical")
    assert (steps["backup"].args["format"], steps["backup"].args["path"]) == ("physical", "/backups/o")


@pytest.mark.parametrize("merge", [True, False])
def test_the_checkout_knows_where_it_came_from(merge: bool) -> None:
    steps, _aside = planned(RUNGS[COLUMNS], target=replace(STAYS, merge=merge))
    before = {"root": "/srv/c", "head": "abc", "branch": "mine"}
    assert steps["release"].args == {**before, "release": "v1.3.0", "merge": merge}


def test_the_containers_of_before_are_those_that_have_to_be_gone() -> None:
    steps, _aside = planned(RUNGS[COLUMNS])
    assert steps["quiet"].args["containers"] == ["one", "two"]


def test_the_images_of_before_are_kept_first_and_get_their_names_back() -> None:
    steps, _aside = planned(RUNGS[COLUMNS])
    images = {"postgres:17": "sha256:1"}
    assert next(iter(steps)) == "keep_images"
    assert steps["keep_images"].args["images"] == steps["quiet"].args["images"] == images


@pytest.mark.parametrize("kind", RUNGS)
def test_what_git_does_not_know_moves_once_all_is_quiet_and_before_anything_starts(kind: str) -> None:
    steps, _aside = planned(RUNGS[kind], target=MOVES)
    before = STEPS[kind].index("release") + 1
    assert list(steps) == [*STEPS[kind][:before], "follow", *STEPS[kind][before:]]
    assert [tuple(move) for move in steps["follow"].args["moves"]] == list(MOVES.moves)


@pytest.mark.parametrize("kind", RUNGS)
def test_paths_are_the_old_ones_before_a_move_and_the_new_ones_after_it(kind: str) -> None:
    steps, aside = planned(RUNGS[kind], target=MOVES)

    def places(name: str) -> list[Any]:
        return [steps[name].args[each] for each in ("folder", "data") if each in steps[name].args]

    names = list(steps)
    for name in ("backup", "quiet"):
        assert places(name) == ["/srv/c/docs", "/srv/c/docs/data/db"]
    for name in names[names.index("follow") + 1 :]:
        assert places(name) == ["/srv/c/_docs", "/srv/c/_docs/data/db"]
        assert steps[name].args["redis"] == "/srv/redis"
    assert aside == {"data": "/srv/c/_docs/data/db.o", "redis": "/srv/redis.o"}


def test_only_what_is_moved_goes_elsewhere() -> None:
    site = replace(WITH_CHECKOUT, data="/srv/c/docs/data-of-db", redis="/srv/c/docs/data")
    steps, aside = planned(RUNGS[RELOAD], site, MOVES)
    assert (steps["load"].args["data"], steps["load"].args["redis"]) == ("/srv/c/docs/data-of-db", "/srv/c/_docs/data")
    assert aside == {"data": "/srv/c/docs/data-of-db.o", "redis": "/srv/c/_docs/data.o"}


def test_the_old_data_lies_beside_its_place() -> None:
    steps, aside = planned(RUNGS[RELOAD])
    assert aside == {"data": "/srv/c/docs/data/db.o", "redis": "/srv/redis.o"}
    for name in ("dump", "set_aside", "load"):
        assert steps[name].args["aside"] == aside
        assert steps[name].args["dump"] == "/backups/o-dump"
        assert steps[name].args["rung"] == RUNGS[RELOAD].raw


def test_images_are_named_in_the_folder_where_the_files_are_by_then() -> None:
    steps, _aside = planned(RUNGS[COLUMNS], target=replace(MOVES, images={"api": "a:1.3.0", "web": "w:1.3.0"}))
    assert list(steps) == [
        "keep_images",
        "backup",
        "quiet",
        "copy_redis",
        "release",
        "follow",
        "files",
        "start_api",
        "up",
    ]
    assert steps["files"].args["folder"] == "/srv/c/_docs"
    assert steps["files"].args["images"] == {"api": "a:1.3.0", "web": "w:1.3.0"}
    assert steps["files"].args["rewrite"] == "override"


def test_the_image_of_the_database_is_given_its_name_before_anything_stops() -> None:
    steps, _aside = planned(RUNGS[COLUMNS], target=replace(STAYS, images={"db": "postgres:17"}))
    assert list(steps)[:4] == ["keep_images", "backup", "name_image", "quiet"]
    assert steps["name_image"].args == {"image_id": "sha256:1", "reference": "postgres:17"}
    assert steps["name_image"].phase == PREPARE


def test_the_image_of_redis_is_given_its_name_too() -> None:
    site = replace(WITH_CHECKOUT, redis_image="sha256:2")
    steps, _aside = planned(RUNGS[COLUMNS], site, replace(STAYS, images={"redis": "redis:8"}))
    assert steps["name_image"].args == {"image_id": "sha256:2", "reference": "redis:8"}


def test_redis_is_copied_at_rest_where_no_reload_does_it_anyway() -> None:
    steps, _aside = planned(RUNGS[QUERY])
    assert steps["copy_redis"].args == {"redis": "/srv/redis", "path": "/backups/o-redis"}


def test_a_name_without_a_version_changes_its_meaning_once_all_is_quiet() -> None:
    names = {"tag": "host", "pull": "host:v1.3.0", "was": "sha256:1"}
    steps, _aside = planned(RUNGS[RELOAD], target=replace(STAYS, names=(names,)))
    assert list(steps)[:5] == ["keep_images", "backup", "quiet", "tag", "release"]
    assert steps["tag"].args == {"names": [names]}


def test_a_query_gets_its_columns_and_its_migrations() -> None:
    steps, _aside = planned(RUNGS[QUERY])
    assert steps["start_api"].args["awaits"] == ["a.b"]
    assert steps["migrate"].args["migrations"] == [MIGRATION]
    assert steps["migrate"].args["series"] == "concurrent"
