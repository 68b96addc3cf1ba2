# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``cesapp`` of a CES whose registry is the directory that this program lies in.

    cesapp upgrade dogu NAME [VERSION] [--force]
    cesapp list-upgrades
    cesapp recreate [--start] NAME
    cesapp start NAME
    cesapp stop NAME

An upgrade that breaks off leaves everything as it is at that moment: dependents that were stopped stay so, and the
registry says what the last step wrote.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

CES = Path(__file__).resolve().parent
DATA = "/var/lib/postgresql"


class Broken(Exception):
    """The step that failed, in words."""


def dogus() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((CES / "dogus.json").read_text())
    return found


def current(name: str) -> str:
    return (CES / "dogu" / name).read_text().strip()


def docker(*argv: str, check: bool = True, capture: bool = True) -> str:
    done = subprocess.run(["docker", *argv], capture_output=capture, text=True, check=False)
    if check and done.returncode:
        raise Broken(f"docker {argv[0]}: exit code {done.returncode} {(done.stderr or '').strip()}")
    return (done.stdout or "").strip()


def versions(name: str) -> list[str]:
    """Return what is offered, oldest first."""
    tags = docker("images", "--format", "{{.Tag}}", dogus()[name]["image"]).split()
    return sorted((tag for tag in tags if re.fullmatch(r"[\d.]+-\d+", tag)), key=parts)


def parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def create(name: str, version: str) -> None:
    dogu = dogus()[name]
    docker(
        "run", "-d", "--name", name, "--hostname", name, "--network", dogu.get("network", "bridge"),
        "--restart", "unless-stopped", "--stop-timeout", "10", "--label", "selfhost.stateful.sandbox=1",
        "-e", f"DOGU={name}", "-v", f"{CES}:/ces",
        *(["-v", f"{dogu['data']}:{DATA}"] if dogu.get("data") else []),
        f"{dogu['image']}:{version}", *dogu.get("command", []),
    )  # fmt: skip


def install(name: str, version: str) -> None:
    (CES / "dogu").mkdir(exist_ok=True)
    (CES / "dogu" / name).write_text(version)
    create(name, version)


def dependents(name: str) -> list[str]:
    return [other for other, dogu in dogus().items() if name in dogu.get("dependencies", [])]


def upgrade(name: str, wanted: str, *, force: bool) -> None:
    before = current(name)
    offered = versions(name)
    wanted = wanted or offered[-1]
    if wanted not in offered:
        raise Broken(f"{name} {wanted} is not offered")
    if wanted == before and not force:
        print(f"{name} is at {wanted} already")
        return
    if parts(wanted) < parts(before) and not force:
        raise Broken(f"{wanted} is older than {before}")
    for other in dependents(name):
        docker("stop", "-t", "2", other, check=False)
    image = f"{dogus()[name]['image']}:{wanted}"
    # The new version knows what has to be done: its script is run in the old container.
    source = docker("create", image)
    try:
        script = subprocess.run(["docker", "cp", f"{source}:/pre-upgrade.sh", "-"], capture_output=True, check=True)
    finally:
        docker("rm", "-v", source)
    subprocess.run(["docker", "cp", "-", f"{name}:/"], input=script.stdout, check=True)
    if subprocess.run(["docker", "exec", name, "/pre-upgrade.sh", before, wanted], check=False).returncode:
        raise Broken("pre-upgrade failed")
    trouble("between")
    docker("stop", "-t", "10", name, check=False)
    docker("rm", "-v", name)
    trouble("removed")
    install(name, wanted)
    if subprocess.run(["docker", "exec", name, "/post-upgrade.sh", before, wanted], check=False).returncode:
        raise Broken("post-upgrade failed")
    for other in dependents(name):
        docker("start", other, check=False)
    print(f"{name} is at {wanted} now")


def trouble(word: str) -> None:
    """Run what a test has laid in the way, once."""
    script = CES / "trouble" / "cesapp" / word
    if script.exists() and subprocess.run(["sh", str(script)], check=False).returncode:
        raise Broken(f"broken off ({word})")


def main(argv: list[str]) -> int:
    force = "--force" in argv
    words = [word for word in argv if word != "--force"]
    with open(CES / "calls", "a", encoding="utf-8") as calls:
        calls.write(" ".join(argv) + "\n")
    try:
        if words[:2] == ["upgrade", "dogu"] and len(words) in (3, 4):
            upgrade(words[2], words[3] if len(words) == 4 else "", force=force)
        elif words == ["list-upgrades"]:
            for name in dogus():
                newer = [version for version in versions(name) if parts(version) > parts(current(name))]
                if newer:
                    print(f"{name}  {current(name)}  {newer[-1]}")
        elif words[:1] == ["recreate"] and len(words) in (2, 3):
            docker("rm", "-fv", words[-1], check=False)
            create(words[-1], current(words[-1]))
            if "--start" not in words:
                docker("stop", words[-1])
        elif words[:1] == ["start"] and len(words) == 2:
            docker("start", words[1])
        elif words[:1] == ["stop"] and len(words) == 2:
            docker("stop", "-t", "30", words[1])
        elif words[:1] == ["install"] and len(words) == 3:
            install(words[1], words[2])
        else:
            print(__doc__, file=sys.stderr)
            return 64
    except (Broken, OSError, subprocess.CalledProcessError) as error:
        print(f"cesapp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0)
    sys.exit(main(sys.argv[1:]))
