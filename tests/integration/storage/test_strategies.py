# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every way to move, from every kind of place, and what must be the same afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import images
from tests.sandbox.compose_v1 import compose_v1
from tests.sandbox.isolated import IsolatedEngine
from tests.sandbox.loopfs import loopfs

from .lab import Lab, laid_out, snapshot

DB = "db:/var/lib/postgresql/data"
MAJORS = ["13", "15", "18"]


def origin_of(lab: Lab, service: str = "db") -> os.stat_result:
    """Return device and inode of the directory that the service's data is in."""
    return os.stat(next(m["Source"] for m in lab.inspected()[service]["Mounts"] if m["Type"] == "volume"))


def strategies(result: Any) -> dict[str, str]:
    return {move["service"]: move["strategy"] for move in result["plan"]["moves"]}


@pytest.mark.matrix
def test_rename_in_a_path_with_spaces_and_letters(tmp_path: Path) -> None:
    """It is the very same directory afterwards; check mode said all of it, and changed nothing."""
    with laid_out(
        tmp_path, dependent=True, folder="Fräulein Smith's Straße", name=f"sfs-letters-{secrets.token_hex(4)}"
    ) as lab:
        with lab.prober() as probe:
            before, tree, ids = origin_of(lab), snapshot(lab.project.directory), identities(lab)
            planned = lab.run(check=True).ok()
            assert planned["changed"] is True
            assert snapshot(lab.project.directory) == tree
            assert identities(lab) == ids
            assert lab.states() == []
            result = lab.run().ok()
            assert (result["operation"], result["diff"]) == (planned["operation"], planned["diff"])
            assert result["plan"]["stops"] == planned["plan"]["stops"]
            assert strategies(result) == strategies(planned) == {"db": "rename", "redis": "rename"}
            assert result["bytes_copied"] == 0
            lab.assert_moved(probe)
            moved = lab.sources["db"].stat()
            assert (moved.st_dev, moved.st_ino) == (before.st_dev, before.st_ino)
            assert_result(result)
        assert_second_run_changes_nothing(lab)
        for arguments in (("up", "-d"), ("up", "-d", "--force-recreate")):
            lab.project.compose(*arguments)
            lab.project.wait_ready()
            lab.assert_seed()
            lab.assert_mounts()


def identities(lab: Lab) -> dict[str, Any]:
    return {name: (c["Id"], c["State"]["StartedAt"]) for name, c in lab.inspected().items()}


def assert_result(result: Any) -> None:
    """Assert that the result says what was seen from outside."""
    assert result["operation_state"] == "done"
    assert result["downtime_seconds"] > 0
    assert set(result["mounts"]) == {f"{move['service']}:{move['target']}" for move in result["plan"]["moves"]}
    for move in result["plan"]["moves"]:
        mount = result["mounts"][f"{move['service']}:{move['target']}"]
        assert (mount["Type"], mount["Source"], mount["RW"]) == ("bind", move["to"], True)
    for copy in result["copies"]:
        assert Path(copy["path"]).exists(), copy
        assert copy["moment"]
    assert {copy["role"] for copy in result["copies"]} >= {"backup"}


def assert_second_run_changes_nothing(lab: Lab) -> None:
    tree, ids = snapshot(lab.project.directory / "docker-compose.yml"), identities(lab)
    again = lab.run().ok()
    assert again["changed"] is False
    assert {mount["Source"] for mount in again["mounts"].values()} == {str(path) for path in lab.sources.values()}
    assert again["copies"], "what is retained is to be mentioned"
    assert (snapshot(lab.project.directory / "docker-compose.yml"), identities(lab)) == (tree, ids)
    assert lab.run(check=True).ok()["changed"] is False


@pytest.mark.matrix
def test_rename_between_two_mounts_of_one_file_system(tmp_path: Path) -> None:
    """rename(2) answers EXDEV there; the same directory arrives all the same."""
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        with laid_out(tmp_path, services=["db"], sources={"db": place / "postgres"}) as lab, lab.prober() as probe:
            before = origin_of(lab)
            assert strategies(lab.run().ok()) == {"db": "rename"}
            moved = lab.sources["db"].stat()
            assert (moved.st_dev, moved.st_ino) == (before.st_dev, before.st_ino)
            lab.assert_moved(probe)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module")
