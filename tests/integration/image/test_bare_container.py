# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container that ``docker run`` made runs another image, and its way back leads to the very same container."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.image.bare_lab import SECRET, TOLD, BareLab, bare, likeness
from tests.integration.image.lab import MOMENTS, another_build, image_id
from tests.sandbox import images

CREATE = "create the containers"
STOP = "stop the stores"


def put_aside(lab: BareLab, replaced: str) -> None:
    """Assert that the container that was replaced is there, under another name, and starts by nothing."""
    (kept,) = [each for each in lab.beside() if each["Id"] == replaced]
    assert not kept["State"]["Running"]
    assert kept["HostConfig"]["RestartPolicy"]["Name"] == "no"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("moments", "effects"), [(["in"], [5]), pytest.param(MOMENTS, [*range(1, 9)], marks=pytest.mark.faults)]
)
def test_another_build_serves_the_same_volume_and_back(tmp_path: Path, moments: list[str], effects: list[int]) -> None:
    """Killed where names change; whatever docker run was told is carried; nothing is lost on the way back."""
    with bare(tmp_path / "lab", "17", "") as lab, another_build(lab, "postgres:17", "ENV PG_TRY=2") as reference:
        lab.options["image"] = reference
        before = lab.inspect()
        planned = lab.run(check=True).ok()
        assert (planned["plan"]["strategy"], planned["plan"]["stops"]) == ("swap", [lab.app, lab.name])
        assert lab.inspect()["Id"] == before["Id"]
        assert lab.states() == []

        with lab.prober() as probe:
            lab.sweep(moments=moments, effects=effects, steps=[CREATE])
            lab.assert_kept(probe)
        after = lab.inspect()
        assert after["Image"] == image_id(lab, reference)
        assert after["Config"]["Image"] == reference
        assert likeness(after) == likeness(before)
        assert "PG_TRY=2" in after["Config"]["Env"]
        assert after["NetworkSettings"]["Networks"][lab.name]["IPAddress"] == lab.address
        assert lab.engine.docker("exec", lab.app, "getent", "hosts", "database").split()[0] == lab.address
        assert lab.inspect(lab.app)["State"]["Running"]
        assert lab.inspect(lab.app)["HostConfig"]["RestartPolicy"]["Name"] == "always"
        put_aside(lab, before["Id"])
        lab.assert_no_secret()
        assert lab.run(container=before["Id"][:12]).ok()["changed"] is False

        lab.sql("INSERT INTO words VALUES ('since')")
        lab.end("rolled_back").ok()
        lab.wait_ready()
        back = lab.inspect()
        assert (back["Id"], back["Image"]) == (before["Id"], before["Image"])
        assert back["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]
        assert lab.sql("SELECT count(*) FROM words WHERE w = 'since'") == "1"
        assert lab.beside() == []


@pytest.mark.faults
@pytest.mark.parametrize("place", ["volume", pytest.param("bind", marks=pytest.mark.faults)])
def test_upgrade_to_the_layout_of_18_and_its_two_ends(tmp_path: Path, place: str) -> None:
    """A way back that would lose writes is refused; a commit frees the original and what had it mounted."""
    images.ensure(["postgres:18"])
    data = tmp_path / "postgres17"
    told = TOLD if place == "volume" else (*TOLD, "-v", f"{data}:/var/lib/postgresql/data")
    with bare(tmp_path / "lab", "17", images.ref("postgres:18"), told=told) as lab:
        before = lab.inspect()
        (mount,) = before["Mounts"]
        if place == "volume":
            assert "name one with source" in lab.run(check=True).refusal()
            lab.options["source"] = str(tmp_path / "postgres18")
        with lab.prober() as probe:
            result = lab.run().ok()
            assert result["plan"]["strategy"] == "pg_upgrade"
            lab.assert_kept(probe)
        after = lab.inspect()
        assert [(m["Type"], m["Source"], m["Destination"]) for m in after["Mounts"]] == [
            ("bind", str(tmp_path / "postgres18"), "/var/lib/postgresql")
        ]
        assert after["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]
        assert lab.sql("SHOW server_version_num").startswith("18")
        assert lab.sql("SHOW max_connections") == "55"
        assert result["verification"]["logins_proved"]
        put_aside(lab, before["Id"])

        assert "transactions" in lab.end("rolled_back").refusal()
        assert lab.inspect()["Id"] == after["Id"]
        if place == "volume":
            lab.end("rolled_back", discard_writes=True).ok()
            lab.wait_ready()
            assert lab.inspect()["Id"] == before["Id"]
            assert lab.inspect()["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]
            assert lab.sql("SHOW server_version_num").startswith("17")
            assert lab.sql("SELECT count(*) FROM words") == "7"
            assert [each for each in lab.beside() if "-next-" in each["Name"] or "-before-" in each["Name"]] == []
        else:
            lab.end("committed").ok()
            assert lab.beside() == []
            assert not Path(mount["Source"]).exists()
            assert lab.inspect()["Id"] == after["Id"]


@pytest.mark.faults
def test_what_could_not_be_taken_back_is_refused(tmp_path: Path) -> None:
    """Nothing is touched; each reason comes with its way out."""
    with bare(tmp_path / "lab", "17", "", told=("--rm", "-e", f"POSTGRES_PASSWORD={SECRET}")) as lab:
        lab.engine.docker(
            "run", "-d", "--name", f"{lab.name}-joined", "--network", f"container:{lab.name}", "--entrypoint", "sleep",
            images.ref("postgres:17"), "infinity",
        )  # fmt: skip
        with another_build(lab, "postgres:17") as reference:
            answer = lab.run(image=reference, dependents=["nobody"])
        blockers = " ".join(answer.data["blockers"])
        assert answer.failed
        for words in ("--rm", f"{lab.name}-joined shares a namespace", "There is no container nobody"):
            assert words in blockers
        assert lab.inspect()["State"]["Running"]
        assert lab.states() == []
        missing = lab.run(image=images.ref("postgres:17"), container="sfs-nobody").refusal()
        assert "There is no container sfs-nobody" in missing


@pytest.mark.faults
def test_an_image_that_does_not_start_is_undone_whenever_that_is_killed(tmp_path: Path) -> None:
    """The very container that ran runs again, with its policy, and nothing is left beside it."""
    line = 'ENTRYPOINT ["false"]'
    with bare(tmp_path / "lab", "17", "", ready_timeout=5) as lab, another_build(lab, "postgres:17", line) as reference:
        before = lab.inspect()
        sweep = {"moments": MOMENTS, "effects": [1, 3, 5], "undoing": True, "steps": [CREATE, STOP]}
        with lab.prober() as probe:
            for _round in range(30):
                struck = len(lab.points())
                assert lab.run(image=reference, faults={"sweep": sweep}).failed
                if len(lab.points()) == struck:
                    break
                lab.end("rolled_back").ok()
                assert lab.inspect()["Id"] == before["Id"]
                assert lab.beside() == []
            lab.assert_kept(probe)
        assert {step for step, *_where in lab.points()} == {CREATE, STOP}
        assert set(lab.states()) == {"rolled_back"}
        assert lab.inspect()["Id"] == before["Id"]
        assert lab.inspect()["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]


@pytest.mark.faults
def test_every_step_killed_there_and_back(tmp_path: Path) -> None:
    with bare(tmp_path / "lab", "17", "") as lab, another_build(lab, "postgres:17") as reference:
        lab.options["image"] = reference
        before = lab.inspect()
        with lab.prober() as probe:
            lab.sweep(moments=MOMENTS, effects=[1, 2])
            lab.sweep(settings={"ending": "rolled_back"}, moments=MOMENTS, effects=[1, 2])
            lab.assert_kept(probe)
        assert lab.inspect()["Id"] == before["Id"]
        assert lab.inspect()["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]
        assert lab.beside() == []


@pytest.mark.faults
def test_one_change_on_top_of_another_and_both_taken_back(tmp_path: Path) -> None:
    """What an earlier change put aside stands in nobody's way."""
    images.ensure(["postgres:18"])
    with bare(tmp_path / "lab", "17", "", strategy="auto") as lab, another_build(lab, "postgres:17") as reference:
        first = lab.inspect()["Id"]
        lab.run(image=reference).ok()
        second = lab.inspect()["Id"]
        lab.run(image=images.ref("postgres:18"), source=str(tmp_path / "postgres18")).ok()
        assert lab.sql("SHOW server_version_num").startswith("18")
        lab.end("rolled_back").ok()
        lab.wait_ready()
        assert lab.inspect()["Id"] == second
        lab.end("rolled_back").ok()
        lab.wait_ready()
        assert lab.inspect()["Id"] == first
        assert lab.sql("SELECT count(*) FROM words") == "7"


@pytest.mark.faults
def test_down_a_major_by_dump(tmp_path: Path) -> None:
    images.ensure(["postgres:15"])
    source = str(tmp_path / "postgres15")
    with bare(tmp_path / "lab", "17", images.ref("postgres:15"), strategy="dump", source=source) as lab:
        with lab.prober() as probe:
            lab.run().ok()
            lab.assert_kept(probe)
        assert lab.sql("SHOW server_version_num").startswith("15")
        assert lab.end("committed").ok()["changed"] is True
        assert lab.beside() == []
