# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file is taken apart where the server would take it apart, and nothing of it gets lost."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.statements import split

WHOLE = {
    "a text": "SELECT 'a;b', 'it''s; so', 'not \\'",
    "a text with escapes": r"SELECT E'a\';b', e'\\', E'it''s;'",
    "a text with escapes on two lines": "SELECT E'a'\n  '\\';b'",
    "a text after a word that ends like an escape": r"SELECT DATE'\', 1",
    "a name": 'SELECT 1 AS "a;""b;"',
    "dollars": "DO $$ BEGIN; COMMIT; END $$",
    "dollars with a tag": "DO $_a1$ SELECT $$;$$; $a$;$b$ $_a1$",
    "a tag beyond ASCII": "SELECT $é$;$é$",
    "a name with dollars, and no quote": "SELECT a$b$c, a$$",
    "a parameter": "SELECT $1, $2",
    "a comment to the end of the line": "SELECT 1 -- ; '\n+ 1",
    "a comment": "SELECT 1 /* ; ' */ + 1",
    "comments in a comment": "SELECT /* a /* b; */ c; /**/ */ 1",
    "a comment that a text only looks like": "SELECT '--', '/*', $$ /* $$",
    "parentheses": "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES ((1)); DELETE FROM b)",
    "a body": "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "a body with a case": (
        "CREATE OR REPLACE PROCEDURE p()\nBEGIN ATOMIC\n SELECT CASE WHEN true THEN CASE 1 WHEN 1 THEN 2 END END;\n"
        " SELECT \"end\", 'end';\nEND"
    ),
    "a body of old": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'BEGIN ATOMIC; SELECT 1;'",
    "no keyword": "('a')",
}  # fmt: skip
FRAGMENTS = (
    *("'a;b'", "'it''s'", r"E'\';'", '"na;""me"', "$$;$$", "$q$;$$;$q$", "(1; (2))", "42", "4.2", "+", "$1", "naïve"),
    *("-- ;'\n", "/* ; /* ' */ */", "\n", "END", "COMMIT", "THEN"),
)
STATEMENTS = st.lists(
    st.lists(st.sampled_from(FRAGMENTS), max_size=5).map(lambda fragments: " ".join(["SELECT", *fragments, "x"])),
    max_size=5,
)


@pytest.mark.parametrize("what", WHOLE)
def test_a_semicolon_ends_nothing_in(what: str) -> None:
    text = WHOLE[what]
    assert split(f"{text};") == [text]
    assert split(f"SELECT 0;\n{text};\nSELECT 9") == ["SELECT 0", text, "SELECT 9"]


@given(STATEMENTS, st.sampled_from([";", ";\n\n", " ; -- next\n", ";;\t;"]))
def test_what_is_put_together_is_taken_apart_again(statements: list[str], between: str) -> None:
    found = split(between.join(statements))
    assert [each.rpartition("-- next\n")[2] for each in found] == statements


@given(st.text(alphabet=" \n;()'\"$aE1é\\", max_size=40))
@settings(max_examples=200)
def test_only_blanks_and_semicolons_are_left_out(text: str) -> None:
    at, between = 0, ""
    for statement in split(text):
        begins = text.index(statement, at)
        between += text[at:begins]
        at = begins + len(statement)
    assert (between + text[at:]).strip("; \n") == ""


@pytest.mark.parametrize("text", ["", " \n", ";;", "-- SELECT 1;", "/* SELECT 1; */", "/* never ended; SELECT 1"])
def test_without_a_statement_there_is_none(text: str) -> None:
    assert split(text) == []


@pytest.mark.parametrize("text", ["SELECT 'a; b", 'SELECT "a; b', "SELECT $$a; b", r"SELECT E'a; b\'", "SELECT (1; 2"])
def test_what_is_never_ended_is_one_statement_that_the_server_refuses(text: str) -> None:
    assert split(text) == [text]