def other_disk() -> Iterator[Path]:
    """Return a place on another file system than the engine's."""
    with loopfs("ext4", 2048) as place:
        yield place


def test_replica_of_a_named_volume(tmp_path: Path, other_disk: Path) -> None:
    """A standby takes over, whoever its superuser is: the cluster is the same, and its timeline too."""
    sources, user = {"db": other_disk / "replica"}, "paperless"
    with (
        laid_out(
            tmp_path, services=["db"], sources=sources, named_volumes=True, dependent=True, postgres_user=user
        ) as lab,
        lab.prober() as probe,
    ):
        question = "SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        before = lab.project.sql(question)
        result = lab.run().ok()
        assert strategies(result) == {"db": "replica"}
        assert lab.project.sql(question) == before
        assert lab.project.sql("SELECT pg_is_in_recovery()") == "f"
        lab.assert_moved(probe)
        assert_result(result)
        kept = [copy for copy in result["copies"] if copy["role"] == "original"]
        assert [copy["service"] for copy in kept] == ["db"]
        assert Path(kept[0]["path"], "PG_VERSION").exists()
        assert_second_run_changes_nothing(lab)


def test_copy_across_file_systems(tmp_path: Path, other_disk: Path) -> None:
    sources = {"db": other_disk / "copy" / "postgres", "redis": other_disk / "copy" / "redis"}
    with laid_out(tmp_path, sources=sources, options={"strategy": "copy"}) as lab, lab.prober() as probe:
        origin = Path(next(m["Source"] for m in lab.inspected()["db"]["Mounts"]))
        original = owners(origin)
        result = lab.run().ok()
        assert strategies(result) == {"db": "copy", "redis": "copy"}
        assert result["bytes_copied"] > 0
        lab.assert_moved(probe)
        assert_result(result)
        assert original <= owners(sources["db"])


def owners(directory: Path) -> set[tuple[str, int, int, int]]:
    """Return owner and mode of what lies in ``directory`` for good."""
    names = ("PG_VERSION", "base", "global", "pg_hba.conf", "pg_wal", "postgresql.conf", "base/1")
    status = {name: (directory / name).lstat() for name in (".", *names)}
    return {(name, s.st_uid, s.st_gid, s.st_mode) for name, s in status.items()}


@pytest.mark.matrix
def test_psql_stands_in_for_the_driver(tmp_path: Path, other_disk: Path) -> None:
    """A host without psycopg: backup, copy and proof are the same, and the plan does without what needs the driver."""
    (tmp_path / "psycopg.py").write_text("raise ImportError('no pq wrapper')")
    alone = {"PYTHONPATH": str(tmp_path)}
    sources = {"db": other_disk / "psql"}
    with laid_out(tmp_path, services=["db"], sources=sources) as lab, lab.prober() as probe:
        refused = lab.run(check=True, env=alone, backup="logical")
        assert "host_requirements" in refused.refusal()
        result = lab.run(env=alone).ok()
        assert strategies(result) == {"db": "copy"}
        assert "psql" in result["plan"]["moves"][0]["against"]["replica"]
        assert "Note: psycopg 3 is not on this host" in result["plan_text"]
        lab.assert_moved(probe)
        assert_result(result)


@pytest.mark.matrix
@pytest.mark.xdist_group("reflinks")
def test_clone_on_xfs(reflinks: IsolatedEngine) -> None:
    place = reflinks.data_root.parent / "cloned"
    with laid_out(place, engine=reflinks.engine, options={"strategy": "clone"}) as lab, lab.prober() as probe:
        result = lab.run().ok()
        assert strategies(result) == {"db": "clone", "redis": "clone"}
        assert result["bytes_copied"] == 0
        lab.assert_moved(probe)
        assert_result(result)
        largest = max((lab.sources["db"] / "base" / "1").iterdir(), key=lambda path: path.stat().st_size)
        argv = ["xfs_io", "-r", "-c", "bmap -vp", str(largest)]
        blocks = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert " 100000" in blocks, "no block of it is shared"


@pytest.mark.matrix
@pytest.mark.parametrize("major", MAJORS)
def test_majors(tmp_path: Path, major: str) -> None:
    """The layout of 18 keeps the cluster two levels below its mount."""
    images.ensure([f"postgres:{major}"])
    with laid_out(tmp_path, services=["db"], postgres=major) as lab, lab.prober() as probe:
        assert strategies(lab.run().ok()) == {"db": "rename"}
        lab.assert_moved(probe)
        below = {"18": "18/docker"}.get(major, "")
        assert (lab.sources["db"] / below / "PG_VERSION").read_text().strip() == major
        assert lab.run().ok()["changed"] is False


