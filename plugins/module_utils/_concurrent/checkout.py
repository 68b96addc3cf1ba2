# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The seam to git: the checkout that a host runs from."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError, shell

LIMIT = 120.0
HEADS = "refs/heads/"
USAGE = 129
"""How git ends where it does not know an option."""


@dataclass(frozen=True)
class Checkout:
    """A working tree by its root, as an absolute path."""

    root: str

    def git(self, *words: str, limit: float = LIMIT, settings: Sequence[str] = ()) -> str:
        """Run git and return what it printed; raises with its own words where it fails."""
        rc, out, err = run((*self.argv, *settings, *words), limit, owner=self.owner)
        if rc != 0:
            said = " ".join((err or out).split())
            raise StatefulError(
                f"git {words[0]} failed in {self.root}: {said[-600:]}",
                next_command=shell("git", "-C", self.root, "status"),
            )
        return out.rstrip("\n")

    def asks(self, *words: str) -> bool:
        """Return whether a question that is answered by an exit code is answered yes."""
        return run((*self.argv, *words), LIMIT, owner=self.owner)[0] == 0

    @property
    def owner(self) -> tuple[int, int] | None:
        """User and group of the checkout; None where they do not reach it, as one that lies below root's own home."""
        status = os.stat(self.root)
        uid, gid = status.st_uid, status.st_gid
        above = self.root
        while above != os.path.dirname(above):
            above = os.path.dirname(above)
            place = os.stat(above)
            bit = 0o100 if place.st_uid == uid else 0o010 if place.st_gid == gid else 0o001
            if not place.st_mode & bit:
                return None
        return uid, gid

    @property
    def argv(self) -> tuple[str, ...]:
        # The checkout may belong to another user than root; whoever runs this named it.
        return ("git", "-c", f"safe.directory={self.root}", "-c", "advice.detachedHead=false", "-C", self.root)

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    @property
    def branch(self) -> str:
        """The branch that is checked out; empty on a tag or a commit."""
        # Git itself would write heads/v1.3.0, where there is a tag of that name.
        return self.git("symbolic-ref", "HEAD")[len(HEADS) :] if self.asks("symbolic-ref", "-q", "HEAD") else ""

    @property
    def tags_here(self) -> list[str]:
        return self.git("tag", "--points-at", "HEAD").split()

    @property
    def tags(self) -> list[str]:
        return self.git("tag", "--list").split()

    def commit_of(self, reference: str) -> str:
        """Return the commit that a tag stands for; empty where there is no such tag."""
        name = f"refs/tags/{reference}^{{commit}}"
        return self.git("rev-parse", name) if self.asks("rev-parse", "-q", "--verify", name) else ""

    def changed_here(self) -> list[str]:
        """Return tracked files that were changed and not committed."""
        return self.names("HEAD")

    def differs(self, reference: str) -> list[str]:
        """Return the files in which a commit differs from what is checked out."""
        return self.names("HEAD", reference)

    def in_the_way(self, reference: str) -> list[str]:
        """Return what a commit, or a tree, has and git does not know here: what it ignores it would replace unasked."""

        def is_theirs(name: str) -> bool:
            # A file can be where a directory is to be, too.
            above = [name[:at] for at in range(len(name)) if name[at] == "/"]
            there = [each for each in above if self._is_no_directory(each)]
            there += [name] if os.path.lexists(os.path.join(self.root, name)) else []
            return any(not self.asks("cat-file", "-e", f"HEAD:{each}") for each in there)

        return [name for name in self.names("--diff-filter=A", "HEAD", reference) if is_theirs(name)]

    def _is_no_directory(self, name: str) -> bool:
        path = os.path.join(self.root, name)
        return os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path))

    def parents_of(self, commit: str) -> list[str]:
        return self.git("rev-list", "--parents", "-n1", commit).split()[1:]

    def keep_as(self, branch: str) -> str:
        """Put a branch on what is checked out, so that nothing of it is lost; returns its name, the first one free."""
        name, number = branch, 1
        while self._tip_of(name) not in ("", self.head):
            number += 1
            name = f"{branch}-{number}"
        if not self._tip_of(name):
            self.git("branch", "--no-track", name, "HEAD")
        return name

    def names(self, *words: str) -> list[str]:
        """Return the files that ``git diff`` names."""
        # Of a file that was renamed git would name the new place alone, and the old one is what is here.
        listed = self.git("diff", "--name-only", "--no-renames", "-z", *words)
        return [name for name in listed.split("\0") if name]

    def has_own_commits(self) -> bool:
        """Tell whether there are commits here, on a branch or on none, that neither a release nor a remote has."""
        return bool(self.git("rev-list", "--max-count=1", "HEAD", "--not", "--tags", "--remotes"))

    def conflicts(self, reference: str) -> list[str]:
        """Return the files that a merge of ``reference`` would leave in conflict, without merging."""
        if self.asks("merge-base", "--is-ancestor", reference, "HEAD"):
            return []
        argv = (*self.argv, "merge-tree", "--write-tree", "--name-only", "HEAD", reference)
        rc, out, err = run(argv, LIMIT, owner=self.owner)
        if rc == 0:
            return []
        if rc == USAGE:
            raise InvalidInput(
                f"The git of this host cannot foresee how {reference} is merged into {self.root}: 2.38 can. Install it,"
                " or merge by hand, and run this again.",
                next_command=shell("git", "-C", self.root, "merge", reference),
            )
        # With 1 it also ends where it knows no such commit; then it prints none.
        if rc != 1 or not out:
            raise StatefulError(f"git merge-tree failed in {self.root}: {' '.join(err.split())[-300:]}")
        listed = out.split("\n\n")[0].splitlines()[1:]
        return [name for name in listed if name]

    def merged(self, reference: str) -> str:
        """Return the tree that a merge of ``reference`` without conflicts would make, without merging."""
        if self.asks("merge-base", "--is-ancestor", reference, "HEAD"):
            return "HEAD"
        return self.git("merge-tree", "--write-tree", "HEAD", reference).splitlines()[0]

    def file_at(self, reference: str, path: str) -> str | None:
        """Return the text of a file as a commit has it; None where it has none."""
        name = f"{reference}:{path}"
        return self.git("show", name) if self.asks("cat-file", "-e", name) else None

    def to_release(self, reference: str, *, merge: bool) -> None:
        """Go to a tag, or merge it into the branch; what would be overwritten or in conflict stops it."""
        tag = f"refs/tags/{reference}"  # a branch may have its name, and would be gone to in its place
        if not merge:
            self._go_to(self.commit_of(reference), "--detach", tag)
            return
        tree = self.merge_of("HEAD", tag)
        theirs = self.in_the_way(tree) if tree else []
        if theirs:
            # A merge replaces what is ignored, whatever it is told.
            raise StatefulError(
                f"{', '.join(theirs)} in {self.root} is unknown to git, and {reference} has a file of its own there.",
                next_command=shell("ls", "-la", *(os.path.join(self.root, name) for name in theirs)),
            )
        try:
            who = ("-c", "user.name=selfhost.stateful", "-c", "user.email=selfhost.stateful@localhost")
            words = ("--no-edit", "-q", "--no-overwrite-ignore", "-m", f"Merge {reference}")
            self.git("merge", *words, tag, settings=who)
        except StatefulError:
            if self.asks("rev-parse", "-q", "--verify", "MERGE_HEAD"):
                self.git("merge", "--abort")
            raise

    def merge_of(self, one: str, other: str) -> str:
        """Return the tree of a merge of two commits, also in conflict; empty where this git foresees none."""
        rc, out, _err = run((*self.argv, "merge-tree", "--write-tree", one, other), LIMIT, owner=self.owner)
        return out.partition("\n")[0] if rc in (0, 1) else ""

    def _go_to(self, commit: str, *words: str, branch: str = "") -> None:
        try:
            self.git("checkout", "-q", "--no-overwrite-ignore", *words)
        except StatefulError:
            # It ends as a hook of the admin's does, which runs when all is done.
            if (self.head, self.branch) != (commit, branch):
                raise

    def back_to(self, head: str, branch: str, made: str = "") -> None:
        """Return to what was checked out; changes that are not committed are kept, or stop it.

        A branch that was left goes back from ``made`` alone, which is a merge of ours: what else is on it since stays.
        """
        if self.asks("rev-parse", "-q", "--verify", "MERGE_HEAD"):
            self.git("merge", "--abort")
        theirs = self.in_the_way(head)
        if theirs:
            raise StatefulError(
                f"{', '.join(theirs)} in {self.root} is unknown to git, and in the way of what was checked out before.",
                next_command=shell("ls", "-la", *(os.path.join(self.root, name) for name in theirs)),
            )
        tip = self._tip_of(branch) if branch else ""
        if tip and self.branch != branch and tip in (head, made):
            self._go_to(tip, branch, branch=branch)
        if branch and self.branch == branch:
            if self.head != head:
                self.git("reset", "-q", "--keep", head)
        elif self.head != head or self.branch:
            self._go_to(head, "--detach", head)

    def _tip_of(self, branch: str) -> str:
        name = f"{HEADS}{branch}"
        return self.git("rev-parse", name) if self.asks("rev-parse", "-q", "--verify", name) else ""


