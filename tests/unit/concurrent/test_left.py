# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever a dump does not have is named before, and is left behind only where somebody said that it may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import counting, left
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import Counted, Kind
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.fingerprint import STREAMS_NAMED
from tests.unit.concurrent.test_versions import SHIPPED

(RELOADING,) = (each for each in SHIPPED if each.kinds)
KNOWN = ("public.associations", "public.characters", "public.entities", "public.messages", "public.streams")


@dataclass
class Cluster:
    """A session that answers by the query; ``tables`` are rows by name, ``databases`` relations by name."""

    tables: Mapping[str, int] = field(default_factory=dict)
    databases: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    name: str = ""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        if query == counting.TABLES:
            return [(name, name) for name in self.tables]
        if query == left.OTHER_DATABASES:
            return [(name, relations >= 0) for name, relations in self.databases.items()]
        return self.answers.get(query, [])

    def scalar(self, query: str) -> int:
        return self.databases[self.name] if query == left.RELATIONS else self.tables[query.rpartition(" ")[2]]

    def sibling(self, database: str) -> Cluster:
        return Cluster(databases=self.databases, name=database)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_any: object) -> None:
        return None


def names(cluster: Cluster) -> list[str]:
    return [str(each) for each in left.left_behind(cluster, RELOADING.kinds)]  # type: ignore[arg-type]


def test_the_tables_that_are_counted_are_known() -> None:
    assert sorted(left.tables_of(RELOADING.kinds)) == sorted(KNOWN)
    counted = Counted("a", (), before="SELECT count(*) FROM own.A JOIN b USING (id)")
    assert left.tables_of([Kind("a", (), (), (counted,))]) == {"own.a", "public.b"}


def test_of_what_is_all_dumped_nothing_is_left() -> None:
    assert names(Cluster(dict.fromkeys(KNOWN, 5), {"postgres": 0})) == []


def test_what_no_count_names_is_left() -> None:
    cluster = Cluster(
        {**dict.fromkeys(KNOWN, 5), "public.domains": 12, "public.acks": 0, "own.entities": 1},
        {"postgres": 0, "wiki": 31, "shut": -1},
        {left.ROLES: [("reader",)], left.EXTENSIONS: [("pg_trgm",)], left.SETTINGS: [("work_mem",)]},
    )
    assert names(cluster) == [
        "table:public.domains (12 rows)",
        "table:own.entities (1 rows)",
        "extension:pg_trgm",
        "database:wiki (31 relations)",
        "database:shut (it lets nobody in)",
        "role:reader",
        "setting:work_mem",
    ]


@pytest.mark.parametrize(
    "accepted,blocked",
    [
        ((), "table:public.acks (3 rows), role:reader"),
        (("role:reader", "role:gone"), "table:public.acks (3 rows)"),
        (("table:public.acks", "role:reader"), ""),
    ],
)
def test_only_what_was_accepted_by_name_is_left_behind(accepted: tuple[str, ...], blocked: str) -> None:
    found = (left.Left("table:public.acks", "3 rows"), left.Left("role:reader"))
    texts = [each.text for each in left.refuse_unaccepted(found, RELOADING, accepted)]
    assert len(texts) == bool(blocked)
    assert all(f"the last copy of that: {blocked}. What is to be kept" in text for text in texts)


class Stores:
    """A host whose stores answer by the query, or hold streams by their names."""

    def __init__(self, answers: Mapping[str, int], streams: Mapping[str, int]) -> None:
        self.answers, self.streams = answers, streams

    def count(self, _host: object, query: str) -> int:
        return self.answers.get(query, 0)


@pytest.mark.parametrize("gone", ["messages", "associations", "characters"])
def test_what_belongs_to_nothing_is_named(monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    (query,) = (each.orphans for kind in RELOADING.kinds for each in kind.counts if each.what == gone)
    stores = Stores({query: 4}, {})
    monkeypatch.setattr(counting, "count", stores.count)
    kinds = [kind for kind in RELOADING.kinds if kind.name == "entities"]
    found = left.orphans_of(None, kinds)  # type: ignore[arg-type]
    assert [str(each) for each in found] == [f"orphans:{gone} (4 that belong to nothing that is there)"]
    assert left.refuse_unaccepted(found, RELOADING, [])
    assert not left.refuse_unaccepted(found, RELOADING, [f"orphans:{gone}"])


def test_items_of_a_stream_that_is_no_more_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (items,) = (each for kind in RELOADING.kinds for each in kind.counts if each.known)
    there = Cluster(answers={items.known: [("known",), ("empty",)]})
    there.as_application = lambda: there  # type: ignore[attr-defined]
    host: Any = SimpleNamespace(postgresql=lambda: there, redis=lambda: None)
    parts = [
        {"cursor": "7", "streams": [["known", 9], ["left over", 5]]},
        {"cursor": "0", "streams": [["other", 2], *([f"many {number}", 1] for number in range(STREAMS_NAMED))]},
    ]
    answers = iter(parts)

    def command(_session: object, *words: str) -> str:
        return "db0:keys=4,expires=0" if words[0] == "INFO" else json.dumps(next(answers))

    monkeypatch.setattr(counting.redis_fingerprint, "command", command)
    assert counting.count_orphans(host, items) == 7 + STREAMS_NAMED
