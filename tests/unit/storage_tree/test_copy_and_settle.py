# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Warm copy, settle and proof: what must be equal is equal, whatever happened in between."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import blocks, errors, mapped
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import copy as tree_copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import settle as settle_module
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.compare import compare_trees
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.copy import WarmCopied, warm_copy
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.prove import prove_settled, prove_warm
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.record import Known, Stamp, open_record
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.settle import Settled, settle
from tests.unit.storage_tree.conftest import Places
from tests.unit.storage_tree.trees import (
    Mutator,
    bind_mount,
    changing_calls,
    flip_byte,
    isolated,
    killed_at,
    make_tree,
    mount_image,
    mount_tmpfs,
    much_later,
    needs_root,
    tree_of_many,
)


def warm(places: Places, **options: Any) -> WarmCopied:
    return warm_copy(places.source, places.target, record=places.record, **options)


def settled(places: Places, **options: Any) -> Settled:
    return settle(places.source, places.target, record=places.record, **options)


def proved(places: Places) -> Any:
    return prove_warm(places.source, places.target, record=places.record)


@needs_root
def test_everything_arrives(disk_places: Places) -> None:
    make_tree(disk_places.source)
    copied = warm(disk_places, clock=much_later)
    assert copied.files_copied == 6
    assert proved(disk_places).files == 6
    result = settled(disk_places)
    assert compare_trees(disk_places.source, disk_places.target) == []
    assert (result.files_compared, result.bytes_written, result.files_total) == (0, 0, 8)
    assert (disk_places.target / "sparse").stat().st_blocks * 512 < 2 << 20
    assert os.path.samefile(disk_places.target / "linked", disk_places.target / "base" / "linked too")
    assert os.readlink(disk_places.target / "out") == "/etc"


@needs_root
def test_settling_without_a_warm_pass_copies_everything(places: Places) -> None:
    make_tree(places.source)
    result = settled(places)
    assert result.files_rewritten == 5
    assert compare_trees(places.source, places.target) == []
    assert prove_settled(places.source, places.target, record=places.record).bytes == result.bytes_written


def test_a_copy_is_closed_to_others_until_it_is_settled(places: Places) -> None:
    places.source.mkdir(mode=0o755)
    (places.source / "d").mkdir(mode=0o755)
    warm(places)
    assert [path.stat().st_mode & 0o777 for path in (places.target, places.target / "d")] == [0o700, 0o700]
    settled(places)
    assert compare_trees(places.source, places.target) == []


