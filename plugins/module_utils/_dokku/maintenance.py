# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page in front of an app, by what its report says."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import parsing, survey
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

RESTARTS_NGINX = "systemctl status nginx"


def refuse_silent(found: dict[str, tuple[int, ...]]) -> None:
    """Raise where the plugin is missing, or cannot be asked whether the page is shown."""
    there = found.get(survey.MAINTENANCE, ())
    if there >= survey.FIRST_REPORTING:
        return
    oldest = ".".join(map(str, survey.FIRST_REPORTING))
    have = f"has the version {'.'.join(map(str, there))} of it" if there else "does not have it"
    raise InvalidInput(
        f"The page of an app is the plugin maintenance's, and this host {have}; from {oldest} on it can be asked"
        " whether it is shown.",
        next_command="dokku plugin:install https://github.com/dokku/dokku-maintenance.git maintenance"
        if not there
        else "dokku plugin:update maintenance",
    )


def is_enabled(dokku: Dokku, app: str) -> bool:
    return parsing.is_on(parsing.report(dokku.asked("maintenance:report", app, "--format", "json"))["enabled"])


def set_enabled(dokku: Dokku, app: str, wanted: bool) -> None:
    """Show the page or take it away. It ends with 1 also where it did its work, so the report is asked."""
    call = ("maintenance:enable" if wanted else "maintenance:disable", app)
    answer = dokku.tried(*call)
    if is_enabled(dokku, app) != wanted:
        raise StatefulError(
            f"{dokku.typed(*call)} ended with {answer.rc}, and the report says that the page is"
            f" {'not ' if wanted else 'still '}shown: {answer.said}",
            next_command=RESTARTS_NGINX,
        )
