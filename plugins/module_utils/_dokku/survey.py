# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at the services and apps of a host. Changes nothing."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import parsing
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    MISSING,
    NETWORKS,
    App,
    Service,
    Settings,
    container_of,
    dsn_of,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

POSTGRES, MAINTENANCE = "postgres", "maintenance"
OLDEST = {"dokku": (0, 20, 4), POSTGRES: (1, 11, 5)}
"""The oldest versions that the work was written for."""
CRON = "/etc/cron.d/dokku-postgres-"
"""The plugin's own files of cron, less the name of the service."""
OF_DOKKU = "00_dokku-standard"
FIRST_REPORTING = (0, 5)
"""The first maintenance plugin that can be asked whether the page is shown."""


def versions(dokku: Dokku) -> dict[str, tuple[int, ...]]:
    """Return the versions of dokku and of its plugins."""
    found = parsing.plugin_versions(dokku.asked("plugin:list"))
    # Its own plugins have its version.
    return {**found, "dokku": found.get(OF_DOKKU) or parsing.version_from(dokku.asked("version"))}


def refuse_old(found: dict[str, tuple[int, ...]]) -> None:
    """Raise where dokku or its plugin for Postgres is missing or too old."""
    for name, oldest in OLDEST.items():
        there = found.get(name, ())
        if there >= oldest:
            continue
        wanted = ".".join(map(str, oldest))
        what = "dokku" if name == "dokku" else f"the plugin {name}"
        raise InvalidInput(
            f"This host has {what} {'.'.join(map(str, there))}, and {wanted} is the oldest that is supported."
            if there
            else f"This host has no {what}, or it is not enabled.",
            next_command="dokku plugin:list",
        )


def names_of_services(dokku: Dokku) -> list[str]:
    return parsing.listed(dokku.asked("postgres:list"))


def names_of_apps(dokku: Dokku) -> list[str]:
    return parsing.listed(dokku.asked("apps:list"))


def exists(dokku: Dokku, service: str) -> bool:
    return dokku.says_yes("postgres:exists", service)


def service(dokku: Dokku, engine: Engine, name: str) -> Service | None:
    """Return one service; None where there is none. When it is backed up, :func:`with_schedule` reads."""
    call = ("postgres:info", name)
    answer = dokku.tried(*call)
    if answer.rc != 0:
        if exists(dokku, name):
            raise dokku.failed(call, answer)
        return None
    facts = parsing.facts(answer.stdout)
    lacking = [key for key in ("service-root", "data-dir", "dsn", "links") if key not in facts]
    if lacking:
        raise dokku.failed(call, answer, state=f"the answer has no {', '.join(lacking)}, so that nothing was done")
    container = engine.container(container_of(name))
    root = facts["service-root"]
    return Service(
        name=name,
        image=container.image_ref if container else "",
        image_id=container.image_id if container else "",
        status=container.status if container else MISSING,
        links=parsing.words_or_none(facts["links"]),
        root=root,
        container_id=container.id if container else "",
        dsn=dsn_of(facts["dsn"]),
        data=facts["data-dir"],
        settings=_settings(root, facts),
        encrypted=bool(glob.glob(os.path.join(glob.escape(root), "backup-encryption*"))),
        authenticated=os.path.isdir(os.path.join(root, "backup")),
        networks_known="initial-network" in facts,
        exposed=" ".join(parsing.words_or_none(facts.get("exposed-ports", ""))),
    )


def with_schedule(dokku: Dokku, found: Service) -> Service:
    answer = dokku.tried("postgres:backup-schedule-cat", found.name)
    if answer.rc != 0:
        return replace(found, schedule=None, schedule_unread=os.path.exists(f"{CRON}{found.name}"))
    schedule = parsing.schedule_from(answer.stdout)
    return replace(found, schedule=schedule, schedule_unread=schedule is None and bool(answer.stdout.strip()))


def services(dokku: Dokku, engine: Engine) -> list[Service]:
    found = (service(dokku, engine, name) for name in names_of_services(dokku))
    return [each for each in found if each is not None]


def container(engine: Engine, name: str) -> Container | None:
    return engine.container(container_of(name))


def info(dokku: Dokku, name: str, flag: str) -> str:
    return parsing.bare(dokku.asked("postgres:info", name, flag))


def links(dokku: Dokku, name: str) -> tuple[str, ...]:
    """Return the apps that a service is linked to, by the plugin's own list."""
    return parsing.words_or_none(info(dokku, name, "--links"))


def app(dokku: Dokku, name: str) -> App:
    """Return one app; raises where there is none."""
    values = variables(dokku, name)
    options = dokku.asked("docker-options:report", name, "--docker-options-deploy")
    return parsing.app_from(name, values, options)


def variables(dokku: Dokku, app: str) -> dict[str, str]:
    """Return an app's variables; these are secrets, and stay in memory. Raises where there is no such app."""
    call = ("config:export", app, "--format", "json")
    answer = dokku.tried(*call)
    if answer.rc == 0:
        return parsing.variables(answer.stdout)
    if dokku.says_yes("apps:exists", app):
        raise dokku.failed(call, answer)
    raise InvalidInput(f"There is no app {app} on this host.", next_command=dokku.typed("apps:list"))


def is_running(dokku: Dokku, app: str) -> str:
    """Return ``true``, ``false`` or ``mixed``, as dokku says of an app's processes."""
    return parsing.bare(dokku.asked("ps:report", app, "--running"))


def required(dokku: Dokku, engine: Engine, name: str) -> Service:
    """Return a service that has to be there."""
    found = service(dokku, engine, name)
    if found is None:
        raise InvalidInput(f"There is no service {name} on this host.", next_command=dokku.typed("postgres:list"))
    return found


def _settings(root: str, facts: Mapping[str, str]) -> Settings:
    networks = {name: facts.get(name.replace("_", "-"), "") for name in NETWORKS}
    return Settings(
        memory=read_file(root, "SERVICE_MEMORY"),
        shm_size=read_file(root, "SHM_SIZE"),
        config_options=read_file(root, "CONFIG_OPTIONS"),
        custom_env=parsing.environment(read_file(root, "ENV")),
        **networks,
    )


def read_file(root: str, name: str) -> str:
    """Return what a file of a service's directory holds; empty where it is not there."""
    try:
        with open(os.path.join(root, name), encoding="utf-8") as handle:
            return handle.read().strip()
    except FileNotFoundError:
        return ""
