# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What step handlers have in common."""

from __future__ import annotations

from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step


class SelfProving:
    """A step whose ``apply`` already observes what it did."""

    others_bring_about = False

    def verify(self, step: Step, context: Context[Any], evidence: Evidence) -> None:
        return None

    def let_go(self, step: Step, context: Context[Any]) -> None:
        return None


class NothingToUndo(SelfProving):
    """A step after the proof, or one that leaves nothing behind: there is nothing to undo."""

    def undo(self, step: Step, context: Context[Any]) -> Evidence:
        return {}
