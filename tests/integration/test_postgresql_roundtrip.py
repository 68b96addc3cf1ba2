# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster into a backup and back into an empty one, by the modules as an admin calls them."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import logical_catalogue, logical_restore
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.restore import note
from tests.integration import postgresql_lab
from tests.integration.postgresql_lab import USUAL, Lab
from tests.integration.storage import preloaded
from tests.sandbox import images
from tests.tools import tree

# One server is backed up by all of them.
pytestmark = pytest.mark.xdist_group("postgresql round trip")

FAILURE = {"msg", "state", "copies", "safe_to_rerun", "next_command"}
OTHERS = [pytest.param(major, marks=pytest.mark.matrix) for major in ("13", "15", "18")]
MAJORS = [pytest.param(USUAL), *OTHERS]


def module(lab: Lab, name: str, *, check: bool = False, **params: Any) -> Mapping[str, Any]:
    """Run a module and return what it answers."""
    given = {
        "docker_host": lab.host.host,
        "operations_dir": str(lab.directory / "operations"),
        "_ansible_check_mode": check,
        **{key: str(value) if isinstance(value, Path) else value for key, value in params.items()},
    }
    path = os.pathsep.join([str(tree.link()), str(tree.ROOT)])
    with (lab.directory / "errors").open("w+") as errors:
        argv = [f"{preloaded.MODULES}.postgresql_{name}"]
        process = preloaded.start(argv, {**os.environ, "PYTHONPATH": path}, errors)
        with process.stdin, process.stdout:
            process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
            process.stdin.close()
            said = process.stdout.read()
        code = process.wait()
        errors.seek(0)
        assert said, errors.read()
    answer: dict[str, Any] = json.loads(said)
    assert answer.get("failed", False) == (code != 0), said
    return answer


def succeeds(lab: Lab, name: str, **params: Any) -> Mapping[str, Any]:
    answer = module(lab, name, **params)
    assert not answer.get("failed"), answer["msg"]
    return answer


def refused(lab: Lab, name: str, **params: Any) -> Mapping[str, Any]:
    answer = module(lab, name, **params)
    assert answer.get("failed"), answer
    assert set(answer) >= FAILURE
    assert "Traceback" not in answer["msg"]
    assert "exception" not in answer, answer["exception"]
    return answer


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with postgresql_lab.lab(tmp_path_factory.mktemp("round-trip")) as made:
        yield made


@pytest.fixture
def lab(shared: Lab, tmp_path: Path) -> Iterator[Lab]:
    """Return a lab of this test's own, beside the shared server."""
    with postgresql_lab.lab(tmp_path) as made:
        yield made


SERVERS: dict[str, Container] = {}


def server(shared: Lab, major: str) -> Container:
    """Return the server that is backed up, made once for each major."""
    if major not in SERVERS:
        SERVERS[major] = shared.start(major)
        fill(shared, SERVERS[major])
    return SERVERS[major]


def fill(lab: Lab, container: Container) -> None:
    with lab.session(container) as session:
        session.run("CREATE ROLE staff")
        session.run("CREATE ROLE app LOGIN PASSWORD 'geheim' CONNECTION LIMIT 7 IN ROLE staff")
        session.run("COMMENT ON ROLE app IS 'it''s the app'")
        session.run("ALTER ROLE app SET work_mem TO '7MB'")
        session.run("CREATE DATABASE forum TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' OWNER app")
        session.run('ALTER DATABASE forum SET search_path TO "$user", public')
        session.run("ALTER ROLE app IN DATABASE forum SET statement_timeout TO '90s'")
        session.run("REVOKE CONNECT ON DATABASE forum FROM PUBLIC")
        session.run("GRANT CONNECT ON DATABASE forum TO staff")
        with session.sibling("forum") as there:
            there.run("CREATE TABLE public.posts (id bigint PRIMARY KEY, body text)")
            there.run("INSERT INTO public.posts SELECT g, md5(g::text) FROM generate_series(1, 2000) g")
            there.run("CREATE SEQUENCE public.counter")
            there.scalar("SELECT setval('public.counter', 4711)")
            there.scalar("SELECT lo_from_bytea(4242, 'a large object')")
        session.run("CREATE TABLE public.kept AS SELECT generate_series(1, 30) AS id")
        with session.sibling("template1") as there:
            there.run("CREATE SCHEMA house")


