# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The calls that make services, link them and back them up, as words. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    Schedule,
    Settings,
    container_of,
    host_of,
)

CUSTOM_ENV = "POSTGRES_CUSTOM_ENV"
"""The plugin takes a service's variables from here too, so that they are no words of a command."""
PHASES = "build,deploy,run"


def create(name: str, repository: str, tag: str, settings: Settings) -> tuple[str, ...]:
    """Return the call that makes a service; its variables go by :func:`create_environment`."""
    flags = (
        ("-i", repository),
        ("-I", tag),
        ("-m", settings.memory),
        ("-s", settings.shm_size),
        ("-c", settings.config_options),
        ("-N", settings.initial_network),
        ("-P", settings.post_create_network),
        ("-S", settings.post_start_network),
    )
    return ("postgres:create", name, *(word for flag, value in flags if value for word in (flag, value)))


def create_environment(settings: Settings) -> dict[str, str]:
    """Return the variables of the call that makes a service."""
    given = ";".join(f"{name}={value}" for name, value in sorted(settings.custom_env.items()))
    return {CUSTOM_ENV: given} if given else {}


def unfit_for_environment(settings: Settings) -> list[str]:
    """Return the variables of a service whose values the plugin would tear apart."""
    return sorted(name for name, value in settings.custom_env.items() if ";" in value or "\n" in value)


def link(service: str, app: str, *, alias: str = "", query: str = "") -> tuple[str, ...]:
    """Return the call that links a service; the app is not started anew by it."""
    flags = (("-a", alias), ("-q", query))
    return ("postgres:link", service, app, *(word for flag, value in flags if value for word in (flag, value)), "-n")


def unlink(service: str, app: str) -> tuple[str, ...]:
    return ("postgres:unlink", service, app, "-n")


def set_variables(app: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the call that sets variables and starts nothing; encoded, no character of theirs means anything."""
    pairs = (f"{name}={base64.b64encode(value.encode()).decode()}" for name, value in sorted(values.items()))
    return ("config:set", "--no-restart", "--encoded", app, *pairs)


def unset_variables(app: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return ("config:unset", "--no-restart", app, *names)


def remove_link_option(app: str, service: str) -> tuple[str, ...]:
    """Return the call that takes what a link has left in an app's options."""
    return ("docker-options:remove", app, PHASES, f"--link {container_of(service)}:{host_of(service)}")


def authenticate(service: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the call that stores a login; trailing values that are empty are left out."""
    kept = list(values)
    while kept and not kept[-1]:
        kept.pop()
    return ("postgres:backup-auth", service, *kept)


def schedule(service: str, wanted: Schedule) -> tuple[str, ...]:
    iam = ("--use-iam",) if wanted.use_iam else ()
    return ("postgres:backup-schedule", service, wanted.cron, wanted.bucket, *iam)


def backup(service: str, bucket: str, *, use_iam: bool) -> tuple[str, ...]:
    return ("postgres:backup", service, bucket, *(("--use-iam",) if use_iam else ()))
