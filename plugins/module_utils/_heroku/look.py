# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at an app and its databases. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.addresses import Address, copies_of
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
HIDDEN = frozenset({403, 404})
"""How Heroku answers a key that may not see something."""
T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """Databases, and in words which of the app's could not be looked at."""

    databases: tuple[Database, ...]
    warnings: tuple[str, ...] = ()


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


def databases_of(heroku: Heroku, app: str, name: str = "") -> Seen:
    """Return the databases that an app sees, or the one of this name, each with all apps that see it.

    One that the key may not see is told, and stands in nobody's way; raises where it is the one that was asked for,
    or where no other is left.
    """
    addons = {addon.id: addon for addon, _attachment in heroku.attached(app)}
    wanted = heroku.find(app, name) if name else None
    if wanted is not None:
        addons.setdefault(wanted.id, wanted)
    hidden: dict[str, Refused] = {}

    def unless_hidden(addon: Addon, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except Refused as error:
            if error.status not in HIDDEN or (wanted is not None and addon.id == wanted.id):
                raise
            hidden[addon.name] = error
            return None

    def asked(addon: Addon) -> Service | None:
        return unless_hidden(addon, lambda: heroku.service(addon))

    services = {each: service for each, addon in addons.items() if (service := asked(addon)) is not None}
    names = _names(addons.values(), services)

    def looked_at(addon: Addon, service: Service) -> Database | None:
        return unless_hidden(addon, lambda: _database(heroku, addon, service, names))

    found = [
        looked_at(addons[each], service) for each, service in services.items() if wanted is None or each == wanted.id
    ]
    databases = tuple(each for each in found if each is not None)
    if hidden and not databases:
        raise next(iter(hidden.values()))
    return Seen(databases, tuple(f"{each} of {app} could not be looked at: {hidden[each].msg}" for each in hidden))


def database_of(heroku: Heroku, app: str, name: str) -> Database:
    (found,) = databases_of(heroku, app, name).databases
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


def _names(addons: Iterable[Addon], services: Mapping[str, Service]) -> dict[Address, str]:
    seen = [(addon, services[addon.id].address) for addon in addons if addon.id in services]
    return {address: addon.name for addon, address in seen if address is not None}


def _database(heroku: Heroku, addon: Addon, service: Service, names: Mapping[Address, str]) -> Database:
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
