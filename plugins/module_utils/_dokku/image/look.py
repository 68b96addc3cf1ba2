# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host says that a swap is planned from. Changes nothing."""

from __future__ import annotations

import os
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import maintenance, services, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image import beside
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.files_way import files_way
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.model import (
    Found,
    Request,
    Room,
    default_name,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.links import MIXED, UP
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import RUNNING, App, Service, service_at
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Image
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import examine
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import mounts


def app_and_service(world: World, request: Request) -> tuple[App, Service]:
    """Return the app, and the service that it has its data in; raises where that is none of the plugin's."""
    app = survey.app(world.dokku, request.app)
    if app.primary is None:
        raise InvalidInput(
            f"DATABASE_URL of {app.name} does not point at a service of dokku's plugin for Postgres.",
            next_command=world.dokku.typed("postgres:app-links", app.name),
        )
    found = service_at(app.primary, survey.services(world.dokku, world.engine))
    if found is None:
        raise InvalidInput(
            f"DATABASE_URL of {app.name} points at {app.primary.host}, and there is no such service.",
            next_command=world.dokku.typed("postgres:list"),
        )
    return app, found


def image_of(world: World, request: Request) -> Image:
    """Return the image that is wanted; raises where it is not on this engine."""
    image = world.engine.image(request.reference)
    if image is None:
        raise InvalidInput(
            f"The image {request.reference} is not on this engine.",
            next_command=shell("docker", "pull", request.reference),
        )
    return image


def find(world: World, request: Request, app: App, old: Service, image: Image) -> Found:
    """Return all that a plan has to know."""
    name = request.name or default_name(app.name, request.repository, request.version, image.created)
    settings = old.settings.with_given({key: value for key, value in request.settings.items() if key != "custom_env"})
    settings = replace(settings, custom_env={**old.settings.custom_env, **world.environment})
    services.refuse_unfit(old.name, settings)
    known = survey.versions(world.dokku)
    tells = known.get(survey.MAINTENANCE, ()) >= survey.FIRST_REPORTING
    files = files_way(world, request, old, name) if old.status == RUNNING else None
    candidate = files.found.candidate if files else examine(world.engine, image.id)
    major = int(candidate.major.partition(".")[0])
    running = survey.is_running(world.dokku, app.name)
    facts = Found(
        app=app,
        old=survey.with_schedule(world.dokku, old),
        settings=settings,
        running=running in UP,
        mixed=running == MIXED,
        maintained=maintenance.is_enabled(world.dokku, app.name) if tells else None,
        image_id=image.id,
        built=image.created,
        name=name,
        name_taken=survey.exists(world.dokku, name),
        others=tuple(services.others_of(world.reached, old, app.name)),
        strangers=services.strangers_of(world.reached, app, old),
        major=0,
        new_major=major,
        database_bytes=0,
        lacks=(),
        beside={},
        backup_room=_room(request.backup_dir),
        data_room=_room(old.root),
        files=files,
    )
    if files is None:
        return facts
    subject = files.found.subject
    with world.session(old.name, old.database) as there:
        return replace(
            facts,
            major=int(subject.cluster.major.partition(".")[0]),
            database_bytes=int(there.scalar("SELECT pg_database_size(current_database())")),
            lacks=beside.lacks(subject, candidate, old.container),
            beside=beside.beside(there, old.database),
        )


def _room(path: str) -> Room:
    system = mounts.filesystem_of(path)
    return Room(system.mount_point, system.device, system.bytes_free)


def backup_path(request: Request, operation: str) -> str:
    return os.path.join(request.backup_dir, f"{operation}.dump")
