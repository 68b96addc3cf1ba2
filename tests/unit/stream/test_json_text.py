# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is JSON to Python's own reader is JSON here, in whatever pieces it comes, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies

from ansible_collections.selfhost.stateful.plugins.module_utils._stream.json_text import JsonText, NoJson

VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text()
    | strategies.floats(allow_nan=False, allow_infinity=False),
    lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(strategies.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
PUNCTUATION = strategies.text(alphabet='{}[]:,"\\u0a1-+.eEtrufalsn \n\x01', max_size=12)


def is_json(text: bytes, size: int) -> bool:
    reader = JsonText()
    try:
        for at in range(0, len(text), size):
            reader.feed(text[at : at + size])
        reader.close()
    except NoJson:
        return False
    return True


def refuse_constant(name: str) -> Any:
    """Python takes NaN and Infinity, which are no JSON."""
    raise ValueError(name)


@given(
    VALUES, strategies.sampled_from([1, 2, 3, 7, 50, 1000]), strategies.booleans(), strategies.sampled_from([None, 1])
)
def test_every_document_is_taken_whole_and_none_that_is_cut(value: Any, size: int, ascii: bool, indent: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii, indent=indent).encode("utf-8", "surrogatepass")
    assert is_json(text, size)
    if isinstance(value, (dict, list)):
        assert not is_json(text[:-1], size)
        assert not is_json(text + b"]", size)


@given(PUNCTUATION, strategies.sampled_from([1, 2, 3, 12]))
def test_it_agrees_with_pythons_reader(text: str, size: int) -> None:
    try:
        json.loads(text, parse_constant=refuse_constant)
        wanted = True
    except ValueError:
        wanted = False
    assert is_json(text.encode(), size) == wanted


@pytest.mark.parametrize(
    "text", [b"", b"  ", b"error: EOF", b'{"a": 1', b"{'a': 1}", b"[1,]", b'{"a" 1}', b"01", b"1 2"]
)
def test_what_is_none_is_told(text: bytes) -> None:
    assert not is_json(text, 64)


def test_a_text_of_any_size_takes_no_room() -> None:
    reader = JsonText()
    reader.feed(b'{"entities": [')
    for _number in range(2000):
        reader.feed(b'"' + b"x" * 5000 + b'", ')
    reader.feed(b"null]}")
    reader.close()
    assert len(reader._word) == len(reader._inside) == 0
