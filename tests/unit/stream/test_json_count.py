# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As many are counted at a path as Python's own reader finds there, in whatever pieces the document comes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._stream.json_count import JsonCounter, count

NAMES = ("a", "b", "*", ".", ".a", "", 'c"\\', "é\u2028", "a\n")
SCALARS = (None, True, False, 0, -12.5e30, 17, "", 'x"y\\', "[{,:}]", "é")
EVERY_WAY = [("*",), ("*", "*"), ("*", "*", "*"), ("*", "*", "*", "*")]


def at(value: Any, path: Sequence[str]) -> int:
    """Return how many values of a read document stand at ``path``; an asterisk is any name, and alone an element."""
    if not path:
        return 1
    if isinstance(value, list):
        return sum(at(each, path[1:]) for each in value) if path[0] == "*" else 0
    if isinstance(value, dict):
        return sum(at(each, path[1:]) for name, each in value.items() if path[0] in ("*", name))
    return 0


def pieces(text: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut a text into pieces of ``sizes``, over and over."""
    begins, turn = 0, 0
    while begins < len(text):
        yield text[begins : begins + sizes[turn % len(sizes)]]
        begins, turn = begins + sizes[turn % len(sizes)], turn + 1


def a_document(chance: Random, depth: int = 0) -> Any:
    kind = chance.random()
    if depth > 5 or kind < 0.3 * bool(depth):
        return chance.choice(SCALARS)
    inner = [a_document(chance, depth + 1) for _each in range(chance.randrange(4))]
    return inner if kind < 0.6 else dict(zip(chance.sample(NAMES, len(inner)), inner))


@pytest.mark.parametrize("seed", range(8))
def test_it_counts_what_pythons_reader_finds(seed: int) -> None:
    chance = Random(seed)
    for _document in range(60):
        value = a_document(chance)
        style: dict[str, Any] = {"ensure_ascii": chance.random() < 0.5, "indent": chance.choice([None, 1, "\t"])}
        text = json.dumps(value, **style).encode()
        paths = [tuple(chance.choices((*NAMES, "*"), k=chance.randint(1, 4))) for _path in range(chance.randrange(4))]
        wanted = [*EVERY_WAY, *paths][chance.randrange(5) :]
        expected = {path: at(value, path) for path in wanted}
        sizes = chance.choices(range(1, 10), k=3)
        assert count(pieces(text, sizes), wanted) == expected, (text, sizes)
        assert count([text], wanted) == expected, text


@pytest.mark.parametrize("size", range(1, 12))
def test_a_value_that_is_cut_is_one_value(size: int) -> None:
    text = b'{"a": [ -1250.5e+10 ,true , null,"x\\"\\\\", {} ,[ ], "\\u00e9" ] , "b" : 12345678901234567890 }'
    paths = [("a",), ("a", "*"), ("b",), ("*",)]
    assert count(pieces(text, [size]), paths) == {("a",): 1, ("a", "*"): 7, ("b",): 1, ("*",): 2}


@pytest.mark.parametrize(
    "name", [r'"\u0061b"', r'"a\u0062"', '"ab"'], ids=["escaped at first", "escaped at last", "plain"]
)
@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_name_is_the_same_however_it_is_written(name: str, size: int) -> None:
    text = f'{{{name}: [1, 2], "b": [3]}}'.encode()
    assert count(pieces(text, [size]), [("ab", "*")]) == {("ab", "*"): 2}


def test_a_member_that_is_called_like_the_asterisk_is_no_element() -> None:
    text = b'{"*": {"a": 1}, "b": {"a": 2}, "c": [{"a": 3}]}'
    assert count([text], [("*", "a"), ("c", "*", "a"), ("b", "*")]) == {
        ("*", "a"): 2,
        ("c", "*", "a"): 1,
        ("b", "*"): 1,
    }


def test_a_name_that_is_no_asterisk_counts_no_element() -> None:
    found = count([b'[{"a": 1}, [2]]'], [("a",), ("0",), (".*", "a"), ("*", "a")])
    assert list(found.values()) == [0, 0, 0, 1]


def test_what_a_text_looks_like_counts_nothing() -> None:
    text = json.dumps({"a": ['{"a": [1, 2, 3]}', '"', "\\"], "b": "a"}).encode()
    assert count([text], [("a", "*"), ("a", "*", "*")]) == {("a", "*"): 3, ("a", "*", "*"): 0}


@pytest.mark.parametrize("text", [b"17", b'"a"', b"null", b" ", b""])
def test_a_document_without_members_has_nothing_at_any_path(text: bytes) -> None:
    assert count([text], [("*",)]) == {("*",): 0}


def test_without_paths_nothing_is_counted() -> None:
    assert count([b'{"a": 1}'], []) == {}


@pytest.mark.parametrize("opening,closing", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_depth_is_no_limit(opening: bytes, closing: bytes, size: int) -> None:
    deep = opening * 2_000 + b"1" + closing * 2_000
    text = b'{"a": [' + deep + b"," + deep + b'], "b": 1}'
    assert count(pieces(text, [size]), [("a", "*"), ("b",)]) == {("a", "*"): 2, ("b",): 1}


def test_a_text_of_any_size_takes_no_room() -> None:
    counter = JsonCounter([("entities", "*")])
    counter.feed(b'{"entities": {')
    for number in range(200):
        counter.feed(b'"%d": {"a": ["' % number + b"x" * 5000 + b'", {"b": 1}]}, ')
    assert len(counter._rest) + len(counter._names) < 10
    counter.feed(b'"last": 12')
    counter.feed(b"34}}")
    assert counter.counts == {("entities", "*"): 201}
