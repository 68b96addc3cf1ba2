# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operation runs on has a name of ours, too: its own may be given to a newer build."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go


class OnEngine(Protocol):
    """The world of an operation, of whichever domain, as far as images go."""

    @property
    def engine(self) -> Engine: ...


W = TypeVar("W", bound=OnEngine)


class KeepImage(SelfProving, Generic[W]):
    """An image gets a name of ours, so that no prune takes the way back, or on. args: ``image``, ``name``.

    A name keeps it from prunes of what has none; one of all that no container uses takes it all the same. So its
    evidence has the ``digests`` by which it can be pulled again.
    """

    def is_done(self, step: Step, context: Context[W]) -> Evidence | None:
        found = context.world.engine.image(step.args["name"])
        return {"kept_image": step.args["name"]} if found and found.id == step.args["image"] else None

    def apply(self, step: Step, context: Context[W]) -> Evidence:
        engine = context.world.engine
        repository, _colon, tag = step.args["name"].rpartition(":")
        engine.tag(step.args["image"], repository, tag)
        found = engine.image(step.args["image"])
        digests = list(found.digests) if found else []
        return {"kept_image": step.args["name"], "image": step.args["image"], "digests": digests}

    def undo(self, step: Step, context: Context[W]) -> Evidence:
        let_image_go(context.world.engine, step.args["name"])
        return {}
