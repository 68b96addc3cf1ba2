# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No version that has to be passed is ever skipped, and the ladder that ships is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    COLUMNS,
    QUERY,
    RELOAD,
    Rung,
    Version,
    below,
    described,
    rung_from,
    version_of,
    way,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.reload import counted_in
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import files, planner

ROOT = Path(__file__).resolve().parents[3]
LADDER = yaml.safe_load((ROOT / "roles/concurrent_migration/vars/ladder.yml").read_text())[
    "concurrent_migration_ladder"
]
SHIPPED = [rung_from(raw) for raw in LADDER]
RELEASED = [
    *("v0.2.4", "v0.2.5", "v0.3.0", "v0.3.2", "v0.3.10", "v0.4.0", "v0.4.1", "v0.5.0"),
    *("v1.0.0", "v1.2.0", "v1.3.0", "v1.3.2", "v1.3.3", "v1.3.4", "v1.4.0", "v1.4.1"),
]


def v(text: str) -> Version:
    found = version_of(text)
    assert found is not None
    return found


def rung(at: str, kind: str = COLUMNS) -> Rung:
    return rung_from({"at": at, "kind": kind})


def stops(current: str, wanted: str, ladder: Sequence[Rung], released: Sequence[str] = RELEASED) -> list[str]:
    return [str(stop.version) for stop in way(v(current), v(wanted), ladder, [v(each) for each in released])]


@pytest.mark.parametrize("text", ["v1.2.3", "1.2.3", " v1.2.3\n"])
def test_a_version_is_written_as_its_tag(text: str) -> None:
    assert str(v(text)) == "v1.2.3"


@pytest.mark.parametrize("text", ["", "v1.2", "1.2.3.4", "v1.2.3-rc1", "v1.2.3+1", "vv1.2.3", "latest", "v1.2.x"])
def test_anything_else_is_no_version(text: str) -> None:
    assert version_of(text) is None


@pytest.mark.parametrize(
    "text,version",
    [("v1.3.3-5-gabc1234", "v1.3.3"), ("1.3.3", "v1.3.3"), ("v1.3.3-rc1", "None"), ("latest", "None"), ("", "None")],
)
def test_what_git_describe_writes_is_at_least_the_tag_in_it(text: str, version: str) -> None:
    assert str(described(text)) == version


def test_versions_are_ordered_by_their_numbers() -> None:
    assert sorted(map(v, ["v1.10.0", "v1.9.0", "v0.10.2", "v0.10.10"])) == [
        *map(v, ["v0.10.2", "v0.10.10", "v1.9.0", "v1.10.0"]),
    ]


