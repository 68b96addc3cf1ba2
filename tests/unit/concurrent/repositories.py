# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real repositories with three releases, as a clone of them would be."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

OLD, NEXT, MOVED = "v0.2.5", "v0.3.0", "v1.0.0"
COMPOSE = "services:\n  api:\n    image: host:{}\n\n\n\n  # what is one's own stands below\n\n"
RELEASES = {
    OLD: {"docs/compose.yml": COMPOSE.format(OLD), "docs/config.yaml": "a: 1\n", "README.md": "old\n"},
    NEXT: {"docs/compose.yml": COMPOSE.format(NEXT), "docs/config.yaml": "a: 1\n", "README.md": "next\n"},
    MOVED: {"_docs/compose.yml": COMPOSE.format(MOVED), "_docs/config.yaml": "a: 1\n", "README.md": "next\n"},
}
OURS = COMPOSE.format(OLD) + "  own:\n    image: own\n"
IGNORED = "data\n"


@dataclass(frozen=True)
class Repository:
    """A working tree, with git as its admin would call it."""

    root: Path

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=admin", "-c", "user.email=admin@example.com")
        argv = ["git", "-C", str(self.root), *who, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, name: str, content: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def commit(self, name: str, content: str) -> str:
        self.write(name, content)
        self.git("add", "--", name)
        self.git("commit", "-q", "-m", f"Change {name}")
        return self.git("rev-parse", "HEAD")

    def release(self, version: str, name: str, content: str) -> None:
        """Have a release that adds a file, also one that is ignored here; what is checked out stays."""
        head = self.git("rev-parse", "--abbrev-ref", "HEAD").replace("HEAD", self.git("rev-parse", "HEAD"))
        self.git("checkout", "-q", "--detach", NEXT)
        self.write(name, content)
        self.git("add", "-f", "--", name)
        self.git("commit", "-q", "-m", f"Add {name}")
        self.git("tag", version)
        self.git("checkout", "-q", head)

    @property
    def state(self) -> tuple[str, bool, dict[str, str]]:
        """Return where it is and what is changed in it, whether a merge is open, and every file."""
        paths = [path for path in self.root.rglob("*") if path.is_file() and ".git" not in path.parts]
        contents = {str(path.relative_to(self.root)): path.read_text(encoding="utf-8") for path in paths}
        return (
            self.git("status", "--porcelain=v2", "--branch"),
            (self.root / ".git/MERGE_HEAD").exists(),
            contents,
        )


def clone(root: Path, at: str = OLD) -> Repository:
    """Make a repository with every release, and its checkout at one of them, on no branch.

    On the branch ``mine`` a service of the admin's own was added to the oldest release.
    """
    lines = []
    for place, (version, files) in enumerate(RELEASES.items()):
        lines += ["commit refs/remotes/origin/main", f"committer Them <them@example.com> {1_700_000_000 + place} +0000"]
        lines += [_data(f"Release {version}\n"), "deleteall", f"M 100644 inline .gitignore\n{_data(IGNORED)}"]
        lines += [f"M 100644 inline {path}\n{_data(content)}" for path, content in files.items()]
        lines += [f"reset refs/tags/{version}", "from refs/remotes/origin/main", ""]
    lines += ["commit refs/heads/mine", "committer Admin <admin@example.com> 1800000000 +0000", _data("Mine\n")]
    lines += [f"from refs/tags/{OLD}", f"M 100644 inline docs/compose.yml\n{_data(OURS)}", ""]
    subprocess.run(["git", "init", "-q", "--initial-branch=main", str(root)], check=True)
    made = Repository(root)
    subprocess.run(["git", "-C", str(root), "fast-import", "--quiet"], check=True, input="\n".join(lines).encode())
    made.git("checkout", "-q", "--detach", at)
    return made


def _data(content: str) -> str:
    return f"data {len(content.encode())}\n{content}"
