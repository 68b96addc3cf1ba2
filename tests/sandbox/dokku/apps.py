# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``apps:*``, and what of other core plugins an app with a database needs: images, options, networks."""

from __future__ import annotations

import os
import re
import shutil

from . import deploy, links
from .engine_calls import SANDBOX_LABEL
from .ground import Host
from .words import Fail, info1, info2, plain, verbose

PHASES = ("build", "deploy", "run")


def _list(host: Host, _args: list[str]) -> None:
    info2("My Apps")
    for app in host.apps():
        plain(app)


def _exists(host: Host, args: list[str]) -> None:
    host.app(args[0] if args else "")


def _create(host: Host, args: list[str]) -> None:
    name = args[0] if args else ""
    if not re.fullmatch(r"[a-z0-9][a-z0-9./_-]*", name):
        raise Fail("App name must begin with lowercase alphanumeric character")
    if (host.home / name).exists():
        raise Fail("Name is already taken")
    (host.home / name).mkdir(parents=True)
    deploy.write_docker_options(host, name, ["--restart=on-failure:10"])
    deploy.write_formation(host, name, {"web": 1})
    info1(f"Creating {name}...")


def _destroy(host: Host, args: list[str]) -> None:
    forced = bool(os.environ.get("DOKKU_APPS_FORCE_DELETE")) or "--force" in args
    names = [arg for arg in args if not arg.startswith("-")]
    name = names[0] if names else ""
    directory = host.app(name)
    if not forced and input() != name:
        raise Fail("Confirmation did not match. Aborted.")
    info1(f"Destroying {name} (including all add-ons)")
    links.forget_app(host, name)
    deploy.end(host, [*deploy.containers(host, name).values(), *host.get_property("ps", name, "retire").split()])
    for plugin in ("ps", "git", "network"):
        shutil.rmtree(host.property_directory(plugin, name), ignore_errors=True)
    shutil.rmtree(directory)


def _from_image(host: Host, args: list[str]) -> None:
    if len(args) < 2:
        raise Fail("Please specify an app and a docker image")
    app, image = args[:2]
    host.app(app)
    if host.docker.image(image) is None:
        raise Fail(f"Invalid image specified: {image}")
    host.set_property("git", app, "source-image", image)
    deploy.deploy(host, app)


def _options_report(host: Host, args: list[str]) -> None:
    words = [arg for arg in args if not arg.startswith("--")]
    for app in words[:1] or host.apps():
        options = deploy.docker_options(host, app)
        # Links are made for every phase, the rest for the one that it is asked for.
        shown = {phase: [each for each in options if phase == "deploy" or each.startswith("--link ")]
                 for phase in PHASES}  # fmt: skip
        flags = [arg for arg in args if arg.startswith("--")]
        if flags:
            plain(" ".join(shown.get(flags[0].removeprefix("--docker-options-"), [])))
            continue
        info2(f"{app} docker options information")
        for phase in PHASES:
            verbose(f"{f'Docker options {phase}:':<30} {' '.join(shown[phase])}".rstrip())


def _options_add(host: Host, args: list[str]) -> None:
    app, option = args[0], " ".join(args[2:])
    options = deploy.docker_options(host, app)
    if option not in options:
        deploy.write_docker_options(host, app, [*options, option])


def _options_remove(host: Host, args: list[str]) -> None:
    app, option = args[0], " ".join(args[2:])
    options = deploy.docker_options(host, app)
    deploy.write_docker_options(host, app, [each for each in options if each != option])


def _network_create(host: Host, args: list[str]) -> None:
    info2(f"Creating network {args[0]}")
    host.docker.run("network", "create", f"--label={host.label}", f"--label={SANDBOX_LABEL}", args[0])


def _network_destroy(host: Host, args: list[str]) -> None:
    info2(f"Destroying network {args[-1]}")
    host.docker.run("network", "rm", args[-1])


def _network_exists(host: Host, args: list[str]) -> None:
    if not host.docker.out("network", "inspect", args[0]):
        raise Fail(f"Network {args[0]} does not exist")
    info1(f"Network {args[0]} exists")


def _network_list(host: Host, _args: list[str]) -> None:
    info2("Networks")
    plain(host.docker.out("network", "ls", "--format", "{{.Name}}"))


def _network_set(host: Host, args: list[str]) -> None:
    app, key, *value = args
    host.app(app)
    if key != "initial-network":
        raise Fail("Invalid property specified, valid properties include: initial-network")
    info2(f"{'Setting' if value else 'Unsetting'} {key}{f' to {value[0]}' if value else ''}")
    host.set_property("network", app, key, value[0] if value else "")


def _network_report(host: Host, args: list[str]) -> None:
    app = args[0]
    host.app(app)
    value = host.get_property("network", app, "initial-network")
    if "--network-initial-network" in args:
        plain(value)
        return
    info2(f"{app} network information")
    verbose(f"{'Network initial network:':<30} {value}".rstrip())


COMMANDS = {
    "apps:list": _list, "apps:exists": _exists, "apps:create": _create, "apps:destroy": _destroy,
    "git:from-image": _from_image, "docker-options:report": _options_report, "docker-options:add": _options_add,
    "docker-options:remove": _options_remove, "network:create": _network_create, "network:destroy": _network_destroy,
    "network:exists": _network_exists, "network:list": _network_list, "network:set": _network_set,
    "network:report": _network_report,
}  # fmt: skip
