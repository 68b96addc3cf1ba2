# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a name of an image means is changed and given back as one of the steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.handlers import CopyRedis, NameImage, Tag
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Step


@dataclass
class Engine:
    """Images by name; an id is a name of its own."""

    names: dict[str, str] = field(default_factory=dict)

    def image(self, reference: str) -> Any:
        name = reference if ":" in reference else f"{reference}:latest"
        found = reference if reference in self.names.values() else self.names.get(name)
        return SimpleNamespace(id=found) if found else None

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        self.names[f"{repository}:{tag}"] = image_id

    def untag(self, reference: str) -> None:
        del self.names[reference]


def context_of(engine: Engine) -> Context[Any]:
    return Context(SimpleNamespace(engine=engine), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("was", ["one", ""])
def test_a_floating_name_means_again_what_it_meant(was: str) -> None:
    before = {"host:v1": "one", "host:v2": "two", **({"host:latest": was} if was else {})}
    engine, handler = Engine(dict(before)), Tag()
    step = Step("concurrent_tag", "tag", SWITCH, {"names": [{"tag": "host", "pull": "host:v2", "was": was}]})
    context = context_of(engine)
    assert handler.is_done(step, context) is None
    handler.apply(step, context)
    assert (engine.names["host:latest"], handler.is_done(step, context)) == ("two", {})
    handler.undo(step, context)
    handler.undo(step, context)
    assert engine.names == before


def test_a_name_is_not_changed_to_an_image_that_is_gone() -> None:
    step = Step("concurrent_tag", "tag", SWITCH, {"names": [{"tag": "host", "pull": "host:v2", "was": "one"}]})
    with pytest.raises(StatefulError, match="host:v2 is not on this engine any more"):
        Tag().apply(step, context_of(Engine({"host:latest": "one"})))


def test_a_store_has_its_name_only_where_that_means_the_very_image() -> None:
    engine = Engine({"postgres:15": "another"})
    step = Step("concurrent_name_image", "name", SWITCH, {"image_id": "ran", "reference": "postgres:15-ran"})
    context = context_of(engine)
    assert NameImage().is_done(step, context) is None
    engine.names["postgres:15-ran"] = "another"
    assert NameImage().is_done(step, context) is None
    NameImage().apply(step, context)
    assert NameImage().is_done(step, context) == {}
    assert engine.names["postgres:15"] == "another"


def test_redis_is_copied_anew_where_a_run_was_broken_off(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis/dump.rdb").write_text("now")
    (tmp_path / "backups/o-redis").mkdir(parents=True)
    (tmp_path / "backups/o-redis/dump.rdb").write_text("then")
    args = {"redis": str(tmp_path / "redis"), "path": str(tmp_path / "backups/o-redis")}
    step, context = Step("concurrent_copy_redis", "copy Redis", SWITCH, args), context_of(Engine())
    assert CopyRedis().is_done(step, context) is None
    evidence = CopyRedis().apply(step, context)
    assert [(copy["role"], copy["path"]) for copy in evidence["copies"]] == [("backup", args["path"])]
    assert (tmp_path / "backups/o-redis/dump.rdb").read_text() == "now"
    context.evidence[step.name] = evidence
    assert CopyRedis().is_done(step, context) == evidence
