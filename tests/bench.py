# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Downtime per strategy beside the manual procedure and a bare restart: ``make bench``.

One run, the same data, interleaved rounds. The downtime is what a client sees: the longest gap
between two acknowledged inserts while pgbench keeps the server busy. BENCH_GB and BENCH_ROUNDS
set size and rounds. The table goes to the terminal, the figures to ``build/bench-persist.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sandbox import images
from tests.sandbox._base import run
from tests.sandbox.engine import Engine, up
from tests.sandbox.prober import Prober
from tests.sandbox.projects import Project, simple_project

ROOT = Path(__file__).resolve().parent.parent
GIGABYTES = float(os.environ.get("BENCH_GB", "2"))
LARGE = float(os.environ.get("BENCH_LARGE_GB", str(4 * GIGABYTES)))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PLACE = Path(os.environ.get("BENCH_DIR", "/var/lib/selfhost-sandbox-bench"))
STRATEGIES = ("rename", "replica", "copy")
SETTLE = 3.0


@dataclass
class Figures:
    """Seconds of downtime by way, and what else was measured."""

    gaps: dict[str, list[float]] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)
    peak_rss_mb: float = 0.0

    def add(self, way: str, seconds: float) -> None:
        self.gaps.setdefault(way, []).append(seconds)
        print(f"  {way:<22} {seconds:7.3f} s", flush=True)

    def median(self, way: str) -> float:
        return statistics.median(self.gaps[way])


def main() -> int:
    """Measure, print, write."""
    engine = up()
    images.ensure(["postgres:17"])
    figures = Figures()
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    try:
        with bench_project(engine, "small", GIGABYTES) as small:
            with bench_project(engine, "large", LARGE) as large:
                for number in range(ROUNDS):
                    print(f"Round {number + 1} of {ROUNDS}", flush=True)
                    one_round(small, large, figures)
            figures.others["idle_run_s"] = idle_run(small)
            compare_copying(figures)
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)
    report(figures)
    return 0


@contextlib.contextmanager
def bench_project(engine: Engine, name: str, gigabytes: float) -> Iterator[Project]:
    project = simple_project(PLACE / name / "project", redis=None, engine=engine)
    try:
        project.up()
        fill(project, gigabytes)
        yield project
    finally:
        project.down()
        shutil.rmtree(PLACE / name, ignore_errors=True)


def fill(project: Project, gigabytes: float) -> None:
    """Make pgbench's tables (a seventh of the size) and one large table that does not compress."""
    print(f"Filling {gigabytes:g} GB", flush=True)
    project.exec(
        "postgres", "pgbench", "-U", "postgres", "-i", "-q", "-s", str(max(1, int(gigabytes * 10))), "postgres"
    )
    rows = int(gigabytes * 0.85 * 1e9 / 8192)
    project.sql(
        "CREATE TABLE bulk (id int, payload text);"
        "ALTER TABLE bulk ALTER payload SET STORAGE EXTERNAL;"
        f"INSERT INTO bulk SELECT g, repeat(md5(g::text), 250) FROM generate_series(1, {rows}) g;"
        "CHECKPOINT;"
    )


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


@contextlib.contextmanager
def load(project: Project) -> Iterator[None]:
    """Keep pgbench at work from a container of its own, again and again when the server goes."""
    name = f"{project.name}-load"
    project.engine.docker(
        "run", "-d", "--rm", "--name", name, "--network", f"{project.name}_default", "--tmpfs", "/var/lib/postgresql",
        "--entrypoint", "sh", "selfhost-sandbox/postgres:17", "-c",
        "while :; do pgbench -n -h db -U postgres -c 2 -T 3600 postgres >/dev/null 2>&1; sleep 0.05; done",
    )  # fmt: skip
    try:
        yield
    finally:
        project.engine.docker("rm", "-f", "-v", name, check=False)


