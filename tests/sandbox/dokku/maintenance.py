# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``maintenance:*``: a page in front of an app, whose processes run on behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .ground import Host
from .words import Fail, info1, info2, plain, verbose, warn

# Before, the subcommands were on and off, and nothing could be asked.
RENAMED = (0, 5)


def enabled(host: Host, app: str) -> bool:
    """Tell whether an app's visitors see the page."""
    return _page(host, app).exists()


def _page(host: Host, app: str) -> Path:
    return host.app(app) / "nginx.conf.d/maintenance.conf"


def _reload_nginx(host: Host) -> None:
    """Let nginx read the change that is made already; where that fails, the subcommand fails with it."""
    if host.settings.nginx == "broken":
        raise Fail("Failed to reload nginx: nginx.service is not active, cannot reload.")


def _enable(host: Host, args: list[str]) -> None:
    app = args[0] if args else ""
    page = _page(host, app)
    if page.exists():
        info1("Maintenance mode already enabled")
        return
    info1(f"Enabling maintenance mode for {app}...")
    page.parent.mkdir(exist_ok=True)
    page.write_text("return 503;\n")
    _reload_nginx(host)
    verbose("done")


def _disable(host: Host, args: list[str]) -> None:
    app = args[0] if args else ""
    page = _page(host, app)
    if not page.exists():
        info1("Maintenance mode already disabled")
        return
    info1(f"Disabling maintenance mode for {app}...")
    page.unlink()
    verbose("done")


def _old(instead: str, command: Callable[[Host, list[str]], None]) -> Callable[[Host, list[str]], None]:
    def run(host: Host, args: list[str]) -> None:
        if host.version("maintenance") >= RENAMED:
            warn(f"Deprecated: Please use maintenance:{instead}")
        command(host, args)

    return run


def _new(name: str, command: Callable[[Host, list[str]], None]) -> Callable[[Host, list[str]], None]:
    def run(host: Host, args: list[str]) -> None:
        if host.version("maintenance") < RENAMED:
            raise Fail(
                f"`maintenance:{name}` is not a dokku command.\nSee `dokku help` for a list of available commands."
            )
        command(host, args)

    return run


def _report(host: Host, args: list[str]) -> None:
    words = [arg for arg in args if not arg.startswith("--") and arg != "json"]
    flags = [arg for arg in args if arg.startswith("--")]
    for app in words[:1] or host.apps():
        value = str(enabled(host, app)).lower()
        if "json" in args or "--format=json" in flags:
            plain(json.dumps({"enabled": value, "custom-page": "false"}, separators=(",", ":")))
        elif not flags:
            info2(f"{app} maintenance information")
            verbose(f"{'Maintenance enabled:':<30} {value}")
        elif flags[0] == "--maintenance-enabled":
            plain(value)
        else:
            raise Fail("Invalid flag passed, valid flags: --maintenance-enabled")


COMMANDS = {
    "maintenance:on": _old("enable", _enable), "maintenance:off": _old("disable", _disable),
    "maintenance:enable": _new("enable", _enable), "maintenance:disable": _new("disable", _disable),
    "maintenance:report": _new("report", _report),
}  # fmt: skip
