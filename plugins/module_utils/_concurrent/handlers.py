# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every step of a rung, whatever its kind; here also those that name images."""

from __future__ import annotations

import os
import shutil

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import (
    common,
    fill,
    keeping,
    release,
    reload,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import host as hosts
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import repository_of, tag_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
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
        named = context.world.engine.image(step.args["reference"])
        return {} if named is not None and named.id == step.args["image_id"] else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        reference = step.args["reference"]
        context.world.engine.tag(step.args["image_id"], repository_of(reference), tag_of(reference))
        return {"named": reference}


class Tag(SelfProving):
    """Names that say no version mean the new one. args: ``names``: each as ``tag``, ``pull``, ``was`` (an id, or none).

    Here and not before: whoever types ``up`` while nothing has stopped yet, or after this was undone, gets the old one.
    """

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        engine = context.world.engine
        pairs = [(engine.image(each["tag"]), engine.image(each["pull"])) for each in step.args["names"]]
        return {} if all(one is not None and two is not None and one.id == two.id for one, two in pairs) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        engine = context.world.engine
        for each in step.args["names"]:
            image = engine.image(each["pull"])
            if image is None:
                raise StatefulError(
                    f"The image {each['pull']} is not on this engine any more.",
                    next_command=shell("docker", "pull", each["pull"]),
                )
            engine.tag(image.id, repository_of(each["tag"]), tag_of(each["tag"]) or "latest")
        return {"named": [each["tag"] for each in step.args["names"]]}

    def undo(self, step: Step, context: Context[World]) -> Evidence:
        engine = context.world.engine
        for each in step.args["names"]:
            if each["was"] and engine.image(each["was"]) is not None:
                engine.tag(each["was"], repository_of(each["tag"]), tag_of(each["tag"]) or "latest")
            elif not each["was"] and engine.image(each["tag"]) is not None:
                engine.untag(f"{repository_of(each['tag'])}:{tag_of(each['tag']) or 'latest'}")
        return {}


class CopyRedis(NothingToUndo):
    """What Redis had when all was quiet is copied. args: ``redis``, ``path``. It is kept, as the backup is."""

    def is_done(self, step: Step, context: Context[World]) -> Evidence | None:
        known = context.evidence.get(step.name)
        if known is None or not os.path.isdir(step.args["path"]):
            return None
        # Somebody may have been let in meanwhile, and all made quiet once more. Once the old data is set aside, what
        # lies in its place may be of the new version.
        same = known.get("quiet_since") == _quiet_since(context)
        return known if same or common.is_aside(context) else None

    def apply(self, step: Step, context: Context[World]) -> Evidence:
        path = step.args["path"]
        if os.path.isdir(path):
            shutil.rmtree(path)  # of this operation, and from before somebody was let in again
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        keeping.copy_tree(step.args["redis"], path)
        copy = keeping.retained(hosts.REDIS, path, role="backup")
        return {"copies": [copy], "quiet_since": _quiet_since(context)}


def _quiet_since(context: Context[World]) -> float:
    return float(context.evidence.get("quiet", {}).get("began", 0.0))


CONCURRENT_HANDLERS: Handlers[World] = {
    "concurrent_backup": common.BackUp(),
    "concurrent_keep_images": KeepImages(),
    "concurrent_name_image": NameImage(),
    "concurrent_quiet": common.Quiet(),
    "concurrent_copy_redis": CopyRedis(),
    "concurrent_tag": Tag(),
    "concurrent_release": release.Release(),
    "concurrent_follow": release.Follow(),
    "concurrent_files": common.Files(),
    "concurrent_dump": reload.Dump(),
    "concurrent_set_aside": reload.SetAside(),
    "concurrent_load": reload.Load(),
    "concurrent_start_api": fill.StartApi(),
    "concurrent_migrate": fill.Migrate(),
    "concurrent_up": common.Up(),
}
