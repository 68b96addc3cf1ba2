# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a Postgres image: a helper container of it waits while its files are read and its programs asked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    OPERATION_LABEL,
    ROLE_LABEL,
    Container,
    Helper,
    Image,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import helpers, paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import contents
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.contents import Layout
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    GLIBC,
    MUSL,
    CandidateImage,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import major_from

ROLE = "examine"
# It ends by itself, so that a run that was killed leaves nothing behind that goes on; the next one removes it.
WAITING = ("sleep", "120")
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USUAL_DATA_DIRECTORY = "/var/lib/postgresql/data"
BOOTSTRAP_FILE = "postgres.bki"
"""What initdb makes a cluster from; it begins with the major version that it belongs to."""


def examine(engine: Engine, reference: str, *, operation: str = "image-info", user: str = "") -> CandidateImage:
    """Return the facts of a local Postgres image, by reference or ID; takes about half a second, changes nothing.

    ``user``: whom a container has in place of the image's own; empty for none.
    Raises :class:`InvalidInput` where the image is not here or holds no Postgres server.
    """
    image = engine.image(reference)
    if image is None:
        # What has no name cannot be pulled.
        way_out = ("docker", "images", "-a") if reference.startswith("sha256:") else ("docker", "pull", reference)
        raise InvalidInput(f"There is no image {reference} on this host.", next_command=shell(*way_out))
    _remove_ended(engine, operation)
    # Without the data of anybody, without a network: root in it reads what it brought along, and nothing else.
    helper = Helper(operation, ROLE, image.id, WAITING, user="0:0", environment=helpers.ENGLISH)
    with helpers.running(engine, helper) as container_id:
        container = engine.container(container_id)
        if container is None or not container.pid:
            raise StatefulError(
                f"A container of {reference} did not stay up to be looked at: it has no working 'sleep'.",
                next_command=shell("docker", "run", "--rm", "--entrypoint", WAITING[0], reference, "1"),
            )
        return _facts(_Inside(engine, container), reference, replace(image, user=user or image.user))


def user_given(engine: Engine, container: Container) -> str:
    """Return whom a container runs as in place of its image's own user; empty where nobody said so."""
    image = engine.image(container.image_id)
    return "" if image is not None and image.user == container.user else container.user


def _remove_ended(engine: Engine, operation: str) -> None:
    for left in engine.containers(labels={OPERATION_LABEL: operation, ROLE_LABEL: ROLE}):
        if left.status == "exited":
            engine.remove_container(left.id)