def test_a_comment_ends_with_its_line_however_lines_end() -> None:
    assert [each.words for each in split("-- a\rCOMMIT;-- b\r\nSELECT 1")] == [("COMMIT",), ("SELECT",)]


def test_a_body_ends_and_the_next_statement_begins() -> None:
    bodies = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END"
    assert split(f"{bodies}; {bodies}; COMMIT") == [bodies, bodies, "COMMIT"]
    assert split("BEGIN; SELECT 1; END") == ["BEGIN", "SELECT 1", "END"]


def test_keywords_are_those_outside_of_quotes_and_comments() -> None:
    (found,) = split("copy /* to */ \"From\" 'with' $$as$$ FROM -- stdout\n stdin;")
    assert found.words == ("COPY", "FROM", "STDIN")


@pytest.mark.parametrize(
    "statement",
    [
        *("BEGIN", "begin isolation level serializable", "START TRANSACTION READ ONLY", "COMMIT", "commit and chain"),
        *("END", "ROLLBACK", "ROLLBACK WORK", "ABORT", "PREPARE TRANSACTION 'a'", "COMMIT PREPARED 'a'"),
        *("ROLLBACK PREPARED 'to'", "/* a */ -- b\n Commit", "ROLLBACK /* TO a */"),
    ],
)
def test_what_ends_a_transaction_is_known(statement: str) -> None:
    (found,) = split(statement)
    assert found.is_transaction_control


@pytest.mark.parametrize(
    "statement",
    [
        *("ROLLBACK TO a", "rollback to savepoint a", "ROLLBACK WORK TO SAVEPOINT a", "ROLLBACK TRANSACTION TO a"),
        *("SAVEPOINT a", "RELEASE a", "SELECT 1 AS commit", "COMMENT ON TABLE t IS 'COMMIT'", '"commit"', "ENDE"),
        *("PREPARE a AS SELECT 1", "SET TRANSACTION READ ONLY", "START_TRANSACTION", "DO $$ BEGIN COMMIT; END $$"),
    ],
)
def test_what_leaves_a_transaction_open_is_none_of_them(statement: str) -> None:
    (found,) = split(statement)
    assert not found.is_transaction_control


@pytest.mark.parametrize(
    "statement,reads",
    [
        ("COPY a FROM STDIN", True),
        ("copy a (b, c) from stdin with (format csv)", True),
        ("COPY a FROM '/stdin'", False),
        ("COPY a TO STDOUT", False),
        ("SELECT 1 AS stdin", False),
    ],
)
def test_what_waits_for_data_is_known(statement: str, reads: bool) -> None:
    (found,) = split(statement)
    assert found.reads_input == reads


def test_commands_of_psql_are_told_apart_and_end_with_their_line() -> None:
    found = split("-- first\n\\set a 'b;c'\nSELECT 1;\n  \\i other.sql\nSELECT 2")
    assert found == ["\\set a 'b;c'", "SELECT 1", "\\i other.sql", "SELECT 2"]
    assert [each.is_meta_command for each in found] == [True, False, True, False]


def test_a_command_of_psql_ends_the_statement_that_it_stands_behind() -> None:
    found = split("SELECT 1\n\\gexec\nSELECT (2 \\g ; 'x\nSELECT 3;")
    assert found == ["SELECT 1", "\\gexec", "SELECT (2", "\\g ; 'x", "SELECT 3"]
    assert [each.is_meta_command for each in found] == [False, True, False, True, False]


def test_a_large_text_costs_memory_once() -> None:
    size = 1 << 20
    quoted = ("'%s'", "E'%s'", '"%s"', "$$%s$$", "/*%s*/", "--%s\n")
    text = "SELECT " + " ".join(quote % ("x" * size) for quote in quoted) + " 1;" + "\n" * size
    tracemalloc.start()
    try:
        (found,) = split(text)
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) > len(quoted) * size
    assert most < 8 * len(text)