@pytest.mark.parametrize(
    "raw,words",
    [
        ({"kind": COLUMNS}, "'' is no version of the ladder"),
        ({"at": "v1", "kind": COLUMNS}, "'v1' is no version of the ladder"),
        ({"at": "v1.3.x", "kind": COLUMNS}, "'v1.3.x' is no version of the ladder"),
        ({"at": "v1.3.0-rc1", "kind": COLUMNS}, "'v1.3.0-rc1' is no version of the ladder"),
        ({"at": "v1.3.0"}, "The rung v1.3.0 is of no known kind: None."),
        ({"at": "v1.3", "kind": "dump"}, "The rung v1.3 is of no known kind: 'dump'."),
        ({"at": "v1.3", "kind": RELOAD, "kinds": [{"name": "a"}]}, "A kind of the rung v1.3 lacks 'dump'."),
        (
            {"at": "v1.3", "kind": RELOAD, "kinds": [{"name": "a", "dump": [], "load": [], "counts": [{"what": "a"}]}]},
            "A kind of the rung v1.3 lacks 'json'.",
        ),
    ],
)
def test_what_is_no_rung_is_told(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rung_from(raw)
    assert caught.value.msg.startswith(words)


def test_a_rung_is_a_version_or_a_series() -> None:
    exact, series = rung("v1.3.4"), rung("0.3")
    assert (exact.exact, exact.series, exact.key) == (v("v1.3.4"), (1, 3), (1, 3, 4))
    assert (series.exact, series.series, series.key) == (None, (0, 3), (0, 3, 0))


def test_where_the_wanted_version_runs_there_is_no_way_to_go() -> None:
    assert stops("v1.3.0", "v1.3.0", SHIPPED) == []
    assert stops("v0.3.0", "v0.3.0", [rung("v0.3")]) == []


def test_without_a_rung_between_them_it_is_one_step() -> None:
    (stop,) = way(v("v1.4.0"), v("v1.4.1"), SHIPPED, [])
    assert (str(stop.version), stop.rung.kind) == ("v1.4.1", COLUMNS)
    assert stop.as_dict()["notes"] == "https://github.com/totegamma/concurrent/releases/tag/v1.4.1"


@pytest.mark.parametrize("current", ["v1.4.1", "v1.10.0", "v2.0.0"])
def test_there_is_no_way_down(current: str) -> None:
    with pytest.raises(InvalidInput, match=f"v1.4.0 is older than {current}"):
        stops(current, "v1.4.0", SHIPPED)


def test_a_version_of_the_ladder_is_passed_at_that_very_one() -> None:
    ladder = [rung("v1.3.3"), rung("v1.3.0")]
    assert stops("v1.2.0", "v1.4.1", ladder) == ["v1.3.0", "v1.3.3", "v1.4.1"]
    assert stops("v1.2.0", "v1.3.2", ladder) == ["v1.3.0", "v1.3.2"]
    assert stops("v1.2.0", "v1.3.3", ladder) == ["v1.3.0", "v1.3.3"]
    assert stops("v1.3.0", "v1.4.0", ladder) == ["v1.3.3", "v1.4.0"]
    assert stops("v1.3.4", "v1.4.0", ladder) == ["v1.4.0"]


def test_of_a_series_the_newest_is_taken_that_is_not_newer_than_wanted() -> None:
    ladder = [rung("v0.3")]
    assert stops("v0.2.5", "v0.4.0", ladder) == ["v0.3.10", "v0.4.0"]
    assert stops("v0.2.5", "v0.3.2", ladder) == ["v0.3.2"]
    assert stops("v0.3.0", "v0.4.0", ladder) == ["v0.4.0"]
    assert stops("v0.2.4", "v0.2.5", ladder) == ["v0.2.5"]
    assert stops("v0.2.5", "v0.3.5", ladder) == ["v0.3.2", "v0.3.5"]


def test_a_series_does_not_lead_past_a_version_of_its_own() -> None:
    assert stops("v1.2.0", "v1.4.0", [rung("v1.3"), rung("v1.3.3")]) == ["v1.3.2", "v1.3.3", "v1.4.0"]


def test_what_has_to_be_passed_and_is_not_released_is_told() -> None:
    without = [each for each in RELEASED if each != "v1.3.3" and not each.startswith("v0.3.")]
    with pytest.raises(InvalidInput, match=r"v1\.3\.3 has to be passed through, and is not released here"):
        stops("v1.3.0", "v1.4.0", SHIPPED, without)
    with pytest.raises(InvalidInput, match=r"series v0\.3 has to be passed through"):
        stops("v0.2.5", "v0.4.0", SHIPPED, without)
    with pytest.raises(InvalidInput, match=r"series v0\.3 has to be passed through"):
        stops("v0.2.5", "v0.3.1", SHIPPED, ["v0.3.2"])


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_ladder_every_rung_is_passed_in_order(seed: int) -> None:
    chance = Random(seed)
    versions = [Version(0, minor, patch) for minor in range(4) for patch in range(4)]
    for _each in range(30):
        current, wanted = sorted(chance.sample(versions, 2))
        exact = chance.sample(versions, chance.randrange(4))
        series = [each for each in range(4) if each not in {one.minor for one in exact} and chance.random() < 0.4]
        ladder = [rung(str(each)) for each in exact] + [rung(f"v0.{each}") for each in series]
        chance.shuffle(ladder)
        found = way(current, wanted, ladder, versions)
        reached = [stop.version for stop in found]
        assert reached == sorted(set(reached))
        assert reached[-1] == wanted
        assert {each for each in exact if current < each <= wanted} <= set(reached)
        assert {each for each in series if current.minor < each <= wanted.minor} <= {each.minor for each in reached}
        by_rung = [stop.rung for stop in found if stop.rung in ladder]
        assert len(by_rung) >= len(found) - 1
        assert len({each.at for each in by_rung}) == len(by_rung)


def test_a_stop_says_all_that_the_step_to_it_needs() -> None:
    for stop in way(v("v0.2.5"), v("v1.4.0"), SHIPPED, [v(each) for each in RELEASED]):
        told = json.loads(json.dumps(stop.as_dict()))
        assert rung_from(told["rung"]) == stop.rung
        assert (told["version"], told["kind"], told["notes"]) == (str(stop.version), stop.rung.kind, stop.rung.notes)


def test_the_whole_way_of_the_ladder_that_ships() -> None:
    found = way(v("v0.2.5"), v("v1.4.0"), SHIPPED, [v(each) for each in RELEASED])
    assert [(str(stop.version), stop.rung.kind) for stop in found] == [
        ("v0.3.10", RELOAD),
        ("v0.4.1", QUERY),
        ("v1.3.0", COLUMNS),
        ("v1.3.3", COLUMNS),
        ("v1.4.0", COLUMNS),
    ]


def test_the_ladder_ends_before_what_it_does_not_know() -> None:
    ceiling = yaml.safe_load((ROOT / "roles/concurrent_migration/vars/ladder.yml").read_text())[
        "concurrent_migration_ceiling"
    ]
    versions = [v("v1.4.1"), v("v1.99.0"), v("v2.0.0"), v("v2.1.0")]
    assert below(ceiling, versions) == versions[:2]
    assert below("", versions) == versions
    with pytest.raises(InvalidInput, match="is no version"):
        below("v2", versions)


def test_the_ladder_that_ships_leads_upwards_and_every_rung_has_its_notes() -> None:
    assert [each.key for each in SHIPPED] == sorted({each.key for each in SHIPPED})
    assert [each.at for each in SHIPPED if not each.notes.startswith("https://")] == []


def test_every_rung_that_ships_has_what_its_kind_needs() -> None:
    for each in SHIPPED:
        assert bool(each.kinds) == (each.kind == RELOAD)
        assert bool(each.migrations) == (each.kind == QUERY)
        assert all(column.count(".") == 1 for column in each.awaits)
        for kind in each.kinds:
            assert bool(kind.words) == bool(kind.help) == ("{word}" in kind.dump)
            assert "{word}" not in kind.load
            assert [one.what for one in kind.counts if not (one.json and one.before and one.after)] == []


def test_the_migrations_that_ship_can_be_run_once_each() -> None:
    given = [dict(migration) for each in SHIPPED for migration in each.migrations]
    found = files.parse(*files.of_list(given))
    assert [planner.problems(migration) for migration in found] == [[]] * len(given)
    assert len({migration.number for migration in found}) == len(given) > 0


def test_the_paths_that_ship_count_a_dump(tmp_path: Path) -> None:
    association = {"id": "x"}
    messages = [{"associations": [association, association]}, {"associations": None}, {"associations": []}]
    entities = [
        {"id": "1", "messages": messages, "characters": [{"associations": [association]}]},
        {"id": "2", "messages": [], "characters": None},
    ]
    streams = [{"id": "s", "items": [{"id": str(each)} for each in range(4)]}, {"id": "t", "items": []}]
    (tmp_path / "entities.json").write_text(json.dumps({"entities": entities}))
    (tmp_path / "streams.json").write_text(json.dumps({"streams": streams}))
    (reloading,) = (each for each in SHIPPED if each.kind == RELOAD)
    found = {kind.name: counted_in(str(tmp_path / f"{kind.name}.json"), kind) for kind in reloading.kinds}
    assert found == {
        "entities": {"entities": 2, "messages": 3, "characters": 1, "associations": 3},
        "streams": {"streams": 2, "items": 4},
    }
