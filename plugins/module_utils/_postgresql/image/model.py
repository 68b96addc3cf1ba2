# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster on the image that it runs, a candidate image, and the ways from one to the other. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.plan_hooks import Hooks
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.model import Findings, Move, Place, Request
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.strategy import Choice

AUTO = "auto"
SWAP = "swap"
PG_UPGRADE = "pg_upgrade"
DUMP = "dump"
ANOTHER_CLUSTER = (PG_UPGRADE, DUMP)
"""Those that make a new cluster from a copy, beside the original."""
STRATEGIES = (SWAP, *ANOTHER_CLUSTER)
"""Fastest first; ``auto`` takes the first whose conditions hold."""

BY_DUMP = "set strategy: dump"
"""What is left to an admin where the files cannot go to another image."""

FAST = "fast"
FULL = "full"

GLIBC = "glibc"
MUSL = "musl"


@dataclass(frozen=True)
class CandidateImage:
    """What a Postgres image brings. Paths are those inside it.

    ``version`` is ``17.2``, ``server_version_num`` 170002. ``user`` is the
    numeric ``(uid, gid)`` that its server runs as. ``data_directory`` is its
    PGDATA. ``loader`` is the program that loads its server (``ld-linux-….so``,
    ``ld-musl-….so``), ``icu`` the major version of the ICU that it is linked with,
    empty for none; ``lz4``: whether with that. ``extensions``: by name, the version that CREATE EXTENSION takes;
    ``updates``: by name, every version from which ALTER EXTENSION UPDATE reaches that
    one, itself among them, and ``ANY`` where PostGIS takes itself there. ``libraries``:
    what can be loaded, without ``.so``. ``locales``: as ``locale -a`` lists them, lower
    case and without hyphens; musl lists none and takes any. ``parameters``: the names of
    the settings that a configuration file may hold, without those for developers.
    """

    reference: str
    id: str
    major: str
    version: str
    server_version_num: int
    libc: str
    libc_version: str
    user: tuple[int, int]
    data_directory: str
    volumes: tuple[str, ...]
    bin_directory: str
    share_directory: str
    library_directory: str
    extensions: Mapping[str, str] = field(default_factory=dict)
    updates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    locales: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    loader: str = ""
    icu: str = ""
    lz4: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> CandidateImage:
        lists = {name: tuple(raw[name]) for name in ("volumes", "libraries", "locales", "parameters")}
        return CandidateImage(**{**raw, **lists, "user": (raw["user"][0], raw["user"][1])})

    def without_lists(self) -> CandidateImage:
        """Return what a step has to know; what is available was compared before."""
        return replace(self, extensions={}, updates={}, libraries=(), locales=(), parameters=())


@dataclass(frozen=True)
class Sides:
    """The image that serves now, and the one that shall."""

    old: CandidateImage
    new: CandidateImage

    @property
    def newer(self) -> CandidateImage:
        """Return the one whose client programs understand both servers."""
        return self.new if self.new.server_version_num >= self.old.server_version_num else self.old

    def as_dict(self) -> dict[str, Any]:
        return {"old": self.old.without_lists().as_dict(), "new": self.new.without_lists().as_dict()}

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Sides:
        return Sides(CandidateImage.from_dict(raw["old"]), CandidateImage.from_dict(raw["new"]))


@dataclass(frozen=True)
class Extension:
    """An extension as one database has it."""

    database: str
    name: str
    version: str


@dataclass(frozen=True)
class Library:
    """A library that C functions of one database load: without ``$libdir/`` and ``.so``, else a whole path.

    ``extension`` is the one that brought the functions, empty where none did.
    """

    database: str
    name: str
    extension: str = ""


@dataclass(frozen=True)
class Setting:
    """A server setting that is set somewhere; ``differs``: to something else than its default.

    ``source`` is pg_settings' own word (configuration file, command line,
    environment variable; database, user, database user, global for what ALTER
    DATABASE and ALTER ROLE set). ``place`` is ``file:line``, or names the database
    and the role, empty where there is none. ``value`` is left empty for those that
    may hold a secret (primary_conninfo).
    """

    name: str
    value: str
    source: str
    place: str = ""
    differs: bool = True


