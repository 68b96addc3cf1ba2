# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processes of an app: stopped, started, and asked whether they answer."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._clock import until
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import parsing, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.image.world import World
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import PRIMARY, dsn_of, host_of
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError, shell

APP_LABEL, TYPE_LABEL, PROCESS_LABEL = "com.dokku.app-name", "com.dokku.container-type", "com.dokku.process-type"
ONE_OFF = frozenset({"run", "cron"})
"""What ``dokku run`` and the schedule of an app begin: nobody's stop reaches them, and they end by themselves."""
WEB_PORT = "5000"
ASKING = 10.0
BROKEN = 500


def processes(world: World, app: str) -> list[Container]:
    """Return the containers of an app that run, also those that a deploy has replaced and that end later."""
    return [each for each in world.engine.containers(labels={APP_LABEL: app}) if each.running]


def with_another_address(world: World, app: str, service: str) -> list[str]:
    """Return the processes of an app that were started with the address of another service.

    Of those that have their variables in their image the engine tells none.
    """
    found = []
    for each in processes(world, app):
        dsn = dsn_of(each.env.get(PRIMARY, ""))
        if dsn is not None and dsn.host != host_of(service):
            found.append(each.name)
    return found


def stop_app(world: World, app: str) -> None:
    """Stop all processes of an app; how many there are to be is kept. Raises where one goes on.

    One-off processes are waited for while the app still works: they end by themselves, or have to be ended by whoever
    began them.
    """
    if not until(lambda: not one_offs(world, app), world.stop_timeout):
        left_over = ", ".join(one_offs(world, app))
        raise StatefulError(
            f"One-off processes of {app} run on after {world.stop_timeout:.0f} s, and may write: {left_over}.",
            next_command=shell("docker", "ps", "--filter", f"label={APP_LABEL}={app}"),
        )
    answer = world.dokku.tried("ps:stop", app)
    left = processes(world, app)
    if any(each.labels.get(TYPE_LABEL) not in ONE_OFF for each in left):
        # What a deploy has replaced runs on for a minute, and dokku's stop does not know it any more.
        world.dokku.tried("ps:retire")
        for each in processes(world, app):
            if each.labels.get(TYPE_LABEL) not in ONE_OFF:
                _stop_process(world, each)
    if not until(lambda: not processes(world, app), world.stop_timeout):
        names = [each.name for each in processes(world, app)]
        raise StatefulError(
            f"Processes of {app} run on after {world.stop_timeout:.0f} s, and may write: {', '.join(names)}."
            f" {answer.said}".rstrip(),
            next_command=shell("docker", "ps", "--filter", f"label={APP_LABEL}={app}"),
        )


def one_offs(world: World, app: str) -> list[str]:
    """Return the names of an app's one-off processes that run."""
    return [each.name for each in processes(world, app) if each.labels.get(TYPE_LABEL) in ONE_OFF]


def _stop_process(world: World, container: Container) -> None:
    try:
        world.engine.stop(container.id, signal="SIGTERM", timeout=world.stop_timeout, kill=True)
    except StatefulError:
        # Removed as it ended, it is as good as stopped.
        if world.engine.container(container.id) is not None:
            raise


def start_app(world: World, app: str) -> None:
    """Start the processes of an app; raises where not all of them run."""
    answer = world.dokku.tried("ps:start", app)
    if not until(lambda: survey.is_running(world.dokku, app) == "true", 5.0 if answer.rc else world.ready_timeout):
        raise world.dokku.failed(
            ("ps:start", app),
            answer,
            state=f"the app {app} does not run",
            next_command=world.dokku.typed("logs", app),
        )


def wait_answer(world: World, app: str, path: str) -> dict[str, Any]:
    """Wait until the web processes of an app answer with less than 500; return how they did. Others are not asked."""
    seen: dict[str, Any] = {}
    expected = parsing.webs_from(world.dokku.asked("ps:scale", app)) if path else 0

    def answers() -> bool:
        webs = [each for each in processes(world, app) if each.labels.get(PROCESS_LABEL) == "web"]
        seen.update({each.name: status_of(each, path) for each in webs})
        current = [seen[each.name] for each in webs]
        if expected and not webs:
            return False
        well = all(isinstance(status, int) and status < BROKEN for status in current)
        return well and survey.is_running(world.dokku, app) == "true"

    if path and not until(answers, world.ready_timeout):
        said = "; ".join(f"{name}: {status}" for name, status in seen.items()) or "no web process runs"
        raise StatefulError(
            f"The app {app} does not answer at {path} on the new service ({said}).",
            next_command=world.dokku.typed("logs", app),
        )
    return seen


class _NotFollowed(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer: an app that wants TLS sends everybody to a proxy that shows the page."""

    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        return None


def status_of(container: Container, path: str) -> int | str:
    """Return the status that a web process itself answers with, or in words why it gives none."""
    if not container.addresses:
        return "no address"
    port = container.env.get("PORT", "") or WEB_PORT
    # No proxy of the environment's stands between this host and its own containers.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NotFollowed())
    try:
        with opener.open(f"http://{container.addresses[0]}:{port}{path}", timeout=ASKING) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
