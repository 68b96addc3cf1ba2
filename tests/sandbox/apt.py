# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages of the distribution: the machine's own mirror, and suites beside the installed one.

The user's apt configuration is never written to: another suite is reached through
options on apt's command line that name a source list, a pin and a list folder of ours.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ._base import STATE_DIR, SandboxError, locked, run

# The engine of bookworm (20.10) has no compose v2; the next suite's resolves cleanly on it.
NEWER_SUITE = {"bullseye": "trixie", "bookworm": "trixie"}
ENGINE_PACKAGES = {
    "debian": ("docker.io", "docker-cli", "docker-compose", "docker-buildx"),
    "ubuntu": ("docker.io", "docker-compose-v2", "docker-buildx"),
}


def os_release() -> dict[str, str]:
    """Return the fields of ``/etc/os-release``, empty where there is none."""
    path = Path("/etc/os-release")
    if not path.exists():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return {key: value.strip('"') for key, value in pairs}


def can_install() -> bool:
    """Tell whether packages can be installed here: root on Debian or Ubuntu."""
    return os.geteuid() == 0 and os_release().get("ID") in ENGINE_PACKAGES and shutil.which("apt-get") is not None


def mirror() -> str:
    """Return the address of the distribution's main archive as this machine's own apt sources name it."""
    return _main_archive()[0]


def archive(suite: str) -> str:
    """Return the address of the archive that has ``suite``: security updates have one of their own."""
    if not suite.endswith("-security"):
        return mirror()
    # Its lists need not have been fetched.
    named = re.search(r"^'(\S+)/dists/\S+-security/InRelease'", run(["apt-get", "update", "--print-uris"]).stdout, re.M)
    if named is None:
        raise SandboxError(f"apt's sources name no archive of security updates, so {suite} cannot be had")
    return named[1]


def suite() -> str:
    """Return the suite that apt installs from here.

    ``/etc/os-release`` would not do: a package of a newer suite may bring that suite's copy of the file.
    """
    return _main_archive()[1]


def _main_archive() -> tuple[str, str]:
    listed = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(LABEL)", "Created-By: Packages"]
    ).stdout
    for uri, release, label in (line.split(" ", 2) for line in listed.splitlines()):
        # Updates and backports carry a suffix; security and other vendors' archives another label.
        if "-" not in release and label in ("Debian", "Ubuntu"):
            return uri.rstrip("/"), release
    raise SandboxError("apt's sources name no archive of this distribution, so no packages can be fetched")


def keyring() -> Path | None:
    """Return the keyring of Debian's archive, if it is here."""
    path = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    return path if path.exists() else None


def install(packages: Sequence[str], *, suite: str | None = None) -> None:
    """Install ``packages`` without recommendations, from ``suite`` where one is named."""
    options = _suite_options(suite) if suite else []
    target = ["-t", suite] if suite else []
    env = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with locked(STATE_DIR / "apt.lock"):
        lock = ["-o", "DPkg::Lock::Timeout=300"]
        if suite or not _known(packages):
            run(["apt-get", *options, *lock, "-q", "update"], env=env)
        run(["apt-get", *options, *lock, "-qy", "--no-install-recommends", "install", *target, *packages], env=env)


def ensure_program(program: str, package: str) -> str:
    """Return the path of ``program``, installing ``package`` where it is missing and can be had."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        if not can_install():
            raise SandboxError(f"{program} (package {package}) is not installed and cannot be installed from here")
        install([package])
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise SandboxError(f"package {package} did not bring {program}")
    return path


def install_engine() -> None:
    """Install engine, client, compose v2 and buildx from the distribution."""
    distribution = os_release()["ID"]
    install(ENGINE_PACKAGES[distribution], suite=NEWER_SUITE.get(suite()) if distribution == "debian" else None)


def _known(packages: Sequence[str]) -> bool:
    """Tell whether apt's lists, which a slim image comes without, know all of ``packages``."""
    return run(["apt-cache", "show", "--no-all-versions", *packages], check=False).returncode == 0


def _suite_options(suite: str) -> list[str]:
    folder = STATE_DIR / "apt"
    sources, lists = folder / "sources.list.d", folder / "lists"
    for path in (sources, lists / "partial"):
        path.mkdir(parents=True, exist_ok=True)
    for entry in Path("/etc/apt/sources.list.d").glob("*"):
        if entry.suffix in (".list", ".sources"):
            link = sources / entry.name
            link.unlink(missing_ok=True)
            link.symlink_to(entry)
    key = keyring()
    signed = f"Signed-By: {key}\n" if key else ""
    (sources / "selfhost-sandbox.sources").write_text(
        f"Types: deb\nURIs: {mirror()}\nSuites: {suite}\nComponents: main\n{signed}"
    )
    pin = folder / "preferences"
    pin.write_text(f"Package: *\nPin: release n={suite}\nPin-Priority: 100\n")
    return [
        "-o", f"Dir::Etc::SourceParts={sources}",
        "-o", f"Dir::Etc::Preferences={pin}",
        "-o", f"Dir::State::Lists={lists}",
    ]  # fmt: skip
