# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stream out of a service into a file: ``compose_exec_stream`` beside ``docker compose exec -T … > file``.

One run, the same bytes, interleaved rounds; neither comes first every time. Ours runs as Ansible sends it, with the
libraries compiled as they are on a host, and its file is on the disk at the end. By hand it is in memory then: until
that is on the disk too is measured beside it, of the same file.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.bench.ground import PLACE, ROUNDS, Figures, as_sent, show, write
from tests.sandbox.engine import up
from tests.sandbox.projects import Project, simple_project

MEGABYTES = int(os.environ.get("BENCH_STREAM_MB", "1024"))
TARGET = PLACE / "by-module"
TARGETS = {"stream_vs_exec": "≥ 0.8"}
# Lines of text: what compresses to nothing would be an easy guest.
ARGV = ["sh", "-c", f"yes 'a line of some dump, with as many letters as one has' | head -c {MEGABYTES << 20}"]


def measure(part: str) -> None:
    """Measure, print, write."""
    project = simple_project(PLACE / "stream" / "project", postgres=None, engine=up())
    figures = Figures()
    try:
        project.up()
        with as_sent(
            project, "compose_exec_stream", figures=figures, project_src=str(project.directory), service="redis",
            argv=ARGV, stdout_path=str(TARGET), expect="not_empty",
        ) as again:  # fmt: skip
            for number in range(ROUNDS):
                ways = (by_module, by_hand) if number % 2 else (by_hand, by_module)
                for way in ways:
                    os.sync()
                    way(project, figures, again)
    finally:
        project.down()
    ratios = {
        f"stream_vs_{way}": round(figures.median(way) / figures.median("stream"), 2) for way in ("exec", "exec_on_disk")
    }
    show(figures, ratios, TARGETS, what=f"Seconds for {MEGABYTES} MB")
    print(f"\n  peak memory of the module's process {figures.peak_rss_mb:.0f} MB (to reach: ≤ 100)")
    write(part, figures, ratios, megabytes=MEGABYTES, peak_rss_mb=round(figures.peak_rss_mb, 1))


def by_module(_project: Project, figures: Figures, again: Callable[[], dict[str, Any]]) -> None:
    TARGET.unlink(missing_ok=True)
    began = time.monotonic()
    again()
    figures.add("stream", time.monotonic() - began)
    checked(TARGET.stat().st_size)
    TARGET.unlink()


def by_hand(project: Project, figures: Figures, _again: Callable[[], dict[str, Any]]) -> None:
    target = PLACE / "by-hand"
    command = [*project.compose_argv, "exec", "-T", "redis", *ARGV]
    began = time.monotonic()
    with target.open("wb") as file:
        subprocess.run(command, stdout=file, cwd=project.directory, env=project.engine.env, check=True)
        figures.add("exec", time.monotonic() - began)
        os.fsync(file)
    figures.add("exec_on_disk", time.monotonic() - began)
    checked(target.stat().st_size)
    target.unlink()


def checked(size: int) -> None:
    if size != MEGABYTES << 20:
        raise SystemExit(f"{size} bytes came over, of {MEGABYTES << 20}")
