# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of Concurrent, the ladder between them, and what is said of one host. Pure data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, InvalidInput

RELOAD, QUERY, COLUMNS = "reload", "query", "columns"
"""Kinds of a rung: everything is dumped and loaded, a migration runs, or the api adds its columns by itself."""
FIRST_SERIES = "concurrent"
"""The series in the ledger of migrations that the first rung with any has, on hosts that ran it before others came."""
_FIRST_KEY = (0, 4, 0)
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_DESCRIBED = re.compile(r"(v?\d+\.\d+\.\d+)(?:-\d+-g[0-9a-f]+)?")
_SERIES = re.compile(r"v?(\d+)\.(\d+)")


@dataclass(frozen=True, order=True)
class Version:
    """A released version; ``str()`` gives it as its tag is written."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"

    @property
    def series(self) -> tuple[int, int]:
        return self.major, self.minor


def version_of(text: str) -> Version | None:
    """Return the version that ``text`` is, with or without its ``v``; None for anything else, prereleases included."""
    found = _VERSION.fullmatch(text.strip())
    return Version(*map(int, found.groups())) if found else None


def described(text: str) -> Version | None:
    """Return the version that ``text`` is, or that it is at least: ``v1.3.3-5-gabc`` is five commits after v1.3.3."""
    found = _DESCRIBED.fullmatch(text.strip())
    return version_of(found.group(1)) if found else None


def names_a_version(text: str) -> bool:
    """Tell whether ``text`` means some version, also one that cannot be placed (``v1.3.0-rc1``)."""
    return _SERIES.match(text.strip()) is not None


@dataclass(frozen=True)
class Counted:
    """One thing that is counted on both sides of a reload.

    ``json``: where it is in the dump, as paths of names and ``*``, whose numbers are
    added up. ``before`` and ``after`` are queries, or the word ``redis_stream_items``.
    ``orphans`` is a query for how many of ``before`` belong to nothing that is dumped; of the items in Redis that are
    those of streams whose names ``known`` does not give.
    """

    what: str
    json: tuple[tuple[str, ...], ...]
    before: str = ""
    after: str = ""
    orphans: str = ""
    known: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of data that is reloaded: how it is dumped, how it is loaded, and what of it is counted.

    ``{word}`` in ``dump`` is the first of ``words`` that the output of ``help`` lists.
    """

    name: str
    dump: tuple[str, ...]
    load: tuple[str, ...]
    counts: tuple[Counted, ...]
    words: tuple[str, ...] = ()
    help: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rung:
    """One step of the ladder. ``at`` is a version that has to be passed, or a series of which any will do."""

    at: str
    kind: str
    notes: str
    kinds: tuple[Kind, ...] = ()
    migrations: tuple[Mapping[str, Any], ...] = ()
    awaits: tuple[str, ...] = ()
    """Columns as ``table.column`` that the api adds at start, and that the migrations need."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def exact(self) -> Version | None:
        return version_of(self.at)

    @property
    def series(self) -> tuple[int, int]:
        major, minor = self.at.lstrip("v").split(".")[:2]
        return int(major), int(minor)

    @property
    def key(self) -> tuple[int, int, int]:
        return (*self.series, self.exact.patch if self.exact else 0)

    @property
    def ledger_series(self) -> str:
        """The series of its migrations in the ledger: each rung has numbers of its own."""
        return FIRST_SERIES if self.key == _FIRST_KEY else f"{FIRST_SERIES}-v{self.at.lstrip('v')}"


def rung_from(raw: Mapping[str, Any]) -> Rung:
    """Read one entry of the ladder; raises :class:`InvalidInput` for what is none."""
    at = str(raw.get("at", ""))
    if not (version_of(at) or _SERIES.fullmatch(at)):
        raise InvalidInput(f"{at!r} is no version of the ladder: it is v1.3.0, or v0.3 for any of a series.")
    if raw.get("kind") not in (RELOAD, QUERY, COLUMNS):
        raise InvalidInput(f"The rung {at} is of no known kind: {raw.get('kind')!r}.")
    return Rung(
        at=at,
        kind=raw["kind"],
        notes=str(raw.get("notes", "")),
        kinds=tuple(_kind_from(at, kind) for kind in raw.get("kinds") or ()),
        migrations=tuple(raw.get("migrations") or ()),
        awaits=tuple(raw.get("awaits") or ()),
        raw=raw,
    )


def _kind_from(at: str, raw: Mapping[str, Any]) -> Kind:
    try:
        return Kind(
            name=raw["name"],
            dump=tuple(raw["dump"]),
            load=tuple(raw["load"]),
            counts=tuple(
                Counted(
                    one["what"],
                    tuple(map(tuple, one["json"])),
                    *(one.get("before", ""), one["after"], one.get("orphans", ""), one.get("known", "")),
                )
                for one in raw["counts"]
            ),
            words=tuple(raw.get("words") or ()),
            help=tuple(raw.get("help") or ()),
        )
    except KeyError as error:
        raise InvalidInput(f"A kind of the rung {at} lacks {error}.") from error


@dataclass(frozen=True)
class Stop:
    """A version that is on the way, and how it is reached."""

    version: Version
    rung: Rung

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": str(self.version),
            "kind": self.rung.kind,
            "notes": self.rung.notes,
            "rung": dict(self.rung.raw) or {"at": str(self.version), "kind": self.rung.kind, "notes": self.rung.notes},
        }


def way(current: Version, wanted: Version, ladder: Sequence[Rung], released: Sequence[Version]) -> tuple[Stop, ...]:
    """Return the versions to pass through, one after the other, ending with ``wanted``.

    A rung that names a version is passed at that very one; of a series the newest that
    is ``released`` and not newer than ``wanted``. Raises :class:`InvalidInput` where one
    lacks, and for a way down.
    """
    if wanted < current:
        raise InvalidInput(f"{wanted} is older than {current}, which runs: there is no way down but a roll back.")
    stops: list[Stop] = []
    here = current
    for rung in sorted(ladder, key=lambda each: each.key):
        if rung.exact is not None:
            if here < rung.exact <= wanted:
                if rung.exact not in released:
                    raise InvalidInput(f"{rung.exact} has to be passed through, and is not released here.")
                stops.append(Stop(rung.exact, rung))
                here = rung.exact
            continue
        if here.series >= rung.series or wanted.series < rung.series:
            continue
        # None that would pass over a version of the same series that has to be passed itself.
        passed = [each.exact for each in ladder if each.exact is not None and each.series == rung.series]
        candidates = [each for each in released if each.series == rung.series and each <= wanted]
        candidates = [each for each in candidates if all(each < exact for exact in passed)]
        if not candidates:
            raise InvalidInput(
                f"A version of the series {rung.at} has to be passed through, and none is among what is released here."
            )
        here = max(candidates)
        stops.append(Stop(here, rung))
    if here < wanted:
        stops.append(Stop(wanted, Rung(str(wanted), COLUMNS, f"{RELEASES}/{wanted}")))
    return tuple(stops)


RELEASES = "https://github.com/totegamma/concurrent/releases/tag"


def below(ceiling: str, versions: Sequence[Version]) -> list[Version]:
    """Return the versions that a ladder leads to, which ends before ``ceiling``; empty for one without an end."""
    end = version_of(ceiling)
    if ceiling and end is None:
        raise InvalidInput(f"{ceiling!r} is no version: a ceiling is written as v2.0.0.")
    return [each for each in versions if end is None or each < end]


@dataclass(frozen=True)
class Target:
    """What the files are at the wanted version.

    ``images`` are ours, by service: they go into the override file. ``effective`` are those that will run, ``own`` the
    services that run Concurrent itself.
    """

    folder: str
    merge: bool
    moves: tuple[tuple[str, str], ...]
    images: Mapping[str, str]
    effective: Mapping[str, str]
    own: tuple[str, ...]
    blockers: tuple[Blocker, ...]
    names: tuple[Mapping[str, str], ...] = ()
    """Which floating names are to mean the version, each as ``tag``, ``pull``, and ``was``."""


@dataclass(frozen=True)
class Site:
    """Where a host is, as a plan has to know it. Without a checkout the last three are empty."""

    folder: str
    data: str
    redis: str
    containers: tuple[str, ...]
    database_image: str
    images: Mapping[str, str]
    """The id of each image that runs, by the reference that the file has for it."""
    root: str = ""
    head: str = ""
    branch: str = ""
    redis_image: str = ""


def after_moves(path: str, moved: Mapping[str, str]) -> str:
    """Return where a path is once the moves are made."""
    for old, new in moved.items():
        if path == old or path.startswith(old + "/"):
            return new + path[len(old) :]
    return path