@pytest.mark.matrix
@pytest.mark.parametrize("major", ["13", "15", "18"])
@pytest.mark.parametrize("strategy", ["replica", "copy"])
def test_majors_across_file_systems(tmp_path: Path, other_disk: Path, major: str, strategy: str) -> None:
    images.ensure([f"postgres:{major}"])
    sources = {"db": other_disk / f"{major}-{strategy}"}
    with (
        laid_out(tmp_path, services=["db"], postgres=major, sources=sources, options={"strategy": strategy}) as lab,
        lab.prober() as probe,
    ):
        assert strategies(lab.run().ok()) == {"db": strategy}
        lab.assert_moved(probe)


@pytest.mark.matrix
def test_tablespace_in_the_layer(tmp_path: Path) -> None:
    """It would be gone with the container: without it in the list nothing begins, and with it all of it moves."""
    with laid_out(tmp_path, services=["db"]) as lab, lab.prober() as probe:
        lab.project.exec("postgres", "install", "-d", "-o", "postgres", "/srv/fast")
        lab.project.sql("CREATE TABLESPACE fast LOCATION '/srv/fast'")
        lab.project.sql("CREATE TABLE kept TABLESPACE fast AS SELECT 4711 AS number")
        assert "target: /srv/fast" in lab.run().refusal()
        place = lab.project.directory / "fast"
        wanted = [
            {"service": "db", "source": str(lab.sources["db"])},
            {"service": "db", "source": str(place), "target": "/srv/fast"},
        ]
        result = lab.run(mounts=wanted).ok()
        assert {move["target"]: move["strategy"] for move in result["plan"]["moves"]} == {
            "/var/lib/postgresql/data": "rename", "/srv/fast": "copy",
        }  # fmt: skip
        lab.project.compose("up", "-d", "--force-recreate")
        lab.assert_nothing_lost(probe)
        assert lab.project.sql("SELECT number FROM kept") == "4711"
        mounted = {mount["Destination"]: mount["Source"] for mount in lab.inspected()["db"]["Mounts"]}
        assert mounted == {"/var/lib/postgresql/data": str(lab.sources["db"]), "/srv/fast": str(place)}
        lab.assert_tidy()
        assert lab.run(mounts=wanted).ok()["changed"] is False


@pytest.mark.matrix
def test_data_one_level_off_its_declared_mount(tmp_path: Path) -> None:
    """A volume is mounted above the declared one: what the admin sees is empty, the data is anonymous."""
    above = ("  POSTGRES_INITDB_ARGS: --no-sync", "volumes:", "  - ./looks-right:/var/lib/postgresql")
    with laid_out(tmp_path, services=["db"], db_lines=above) as lab, lab.prober() as probe:
        result = lab.run().ok()
        (move,) = result["plan"]["moves"]
        assert (move["target"], move["from"]["kind"]) == ("/var/lib/postgresql/data", "anonymous")
        lab.assert_moved(probe)


@pytest.mark.matrix
def test_stopped_services_stay_stopped(tmp_path: Path) -> None:
    with laid_out(tmp_path, dependent=True) as lab:
        lab.project.compose("stop")
        lab.remember()
        assert not any(lab.running.values())
        result = lab.run().ok()
        assert result["changed"] is True
        lab.assert_mounts()
        lab.assert_as_before()
        lab.assert_tidy()
        lab.project.compose("start")
        lab.project.wait_ready()
        lab.assert_seed()


def test_stopped_dependents_stay_stopped(tmp_path: Path) -> None:
    with laid_out(tmp_path, services=["redis"], dependent=True) as lab, lab.prober() as probe:
        lab.project.compose("stop", "web")
        lab.remember()
        lab.run().ok()
        lab.assert_moved(probe)


