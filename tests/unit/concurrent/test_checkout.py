# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A checkout goes to a release and back, and loses nothing that is its admin's own. With git itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import checkout, mending
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.checkout import Checkout, checkout_of
from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent.mending import mend
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError
from tests.unit.concurrent.repositories import MOVED, NEXT, OLD, OURS, RELEASES, Repository


@pytest.fixture
def there(repository: Repository) -> Checkout:
    return Checkout(str(repository.root))


@pytest.fixture
def own(repository: Repository) -> str:
    """Check out the branch that has a commit of the admin's own; return the commit."""
    repository.git("checkout", "-q", "mine")
    return repository.git("rev-parse", "HEAD")


def give_away(repository: Repository) -> None:
    """Give the checkout to somebody who reaches it, and who has no name on this host."""
    for path in (repository.root, *repository.root.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    for above in repository.root.parents:
        if above.name.startswith(("pytest-", "test_", "popen-")):
            above.chmod(0o755)


def test_a_checkout_is_found_from_any_folder_of_it(repository: Repository, there: Checkout) -> None:
    assert checkout_of(str(repository.root / "docs")) == checkout_of(str(repository.root)) == there


def test_a_folder_of_no_checkout_has_none_also_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout_of(str(tmp_path)) is None


def test_a_checkout_that_git_refuses_is_not_taken_for_none(repository: Repository) -> None:
    (repository.root / ".git/HEAD").unlink()
    with pytest.raises(StatefulError, match=r"git rev-parse failed .* not a git repository"):
        checkout_of(str(repository.root / "docs"))


def test_without_git_a_checkout_says_what_is_missing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository.root))
    with pytest.raises(InvalidInput, match="git is not installed"):
        checkout_of(str(repository.root))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_a_checkout_may_belong_to_somebody_else(repository: Repository, there: Checkout) -> None:
    give_away(repository)
    assert checkout_of(str(repository.root)) == there
    assert there.tags_here == [OLD]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
@pytest.mark.parametrize("merge", [True, False])
def test_what_git_makes_belongs_to_whom_the_checkout_does(
    repository: Repository, there: Checkout, own: str, merge: bool
) -> None:
    repository.write(".git/hooks/post-checkout", f"#!/bin/sh\nid -u > {repository.root}/ran-as\n").chmod(0o755)
    give_away(repository)
    there.to_release(NEXT, merge=merge)
    there.back_to(own, "mine")
    assert {path.lstat().st_uid for path in (repository.root, *repository.root.rglob("*"))} == {12345}
    assert merge or repository.read("ran-as") == "12345\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_root_works_on_what_its_owner_does_not_reach(repository: Repository, there: Checkout) -> None:
    give_away(repository)
    repository.root.parent.chmod(0o700)
    assert there.owner is None
    assert there.tags_here == [OLD]


def test_where_it_is(repository: Repository, there: Checkout) -> None:
    repository.git("tag", "-a", "-m", "mine", "mine")
    assert (there.branch, there.tags_here, there.tags) == ("", ["mine", OLD], ["mine", OLD, NEXT, MOVED])
    repository.git("checkout", "-q", "-b", "feature/a")
    own = repository.commit("own", "")
    assert (there.branch, there.tags_here, there.head) == ("feature/a", [], own)


def test_a_tag_stands_for_its_commit_whichever_kind_it_is(repository: Repository, there: Checkout) -> None:
    repository.git("tag", "-a", "-m", "mine", "annotated")
    assert there.commit_of("annotated") == there.commit_of(OLD) == repository.git("rev-parse", "HEAD")
    repository.git("branch", "v9.9.9")
    assert [there.commit_of(name) for name in ("v9.9.9", "v8.8.8", "--all", "")] == [""] * 4


def test_what_was_changed_here_is_what_git_knows(repository: Repository, there: Checkout) -> None:
    assert there.changed_here() == []
    repository.write("docs/new.yml", "")
    repository.write("docs/data", "")
    repository.write("README.md", "mine\n")
    repository.write("docs/compose.yml", OURS)
    repository.git("add", "docs/compose.yml")
    (repository.root / "docs/config.yaml").unlink()
    assert there.changed_here() == ["README.md", "docs/compose.yml", "docs/config.yaml"]


