# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data moves into a bind mount: each strategy beside the manual procedure and a bare restart.

One run, the same data, interleaved rounds.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from typing import Any

from tests.bench.ground import (
    GIGABYTES,
    LARGE,
    PLACE,
    ROUNDS,
    Figures,
    as_sent,
    bench_project,
    gap,
    last_operation,
    load,
    module,
    show,
    write,
)
from tests.sandbox import images
from tests.sandbox._base import run
from tests.sandbox.engine import up
from tests.sandbox.projects import Project
from tests.tools import tree

STRATEGIES = ("rename", "replica", "copy")


def measure(part: str) -> None:
    """Measure, print, write."""
    engine = up()
    images.ensure(["postgres:17"])
    figures = Figures()
    with bench_project(engine, "small", GIGABYTES) as small:
        with bench_project(engine, "large", LARGE) as large:
            for number in range(ROUNDS):
                print(f"Round {number + 1} of {ROUNDS}", flush=True)
                one_round(small, large, figures)
        figures.others["idle_run_s"] = idle_run(small)
        compare_copying(figures)
    report(part, figures)


def one_round(small: Project, large: Project, figures: Figures) -> None:
    """Take every way once. The project that is not measured is stopped: its server would take part."""
    large.compose("stop")
    with load(small):
        figures.add("restart", gap(small, lambda: restart(small)))
    for strategy in STRATEGIES:
        moved_and_back(small, strategy, strategy, figures)
    by_hand_and_back(small, figures)
    small.compose("stop")
    large.compose("start")
    large.wait_ready()
    moved_and_back(large, "rename", "rename_large", figures)
    small.compose("start")
    small.wait_ready()


def moved_and_back(project: Project, strategy: str, way: str, figures: Figures) -> None:
    with load(project):
        figures.add(way, gap(project, lambda: move(project, strategy, figures)))
    module(project, "operation", project=project.name, state="rolled_back", backup="none", strategy="rename")
    module(project, "operation", id=last_operation(project), state="committed", remove_backups=True)


def move(project: Project, strategy: str, figures: Figures) -> None:
    result = module(
        project,
        "compose_storage",
        figures=figures,
        project_src=str(project.directory),
        strategy=strategy,
        mounts=[{"service": "db", "source": "./postgres"}],
    )
    print(f"    of which inside the module: {result['downtime_seconds']:.3f} s", flush=True)


def restart(project: Project) -> None:
    project.compose("stop")
    project.compose("up", "-d")


def by_hand_and_back(project: Project, figures: Figures) -> None:
    """Do what the guides say: stop, docker cp, rm, cp -r into place, edit, up."""
    file = project.directory / "docker-compose.yml"
    before = file.read_text()
    container = project.container("postgres") or ""
    volume = str(project.mounts("postgres")[0]["Name"])
    copied, target = PLACE / "by-hand", project.directory / "postgres"

    def procedure() -> None:
        project.compose("stop", "db")
        project.engine.docker("cp", "-a", f"{container}:/var/lib/postgresql/data", str(copied))
        project.compose("rm", "-f", "db")
        run(["cp", "-a", str(copied), str(target)])
        file.write_text(before + "    volumes:\n      - ./postgres:/var/lib/postgresql/data\n")
        project.compose("up", "-d", "db")

    with load(project):
        figures.add("manual", gap(project, procedure))
    # Back to the anonymous volume, which 'rm' left behind with the data of the stop.
    project.compose("rm", "-s", "-f", "db")
    file.write_text(before)
    extra = PLACE / "back.yml"
    extra.write_text(
        f"services: {{db: {{volumes: ['old:/var/lib/postgresql/data']}}}}\n"
        f"volumes: {{old: {{external: true, name: {volume}}}}}\n"
    )
    project.compose("-f", str(file), "-f", str(extra), "up", "-d", "db")
    project.compose("up", "-d", "db")
    project.wait_ready("db")
    shutil.rmtree(copied)
    shutil.rmtree(target)
    # The rows of the probe since the stop stay behind with the copy by hand; the next round starts a new table.
    project.sql("DROP TABLE IF EXISTS sandbox_probe")