@dataclass(frozen=True)
class Collation:
    """A collation that orders text by libc (``provider`` c) or ICU (i): a database's own, or one that columns name.

    ``name`` is ``default`` for the database's own. ``recorded`` is the version that
    its indexes were built with, ``actual`` the one of the libraries that run. Both
    are empty where nobody can tell: with musl, and before Postgres 15 for a
    database's own collation.
    """

    database: str
    name: str
    provider: str
    recorded: str
    actual: str
    locale: str = ""


@dataclass(frozen=True)
class Inventory:
    """What one running server holds that another image has to bring, or to be told."""

    extensions: tuple[Extension, ...]
    settings: tuple[Setting, ...]
    collations: tuple[Collation, ...]
    text_indexes: int
    """Indexes whose order depends on a collation of libc or ICU, in all databases."""
    auth_methods: tuple[str, ...]
    """The methods that pg_hba.conf names, in its order, each once."""
    md5_roles: tuple[str, ...]
    password_encryption: str
    text_index_bytes: int = 0
    largest_text_index: int = 0
    subscriptions: int = 0
    """Logical subscriptions, in all databases; their place in the stream is in no dump."""
    text_partitions: int = 0
    """Tables that are partitioned by such text: its order, or what it takes for equal, decides where a row belongs."""
    libraries: tuple[Library, ...] = ()


@dataclass(frozen=True)
class Way:
    """One strategy between the two: ``impediments`` is empty where it can be gone.

    ``downtime`` in seconds and ``space`` in bytes are estimates.
    """

    strategy: str
    impediments: tuple[str, ...]
    downtime: float
    space: int
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """What stands between a cluster and a candidate image.

    ``blockers`` forbid every way; ``reindex``: why the order of text changes under
    indexes that a way takes along as files (all but the dump), empty where it does
    not; how many those are only the inventory says. ``updates``: extensions, with the
    version that they have now, that ALTER EXTENSION UPDATE takes to the image's own.
    """

    same_image: bool
    same_major: bool
    reindex: str
    updates: tuple[Extension, ...]
    ways: tuple[Way, ...]
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()
    goes_down: bool = False
    """Whether the image is of an older major."""

    def way(self, strategy: str) -> Way:
        return next(way for way in self.ways if way.strategy == strategy)


@dataclass(frozen=True)
class ImageRequest:
    """What the admin asked for.

    ``storage`` is the same request in the words of a move: its one mount is the
    wanted place of an upgraded cluster, ``source`` absolute. ``strategy`` is one
    of ours. ``image`` is the reference as it is to stand in the file. ``verify``: ``fast`` compares rows by their
    number, ``full`` by their content, where a dump is loaded. ``dependents`` are the services that stop for it, and
    ``auto`` those that the compose file says. ``bare``: ``service`` is the name of a container that no compose project
    runs, and so are those of the dependents.
    ``hooks`` are what the image's own process asks for around the change.
    """

    storage: Request
    service: str
    image: str
    strategy: str = AUTO
    verify: str = FAST
    dependents: tuple[str, ...] = (AUTO,)
    hooks: Hooks = field(default_factory=Hooks)
    bare: bool = False


@dataclass(frozen=True)
class Wanted:
    """Where the new image has the data: the mount's target, and the data directory below it."""

    target: str
    subpath: str


@dataclass(frozen=True)
class ImageFindings:
    """Everything that the plan of an image change is made from.

    ``way`` is the strategy that was chosen, with what speaks against the others.
    ``move`` is the data on its way to where the new image is to have it; for a swap it stays where it is.
    ``findings`` are those of a move: what stops, what the file becomes, what stands in the way. ``copying``: how the
    copy that is upgraded would be made, with its own facts about the host. ``placeless``: nobody said where another
    cluster is to lie, and nothing suggests it. ``against_migrations``: what the ledger has against those of the image.
    ``data_place`` is the file system that the data is on now, None where nobody looked.
    """

    subject: Subject
    candidate: CandidateImage
    comparison: Comparison
    findings: Findings
    move: Move
    wanted: Wanted
    way: Choice
    copying: Choice
    programs_place: Place
    image_is_built: bool = False
    placeless: bool = False
    against_migrations: tuple[Blocker, ...] = ()
    data_place: Place | None = None


@dataclass(frozen=True)
class Subject:
    """A cluster as it runs: its own facts, what it holds, and the image that serves it now."""

    cluster: Cluster
    inventory: Inventory
    image: CandidateImage