def test_names_may_hold_anything(repository: Repository, there: Checkout) -> None:
    repository.commit("a b\né", "1")
    repository.write("a b\né", "2")
    assert there.changed_here() == ["a b\né"]
    assert "a b\né" in there.differs(OLD)


def test_a_release_differs_in_its_files(there: Checkout) -> None:
    assert there.differs(OLD) == []
    assert there.differs(NEXT) == ["README.md", "docs/compose.yml"]
    assert set(there.differs(MOVED)) == {*RELEASES[OLD], *RELEASES[MOVED]}, "a renamed one has two names"
    assert there.file_at(NEXT, "docs/compose.yml") == RELEASES[NEXT]["docs/compose.yml"].rstrip("\n")
    assert there.file_at(MOVED, "docs/compose.yml") is None


def test_a_question_about_what_is_not_there_fails_with_gits_own_words(there: Checkout) -> None:
    with pytest.raises(StatefulError, match=r"git diff failed in .*v9\.9\.9"):
        there.differs("v9.9.9")
    with pytest.raises(StatefulError, match="git merge-tree failed"):
        there.conflicts("v9.9.9")


def test_own_commits_are_those_that_no_release_has(repository: Repository, there: Checkout) -> None:
    assert not there.has_own_commits()
    repository.git("checkout", "-q", "-b", "main", "refs/remotes/origin/main")
    assert not there.has_own_commits()
    repository.commit("own", "")
    assert there.has_own_commits()
    repository.git("checkout", "-q", "--detach")
    assert there.has_own_commits()


def test_a_conflict_is_foreseen_and_nothing_is_merged(repository: Repository, there: Checkout, own: str) -> None:
    assert there.conflicts(NEXT) == []
    repository.commit("docs/compose.yml", OURS.replace(OLD, "mine"))
    repository.commit("README.md", "mine\n")
    repository.write("docs/config.yaml", "a: 2\n")
    before = repository.state
    assert there.conflicts(NEXT) == ["README.md", "docs/compose.yml"]
    assert repository.state == before


def test_what_is_merged_already_is_in_no_conflict(repository: Repository, there: Checkout, own: str) -> None:
    repository.commit("README.md", "mine\n")
    repository.git("merge", "-q", "-s", "ours", "-m", "by hand", NEXT)
    assert there.conflicts(NEXT) == []


