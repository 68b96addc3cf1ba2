# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way of one host from the version that runs to the one that is wanted, with what each version on it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.images import images_to_have
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.model import (
    Rung,
    Version,
    below,
    version_of,
    way,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.schema import schema_of
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.survey import BESIDE, Seen
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.target import target_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.world import World


def way_to(
    world: World, seen: Seen, wanted: str, ladder: Sequence[Rung], beyond: Sequence[Version], ceiling: str = ""
) -> dict[str, Any]:
    """Return the way that the result shows; raises where there is none. ``beyond``: releases that only origin has."""
    schema = schema_of(ladder, seen.columns)
    if seen.version is None:
        hint = f" Its tables are those of {schema}." if str(schema) else ""
        raise InvalidInput(f"Which version runs here cannot be told: neither api nor image nor checkout says it.{hint}")
    if seen.told_by in BESIDE and schema.contradicts(seen.version):
        where = "its checkout" if seen.told_by == "git" else "the tag of its image"
        raise InvalidInput(
            f"Which version runs here cannot be told: {where} is {seen.version}, and the database lacks"
            f" {', '.join(schema.missing)}, which that adds when it starts. An older one may still be running.",
            next_command=shell("docker", "inspect", "-f", "{{.Created}} {{.Image}} {{.Config.Image}}", seen.api.name),
        )
    released = below(ceiling, sorted({*seen.released, *beyond}))
    goal = version_of(wanted) if wanted else max([*released, seen.version])
    if goal is None:
        raise InvalidInput(f"{wanted!r} is no version: one is written as v1.3.0.")
    if not below(ceiling, [goal]):
        raise InvalidInput(
            f"{goal} is wanted, and from {ceiling} on nobody has written down how data gets there: the ladder of this"
            " release of the collection ends before it."
        )
    stops = way(seen.version, goal, ladder, (*released, goal))
    shown = []
    for stop in stops:
        here = seen.checkout is None or bool(seen.checkout.commit_of(str(stop.version)))
        images = images_to_have(target_of(world, seen, stop.version), stop.version) if here else []
        shown.append({**stop.as_dict(), "images": images, "fetched": here})
    return {"wanted": str(goal), "way": shown}
