# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a swap asks of the app before it goes on or back."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Answer, Call, Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import downtime
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World, has_gone_over
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Undecided


def world_of(**answers: str) -> World:
    """Return a world whose dokku answers a subcommand, named with ``_`` for what a name may not have."""

    def run(call: Call) -> Answer:
        key = call.argv[1].replace(":", "_").replace("-", "_")
        return Answer(0, answers.get(key, ""), "")

    return World(Reached(Dokku(runner=run), cast(Any, None)))


def variables(service: str) -> str:
    return json.dumps({"DATABASE_URL": f"postgres://postgres:a@dokku-postgres-{service}:5432/x"} if service else {})


@pytest.mark.parametrize("there, gone", [("new", True), ("old", False)])
def test_an_app_is_on_one_of_two_services(there: str, gone: bool) -> None:
    assert has_gone_over(world_of(config_export=variables(there)), "blog", "old", "new") is gone


@pytest.mark.parametrize("there", ["third", ""])
def test_an_app_that_was_moved_on_is_not_taken_back(there: str) -> None:
    with pytest.raises(Undecided, match="was moved on since"):
        has_gone_over(world_of(config_export=variables(there)), "blog", "old", "new")


def test_who_wrote_before_the_app_was_let_in_by_us_is_asked_for_too() -> None:
    assert downtime.LetIn().others_bring_about