QUESTIONS = {
    "postgres": (
        "SELECT rolname, rolpassword, rolconnlimit, shobj_description(oid, 'pg_authid') FROM pg_authid"
        " WHERE rolname IN ('app', 'staff') ORDER BY 1",
        "SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members WHERE member = 'app'::regrole",
        "SELECT datname, datcollate, datctype, pg_get_userbyid(datdba) FROM pg_database ORDER BY 1",
        "SELECT grantee::regrole::text, privilege_type FROM pg_database, aclexplode(datacl) WHERE datname = 'forum'"
        " ORDER BY 1, 2",
        "SELECT d.datname, r.rolname, s.setconfig::text FROM pg_db_role_setting s LEFT JOIN pg_database d"
        " ON d.oid = setdatabase LEFT JOIN pg_roles r ON r.oid = setrole ORDER BY 1, 2",
        "SELECT count(*), sum(id) FROM public.kept",
    ),
    "forum": (
        "SELECT count(*), md5(string_agg(body, ',' ORDER BY id)) FROM public.posts",
        "SELECT last_value, is_called FROM public.counter",
        "SELECT oid::bigint, convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata",
    ),
    "template1": ("SELECT nspname FROM pg_namespace WHERE nspname = 'house'",),
}


def content(lab: Lab, container: Container) -> dict[str, Any]:
    with lab.session(container) as session:
        answers = {}
        for database, questions in QUESTIONS.items():
            with session.sibling(database) as there:
                answers.update({question: there.rows(question) for question in questions})
        return answers


def data_files(backup: Path) -> list[Path]:
    """Return the files of a backup whose content is data, the largest last."""
    return sorted(
        (path for path in backup.rglob("*") if path.is_file() and path.name != "backup.json"),
        key=lambda path: path.stat().st_size,
    )


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


@pytest.mark.faults
@pytest.mark.parametrize("major", MAJORS)
def test_files_come_back_as_they_were(shared: Lab, lab: Lab, major: str) -> None:
    source = server(shared, major)
    path = lab.directory / "made" / "physical"
    asked = {"container": source.name, "path": path, "prove": "restore"}

    planned = succeeds(lab, "backup", check=True, **asked)
    assert planned["changed"]
    assert planned["plan"]["action"] == "take"
    assert planned["plan"]["free_bytes"] > planned["plan"]["needed_bytes"] > 2 * 20_000_000
    assert not path.parent.exists()

    made = succeeds(lab, "backup", **asked)
    assert made["changed"]
    assert made["format"] == "physical"
    assert made["fingerprint"]["databases"]["forum"]["tables"]["public.posts"]["rows"] == 2000
    assert "restored into a scratch container" in made["proof"]
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o700, 0)
    assert sorted(os.listdir(path)) == ["backup.json", "data"]
    assert os.listdir(path.parent) == ["physical"]
    again = succeeds(lab, "backup", **asked)
    assert not again["changed"]
    assert {key: made[key] for key in ("moment", "proof", "bytes")} == {
        key: again[key] for key in ("moment", "proof", "bytes")
    }

    # A running service, and a directory that holds anything, are refused by name.
    running = refused(lab, "restore", container=source.name, path=path)
    assert "runs" in running["msg"]
    assert "the one that was backed up" in running["msg"]
    target, data = stopped(lab, major)
    (data / "precious").write_text("x")
    assert "precious" in refused(lab, "restore", container=target, path=path)["msg"]
    (data / "precious").unlink()

    # A flipped byte is found in the copy, and nothing of it stays.
    broken = lab.directory / "broken"
    shutil.copytree(path, broken, symlinks=True)
    flip(data_files(broken / "data" / "base")[-1], 5000)
    for file in (broken, *broken.rglob("*")):
        os.chown(file, *owner(path / file.relative_to(broken)))
    damaged = refused(lab, "restore", container=target, path=broken)
    assert "mismatch" in damaged["msg"]
    assert "as it was before" in damaged["state"]
    assert os.listdir(data) == []
    # A file that was cut short is seen without reading.
    os.truncate(data_files(broken / "data" / "base")[-1], 100)
    assert "held" in refused(lab, "restore", container=target, path=broken)["msg"]

    # What an interrupted restore left is begun anew.
    (data / ".selfhost-stateful-partial").touch()
    (data / "base").mkdir()
    before = set(os.listdir(data))
    assert succeeds(lab, "restore", check=True, container=target, path=path)["changed"]
    assert set(os.listdir(data)) == before
    restored = succeeds(lab, "restore", container=target, path=path)
    assert restored["changed"]
    assert "pg_verifybackup" in restored["proof"]
    assert not succeeds(lab, "restore", container=target, path=path)["changed"]
    lab.host.docker("start", target)
    assert content(lab, lab.ready(target)) == content(shared, source)


