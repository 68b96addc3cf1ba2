# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to change for an app to be linked to a service, or not to be. Pure.

The plugin's own subcommands are not idempotent, start the app anew at each change, and do not recognise a variable
whose scheme was changed. So what they leave is compared with what is wanted, and only the rest is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import (
    COLOUR,
    DEFAULT_SCHEME,
    PRIMARY,
    SCHEME,
    App,
    Service,
    service_at,
)

COLOURS = (
    *("AQUA", "BLACK", "BLUE", "FUCHSIA", "GRAY", "GREEN", "LIME", "MAROON"),
    *("NAVY", "OLIVE", "PURPLE", "RED", "SILVER", "TEAL", "WHITE", "YELLOW"),
)


@dataclass(frozen=True)
class Wish:
    """How an app is to be linked. ``scheme`` is None where the app's is to stay."""

    primary: bool = False
    alias: str = ""
    query: str = ""
    scheme: str | None = None

    @property
    def variable(self) -> str:
        """The variable that is asked for by name; empty where the plugin may choose."""
        alias = self.alias.upper()
        return "" if not alias else alias if alias.endswith("_URL") else f"{alias}_URL"


@dataclass(frozen=True)
class Changes:
    """What to change of an app. ``values`` hold passwords and stay in memory.

    ``link`` and ``unlink`` are the plugin's own subcommands, ``options`` the containers that the app is made to reach
    and shall not be.
    """

    link: bool = False
    unlink: bool = False
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    unset: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.link or self.unlink or self.values or self.unset or self.options)

    def told(self) -> list[str]:
        """Return the changes for people."""
        said = ["link"] * self.link + ["unlink"] * self.unlink
        said += [f"set {name}" for name in sorted(self.values)] + [f"unset {name}" for name in self.unset]
        return said + [f"remove the option --link {name}" for name in self.options]


def before_linking(app: App, service: Service, wish: Wish) -> Changes:
    """Return what has to be done first: the scheme, and the link itself, with room made for its variable."""
    linked = app.name in service.links
    held = app.pointing_at(service)
    values = {}
    unset: tuple[str, ...] = ()
    if wish.scheme is not None and wish.scheme != app.scheme:
        if wish.scheme:
            values[SCHEME] = wish.scheme
        else:
            unset = (SCHEME,)
    if not linked:
        # The plugin would take an address that was left over for a link.
        unset += held
    return Changes(link=not linked or not held, values=values, unset=unset)


def after_linking(app: App, service: Service, services: Iterable[Service], wish: Wish) -> Changes:
    """Return what is left to do for an app that is linked."""
    known = list(services)
    if service.dsn is None:
        raise ValueError(f"{service.name} has no address")
    scheme = app.scheme or DEFAULT_SCHEME
    own = replace(service.dsn, scheme=scheme, query=wish.query)
    values: dict[str, str] = {}
    for name in app.pointing_at(service):
        there = app.addresses[name]
        if wish.scheme is not None and there.scheme != scheme:
            values[name] = replace(there, scheme=scheme).text()
    if wish.variable and wish.variable not in app.pointing_at(service):
        values[wish.variable] = own.text()
    if wish.primary and PRIMARY not in app.pointing_at(service):
        held = app.pointing_at(service)
        values[PRIMARY] = replace(own, query=wish.query or (app.addresses[held[0]].query if held else "")).text()
        values.update(_kept(app, known))
    return Changes(values=values, unset=stale_colours(app, known))


def for_unlinking(app: App, service: Service) -> Changes:
    """Return what has to change for nothing of an app to point at a service any more."""
    held = app.pointing_at(service)
    options = tuple(name for name in app.options if name == service.container)
    linked = app.name in service.links
    return Changes(unlink=linked, unset=held, options=options)


def stale_colours(app: App, services: Iterable[Service]) -> tuple[str, ...]:
    """Return the variables without a name of their own that point at what the app is not linked to."""
    known = list(services)
    found = []
    for name, dsn in sorted(app.addresses.items()):
        service = service_at(dsn, known)
        if COLOUR.fullmatch(name) and (service is None or app.name not in service.links):
            found.append(name)
    return tuple(found)


def _kept(app: App, services: Iterable[Service]) -> dict[str, str]:
    """Return the variable under which the service stays known that was primary, as the plugin's promote does it."""
    before = app.primary
    if before is None or any(dsn.host == before.host for name, dsn in app.addresses.items() if name != PRIMARY):
        return {}
    service = service_at(before, services)
    if service is None or app.name not in service.links:
        return {}
    return {free_colour(app): before.text()}


def free_colour(app: App) -> str:
    """Return the first variable of a colour that the app does not have."""
    names = (f"DOKKU_POSTGRES_{colour}_URL" for colour in COLOURS)
    return next(name for name in names if name not in app.addresses)
