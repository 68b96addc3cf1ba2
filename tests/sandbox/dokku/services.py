# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``postgres:*``: services made, shown, swapped and removed."""

from __future__ import annotations

import os
import shutil
import sys

from . import cluster, processes
from .flags import parse
from .ground import SERVICE_NAME, Host
from .service import NETWORKS, PORT, Service, every, existing, show
from .words import Fail, info1, info2, plain, raw_error, verbose, warn

UPGRADE_FLAGS = {
    "c": "config-options", "C": "custom-env", "i": "image", "I": "image-version", "N": "initial-network",
    "P": "post-create-network", "S": "post-start-network", "s": "shm-size", "R": "restart-apps",
}  # fmt: skip
CREATE_FLAGS = {
    **{flag: name for flag, name in UPGRADE_FLAGS.items() if flag != "R"},
    "m": "memory", "p": "password", "r": "root-password",
}  # fmt: skip
BUSYBOX = "busybox:1.37.0-uclibc"
AMBASSADOR = "dokku/ambassador:0.8.2"


def _missing_image(image: str) -> Fail:
    raw_error(f"Unable to find image '{image}' locally\ndocker: Error response from daemon: no registry answers.")
    return Fail("", 125, marked=False)


def _pull(service: Service, image: str, version: str, what: str) -> None:
    """There is nothing to pull from: an image that is not there ends the subcommand."""
    if cluster.has_image(service, image, version):
        return
    if os.environ.get("POSTGRES_DISABLE_PULL") == "true":
        warn("POSTGRES_DISABLE_PULL environment variable detected. Not running pull command.")
        warn(f"   docker image pull {image}:{version}")
        raise Fail(f"Postgres service {what} failed")
    raw_error(f"Error response from daemon: pull access denied for {image}, repository does not exist")
    raise Fail(f"Postgres image {image}:{version} pull failed")


def _commit(service: Service, flags: dict[str, str]) -> None:
    """Write down what a container is to be made with: options and environment that are not given are reset."""
    custom = flags.get("custom-env") or os.environ.get("POSTGRES_CUSTOM_ENV", "")
    service.write("ENV", "\n".join(custom.split(";")))
    service.write("CONFIG_OPTIONS", flags.get("config-options") or os.environ.get("POSTGRES_CONFIG_OPTIONS", ""))
    kept = {"memory": "SERVICE_MEMORY", "shm-size": "SHM_SIZE", "image": "IMAGE", "image-version": "IMAGE_VERSION"}
    for flag, name in kept.items():
        if flags.get(flag):
            service.write(name, flags[flag])
    for key in NETWORKS:
        if flags.get(key):
            service.host.set_property("postgres", service.name, key, flags[key])


def _with_image(host: Host, flags: dict[str, str]) -> dict[str, str]:
    image, version = host.default_image
    return {**flags, "image": flags.get("image", image), "image-version": flags.get("image-version", version)}


def _make(host: Host, name: str, flags: dict[str, str]) -> Service:
    service = Service(host, name)
    if not SERVICE_NAME.fullmatch(name):
        raise Fail("Please specify a valid name for the service. Valid characters are: [A-Za-z0-9_]+")
    if service.root.exists():
        raise Fail(f"Postgres service {name} already exists")
    flags = _with_image(host, flags)
    _pull(service, flags["image"], flags["image-version"], "creation")
    service.data.mkdir(parents=True)
    service.write_links(set())
    # What the module secrets would load takes as long as all the rest.
    password = flags.get("password") or os.urandom(16).hex()
    if flags.get("password"):
        warn("Specified password may not be as secure as the auto-generated password")
    service.write("PASSWORD", password)
    (service.root / "PASSWORD").chmod(0o640)
    _commit(service, flags)
    # Some characters are not welcome in the name of a database.
    service.write("DATABASE_NAME", name.replace(".", "_").replace("-", "_"))
    cluster.create(service)
    return service


def _create(host: Host, args: list[str]) -> None:
    if not args:
        raise Fail("Please specify a valid name for the service")
    _make(host, args[0], parse(args[1:], CREATE_FLAGS))


def _clone(host: Host, args: list[str]) -> None:
    """Make another service of the same image and copy the database, whatever becomes of that."""
    source = existing(host, args[0] if args else "")
    if len(args) < 2:
        raise Fail("Please specify a name for the new service")
    if not source.running:
        raise Fail(f"Service {source.name} container is not running")
    image, _colon, version = source.version.rpartition(":")
    flags = {"image": image, "image-version": version, **parse(args[2:], CREATE_FLAGS)}
    info2(f"Cloning {source.name} to {args[1]} @ {flags['image']}:{flags['image-version']}")
    target = _make(host, args[1], flags)
    info1(f"Copying data from {source.name} to {target.name}")
    host.docker.piped(dump_command(source), restore_command(target))
    info2("Done")


def dump_command(service: Service) -> list[str]:
    """Return how the client dumps a service's one database."""
    return [
        "container", "exec", "-e", f"PGPASSWORD={service.read('PASSWORD')}", service.container,
        "pg_dump", "-Fc", "--no-acl", "--no-owner", "-h", "localhost", "-U", "postgres", "-w", service.database,
    ]  # fmt: skip


def restore_command(service: Service) -> list[str]:
    """Return how the client restores a service's one database."""
    return [
        "container", "exec", "-i", "-e", f"PGPASSWORD={service.read('PASSWORD')}", service.container,
        "pg_restore", "-h", "localhost", "-cO", "--if-exists", "-d", service.database, "-U", "postgres", "-w",
    ]  # fmt: skip


