# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app is linked to a service, or is not: done with as few restarts as there can be, and looked at afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import plan_links, survey, words
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import PRIMARY, App, Service
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.plan_links import Changes, Wish
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

MIXED = "mixed"
UP = ("true", MIXED)


@dataclass(frozen=True)
class Linking:
    """Who is to be linked to whom, beside the other services of the host."""

    app: App
    service: Service
    services: tuple[Service, ...]


def link(dokku: Dokku, there: Linking, wish: Wish) -> list[str]:
    """Link an app, and return what was done; nothing is started anew. Raises where it is not so afterwards."""
    app, service = there.app.name, there.service
    first = plan_links.before_linking(there.app, service, wish)
    carry_out(dokku, app, service, first)
    if first.link:
        call = words.link(service.name, app, alias=wish.alias, query=wish.query)
        answer = dokku.tried(*call)
        service = _seen(dokku, service)
        if app not in service.links or not survey.app(dokku, app).pointing_at(service):
            raise dokku.failed(call, answer, state=f"the app {app} runs as before, and {service.name} is untouched")
    known = [*(each for each in there.services if each.name != service.name), service]
    rest = plan_links.after_linking(survey.app(dokku, app), service, known, wish)
    carry_out(dokku, app, service, rest)
    seen = survey.app(dokku, app)
    left = plan_links.after_linking(seen, service, known, wish)
    if left or (wish.primary and PRIMARY not in seen.pointing_at(service)):
        raise StatefulError(f"The app {app} is not linked to {service.name} as it should be: {left.told()} is left.")
    return [*first.told(), *rest.told()]


def unlink(dokku: Dokku, app: App, service: Service) -> list[str]:
    """Take everything of a service from an app, and return what was done; nothing is started anew."""
    wanted = plan_links.for_unlinking(app, service)
    if wanted.unlink:
        # It takes the link away also where it then ends with 1, because no variable is as it expects.
        dokku.tried(*words.unlink(service.name, app.name))
    rest = plan_links.for_unlinking(survey.app(dokku, app.name), _seen(dokku, service))
    carry_out(dokku, app.name, service, rest)
    left = plan_links.for_unlinking(survey.app(dokku, app.name), _seen(dokku, service))
    if left:
        raise StatefulError(f"The app {app.name} is not rid of {service.name}: {', '.join(left.told())} is left.")
    return wanted.told()


def carry_out(dokku: Dokku, app: str, service: Service, changes: Changes) -> None:
    """Set and unset variables and take options away; links are the caller's."""
    if changes.values:
        set_values(dokku, app, changes.values)
    if changes.unset:
        dokku.asked(*words.unset_variables(app, changes.unset))
    for _container in changes.options:
        dokku.asked(*words.remove_link_option(app, service.name))


def set_values(dokku: Dokku, app: str, values: Mapping[str, str]) -> None:
    """Set variables of an app without starting it anew. They are words of the command for as long as it runs."""
    call = words.set_variables(app, values)
    answer = dokku.tried(*call)
    there = survey.variables(dokku, app)
    if any(there.get(name) != value for name, value in values.items()):
        raise dokku.failed(("config:set", app, *sorted(values)), answer)


def restart(dokku: Dokku, app: str) -> None:
    """Start an app anew. A change of its variables answers 0 whatever becomes of the app, and this does not."""
    answer = dokku.tried("ps:restart", app)
    if answer.rc != 0 or survey.is_running(dokku, app) != "true":
        raise dokku.failed(
            ("ps:restart", app),
            answer,
            state=f"the app {app} has its new variables; of its processes the old ones run on where they can",
            next_command=dokku.typed("logs", app),
        )


def _seen(dokku: Dokku, service: Service) -> Service:
    """Return a service with its links as they are now."""
    return replace(service, links=survey.links(dokku, service.name))
