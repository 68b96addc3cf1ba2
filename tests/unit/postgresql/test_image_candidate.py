# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read from an image's file system, on a tree that stands for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import (
    Container,
    ExecResult,
    Helper,
    Image,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import paths
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.candidate import examine
from tests.unit.postgresql.fakes import Asked, FakeEngine, a_container
from tests.unit.postgresql.programs import elf

MUSL_LOADER = "/lib/ld-musl-x86_64.so.1"
IMAGE = Image("sha256:b", ("postgres:17-alpine",), (), {}, ("/var/lib/postgresql/data",), "", "SIGINT", "", {})
HELPER = a_container(id="helper", env={"PATH": "/usr/local/bin:/usr/bin"}, pid=1)


@dataclass
class ImageEngine(FakeEngine):
    """An engine that has one image, and a helper of it that waits."""

    here: Image | None = IMAGE
    helper: Container | None = HELPER
    left: list[Container] = field(default_factory=list)
    made: list[Helper] = field(default_factory=list)

    def image(self, reference: str) -> Image | None:
        return self.here

    def container(self, container_id: str) -> Container | None:
        return self.helper

    def containers(self, *, labels: Mapping[str, str] | None = None, volume: str = "") -> list[Container]:
        return self.left

    def create_helper(self, helper: Helper, *, start: bool = True) -> str:
        self.made.append(helper)
        return "helper"

    def start(self, container_id: str) -> None: ...


def says(answers: Mapping[str, str]) -> Callable[[Asked], ExecResult]:
    def answer(asked: Asked) -> ExecResult:
        called = " ".join((asked.argv[0].rpartition("/")[2], *asked.argv[1:]))
        text = answers.get(called)
        if called.startswith("ld-musl"):
            return ExecResult(asked.argv, 1, b"", b"musl libc (x86_64)\nVersion 1.2.5\n")
        return ExecResult(asked.argv, 127 if text is None else 0, (text or "").encode(), b"")

    return answer


def write(root: Path, path: str, content: str | bytes = "", mode: int = 0o644) -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content if isinstance(content, bytes) else content.encode())
    target.chmod(mode)


VERSION = {"postgres --version": "postgres (PostgreSQL) 17.2\n", "postgres --describe-config": "work_mem\ta\tb\tc\n"}


