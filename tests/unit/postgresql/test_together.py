# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is begun at the same time ends as if it had been begun one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.together import entered_together


class Rooms:
    """Contexts by name, and what became of them."""

    def __init__(self) -> None:
        self.left: list[str] = []

    @contextmanager
    def room(self, name: str, *, fails: bool = False, meets: threading.Barrier | None = None) -> Iterator[str]:
        if meets is not None:
            meets.wait(30)
        if fails:
            raise OSError(f"{name} cannot be entered")
        try:
            yield name
        finally:
            self.left.append(name)


def test_all_are_entered_at_the_same_time_and_left_in_turn() -> None:
    rooms, meets = Rooms(), threading.Barrier(3)
    with entered_together(*(rooms.room(name, meets=meets) for name in ("one", "two", "three"))) as entered:
        assert entered == ("one", "two", "three")
        assert not rooms.left
    assert rooms.left == ["three", "two", "one"]


def test_what_happens_within_goes_through_all_of_them() -> None:
    rooms = Rooms()
    with (
        pytest.raises(KeyError, match="within"),
        entered_together(rooms.room("one"), rooms.room("two"), rooms.room("three")),
    ):
        raise KeyError("within")
    assert rooms.left == ["three", "two", "one"]


@pytest.mark.parametrize("failing", [("one",), ("two",), ("three",), ("one", "three"), ("one", "two", "three")])
def test_where_one_fails_the_others_are_left_again(failing: tuple[str, ...]) -> None:
    rooms = Rooms()
    names = ("one", "two", "three")
    with (
        pytest.raises(OSError, match=f"{failing[0]} cannot be entered"),
        entered_together(*(rooms.room(name, fails=name in failing) for name in names)),
    ):
        pytest.fail("it was entered")
    assert rooms.left == [name for name in reversed(names) if name not in failing]