def run(argv: Sequence[str], limit: float, *, owner: tuple[int, int] | None = None) -> tuple[int, str, str]:
    """Run a program, as ``owner`` (user and group) where one is given; return exit code, output and errors."""
    # Files that git makes are to be theirs whose checkout it is, and hooks of theirs are not to run as root.
    theirs = owner is not None and os.geteuid() == 0 and owner[0] != 0
    who: dict[str, Any] = {"user": owner[0], "group": owner[1], "extra_groups": []} if owner and theirs else {}
    # Root's own settings are out of their reach, and none of theirs.
    home = {"HOME": _home(owner[0])} if owner and theirs else {}
    try:
        # The module's own run_command is out of reach down here, where no module is known.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
            env={**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **home},
            **who,
        )
    except FileNotFoundError:
        raise InvalidInput("git is not installed on this host.", next_command="apt-get install git") from None
    except subprocess.TimeoutExpired:
        raise StatefulError(f"{argv[0]} {argv[-1]} has not ended within {limit:.0f} s.") from None
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


def checkout_of(directory: str) -> Checkout | None:
    """Return the checkout that a directory is part of; None where it is part of none."""
    root = os.path.realpath(directory)
    while not os.path.lexists(os.path.join(root, ".git")):
        above = os.path.dirname(root)
        if above == root:
            return None
        root = above
    found = Checkout(root)
    found.git("rev-parse", "--show-toplevel")  # says why, where git does not take it for one
    return found
