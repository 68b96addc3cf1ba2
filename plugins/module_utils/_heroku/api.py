# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Heroku's Platform API and Data API, as far as they are used here: one method a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.http import ACCEPT, Http, Refused
from ansible_collections.selfhost.stateful.plugins.module_utils._heroku.model import (
    SERVICE,
    Addon,
    Attachment,
    Maintenance,
    Process,
    Service,
    formation_from,
    maintenance_from,
    plain_plan,
    service_from,
)

INCLUDING = {"Accept": f"{ACCEPT}.sdk", "Accept-Inclusion": "addon:plan,config_vars"}
EXPANDING = {"Accept": f"{ACCEPT}.sdk", "Accept-Expansion": "addon_service,plan"}


@dataclass(frozen=True)
class Heroku:
    """Questions change nothing. What changes something may raise ``BrokenOff``: then it has to be read back."""

    http: Http
    platform: str
    data: str

    # -- apps ----------------------------------------------------------------

    def app(self, app: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(self.platform, "apps", app)
        return found

    def in_maintenance(self, app: str) -> bool:
        return bool(self.app(app)["maintenance"])

    def set_maintenance(self, app: str, on: bool) -> None:
        self._tell("PATCH", self.platform, "apps", app, body={"maintenance": on})

    def formation(self, app: str) -> dict[str, Process]:
        return formation_from(self._ask(self.platform, "apps", app, "formation"))

    def scale(self, app: str, updates: Sequence[Mapping[str, Any]]) -> None:
        """Change several process types at once: all of them, or none."""
        self._tell("PATCH", self.platform, "apps", app, "formation", body={"updates": list(updates)})

    def dynos(self, app: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask(self.platform, "apps", app, "dynos")
        return found

    def config_vars(self, app: str) -> dict[str, Any]:
        """Return the config vars of an app. They are secrets: compare, and let go."""
        found: dict[str, Any] = self._ask(self.platform, "apps", app, "config-vars")
        return found

    def services(self, app: str) -> list[str]:
        """Return the names of the services of which the app has an add-on."""
        found = self._ask(self.platform, "apps", app, "addons", headers=EXPANDING)
        return sorted({str((each.get("addon_service") or {}).get("name") or "") for each in found})

    # -- databases, on the Platform API ----------------------------------------

    def attached(self, app: str) -> list[tuple[Addon, Attachment]]:
        """Return every database that the app sees, once for each attachment."""
        found = self._ask(self.platform, "apps", app, "addon-attachments", headers=INCLUDING)
        pairs = [(_addon(each["addon"]), _attachment(each)) for each in found]
        return [(addon, attachment) for addon, attachment in pairs if addon.is_postgres]

    def attachments_of(self, addon: Addon) -> tuple[Attachment, ...]:
        found = self._ask(self.platform, "addons", addon.id, "addon-attachments", headers=INCLUDING)
        return tuple(_attachment(each) for each in found)

    def addon(self, addon_id: str) -> Addon:
        return _addon(self._ask(self.platform, "addons", addon_id, headers=EXPANDING))

    def find(self, app: str, name: str) -> Addon:
        """Return the database that an attachment, a config var or an add-on of this name is."""
        found = self._resolved("addon-attachments", {"addon_attachment": name, "app": app}, INCLUDING)
        addons = [_addon(each["addon"]) for each in found]
        if not addons:
            addons = [_addon(each) for each in self._resolved("addons", {"addon": name, "app": app}, EXPANDING)]
        databases = {each.id: each for each in addons if each.is_postgres}
        if len(databases) == 1:
            return next(iter(databases.values()))
        self.app(app)  # an app that is not there is told first
        there = sorted({f"{attachment.name} ({addon.name})" for addon, attachment in self.attached(app)})
        what = "is more than one database" if databases else "is no database"
        raise InvalidInput(
            f"{name} {what} of the app {app}; it has: {', '.join(there) or 'none'}. Set database to one of these names."
        )

    def plans(self) -> list[str]:
        return [plain_plan(each["name"]) for each in self._ask(self.platform, "addon-services", SERVICE, "plans")]

    def change_plan(self, addon: Addon, plan: str) -> None:
        body = {"plan": {"name": f"{SERVICE}:{plain_plan(plan)}"}}
        self._tell("PATCH", self.platform, "apps", addon.app, "addons", addon.name, body=body)

    def _resolved(self, what: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> list[dict[str, Any]]:
        # A POST, but it asks only.
        url = _url(self.platform, "actions", what, "resolve")
        try:
            found: list[dict[str, Any]] = self.http.ask("POST", url, body, headers)
        except Refused as error:
            if error.status in (404, 422):
                return []
            raise
        return found

    # -- databases, on the Data API ---------------------------------------------

    def service(self, addon: Addon) -> Service:
        return service_from(self._ask(self.data, "client", "v11", "databases", addon.id))

    def maintenance(self, addon: Addon) -> Maintenance:
        return maintenance_from(self._ask(self.data, "data", "maintenances", "v1", addon.id))

    def run_maintenance(self, addon: Addon) -> None:
        self._tell("POST", self.data, "data", "maintenances", "v1", addon.id, "run")

    def delay_maintenance(self, addon: Addon, weeks: int) -> None:
        place = ("data", "maintenances", "v1", addon.id, "schedule")
        self._tell("POST", self.data, *place, body={"delay_weeks": str(weeks)})

    def set_window(self, addon: Addon, day_of_week: str, time_of_day: str) -> None:
        body = {"day_of_week": day_of_week, "time_of_day": time_of_day}
        self._tell("POST", self.data, "data", "maintenances", "v1", addon.id, "window", body=body)

    def capture(self, addon: Addon) -> dict[str, Any]:
        """Begin a backup, and return it as the API tells it."""
        begun = self._tell("POST", self.data, "client", "v11", "databases", addon.id, "backups")
        return begun if isinstance(begun, dict) else {}

    def transfers(self, app: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask(self.data, "client", "v11", "apps", app, "transfers")
        return found

    def transfer(self, app: str, uuid: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(self.data, "client", "v11", "apps", app, "transfers", uuid)
        return found

    # -- both ----------------------------------------------------------------------

    def _ask(self, base: str, *place: str, headers: Mapping[str, str] | None = None) -> Any:
        return self.http.ask("GET", _url(base, *place), headers=headers)

    def _tell(self, method: str, base: str, *place: str, body: Any = None) -> Any:
        # What comes back is what was asked for; what holds is read anew.
        return self.http.tell(method, _url(base, *place), body)


def _url(base: str, *place: str) -> str:
    return "/".join([base, *(quote(part, safe="") for part in place)])


def _addon(raw: Mapping[str, Any]) -> Addon:
    return Addon(
        id=str(raw["id"]),
        name=str(raw["name"]),
        plan=str(raw["plan"]["name"]),
        app=str(raw["app"]["name"]),
        state=str(raw.get("state") or ""),
    )


def _attachment(raw: Mapping[str, Any]) -> Attachment:
    return Attachment(str(raw["app"]["name"]), str(raw["name"]), tuple(raw.get("config_vars") or ()))