def tree(root: Path, prefix: str, share: str, library: str, loader: str) -> None:
    write(root, f"{prefix}/postgres", elf(loader, rest=b"\0libicui18n.so.74\0"), 0o755)
    write(root, f"{share}/postgres.bki", "# PostgreSQL 17\ncreate pg_proc\n")
    write(root, f"{share}/extension/hstore.control", "default_version = '1.8'\n")
    write(root, f"{share}/extension/hstore--1.7--1.8.sql")
    write(root, f"{share}/extension/plain.control", "comment = 'no version'\n")
    write(root, f"{library}/hstore.so")
    write(root, f"{library}/pgxs.mk")
    write(root, "/etc/passwd", "postgres:x:70:70::/:/bin/sh\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "root_of", lambda container: str(tmp_path))
    return tmp_path


def look(engine: ImageEngine) -> Any:
    return examine(engine, "postgres:17-alpine")  # type: ignore[arg-type]


def test_an_image_on_musl(root: Path) -> None:
    tree(root, "/usr/local/bin", "/usr/local/share/postgresql", "/usr/local/lib/postgresql", MUSL_LOADER)
    engine = ImageEngine(says(VERSION))
    found = look(engine)
    assert (found.id, found.major, found.version, found.server_version_num) == ("sha256:b", "17", "17.2", 170002)
    assert (found.libc, found.libc_version, found.loader, found.icu) == ("musl", "1.2.5", MUSL_LOADER, "74")
    assert found.user == (70, 70)
    assert found.data_directory == "/var/lib/postgresql/data"
    assert found.library_directory == "/usr/local/lib/postgresql"
    assert found.extensions == {"hstore": "1.8"}
    assert found.updates == {"hstore": ("1.7", "1.8")}
    assert found.libraries == ("hstore",)
    assert found.locales == ()
    assert found.parameters == ("work_mem",)
    (helper,) = engine.made
    assert (helper.network_mode, helper.binds, helper.operation) == ("none", (), "image-info")
    assert engine.removed == ["helper"]


def test_links_are_followed_inside_the_image(root: Path) -> None:
    """Debian keeps PostGIS's control file behind /etc/alternatives, and the programs of some images are links."""
    place, share = "/usr/lib/postgresql/17/bin", "/usr/share/postgresql/17"
    tree(root, place, share, "/usr/lib/postgresql/17/lib", "/lib64/ld-linux-x86-64.so.2")
    write(root, f"{share}/extension/postgis-3.real", "default_version = '3.5.0'\n")
    (root / "etc/alternatives").mkdir()
    (root / "etc/alternatives/postgis.control").symlink_to(f"{share}/extension/postgis-3.real")
    (root / f"{share}/extension/postgis.control".lstrip("/")).symlink_to("/etc/alternatives/postgis.control")
    (root / "usr/bin").mkdir()
    (root / "usr/bin/postgres").symlink_to(f"{place}/postgres")
    write(root, "/usr/bin/locale", mode=0o755)
    write(root, "/usr/bin/ldd", mode=0o755)
    engine = ImageEngine(says({**VERSION, "ldd --version": "ldd (GNU libc) 2.41\n", "locale -a": "C\nen_US.utf8\n"}))
    found = look(engine)
    assert found.bin_directory == place
    assert found.extensions == {"hstore": "1.8", "postgis": "3.5.0"}
    assert (found.libc, found.libc_version, found.locales) == ("glibc", "2.41", ("c", "en_us.utf8"))


def test_pg_config_tells_unusual_places(root: Path) -> None:
    tree(root, "/usr/local/bin", "/opt/pg/files", "/opt/pg/libraries", MUSL_LOADER)
    # What another major left in the usual place is not taken for this one's.
    write(root, "/usr/local/share/postgresql/postgres.bki", "# PostgreSQL 16\n")
    write(root, "/usr/local/lib/postgresql/other.so")
    write(root, "/usr/local/bin/pg_config", mode=0o755)
    told = "/usr/local/bin\n/opt/pg/files\n/opt/pg/libraries\n"
    found = look(ImageEngine(says({**VERSION, "pg_config --bindir --sharedir --pkglibdir": told})))
    assert (found.share_directory, found.libraries) == ("/opt/pg/files", ("hstore",))
    with pytest.raises(InvalidInput, match="cannot be told"):
        look(ImageEngine(says(VERSION)))


def test_a_user_that_the_image_names_counts(root: Path) -> None:
    tree(root, "/usr/local/bin", "/usr/local/share/postgresql", "/usr/local/lib/postgresql", MUSL_LOADER)
    other = Image("sha256:b", (), (), {"PGDATA": "/pg"}, (), "1001", "SIGINT", "", {})
    found = look(ImageEngine(says(VERSION), here=other))
    assert (found.user, found.data_directory, found.volumes) == ((1001, 0), "/pg", ())


def test_an_image_that_is_not_here_is_to_be_pulled() -> None:
    with pytest.raises(InvalidInput, match="no image") as caught:
        look(ImageEngine(here=None))
    assert caught.value.next_command == "docker pull postgres:17-alpine"
    with pytest.raises(InvalidInput, match="no image") as caught:
        examine(ImageEngine(here=None), "sha256:gone")  # type: ignore[arg-type]
    assert caught.value.next_command == "docker images -a"


@pytest.mark.parametrize("answers", [{}, {"postgres --version": "postgrest 12\n"}])
def test_an_image_without_postgres_is_refused_and_its_helper_removed(root: Path, answers: dict[str, str]) -> None:
    if answers:
        write(root, "/usr/bin/postgres", mode=0o755)
    engine = ImageEngine(says(answers))
    with pytest.raises(InvalidInput, match="no Postgres image"):
        look(engine)
    assert engine.removed == ["helper"]


def test_an_unknown_libc_is_refused(root: Path) -> None:
    tree(root, "/usr/local/bin", "/usr/local/share/postgresql", "/usr/local/lib/postgresql", "/lib/ld-other.so.1")
    with pytest.raises(InvalidInput, match="Which libc"):
        look(ImageEngine(says(VERSION)))


def test_a_helper_that_ended_at_once_is_told() -> None:
    engine = ImageEngine(helper=a_container(pid=0, status="exited"))
    with pytest.raises(StatefulError, match="did not stay up"):
        look(engine)
    assert engine.removed == ["helper"]


def test_what_a_killed_run_left_is_removed_once_it_has_ended(root: Path) -> None:
    tree(root, "/usr/local/bin", "/usr/local/share/postgresql", "/usr/local/lib/postgresql", MUSL_LOADER)
    ended, of_another = a_container(id="ended", pid=0, status="exited"), a_container(id="of another")
    engine = ImageEngine(says(VERSION), left=[ended, of_another])
    look(engine)
    assert engine.removed == ["ended", "helper"]
