# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tables tell of the versions that have run, beside what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Rung, Version
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.route import way_to
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.schema import schema_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

from .test_target import a_world, seen_in

NOTES = "https://example.org/notes"
LADDER = [
    Rung("v1.3.0", "columns", NOTES, awaits=("timelines.domain", "profiles.id")),
    Rung("v0.3", "reload", NOTES),
    Rung("v0.4", "query", NOTES, awaits=("associations.variant",)),
]
FIRST = {"associations.id", "messages.id"}
FOURTH = FIRST | {"associations.variant"}


@pytest.mark.parametrize(
    "columns, said",
    [
        (FIRST, "before v0.4"),
        (FOURTH, "v0.4 or later, before v1.3.0"),
        (FOURTH | {"timelines.domain"}, "v0.4 or later, before v1.3.0"),
        (FOURTH | {"timelines.domain", "profiles.id"}, "v1.3.0 or later"),
    ],
)
def test_a_column_tells_that_its_version_has_run(columns: set[str], said: str) -> None:
    assert str(schema_of(LADDER, columns)) == said


def test_a_ladder_that_awaits_nothing_tells_nothing() -> None:
    schema = schema_of([Rung("v0.3", "reload", NOTES)], FIRST)
    assert str(schema) == ""
    assert not schema.contradicts(Version(9, 0, 0))


@pytest.mark.parametrize(
    "source, where", [("git", "its checkout is v0.4.2"), ("tag", "the tag of its image is v0.4.2")]
)
def test_what_was_fetched_and_never_started_is_not_what_runs(source: str, where: str) -> None:
    seen = seen_in(Path("/c"), versions={source: "v0.4.2"}, columns=frozenset(FIRST))
    with pytest.raises(InvalidInput, match=r"lacks associations\.variant") as refused:
        way_to(a_world(), seen, "v1.2.0", LADDER, ())
    assert where in refused.value.msg
    assert refused.value.next_command.startswith("docker inspect")


def test_what_runs_and_says_so_itself_is_believed() -> None:
    seen = seen_in(Path("/c"), versions={"said": "v0.4.2", "git": "v0.4.2"}, columns=frozenset(FIRST))
    assert way_to(a_world(), seen, "v0.4.2", LADDER, ())["way"] == []


def test_who_says_nothing_is_told_what_its_tables_say() -> None:
    with pytest.raises(InvalidInput, match=r"those of v0\.4 or later, before v1\.3\.0"):
        way_to(a_world(), seen_in(Path("/c"), versions={}, columns=frozenset(FOURTH)), "v1.2.0", LADDER, ())
