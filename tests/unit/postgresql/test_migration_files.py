# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbered files become migrations with the guards of their heads; one that cannot be read is told by its name."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations import files
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.migrations.model import (
    Expectation,
    Guards,
    Marker,
    Migration,
    Query,
    Range,
)
from tests.unit.postgresql.fakes import a_container

NO_GUARDS = Guards()


def read(content: str, name: str = "01-it.sql", **guards: Any) -> Migration:
    (found,) = files.parse({name: content}, {name: guards})
    return found


def guards_of(*head: str, mark: str = "--", name: str = "01-it.sql", **given: Any) -> Guards:
    return read(
        "\n".join([*(f"{mark} {line}" for line in ("selfhost.stateful:", *head)), "true"]), name, **given
    ).guards


def test_files_come_in_the_order_of_their_numbers() -> None:
    found = files.parse({"10-b.sql": "b", "9-a.sh": "a", "002-c.sql": "c"})
    assert [(each.number, each.name, each.kind, each.content) for each in found] == [
        (2, "002-c.sql", "sql", "c"),
        (9, "9-a.sh", "sh", "a"),
        (10, "10-b.sql", "sql", "b"),
    ]
    assert {each.guards for each in found} == {NO_GUARDS}


@pytest.mark.parametrize("name", ["1-a.sql", "0001-Add_names.v2+x.sql", "20260101120000-a.sh", "1-é.sql", "1-a.b.sql"])
def test_a_number_and_words_are_a_name(name: str) -> None:
    assert read("SELECT 1", name).name == name


@pytest.mark.parametrize(
    "name", ["README.md", "1.sql", "a-1.sql", "1-.sql", "1-a b.sql", "1-a.SQL", "1-a.sql~", "x1-a.sql", "1-a.sql\n"]
)
def test_other_names_are_left_alone(name: str) -> None:
    assert files.parse({name: "-- selfhost.stateful:\n--   nonsense: 1"}) == ()


def test_an_undo_file_belongs_to_the_file_beside_it() -> None:
    found = files.parse({"1-a.undo.sql": "back", "1-a.sql": "on", "2-b.sh": "on", "2-b.undo.sh": "off", "3-c.sql": ""})
    assert [(each.name, each.undo) for each in found] == [("1-a.sql", "back"), ("2-b.sh", "off"), ("3-c.sql", "")]


@pytest.mark.parametrize("read", [files.parse, files.as_list], ids=["of the host", "of the controller"])
@pytest.mark.parametrize("beside", ["1-a.sh", "1-b.sql", "01-a.sql", "README"])
def test_an_undo_file_of_nothing_is_refused(beside: str, read: Callable[[Mapping[str, str]], object]) -> None:
    with pytest.raises(InvalidInput, match=r"an undo file for 1-a\.sql and no such file"):
        read({"1-a.undo.sql": "", beside: ""})


def test_every_guard_is_read_from_the_head() -> None:
    assert guards_of(
        *("  transaction: false", "  repeatable: true", "  expect_rows: 10-20", "", "  done_when: |"),
        *("    SELECT true", "  statement_timeout: 1.5", "  lock_timeout: 2", "  marker:", "    read: [doguctl, 1]"),
        *("    set: [a]", "    remove: [b]", "    expected: 'yes'"),
    ) == Guards(
        transaction=False,
        repeatable=True,
        expect_rows=Range(10, 20),
        done_when="SELECT true\n",
        statement_timeout=1.5,
        lock_timeout=2.0,
        marker=Marker(("doguctl", "1"), ("a",), ("b",), "yes"),
    )


def test_the_head_of_a_script_is_below_its_interpreter() -> None:
    found = read("#!/bin/sh\n\n# why\n# selfhost.stateful:\n#   repeatable: true\n# more\nset -e", "1-a.sh")
    assert found.guards == Guards(repeatable=True)
    assert read("-- selfhost.stateful:\n--   repeatable: true\n", "1-a.sh").guards == NO_GUARDS


def test_a_head_ends_where_the_indentation_does_and_begins_below_other_comments() -> None:
    head = "-- Names.\n\n--selfhost.stateful:\n--  repeatable: true\n--\n--Old: yes\nSELECT 1"
    assert read(head).guards == Guards(repeatable=True)
    assert guards_of("  repeatable: true", "Transaction: false, once it is old") == Guards(repeatable=True)


def test_what_stands_below_the_first_statement_is_no_head() -> None:
    assert read("SELECT 1;\n-- selfhost.stateful:\n--   repeatable: true").guards == NO_GUARDS


