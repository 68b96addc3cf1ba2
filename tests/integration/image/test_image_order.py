# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real server says of the order of its indexes, and how it is brought to another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import refresh as refreshing
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.inventory import take_inventory
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.ordered import (
    from_text_indexes,
    partitioned_by_text,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.session import Session
from tests.integration import postgresql_lab
from tests.integration.postgresql_lab import Lab

MAJORS = [pytest.param("15"), *(pytest.param(major, marks=pytest.mark.faults) for major in ("13", "18"))]
LIKE_ICU = "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
MADE = f"""
    CREATE COLLATION public.loose {LIKE_ICU};
    CREATE TYPE public.pair AS (n int, w text);
    CREATE TYPE public.plain AS (n int, w text COLLATE "C");
    CREATE TYPE public.words AS RANGE (subtype = text);
    CREATE DOMAIN public.word AS text;
    CREATE DOMAIN public.pair_twice AS public.pair;
    CREATE TABLE public.t (
        id int, w text, c text COLLATE "C", j jsonb, p public.pair, b public.plain, a text[], aj jsonb[],
        ap public.pair[], r public.words, d public.word, dp public.pair_twice, l text COLLATE public.loose, f int8range
    );
    CREATE INDEX yes_jsonb ON public.t (j);
    CREATE INDEX yes_composite ON public.t (p);
    CREATE INDEX yes_array ON public.t (a);
    CREATE INDEX yes_array_of_jsonb ON public.t (aj);
    CREATE INDEX yes_array_of_composite ON public.t (ap);
    CREATE INDEX yes_range ON public.t USING gist (r);
    CREATE INDEX yes_domain ON public.t (d);
    CREATE INDEX yes_domain_over_composite ON public.t (dp);
    CREATE INDEX yes_predicate ON public.t (id) WHERE w > 'm';
    CREATE INDEX yes_rows ON public.t (id) WHERE ROW (w, id) > ROW ('m'::text, 1);
    CREATE INDEX yes_inside ON public.t ((CASE WHEN w < 'm' THEN 1 ELSE 2 END));
    CREATE INDEX yes_hash_of_loose ON public.t USING hash (l);
    CREATE INDEX no_number ON public.t (id);
    CREATE INDEX no_bytes ON public.t (c);
    CREATE INDEX no_hash ON public.t USING hash (w);
    CREATE INDEX no_gin ON public.t USING gin (j);
    CREATE INDEX no_composite_of_bytes ON public.t (b);
    CREATE INDEX no_range_of_numbers ON public.t (f);
    CREATE INDEX no_predicate ON public.t (id) WHERE c > 'm' COLLATE "C" AND id > 3;
    CREATE TABLE public.by_range (w text) PARTITION BY RANGE (w);
    CREATE TABLE public.by_json (j jsonb) PARTITION BY RANGE (j);
    CREATE TABLE public.by_loose (l text COLLATE public.loose) PARTITION BY HASH (l);
    CREATE TABLE public.by_hash (w text) PARTITION BY HASH (w);
    CREATE TABLE public.by_number (id int, w text) PARTITION BY RANGE (id)
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with postgresql_lab.lab(tmp_path) as made:
        yield made


def make(session: Session, statements: str) -> None:
    for statement in statements.split(";"):
        session.run(statement)


def names(session: Session, query: str) -> set[str]:
    return {name for (name,) in session.rows(query)}


@pytest.mark.matrix
@pytest.mark.parametrize("major", MAJORS)
def test_every_index_whose_order_is_a_librarys(lab: Lab, major: str) -> None:
    container = lab.start(major)
    with lab.session(container) as there:
        make(there, MADE)
        version = lab.observe(container).server_version_num
        found = names(there, f"SELECT r.relname {from_text_indexes(version, True)}")
        assert {name for name in found if not name.startswith("yes_")} == set()
        made = names(there, "SELECT relname FROM pg_class WHERE relname LIKE 'yes\\_%'")
        assert made - found == set()
        parted = names(there, f"SELECT p.partrelid::regclass::text {partitioned_by_text(version, True)}")
        assert parted == {"public.by_range", "public.by_json", "public.by_loose"}
        # By bytes, only what names another collation depends on a library.
        alone = names(there, f"SELECT r.relname {from_text_indexes(version, False)}")
        assert alone == {"yes_hash_of_loose"}
        inventory = take_inventory(there, lab.observe(container))
        assert inventory.text_indexes == len(made)
        rebuilt = refreshing.refresh(there, order_changed=True, updates=())
        assert rebuilt["indexes_rebuilt"] == len(made)


def test_who_holds_a_lock_is_told_after_a_while(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "LOCK_TIMEOUT", 0.2)
    container = lab.start("15")
    with lab.session(container) as there, lab.session(container) as other:
        there.run("CREATE TABLE public.t (w text PRIMARY KEY)")
        other.run("BEGIN")
        other.run("INSERT INTO public.t VALUES ('a')")
        with pytest.raises(StatefulError, match="idle in transaction"):
            refreshing.refresh(there, order_changed=True, updates=())
        other.run("ROLLBACK")
        assert refreshing.refresh(there, order_changed=True, updates=())["indexes_rebuilt"] == 1


def test_only_what_was_built_anew_is_noted_as_such(lab: Lab) -> None:
    """A database that nobody can look into keeps its warning, and so does every one whose indexes are as they were."""
    container = lab.start("15")
    recorded = "SELECT datname FROM pg_database WHERE datcollversion = '0.1'"
    with lab.session(container) as there:
        there.run("CREATE DATABASE shut")
        there.run("UPDATE pg_database SET datcollversion = '0.1' WHERE datname <> 'template0'")
        there.run("ALTER DATABASE shut ALLOW_CONNECTIONS false")
        before = names(there, recorded)
        refreshing.refresh(there, order_changed=False, updates=())
        assert names(there, recorded) == before >= {"postgres", "shut"}
        refreshing.refresh(there, order_changed=True, updates=())
        assert names(there, recorded) == {"shut"}