@dataclass(frozen=True)
class _Inside:
    """The file system and the programs of a waiting helper; paths are those inside it."""

    engine: Engine
    container: Container

    def real(self, path: str) -> str:
        """Return ``path`` with all links followed, as the image names it."""
        return paths.named_inside(paths.root_of(self.container), path)

    def seen(self, path: str) -> str:
        return paths.seen_path(self.container, path)

    def has(self, path: str) -> bool:
        return os.path.isfile(self.seen(path))

    def read(self, path: str, at_most: int = -1) -> bytes:
        """Return the content of a file, empty where there is none."""
        try:
            with open(self.seen(path), "rb") as file:
                return file.read(at_most)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return b""

    def text(self, path: str, at_most: int = -1) -> str:
        return self.read(path, at_most).decode("utf-8", "replace")

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self.seen(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def ask(self, *argv: str) -> str:
        """Return what a program prints, empty where it fails."""
        answer = self.engine.execute(self.container.id, argv)
        return answer.text() if answer.rc == 0 else ""

    def program(self, name: str) -> str:
        """Return the real path of a program that is found as the image's own entrypoint would, or nothing."""
        for directory in (self.container.env.get("PATH", "") or USUAL_PATH).split(":"):
            path = self.real(os.path.join(directory, name)) if directory.startswith("/") else ""
            if path and self.has(path) and os.access(self.seen(path), os.X_OK):
                return path
        return ""


def _facts(inside: _Inside, reference: str, image: Image) -> CandidateImage:
    server = inside.program("postgres")
    version = contents.version_of(inside.ask(server, "--version")) if server else None
    if version is None:
        raise InvalidInput(
            f"The image {reference} is no Postgres image: it has no program 'postgres' that tells its version.",
            next_command=shell("docker", "image", "inspect", reference),
        )
    major = major_from(version[1])
    layout = _layout(inside, reference, server, major)
    program = inside.read(os.path.join(layout.bin, "postgres"))
    loader = contents.loader_of(program)
    libc, libc_version = _libc(inside, reference, loader)
    extensions, updates = _extensions(inside, layout)
    return CandidateImage(
        reference=reference,
        id=image.id,
        major=major,
        version=version[0],
        server_version_num=version[1],
        libc=libc,
        libc_version=libc_version,
        user=_user(inside, reference, image),
        data_directory=image.env.get("PGDATA", "") or USUAL_DATA_DIRECTORY,
        volumes=image.volumes,
        bin_directory=layout.bin,
        share_directory=layout.share,
        library_directory=layout.library,
        extensions=extensions,
        updates=updates,
        libraries=_libraries(inside, layout),
        locales=_locales(inside) if libc == GLIBC else (),
        parameters=contents.parameters_from(inside.ask(server, "--describe-config")),
        loader=loader,
        icu=contents.icu_of(program),
        lz4=contents.has_lz4(program),
    )


def _layout(inside: _Inside, reference: str, server: str, major: str) -> Layout:
    """Return where the server keeps what belongs to it.

    The usual places come first: pg_config is not in every image, nor always of this server.
    """
    bin_directory = os.path.dirname(server)
    for layout in contents.layouts(bin_directory):
        if _belongs(inside, layout, major):
            return _real(inside, layout)
    for pg_config in (os.path.join(bin_directory, "pg_config"), inside.program("pg_config")):
        if pg_config and inside.has(pg_config):
            told = contents.layout_from(inside.ask(pg_config, "--bindir", "--sharedir", "--pkglibdir"))
            if told is not None and _belongs(inside, told, major):
                return _real(inside, told)
    raise InvalidInput(
        f"Where the server {server} of the image {reference} keeps its extensions cannot be told: they are in none of"
        " the usual places, and no pg_config of the same major says where.",
        next_command=shell("docker", "run", "--rm", "--entrypoint", "ls", reference, "-l", bin_directory),
    )


def _belongs(inside: _Inside, layout: Layout, major: str) -> bool:
    begins = inside.text(os.path.join(layout.share, BOOTSTRAP_FILE), at_most=64)
    return begins.partition("\n")[0].strip() == f"# PostgreSQL {major}" and bool(inside.names(layout.library))


def _real(inside: _Inside, layout: Layout) -> Layout:
    return Layout(inside.real(layout.bin), inside.real(layout.share), inside.real(layout.library))


def _libc(inside: _Inside, reference: str, loader: str) -> tuple[str, str]:
    kind = contents.libc_of(loader)
    if kind == MUSL:
        # Called without a program, it says its version and fails.
        said = inside.engine.execute(inside.container.id, (loader,))
        version = contents.musl_version((said.stderr + said.stdout).decode("utf-8", "replace"))
    elif kind == GLIBC:
        getconf, ldd = inside.program("getconf"), inside.program("ldd")
        version = contents.glibc_version(inside.ask(getconf, "GNU_LIBC_VERSION")) if getconf else ""
        version = version or (contents.glibc_version(inside.ask(ldd, "--version")) if ldd else "")
    else:
        version = ""
    if not version:
        raise InvalidInput(
            f"Which libc the server of the image {reference} runs on cannot be told (its loader:"
            f" {loader or 'none'}), so whether its text sorts as before is not known either: choose another image.",
        )
    return kind, version


def _user(inside: _Inside, reference: str, image: Image) -> tuple[int, int]:
    """Return whom the server runs as: the image's own user, or the one that its entrypoint steps down to."""
    wanted = "postgres" if image.user.partition(":")[0] in ("", "0", "root") else image.user
    user = contents.user_from(wanted, inside.text("/etc/passwd"), inside.text("/etc/group"))
    if user is None:
        raise InvalidInput(
            f"The image {reference} has no user {wanted} that its server could run as.",
            next_command=shell("docker", "run", "--rm", "--entrypoint", "cat", reference, "/etc/passwd"),
        )
    return user


def _extensions(inside: _Inside, layout: Layout) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    """Return by extension the version that it is created with, and those from which it can be updated to that."""
    place = os.path.join(layout.share, "extension")
    names = inside.names(place)
    scripts = contents.scripts_by_extension(names)
    versions, updates = {}, {}
    for name in names:
        extension, dot, kind = name.rpartition(".")
        # A name with a version in it belongs to a control file that only adds to the main one.
        if not dot or kind != "control" or "--" in extension:
            continue
        control = inside.text(os.path.join(place, name))  # Debian's PostGIS is a link through /etc/alternatives
        version = contents.control_value(control, "default_version")
        if not version:
            continue
        elsewhere = contents.control_value(control, "directory")
        own = scripts
        if elsewhere:
            own = contents.scripts_by_extension(inside.names(os.path.join(layout.share, elsewhere)))
        versions[extension] = version
        updates[extension] = contents.reaching(version, own.get(extension, ()))
    return versions, updates


def _libraries(inside: _Inside, layout: Layout) -> tuple[str, ...]:
    return _without_suffix((*inside.names(layout.library), *inside.names(os.path.join(layout.library, "plugins"))))


def _without_suffix(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name[: -len(".so")] for name in names if name.endswith(".so")}))


def _locales(inside: _Inside) -> tuple[str, ...]:
    program = inside.program("locale")
    listed = contents.locales_from(inside.ask(program, "-a")) if program else ()
    # Without the program, what needs no archive can still be seen.
    return listed or contents.locales_from("\n".join(("C", "POSIX", *inside.names("/usr/lib/locale"))))
