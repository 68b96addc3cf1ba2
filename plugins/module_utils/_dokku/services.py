# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service is made, is as it should be, or is gone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import survey, words
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.arguments import Reached
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    NETWORKS,
    RUNNING,
    App,
    Service,
    Settings,
    container_of,
    differing,
    is_legal,
    points_at,
    service_at,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.readiness import wait_ready

DESTROYS = 2
"""Without its helper image the first call removes the container only, and a second one the rest."""


@dataclass(frozen=True)
class Wanted:
    """A service that is to be there. ``settings`` are those that were given, by name."""

    name: str
    repository: str
    tag: str
    settings: Mapping[str, Any]

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.tag}"


def image_for(reached: Reached, wanted: Wanted) -> str:
    """Return the id of the image that a new service would run; raises where the engine does not have it."""
    image = reached.engine.image(wanted.reference)
    if image is None:
        raise InvalidInput(
            f"The image {wanted.reference} is not on this engine.",
            next_command=shell("docker", "pull", wanted.reference),
        )
    return image.id


def settings_to_change(there: Service, wanted: Wanted) -> tuple[str, ...]:
    """Return what of a service can be and has to be changed; raises for what is decided when a service is made."""
    if wanted.repository and there.image and there.image != wanted.reference:
        raise InvalidInput(
            f"The service {there.name} runs {there.image}, and {wanted.reference} is asked for. The plugin's own"
            " upgrade swaps the image and leaves the data as it is, fit or not: use dokku_postgres_image, which moves"
            " the data to a new service."
        )
    others = differing(wanted.settings, there.settings)
    fixed = [name for name in others if name not in NETWORKS]
    if fixed:
        raise InvalidInput(
            f"The service {there.name} was made with another {', '.join(fixed)}, which the plugin takes only when it"
            " makes a service: dokku_postgres_image makes a new one with what it is given, and moves the data."
        )
    if others and not there.networks_known:
        raise InvalidInput(
            "This version of the plugin knows no networks of services: update it first.",
            next_command=shell("dokku", "plugin:update", "postgres"),
        )
    return others


def make(reached: Reached, wanted: Wanted, *, ready_timeout: float) -> Service:
    """Make a service, and prove that it runs the image that was asked for and answers."""
    settings = Settings().with_given(wanted.settings)
    refuse_unfit(wanted.name, settings)
    call = words.create(wanted.name, wanted.repository, wanted.tag, settings)
    image_id = image_for(reached, wanted)
    answer = reached.dokku.tried(*call, environment=words.create_environment(settings))
    found = survey.service(reached.dokku, reached.engine, wanted.name)
    if found is None or not found.container_id:
        raise reached.dokku.failed(
            call, answer, state=f"the service {wanted.name} is not there, or has no container", safe_to_rerun=True
        )
    if found.image_id != image_id:
        raise StatefulError(
            f"The service {wanted.name} was made, and runs {found.image_id[7:19]} in place of {image_id[7:19]},"
            f" which is what {wanted.reference} means.",
            state=f"the service {wanted.name} is there and nobody is linked to it",
            next_command=reached.dokku.typed("postgres:destroy", wanted.name, "-f"),
        )
    refuse_difference(found, settings)
    wait(reached, wanted.name, ready_timeout)
    return found


def refuse_difference(found: Service, settings: Settings) -> None:
    """Raise where a service was made with other settings than those it was asked with."""
    asked = {name: getattr(settings, name) for name in ("memory", "shm_size", "config_options", *NETWORKS)}
    others = differing({**asked, "custom_env": dict(settings.custom_env)}, found.settings)
    if others:
        raise StatefulError(
            f"The service {found.name} was made without the {', '.join(others)} that it was asked with: this version of"
            " the plugin does not know it.",
            state=f"the service {found.name} is there and nobody is linked to it",
            next_command=shell("dokku", "postgres:destroy", found.name, "-f"),
        )


def refuse_unfit(name: str, settings: Settings) -> None:
    """Raise for what the plugin would refuse, or worse, would take for something else."""
    if not is_legal(name):
        raise InvalidInput(f"{name!r} is no name for a service: letters, digits, - and _ are, and a dot is not.")
    torn = words.unfit_for_environment(settings)
    if torn:
        raise InvalidInput(f"The plugin cannot keep a value with a ; or a line break, as {', '.join(torn)} has.")


