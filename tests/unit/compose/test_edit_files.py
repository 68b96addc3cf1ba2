# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules' run from options to result, with a compose that answers as compose does, and with the real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose import edit_files as subject
from ansible_collections.selfhost.stateful.plugins.module_utils._compose import edit_journal
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import (
    ComposeFailed,
    ComposeMissing,
    find_compose,
    parse_version,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_proof import unintended_changes
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_reading import (
    foresee,
    plan_proved_rewrite,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import project_files
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import (
    FileEdit,
    Rewrite,
    apply_reversal,
    plan_reversal,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

BASE = "services:\n  db:\n    image: postgres:14  # pinned\n    volumes:\n      - pg:/data\nvolumes:\n  pg:\n"
MOUNT = Mount("db", "/data", "./pg")


def params(folder: Path, **changes: Any) -> dict[str, Any]:
    plain = {"project_name": "", "files": [], "env_files": [], "profiles": [], "service": "db", "rewrite": "in_place"}
    return {"project_src": str(folder), **plain, **changes}


def edit_files(options: dict[str, Any], **more: Any) -> dict[str, Any]:
    return subject.edit_files(options, operations=f"{options['project_src']}.operations", **more)


def journal(folder: Path) -> str:
    return edit_journal.path_for(f"{folder}.operations", str(folder))


class FakeCompose:
    """Answers ``config`` in turn with what it was given: of the files in memory, and then of those on disk."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.options = type("Options", (), {"files": ()})()
        self.is_v1 = False

    def with_options(self, **_changes: Any) -> FakeCompose:
        return self

    def config(self, *, all_profiles: bool = False) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return dict(answer)


def config(folder: Path, mount: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    volume = mount or {"type": "volume", "source": "pg", "target": "/data", "volume": {}}
    return {
        "name": "x",
        "services": {"db": {"image": "postgres:14", "volumes": [volume], **more}},
        "volumes": {"pg": {}},
    }


def bind(folder: Path) -> dict[str, Any]:
    return {"type": "bind", "source": str(folder / "pg"), "target": "/data", "bind": {"create_host_path": True}}


@pytest.fixture(name="folder")
def project_folder(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(BASE)
    return tmp_path


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
    compose = FakeCompose(*answers)
    monkeypatch.setattr(subject, "find_compose", lambda *_args: compose)


def test_edited_and_confirmed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, *[config(folder), config(folder, bind(folder))] * 2)
    result = edit_files(params(folder), mounts=[MOUNT])
    assert (result["changed"], result["how"], result["validated"], result["warnings"]) == (True, "replaced", True, [])
    assert result["files_changed"] == [str(folder / "compose.yaml")]
    assert result["plan"]["files"] == result["files_changed"]
    assert result["plan_text"] == f"{folder}/compose.yaml: replaced"
    assert "+      - ./pg:/data" in result["diff"][0]["prepared"]
    assert json.loads(json.dumps(result["hunks"])) == result["hunks"]
    assert "./pg:/data" in (folder / "compose.yaml").read_text()


def test_a_second_run_changes_nothing_and_asks_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, *[config(folder), config(folder, bind(folder))] * 2)
    edit_files(params(folder), mounts=[MOUNT])
    answering(monkeypatch)
    result = edit_files(params(folder), mounts=[MOUNT])
    assert (result["changed"], result["how"], result["diff"]) == (False, "already there", [])
    assert result["plan_text"] == "No file is changed: already there."


def test_check_mode_tells_and_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, config(folder), config(folder, bind(folder)))
    result = edit_files(params(folder), mounts=[MOUNT], check_mode=True)
    assert (result["changed"], result["how"], result["validated"]) == (True, "replaced", True)
    assert (folder / "compose.yaml").read_text() == BASE
    (folder / "compose.yaml").chmod(0o444)
    with pytest.raises(StatefulError, match="read-only"):
        edit_files(params(folder), mounts=[MOUNT], check_mode=True)


@pytest.mark.parametrize("rewrite", ["in_place", "override"])
@pytest.mark.parametrize("foreseen", [True, False], ids=["foreseen", "seen on disk"])
@pytest.mark.parametrize(
    "after, telling",
    [
        (config, "no bind mount of ./pg"),
        (lambda folder: config(folder, bind(folder), environment={"A": "s3cret"}), "services.db.environment"),
        (lambda folder: ComposeFailed("Compose failed", message="services.db is wrong"), "services.db is wrong"),
    ],
    ids=["not mounted", "something else", "compose fails"],
)
def test_nothing_stays_written_that_compose_reads_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch, after: Any, telling: str, foreseen: bool, rewrite: str
) -> None:
    earlier = () if foreseen else (config(folder), config(folder, bind(folder)))
    answering(monkeypatch, *earlier, config(folder), after(folder))
    with pytest.raises(StatefulError) as caught:
        edit_files(params(folder, rewrite=rewrite), mounts=[MOUNT])
    assert telling in caught.value.msg
    assert "s3cret" not in str(caught.value.as_result())
    assert ("nothing was changed" if foreseen else "put back") in caught.value.state
    assert (folder / "compose.yaml").read_text() == BASE
    assert os.listdir(folder) == ["compose.yaml"]


def test_put_back_when_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(FakeCompose):
        def config(self, *, all_profiles: bool = False) -> dict[str, Any]:
            if not self.answers:
                raise KeyboardInterrupt
            return super().config()

    monkeypatch.setattr(
        subject,
        "find_compose",
        lambda *_args: Interrupted(config(folder), config(folder, bind(folder)), config(folder)),
    )
    with pytest.raises(KeyboardInterrupt):
        edit_files(params(folder), mounts=[MOUNT])
    assert (folder / "compose.yaml").read_text() == BASE


@pytest.mark.parametrize("rewrite", ["in_place", "override"])
@pytest.mark.parametrize("killed", ["before the write", "after the write"])
@pytest.mark.parametrize("well", [True, False], ids=["well", "wrong"])
def test_the_edit_of_a_killed_run_is_proved_or_taken_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, rewrite: str, killed: str, well: bool
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_args: Any) -> None:
        raise Killed

    before, after = config(folder), config(folder, bind(folder))
    with monkeypatch.context() as dying:
        answering(dying, before, after, before, Killed())
        dying.setattr(subject, "put_back", lambda _plan: None)
        if killed == "before the write":
            dying.setattr(subject, "apply_rewrite", kill)
        with pytest.raises(Killed):
            edit_files(params(folder, rewrite=rewrite), mounts=[MOUNT])
    left = edit_journal.unsettled(journal(folder))
    assert left is not None
    assert [record["path"] for record in left["files"]] != []

    written = killed == "after the write"
    asked = [before, after if well else config(folder, bind(folder), hostname="x")] if written else []
    fresh = [] if well and written else [before, after, before, after]
    answering(monkeypatch, *asked, *fresh)
    result = edit_files(params(folder, rewrite=rewrite), mounts=[MOUNT])
    assert result["changed"] is not (well and written)
    assert any("taken back: services.db.hostname" in warning for warning in result["warnings"]) is (
        written and not well
    )
    assert [entry["settled"] for entry in edit_journal.entries(journal(folder))] == [True]
    assert edit_files(params(folder, rewrite=rewrite), mounts=[MOUNT])["how"] == "already there"


def test_the_journal_of_edits_takes_them_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, *[config(folder), config(folder, bind(folder))] * 2)
    result = edit_files(params(folder), mounts=[MOUNT])
    (entry,) = edit_journal.entries(journal(folder))
    assert (entry["files"], entry["settled"]) == (result["hunks"], True)
    assert os.stat(os.path.dirname(journal(folder))).st_mode & 0o777 == 0o700
    apply_reversal(plan_reversal(entry["files"]))
    assert (folder / "compose.yaml").read_text() == BASE


def test_without_a_compose_that_can_read_it_the_result_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, ComposeFailed("no", message=".env.production not found"))
    result = edit_files(params(folder), mounts=[MOUNT])
    assert not result["validated"]
    assert ".env.production not found" in result["warnings"][0]

    def missing(*_args: Any) -> None:
        raise ComposeMissing("none")

    monkeypatch.setattr(subject, "find_compose", missing)
    result = edit_files(params(folder), images={"db": "postgres:15"})
    assert (result["changed"], result["validated"]) == (True, False)
    assert "not installed" in result["warnings"][0]


def test_compose_1_answers_in_short_form(tmp_path: Path) -> None:
    before = {"services": {"db": {"volumes": ["pg:/data:rw", "/x:/x:rw"]}}, "version": "3"}
    after = {"services": {"db": {"volumes": ["/x:/x:rw", f"{tmp_path}/pg:/data:rw"]}}, "version": "3"}
    assert unintended_changes(before, after, mounts=[MOUNT], directory=str(tmp_path)) == []
    assert unintended_changes(before, before, mounts=[MOUNT], directory=str(tmp_path)) != []
    assert unintended_changes(after, before, mounts=[], directory="/") == ["services.db.volumes"]


def test_a_mount_that_is_to_be_read_only_is_looked_at_for_that(tmp_path: Path) -> None:
    after = {"services": {"db": {"volumes": [bind(tmp_path)]}}}
    wanted = Mount("db", "/data", "./pg", read_only=True)
    assert unintended_changes({}, after, mounts=[wanted], directory=str(tmp_path)) != []
    after = {"services": {"db": {"volumes": [{**bind(tmp_path), "read_only": True}]}}}
    assert unintended_changes({}, after, mounts=[wanted], directory=str(tmp_path)) == []


def test_compose_1_sorts_once_there_is_an_override_file() -> None:
    before = {"services": {"db": {"networks": ["b", "a"], "ports": ["2:2", 1], "command": ["b", "a"]}}}
    after = {"services": {"db": {"networks": {"a": {}, "b": None}, "ports": ["1", "2:2"], "command": ["b", "a"]}}}
    assert unintended_changes(before, after, directory="/") == []
    other = {"services": {"db": {"networks": ["a"], "ports": ["1", "2:2"], "command": ["a", "b"]}}}
    assert unintended_changes(before, other, directory="/") == ["services.db.networks", "services.db.command"]


def test_a_refusal_reaches_the_caller(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="no service 'nope'"):
        edit_files(params(folder), mounts=[Mount("nope", "/data", "./x")])


# -- the real compose -------------------------------------------------------------


def compose_program() -> Sequence[str]:
    for program in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(program[0]):
            done = subprocess.run([*program, "version", "--short"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and parse_version(done.stdout) >= (2,):
                return program
    return []


REAL = pytest.mark.skipif(not compose_program(), reason="compose 2 is not installed")
FILES: Mapping[str, str] = {
    "short": "services:\n  db:\n    image: postgres:14\n    volumes:\n      - ./a:/a\n",
    "named": BASE,
    "commented": "services:\n  db:\n    image: postgres:14\n#    volumes:\n#      - ./old:/data\n",
    "flow": 'services:\n  db: {image: postgres:14, volumes: ["./a:/a"]}\n',
    "long": "services:\n  db:\n    image: postgres:14\n    volumes:\n"
    "      - type: volume\n        source: pg\n        target: /data\n        volume: {nocopy: true}\n"
    "volumes: {pg: {}}\n",
    "interpolated": "services:\n  db:\n    image: postgres:14\n    volumes:\n      - ${D:-./d}:/data\n"
    "    environment:\n      SECRET: ${SECRET}\n",
    "profile": "services:\n  web: {image: nginx}\n  db:\n    image: postgres:14\n    profiles: [store]\n",
    "anchors": "x-a: &a\n  volumes: [./a:/a]\nservices:\n  db:\n    <<: *a\n    image: postgres:14\n",
    "json": '{"services": {"db": {"image": "postgres:14"}}}',
}


@REAL
@pytest.mark.parametrize("source", ["./pg", "./mit Leerzeichen/é $HOME", "/srv/with:colon"])
@pytest.mark.parametrize("rewrite", ["in_place", "override"])
@pytest.mark.parametrize("name", FILES)
def test_compose_confirms(tmp_path: Path, name: str, rewrite: str, source: str) -> None:
    (tmp_path / "compose.yaml").write_text(FILES[name])
    (tmp_path / ".env").write_text("SECRET=hunter2\n")
    if name == "anchors" and rewrite == "in_place":
        with pytest.raises(InvalidInput, match="rewrite: override"):
            edit_files(params(tmp_path), mounts=[Mount("db", "/data", source)])
        return
    mounts = [Mount("db", "/data", source)]
    result = edit_files(params(tmp_path, rewrite=rewrite), mounts=mounts)
    assert (result["changed"], result["validated"]) == (True, True)
    assert "hunter2" not in str(result)
    assert not edit_files(params(tmp_path, rewrite=rewrite), mounts=mounts)["changed"]


@REAL
@pytest.mark.parametrize("rewrite", ["in_place", "override"])
@pytest.mark.parametrize(
    "files, telling",
    [
        (
            {
                "compose.yaml": BASE,
                "compose.override.yaml": "services:\n  db2:\n    extends: {file: compose.yaml, service: db}\n",
            },
            "is extended by 'db2'",
        ),
        ({"compose.yaml": BASE, "compose.override.yaml": "services:\n  db:\n    volumes: !reset []\n"}, "!reset"),
        (
            {
                "compose.yaml": BASE,
                "compose.override.yaml": "services:\n  db:\n    volumes: ['./other:${T:-/data}']\n",
            },
            "depends on variables",
        ),
    ],
    ids=["extended by the file's name", "reset later", "a later entry with a variable"],
)
def test_what_an_edit_in_place_cannot_reach_or_reaches_too_far(
    tmp_path: Path, files: Mapping[str, str], telling: str, rewrite: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if telling.startswith("is extended") and rewrite == "override":
        assert edit_files(params(tmp_path, rewrite=rewrite), mounts=[MOUNT])["validated"]
        return
    with pytest.raises(InvalidInput) as caught:
        edit_files(params(tmp_path, rewrite=rewrite), mounts=[MOUNT])
    assert telling in caught.value.msg
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


@REAL
def test_a_volume_that_an_extended_file_uses_stays_declared(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services:\n  db:\n    image: postgres:14\n    volumes: ['pg:/data']\n"
        "  old:\n    extends: {file: common.yml, service: base}\nvolumes: {pg: {}}\n"
    )
    (tmp_path / "common.yml").write_text("services:\n  base:\n    image: x\n    volumes: ['pg:/data']\n")
    assert edit_files(params(tmp_path), mounts=[MOUNT])["validated"]
    assert "volumes: {pg: {}}" in (tmp_path / "compose.yaml").read_text()


@REAL
def test_storage_foresees_what_compose_would_make_of_the_edit(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(BASE)
    (tmp_path / "compose.override.yaml").write_text("services:\n  web:\n    image: x\n    volumes: ['pg:/x']\n")
    compose = find_compose(ProjectOptions(str(tmp_path)), Connection())
    project = project_files(compose.options, compose.environment)
    assert plan_proved_rewrite(compose, project, mounts=[MOUNT]).changed
    path = f"{tmp_path}/compose.yaml"
    beside = FileEdit(path, BASE, BASE.replace("pg:/data", "./pg:/data").replace("postgres:14", "x"), "replaced", ())
    with pytest.raises(InvalidInput, match=r"services\.db\.image") as caught:
        foresee(compose, project, Rewrite((beside,), "", project.paths), mounts=[MOUNT], images={}, rewrite="in_place")
    assert "rewrite: override" in caught.value.next_command
    assert sorted(os.listdir(tmp_path)) == ["compose.override.yaml", "compose.yaml"]
    assert (tmp_path / "compose.yaml").read_text() == BASE


@REAL
def test_compose_confirms_an_override_of_listed_files(tmp_path: Path) -> None:
    (tmp_path / "prod.yml").write_text(BASE)
    (tmp_path / ".env").write_text("COMPOSE_FILE=prod.yml\n")
    result = edit_files(params(tmp_path, rewrite="override"), mounts=[MOUNT])
    assert (result["validated"], [os.path.basename(path) for path in result["files"]]) == (
        True,
        ["prod.yml", "prod.override.yml"],
    )
    (tmp_path / "prod.override.yml").unlink()
    explicit = params(tmp_path, rewrite="override", files=["prod.yml"])
    assert edit_files(explicit, images={"db": "postgres:14.9"})["validated"]


@REAL
@pytest.mark.parametrize("rewrite", ["in_place", "override"])
def test_compose_confirms_an_included_service(tmp_path: Path, rewrite: str) -> None:
    (tmp_path / "compose.yaml").write_text("include: [db.yml]\nservices:\n  web: {image: nginx}\n")
    (tmp_path / "db.yml").write_text(BASE)
    if rewrite == "in_place":
        with pytest.raises(InvalidInput, match="include"):
            edit_files(params(tmp_path), mounts=[MOUNT])
    else:
        assert edit_files(params(tmp_path, rewrite=rewrite), mounts=[MOUNT])["validated"]
