# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a host come to a release and back, and nothing takes the place of what is the admin's own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import common, mending, release
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.release import Follow, Release
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container, EngineMount
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.execute import Context, Undecided
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.model import SWITCH, Goal, Plan, Step
from ansible_collections.selfhost.stateful.plugins.module_utils._operation.store import OperationStore
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import durable
from tests.unit.concurrent.repositories import NEXT, Repository
from tests.unit.postgresql.fakes import a_container

# -- the checkout -------------------------------------------------------------


class Releasing:
    """A checkout that goes to a release, merged where the admin has a branch with commits of their own."""

    def __init__(self, repository: Repository, directory: Path, *, merge: bool, release: str = NEXT) -> None:
        self.repository = repository
        if merge:
            repository.git("checkout", "-q", "mine")
        self.head = repository.git("rev-parse", "HEAD")
        self.branch = "mine" if merge else ""
        args = {
            "root": str(repository.root),
            "release": release,
            "merge": merge,
            "head": self.head,
            "branch": self.branch,
        }
        self.step = Step("concurrent_release", "release", SWITCH, args)
        operation = OperationStore(str(directory)).begin(Plan(Goal("concurrent_version", "p", {}), (self.step,)))
        self.kept = f"selfhost-stateful/{operation.id}"
        self.context: Context[Any] = Context(None, operation)  # type: ignore[arg-type]

    def apply(self, *, killed: bool = False) -> None:
        evidence = Release().apply(self.step, self.context)
        if not killed:
            self.context.evidence[self.step.name] = evidence

    def resume(self) -> None:
        """Go on with it, as a run does that asks every step again."""
        found = Release().is_done(self.step, self.context)
        if found is None:
            self.apply()
        else:
            self.context.evidence[self.step.name] = {**self.context.evidence.get(self.step.name, {}), **found}

    def undo(self) -> list[str]:
        found: list[str] = list(Release().undo(self.step, self.context).get("told", ()))
        return found

    @property
    def there(self) -> tuple[str, str]:
        checkout = Checkout(str(self.repository.root))
        return checkout.head, checkout.branch


@pytest.fixture(params=[True, False], ids=["merged", "checked out"])
def releasing(request: pytest.FixtureRequest, repository: Repository, tmp_path: Path) -> Releasing:
    return Releasing(repository, tmp_path / "operations", merge=request.param)


@pytest.mark.parametrize("killed", [False, True])
def test_a_release_is_taken_back_also_twice(releasing: Releasing, killed: bool) -> None:
    before = releasing.repository.state
    releasing.apply(killed=killed)
    assert (releasing.undo(), releasing.undo()) == ([], [])
    assert releasing.there == (releasing.head, releasing.branch)
    assert releasing.repository.state == before
    assert "selfhost-stateful" not in releasing.repository.git("branch")


def test_where_git_has_come_to_is_seen_and_not_believed(releasing: Releasing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkout, "to_release", lambda *_any, **_more: None)
    with pytest.raises(StatefulError, match=f"git ended well, and .* is at {releasing.head[:12]} and not at {NEXT}"):
        releasing.apply()


def test_what_was_committed_before_it_came_to_the_release_is_left_alone(releasing: Releasing) -> None:
    """While the backup was taken, for hours."""
    mine = releasing.repository.commit("own.yml", "")
    with pytest.raises(StatefulError, match="is not where it was when this was planned"):
        releasing.apply()
    assert releasing.undo() == []
    assert releasing.there == (mine, releasing.branch)


def test_who_has_given_it_a_branch_before_stays_on_it(releasing: Releasing) -> None:
    releasing.repository.git("checkout", "-q", "-b", "ours")
    with pytest.raises(StatefulError, match="is not where it was when this was planned"):
        releasing.apply()
    assert releasing.undo() == []
    assert releasing.there == (releasing.head, "ours")


@pytest.mark.parametrize("branch", ["", "ours"], ids=["as it was", "given a branch"])
def test_a_way_back_from_before_it_began_leaves_alone_who_commits(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch, branch: str
) -> None:
    """With an editor that is open, and the lock of git's held meanwhile."""
    monkeypatch.setattr(mending, "LOCK_LASTS", 0.0)
    if branch:
        releasing.repository.git("checkout", "-q", "-b", branch)
    releasing.repository.write("docs/compose.yml", "services: {}\n")
    lock = releasing.repository.write(".git/index.lock", "")
    os.utime(lock, (lock.stat().st_mtime - 60,) * 2)
    before = releasing.repository.state
    assert releasing.undo() == []
    assert releasing.repository.state == before
    assert lock.exists()