def test_a_git_that_cannot_foresee_a_merge_is_told(
    there: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\nexit 129\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(InvalidInput, match=r"cannot foresee .* 2\.38 can"):
        there.conflicts(NEXT)


def test_a_release_is_checked_out_beside_changes_that_it_leaves_alone(repository: Repository, there: Checkout) -> None:
    repository.write("docs/config.yaml", "a: mine\n")
    repository.write("docs/data", "rows")
    there.to_release(NEXT, merge=False)
    assert (there.branch, there.tags_here) == ("", [NEXT])
    assert repository.read("docs/compose.yml") == RELEASES[NEXT]["docs/compose.yml"]
    assert (repository.read("docs/config.yaml"), repository.read("docs/data")) == ("a: mine\n", "rows")


@pytest.mark.parametrize("name", ["README.md", "_docs/compose.yml"], ids=["changed", "unknown to git"])
def test_what_a_release_would_overwrite_stops_it(repository: Repository, there: Checkout, name: str) -> None:
    repository.write(name, "mine\n")
    before = repository.state
    with pytest.raises(StatefulError, match="git checkout failed"):
        there.to_release(MOVED, merge=False)
    assert repository.state == before
    assert repository.read(name) == "mine\n"


IGNORED = "v0.3.1"


def test_what_is_ignored_here_and_comes_with_a_release_is_found(repository: Repository, there: Checkout) -> None:
    repository.release(IGNORED, "docs/data/seed", "theirs\n")
    assert there.in_the_way(IGNORED) == []
    repository.write("docs/data/seed", "mine\n")
    assert there.in_the_way(IGNORED) == ["docs/data/seed"]
    assert there.in_the_way(there.git("rev-parse", f"{IGNORED}^{{tree}}")) == ["docs/data/seed"]
    (repository.root / "docs/data/seed").unlink()
    (repository.root / "docs/data").rmdir()
    repository.write("docs/data", "a file of mine\n")
    assert there.in_the_way(IGNORED) == ["docs/data/seed"], "where a directory is to be"
    repository.write("_docs", "a file of mine\n")
    assert there.in_the_way(MOVED) == ["_docs/compose.yml", "_docs/config.yaml"]
    assert there.in_the_way(NEXT) == [], "what both have is known"


@pytest.mark.parametrize("merge", [True, False])
def test_what_is_ignored_is_not_overwritten(repository: Repository, there: Checkout, own: str, merge: bool) -> None:
    repository.release(IGNORED, "docs/data", "theirs\n")
    repository.write("docs/data", "mine\n")
    before = repository.state
    with pytest.raises(StatefulError, match=r"docs/data in .* is unknown to git" if merge else "git checkout failed"):
        there.to_release(IGNORED, merge=merge)
    assert repository.state == before


@pytest.mark.parametrize("merge", [True, False])
def test_a_branch_that_is_called_like_a_release_is_not_taken_for_it(
    repository: Repository, there: Checkout, own: str, merge: bool
) -> None:
    repository.git("branch", NEXT, OLD)
    there.to_release(NEXT, merge=merge)
    assert there.commit_of(NEXT) in (there.head, *there.parents_of("HEAD"))


def test_nor_is_one_that_is_called_like_the_release_that_runs(repository: Repository, there: Checkout) -> None:
    repository.git("checkout", "-q", "-b", OLD)
    head = there.head
    assert there.branch == OLD
    there.to_release(NEXT, merge=False)
    there.back_to(head, OLD, there.head)
    assert (there.head, there.branch) == (head, OLD)


def test_a_hook_that_fails_afterwards_is_no_failure_of_a_checkout(repository: Repository, there: Checkout) -> None:
    repository.git("checkout", "-q", "-b", "ours")
    head = there.head
    hook = repository.write(".git/hooks/post-checkout", "#!/bin/sh\necho 'git-lfs was not found' >&2\nexit 2\n")
    hook.chmod(0o755)
    there.to_release(NEXT, merge=False)
    assert (there.tags_here, there.changed_here()) == ([NEXT], [])
    there.back_to(head, "ours", there.head)
    assert (there.head, there.branch, there.changed_here()) == (head, "ours", [])


def test_nor_is_it_on_the_way_back(repository: Repository, there: Checkout) -> None:
    repository.release(IGNORED, "docs/data", "theirs\n")
    repository.git("checkout", "-q", IGNORED)
    was = there.head
    there.to_release(OLD, merge=False)
    repository.write("docs/data", "mine\n")
    before = repository.state
    with pytest.raises(StatefulError, match=r"docs/data in .* is unknown to git, and in the way"):
        there.back_to(was, "")
    assert repository.state == before


def test_what_was_committed_to_a_branch_that_was_left_stays_on_it(repository: Repository, there: Checkout) -> None:
    repository.git("checkout", "-q", "-b", "ours")
    head = there.head
    there.to_release(NEXT, merge=False)
    repository.git("checkout", "-q", "ours")
    mine = repository.commit("mine", "")
    repository.git("checkout", "-q", "--detach", NEXT)
    there.back_to(head, "ours")
    assert (there.head, there.branch, repository.git("rev-parse", "ours")) == (head, "", mine)


def test_a_branch_that_was_deleted_meanwhile_is_not_gone_back_to(repository: Repository, there: Checkout) -> None:
    head = there.head
    there.to_release(NEXT, merge=False)
    there.back_to(head, "ours")
    assert (there.head, there.branch) == (head, "")


def test_a_branch_for_what_is_there_takes_no_other_ones_place(repository: Repository, there: Checkout) -> None:
    assert [there.keep_as("kept"), there.keep_as("kept")] == ["kept", "kept"]
    mine = repository.commit("mine", "")
    assert there.keep_as("kept") == "kept-2"
    assert repository.git("rev-parse", "kept-2") == mine != repository.git("rev-parse", "kept")


def test_a_release_is_merged_into_what_is_ones_own(repository: Repository, there: Checkout, own: str) -> None:
    there.to_release(NEXT, merge=True)
    assert there.branch == "mine"
    assert repository.read("docs/compose.yml") == OURS.replace(OLD, NEXT)
    assert repository.git("rev-list", "--parents", "-n1", "HEAD").split()[1:] == [own, there.commit_of(NEXT)]
    assert there.changed_here() == []


def test_a_merge_that_is_in_conflict_leaves_nothing_behind(repository: Repository, there: Checkout, own: str) -> None:
    repository.commit("docs/compose.yml", OURS.replace(OLD, "mine"))
    repository.write("docs/config.yaml", "a: mine\n")
    before = repository.state
    with pytest.raises(StatefulError, match="git merge failed") as caught:
        there.to_release(NEXT, merge=True)
    assert "conflict" in caught.value.msg.lower()
    assert repository.state == before


def test_a_merge_that_would_overwrite_does_not_begin(repository: Repository, there: Checkout, own: str) -> None:
    repository.write("README.md", "mine\n")
    before = repository.state
    with pytest.raises(StatefulError, match="git"):
        there.to_release(NEXT, merge=True)
    assert repository.state == before


@pytest.mark.parametrize("branch", ["", "main"])
def test_back_from_a_release_keeps_what_is_not_committed(repository: Repository, there: Checkout, branch: str) -> None:
    if branch:
        repository.git("checkout", "-q", "-b", branch)
    head = there.head
    there.to_release(NEXT, merge=False)
    repository.write("docs/config.yaml", "a: mine\n")
    repository.write("docs/data", "rows")
    there.back_to(head, branch)
    assert (there.head, there.branch, there.changed_here()) == (head, branch, ["docs/config.yaml"])
    assert repository.read("docs/compose.yml") == RELEASES[OLD]["docs/compose.yml"]
    assert (repository.read("docs/config.yaml"), repository.read("docs/data")) == ("a: mine\n", "rows")


def test_back_from_a_merge_keeps_what_is_not_committed(repository: Repository, there: Checkout, own: str) -> None:
    there.to_release(NEXT, merge=True)
    repository.write("docs/config.yaml", "a: mine\n")
    there.back_to(own, "mine")
    assert (there.head, there.branch, there.changed_here()) == (own, "mine", ["docs/config.yaml"])
    assert repository.read("docs/compose.yml") == OURS


def test_back_to_where_it_is_changes_nothing(repository: Repository, there: Checkout, own: str) -> None:
    repository.write("README.md", "mine\n")
    before = repository.state
    there.back_to(own, "mine")
    assert repository.state == before


def test_a_merge_that_was_broken_off_is_taken_back(repository: Repository, there: Checkout, own: str) -> None:
    before = repository.state
    repository.git("merge", "-q", "--no-commit", NEXT)
    there.back_to(own, "mine")
    assert repository.state == before


@pytest.mark.parametrize("merge", [True, False])
def test_the_way_back_overwrites_nothing(repository: Repository, there: Checkout, own: str, merge: bool) -> None:
    there.to_release(NEXT, merge=merge)
    repository.write("README.md", "written since\n")
    before = repository.state
    with pytest.raises(StatefulError, match="git"):
        there.back_to(own, "mine")
    assert repository.state == before
    assert repository.read("README.md") == "written since\n"


# -- a checkout that was broken off -------------------------------------------


def break_off(repository: Repository, release: str, *names: str, lock: bool = False) -> None:
    """Leave what a checkout leaves that is killed: some files are of the release, HEAD is where it was."""
    for name in names:
        content = RELEASES[release].get(name)
        if content is None:
            (repository.root / name).unlink()
        else:
            repository.write(name, content)
    if lock:
        repository.write(".git/index.lock", "")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "LOCK_LASTS", 0.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize(
    "names", [(), ("docs/compose.yml", "docs/config.yaml"), ("docs/compose.yml", "_docs/compose.yml", "README.md")]
)
def test_a_checkout_that_was_broken_off_is_mended(
    repository: Repository, there: Checkout, names: tuple[str, ...], lock: bool
) -> None:
    repository.write("docs/data", "rows")
    before = repository.state
    break_off(repository, MOVED, *names, lock=lock)
    mend(there, there.head, MOVED)
    assert repository.state == before
    assert not (repository.root / ".git/index.lock").exists()


def test_what_was_in_the_index_already_is_mended(repository: Repository, there: Checkout) -> None:
    before = repository.state
    repository.git("read-tree", "-m", "-u", OLD, MOVED)
    mend(there, there.head, MOVED)
    assert repository.state == before


def test_what_the_engine_made_of_a_missing_file_is_mended(repository: Repository, there: Checkout) -> None:
    before = repository.state
    break_off(repository, MOVED, "docs/compose.yml", "docs/config.yaml")
    (repository.root / "docs/config.yaml").mkdir()
    (repository.root / "docs/compose.yml").mkdir()
    repository.write("docs/compose.yml/data", "ignored")
    mend(there, there.head, MOVED)
    assert repository.read("docs/config.yaml") == RELEASES[OLD]["docs/config.yaml"]
    (repository.root / "docs/compose.yml/data").unlink()
    mend(there, there.head, MOVED)
    assert repository.state == before


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_is_older_than_what_was_begun_is_somebody_elses(repository: Repository, there: Checkout) -> None:
    """A message of a commit is being written."""
    repository.write("docs/compose.yml", OURS)
    repository.write(".git/index.lock", "")
    began = (repository.root / ".git/index.lock").stat().st_mtime
    before = repository.state
    assert mend(there, there.head, MOVED, since=began + 1) is False
    assert (repository.root / ".git/index.lock").exists()
    assert repository.state == before
    assert mend(there, there.head, MOVED, since=began) is True


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize("release", [NEXT, MOVED])
def test_what_a_merge_left_is_mended(
    repository: Repository, there: Checkout, own: str, release: str, lock: bool
) -> None:
    """Also the file that is called otherwise there, with what the admin has added to it."""
    before = repository.state
    repository.git("merge", "-q", "--no-commit", release)
    (repository.root / ".git/MERGE_HEAD").unlink()
    if lock:  # killed before the index had it
        repository.git("read-tree", own)
        repository.write(".git/index.lock", "")
    mend(there, own, release)
    assert repository.state == before


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lock", [True, False])
def test_mending_leaves_alone_what_the_release_does_not_touch(
    repository: Repository, there: Checkout, lock: bool
) -> None:
    repository.write("docs/config.yaml", "a: mine\n")
    repository.write("_docs/own.yml", "mine")
    before = repository.state
    break_off(repository, NEXT, "docs/compose.yml", lock=lock)
    mend(there, there.head, NEXT)
    assert repository.state == before


@pytest.mark.parametrize("name", ["README.md", "docs/config.yaml", "_docs/compose.yml"])
def test_mending_overwrites_nothing_that_was_written_since(repository: Repository, there: Checkout, name: str) -> None:
    repository.write(name, "written since\n")
    before = repository.state
    mend(there, there.head, MOVED)
    assert repository.state == before


def test_a_checkout_that_has_ended_is_not_mended(repository: Repository, there: Checkout) -> None:
    head = there.head
    there.to_release(NEXT, merge=False)
    repository.write("README.md", "old\n")
    before = repository.state
    mend(there, head, NEXT)
    assert repository.state == before


def test_what_does_not_end_is_told() -> None:
    with pytest.raises(StatefulError, match="sleep 9 has not ended within 0 s"):
        checkout.run(("sleep", "9"), 0.01)
