# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of two fingerprints, and how one survives a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._earlier import earlier
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint import model
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.compare import (
    Coverage,
    compare,
    coverage,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.model import (
    Database,
    Fingerprint,
    Role,
    Sequence,
    Table,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.fingerprint.take import databases_to_skip

APP = Database(
    properties={"encoding": "UTF8"},
    objects={
        "table public.t": {
            "definition": "",
            "column id": "bigint",
            "column x": "text",
            "index t_x": "btree x text_ops",
        },
        "materialized view public.m": {"definition": "", "column n": "bigint"},
        "view public.v": {"definition": "", "column id": "bigint"},
    },
    grants={"table public.t": {"owner app": "SELECT, UPDATE", "grant to readers": "SELECT, UPDATE"}},
    tables={
        "public.t": Table(5, True, "aa"),
        "public.m": Table(3, True, "bb", kind=model.MATERIALIZED_VIEW),
        "public.of_gis": Table(9, True, "cc", extension="postgis"),
        "public.guessed": Table(70, False),
    },
    sequences={
        "public.up": Sequence(10, True),
        "public.down": Sequence(-10, True, increment=-1),
        "public.round": Sequence(10, True, cycles=True),
        "public.fresh": Sequence(1, False),
    },
    extensions={"postgis": "3.4", "plpgsql": "1.0"},
    large_objects=Table(2, True, "dd"),
)
BEFORE = Fingerprint(
    server_version_num=130012,
    taken_at="2026-01-01T00:00:00+00:00",
    databases={"app": APP},
    skipped={"template0": "does not allow connections"},
    roles={"app": Role(("login", "createdb"), password="md5"), "readers": Role()},
    memberships={"app in readers": "admin, member"},
    settings={"work_mem of role app": "1234"},
    grants={"tablespace fast": {"owner app": "CREATE"}},
)


def having(**changes: Any) -> Fingerprint:
    """Return the fingerprint with fields of its database changed, as a newer major takes it."""
    return replace(BEFORE, server_version_num=180000, databases={"app": replace(APP, **changes)})


def table(name: str, **changes: Any) -> Fingerprint:
    return having(tables={**APP.tables, name: replace(APP.tables[name], **changes)})


def sequence(name: str, **changes: Any) -> Fingerprint:
    return having(sequences={**APP.sequences, name: replace(APP.sequences[name], **changes)})


def part(name: str, **parts: str) -> Fingerprint:
    return having(
        objects={
            **APP.objects,
            name: {**APP.objects[name], **{key.replace("_", " "): value for key, value in parts.items()}},
        }
    )


def without(mapping: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def role(**changes: Any) -> Fingerprint:
    return replace(BEFORE, roles={**BEFORE.roles, "app": replace(BEFORE.roles["app"], **changes)})


T = "table public.t"
MOVED = {**APP.extensions, "postgis": "3.5"}
LOST, DIFFERENT = True, False


@pytest.mark.parametrize("after, said", [
    (having(), []),
    # Rows and contents.
    (table("public.t", rows=4), [("app: public.t has 4 rows, 5 before", LOST)]),
    (table("public.t", rows=6, content="zz"), [("app: public.t has 6 rows, 5 before", DIFFERENT)]),
    (table("public.t", content="zz"), [("app: public.t holds other content", LOST)]),
    (table("public.t", content=""), []),
    (table("public.t", rows=1, exact=False, content=""), []),
    (table("public.guessed", rows=1, exact=True), []),
    (table("public.m", rows=2), [("app: public.m has 2 rows, 3 before", DIFFERENT)]),
    (table("public.m", content="zz"), [("app: public.m holds other content", DIFFERENT)]),
    (table("public.of_gis", rows=8), [("app: public.of_gis has 8 rows, 9 before", LOST)]),
    (having(large_objects=Table(1, True, "zz")), [("app: (large objects) has 1 rows, 2 before", LOST)]),
    (having(large_objects=Table(2, True, "zz")), [("app: (large objects) hold other content", LOST)]),
    # Another version of an extension comes with its own tables.
    (having(extensions=MOVED), [("app: extension postgis is 3.5, 3.4 before", DIFFERENT)]),
    (having(extensions=MOVED, tables={**APP.tables, "public.of_gis": Table(8, True, "zz", extension="postgis")}),
     [("app: extension postgis is 3.5, 3.4 before", DIFFERENT),
      ("app: public.of_gis has 8 rows, 9 before", DIFFERENT)]),
    (having(extensions=MOVED, tables=without(APP.tables, "public.of_gis")),
     [("app: extension postgis is 3.5, 3.4 before", DIFFERENT),
      ("app: public.of_gis is missing (9 rows before)", DIFFERENT)]),
    (having(extensions={"plpgsql": "1.0"}), [("app: extension postgis is missing", LOST)]),
    # What is missing is told once, with all that it consisted of.
    (having(tables=without(APP.tables, "public.t"), objects=without(APP.objects, T), grants={}),
     [("app: public.t is missing (5 rows before)", LOST)]),
    (having(tables=without(APP.tables, "public.m"), objects=without(APP.objects, "materialized view public.m")),
     [("app: public.m is missing (3 rows before)", LOST)]),
    (having(objects=without(APP.objects, "view public.v")), [("app: view public.v is missing", LOST)]),
    (having(tables={**APP.tables, "public.new": Table(0, True)}, objects={**APP.objects, "table public.new": {}}),
     [("app: public.new is new", DIFFERENT)]),
    # The schema names the part.
    (part(T, column_x="integer"), [("app: column x of table public.t is integer, text before", DIFFERENT)]),
    (part(T, definition="unlogged"), [("app: table public.t is unlogged, (nothing) before", DIFFERENT)]),
    (part(T, column_y="text"), [("app: column y of table public.t is new", DIFFERENT)]),
    (having(objects={**APP.objects, T: without(APP.objects[T], "column x")}),
     [("app: column x of table public.t is missing", LOST)]),
    # Indexes.
    (having(objects={**APP.objects, T: without(APP.objects[T], "index t_x")}),
     [("app: index t_x of table public.t is missing", LOST)]),
    (having(objects={**APP.objects, T: without(APP.objects[T], "index t_x")},
            invalid_indexes=("index t_x of table public.t",)),
     [("app: index t_x of table public.t is invalid", LOST)]),
    (having(invalid_indexes=("index t_y of table public.t",)),
     [("app: index t_y of table public.t is invalid", DIFFERENT)]),
    # Sequences.
    (sequence("public.up", last_value=9), [("app: sequence public.up is set back: next is 10, 11 before", LOST)]),
    (sequence("public.up", called=False), [("app: sequence public.up is set back: next is 10, 11 before", LOST)]),
    (sequence("public.up", last_value=42), [("app: sequence public.up is ahead: next is 43, 11 before", DIFFERENT)]),
    (sequence("public.up", last_value=11, called=False), []),
    (sequence("public.down", last_value=-9),
     [("app: sequence public.down is set back: next is -10, -11 before", LOST)]),
    (sequence("public.down", last_value=-11),
     [("app: sequence public.down is ahead: next is -12, -11 before", DIFFERENT)]),
    (sequence("public.round", last_value=1),
     [("app: sequence public.round is set back: next is 2, 11 before", DIFFERENT)]),
    (having(sequences=without(APP.sequences, "public.up")), [("app: sequence public.up is missing", LOST)]),
    # Who may what.
    (having(grants={T: {"owner app": "SELECT, UPDATE", "grant to readers": "SELECT"}}),
     [("app: grant to readers on table public.t is SELECT, SELECT, UPDATE before", LOST)]),
    (having(grants={T: {"owner app": "SELECT, UPDATE", "grant to readers": "DELETE, SELECT, UPDATE"}}),
     [("app: grant to readers on table public.t is DELETE, SELECT, UPDATE, SELECT, UPDATE before", DIFFERENT)]),
    (having(grants={T: {"owner app": "SELECT, UPDATE"}}),
     [("app: grant to readers on table public.t is missing", LOST)]),
    (having(grants={T: {"owner eve": "SELECT, UPDATE", "grant to readers": "SELECT, UPDATE"}}),
     [("app: owner app on table public.t is missing", LOST), ("app: owner eve on table public.t is new", DIFFERENT)]),
    (having(properties={"encoding": "LATIN1"}), [("app: property encoding is LATIN1, UTF8 before", DIFFERENT)]),
    # The cluster.
    (replace(BEFORE, roles=without(BEFORE.roles, "readers")), [("role readers is missing", LOST)]),
    (replace(BEFORE, roles={**BEFORE.roles, "eve": Role()}), [("role eve is new", DIFFERENT)]),
    (role(attributes=("login", "superuser")),
     [("role app has no longer: createdb", LOST), ("role app now has: superuser", DIFFERENT)]),
    (role(password="scram-sha-256"), [("role app has a password by scram-sha-256, by md5 before", DIFFERENT)]),
    (role(password=""), [("role app has a password by no method, by md5 before", LOST)]),
    (role(connection_limit=3), [("role app has the connection limit 3, -1 before", DIFFERENT)]),
    (role(valid_until="2030-01-01"), [("role app is valid until 2030-01-01, for ever before", DIFFERENT)]),
    (replace(BEFORE, memberships={"app in readers": "member"}),
     [("membership app in readers is member, admin, member before", LOST)]),
    (replace(BEFORE, memberships={}), [("membership app in readers is missing", LOST)]),
    (replace(BEFORE, settings={"work_mem of role app": "4321"}),
     [("setting work_mem of role app has another value", DIFFERENT)]),
    (replace(BEFORE, settings={}), [("setting work_mem of role app is missing", LOST)]),
    (replace(BEFORE, grants={}), [("tablespace fast is missing", LOST)]),
    # Databases.
    (replace(BEFORE, databases={}), [("database app is missing", LOST)]),
    (replace(BEFORE, databases={}, skipped={**BEFORE.skipped, "app": "does not allow connections"}),
     [("database app does not allow connections", LOST)]),
    (replace(BEFORE, databases={}, skipped={**BEFORE.skipped, "app": model.NOT_ASKED_FOR}), []),
    (replace(BEFORE, databases={"app": APP, "b": Database()}), [("database b is new", DIFFERENT)]),
    (replace(BEFORE, databases={"app": APP, "template0": Database()}), []),
    (replace(BEFORE, skipped={}), [("database template0 is missing", LOST)]),
    (replace(BEFORE, skipped={"template0": model.NOT_ASKED_FOR}), []),
])  # fmt: skip
def test_what_differs(after: Fingerprint, said: list[tuple[str, bool]]) -> None:
    assert [(str(one), one.lost) for one in compare(BEFORE, after)] == said


def test_a_database_that_nobody_asked_for_may_be_gone() -> None:
    before = replace(BEFORE, skipped={**BEFORE.skipped, "blog": model.NOT_ASKED_FOR})
    assert compare(before, BEFORE) == []


def test_losses_come_first() -> None:
    after = having(sequences={**APP.sequences, "public.up": Sequence(42, True)}, extensions={"plpgsql": "1.0"})
    assert [one.lost for one in compare(BEFORE, after)] == [True, False]


def test_an_equality_says_of_how_much_it_speaks() -> None:
    assert coverage(BEFORE, BEFORE) == Coverage(tables=4, rows=3, contents=3)
    assert coverage(BEFORE, table("public.t", exact=False, content="")) == Coverage(tables=4, rows=2, contents=2)
    assert coverage(BEFORE, replace(BEFORE, databases={})) == Coverage(0, 0, 0)


def test_a_fingerprint_survives_a_file() -> None:
    written = json.loads(json.dumps(model.as_dict(BEFORE)))
    assert model.from_dict(written) == BEFORE
    assert written["databases"]["app"]["schema_digest"] == APP.schema_digest


def test_the_digest_of_a_schema_is_that_of_its_words_in_any_order() -> None:
    assert replace(APP, objects=dict(reversed(list(APP.objects.items())))).schema_digest == APP.schema_digest
    changed = part(T, column_x="integer").databases["app"]
    assert changed.schema_digest != APP.schema_digest
    assert changed.grants_digest == APP.grants_digest


@pytest.mark.parametrize("raw, words", [
    ({}, "no fingerprint"),
    ([], "no fingerprint"),
    (None, "no fingerprint"),
    ({**model.as_dict(BEFORE), "schema_version": 2}, "schema_version 2"),
    (without(model.as_dict(BEFORE), "roles"), "damaged: KeyError"),
    ({**model.as_dict(BEFORE), "databases": {"app": {}}}, "damaged"),
    ({**model.as_dict(BEFORE), "databases": 7}, "damaged"),
    ({**model.as_dict(BEFORE), "roles": {"app": {"attributes": [], "shoe size": 44}}}, "damaged: TypeError"),
])  # fmt: skip
def test_what_is_no_fingerprint_is_refused(raw: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        model.from_dict(raw)


@pytest.mark.parametrize("names, said", [
    (("public", "t"), "public.t"),
    (("a.b", "c"), '"a.b".c'),
    (("a", "b.c"), 'a."b.c"'),
    (("Odd", 'na"me'), '"Odd"."na""me"'),
    # What a newer major reserves is written as in an older one.
    (("public", "json_table"), "public.json_table"),
])  # fmt: skip
def test_names_are_told_apart(names: tuple[str, ...], said: str) -> None:
    assert model.qualified(*names) == said


def test_what_to_compare_with_is_a_result_its_text_or_a_file(tmp_path: Path) -> None:
    kept = tmp_path / "before.json"
    kept.write_text(json.dumps(model.as_dict(BEFORE)))
    assert earlier(None, model.from_dict) is None
    for against in (model.as_dict(BEFORE), kept.read_text(), str(kept)):
        assert earlier(against, model.from_dict) == BEFORE


@pytest.mark.parametrize("against, words", [
    ("before.json", "absolute path"),
    ("/nonexistent/before.json", "cannot be read"),
    (__file__, "cannot be read"),
    ("7", "no fingerprint"),
    ({}, "no fingerprint"),
])  # fmt: skip
def test_anything_else_is_refused(against: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        earlier(against, model.from_dict)


KNOWN = {"app": True, "blog": True, "template0": False}


@pytest.mark.parametrize("wanted, skipped", [
    ([], {"template0": "does not allow connections"}),
    (["app"], {"template0": model.NOT_ASKED_FOR, "blog": model.NOT_ASKED_FOR}),
])  # fmt: skip
def test_a_database_that_is_left_out_has_a_reason(wanted: list[str], skipped: dict[str, str]) -> None:
    assert databases_to_skip(KNOWN, wanted) == skipped


@pytest.mark.parametrize("wanted, words", [
    (["apq"], "No database apq"), (["app", "template0"], "template0 does not allow connections"),
])  # fmt: skip
def test_a_database_that_cannot_be_read_is_not_left_out_silently(wanted: list[str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        databases_to_skip(KNOWN, wanted)