def test_a_head_may_be_one_line() -> None:
    assert read("-- selfhost.stateful: {repeatable: true}").guards == Guards(repeatable=True)


def test_the_head_of_an_undo_file_is_no_head() -> None:
    (found,) = files.parse({"1-a.sql": "", "1-a.undo.sql": "-- selfhost.stateful:\n--   nonsense: 1"})
    assert found.guards == NO_GUARDS


def test_the_file_wins_over_what_is_given_beside_it() -> None:
    assert guards_of("  transaction: false", transaction=True, repeatable=True) == Guards(False, True)
    assert files.parse({"1-a.sql": ""}, {"1-b.sql": {"nonsense": 1}})[0].guards == NO_GUARDS


@pytest.mark.parametrize(
    "head",
    [
        *((), ("transaction: false",), ("  - transaction",), ("  transaction",), ("", "  # transaction: false")),
        *(("  transaction: [",), ("\ttransaction: false",)),
    ],
    ids=str,
)
def test_a_head_that_says_nothing_is_not_taken_for_none(head: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"^The head of 01-it\.sql "):
        guards_of(*head)


@pytest.mark.parametrize(
    "option,value,words",
    [
        ("transactional", True, "01-it.sql: transactional is no option of a migration; there are done_when, "),
        ("transaction", "no", "01-it.sql: transaction is true or false, not 'no'."),
        ("transaction", None, "01-it.sql: transaction is true or false, not None."),
        ("repeatable", 1, "01-it.sql: repeatable is true or false, not 1."),
        ("statement_timeout", "5s", "01-it.sql: statement_timeout is a number of seconds, not '5s'."),
        ("statement_timeout", True, "01-it.sql: statement_timeout is a number of seconds, not True."),
        ("lock_timeout", -1, "01-it.sql: lock_timeout is a number of seconds, not -1."),
        ("lock_timeout", float("inf"), "01-it.sql: lock_timeout is a number of seconds, not inf."),
        ("lock_timeout", float("nan"), "01-it.sql: lock_timeout is a number of seconds, not nan."),
        ("marker", ["a"], "01-it.sql: marker holds read, and set, remove and expected"),
        ("marker", {"set": ["a"]}, "01-it.sql: marker holds read, and set, remove and expected"),
        ("marker", {"read": ["a"], "other": 1}, "01-it.sql: marker holds read, and set, remove and expected"),
        ("marker", {"read": "a b"}, "01-it.sql: read of marker is a list of words, as [doguctl, config, 01-it.sql]."),
        ("marker", {"read": ["a"], "set": "b"}, "01-it.sql: set of marker is a list of words"),
    ],
)
def test_what_is_no_guard_is_told_with_the_name_of_the_file(option: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read("SELECT 1", **{option: value})
    assert caught.value.msg.startswith(words)


def test_keys_of_any_type_are_no_options() -> None:
    with pytest.raises(InvalidInput, match="1 is no option"):
        guards_of("  other: 1", "  1: other")


@pytest.mark.parametrize("nothing", [None, 0, 0.0])
def test_no_time_is_no_limit(nothing: Any) -> None:
    assert read("", statement_timeout=nothing, lock_timeout=nothing).guards == NO_GUARDS


def test_a_marker_needs_no_more_than_how_it_is_read() -> None:
    given = {"read": ["cat", 7], "set": None, "remove": [], "expected": None}
    assert read("", marker=given).guards.marker == Marker(("cat", "7"))
    assert read("", marker=None).guards == read("", marker={}).guards == NO_GUARDS


@pytest.mark.parametrize(
    "value,expected",
    [
        (None, None),
        ("", None),
        (0, Range(0, 0)),
        (5, Range(5, 5)),
        ("5", Range(5, 5)),
        (" 1 - 5 ", Range(1, 5)),
        ("1-5", Range(1, 5)),
        ({"min": 1}, Range(1, None)),
        ({"min": 1, "max": None}, Range(1, None)),
        ({"max": 0}, Range(0, 0)),
        ({"min": "1", "max": "5"}, Range(1, 5)),
        (" SELECT 1;\n", Query("SELECT 1")),
        ("with a AS (SELECT 1) SELECT 2", Query("with a AS (SELECT 1) SELECT 2")),
        ("VALUES (1)", Query("VALUES (1)")),
    ],
)
def test_rows_are_expected_as_a_number_a_range_or_a_query(value: Any, expected: Expectation) -> None:
    assert files.expectation_from("1-a.sql", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(True, 1.5, -1, "-1", "5-", "5-1", "many", "DELETE FROM a", "selected", [5], {}, {"min": 5, "max": 1}),
        *({"least": 1}, {"min": "a"}, {"min": True}, {"min": None}, {"min": -1}, {"max": 1.5}),
    ],
    ids=repr,
)
def test_an_expectation_that_nothing_can_meet_is_refused_as_it_is_read(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^1-a\.sql: expect_rows is a number, a range"):
        files.expectation_from("1-a.sql", value)


def test_a_directory_gives_its_numbered_files_alone(tmp_path: Path) -> None:
    (tmp_path / "1-a.sql").write_bytes(b"\xef\xbb\xbfSELECT '\xc3\xa9'\r\n")
    (tmp_path / "1-a.undo.sql").write_text("SELECT 2")
    (tmp_path / "README.md").write_bytes(b"\xff")
    (tmp_path / "2-b.sql").mkdir()
    assert files.of_directory(str(tmp_path)) == {"1-a.sql": "SELECT 'é'\r\n", "1-a.undo.sql": "SELECT 2"}


def test_what_is_no_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no directory on this host"):
        files.of_directory(str(tmp_path / "nowhere"))


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "1-a.sql").write_bytes(b"SELECT '\xe9'")
    with pytest.raises(InvalidInput, match=r"^1-a\.sql is no text in UTF-8"):
        files.of_directory(str(tmp_path))