def set_networks(reached: Reached, there: Service, wanted: Wanted, names: tuple[str, ...]) -> None:
    """Give a service other networks, which its next container is put into."""
    for name in names:
        reached.dokku.asked("postgres:set", there.name, name.replace("_", "-"), wanted.settings[name])
    found = survey.required(reached.dokku, reached.engine, there.name)
    left = [name for name in names if getattr(found.settings, name) != wanted.settings[name]]
    if left:
        raise StatefulError(f"The service {there.name} does not have the {', '.join(left)} that was set.")


def start(reached: Reached, name: str, *, ready_timeout: float) -> None:
    """Let a service run. The plugin's start answers 0 also where it started nothing: its image may be missing."""
    answer = reached.dokku.tried("postgres:start", name)
    found = reached.engine.container(container_of(name))
    if found is None or not found.running:
        raise reached.dokku.failed(
            ("postgres:start", name),
            answer,
            state=f"the data of {name} is where it was, and the service does not run",
            next_command=reached.dokku.typed("postgres:logs", name),
        )
    wait(reached, name, ready_timeout)


def wait(reached: Reached, name: str, limit: float, *, identity: int = 0) -> None:
    """Wait until the server of a service answers; ``identity`` is that of its cluster, where it is known."""
    found = reached.engine.container(container_of(name))
    if found is None:
        raise StatefulError(f"The service {name} has no container.", next_command=reached.dokku.typed("postgres:list"))
    wait_ready(
        reached.engine,
        found.id,
        deadline=time.monotonic() + limit,
        clock=time.monotonic,
        pause=time.sleep,
        expect_system_identifier=identity,
    )


def users_of(reached: Reached, there: Service) -> list[str]:
    """Return who uses a service: the apps that are linked, and those with a variable that points at it."""
    users = {f"the app {app} is linked to it" for app in there.links}
    for name in survey.names_of_apps(reached.dokku):
        if name in there.links:
            continue
        app = survey.app(reached.dokku, name)
        held = sorted({*app.pointing_at(there), *by_another_user(reached, app, there)})
        if held:
            users.add(f"{', '.join(held)} of the app {name} points at it")
    return sorted(users)


def strangers_of(reached: Reached, app: App, there: Service) -> tuple[str, ...]:
    """Return the variables of an app that name a service by another login than its own."""
    own = there.dsn.user if there.dsn else ""
    found = {
        name: dsn
        for name, dsn in app.addresses.items()
        if dsn.host == there.host and not (points_at(dsn, there) and dsn.user in ("", own))
    }
    if not found:
        return ()
    # Two services may have one host name.
    others = [each for each in survey.services(reached.dokku, reached.engine) if each.name != there.name]
    return tuple(sorted(name for name, dsn in found.items() if service_at(dsn, others) is None))


def by_another_user(reached: Reached, app: App, there: Service) -> tuple[str, ...]:
    """Return those of these variables that may work: a user has one password, and another one was left over."""
    own = there.dsn.user if there.dsn else ""
    return tuple(name for name in strangers_of(reached, app, there) if app.addresses[name].user not in ("", own))


def others_of(reached: Reached, there: Service, app: str) -> list[str]:
    """Return who uses a service beside one app."""
    return [each for each in users_of(reached, there) if f"app {app} " not in f"{each} "]


def remove(reached: Reached, name: str) -> None:
    """Destroy a service with its data; one that was destroyed half is destroyed to the end."""
    root = survey.info(reached.dokku, name, "--service-root")
    answer = None
    for _call in range(DESTROYS):
        answer = reached.dokku.tried("postgres:destroy", name, "--force")
        if is_gone(reached, name, root):
            return
    raise reached.dokku.failed(
        ("postgres:destroy", name, "--force"),
        answer or reached.dokku.tried("postgres:exists", name),
        state=f"the service {name} is destroyed in part: what is left is in {root}",
        next_command=shell("ls", "-la", root),
    )


def is_gone(reached: Reached, name: str, root: str) -> bool:
    gone = not survey.exists(reached.dokku, name) and not os.path.exists(root)
    return gone and reached.engine.container(container_of(name)) is None


def is_running(there: Service) -> bool:
    return there.status == RUNNING
