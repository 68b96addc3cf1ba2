# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``postgres:link`` and what belongs to it: which of an app's variables hold the address of which service."""

from __future__ import annotations

from . import config, deploy, variables
from .flags import parse
from .ground import Host
from .service import Service, every, existing
from .words import Fail, info1, plain, verbose

PRIMARY = "DATABASE_URL"
COLORS = (
    "AQUA", "BLACK", "BLUE", "FUCHSIA", "GRAY", "GREEN", "LIME", "MAROON", "NAVY", "OLIVE", "PURPLE", "RED", "SILVER",
    "TEAL", "WHITE", "YELLOW",
)  # fmt: skip
SCHEME = "POSTGRES_DATABASE_SCHEME"


def forget_app(host: Host, app: str) -> None:
    """Take an app that is removed off the lists of all services."""
    for service in every(host):
        service.write_links(set(service.links) - {app})


def _both(host: Host, args: list[str]) -> tuple[Service, str]:
    """Return the service and the app, both of which are there."""
    if not args:
        raise Fail("Please specify a valid name for the service")
    if len(args) < 2:
        raise Fail("Please specify an app to run the command on")
    service = existing(host, args[0])
    host.app(args[1])
    return service, args[1]


def _dsn(service: Service, values: dict[str, str]) -> str:
    """Return the service's address as the app's scheme of now makes it."""
    return service.dsn(values.get(SCHEME) or "postgres")


def _holding(values: dict[str, str], dsn: str) -> list[str]:
    """Return the variables that hold an address, with a query string or without."""
    return sorted(key for key, value in values.items() if dsn in value)


def _color(values: dict[str, str]) -> str:
    """Return the first variable with a colour that is free."""
    names = (f"DOKKU_POSTGRES_{color}_URL" for color in COLORS)
    free = next((name for name in names if name not in values), None)
    if free is None:
        raise Fail("Unable to use default or generated URL alias")
    return free


def _option(service: Service) -> str:
    return f"--link {service.container}:{service.hostname}"


def _link(host: Host, args: list[str]) -> None:
    service, app = _both(host, args)
    flags = parse(args[2:], {"a": "alias", "q": "querystring", "n": "no-restart"}, ("no-restart",))
    values = variables.load(host, app)
    dsn = _dsn(service, values)
    if flags.get("alias"):
        alias = flags["alias"].upper().removesuffix("_URL")
        name = f"{alias}_URL"
        if name in values:
            raise Fail(f"Specified alias {alias} already in use")
    else:
        name = PRIMARY if PRIMARY not in values else _color(values)
    linked = _holding(values, dsn)
    if linked:
        raise Fail(f"Already linked as {' '.join(linked)}")
    service.write_links({*service.links, app})
    options = deploy.docker_options(host, app)
    if _option(service) not in options:
        deploy.write_docker_options(host, app, [*options, _option(service)])
    query = flags.get("querystring", "").removeprefix("?")
    restart = "no-restart" not in flags
    config.set_many(host, app, {name: f"{dsn}?{query}" if query else dsn}, restart=restart)
    if not restart:
        verbose("Skipping restart of linked app")


def _unlink(host: Host, args: list[str]) -> None:
    """Remove the link and each variable that holds the address; one with another scheme is not recognised."""
    service, app = _both(host, args)
    flags = parse(args[2:], {"n": "no-restart"}, ("no-restart",))
    values = variables.load(host, app)
    linked = _holding(values, _dsn(service, values))
    service.write_links(set(service.links) - {app})
    options = deploy.docker_options(host, app)
    deploy.write_docker_options(host, app, [each for each in options if each != _option(service)])
    if not linked:
        raise Fail(f"Not linked to app {app}")
    restart = "no-restart" not in flags
    config.unset_many(host, app, linked, restart=restart)
    if not restart:
        verbose("Skipping restart of linked app")


def _promote(host: Host, args: list[str]) -> None:
    """Make a linked service the primary one; what was primary gets a colour, unless another variable has it."""
    service, app = _both(host, args)
    values = variables.load(host, app)
    linked = _holding(values, _dsn(service, values))
    if not linked:
        raise Fail(f"Not linked to app {app}")
    if PRIMARY in linked:
        raise Fail(f"Service {service.name} already promoted as {PRIMARY}")
    changes = {PRIMARY: values[linked[0]]}
    before = values.get(PRIMARY)
    if before and not any(value == before for key, value in values.items() if key != PRIMARY):
        changes[_color(values)] = before
    config.set_many(host, app, changes)


def _linked(host: Host, args: list[str]) -> None:
    service, app = _both(host, args)
    values = variables.load(host, app)
    if not _holding(values, _dsn(service, values)):
        raise Fail(f"Service {service.name} is not linked to {app}")
    info1(f"Service {service.name} is linked to {app}")


def _links(host: Host, args: list[str]) -> None:
    for app in existing(host, args[0] if args else "").links:
        plain(app)


def _app_links(host: Host, args: list[str]) -> None:
    app = args[0] if args else ""
    host.app(app)
    for service in every(host):
        if app in service.links:
            plain(service.name)


COMMANDS = {
    "postgres:link": _link, "postgres:unlink": _unlink, "postgres:promote": _promote, "postgres:linked": _linked,
    "postgres:links": _links, "postgres:app-links": _app_links,
}  # fmt: skip