def test_a_way_back_that_was_broken_off_knows_its_lock_also_where_somebody_else_had_gone_there(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "LOCK_LASTS", 0.0)
    words = ("merge", "-q", "-m", "mine") if releasing.branch else ("checkout", "-q", "--detach")
    releasing.repository.git(*words, NEXT)
    releasing.resume()
    monkeypatch.setattr(Checkout, "back_to", lambda *_any: releasing.repository.write(".git/index.lock", ""))
    releasing.undo()
    monkeypatch.undo()
    monkeypatch.setattr(mending, "LOCK_LASTS", 0.0)
    releasing.undo()
    assert releasing.there == (releasing.head, releasing.branch)


@pytest.mark.parametrize("own", ["staged", "emptied", "being committed"])
def test_what_was_changed_before_it_came_to_the_release_stops_it(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    """While the backup was taken: none of it is what a checkout has left that was broken off."""
    monkeypatch.setattr(mending, "LOCK_LASTS", 0.0)
    releasing.repository.write("docs/compose.yml", "" if own == "emptied" else "services: {}\n")
    if own == "staged":
        releasing.repository.git("add", "docs/compose.yml")
    if own == "being committed":
        lock = releasing.repository.write(".git/index.lock", "")
        os.utime(lock, (lock.stat().st_mtime - 60,) * 2)
    before = releasing.repository.state
    with pytest.raises(StatefulError, match="git"):
        releasing.apply()
    assert releasing.repository.state == before
    if own != "emptied":
        assert releasing.undo() == []
        assert releasing.repository.state == before


def test_what_was_staged_since_is_gone_on_with(releasing: Releasing) -> None:
    releasing.apply()
    releasing.repository.write("docs/compose.yml", "services: {}\n")
    releasing.repository.git("add", "docs/compose.yml")
    before = releasing.repository.state
    releasing.resume()
    assert releasing.repository.state == before


def test_a_commit_that_was_waited_for_is_kept(releasing: Releasing, monkeypatch: pytest.MonkeyPatch) -> None:
    releasing.apply()
    mine: list[str] = []
    mend = release.mend

    def waiting(*words: Any, **more: Any) -> bool:
        mine[:] = mine or [releasing.repository.commit("own.yml", "")]
        return mend(*words, **more)

    monkeypatch.setattr(release, "mend", waiting)
    releasing.undo()
    assert releasing.repository.git("rev-parse", releasing.kept) == mine[0]


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_committed_on_top_of_the_release_is_kept_on_a_branch(releasing: Releasing, killed: bool) -> None:
    releasing.apply(killed=killed)
    mine = releasing.repository.commit("own.yml", "")
    told = releasing.undo()
    assert told == [f"what was committed in {releasing.repository.root} meanwhile is on the branch {releasing.kept}"]
    assert releasing.undo() == told, "also by one that goes on where it was broken off"
    assert releasing.there == (releasing.head, releasing.branch)
    assert releasing.repository.git("rev-parse", releasing.kept) == mine


@pytest.mark.parametrize("releasing", [True], indirect=True, ids=["merged"])
def test_what_was_committed_before_it_was_gone_on_with_is_not_taken_for_ours(releasing: Releasing) -> None:
    releasing.apply()
    mine = releasing.repository.commit("own.yml", "")
    releasing.resume()
    (told,) = releasing.undo()
    assert releasing.kept in told
    assert releasing.there == (releasing.head, releasing.branch)
    assert releasing.repository.git("rev-parse", releasing.kept) == mine


def test_a_release_that_its_admin_went_to_meanwhile_is_kept_on_a_branch(releasing: Releasing) -> None:
    """A pull while the backup was taken: it is gone on with, and its branch is not lost by a way back."""
    if not releasing.branch:
        releasing.repository.git("checkout", "-q", "-b", "main")
        releasing.step = replace(releasing.step, args={**releasing.step.args, "branch": "main"})
    releasing.repository.commit("own.yml", "")
    releasing.repository.git("merge", "-q", "-m", "mine", NEXT)
    if not releasing.branch:
        releasing.repository.git("reset", "-q", "--hard", NEXT)
    pulled = releasing.repository.git("rev-parse", "HEAD")
    for torn in (False, True):
        if torn:
            releasing.repository.write("docs/compose.yml", "")
        releasing.resume()
        assert releasing.context.evidence == {"release": {"head": pulled, "theirs": True}}
    (told,) = releasing.undo()
    assert releasing.kept in told
    assert releasing.there == (releasing.head, releasing.branch or "main")
    assert releasing.repository.git("rev-parse", releasing.kept) == pulled


@pytest.mark.parametrize("torn", ["", "services:\n  api:", "services:\n\0\0\0\0"], ids=["empty", "short", "blank"])
def test_what_a_power_cut_has_torn_is_mended_forward_and_back(releasing: Releasing, torn: str) -> None:
    before = releasing.repository.state
    releasing.apply()
    after = releasing.repository.state
    assert Release().is_done(releasing.step, releasing.context) is not None
    for mended in (releasing.apply, releasing.undo):
        releasing.repository.write("docs/compose.yml", torn)
        assert Release().is_done(releasing.step, releasing.context) is None
        mended()
        assert releasing.repository.state == (after if mended == releasing.apply else before)
    releasing.repository.write("docs/compose.yml", torn)
    releasing.undo()
    assert releasing.repository.state == before


def test_what_is_torn_is_told_by_its_bytes(repository: Repository, tmp_path: Path) -> None:
    repository.release("v0.3.1", "README.md", "個人サーバ\n" * 80)
    releasing = Releasing(repository, tmp_path / "operations", merge=False, release="v0.3.1")
    releasing.apply()
    whole = (repository.root / "README.md").read_bytes()
    (repository.root / "README.md").write_bytes(whole[:1024])
    assert Release().is_done(releasing.step, releasing.context) is None


@pytest.mark.parametrize("text", ["services: {}\n", "services:\n"], ids=["another", "without its end"])
def test_what_was_written_into_a_file_of_the_release_is_no_harm_of_a_power_cut(releasing: Releasing, text: str) -> None:
    releasing.apply()
    releasing.repository.write("docs/compose.yml", text)
    assert Release().is_done(releasing.step, releasing.context) is not None


def test_where_the_way_back_is_stopped_it_is_said_what_runs(releasing: Releasing) -> None:
    releasing.apply()
    releasing.repository.write("README.md", "mine\n")
    with pytest.raises(StatefulError) as stopped:
        releasing.undo()
    there = f"the checkout in {releasing.repository.root} is at {releasing.there[0][:12]}"
    assert stopped.value.state == f"{there}; the data is whole, and nothing runs"


def test_a_release_is_on_disk_before_its_evidence(releasing: Releasing, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(durable, "sync_file_system", lambda _root: synced.append(releasing.there[0]))
    releasing.apply()
    releasing.undo()
    assert synced == [releasing.context.evidence["release"]["head"], releasing.head]


def test_what_is_to_be_on_disk_by_then_is_written_while_everything_runs(
    releasing: Releasing, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    world: Any = SimpleNamespace(
        engine=SimpleNamespace(containers=lambda labels: []), project="p", containers_of=lambda _name: []
    )
    monkeypatch.setattr(durable, "sync_file_system", done.append)
    monkeypatch.setattr(common.Host, "stop_others", lambda _self: done.append("stopped"))
    monkeypatch.setattr(common.Host, "take_down", lambda _self, _data: "0/1")
    monkeypatch.setattr(common.counting, "count_all", lambda _host: common.counting.Counts())
    quiet = Step("concurrent_quiet", "quiet", SWITCH, {"folder": "", "data": ""})
    common.Quiet().apply(quiet, replace(releasing.context, world=world))
    assert done == [str(releasing.repository.root), "stopped"]


# -- what git does not know ---------------------------------------------------


class Moving:
    """A host whose data goes from ``docs`` to ``_docs``; ``runs`` are its containers."""

    def __init__(self, root: Path) -> None:
        self.old, self.new = root / "docs/data", root / "_docs/data"
        self.old.mkdir(parents=True)
        (self.old / "rows").write_text("of people")
        self.runs: list[Container] = []
        moves = [(str(self.old), str(self.new))]
        self.step = Step("concurrent_follow", "follow", SWITCH, {"moves": moves})
        plan = Plan(Goal("concurrent_version", "p", {}), (self.step,), facts={"moves": moves})
        world: Any = SimpleNamespace(
            engine=SimpleNamespace(containers=lambda labels: self.runs),
            project="p",
            containers_of=lambda _name: self.runs,
            compose=SimpleNamespace(
                options=SimpleNamespace(project_src="", project_name="", files=()),
                with_options=lambda **_any: SimpleNamespace(typed=lambda *words: f"docker compose {' '.join(words)}"),
            ),
        )
        self.context: Context[Any] = Context(world, OperationStore(str(root / "operations")).begin(plan))

    def starts(self, place: Path) -> None:
        """Type ``up`` where the data is not: the engine makes a directory, and the server a cluster in it."""
        place.mkdir(parents=True, exist_ok=True)
        (place / "rows").write_text("of an empty cluster")

    def runs_on(self, place: Path) -> None:
        mount = EngineMount("bind", str(place), "/var/lib/postgresql/data", rw=True)
        self.runs = [a_container(name="db-1", mounts=(mount,))]

    def apply(self) -> None:
        self.context.evidence[self.step.name] = Follow().apply(self.step, self.context)

    def undo(self) -> None:
        Follow().undo(self.step, self.context)

    @property
    def state(self) -> dict[str, str]:
        root = self.old.parent.parent
        return {str(path.parent.relative_to(root)): path.read_text() for path in root.rglob("rows")}


@pytest.fixture
def moving(tmp_path: Path) -> Moving:
    return Moving(tmp_path)


def kept_of(moving: Moving) -> str:
    (copy,) = moving.context.operation.history().copies()
    return str(Path(copy.path).relative_to(moving.old.parent.parent))


def test_what_was_moved_comes_back_also_twice(moving: Moving) -> None:
    moving.apply()
    assert moving.state == {"_docs/data": "of people"}
    moving.undo()
    moving.undo()
    assert moving.state == {"docs/data": "of people"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_a_folder_that_was_tidied_away_is_its_owners_again(moving: Moving) -> None:
    """Else git, which works as the owner of the checkout, could not write the compose file into it."""
    moving.apply()
    moving.old.parent.rmdir()
    os.chown(moving.new.parent, 12345, 12345)
    moving.undo()
    assert (moving.state, moving.old.parent.stat().st_uid) == ({"docs/data": "of people"}, 12345)


@pytest.mark.parametrize("back", [False, True], ids=["never moved", "back already"])
def test_what_came_in_its_place_is_not_taken_for_it_and_is_kept(moving: Moving, back: bool) -> None:
    if back:
        moving.apply()
        moving.undo()
    moving.starts(moving.new)
    if not back:
        with pytest.raises(StatefulError, match="exists and is not an empty directory"):
            moving.apply()
    moving.undo()
    assert moving.state == {"docs/data": "of people", kept_of(moving): "of an empty cluster"}


def test_what_came_where_it_is_to_be_back_stops_it_with_true_words(moving: Moving) -> None:
    moving.apply()
    moving.starts(moving.old)
    with pytest.raises(StatefulError) as stopped:
        moving.undo()
    assert stopped.value.state == f"the data is still in {moving.new}"
    assert moving.state == {"_docs/data": "of people", "docs/data": "of an empty cluster"}


@pytest.mark.parametrize("moved", [False, True])
def test_of_what_began_before_it_was_noted_the_evidence_tells(moving: Moving, moved: bool) -> None:
    if moved:
        moving.apply()
        (Path(moving.context.operation.directory) / "moves.json").unlink()
    moving.starts(moving.old if moved else moving.new)
    if moved:
        with pytest.raises(StatefulError, match="docs/data exists"):
            moving.undo()
        assert moving.state["_docs/data"] == "of people"
    else:
        moving.undo()
        assert moving.state["docs/data"] == "of people"


def test_who_runs_on_what_came_in_its_place_is_asked_about(moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    moving.starts(moving.new)
    moving.runs_on(moving.new)
    with pytest.raises(Undecided, match=r"db-1 was started while .* runs on .*_docs/data"):
        moving.undo()
    quiet = Step("concurrent_quiet", "quiet", SWITCH, {"folder": str(moving.new.parent), "data": str(moving.old)})
    monkeypatch.setattr(common.Host, "stop_others", lambda _self: pytest.fail("nothing may be stopped"))
    with pytest.raises(Undecided, match=r"runs on .*_docs/data"):
        common.Quiet().apply(quiet, moving.context)
    assert moving.state == {"docs/data": "of people", "_docs/data": "of an empty cluster"}


@pytest.mark.parametrize("place,refused", [("docs/data", False), ("_docs/data", False), ("else", True)])
def test_nothing_is_counted_of_another_directory(
    moving: Moving, monkeypatch: pytest.MonkeyPatch, place: str, refused: bool
) -> None:
    """Neither where it was, nor, after a kill, where it was moved."""
    moving.runs_on(moving.old.parent.parent / place)
    quiet = Step("concurrent_quiet", "quiet", SWITCH, {"folder": str(moving.old.parent), "data": str(moving.old)})
    stopped: list[str] = []
    monkeypatch.setattr(common.Host, "stop_others", lambda _self: stopped.append("all"))
    monkeypatch.setattr(common.Host, "take_down", lambda _self, _data: "0/1")
    monkeypatch.setattr(common.counting, "count_all", lambda _host: common.counting.Counts())
    if refused:
        with pytest.raises(Undecided, match=f"runs on .*{place}, and the data is in"):
            common.Quiet().apply(quiet, moving.context)
    else:
        common.Quiet().apply(quiet, moving.context)
    assert bool(stopped) != refused