def _upgrade(host: Host, args: list[str]) -> None:
    """Make the container anew from another image; the data stays as it is, fit or not."""
    service = existing(host, args[0] if args else "")
    flags = _with_image(host, parse(args[1:], UPGRADE_FLAGS))
    image, version = flags["image"], flags["image-version"]
    _pull(service, image, version, f"{service.name} upgrade")
    if service.version == f"{image}:{version}":
        info1(f"Service {service.name} already running {image}:{version}")
        return
    _commit(service, flags)
    info2(f"Upgrading {service.name} to {image}:{version}")
    restart = flags.get("restart-apps") == "true"
    if restart:
        info2("Stopping all linked services")
        for app in service.links:
            processes.stop(host, app)
    info2(f"Stopping {service.name}")
    cluster.remove(service)
    cluster.upgrade(service, image, version)
    if restart:
        info2("Starting all linked services")
        for app in service.links:
            processes.start(host, app)
    info2("Done")


def _destroy(host: Host, args: list[str]) -> None:
    service = existing(host, args[0] if args else "")
    if service.links:
        raise Fail("Cannot delete linked service")
    forced = os.environ.get("DOKKU_APPS_FORCE_DELETE") or args[1:2] in (["-f"], ["--force"], ["force"])
    if not forced:
        warn("WARNING: Potentially Destructive Action")
        warn(f"This command will destroy {service.name} Postgres service.")
        warn(f'To proceed, type "{service.name}"')
        plain("")
        if sys.stdin.readline().strip() != service.name:
            raise Fail(f"Confirmation did not match {service.name}. Aborted.")
    info2(f"Deleting {service.name}")
    host.cron_file(service.name).unlink(missing_ok=True)
    had_container = cluster.remove(service)
    verbose("Removing data")
    if had_container and host.fault("busybox-missing", service.name):
        raise _missing_image(BUSYBOX)
    shutil.rmtree(service.root)
    shutil.rmtree(host.property_directory("postgres", service.name), ignore_errors=True)
    info2(f"Postgres container deleted: {service.name}")


def _info(host: Host, args: list[str]) -> None:
    show(existing(host, args[0] if args else ""), args[1] if len(args) > 1 else "")


def _list(host: Host, _args: list[str]) -> None:
    found = every(host)
    if not found:
        warn("There are no Postgres services")
        return
    info2("Postgres services")
    for service in found:
        plain(service.name)


def _exists(host: Host, args: list[str]) -> None:
    name = args[0] if args else ""
    if not name or not Service(host, name).root.is_dir():
        raise Fail(f"Service {name} does not exist")
    info1(f"Service {name} exists")


def _start(host: Host, args: list[str]) -> None:
    cluster.start(existing(host, args[0] if args else ""))


def _stop(host: Host, args: list[str]) -> None:
    cluster.remove(existing(host, args[0] if args else ""))


def _pause(host: Host, args: list[str]) -> None:
    cluster.pause(existing(host, args[0] if args else ""))


def _restart(host: Host, args: list[str]) -> None:
    service = existing(host, args[0] if args else "")
    cluster.pause(service)
    cluster.start(service)
    info1("Please call dokku ps:restart on all linked apps")


def _set(host: Host, args: list[str]) -> None:
    service = existing(host, args[0] if args else "")
    key, value = (*args[1:3], "", "")[:2]
    if key not in NETWORKS:
        raise Fail(f"Invalid key specified, valid keys include: {', '.join(NETWORKS)}" if key else "No key specified")
    info2(f"Setting {key} to {value}" if value else f"Unsetting {key}")
    host.set_property("postgres", service.name, key, value)


def _expose(host: Host, args: list[str]) -> None:
    service = existing(host, args[0] if args else "")
    if service.read("PORT"):
        raise Fail(f"Service {service.name} already exposed on port(s) {service.read('PORT')}")
    service.write("PORT", args[1] if len(args) > 1 else str(10000 + os.getpid() % 20000))
    cluster.start(service, quiet=True)
    # What forwards the port is an image that only a registry has.
    if host.docker.image(AMBASSADOR) is None:
        raise _missing_image(AMBASSADOR)
    host.docker.run(
        "container", "run", "-d", f"--link={service.container}:postgres", f"--name={service.container}.ambassador",
        f"--label={host.label}", "-p", f"{service.read('PORT')}:{PORT}", "--restart=always", AMBASSADOR,
    )  # fmt: skip
    info1(f"Service {service.name} exposed on port(s) [container->host]: {service.ports}")


def _unexpose(host: Host, args: list[str]) -> None:
    service = existing(host, args[0] if args else "")
    (service.root / "PORT").unlink(missing_ok=True)
    host.docker.run("container", "rm", "-f", f"{service.container}.ambassador", check=False)
    info1(f"Service {service.name} unexposed")


COMMANDS = {
    "postgres:create": _create, "postgres:clone": _clone, "postgres:upgrade": _upgrade, "postgres:destroy": _destroy,
    "postgres:info": _info, "postgres:list": _list, "postgres:exists": _exists, "postgres:start": _start,
    "postgres:stop": _stop, "postgres:pause": _pause, "postgres:restart": _restart, "postgres:set": _set,
    "postgres:expose": _expose, "postgres:unexpose": _unexpose,
}  # fmt: skip