def test_attributes_and_acls(disk_places: Places) -> None:
    disk_places.source.mkdir()
    plain, rich = disk_places.source / "plain", disk_places.source / "rich"
    plain.write_text("x")
    rich.write_text("x")
    try:
        os.setxattr(rich, "user.colour", b"\x00blue\xff")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    if shutil.which("setfacl"):
        subprocess.run(["setfacl", "-m", "u:999:rw,m::rwx", str(rich)], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:70:rwx", str(disk_places.source)], check=True)
        # What the copy inherits from its parent must go again.
        disk_places.target.mkdir()
        subprocess.run(["setfacl", "-d", "-m", "u:12:rwx", str(disk_places.target)], check=True)
    warm(disk_places, clock=much_later)
    settled(disk_places)
    assert compare_trees(disk_places.source, disk_places.target) == []
    assert os.getxattr(disk_places.target / "rich", "user.colour") == b"\x00blue\xff"
    os.removexattr(rich, "user.colour")
    assert settled(disk_places).bytes_written == 0
    assert compare_trees(disk_places.source, disk_places.target) == []


def test_what_changed_is_found_and_only_that_is_written(places: Places) -> None:
    tree = tree_of_many(places.source, files=20)
    big = tree / "big"
    big.write_bytes(os.urandom(8 << 20))
    warm(places, clock=much_later)
    with big.open("r+b") as stream:
        stream.seek(5 << 20)
        stream.write(b"new")
    result = settled(places)
    assert result.rewritten_paths == ("big",)
    assert (result.files_compared, result.bytes_written) == (1, blocks.BLOCK)
    proof = prove_settled(places.source, places.target, record=places.record)
    assert (proof.files, proof.bytes) == (1, blocks.BLOCK)
    assert compare_trees(places.source, places.target) == []


def test_files_come_go_shrink_grow_and_change_their_kind(places: Places) -> None:
    tree = tree_of_many(places.source)
    names = ["shrinks", "grows", "goes", "becomes a directory", "becomes a link", "parts", "hole"]
    for name in names:
        (tree / name).write_bytes(os.urandom(3 << 20))
    os.link(tree / "parts", tree / "parted")
    (tree / "becomes a file").mkdir()
    (tree / "becomes a file" / "inner").write_text("x")
    (tree / "link").symlink_to("old")
    warm(places, clock=much_later)
    os.truncate(tree / "shrinks", 100)
    os.truncate(tree / "grows", 9 << 20)
    (tree / "goes").unlink()
    shutil.rmtree(tree / "d1")
    for name in ("becomes a directory", "becomes a link"):
        (tree / name).unlink()
    (tree / "becomes a directory" / "deep").mkdir(parents=True)
    (tree / "becomes a link").symlink_to("grows")
    shutil.rmtree(tree / "becomes a file")
    (tree / "becomes a file").write_text("file")
    (tree / "link").unlink()
    (tree / "link").symlink_to("new")
    (tree / "new").write_text("new")
    (tree / "parted").unlink()
    (tree / "parted").write_bytes(os.urandom(3 << 20))
    os.truncate(tree / "hole", 0)
    os.truncate(tree / "hole", 3 << 20)
    (tree / "empty").mkdir()
    settled(places)
    assert compare_trees(places.source, places.target) == []
    assert (places.target / "hole").stat().st_blocks == 0
    again = settled(places)
    assert (again.bytes_written, again.entries_deleted) == (0, 0)


def test_hard_links_that_part_and_meet_again(places: Places) -> None:
    places.source.mkdir()
    for name in "abcd":
        (places.source / name).write_bytes(name.encode() * 100)
    os.link(places.source / "a", places.source / "a2")
    os.link(places.source / "b", places.source / "b2")
    warm(places, clock=much_later)
    # The second names swap their files; c and d become one.
    for name, origin in (("a2", "b"), ("b2", "a"), ("d", "c")):
        (places.source / name).unlink()
        os.link(places.source / origin, places.source / name)
    with (places.source / "a").open("ab") as stream:
        stream.write(b"more")
    settled(places)
    assert compare_trees(places.source, places.target) == []


def test_a_write_within_the_same_tick_with_forged_times_is_found(places: Places) -> None:
    """The racily clean file: nothing but its content tells that it changed after it was read."""
    places.source.mkdir()
    file = places.source / "racy"
    file.write_bytes(b"old!")
    before = file.stat()
    warm(places)
    file.write_bytes(b"new!")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    # The kernel lets nobody forge a ctime: the record gets the one that the same tick would have given.
    with open_record(places.record, source=places.source, target=places.target) as book:
        known = book.known_among("", "racy", "racy")["racy"]
        now = Stamp.of(file.stat())
        assert (known.stamp.size, known.stamp.mtime_ns, known.stamp.inode) == (now.size, now.mtime_ns, now.inode)
        book.add([Known("racy", now, now.ctime_ns + 10**7)])
    blind = settled(places, margin_ns=0)
    assert blind.files_compared == 0, "else this test proves nothing about the margin"
    assert settled(places).rewritten_paths == ("racy",)
    assert (places.target / "racy").read_bytes() == b"new!"


def test_what_changes_during_the_pass_is_compared_whenever_it_was_read(places: Places) -> None:
    tree = tree_of_many(places.source, files=4)
    warm(places)
    settled(places)
    names = [path.name for path in tree.rglob("f*")]
    assert settled(places).files_compared == len(names), "all were written within the margin"


@isolated
def test_a_file_that_is_mapped_for_writing_is_always_compared(places: Places) -> None:
    """A store into a page that is dirty already leaves all times as they are (on tmpfs every store does)."""
    mount_tmpfs(places.source, 1)
    file = places.source / "mapped"
    file.write_bytes(bytes(4096))
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 4096) as page:
        page[0] = 1
        warm(places, clock=much_later)
        before = Stamp.of(file.stat())
        page[1] = 2
        assert Stamp.of(file.stat()) == before, "else this test proves nothing"
        assert settled(places).files_compared == 1
        assert (places.target / "mapped").read_bytes()[:3] == b"\x01\x02\x00"


