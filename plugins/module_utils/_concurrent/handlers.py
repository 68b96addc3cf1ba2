# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every step of a rung, whatever its kind; here also those that name images."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import common, fill, reload
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import repository_of, tag_of
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Evidence, Handlers
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.handlers import NothingToUndo, SelfProving
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import Step
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.held import let_image_go
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import KEPT_IMAGES
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


class KeepImages(SelfProving):
    """What runs has a name of ours too, so that a way back finds it. args: ``images``: ids by reference."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return None  # naming them once more costs nothing

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        kept = []
        for number, image_id in enumerate(sorted(set(step.args["images"].values()))):
            tag = f"{context.operation.id}-{number}"
            context.world.engine.tag(image_id, KEPT_IMAGES, tag)
            kept.append(f"{KEPT_IMAGES}:{tag}")
        return {"kept_images": kept}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        """The first step is undone last: what they were kept for runs again."""
        for name in context.evidence.get(step.name, {}).get("kept_images", ()):
            let_image_go(context.world.engine, name)
        return {}


class NameImage(NothingToUndo):
    """An image has the name that the file is to say. args: ``image_id``, ``reference``."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        return {} if context.world.engine.image(step.args["reference"]) is not None else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        reference = step.args["reference"]
        context.world.engine.tag(step.args["image_id"], repository_of(reference), tag_of(reference))
        return {"named": reference}


CONCURRENT_HANDLERS: Handlers[World] = {
    "concurrent_backup": common.BackUp(),
    "concurrent_keep_images": KeepImages(),
    "concurrent_name_image": NameImage(),
    "concurrent_quiet": common.Quiet(),
    "concurrent_release": common.Release(),
    "concurrent_follow": common.Follow(),
    "concurrent_files": common.Files(),
    "concurrent_dump": reload.Dump(),
    "concurrent_set_aside": reload.SetAside(),
    "concurrent_load": reload.Load(),
    "concurrent_start_api": fill.StartApi(),
    "concurrent_migrate": fill.Migrate(),
    "concurrent_up": common.Up(),
}
