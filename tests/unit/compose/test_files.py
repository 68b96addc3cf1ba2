# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file an edit belongs in, and how files are written: whole, with all that they are."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.atomic import (
    read_text,
    refuse_unwritable,
    remove_file,
    write_atomically,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import ProjectOptions
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.files import (
    ProjectFiles,
    is_tracked,
    named_targets,
    override_path,
    project_files,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.rewrite import (
    apply_reversal,
    apply_rewrite,
    plan_reversal,
    plan_rewrite,
    put_back,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

BASE = "services:\n  db:\n    image: postgres:14\n    volumes:\n      - pg:/data\nvolumes:\n  pg:\n"
MOUNT = Mount("db", "/data", "./pg")


def project(folder: Path, files: dict[str, str], *listed: str, env: dict[str, str] | None = None) -> ProjectFiles:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return project_files(ProjectOptions(str(folder), files=listed), env or {})


def names(folder: Path, paths: tuple[str, ...] | list[str]) -> list[str]:
    return [os.path.relpath(path, folder) for path in paths]


@pytest.mark.parametrize("volumes, targets", [
    ("    volumes:\n      - ./pg:/data\n", ("/data",)),
    ("    volumes:\n      - {type: bind, source: pg/, target: /data/}\n", ("/data",)),
    ("    volumes:\n      - ${PLACE}/pg:/data\n", ("/data",)),
    ("#    volumes:\n#      - ./pg:/data\n", ("/data",)),
    ("    # - ./pg:/data\n    # - ./pg:/else\n", ("/data", "/else")),
    ("    volumes:\n      - ./pg:/data\n#      - ./pg:/old\n", ("/data",)),
    ("    volumes:\n      - pg:/data\n      - ./other:/pg\n#      - what ./pg:/data is\n", ()),
    ("    volumes: !reset\n      - ./pg:/data\n", ()),
    ("    volumes:\n      - ./pg:${TARGET}\n", ()),
    ("", ()),
])  # fmt: skip
def test_the_files_may_name_the_target_of_a_directory(tmp_path: Path, volumes: str, targets: tuple[str, ...]) -> None:
    text = f"services:\n  db:\n    image: postgres:14\n{volumes}  cache:\n    image: redis\n#    - ./pg:/cache\n"
    found = project(tmp_path, {"compose.yaml": text}, env={"PLACE": "."} if "PLACE" in volumes else None)
    assert named_targets(found, "db", "./pg") == targets
    with pytest.raises(InvalidInput, match="no service 'other'"):
        named_targets(found, "other", "./pg")


def test_the_mount_of_the_last_file_is_the_one_that_counts(tmp_path: Path) -> None:
    override = "services:\n  db:\n    volumes:\n      - ./old:/data\n"
    found = project(tmp_path, {"compose.yaml": BASE, "compose.override.yaml": override})
    plan = plan_rewrite(found, mounts=[MOUNT])
    assert names(tmp_path, [edit.path for edit in plan.edits]) == ["compose.override.yaml"]
    assert plan.edits[0].after == override.replace("./old", "./pg")


def test_a_volume_that_another_file_uses_stays(tmp_path: Path) -> None:
    other = "services:\n  backup:\n    image: b\n    volumes: [pg:/backup]\n"
    found = project(tmp_path, {"a.yml": BASE, "b.yml": other}, "a.yml", "b.yml")
    plan = plan_rewrite(found, mounts=[MOUNT])
    assert plan.edits[0].after == BASE.replace("pg:/data", "./pg:/data")


def test_a_volume_that_another_file_declares_goes_when_nothing_uses_it(tmp_path: Path) -> None:
    files = {
        "a.yml": "services:\n  db:\n    image: postgres:14\n    volumes:\n      - pg:/data\n",
        "b.yml": "services:\n  web:\n    image: w\n    volumes: [up:/up]\nvolumes:\n  pg:\n  up:\n",
    }
    plan = plan_rewrite(project(tmp_path, files, "a.yml", "b.yml"), mounts=[MOUNT])
    assert {os.path.basename(edit.path): edit.after for edit in plan.edits} == {
        "a.yml": files["a.yml"].replace("pg:/data", "./pg:/data"),
        "b.yml": files["b.yml"].replace("  pg:\n", ""),
    }
    assert plan.how == "replaced, dropped an unused volume"
    apply_rewrite(plan)
    apply_reversal(plan_reversal(plan.hunks()))
    assert {name: (tmp_path / name).read_text() for name in files} == files


@pytest.mark.parametrize(
    "entry, there",
    [
        ("${LOC}:/data", True),
        ("$LOC:/data", True),
        ("${LOC:-./other}:${T:-/data}", True),
        ("${UNSET:-./pg}:/data", True),
        ("${UNSET}:/data", False),
        ("$$LOC:/data", False),
        ("${OTHER}:/data", False),
    ],
)
def test_a_mount_by_way_of_variables_is_there(tmp_path: Path, entry: str, there: bool) -> None:
    files = {
        "compose.yaml": f"services:\n  db:\n    image: x\n    volumes:\n      - '{entry}'\n",
        ".env": "LOC=./pg\nOTHER=/srv\n",
    }
    found = project(tmp_path, files)
    assert (plan_rewrite(found, mounts=[MOUNT], rewrite="none").how == "already there") is there
    source = entry.split(":/")[0]
    long = files["compose.yaml"].replace(f"'{entry}'", f"{{type: bind, source: '{source}', target: /data}}")
    if "T:-" not in entry:
        found = project(tmp_path, {"compose.yaml": long})
        assert (plan_rewrite(found, mounts=[MOUNT], rewrite="none").how == "already there") is there
    assert "variables" not in repr(found)


def test_files_come_from_the_dotenv_file(tmp_path: Path) -> None:
    files = {
        ".env": "COMPOSE_FILE=sub/one.yml;two.yml\nCOMPOSE_PATH_SEPARATOR=;\n",
        "sub/one.yml": BASE,
        "two.yml": BASE,
    }
    found = project(tmp_path, files)
    assert names(tmp_path, found.paths) == ["sub/one.yml", "two.yml"]
    assert found.listed
    assert found.directory == str(tmp_path / "sub")


@pytest.mark.parametrize(
    "main, others, expected",
    [
        ("compose.yaml", [], "compose.override.yaml"),
        ("compose.yml", [], "compose.override.yml"),
        ("docker-compose.yml", [], "docker-compose.override.yml"),
        ("docker-compose.yaml", [], "docker-compose.override.yaml"),
        ("compose.yaml", ["compose.override.yml"], "compose.override.yml"),
        ("compose.yaml", ["docker-compose.override.yml"], "docker-compose.override.yml"),
        ("compose.yaml", ["compose.override.yml", "compose.override.yaml"], "compose.override.yml"),
        ("docker-compose.yml", ["docker-compose.override.yml", "compose.override.yaml"], "compose.override.yaml"),
    ],
)
def test_the_override_file_that_compose_would_read(tmp_path: Path, main: str, others: list[str], expected: str) -> None:
    files = {main: BASE, **dict.fromkeys(others, "services:\n  db:\n    init: true\n")}
    assert names(tmp_path, [override_path(project(tmp_path, files))]) == [expected]


def test_compose_1_goes_on_with_the_override_file_that_it_reads(tmp_path: Path) -> None:
    for name in ("docker-compose.yml", "compose.yaml", "docker-compose.override.yaml"):
        (tmp_path / name).write_text(BASE)
    options = ProjectOptions(str(tmp_path))
    found = project_files(options, {}, v1=True)
    assert names(tmp_path, found.paths) == ["docker-compose.yml", "docker-compose.override.yaml"]
    assert names(tmp_path, [override_path(found)]) == ["docker-compose.override.yaml"]
    assert names(tmp_path, project_files(options, {}).paths) == ["compose.yaml", "docker-compose.override.yaml"]


def test_a_listed_project_is_told_to_list_the_override_too(tmp_path: Path) -> None:
    found = project(tmp_path, {"prod.yml": BASE}, "prod.yml")
    plan = plan_rewrite(found, mounts=[MOUNT], rewrite="override")
    assert names(tmp_path, plan.files) == ["prod.yml", "prod.override.yml"]
    assert "prod.override.yml" in plan.warnings[0]
    unlisted = plan_rewrite(project(tmp_path, {"compose.yaml": BASE}), mounts=[MOUNT], rewrite="override")
    assert names(tmp_path, unlisted.files) == ["compose.yaml", "compose.override.yaml"]
    assert unlisted.warnings == ()


def test_written_and_taken_back(tmp_path: Path) -> None:
    found = project(tmp_path, {"compose.yaml": BASE})
    plan = plan_rewrite(found, mounts=[MOUNT], images={"db": "postgres:15"})
    apply_rewrite(plan)
    assert "./pg:/data" in (tmp_path / "compose.yaml").read_text()
    assert not plan_rewrite(project(tmp_path, {}), mounts=[MOUNT], images={"db": "postgres:15"}).changed
    apply_reversal(plan_reversal(plan.hunks()))
    assert (tmp_path / "compose.yaml").read_text() == BASE
    assert not plan_reversal(plan.hunks()).changed


def test_an_override_file_that_we_made_goes_again(tmp_path: Path) -> None:
    found = project(tmp_path, {"compose.yaml": BASE})
    os.chmod(tmp_path / "compose.yaml", 0o640)
    plan = plan_rewrite(found, mounts=[MOUNT], rewrite="override")
    apply_rewrite(plan)
    override = tmp_path / "compose.override.yaml"
    assert stat.S_IMODE(override.stat().st_mode) == 0o640
    assert (tmp_path / "compose.yaml").read_text() == BASE
    apply_reversal(plan_reversal(plan.hunks()))
    assert not override.exists()
    apply_reversal(plan_reversal(plan.hunks()))
    assert not override.exists()


def test_a_reversal_that_removed_our_file_can_be_taken_back(tmp_path: Path) -> None:
    found = project(tmp_path, {"compose.yaml": "version: '3'\n" + BASE})
    plan = plan_rewrite(found, mounts=[MOUNT], images={"db": "postgres:15"}, rewrite="override")
    apply_rewrite(plan)
    override = tmp_path / "compose.override.yaml"
    written = override.read_text()
    reversal = plan_reversal(plan.hunks())
    apply_reversal(reversal)
    assert not override.exists()
    apply_reversal(plan_reversal(reversal.hunks()))
    assert override.read_text() == written
    assert stat.S_IMODE(override.stat().st_mode) == 0o644
    assert not plan_reversal(reversal.hunks()).changed


def test_an_override_file_that_was_extended_since_stays_with_the_rest(tmp_path: Path) -> None:
    found = project(tmp_path, {"compose.yaml": "version: '3'\n" + BASE})
    plan = plan_rewrite(found, mounts=[MOUNT], rewrite="override")
    apply_rewrite(plan)
    override = tmp_path / "compose.override.yaml"
    override.write_text(override.read_text() + "networks:\n  mine:\n")
    apply_reversal(plan_reversal(plan.hunks()))
    assert override.read_text() == "networks:\n  mine:\n"


def test_none_changes_nothing(tmp_path: Path) -> None:
    found = project(tmp_path, {"compose.yaml": BASE})
    assert plan_rewrite(found, mounts=[MOUNT], rewrite="none").how == "left as it is"
    assert plan_rewrite(found, mounts=[MOUNT], rewrite="none").edits == ()


def test_two_files_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "services:\n  redis:\n    image: redis\n"
    found = project(tmp_path, {"a.yml": BASE, "b.yml": other}, "a.yml", "b.yml")
    plan = plan_rewrite(found, mounts=[MOUNT, Mount("redis", "/data", "./redis")])
    assert len(plan.edits) == 2
    (tmp_path / "b.yml").write_text(other + "# meanwhile\n")
    with pytest.raises(StatefulError, match="somebody else"):
        apply_rewrite(plan)
    assert (tmp_path / "a.yml").read_text() == BASE
    assert (tmp_path / "b.yml").read_text() == other + "# meanwhile\n"


@pytest.mark.parametrize(
    "files, telling",
    [
        ({}, "no compose file"),
        ({"compose.yaml": "a: [\n"}, "compose.yaml: line 2"),
        ({"compose.yaml": "services:\n  web:\n    image: x\n"}, "services: web"),
    ],
)
def test_what_is_wrong_with_a_project_is_told(tmp_path: Path, files: dict[str, str], telling: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan_rewrite(project(tmp_path, files), mounts=[MOUNT])
    assert telling in caught.value.msg


def test_no_such_directory_and_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no directory"):
        project_files(ProjectOptions(str(tmp_path / "nowhere")), {})
    with pytest.raises(InvalidInput, match=r"nope\.yml"):
        project(tmp_path, {"compose.yaml": BASE}, "nope.yml")


def test_a_refusal_names_the_file_and_keeps_the_way(tmp_path: Path) -> None:
    found = project(tmp_path, {"compose.yaml": "x: &d {image: x}\nservices:\n  db: *d\n"})
    with pytest.raises(InvalidInput, match=r"compose\.yaml: line 3") as caught:
        plan_rewrite(found, mounts=[MOUNT])
    assert caught.value.facts["way"] == "override"
    assert plan_rewrite(found, mounts=[MOUNT], rewrite="override").changed


def test_an_included_service_goes_into_the_override_file(tmp_path: Path) -> None:
    found = project(tmp_path, {"compose.yaml": "include:\n  - db.yml\nservices:\n  web:\n    image: x\n"})
    with pytest.raises(InvalidInput, match="include"):
        plan_rewrite(found, mounts=[MOUNT])
    assert plan_rewrite(found, mounts=[MOUNT], rewrite="override").how == "wrote override file"


# -- files ---------------------------------------------------------------------


def test_mode_owner_and_attributes_stay(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("old")
    path.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    marked = True
    try:
        os.setxattr(path, "user.mark", b"kept")
    except OSError:
        marked = False
    before = path.stat()
    write_atomically(str(path), "new", expected="old")
    after = path.stat()
    assert path.read_text() == "new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert not marked or os.getxattr(path, "user.mark") == b"kept"
    assert os.listdir(tmp_path) == ["compose.yaml"]


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="setfacl is not installed")
def test_access_lists_stay(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("old")
    if subprocess.run(["setfacl", "-m", "u:1234:rw", str(path)], check=False, capture_output=True).returncode:
        pytest.skip("no ACLs on this file system")
    before = os.getxattr(path, "system.posix_acl_access")
    write_atomically(str(path), "new")
    assert os.getxattr(path, "system.posix_acl_access") == before


@pytest.mark.parametrize("name, kept", [("security.selinux", True), ("security.ima", False), ("user.mark", True)])
def test_an_attribute_that_cannot_be_kept_stops_the_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: bool
) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("old")

    def refuse(*_args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "listxattr", lambda where: [name] if where == str(path) else [])
    monkeypatch.setattr(os, "getxattr", lambda *_args: b"value")
    monkeypatch.setattr(os, "setxattr", refuse)
    if kept:
        with pytest.raises(StatefulError, match=f"{name} could not be kept"):
            write_atomically(str(path), "new")
    else:
        write_atomically(str(path), "new")
    assert path.read_text() == ("old" if kept else "new")
    assert os.listdir(tmp_path) == ["compose.yaml"]


def test_an_attribute_that_is_there_already_is_not_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("old")
    monkeypatch.setattr(os, "listxattr", lambda _where: ["security.selinux"])
    monkeypatch.setattr(os, "getxattr", lambda *_args: b"system_u:object_r:usr_t:s0")
    monkeypatch.setattr(os, "setxattr", lambda *_args: pytest.fail("it was there"))
    write_atomically(str(path), "new")
    assert path.read_text() == "new"


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real" / "compose.yaml"
    real.parent.mkdir()
    real.write_text("old")
    link = tmp_path / "compose.yaml"
    link.symlink_to(Path("real") / "compose.yaml")
    write_atomically(str(link), "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_line_ends_and_byte_order_mark_pass_through(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    raw = b"\xef\xbb\xbfa: 1\r\nb: \xc3\xa4"
    path.write_bytes(raw)
    write_atomically(str(path), read_text(str(path)))
    assert path.read_bytes() == raw


def test_a_file_without_write_permission_is_refused_even_for_root(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(StatefulError, match="read-only") as caught:
        write_atomically(str(path), "new")
    assert "chmod" in caught.value.next_command
    with pytest.raises(StatefulError, match="read-only"):
        refuse_unwritable(str(path))
    assert path.read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_write_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("old")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StatefulError, match="cannot be written"):
            write_atomically(str(path), "new")
    finally:
        tmp_path.chmod(0o755)


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("old")

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StatefulError, match="No space left"):
        write_atomically(str(path), "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["compose.yaml"]


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text("theirs")
    with pytest.raises(StatefulError, match="somebody else"):
        write_atomically(str(path), "ours", expected="old")
    with pytest.raises(StatefulError, match="somebody else"):
        remove_file(str(path), expected="old")
    assert path.read_text() == "theirs"


def test_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(InvalidInput, match="line 2"):
        read_text(str(path))


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_whether_git_tracks_a_file(tmp_path: Path) -> None:
    (tmp_path / "tracked.yml").write_text("a")
    (tmp_path / "other.yml").write_text("a")
    assert is_tracked(str(tmp_path / "tracked.yml")) is None
    for command in (["init", "-q"], ["add", "tracked.yml"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert is_tracked(str(tmp_path / "tracked.yml")) is True
    assert is_tracked(str(tmp_path / "other.yml")) is False


def test_put_back_restores_what_was_there(tmp_path: Path) -> None:
    plan = plan_rewrite(project(tmp_path, {"compose.yaml": BASE}), mounts=[MOUNT], rewrite="override")
    apply_rewrite(plan)
    put_back(plan)
    assert os.listdir(tmp_path) == ["compose.yaml"]