def test_what_any_process_maps_for_writing_is_known(tmp_path: Path) -> None:
    file = tmp_path / "mapped"
    file.write_bytes(bytes(4096))
    waiting = (
        "import mmap, sys\n"
        "with open(sys.argv[1], 'r+b') as stream, mmap.mmap(stream.fileno(), 4096):\n"
        "    print('mapped', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", waiting, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mapped\n"
        assert file.stat().st_ino in mapped.writably_mapped_inodes()
        process.communicate()
    assert file.stat().st_ino not in mapped.mapped_by(str(process.pid))


def test_a_source_that_is_still_written_to_is_refused(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.source.mkdir()
    (places.source / "busy").write_bytes(b"x" * 100)
    rewrite = settle_module.copy_data

    def write_meanwhile(*arguments: Any) -> int:
        with (places.source / "busy").open("ab") as stream:
            stream.write(b"more")
        return rewrite(*arguments)

    monkeypatch.setattr(settle_module, "copy_data", write_meanwhile)
    with pytest.raises(errors.SourceChanging, match="busy"):
        settled(places)


def test_files_that_vanish_during_the_warm_pass(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_of_many(places.source, files=30)
    original = tree_copy.open_file
    gone = []

    @contextlib.contextmanager
    def vanish_first(directory: int, name: str, *arguments: Any) -> Any:
        if not arguments and len(gone) < 5:
            gone.append(name)
            os.unlink(name, dir_fd=directory)
        with original(directory, name, *arguments) as descriptor:
            yield descriptor

    monkeypatch.setattr(tree_copy, "open_file", vanish_first)
    assert warm(places, workers=1).files_vanished == 5
    shutil.rmtree(tree / "d3")
    settled(places)
    assert compare_trees(places.source, places.target) == []


def test_a_second_pass_copies_only_what_changed(places: Places) -> None:
    tree = tree_of_many(places.source, files=30)
    warm(places, clock=much_later)
    proved(places)
    changed = tree / "d2" / "e2" / "f2"
    changed.write_bytes(b"anew")
    again = warm(places, clock=much_later)
    assert (again.files_copied, again.files_kept) == (1, 29)
    assert proved(places).files == 1
    assert settled(places).files_compared == 0
    assert compare_trees(places.source, places.target) == []


def test_excluded_paths_stay_out(places: Places) -> None:
    tree = tree_of_many(places.source, files=10)
    (tree / "d1" / "socket.lock").write_text("x")
    left_out = ("d1/socket.lock", "d2")
    warm(places, exclude=left_out)
    settled(places, exclude=left_out)
    assert not (places.target / "d2").exists()
    assert compare_trees(places.source, places.target, exclude=left_out) == []
    assert [item.path for item in compare_trees(places.source, places.target)] == ["d1", "d2", "d1/socket.lock"][1:]


def test_progress_reaches_the_total(places: Places) -> None:
    tree_of_many(places.source)
    seen: list[tuple[int, int]] = []
    warm(places, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 0
    assert all(done <= total for done, total in seen)


def test_without_copy_file_range_and_seek_data(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(places.source)

    def refuse(*arguments: Any) -> int:
        raise OSError(errno.EXDEV, "crosses devices")

    def no_seek(descriptor: int, offset: int, how: int) -> int:
        raise OSError(errno.EINVAL, "no such whence")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(os, "lseek", no_seek)
    warm(places)
    settled(places)
    monkeypatch.undo()
    assert compare_trees(places.source, places.target) == []


def test_a_directory_that_holds_something_else_is_not_touched(places: Places) -> None:
    tree_of_many(places.source, files=3)
    places.target.mkdir()
    (places.target / "precious").write_text("x")
    for carry in (warm, settled):
        with pytest.raises(errors.NotOurs, match="not empty"):
            carry(places)
        assert [path.name for path in places.target.iterdir()] == ["precious"]


def test_a_record_of_another_copy_is_refused(places: Places, tmp_path: Path) -> None:
    tree_of_many(places.source, files=3)
    warm(places)
    with pytest.raises(errors.NotOurs, match="another copy"):
        warm_copy(places.source, tmp_path / "elsewhere", record=places.record)
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "no record").write_text("just text, and enough of it to be no empty database" * 99)
    with pytest.raises(errors.NotOurs, match="not a record"):
        warm_copy(places.source, tmp_path / "elsewhere", record=tmp_path / "no record")


def test_a_source_may_have_another_path_after_the_stop(places: Places) -> None:
    tree_of_many(places.source, files=6)
    warm(places, clock=much_later, source_id="layer of web")
    moved = places.source.with_name("elsewhere")
    places.source.rename(moved)
    result = settle(moved, places.target, record=places.record, source_id="layer of web")
    assert (result.files_compared, result.files_unproved) == (0, 6)
    assert compare_trees(moved, places.target) == []


def test_space_is_left_for_others(places: Places) -> None:
    tree_of_many(places.source, files=6)
    with pytest.raises(errors.NoSpace):
        warm(places, keep_free=1 << 60)


@isolated
def test_a_mount_inside_the_data_stops_the_copy(places: Places, tmp_path: Path) -> None:
    tree_of_many(places.source, files=3)
    bind_mount(tmp_path, places.source / "d1" / "bound")
    for carry in (warm, settled):
        with pytest.raises(errors.NestedMount, match="bound is a mount point"):
            carry(places)
    warm(places, exclude=("d1/bound",))
    settled(places, exclude=("d1/bound",))
    assert compare_trees(places.source, places.target, exclude=("d1/bound",)) == []


@isolated
def test_across_file_systems(disk_places: Places) -> None:
    make_tree(disk_places.source)
    mount_tmpfs(disk_places.target, 200)
    warm(disk_places, clock=much_later)
    assert proved(disk_places).files == 6
    settled(disk_places)
    assert compare_trees(disk_places.source, disk_places.target) == []


def test_a_byte_flipped_between_copy_and_proof_is_found(disk_places: Places) -> None:
    tree = tree_of_many(disk_places.source, files=10)
    (tree / "big").write_bytes(os.urandom(3 << 20))
    warm(disk_places, clock=much_later)
    flip_byte(disk_places.target / "big", 2_500_000)
    with pytest.raises(errors.CopyDamaged, match="big") as raised:
        proved(disk_places)
    assert raised.value.facts["damaged"] == ["big"]
    again = warm(disk_places, clock=much_later)
    assert (again.files_copied, again.bytes_written) == (1, blocks.BLOCK), "the damaged file is brought up to date"
    assert proved(disk_places).files == 1
    settled(disk_places)
    assert compare_trees(disk_places.source, disk_places.target) == []


def test_a_byte_flipped_in_a_file_that_changed_since_is_left_to_settling(places: Places) -> None:
    places.source.mkdir()
    file = places.source / "big"
    file.write_bytes(os.urandom(3 << 20))
    warm(places, clock=much_later)
    with file.open("r+b") as stream:
        stream.write(b"changed")
    flip_byte(places.target / "big", 2_500_000)
    proof = proved(places)
    assert (proof.files, proof.files_left) == (0, 1)
    assert settled(places).bytes_written == 2 * blocks.BLOCK, "the changed block and the flipped one"
    assert compare_trees(places.source, places.target) == []


def test_a_byte_flipped_in_what_settling_wrote_is_found(disk_places: Places) -> None:
    disk_places.source.mkdir()
    (disk_places.source / "file").write_bytes(os.urandom(3 << 20))
    settled(disk_places)
    flip_byte(disk_places.target / "file", 1_500_000)
    with pytest.raises(errors.CopyDamaged, match="file"):
        prove_settled(disk_places.source, disk_places.target, record=disk_places.record)
    settled(disk_places)
    assert compare_trees(disk_places.source, disk_places.target) == []


def test_a_copied_file_that_somebody_touched_is_compared(places: Places) -> None:
    tree = tree_of_many(places.source, files=6)
    warm(places, clock=much_later)
    (places.target / "d1" / "e1" / "f1").write_bytes(b"not what was copied")
    (places.target / "d2" / "e2" / "f2").unlink()
    assert settled(places).files_compared == 2
    assert compare_trees(tree, places.target) == []


@pytest.mark.parametrize("point", range(12))
def test_killed_in_the_warm_pass(places: Places, point: int) -> None:
    make_tree(places.source)
    total = changing_calls(lambda: warm(places, clock=much_later))
    shutil.rmtree(places.target)
    places.record.unlink()
    assert killed_at(1 + total * point // 12, lambda: warm(places, clock=much_later))
    warm(places, clock=much_later)
    proved(places)
    settled(places)
    assert compare_trees(places.source, places.target) == []


@pytest.mark.parametrize("point", range(12))
def test_killed_while_settling(places: Places, point: int) -> None:
    make_tree(places.source)
    tree_of_many(places.source / "many", files=12)
    warm(places, clock=much_later)
    with (places.source / "base" / "16384").open("r+b") as stream:
        stream.seek(1 << 20)
        stream.write(b"new")
    shutil.rmtree(places.source / "many" / "d2")
    (places.source / "dangling").unlink()
    (places.source / "dangling").mkdir()
    (places.source / "fresh").write_bytes(os.urandom(2 << 20))
    saved = places.source.with_name("saved")
    subprocess.run(["cp", "-a", str(places.target), str(saved)], check=True)
    record = places.record.read_bytes()
    total = changing_calls(lambda: settled(places))
    shutil.rmtree(places.target)
    saved.rename(places.target)
    places.record.write_bytes(record)
    assert killed_at(1 + total * point // 12, lambda: settled(places))
    result = settled(places)
    assert compare_trees(places.source, places.target) == []
    proof = prove_settled(places.source, places.target, record=places.record)
    assert proof.bytes >= result.bytes_written


def test_what_a_killed_run_wrote_is_proved_by_the_next(places: Places) -> None:
    places.source.mkdir()
    (places.source / "file").write_bytes(os.urandom(2 << 20))
    warm(places, clock=much_later)
    with (places.source / "file").open("r+b") as stream:
        stream.write(b"new")
    total = changing_calls(lambda: settled(places))
    assert total
    shutil.rmtree(places.target)
    places.record.unlink()
    warm(places, clock=lambda: 0)

    def die_after_files() -> None:
        settle_module.fsync_parent = lambda path: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[attr-defined]
        settled(places)

    assert killed_at(10**9, die_after_files)
    flip_byte(places.target / "file", 1_500_000)
    settled(places)
    assert prove_settled(places.source, places.target, record=places.record).bytes == 2 << 20


def test_a_pass_cut_off_by_a_power_cut_is_begun_anew(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the final sync nothing that was recorded may be trusted on the next boot."""
    tree_of_many(places.source, files=10)

    def die(path: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def warm_until_sync() -> None:
        tree_copy.sync_file_system = die  # type: ignore[attr-defined]
        warm(places, clock=much_later)

    assert killed_at(10**9, warm_until_sync)
    assert warm(places, clock=much_later).files_kept == 10, "the same boot: the page cache still has it"
    assert killed_at(10**9, warm_until_sync)
    monkeypatch.setattr(tree_copy, "boot_id", lambda: "the next boot")
    assert warm(places, clock=much_later).files_kept == 0


@isolated
def test_too_little_space_is_said_before_anything_is_copied(places: Places) -> None:
    tree_of_many(places.source)
    mount_tmpfs(places.target, 2)
    with pytest.raises(errors.NoSpace) as raised:
        warm(places)
    facts = raised.value.facts
    needed = sum(entry.st_blocks * 512 for entry in _statuses(places.source))
    assert facts["filesystem"] == str(places.target)
    assert needed - facts["bytes_free"] == facts["bytes_missing"] > 0
    assert list(places.target.iterdir()) == []


def _statuses(root: Path) -> list[os.stat_result]:
    return [path.lstat() for path in root.rglob("*")]


@isolated
@pytest.mark.parametrize("phase", ["warm", "settle"])
def test_a_disk_that_runs_full_half_way(places: Places, tmp_path: Path, phase: str) -> None:
    """In either phase: said with the bytes missing, and continued once there is room."""
    tree_of_many(places.source)
    mount = mount_image(tmp_path, "ext4", 64)
    places = Places(places.source, mount / ".t.partial-1", places.record)
    free = os.statvfs(mount)
    ballast = mount / "ballast"
    ballast.write_bytes(bytes(free.f_bfree * free.f_frsize - (4 << 20)))
    # The space is promised, and somebody else takes it meanwhile.
    tree_copy.require_space = lambda *arguments, **named: None  # type: ignore[attr-defined]
    carry = warm if phase == "warm" else settled
    with pytest.raises(errors.NoSpace, match="is full") as raised:
        carry(places)
    assert raised.value.facts["filesystem"] == str(mount)
    assert raised.value.facts["bytes_missing"] > 0
    assert raised.value.safe_to_rerun
    assert "partial" in raised.value.state or "not settled" in raised.value.state
    ballast.unlink()
    carry(places)
    settled(places)
    assert compare_trees(places.source, places.target) == []


@isolated
def test_a_full_disk_under_the_record(places: Places, tmp_path: Path) -> None:
    tree_of_many(places.source)
    small = mount_tmpfs(tmp_path / "small", 1)
    (small / "ballast").write_bytes(bytes((1 << 20) - 16384))
    with pytest.raises(errors.NoSpace) as raised:
        warm_copy(places.source, places.target, record=small / "record")
    assert raised.value.facts["filesystem"] == str(small)


@pytest.mark.parametrize("seed", range(8))
def test_any_tree_under_any_changes(places: Places, seed: int) -> None:
    tree = tree_of_many(places.source, files=40, seed=seed)
    mutator = Mutator(tree, seed)
    mutator.start()
    try:
        for _number in range(2):
            warm(places)
            proved(places)
    finally:
        mutator.stop()
    assert mutator.changes > 0
    settled(places)
    assert compare_trees(places.source, places.target) == []
    prove_settled(places.source, places.target, record=places.record)
    # And once more after it ran again, as a roll back does.
    again = Mutator(tree, seed + 100)
    for _number in range(30):
        again.step()
    settled(places)
    assert compare_trees(places.source, places.target) == []
