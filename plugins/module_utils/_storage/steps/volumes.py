# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes that are mounts of something else, held while their service is stopped."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    ROLE_LABEL,
    Container,
    Helper,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World, transfer_of

HOLDER = "volume-holder"


class HoldVolume(SelfProving):
    """A volume with options is mounted by the engine only while a container uses it.

    Without one its directory on the host is empty, and settling against that
    would empty the copy. So a helper holds it, read-only, from before the stop
    until the operation has ended. args: ``transfer``.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return {} if any(container.running for container in self._holders(step, context)) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        transfer, engine = transfer_of(step), context.world.engine
        self.undo(step, context)
        engine.create_helper(
            Helper(
                operation=context.operation.id,
                role=HOLDER,
                image_id=transfer.image_id,
                argv=("sleep", "infinity"),
                volumes=(transfer.origin.volume,),
                labels={"selfhost.stateful.volume": transfer.origin.volume},
            )
        )
        return {}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        for container in self._holders(step, context):
            context.world.engine.remove_container(container.id, force=True)
        return {}

    @staticmethod
    def _holders(step: Step, context: Context[World]) -> list[Container]:
        labels = {
            OPERATION_LABEL: context.operation.id,
            ROLE_LABEL: HOLDER,
            "selfhost.stateful.volume": transfer_of(step).origin.volume,
        }
        return context.world.engine.containers(labels=labels)


class ReleaseVolume(SelfProving):
    """The holder goes once the data is proved elsewhere. args: ``transfer``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None if HoldVolume._holders(step, context) else {}

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        return HoldVolume().undo(step, context)

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        return {}
