# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import sql


@pytest.mark.parametrize(
    "value,expected",
    [
        (None, "NULL"),
        (True, "true"),
        (False, "false"),
        (-7, "-7"),
        ("", "''"),
        ("it's", "'it''s'"),
        ("a\\'b", " E'a\\\\''b'"),
        ("é\n%", "'é\n%'"),
    ],
)
def test_literal(value: sql.Value, expected: str) -> None:
    assert sql.literal(value) == expected


@given(st.text(alphabet=st.characters(exclude_characters="\0")))
def test_a_text_cannot_leave_its_literal(value: str) -> None:
    quoted = sql.literal(value).strip()
    inner = quoted[2:-1] if quoted.startswith("E") else quoted[1:-1]
    assert inner.replace("''", "").count("'") == 0
    assert "\\" not in inner.replace("\\\\", "")
    unescaped = inner.replace("''", "'")
    assert (unescaped.replace("\\\\", "\\") if quoted.startswith("E") else unescaped) == value


def test_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        sql.literal("a\0b")
    with pytest.raises(ValueError, match="identifier"):
        sql.identifier("a\0b")


def test_identifier() -> None:
    assert sql.identifier('Od"d name') == '"Od""d name"'
    with pytest.raises(ValueError, match="identifier"):
        sql.identifier("")


def test_bind() -> None:
    assert sql.bind("SELECT '100%'", ()) == "SELECT '100%'"
    assert sql.bind("SELECT %s, 5 %% 2, %s", ("%s", 1)) == "SELECT '%s', 5 % 2, 1"


@pytest.mark.parametrize("statement,params", [("SELECT 1", (1,)), ("SELECT %s", (1, 2)), ("SELECT %s %s", (1,))])
def test_bind_counts_its_values(statement: str, params: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="placeholders"):
        sql.bind(statement, params)


def test_a_query_is_wrapped_so_that_a_comment_at_its_end_does_no_harm() -> None:
    assert (
        sql.as_json("SELECT 1 -- one")
        == "SELECT coalesce(json_agg(answer), '[]')::text FROM (\nSELECT 1 -- one\n) AS answer"
    )
    assert "\nSELECT 1\n" in sql.as_json("SELECT 1 ;\n")


def test_show_becomes_a_query() -> None:
    assert "SELECT current_setting('data_directory')" in sql.as_json("SHOW data_directory;")
    assert "current_setting('plpgsql.check')" in sql.as_json("show plpgsql.check")


def test_rows_keep_their_order_their_kinds_and_equal_names() -> None:
    text = '[{"a":1,"a":"x"}, \n {"a":null,"a":1.5}]'
    assert sql.from_json(text) == [(1, "x"), (None, Decimal("1.5"))]
    assert sql.from_json("[]") == []


def test_a_big_number_stays_exact() -> None:
    assert sql.from_json(json.dumps([{"n": 2**63 - 1}])) == [(2**63 - 1,)]