def test_never_started_is_an_edit_of_the_file(tmp_path: Path) -> None:
    """No cluster is made by surprise; what starts later starts on the mount."""
    with laid_out(tmp_path, services=["db"], up=False) as lab:
        planned = lab.run(check=True, mounts=[target_of_db(lab)]).ok()
        assert planned["changed"] is True
        result = lab.run(mounts=[target_of_db(lab)]).ok()
        assert result["diff"] == planned["diff"]
        assert lab.inspected() == {}
        assert not lab.sources["db"].exists() or not any(lab.sources["db"].iterdir())
        assert lab.run(mounts=[target_of_db(lab)]).ok()["changed"] is False
        lab.project.up()
        assert lab.project.mounts("postgres")[0]["Source"] == str(lab.sources["db"])


def target_of_db(lab: Lab) -> dict[str, str]:
    return {"service": "db", "target": "/var/lib/postgresql/data", "source": str(lab.sources["db"])}


def test_override_file(tmp_path: Path) -> None:
    """What git tracks stays as it is; plain compose commands find the data."""
    with (
        laid_out(tmp_path, services=["redis"], options={"rewrite": "override"}, save=False) as lab,
        lab.prober() as probe,
    ):
        file = lab.project.directory / "docker-compose.yml"
        original = file.read_bytes()
        lab.run().ok()
        assert file.read_bytes() == original
        assert (lab.project.directory / "docker-compose.override.yml").exists()
        lab.project.compose("up", "-d")
        lab.assert_moved(probe)
        assert lab.run().ok()["changed"] is False


@pytest.mark.faults
def test_file_that_is_made_by_somebody_else(tmp_path: Path) -> None:
    """``rewrite: none``: the file names the mount already, and reality is made to match it."""
    with laid_out(tmp_path, services=["redis"], options={"rewrite": "none"}) as lab, lab.prober() as probe:
        file = lab.project.directory / "docker-compose.yml"
        file.write_text(file.read_text() + f"    volumes:\n      - {lab.sources['redis']}:/data\n")
        written = snapshot(file.parent)[str(file)]
        lab.run().ok()
        assert snapshot(file.parent)[str(file)] == written
        lab.assert_moved(probe)
        before = identities(lab)
        lab.project.compose("up", "-d")
        assert identities(lab) == before, "compose saw a difference"
        assert lab.run().ok()["changed"] is False


@pytest.mark.parametrize(
    "pin", [pytest.param(False, id="named", marks=pytest.mark.matrix), pytest.param(True, id="pinned")]
)
def test_tag_that_means_another_image_by_now(tmp_path: Path, pin: bool) -> None:
    """The service goes on with the image that it ran, and the difference is said."""
    tag = f"sfs-floating:{secrets.token_hex(4)}"
    services = ["redis"]

    def floating(text: str) -> str:
        return text.replace("selfhost-sandbox/redis:8", tag)

    with laid_out(tmp_path, services=services, up=False, edit=floating, options={"pin_images": pin}) as lab:
        lab.engine.docker("tag", "selfhost-sandbox/redis:8", tag)
        try:
            lab.up()
            lab.engine.docker("commit", lab.inspected()["redis"]["Id"], tag)
            with lab.prober() as probe:
                result = lab.run().ok()
                assert any(tag in str(warning) for warning in result.get("warnings", [])), result
                lab.assert_moved(probe)
            assert lab.run().ok()["changed"] is False
            file = (lab.project.directory / "docker-compose.yml").read_text()
            assert (lab.images["redis"] in file) is pin
            if pin:
                lab.project.compose("up", "-d")
                lab.project.wait_ready()
                lab.assert_as_before()
        finally:
            lab.engine.docker("rmi", tag, check=False)


@pytest.mark.faults
def test_tag_that_moves_between_plan_and_switch(tmp_path: Path) -> None:
    """A pull in between must neither start another image nor leave the service down."""
    tag = f"sfs-moving:{secrets.token_hex(4)}"

    def edit(text: str) -> str:
        return text.replace("selfhost-sandbox/redis:8", tag)

    with laid_out(tmp_path, services=["redis"], up=False, edit=edit) as lab:
        lab.engine.docker("tag", "selfhost-sandbox/redis:8", tag)
        try:
            lab.up()
            with lab.prober() as probe:
                lab.run(stop_before="switch").ok()
                lab.engine.docker("tag", images.ref("redis:7"), tag)
                lab.run().ok()
                lab.assert_moved(probe)
        finally:
            lab.engine.docker("rmi", tag, check=False)


