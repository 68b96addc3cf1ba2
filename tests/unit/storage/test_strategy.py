# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way a move takes: every condition, in both directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import (
    ANONYMOUS,
    AUTO,
    CLONE,
    COPY,
    FILES,
    LAYER,
    NAMED,
    POSTGRESQL,
    REDIS,
    RENAME,
    REPLICA,
    STRATEGIES,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import (
    choose,
    conditions,
    downtime,
    space_needed,
)
from tests.unit.storage.findings import DATA, FACTS, GIB, a_move

ELSEWHERE = {RENAME: "another file system", CLONE: "another file system"}
NO_REFLINKS = {CLONE: "no reflinks"}


@pytest.mark.parametrize(
    "what, changes, possible",
    [
        ("Postgres that runs, everything allowed", {}, {RENAME, CLONE, REPLICA, COPY}),
        ("no reflinks", {"cannot": NO_REFLINKS}, {RENAME, REPLICA, COPY}),
        ("another file system", {"cannot": ELSEWHERE}, {REPLICA, COPY}),
        ("Postgres that does not run", {"running": False}, {RENAME, CLONE, COPY}),
        ("Redis", {"store": REDIS}, {RENAME, CLONE, COPY}),
        ("files", {"store": FILES, "facts": None}, {RENAME, CLONE, COPY}),
        ("a layer", {"kind": LAYER}, {CLONE, COPY}),
        ("a volume with options", {"kind": NAMED, "volume_options": {"o": "bind"}}, {REPLICA, COPY}),
        ("data outside of its mount", {"subpath": "../other"}, {CLONE, REPLICA, COPY}),
        ("18's layout, two levels below", {"subpath": "18/docker"}, {RENAME, CLONE, REPLICA, COPY}),
        ("something beside the data", {"subpath": "data", "beside": ("certificates",)}, {RENAME, CLONE, COPY}),
        ("no free wal sender", {"facts": replace(FACTS, against={REPLICA: "no sender"})}, {RENAME, CLONE, COPY}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_possible(what: str, changes: dict[str, Any], possible: set[str]) -> None:
    move = a_move(**changes)
    against = conditions(move)
    assert set(STRATEGIES) - set(against) == possible
    assert all(against.values()), "each with its reason"
    first = next(strategy for strategy in STRATEGIES if strategy in possible)
    assert choose(move, AUTO).strategy == first


def test_the_first_that_can_be_used_says_why_not_a_faster_one() -> None:
    choice = choose(a_move(cannot=ELSEWHERE, store=REDIS), AUTO)
    assert choice.strategy == COPY
    assert choice.reason == (
        "rename: another file system; clone: another file system; replica: a standby exists for Postgres only,"
        " and this is redis"
    )


def test_the_fastest_says_why_it_can_be_used() -> None:
    assert choose(a_move(), AUTO).reason == "both places are on one file system"


@pytest.mark.parametrize("wanted", STRATEGIES)
def test_one_that_is_named_is_taken_or_refused_and_never_another(wanted: str) -> None:
    assert choose(a_move(), wanted).strategy == wanted
    refused = choose(a_move(cannot={wanted: "the reason"}), wanted)
    assert refused.strategy == ""
    assert refused.reason == f"strategy {wanted} was asked for, but the reason"


def test_none_at_all_is_said() -> None:
    choice = choose(a_move(cannot=dict.fromkeys(STRATEGIES, "no")), AUTO)
    assert (choice.strategy, choice.reason) == ("", "no strategy can be used")
    assert set(choice.against) == set(STRATEGIES)


def test_the_hosts_reason_wins_over_a_general_one() -> None:
    assert conditions(a_move(store=REDIS, cannot={REPLICA: "special"}))[REPLICA] == "special"


@given(
    st.sampled_from([ANONYMOUS, NAMED, LAYER]),
    st.sampled_from([POSTGRESQL, REDIS, FILES]),
    st.booleans(),
    st.sets(st.sampled_from(STRATEGIES)),
)
def test_what_is_chosen_has_nothing_against_it(kind: str, store: str, running: bool, cannot: set[str]) -> None:
    move = a_move(kind=kind, store=store, running=running, cannot=dict.fromkeys(cannot, "no"))
    for wanted in (AUTO, *STRATEGIES):
        choice = choose(move, wanted)
        assert choice.strategy not in choice.against
        assert choice.strategy not in cannot
        assert choice.strategy in ("", wanted) or wanted == AUTO


@given(st.integers(0, 1000 * GIB), st.integers(0, 10**7))
def test_a_rename_costs_the_same_at_any_size_and_a_copy_never_less(size: int, files: int) -> None:
    data = replace(DATA, size_bytes=size, files=files)
    assert downtime(RENAME, data) == downtime(RENAME, DATA)
    assert downtime(RENAME, data) <= downtime(CLONE, data)
    assert downtime(RENAME, data) <= downtime(REPLICA, data)
    assert downtime(RENAME, data) < downtime(COPY, data)
    assert space_needed(RENAME, data) == 0
    assert space_needed(COPY, data) > size
    assert space_needed(REPLICA, data) > size
