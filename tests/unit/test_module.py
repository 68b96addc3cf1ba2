# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a module ends, whatever went wrong."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, StatefulError, refusal
from ansible_collections.selfhost.stateful.plugins.module_utils._module import answer

FIVE_KEYS = {"msg", "state", "copies", "safe_to_rerun", "next_command"}


class Ended(BaseException):
    """What stands for the end of the process; no handler of errors catches it."""


class Module:
    """Notes what it was told at last."""

    def __init__(self) -> None:
        self._name = "selfhost.stateful.compose_storage"
        self.params: dict[str, Any] = {"project_src": "/srv/app", "mounts": []}
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


@pytest.mark.parametrize("error, follows", [
    (StatefulError("It is so.", next_command="df -h /srv"), "df -h /srv"),
    (refusal([Blocker("One."), Blocker("Two.", "chown 999 /srv/a"), Blocker("Three.", "df -h")]), "chown 999 /srv/a"),
])  # fmt: skip
def test_a_command_that_leads_further_is_told_as_it_is(error: StatefulError, follows: str) -> None:
    def work() -> dict[str, Any]:
        raise error

    assert ended(work).said["next_command"] == follows


@pytest.mark.parametrize("error", [StatefulError("It is so."), refusal([Blocker("One."), Blocker("Two.")])])
def test_where_none_does_the_task_is_named(error: StatefulError) -> None:
    def work() -> dict[str, Any]:
        raise error

    said = ended(work).said["next_command"]
    assert "selfhost.stateful.compose_storage, project_src: /srv/app" in said


def test_what_is_not_safe_to_run_again_is_not_told_to_be_run_again() -> None:
    def work() -> dict[str, Any]:
        raise StatefulError("Both took writes.", safe_to_rerun=False)

    assert "do not run" in ended(work).said["next_command"]


def test_a_refusal_says_everything_at_once() -> None:
    error = refusal([Blocker("One."), Blocker("Two.", "df -h")], plan_text="the plan")
    assert (error.msg, error.facts) == ("One. Two.", {"blockers": ["One.", "Two."], "plan_text": "the plan"})