@pytest.mark.faults
def test_a_tablespace_comes_back_and_what_was_killed_over_it_is_begun_anew(lab: Lab) -> None:
    source = lab.start(USUAL)
    lab.host.docker("exec", "-u", "postgres", source.name, "mkdir", "/tmp/fast")
    with lab.session(source) as session:
        session.run("CREATE TABLESPACE fast LOCATION '/tmp/fast'")
        session.run("CREATE TABLE public.apart TABLESPACE fast AS SELECT generate_series(1, 99) AS id")
    path, space = lab.directory / "physical", lab.directory / "fast"
    succeeds(lab, "backup", container=source.name, path=path, format="physical", prove="verify")
    space.mkdir()
    target, data = stopped(lab, USUAL, "-v", f"{space}:/tmp/fast")
    (space / "left").touch()
    (space / ".selfhost-stateful-partial").write_text("of another cluster")
    assert "left" in refused(lab, "restore", container=target, path=path)["msg"]
    (data / ".selfhost-stateful-partial").write_text("of another cluster")
    assert succeeds(lab, "restore", container=target, path=path)["changed"]
    assert not [*data.glob(".selfhost*"), *space.glob(".selfhost*"), *space.glob("left")]
    lab.host.docker("start", target)
    with lab.session(lab.ready(target)) as session:
        assert session.scalar("SELECT count(*) FROM public.apart") == 99


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def stopped(lab: Lab, major: str, *options: str) -> tuple[str, Path]:
    """Make a container that never ran, and return its name and its empty data directory."""
    name, volume = f"sfs-pg-{uuid.uuid4().hex[:12]}", lab.directory / "volume"
    volume.mkdir()
    where = "/var/lib/postgresql" if major == "18" else "/var/lib/postgresql/data"
    lab.undo.callback(lab.host.docker, "rm", "-fv", name, check=False)
    options = ("-e", "POSTGRES_HOST_AUTH_METHOD=trust", "-v", f"{volume}:{where}", *options)
    lab.host.docker("create", "--name", name, *options, images.ref(f"postgres:{major}"))
    data = volume / "18" / "docker" if major == "18" else volume
    data.mkdir(parents=True, exist_ok=True)
    return name, data