def test_dumps_are_not_taken_for_migrations(tmp_path: Path) -> None:
    for name in ("1-a.sql", "2-b.sql"):
        with (tmp_path / name).open("wb") as file:
            os.truncate(file.fileno(), files.LARGEST // 2 + 1)
    with pytest.raises(InvalidInput, match="more than 64 MiB together"):
        files.of_directory(str(tmp_path))


class Archive:
    """An engine that hands out one directory, in pieces."""

    def __init__(self, entries: dict[str, bytes | None]) -> None:
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w") as archive:
            for name, content in entries.items():
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
                member.size = len(content or b"")
                archive.addfile(member, io.BytesIO(content or b""))
        self.whole = whole.getvalue()
        self.asked: list[str] = []

    def archive(self, _container_id: str, path: str) -> Iterator[bytes]:
        self.asked.append(path)
        return (self.whole[at : at + 700] for at in range(0, len(self.whole), 700))


def test_a_directory_of_a_container_gives_the_same() -> None:
    entries = {
        "./": None,
        "./1-a.sql": b"\xef\xbb\xbfSELECT 1",
        "2-b.sh": b"true",
        "./old/": None,
        "./old/3-c.sql": b"SELECT 3",
        "./README.md": b"\xff",
        "./4-d.sql": None,
    }
    engine = Archive(entries)
    found = files.of_container(engine, a_container(), "/migrations/")  # type: ignore[arg-type]
    assert found == {"1-a.sql": "SELECT 1", "2-b.sh": "true"}
    assert engine.asked == ["/migrations/."]


def test_a_large_directory_of_a_container_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 1 << 10)
    with pytest.raises(InvalidInput, match="that is no migration"):
        files.of_container(Archive({"1-a.sql": b"x" * 5000}), a_container(), "/m")  # type: ignore[arg-type]


def test_a_list_of_a_task_is_read_as_files_are() -> None:
    contents, guards = files.of_list(
        [
            {"name": "1-a.sql", "content": "SELECT 1", "undo": "SELECT 2", "transaction": False, "marker": None},
            {"name": "2-b.sh", "content": "true", "undo": "", "expect_rows": "SELECT 0"},
        ]
    )
    one, two = files.parse(contents, guards)
    assert (one.content, one.undo, one.guards) == ("SELECT 1", "SELECT 2", Guards(transaction=False))
    assert (two.content, two.undo, two.guards) == ("true", "", Guards(expect_rows=Query("SELECT 0")))


def test_files_become_a_list_and_files_again() -> None:
    contents = {"1-a.sql": "SELECT 1", "1-a.undo.sql": "SELECT 2", "2-b.sh": "true"}
    listed = files.as_list({**contents, "README.md": ""})
    assert [each["name"] for each in listed] == ["1-a.sql", "2-b.sh"]
    assert files.of_list(listed)[0] == contents


@pytest.mark.parametrize("name", ["a.sql", "1-a", "../1-a.sql", ""])
def test_a_list_without_numbers_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is no name of a migration"):
        files.of_list([{"name": name, "content": ""}])


def test_a_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"1-a\.sql is given twice"):
        files.of_list([{"name": "1-a.sql", "content": "SELECT 1"}] * 2)
