# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host's files become is told beforehand, and whatever would be lost or cannot be is in the way."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.config import parse_config
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.project import Project
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import images
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.journey import folder_of
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    COLUMNS,
    QUERY,
    RELOAD,
    Rung,
    Target,
    rung_from,
    version_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.naming import refuse_other_name
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import (
    VERSION_LABEL,
    Seen,
    find_folder,
    repository_of,
    tag_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.target import (
    blockers_of,
    target_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import EngineMount, Image
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import DONE, Goal, Plan
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mounts
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World
from tests.unit.concurrent.repositories import MOVED, NEXT, OLD, OURS, Repository
from tests.unit.postgresql.fakes import a_container

IMAGES = {"api": f"host:{OLD}", "db": "postgres:17", "redis": "redis:8"}


@dataclass
class Images:
    """An engine that has every image but some; ``told`` is the version that a label names, by reference or id."""

    without: tuple[str, ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    """By reference; of the stores all others are the one that runs."""

    def image(self, reference: str) -> Image | None:
        if reference in self.without:
            return None
        labels = {VERSION_LABEL: self.told[reference]} if reference in self.told else {}
        runs = "sha256:1" if "postgres" in reference or "redis" in reference else f"sha256:{reference}"
        return Image(self.ids.get(reference, runs), (), (), {}, (), "", "", "", labels)


def a_world(*without: str, told: Mapping[str, str] | None = None) -> World:
    return World(Images(without, told or {}), None, "concurrent", {})  # type: ignore[arg-type]


def seen_in(folder: Path, images: Mapping[str, str] | None = None, **changes: Any) -> Seen:
    """Return what a look at a host of the oldest release finds that runs from ``folder``."""
    services = {name: {"image": image} for name, image in (images or IMAGES).items()}
    config = parse_config({"name": "concurrent", "services": services})
    options = ProjectOptions(str(folder), project_name="concurrent")
    cli: Any = SimpleNamespace(options=options, environment={}, is_v1=False)
    project = Project("concurrent", str(folder), (), config, cli, {})
    known = Seen(
        project=project,
        folder=str(folder),
        checkout=None,
        head="",
        branch="",
        versions={"said": OLD},
        released=(),
        api=a_container(),
        db=a_container(image_ref="postgres:17"),
        data="",
        redis="",
        system_identifier="7",
        postgresql=17,
    )
    return replace(known, **changes)


def seen_at(repository: Repository, folder: str = "docs", **changes: Any) -> Seen:
    checkout = Checkout(str(repository.root))
    return seen_in(repository.root / folder, checkout=checkout, head=checkout.head, branch=checkout.branch, **changes)


def target(seen: Seen, version: str, *without: str, told: Mapping[str, str] | None = None) -> Target:
    wanted = version_of(version)
    assert wanted is not None
    return target_of(a_world(*without, told=told), seen, wanted)


def texts(blockers: tuple[Blocker, ...]) -> str:
    return "\n".join(blocker.text for blocker in blockers)


# -- without a checkout -------------------------------------------------------


@pytest.mark.parametrize(
    "images,ours",
    [
        ({"api": "host:v0.2.5"}, {"api": "host:v0.3.0"}),
        ({"api": "host:0.2.5"}, {"api": "host:0.3.0"}),
        ({"api": "localhost:5000/a/host:v0.2.5@sha256:1"}, {"api": "localhost:5000/a/host:v0.3.0"}),
        ({"api": "host:v0.2.5", "web": "web:v0.2.5"}, {"api": "host:v0.3.0", "web": "web:v0.3.0"}),
        ({"api": "host:latest"}, {}),
        ({"api": "localhost:5000/host"}, {}),
        ({"api": "host:v0.2.4", "other": "other:1.2.3"}, {"api": "host:v0.3.0"}),
        ({"api": "host:mine"}, {}),
    ],
    ids=str,
)
def test_images_of_the_version_that_runs_become_those_of_the_next(
    tmp_path: Path, images: dict[str, str], ours: dict[str, str]
) -> None:
    found = target(seen_in(tmp_path, {"db": "postgres:17", **images}), "v0.3.0")
    assert found.images == ours
    assert found.effective == {"db": "postgres:17", **images, **ours}
    assert (found.folder, found.merge, found.moves, found.blockers) == (str(tmp_path), False, (), ())


@pytest.mark.parametrize(
    "named,runs,major,pinned",
    [
        ("postgres:17", "postgres:17", 17, None),
        ("postgres:17.2-alpine", "postgres:17.1", 17, None),
        ("postgres:latest", "postgres:latest", 17, "postgres:17"),
        ("postgres", "postgres", 17, "postgres:17"),
        ("localhost:5000/postgres", "localhost:5000/postgres", 15, "localhost:5000/postgres:15"),
        ("postgres:18", "postgres:17.2-alpine", 17, "postgres:17.2-alpine"),
        ("postgres:170", "postgres:17", 17, "postgres:17"),
        ("postgres:alpine", "postgres:alpine", 17, "postgres:17-alpine"),
        ("postgres:18-alpine", "postgres:17-alpine", 17, "postgres:17-alpine"),
        ("postgres", "postgres@sha256:0", 17, "postgres:17"),
    ],
)
def test_the_database_keeps_the_major_of_its_data(
    tmp_path: Path, named: str, runs: str, major: int, pinned: str | None
) -> None:
    seen = seen_in(tmp_path, {**IMAGES, "db": named}, db=a_container(image_ref=runs), postgresql=major)
    found = target(seen, "v0.3.0")
    assert found.images.get("db") == pinned
    assert found.effective["db"] == (pinned or named)


@pytest.mark.parametrize(
    "named,runs,others,pinned",
    [
        ("postgres:15-bookworm", "postgres:15-alpine", ("postgres:15-bookworm",), "postgres:15-alpine"),
        ("postgres:15", "postgres:15", ("postgres:15",), "postgres:15-0123456789ab"),
        ("postgres:15", "postgres", ("postgres:15", "postgres"), "postgres:15-0123456789ab"),
        ("postgres:15", "postgres", (), ""),
        ("postgres:15@sha256:9", "postgres:15@sha256:9", (), ""),
        ("postgres:15@sha256:8", "postgres:15@sha256:9", ("postgres:15@sha256:8",), "postgres:15"),
    ],
)
def test_the_database_keeps_the_very_image_that_runs(
    named: str, runs: str, others: tuple[str, ...], pinned: str
) -> None:
    """Of the same major as well: under one name there have been several libcs, and another one sorts otherwise."""
    ran = "sha256:0123456789abcdef"
    ids = {each: "sha256:other" if each in others else ran for each in (named, runs, "postgres:15")}
    world = World(Images(ids=ids), None, "concurrent", {})  # type: ignore[arg-type]
    assert images.pinned(world, a_container(image_ref=runs, image_id=ran), named, 15) == pinned


def test_an_image_of_a_store_that_is_not_here_is_not_waited_for(tmp_path: Path) -> None:
    seen = seen_in(tmp_path, {**IMAGES, "db": "postgres:17.9"}, db=a_container(image_ref="postgres:17.1"))
    found = target(seen, "v0.3.0", "postgres:17.9")
    assert (found.images["db"], found.blockers) == ("postgres:17.1", ())


@pytest.mark.parametrize("named,pinned", [("redis:8", None), ("redis", "redis:8"), ("redis:7", "redis:8")])
def test_redis_keeps_the_image_that_runs_too(tmp_path: Path, named: str, pinned: str | None) -> None:
    server = a_container(image_ref="redis:8", image_id="sha256:1")
    seen = seen_in(tmp_path, {**IMAGES, "redis": named}, redis_server=server, redis_major=8)
    assert target(seen, "v0.3.0").images.get("redis") == pinned
    assert seen.site.redis_image == "sha256:1"


def test_an_image_that_the_engine_lacks_is_in_the_way_but_that_of_the_database(tmp_path: Path) -> None:
    seen = seen_in(tmp_path, {**IMAGES, "db": "postgres"})
    (blocker,) = target(seen, "v0.3.0", "host:v0.3.0", "postgres:17").blockers
    assert "host:v0.3.0 of api is not on this engine" in blocker.text
    assert blocker.command == "docker pull host:v0.3.0"


@pytest.mark.parametrize("reference", ["host:latest", "host"])
def test_a_name_without_a_version_is_to_mean_the_new_one_once_all_is_quiet(tmp_path: Path, reference: str) -> None:
    """Not before: a run that is blocked leaves it, and nobody's plain up starts the next version."""
    found = target(seen_in(tmp_path, {**IMAGES, "api": reference}), NEXT)
    names = {"tag": reference, "pull": f"host:{NEXT}", "was": f"sha256:{reference}"}
    assert (found.own, found.names, found.blockers) == (("api",), (names,), ())
    (blocker,) = target(seen_in(tmp_path, {**IMAGES, "api": reference}), NEXT, f"host:{NEXT}").blockers
    assert f"The image {reference} of api does not say its version, and {NEXT} is wanted" in blocker.text
    (other,) = target(seen_in(tmp_path, {**IMAGES, "api": reference}), NEXT, told={f"host:{NEXT}": "v9.9.9"}).blockers
    assert "does not say its version" in other.text


@pytest.mark.parametrize("reference", ["host:latest", "host", "host:stable"])
def test_a_tag_that_means_another_version_is_in_the_way(tmp_path: Path, reference: str) -> None:
    seen = seen_in(tmp_path, {**IMAGES, "api": reference})
    running = a_container(image_ref=reference)
    seen = replace(seen, project=replace(seen.project, containers={"api": (running,)}))
    told = {running.image_id: OLD, reference: OLD}
    (blocker,) = target(seen, NEXT, f"host:{NEXT}", told=told).blockers
    assert blocker == Blocker(
        f"The image {reference} of api is {OLD}, and {NEXT} is wanted: pull that one, and let {reference} mean it.",
        f"docker pull host:{NEXT}",
    )
    found = target(seen, NEXT, f"host:{NEXT}", told={**told, reference: NEXT})
    assert (found.own, found.images, found.blockers) == (("api",), {}, ())


def test_the_images_to_have_are_those_of_the_version_and_no_store(tmp_path: Path) -> None:
    wanted = version_of(NEXT)
    assert wanted is not None
    named = {"api": "host", "gateway": "gate:latest", "web": f"web:{NEXT}", "own": "own", "pin": "pin@sha256:0"}
    effective = {"db": "postgres:17", "redis": "redis:8", "built": "", **named}
    found = replace(NOTHING, effective=effective, own=("api", "gateway", "web", "pin"))
    assert {each["tag"]: each["pull"] for each in images.images_to_have(found, wanted)} == {
        "host": f"host:{NEXT}",
        "gate:latest": f"gate:{NEXT}",
        f"web:{NEXT}": f"web:{NEXT}",
        "own": "own",
        "pin@sha256:0": "pin@sha256:0",
    }


# -- with one -----------------------------------------------------------------


def test_a_release_brings_its_own_images(repository: Repository) -> None:
    found = target(seen_at(repository), NEXT)
    assert (found.images["db"], found.effective["api"]) == ("postgres:17", f"host:{NEXT}")
    assert "api" not in found.images
    assert (found.folder, found.merge, found.moves, found.blockers) == (str(repository.root / "docs"), False, (), ())


def test_a_release_that_was_not_fetched_is_told_with_how_it_is(repository: Repository) -> None:
    (blocker,) = target(seen_at(repository), "v0.9.9").blockers
    assert blocker == Blocker(
        f"The checkout in {repository.root} has no tag v0.9.9.", f"git -C {repository.root} fetch --tags"
    )


def test_a_change_that_the_release_would_overwrite_is_in_the_way(repository: Repository) -> None:
    repository.write("docs/config.yaml", "a: mine\n")
    assert target(seen_at(repository), NEXT).blockers == ()
    repository.write("README.md", "mine\n")
    repository.write("docs/compose.yml", OURS)
    (blocker,) = target(seen_at(repository), NEXT).blockers
    assert blocker.text.startswith("README.md, docs/compose.yml in ")
    assert "was changed here and is not committed" in blocker.text


def test_a_change_in_a_file_that_the_release_has_elsewhere_is_in_the_way(repository: Repository) -> None:
    repository.write("docs/config.yaml", "a: mine\n")
    (blocker,) = target(seen_at(repository), MOVED).blockers
    assert blocker.text.startswith("docs/config.yaml in ")


def test_a_branch_of_ones_own_is_merged(repository: Repository) -> None:
    repository.git("checkout", "-q", "mine")
    found = target(seen_at(repository), NEXT)
    assert (found.merge, found.blockers) == (True, ())
    assert (found.effective["api"], found.effective["own"]) == (f"host:{NEXT}", "own"), "as they are once merged"


def test_a_branch_that_only_follows_is_left_for_the_release(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "main")
    assert not target(seen_at(repository), NEXT).merge


def test_a_conflict_with_ones_own_branch_is_in_the_way(repository: Repository) -> None:
    repository.git("checkout", "-q", "mine")
    repository.commit("docs/compose.yml", OURS.replace(OLD, "mine"))
    (blocker,) = target(seen_at(repository), NEXT).blockers
    assert blocker.text.startswith(f"Your branch mine and {NEXT} are in conflict in docs/compose.yml:")


def test_own_commits_on_no_branch_are_not_left_behind(repository: Repository) -> None:
    repository.git("checkout", "-q", "--detach", "mine")
    (blocker,) = target(seen_at(repository), NEXT).blockers
    assert "has commits of yours that are on no branch" in blocker.text
    assert blocker.command == f"git -C {repository.root} switch -c ours"


def test_a_release_without_a_compose_file_is_told(repository: Repository) -> None:
    repository.git("rm", "-q", "docs/compose.yml")
    repository.git("commit", "-q", "-m", "none")
    repository.git("tag", "v0.9.9")
    repository.git("checkout", "-q", OLD)
    assert "v0.9.9 has no compose file in docs or docs or _docs" in texts(
        target(seen_at(repository), "v0.9.9").blockers
    )


def test_what_git_does_not_know_goes_where_the_compose_file_goes(repository: Repository) -> None:
    for name in ("data/db/PG_VERSION", "redis/dump.rdb", ".env", "sub/own.yml", "compose.override.yml"):
        repository.write(f"docs/{name}", "")
    repository.write("elsewhere/own", "")
    found = target(seen_at(repository), MOVED)
    old, new = repository.root / "docs", repository.root / "_docs"
    names = (".env", "compose.override.yml", "data", "redis", "sub")
    assert found.folder == str(new)
    assert found.moves == tuple((str(old / name), str(new / name)) for name in names)
    assert found.blockers == ()


@pytest.mark.parametrize("name", ["_docs/data/x", "_docs/data"])
def test_what_is_where_something_goes_is_in_the_way(repository: Repository, name: str) -> None:
    repository.write("docs/data/db/PG_VERSION", "")
    repository.write(name, "")
    (blocker,) = target(seen_at(repository), MOVED).blockers
    assert blocker.text.startswith(f"{repository.root}/_docs/data is in the way of {repository.root}/docs/data,")


def test_what_the_release_brings_where_something_goes_is_in_the_way(repository: Repository) -> None:
    release(repository, "_docs/compose.yml", "services: {}\n", "_docs/etc/example", "docs/compose.yml")
    repository.write("docs/etc/own", "")
    (blocker,) = target(seen_at(repository), "v0.9.9").blockers
    assert blocker.text.startswith(f"{repository.root}/_docs/etc is in the way of {repository.root}/docs/etc,")


# -- where the stores are -----------------------------------------------------

MOUNTING = "services:\n  api:\n    image: host:v0.9.9\n  db:\n    image: postgres:17\n    volumes: [{}]\n"


def release(repository: Repository, name: str, content: str, added: str = "", removed: str = "") -> None:
    """Add a release v0.9.9 that has a file, and go back to where the checkout was."""
    if removed:
        repository.git("rm", "-q", removed)
    if added:
        repository.commit(added, "")
    repository.commit(name, content)
    repository.git("tag", "v0.9.9")
    repository.git("checkout", "-q", "--detach", OLD)


def mounted(repository: Repository, volume: str, data: str = "docs/data/db", folder: str = "docs") -> str:
    removed = "" if folder == "docs" else "docs/compose.yml"
    release(repository, f"{folder}/compose.yml", MOUNTING.format(volume), removed=removed)
    repository.write(f"{data}/PG_VERSION", "")
    return texts(target(seen_at(repository, data=str(repository.root / data)), "v0.9.9").blockers)


@pytest.mark.parametrize(
    "volume",
    [
        '"./data/db:/var/lib/postgresql/data"',
        '"./data:/var/lib/postgresql:rw"',
        '{"type": "bind", "source": "./data/db", "target": "/var/lib/postgresql/data"}',
        '"../other:/docker-entrypoint-initdb.d", "./data/db/:/var/lib/postgresql/data"',
        '"${DATA}:/var/lib/postgresql/data"',
        '"./${DATA}:/var/lib/postgresql/data"',
    ],
)
@pytest.mark.parametrize("folder", ["docs", "_docs"])
def test_a_store_that_stays_where_its_data_is_or_goes_with_it_is_none(
    repository: Repository, volume: str, folder: str
) -> None:
    assert mounted(repository, volume, folder=folder) == ""


@pytest.mark.parametrize("volume", ['"named:/var/lib/postgresql/data"', '"/var/lib/postgresql/data"', ""])
def test_a_release_without_a_directory_for_a_store_is_in_the_way(repository: Repository, volume: str) -> None:
    assert "mounts no directory of the host into db" in mounted(repository, volume)


@pytest.mark.parametrize("folder", ["docs", "_docs"])
def test_a_store_that_would_start_empty_is_in_the_way(repository: Repository, folder: str) -> None:
    found = mounted(repository, '"./data/database:/var/lib/postgresql/data"', folder=folder)
    goal = repository.root / folder / "data"
    assert found.startswith(f"The release mounts {goal}/database into db, and the data is in {goal}/db: it would start")


def test_a_mount_of_ones_own_in_an_override_file_keeps_the_data(repository: Repository) -> None:
    own = "services:\n  db:\n    volumes: [../rows:/var/lib/postgresql/data]\n"
    repository.write("docs/compose.override.yml", own)
    assert mounted(repository, '"./data/db:/var/lib/postgresql/data"', "rows") == ""


def test_where_the_folder_stays_nothing_moves(repository: Repository) -> None:
    repository.write("docs/data/db/PG_VERSION", "")
    assert target(seen_at(repository), NEXT).moves == ()


def test_an_override_of_ones_own_says_what_runs(repository: Repository) -> None:
    own = "services:\n  api:\n    image: own:{}\n  db:\n    image: postgres:17\n  web:\n"
    repository.write("docs/compose.override.yml", own.format("mine"))
    found = target(seen_at(repository), NEXT)
    assert (found.images, found.effective["api"]) == ({}, "own:mine")
    repository.write("docs/compose.override.yml", own.format(OLD))
    pinned = target(seen_at(repository, images={**IMAGES, "api": f"own:{OLD}"}), NEXT)
    assert pinned.images == {"api": f"own:{NEXT}"}


def test_an_override_of_nothing_overrides_nothing(repository: Repository) -> None:
    repository.write("docs/compose.override.yml", "# nothing yet\n")
    assert target(seen_at(repository), NEXT).effective["api"] == f"host:{NEXT}"


def test_what_is_ignored_and_comes_with_the_release_is_in_the_way(repository: Repository) -> None:
    repository.release("v0.3.1", "docs/data", "theirs\n")
    assert target(seen_at(repository), "v0.3.1").blockers == ()
    repository.write("docs/data", "mine\n")
    (blocker,) = target(seen_at(repository), "v0.3.1").blockers
    assert blocker.text.startswith(f"docs/data in {repository.root} is unknown to git, and v0.3.1 has")


@pytest.mark.parametrize(
    "project,v1,env,dotenv,there",
    [
        ("docs", False, {}, None, ""),
        ("docs", True, {}, None, "_docs"),
        ("docs", True, {"COMPOSE_PROJECT_NAME": "docs"}, None, ""),
        ("docs", True, {}, "COMPOSE_PROJECT_NAME=docs\n", ""),
        ("mine", False, {}, "COMPOSE_PROJECT_NAME=mine\n", ""),
        ("mine", False, {}, None, "docs"),
        ("mine", False, {}, "A=b\n", "docs"),
    ],
)
def test_a_folder_that_gives_the_project_another_name_is_in_the_way(
    repository: Repository, project: str, v1: bool, env: dict[str, str], dotenv: str | None, there: str
) -> None:
    if dotenv is not None:
        repository.write("docs/.env", dotenv)
    seen = seen_at(repository)
    cli: Any = SimpleNamespace(options=ProjectOptions(seen.folder), environment=env, is_v1=v1)
    found = target(replace(seen, project=replace(seen.project, name=project, compose=cli)), MOVED).blockers
    assert bool(found) == bool(there)
    if there:
        (blocker,) = found
        assert f"compose would call the project {there}, and it is called {project}" in blocker.text
        repository.write("docs/.env", "PASSWORD=a")
        subprocess.run(["sh", "-c", blocker.command], check=True)
        assert repository.read("docs/.env").split() == ["PASSWORD=a", f"COMPOSE_PROJECT_NAME={project}"]


@pytest.mark.parametrize("name", ["mine", "${OWN:-mine}", "mi${REST}"])
@pytest.mark.parametrize("v1", [False, True])
def test_a_name_that_the_override_file_gives_goes_along(repository: Repository, name: str, v1: bool) -> None:
    repository.write("docs/compose.override.yml", f"name: {name}\n")
    repository.write("docs/.env", "REST=ne\n")
    seen = seen_at(repository)
    cli: Any = SimpleNamespace(options=ProjectOptions(seen.folder), environment={}, is_v1=v1)
    found = target(replace(seen, project=replace(seen.project, name="mine", compose=cli)), MOVED).blockers
    assert bool(found) == v1, "which knows no names in files"


@pytest.mark.parametrize("project,refused", [("docs", True), ("_docs", False)])
def test_data_that_another_project_serves_gets_no_second_one(tmp_path: Path, project: str, refused: bool) -> None:
    labels = {"com.docker.compose.project": project, "com.docker.compose.service": "db"}
    mount = EngineMount("bind", str(tmp_path / "_composeData/db"), "/var/lib/postgresql/data", rw=True)
    serving = a_container(name="docs_db_1", labels=labels, mounts=(mount,))
    world: Any = SimpleNamespace(engine=SimpleNamespace(containers=lambda labels: [serving]))
    if refused:
        with pytest.raises(InvalidInput, match=r"docs_db_1 serves the data in .* as part of the project docs"):
            refuse_other_name(world, "_docs", str(tmp_path))
    refuse_other_name(world, project, str(tmp_path))
    refuse_other_name(world, "_docs", str(tmp_path / "else"))


# -- what is in the way of a whole change -------------------------------------

NOTHING = Target("", False, (), {}, {}, (), ())
WAY = {
    COLUMNS: rung_from({"at": "v0.3.0", "kind": COLUMNS}),
    QUERY: rung_from({"at": "v0.3.0", "kind": QUERY, "migrations": [{"name": "01-a.sql"}]}),
    RELOAD: rung_from({"at": "v0.3.0", "kind": RELOAD, "kinds": [{"name": "a", "dump": [], "load": [], "counts": []}]}),
}


def in_the_way(seen: Seen, rung: Rung = WAY[COLUMNS], of: Target = NOTHING) -> list[str]:
    wanted = version_of("v0.3.0")
    assert wanted is not None
    return [blocker.text for blocker in blockers_of(seen, of, rung, wanted)]


@pytest.fixture
def at_rest(tmp_path: Path) -> Seen:
    for name in ("db", "redis"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 100_000)
    return seen_in(tmp_path, data=str(tmp_path / "db"), redis=str(tmp_path / "redis"))


@pytest.mark.parametrize("kind", WAY)
def test_nothing_is_in_the_way_of_what_can_be(at_rest: Seen, kind: str) -> None:
    assert in_the_way(at_rest, WAY[kind]) == []


def test_everything_in_the_way_is_told_at_once(at_rest: Seen) -> None:
    seen = replace(at_rest, blockers=(Blocker("one"),))
    assert in_the_way(seen, of=replace(NOTHING, blockers=(Blocker("two"),))) == ["one", "two"]


def test_a_version_that_cannot_be_told_is_told_with_what_was_read(at_rest: Seen) -> None:
    (text,) = in_the_way(replace(at_rest, versions={"tag": "latest"}))
    assert "Which version runs here cannot be told" in text
    assert "(tag: latest)" in text
    assert "(nothing)" in in_the_way(replace(at_rest, versions={}))[0]


def test_two_that_name_different_versions_are_not_believed(at_rest: Seen) -> None:
    assert in_the_way(replace(at_rest, versions={"said": "v0.2.5", "label": "v0.2.4"})) == [
        "The api says that it is v0.2.5, and its image is labelled v0.2.4.",
    ]
    assert in_the_way(replace(at_rest, versions={"said": "0.2.5", "label": "v0.2.5", "tag": "v0.1.0"})) == []


def test_a_directory_that_is_not_there_is_in_the_way(at_rest: Seen) -> None:
    os.rename(at_rest.redis, at_rest.redis + ".gone")
    assert in_the_way(at_rest) == [f"{at_rest.redis} is no directory."]


@pytest.mark.parametrize(
    "rung,words",
    [
        (rung_from({"at": "v0.3", "kind": RELOAD}), "The rung v0.3 reloads everything and says nothing of how."),
        (rung_from({"at": "v0.4", "kind": QUERY}), "The rung v0.4 runs a migration and has none."),
    ],
)
def test_a_rung_without_what_its_kind_needs_is_in_the_way(at_rest: Seen, rung: Rung, words: str) -> None:
    assert in_the_way(at_rest, rung) == [words]


def test_a_reload_needs_room_for_everything_twice(at_rest: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    real = mounts.filesystem_of

    def with_free(free: int) -> list[str]:
        monkeypatch.setattr(mounts, "filesystem_of", lambda path: replace(real(path), bytes_free=free))
        return in_the_way(at_rest, WAY[RELOAD])

    assert with_free(600_000) == []
    (text,) = with_free(300_000)
    assert "bytes for what lies there until the reload is committed" in text
    assert in_the_way(at_rest, WAY[COLUMNS]) == []


def test_a_reload_needs_room_where_the_dump_goes_too(at_rest: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data's file system had room, the one of the backups ran full, and then the stores could not stop."""
    real = mounts.filesystem_of

    def two(path: str) -> mounts.FileSystem:
        elsewhere = path.endswith("/backups")
        place, free = ("/backups", 150_000) if elsewhere else ("/data", 600_000)
        return replace(real(path), mount_point=place, bytes_free=free)

    monkeypatch.setattr(mounts, "filesystem_of", two)
    backups = Path(at_rest.data).parent / "backups"
    backups.mkdir()
    wanted = version_of("v0.3.0")
    assert wanted is not None
    (blocker,) = blockers_of(at_rest, NOTHING, WAY[RELOAD], wanted, str(backups))
    assert blocker.text.startswith("/backups lacks ")
    assert blocker.command == "df -h /backups"


def test_who_was_not_running_before_is_known(tmp_path: Path) -> None:
    seen = seen_in(tmp_path)
    containers = {
        "api": (a_container(),),
        "sidecar": (a_container(status="restarting"),),
        "once": (a_container(status="exited", pid=0, exit_code=0),),
        "broken": (a_container(status="exited", pid=0, exit_code=1),),
    }
    assert replace(seen, project=replace(seen.project, containers=containers)).ailing == ("broken", "sidecar")


# -- what was seen ------------------------------------------------------------


@pytest.mark.parametrize(
    "versions,expected",
    [
        ({"said": "v1.2.3", "label": "v1.2.4", "tag": "v1.2.5", "git": "v1.2.6"}, "v1.2.3"),
        ({"label": "1.2.4", "tag": "v1.2.5", "git": "v1.2.6"}, "v1.2.4"),
        ({"said": "unknown", "label": "main", "tag": "1.2.5", "git": "v1.2.6"}, "v1.2.5"),
        ({"tag": "latest", "git": "v1.2.6"}, "v1.2.6"),
        ({"said": "v1.3.3-5-gabc1234", "label": "v1.3.0", "git": "v1.3.0"}, "v1.3.3"),
        ({"said": "v1.3.0-rc1", "label": "v1.2.4", "tag": "v1.2.4"}, "None"),
        ({"label": "1.4.0-beta", "git": "v1.2.6"}, "None"),
        ({"tag": "latest"}, "None"),
    ],
)
def test_the_version_is_read_from_the_nearest_source_that_has_one(versions: dict[str, str], expected: str) -> None:
    assert str(seen_in(Path("/c"), versions=versions).version) == expected


@pytest.mark.parametrize(
    "reference,repository,tag",
    [
        ("postgres", "postgres", ""),
        ("postgres:17", "postgres", "17"),
        ("localhost:5000/a/b", "localhost:5000/a/b", ""),
        ("localhost:5000/a/b:v1", "localhost:5000/a/b", "v1"),
        ("ghcr.io/a/b:v1@sha256:0", "ghcr.io/a/b", "v1"),
        ("b@sha256:0", "b", ""),
        ("", "", ""),
    ],
)
def test_a_reference_has_a_repository_and_a_tag(reference: str, repository: str, tag: str) -> None:
    assert (repository_of(reference), tag_of(reference)) == (repository, tag)


@pytest.mark.parametrize("given", ["", "docs", "_docs"])
@pytest.mark.parametrize("there", ["docs/compose.yml", "_docs/docker-compose.yaml"])
def test_the_compose_file_is_found_from_the_checkout_and_from_either_folder(
    tmp_path: Path, given: str, there: str
) -> None:
    for folder in ("docs", "_docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / there).touch()
    assert find_folder(str(tmp_path / given)) == str((tmp_path / there).parent)


def test_a_folder_without_a_compose_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="There is no compose file in"):
        find_folder(str(tmp_path))


@pytest.mark.parametrize("given", ["", "docs", "_docs"])
def test_where_git_was_killed_between_the_folders_the_run_that_is_open_knows_its_own(
    tmp_path: Path, given: str
) -> None:
    root, store = tmp_path / "concurrent", OperationStore(str(tmp_path / "operations"))
    root.mkdir()
    folder = str(root / "docs")
    facts = {"place": str(root), "compose": {"project_src": folder}}
    operation = store.begin(Plan(Goal("concurrent_version", "p", {}), (), facts=facts))
    assert folder_of(str(root / given), store) == folder
    with pytest.raises(InvalidInput, match="There is no compose file in"):
        folder_of(str(tmp_path / "another"), store)
    operation.journal.state(DONE)
    with pytest.raises(InvalidInput, match="There is no compose file in"):
        folder_of(str(root / given), store)