def gap(project: Project, act: Callable[[], Any]) -> float:
    """Return the longest time without an acknowledged insert while ``act`` ran; no insert may be missing."""
    prober = Prober(project.engine, project.name, redis_service=None).start()
    time.sleep(SETTLE)
    act()
    time.sleep(SETTLE)
    said = prober.stop()
    missing = prober.missing(said)
    if missing["postgres"]:
        raise SystemExit(f"{len(missing['postgres'])} acknowledged rows are missing")
    assert said.postgres is not None
    return said.postgres.longest_gap.seconds


def module(host: Project, name: str, *, figures: Figures | None = None, **options: Any) -> dict[str, Any]:
    """Run a module as a process of its own, as Ansible does, and note its peak memory."""
    options = {**options, "operations_dir": str(host.directory.parent / "state" / "operations")}
    if name != "operation_info":
        options["docker_host"] = host.engine.env["DOCKER_HOST"]
    source = f"ansible_collections.selfhost.stateful.plugins.modules.{name}"
    child = subprocess.Popen(
        [sys.executable, "-m", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **host.engine.env, "PYTHONPATH": str(ROOT / "build/tree")},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode())
    child.stdin.close()
    said = child.stdout.read()
    _pid, _status, used = os.wait4(child.pid, 0)
    if figures is not None:
        figures.peak_rss_mb = max(figures.peak_rss_mb, used.ru_maxrss / 1024)
    result: dict[str, Any] = json.loads(said)
    if result.get("failed"):
        raise SystemExit(f"{name}: {result['msg']}")
    return result


def last_operation(project: Project) -> str:
    """Return the newest operation that was asked for, not the roll back of it."""
    known = module(project, "operation_info", project=project.name)["operations"]
    return str([entry for entry in known if not entry["reverts"]][-1]["id"])


def idle_run(project: Project) -> float:
    """Return the median time of a run that finds nothing to do."""
    mounts = [{"service": "db", "source": "./postgres"}]
    options: dict[str, Any] = {
        "project_src": str(project.directory),
        "mounts": mounts,
        "strategy": "rename",
        "backup": "none",
    }
    module(project, "compose_storage", **options)
    taken = []
    for _number in range(3):
        began = time.monotonic()
        if module(project, "compose_storage", **options)["changed"]:
            raise SystemExit("the second run changed something")
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


def compare_copying(figures: Figures) -> None:
    """Compare the copying pass of a warm copy, and its proof, with ``cp -a`` of the same directory."""
    sys.path.insert(0, str(ROOT / "build/tree"))
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


def report(figures: Figures) -> None:
    print(f"\nDowntime in seconds, {ROUNDS} rounds, {GIGABYTES:g} GB (large: {LARGE:g} GB), pgbench running")
    print(f"  {'way':<14}{'min':>9}{'median':>9}{'max':>9}")
    for way, gaps in figures.gaps.items():
        print(f"  {way:<14}{min(gaps):9.3f}{statistics.median(gaps):9.3f}{max(gaps):9.3f}")
    found = ratios(figures)
    print("\nRatios (vs_manual: how many times shorter)")
    for name, value in found.items():
        print(f"  {name:<24}{value:9.2f}   to reach: {TARGETS[name]}")
    print(f"\n  peak memory of the module's processes {figures.peak_rss_mb:.0f} MB (to reach: ≤ 100)")
    print(f"  idle second run {figures.others['idle_run_s']:.2f} s (to reach: ≤ 1.5)")
    print(
        f"  warm copy {figures.others['warm_copy_s']:.2f} s, its proof {figures.others['warm_proof_s']:.2f} s,"
        f" cp -a {figures.others['cp_s']:.2f} s"
    )
    written = {
        "gigabytes": GIGABYTES,
        "large_gigabytes": LARGE,
        "rounds": ROUNDS,
        "downtime_seconds": {
            way: {"min": min(gaps), "median": statistics.median(gaps), "max": max(gaps)}
            for way, gaps in figures.gaps.items()
        },
        "ratios": found,
        "peak_rss_mb": round(figures.peak_rss_mb, 1),
        **{name: round(value, 3) for name, value in figures.others.items()},
    }
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "bench-persist.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
