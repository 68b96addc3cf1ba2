# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The old service has a container again, of the very image that it ran.

``postgres:stop`` removes the container of a service, as a prune of stopped ones does. Its next one the plugin makes of
whatever the service's tag means by then, which may be a build with other libraries: its order of text is another one,
and its server may be, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import services, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import container_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import Operation

LENT = "what a tag meant before it was lent"
"""Evidence of an undo: the ids of images by the tags that mean, for as long as dokku makes a container, another one."""


def refuse_without_image(world: World, operation: Operation, service: str) -> None:
    """Raise where a service has no container any more, and the engine not the image that it ran."""
    image_id = str(operation.plan.summary["from"]["image_id"])
    if world.engine.container(container_of(service)) is not None or world.engine.image(image_id) is not None:
        return
    if not survey.exists(world.dokku, service):
        return  # of its data nothing is known here
    reference = str(operation.plan.summary["from"]["image"])
    known = [
        str(digest)
        for evidence in operation.history().evidence.values()
        if evidence.get("image") == image_id
        for digest in evidence.get("digests", ())
    ]
    raise StatefulError(
        f"{service} has no container any more, and the image that it ran ({image_id[7:19]}, then {reference}) is not on"
        " this engine: another one might not know the order in which its indexes are.",
        state=f"nothing was touched; the data of {service} is where it was",
        next_command=shell("docker", "pull", known[0] if known else reference),
    )


def start_again(world: World, operation: Operation, service: str) -> None:
    """Let dokku make the container of a service, which has none, of the image that it ran."""
    refuse_without_image(world, operation, service)
    # Its name cannot be asked for: the plugin itself looks at the container.
    image_id, reference = (str(operation.plan.summary["from"][key]) for key in ("image_id", "image"))
    with _lent(world.engine, operation, reference, image_id):
        services.start(world.reached, service, ready_timeout=world.ready_timeout)
    found = world.container(service)
    if found.image_id != image_id:
        raise StatefulError(
            f"{service} runs {found.image_id[7:19]} in place of {image_id[7:19]}.",
            state=f"{service} runs on its data, of another image than before",
            next_command=world.dokku.typed("postgres:info", service),
        )


def give_back(engine: Engine, operation: Operation) -> None:
    """Let a tag mean again what it meant, where a run that was killed had lent it."""
    lent = operation.history().evidence.get(LENT, {})
    for reference, image_id in lent.items():
        if engine.image(image_id) is not None:
            _name(engine, image_id, reference)
    if lent:
        operation.journal.evidence(LENT, {}, durable=True)


@contextmanager
def _lent(engine: Engine, operation: Operation, reference: str, image_id: str) -> Iterator[None]:
    """Let a tag mean an image meanwhile; one that means none is kept so, since dokku starts the service by it."""
    meant = engine.image(reference)
    if meant is not None and meant.id == image_id:
        yield
        return
    if meant is not None:
        operation.journal.evidence(LENT, {reference: meant.id}, durable=True)
    _name(engine, image_id, reference)
    try:
        yield
    finally:
        give_back(engine, operation)


def _name(engine: Engine, image_id: str, reference: str) -> None:
    repository, _colon, tag = reference.rpartition(":")
    engine.tag(image_id, repository, tag)