def idle_run(project: Project) -> float:
    """Return the median time of a run that finds nothing to do, as Ansible sends it."""
    mounts = [{"service": "db", "source": "./postgres"}]
    options: dict[str, Any] = {
        "project_src": str(project.directory),
        "mounts": mounts,
        "strategy": "rename",
        "backup": "none",
    }
    module(project, "compose_storage", **options)
    taken = []
    with as_sent(project, "compose_storage", **options) as again:
        for _number in range(5):
            began = time.monotonic()
            if again()["changed"]:
                raise SystemExit("the second run changed something")
            taken.append(time.monotonic() - began)
    return statistics.median(taken)


def compare_copying(figures: Figures) -> None:
    """Compare the copying pass of a warm copy, and its proof, with ``cp -a`` of the same directory."""
    sys.path.insert(0, str(tree.link()))
    from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree import copy, durable, prove

    source = PLACE / "small" / "project" / "postgres"
    ours, theirs, proofs = [], [], []
    # Neither comes first every time: the second finds more of the source in memory.
    for number in range(4):
        for warm in (number % 2 == 0, number % 2 == 1):
            os.sync()
            if not warm:
                plain = PLACE / "cp"
                began = time.monotonic()
                run(["cp", "-a", str(source), str(plain)])
                theirs.append(time.monotonic() - began)
                shutil.rmtree(plain)
                continue
            staging = durable.staging_path(PLACE / "warm", str(number))
            record = PLACE / f"record-{number}"
            ours.append(copy.warm_copy(source, staging, record=record).copy_seconds)
            began = time.monotonic()
            prove.prove_warm(source, staging, record=record)
            proofs.append(time.monotonic() - began)
            shutil.rmtree(staging)
    figures.others["warm_copy_vs_cp"] = statistics.median(theirs) / statistics.median(ours)
    figures.others["warm_copy_s"] = statistics.median(ours)
    figures.others["warm_proof_s"] = statistics.median(proofs)
    figures.others["cp_s"] = statistics.median(theirs)


TARGETS = {
    "rename_vs_restart": "≤ 1.5",
    "replica_vs_restart": "≤ 2.5",
    "copy_vs_restart": "≤ 4",
    "rename_vs_manual": "≥ 12",
    "replica_vs_manual": "≥ 6",
    "copy_vs_manual": "≥ 4",
    "rename_large_vs_small": "about 1",
    "warm_copy_vs_cp": "≥ 0.8",
}


def ratios(figures: Figures) -> dict[str, float]:
    found = {f"{way}_vs_restart": figures.median(way) / figures.median("restart") for way in STRATEGIES}
    found |= {f"{way}_vs_manual": figures.median("manual") / figures.median(way) for way in STRATEGIES}
    found["rename_large_vs_small"] = figures.median("rename_large") / figures.median("rename")
    found["warm_copy_vs_cp"] = figures.others["warm_copy_vs_cp"]
    return {name: round(value, 2) for name, value in found.items()}


def report(part: str, figures: Figures) -> None:
    found = ratios(figures)
    show(figures, found, TARGETS)
    print(f"\n  peak memory of the module's processes {figures.peak_rss_mb:.0f} MB (to reach: ≤ 100)")
    print(f"  idle second run {figures.others['idle_run_s']:.2f} s (to reach: ≤ 1.5)")
    print(
        f"  warm copy {figures.others['warm_copy_s']:.2f} s, its proof {figures.others['warm_proof_s']:.2f} s,"
        f" cp -a {figures.others['cp_s']:.2f} s"
    )
    others = {name: round(value, 3) for name, value in figures.others.items()}
    write(part, figures, found, peak_rss_mb=round(figures.peak_rss_mb, 1), **others)
