# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at an app and its databases. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.addresses import copies_of
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.api import Heroku
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import Refused
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import (
    NONE,
    RELEASE,
    Addon,
    Database,
    Maintenance,
    Service,
    formation_as_dict,
    is_essential,
)

SCHEDULER = "scheduler"


def maintenance_of(heroku: Heroku, addon: Addon) -> Maintenance:
    """Return the newest maintenance; one that is none for a tier that has none."""
    if is_essential(addon.plan):
        return Maintenance()
    try:
        return heroku.maintenance(addon)
    except Refused as error:
        if error.status == 404:
            return Maintenance(status=NONE)
        raise


def databases_of(heroku: Heroku, app: str, name: str = "") -> list[Database]:
    """Return the databases that an app sees, or the one of this name, each with all apps that see it."""
    addons = {addon.id: addon for addon, _attachment in heroku.attached(app)}
    wanted = heroku.find(app, name) if name else None
    if wanted is not None:
        addons.setdefault(wanted.id, wanted)
    services = {each: heroku.service(addons[each]) for each in addons}
    names = _names(addons.values(), services)
    return [
        _database(heroku, addons[each], services[each], names) for each in addons if wanted is None or each == wanted.id
    ]


def database_of(heroku: Heroku, app: str, name: str) -> Database:
    (found,) = databases_of(heroku, app, name)
    return found


def again(heroku: Heroku, database: Database) -> Database:
    """Look at the same database once more, by its id: its attachments are taken to be the same."""
    addon = heroku.addon(database.addon.id)
    return Database(
        addon,
        heroku.service(addon),
        maintenance_of(heroku, addon),
        database.attachments,
        database.leader,
        database.followers,
    )


def _names(addons: Any, services: dict[str, Service]) -> dict[Any, str]:
    return {service.address: addon.name for addon in addons if (service := services[addon.id]).address is not None}


def _database(heroku: Heroku, addon: Addon, service: Service, names: dict[Any, str]) -> Database:
    return Database(
        addon=addon,
        service=service,
        maintenance=maintenance_of(heroku, addon),
        attachments=heroku.attachments_of(addon),
        leader=names.get(service.follows, "") if service.follows else None,
        followers=tuple(names.get(each, "") for each in service.followed_by),
    )


def app_facts(heroku: Heroku, app: str, databases: Sequence[Database]) -> dict[str, Any]:
    """Return of an app what a change of its database touches."""
    formation = heroku.formation(app)
    services = heroku.services(app)
    own = [
        name
        for each in databases
        for attached in each.attachments
        if attached.app == app
        for name in attached.config_vars
    ]
    addresses = {each.service.address: each.addon.name for each in databases if each.service.address is not None}
    return {
        "name": app,
        "maintenance": heroku.in_maintenance(app),
        "formation": formation_as_dict(formation),
        "scheduler": SCHEDULER in services,
        "release_phase": RELEASE in formation,
        "copies": copies_of(addresses, heroku.config_vars(app), own),
    }
