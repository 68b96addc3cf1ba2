# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a module ends, whatever went wrong."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

FIVE_KEYS = {"msg", "state", "copies", "safe_to_rerun", "next_command"}


class Ended(BaseException):
    """What stands for the end of the process; no handler of errors catches it."""


class Module:
    """Notes what it was told at last."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def exit_json(self, **result: Any) -> None:
        self.said = {"failed": False, **result}
        raise Ended

    def fail_json(self, **result: Any) -> None:
        self.said = {"failed": True, **result}
        raise Ended


def ended(work: Any) -> Module:
    module: Any = Module()
    with pytest.raises(Ended):
        answer(module, work)
    ended_: Module = module
    return ended_


def test_a_result_is_the_module_s_with_its_warnings_apart() -> None:
    module = ended(lambda: {"changed": True, "warnings": ["look"]})
    assert module.said == {"failed": False, "changed": True}
    assert module.warned == ["look"]


@pytest.mark.parametrize("error, words", [
    (StatefulError("It is so."), "It is so."),
    (PermissionError(errno.EACCES, "Permission denied", "/proc/1/root"), "become: true"),
    (OSError(errno.EIO, "Input/output error", "/srv"), "/srv"),
    (RuntimeError("engine gone"), "RuntimeError: engine gone"),
    (KeyError("x"), "KeyError"),
])  # fmt: skip
def test_every_failure_has_the_five_keys(error: Exception, words: str) -> None:
    def work() -> dict[str, Any]:
        raise error

    said = ended(work).said
    assert said["failed"] is True
    assert said.keys() >= FIVE_KEYS
    assert words in said["msg"]
    assert ("exception" in said) is not isinstance(error, StatefulError)
