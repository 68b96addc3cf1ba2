# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a cluster needs that a candidate image lacks: extensions, libraries, locales, settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import shell
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import sql
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image import parameters
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.contents import (
    ANY,
    library_of,
    normal_locale,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    BY_DUMP,
    DUMP,
    GLIBC,
    PG_UPGRADE,
    STRATEGIES,
    SWAP,
    CandidateImage,
    Extension,
    Setting,
    Subject,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster

SHOWN = 8
PRELOADS = ("shared_preload_libraries", "session_preload_libraries", "local_preload_libraries")
LOCALE_SETTINGS = ("lc_messages", "lc_monetary", "lc_numeric", "lc_time")
SUBSCRIPTIONS_UPGRADED = 170000
ICU_DATABASES, BUILTIN_DATABASES = 150000, 170000
ONLY_AS_FILES = {
    "pg_cron": "belongs into the one database that cron.database_name names",
    "timescaledb": "has to be told before and after a restore",
}
GONE_FROM_CORE = {
    "adminpack": "it went with Postgres 17, and was for old releases of pgAdmin",
    "old_snapshot": "it went with Postgres 17",
    "timetravel": "it went with Postgres 12",
    "chkpass": "it went with Postgres 11",
    "tsearch2": "it went with Postgres 10, which searches text by itself",
}


@dataclass(frozen=True)
class Lack:
    """What closes ``ways``: a sentence with a way out, and the command that looks at it."""

    text: str
    ways: tuple[str, ...]
    command: str = ""


def lacks(subject: Subject, candidate: CandidateImage, container: str = "") -> Iterable[Lack]:
    """Yield everything that the cluster needs and the image lacks, each with the ways that it closes."""
    yield from _extensions(subject, candidate, container)
    yield from _libraries(subject, candidate, container)
    yield from _preloads(subject, candidate)
    yield from _locales(subject, candidate)
    yield from _settings(subject, candidate)
    yield from _bound(subject, candidate, container)


def _bound(subject: Subject, candidate: CandidateImage, container: str) -> Iterable[Lack]:
    """Say what a way to another cluster would leave behind, though the image has all that it needs."""
    for name, why in ONLY_AS_FILES.items():
        where = [extension.database for extension in subject.inventory.extensions if extension.name == name]
        if where:
            yield Lack(
                f"The extension {name} in {shown(where)} {why}: a dump cannot be loaded as any other.",
                (DUMP,),
                looking(container, subject.cluster, where[0], f"\\dx {name}"),
            )
    if subject.inventory.subscriptions:
        ways = (DUMP,) if candidate.server_version_num >= SUBSCRIPTIONS_UPGRADED else (PG_UPGRADE, DUMP)
        yield Lack(
            f"{subject.inventory.subscriptions} logical subscriptions: their place in the stream of their publisher is"
            " not carried over, and they would come back disabled. Drop them, and make them anew afterwards.",
            ways,
            looking(container, subject.cluster, "postgres", "SELECT subname, subenabled FROM pg_subscription"),
        )
    providers = {"i": (ICU_DATABASES, "ICU"), "b": (BUILTIN_DATABASES, "a builtin locale")}
    for provider, (since, what) in providers.items():
        databases = [database.name for database in subject.cluster.databases if database.provider == provider]
        if databases and candidate.server_version_num < since:
            yield Lack(
                f"The databases {shown(databases)} are ordered by {what}, which {candidate.reference} knows for none:"
                " choose a newer one.",
                STRATEGIES,
            )


def updates(subject: Subject, candidate: CandidateImage) -> tuple[Extension, ...]:
    """Return the extensions that ALTER EXTENSION UPDATE takes to another version, as they are now."""
    return tuple(
        extension
        for extension in subject.inventory.extensions
        if candidate.extensions.get(extension.name, extension.version) != extension.version
        and _reaches(extension, candidate)
    )


def warnings(subject: Subject, candidate: CandidateImage) -> Iterable[str]:
    """Yield what becomes otherwise without standing in the way."""
    inventory = subject.inventory
    for name, versions in _by_name(inventory.extensions).items():
        there = candidate.extensions.get(name, "")
        if not there:
            continue
        older = {version: where for version, where in versions.items() if _newer(version, there)}
        stuck = [
            version
            for version in versions
            if version != there and version not in older and not _reaches(Extension("", name, version), candidate)
        ]
        if stuck:
            yield f"The extension {name} stays at {shown(stuck)} after swap and pg_upgrade: no script leads to {there}."
        for version, where in older.items():
            yield f"A dump makes {name} {version} of {shown(where)} anew as the older {there}."
    gone = parameters.unknown(subject, candidate)
    in_files = [f"{setting.name} ({setting.place})" for setting in gone if parameters.is_carried(setting, subject)]
    if in_files:
        yield f"Settings that Postgres {candidate.major} does not know are left out: {shown(in_files)}."
    told = [setting.name for setting in inventory.settings if parameters.is_told_by_hand(setting)]
    if told and candidate.major != subject.cluster.major:
        yield (
            f"The command line sets {shown(dict.fromkeys(told))}, and goes on to: whether Postgres"
            f" {candidate.major} takes these values, and finds what they name, shows when it starts. Where it does not,"
            " the change is undone."
        )
    stored = [f"{setting.name} ({setting.place})" for setting in gone if setting.source in parameters.STORED]
    if stored:
        yield f"A dump leaves out what ALTER ROLE and ALTER DATABASE set and is not known any more: {shown(stored)}."
    absolute = sorted({library.name for library in inventory.libraries if library.name.startswith("/")})
    if absolute:
        yield f"Functions load libraries by their path, which has to lead there in the new image: {shown(absolute)}."


def looking(container: str, cluster: Cluster, database: str, statement: str) -> str:
    """Return the command that shows what a sentence is about; empty where the container has no name here."""
    if not container:
        return ""
    return shell("docker", "exec", container, "psql", "-U", cluster.superuser, "-d", database, "-c", statement)


def shown(words: Iterable[str]) -> str:
    """Return a list as it is read, cut where it is long."""
    listed = list(words)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _by_name(extensions: Iterable[Extension]) -> Mapping[str, Mapping[str, list[str]]]:
    """Return by extension and version the databases that have it."""
    found: dict[str, dict[str, list[str]]] = {}
    for extension in extensions:
        found.setdefault(extension.name, {}).setdefault(extension.version, []).append(extension.database)
    return found


def _extensions(subject: Subject, candidate: CandidateImage, container: str) -> Iterable[Lack]:
    for name, versions in _by_name(subject.inventory.extensions).items():
        there = candidate.extensions.get(name)
        (first, *_others), *_rest = versions.values()
        command = looking(container, subject.cluster, first, f"\\dx+ {sql.identifier(name)}")
        if there is None:
            where = "; ".join(f"{version} in {shown(databases)}" for version, databases in versions.items())
            why = f" ({GONE_FROM_CORE[name]})" if name in GONE_FROM_CORE else ""
            yield Lack(
                f"{candidate.reference} lacks the extension {name}{why}, which is there as {where}: choose an image"
                " that has it, or drop the extension where nothing needs it.",
                STRATEGIES,
                command,
            )
            continue
        newer = {version: databases for version, databases in versions.items() if _newer(version, there)}
        for version, databases in newer.items():
            if _reaches(Extension("", name, version), candidate):
                continue
            yield Lack(
                f"{candidate.reference} has the extension {name} as {there}, older than the {version} in"
                f" {shown(databases)}, and its library need not know what that made: choose an image with {version}.",
                (SWAP, PG_UPGRADE),
                command,
            )


def _reaches(extension: Extension, candidate: CandidateImage) -> bool:
    known = candidate.updates.get(extension.name, ())
    if extension.version in known:
        return True
    return ANY in known and not _newer(extension.version, candidate.extensions.get(extension.name, ""))


def _newer(one: str, other: str) -> bool:
    """Tell whether a version is certainly newer than another: by the numbers at their beginning."""
    first, second = ([int(part) for part in re.findall(r"\d+", version.partition("-")[0])] for version in (one, other))
    length = max(len(first), len(second))
    return bool(first and second) and first + [0] * (length - len(first)) > second + [0] * (length - len(second))


def _libraries(subject: Subject, candidate: CandidateImage, container: str) -> Iterable[Lack]:
    """Say which libraries of functions are missing: an extension brings its own to a new cluster, but not to files."""
    missing: dict[tuple[str, str], list[str]] = {}
    for library in subject.inventory.libraries:
        if library.extension and library.extension not in candidate.extensions:
            continue  # said of the extension
        if not library.name.startswith("/") and library.name not in candidate.libraries:
            missing.setdefault((library.name, library.extension), []).append(library.database)
    for (name, extension), databases in missing.items():
        whose = f"of the extension {extension}" if extension else "of no extension"
        out = f"update {extension} first" if extension else "drop them where nothing needs them"
        yield Lack(
            f"{candidate.reference} lacks the library {name}, which functions {whose} in {shown(databases)} load:"
            f" choose an image that has it, or {out}.",
            (SWAP, PG_UPGRADE) if extension else STRATEGIES,
            looking(
                container,
                subject.cluster,
                databases[0],
                f"SELECT oid::regprocedure FROM pg_proc WHERE strpos(probin, {sql.literal(name)}) > 0",
            ),
        )


def _preloads(subject: Subject, candidate: CandidateImage) -> Iterable[Lack]:
    asked = [(setting, library) for setting in _preload_settings(subject) for library in _listed(setting.value)]
    missing: dict[str, list[str]] = {}
    for setting, library in asked:
        if not library.startswith("/") and library.rpartition("/")[2] not in candidate.libraries:
            missing.setdefault(library, []).append(f"{setting.name} ({setting.place or setting.source})")
    for library, where in missing.items():
        yield Lack(
            f"{candidate.reference} lacks the library {library}, which is to be preloaded by {shown(where)}: its server"
            " would not start. Choose an image that has it, or take it out there.",
            STRATEGIES,
        )


def _preload_settings(subject: Subject) -> Sequence[Setting]:
    found = [setting for setting in subject.inventory.settings if setting.name in PRELOADS]
    return [*found] if found else [Setting(PRELOADS[0], subject.cluster.shared_preload_libraries, "running")]


def _listed(value: str) -> list[str]:
    return [library_of(part.strip().strip('"')) for part in value.split(",") if part.strip().strip('"')]


def _locales(subject: Subject, candidate: CandidateImage) -> Iterable[Lack]:
    if candidate.libc != GLIBC:
        return  # musl takes any
    places: dict[str, list[str]] = {}
    for database in subject.cluster.databases:
        for locale in dict.fromkeys((database.collate, database.ctype)):
            places.setdefault(locale, []).append(f"database {database.name}")
    for collation in subject.inventory.collations:
        if collation.provider == "c":
            place = f"collation {collation.name} in {collation.database}"
            places.setdefault(collation.locale, []).extend([place] if collation.name != "default" else [])
    for setting in subject.inventory.settings:
        if setting.name in LOCALE_SETTINGS:
            places.setdefault(setting.value, []).append(f"{setting.name} ({setting.place or setting.source})")
    for locale, where in places.items():
        normal = normal_locale(locale)
        if normal in ("", "c", "posix") or normal in candidate.locales:
            continue
        yield Lack(
            f"{candidate.reference} lacks the locale {locale}, which is that of {shown(where)}: choose an image that"
            f" has it, or build one on it with {_localedef(locale)}.",
            STRATEGIES,
        )
    if any(c.provider == "i" for c in subject.inventory.collations) and not candidate.icu:
        where = [f"{c.name} in {c.database}" for c in subject.inventory.collations if c.provider == "i"]
        yield Lack(
            f"{candidate.reference} is built without ICU, which provides the collations {shown(where)}: choose another"
            " image.",
            STRATEGIES,
        )


def _localedef(locale: str) -> str:
    name, _dot, codeset = locale.partition(".")
    charset = "UTF-8" if normal_locale(codeset) in ("", "utf8") else codeset
    return f"'RUN localedef -i {name} -c -f {charset} -A /usr/share/locale/locale.alias {locale}'"


def _settings(subject: Subject, candidate: CandidateImage) -> Iterable[Lack]:
    gone = parameters.unknown(subject, candidate)
    theirs = [setting for setting in gone if parameters.is_in_a_file_of_others(setting, subject)]
    if theirs:
        which = shown(f"{setting.name} ({setting.place})" for setting in theirs)
        yield Lack(
            f"Files outside the data directory set what {candidate.reference} does not know, and are not ours to"
            f" change: {which}. Take it out there: the server that runs goes by its default then.",
            STRATEGIES,
        )
    outside = [setting for setting in gone if setting.source in parameters.FROM_OUTSIDE]
    if outside:
        names = shown(dict.fromkeys(setting.name for setting in outside))
        where = " and ".join(dict.fromkeys(setting.source for setting in outside))
        yield Lack(
            f"The {where} sets {names}, which {candidate.reference} does not know: its server would not start. Take it"
            " out of the service's command or environment.",
            STRATEGIES,
        )
    stored = [f"{setting.name} ({setting.place})" for setting in gone if setting.source in parameters.STORED]
    if stored:
        yield Lack(
            f"ALTER ROLE or ALTER DATABASE has set what Postgres {candidate.major} does not know, and pg_upgrade would"
            f" break off at it: {shown(stored)}. RESET it there, or {BY_DUMP}.",
            (PG_UPGRADE,),
        )