@pytest.mark.faults
@pytest.mark.parametrize("major", MAJORS)
def test_a_dump_comes_back_as_it_was(shared: Lab, lab: Lab, major: str) -> None:
    source = server(shared, major)
    path = lab.directory / "dump"
    asked = {"container": source.name, "path": path, "format": "logical"}
    made = succeeds(lab, "backup", **asked)
    assert made["changed"]
    assert "restored nowhere" in made["proof"]
    assert made["fingerprint"] == {}
    proved = succeeds(lab, "backup", **asked, prove="restore")
    assert proved["changed"]
    assert proved["fingerprint"]["databases"]["forum"]["tables"]["public.posts"]["rows"] == 2000
    assert not succeeds(lab, "backup", **asked, prove="restore")["changed"]
    assert "format: physical" in refused(lab, "backup", **{**asked, "format": "physical"})["msg"]

    full = refused(lab, "restore", container=source.name, path=path)
    assert "the role app" in full["msg"]
    assert "public.posts" in full["msg"]

    target = lab.start(major, options=("-e", "POSTGRES_DB=forum"))
    pristine = described(lab, target)
    broken = lab.directory / "broken"
    shutil.copytree(path, broken)
    victim = data_files(broken / "dump")[-1]
    flip(victim, victim.stat().st_size // 2)
    assert victim.name in refused(lab, "restore", container=target.name, path=broken)["msg"]
    os.truncate(victim, victim.stat().st_size // 2)
    assert "held" in refused(lab, "restore", container=target.name, path=broken)["msg"]
    assert "public.posts" not in str(described(lab, target))

    # A dump that no checksum tells from a good one, and that a server does not take, leaves nothing behind.
    shutil.rmtree(broken)
    shutil.copytree(path, broken)
    catalogue = broken / "dump" / "catalogue.json"
    catalogue.write_text(catalogue.read_text().replace('"public.posts": 2000', '"public.posts": 2001'))
    resealed(broken)
    lacking = refused(lab, "restore", container=target.name, path=broken)
    assert "public.posts has 2000 rows, 2001 before" in lacking["msg"]
    assert "empty again" in lacking["state"]
    assert described(lab, target) == pristine

    assert succeeds(lab, "restore", check=True, container=target.name, path=path)["changed"]
    assert described(lab, target) == pristine
    restored = succeeds(lab, "restore", container=target.name, path=path)
    assert restored["changed"]
    assert "are equal; nothing that the backup had" in restored["proof"]
    assert restored["kept"] == ["the role postgres was there, and is as it was"]
    assert content(lab, target) == content(shared, source)
    # What the applications write from now on stays.
    with lab.session(target) as session, session.sibling("postgres") as there:
        there.run("INSERT INTO public.kept VALUES (31)")
        assert not succeeds(lab, "restore", container=target.name, path=path)["changed"]
        assert there.scalar("SELECT count(*) FROM public.kept") == 31


@pytest.mark.matrix
def test_a_proved_dump_goes_into_a_newer_major(shared: Lab, lab: Lab) -> None:
    source = server(shared, "13")
    path = lab.directory / "dump"
    succeeds(lab, "backup", container=source.name, path=path, format="logical", prove="restore")
    target = lab.start("18")
    assert "nothing that the backup had" in succeeds(lab, "restore", container=target.name, path=path)["proof"]
    assert content(lab, target) == content(shared, source)
    older = lab.start("15")
    newer = lab.directory / "newer"
    succeeds(lab, "backup", container=target.name, path=newer, format="logical")
    assert "the same or a newer major" in refused(lab, "restore", container=older.name, path=newer)["msg"]


def described(lab: Lab, container: Container) -> Any:
    with lab.session(container) as session:
        return (
            session.rows("SELECT oid::bigint, datname FROM pg_database ORDER BY 1"),
            session.rows("SELECT rolname FROM pg_roles ORDER BY 1"),
            session.rows("SELECT count(*) FROM pg_class WHERE oid >= 16384"),
        )


def resealed(backup: Path) -> None:
    dump = backup / "dump"
    files = logical_catalogue.files_below(str(dump))
    lines = [f"{logical_catalogue.sha256_of(file)}  {os.path.relpath(file, dump)}\n" for file in files]
    (backup / "SHA256SUMS").write_text("".join(lines))


@pytest.mark.faults
def test_a_restore_that_was_killed_is_begun_anew_or_finished(shared: Lab, lab: Lab) -> None:
    source = server(shared, USUAL)
    path = lab.directory / "dump"
    succeeds(lab, "backup", container=source.name, path=path, format="logical")
    target = lab.start(USUAL)
    cluster = lab.observe(target)
    directory = lab.data_of(target, cluster)
    identity = json.loads((path / "backup.json").read_text())["evidence"]["sums_sha256"]
    begun = note.Note(note.RESTORING, identity, str(path), "then", roles=("app", "staff"))
    note.write(directory, begun)
    with lab.session(target) as session:
        session.run("CREATE ROLE app")
        session.run(f"CREATE DATABASE {logical_restore.TEMPORARY}0")
    assert succeeds(lab, "restore", container=target.name, path=path)["changed"]
    assert content(lab, target) == content(shared, source)

    # Killed after the names were given: what is there is in use, and is not touched.
    note.write(directory, begun)
    with lab.session(target) as session:
        session.run(f"CREATE DATABASE {logical_restore.DESK}")
        session.run(f"CREATE DATABASE {logical_restore.REPLACED}0 TEMPLATE template0")
        session.run(f"CREATE DATABASE {logical_restore.REPLACED}1")
        session.run("INSERT INTO public.kept VALUES (31)")
        finished = succeeds(lab, "restore", container=target.name, path=path)
        assert finished["changed"]
        assert session.scalar("SELECT count(*) FROM public.kept") == 31
        names = {name for (name,) in session.rows("SELECT datname FROM pg_database")}
    # The second is a copy of template1, which holds something by now: as if somebody had written into it.
    assert names == {"forum", "postgres", "template0", "template1", f"{logical_restore.REPLACED}1"}
    assert finished["kept"] == [
        f"somebody wrote into a database that was to be replaced: it is kept as {logical_restore.REPLACED}1"
    ]
    assert note.read(directory) == note.Note(note.RESTORED, identity, str(path), "then")