@pytest.mark.matrix
@pytest.mark.parametrize(
    "made_by, moved_by",
    [("v1", "v1"), ("v2", "v1"), ("v1", "v2")],
)
def test_compose_v1(tmp_path: Path, made_by: str, moved_by: str) -> None:
    """Its containers are named otherwise, it forgets anonymous volumes, and its hashes are its own."""
    program = str(compose_v1())
    how: dict[str, Any] = {"compose": (program,)} if made_by == "v1" else {}

    def versioned(text: str) -> str:
        return f'version: "2.4"\n{text}'

    with laid_out(
        tmp_path,
        edit=versioned,
        options={"compose_program": [program] if moved_by == "v1" else []},
        dependent=made_by == "v1",
        **how,
    ) as lab:
        with lab.prober() as probe:
            names = {name: c["Name"] for name, c in lab.inspected().items()}
            assert strategies(lab.run().ok()) == {"db": "rename", "redis": "rename"}
            lab.assert_moved(probe)
            if made_by == moved_by == "v1":
                assert {name: c["Name"] for name, c in lab.inspected().items()} == names
        assert lab.run().ok()["changed"] is False


@contextlib.contextmanager
def image_without_volume(lab_engine: Any, tag: str) -> Iterator[str]:
    """Make an image of redis that declares no volume, as many images do not."""
    container = lab_engine.docker("create", "selfhost-sandbox/redis:8")
    try:
        argv = [lab_engine.client, "export", container]
        changes = ["-c", 'ENTRYPOINT ["docker-entrypoint.sh"]', "-c", 'CMD ["redis-server"]', "-c", "WORKDIR /data",
                   "-c", "LABEL selfhost.stateful.sandbox=1"]  # fmt: skip
        environment = {**os.environ, **lab_engine.env}
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as export:
            subprocess.run(
                [lab_engine.client, "import", *changes, "-", tag],
                stdin=export.stdout, env=environment, check=True, capture_output=True,
            )  # fmt: skip
        yield tag
    finally:
        lab_engine.docker("rm", "-fv", container)
        lab_engine.docker("rmi", tag, check=False)


@pytest.mark.matrix
def test_image_without_a_volume(tmp_path: Path) -> None:
    """The data is in the container's own layer; it moves, and is there after every recreation."""
    with contextlib.ExitStack() as stack:
        tag = "sfs-without-volume:1"

        def edit(text: str) -> str:
            return text.replace("selfhost-sandbox/redis:8", tag)

        lab = stack.enter_context(laid_out(tmp_path, services=["redis"], up=False, edit=edit))
        stack.enter_context(image_without_volume(lab.engine, tag))
        stack.callback(lab.project.down)
        lab.up()
        assert lab.inspected()["redis"]["Mounts"] == []
        with lab.prober() as probe:
            result = lab.run().ok()
            assert result["plan"]["moves"][0]["from"]["kind"] == "layer"
            lab.assert_moved(probe)
        lab.project.compose("up", "-d", "--force-recreate")
        lab.project.wait_ready()
        lab.assert_seed()


@pytest.mark.matrix
def test_stop_before_the_switch(tmp_path: Path) -> None:
    """All that costs no downtime is done; the next run goes on there."""
    with laid_out(tmp_path, services=["db"]) as lab, lab.prober() as probe:
        before = identities(lab)
        halted = lab.run(stop_before="switch").ok()
        assert (halted["operation_state"], halted["stopped_before"]) == ("running", "switch")
        assert identities(lab) == before
        told = lab.run(check=True).ok()
        assert halted["operation"] == told["operation"]
        assert "goes on at" in told["plan_text"]
        assert lab.run().ok()["operation"] == halted["operation"]
        lab.assert_moved(probe)


def test_secrets_stay_out(tmp_path: Path) -> None:
    """Neither results nor journals hold what ``.env`` does."""
    secret = "Tr0ub4dor-and-3"
    with laid_out(tmp_path, services=["redis"], up=False, redis_lines=("environment:", "  TOKEN: ${TOKEN}")) as lab:
        with (lab.project.directory / ".env").open("a") as handle:
            handle.write(f"TOKEN={secret}\n")
        lab.up()
        with lab.prober() as probe:
            result = lab.run().ok()
            lab.assert_moved(probe)
        assert secret not in json.dumps(dict(result))
        for path in (lab.directory / "state").rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path
            mode = path.stat().st_mode
            if path.is_dir() and "backups" not in path.parts and "retained" not in path.parts:
                assert mode & 0o077 == 0, path
