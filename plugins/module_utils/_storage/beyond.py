# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a run that goes on has its proof behind it: then services have worked since, and are only to work again."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.transfer import transfers_of_plan
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def beyond_proof(context: Context[World]) -> bool:
    """Tell whether the change was proved, and nobody has brought a store back to where it came from.

    What was compared at the proof is no measure any more, and what ran once before it is not to run again.
    """
    if not context.operation.history().proved:
        return False
    back = (
        container.running
        for transfer in transfers_of_plan(context.operation.plan)
        for container in context.world.on_location(transfer, transfer.origin)
    )
    return not any(back)
