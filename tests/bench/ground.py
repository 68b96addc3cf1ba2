# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured on: projects with data, a load beside, and the longest gap of a writer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sandbox.engine import Engine
from tests.sandbox.prober import Prober
from tests.sandbox.projects import Project, simple_project
from tests.tools import stages, tree

GIGABYTES = float(os.environ.get("BENCH_GB", "2"))
LARGE = float(os.environ.get("BENCH_LARGE_GB", str(4 * GIGABYTES)))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PLACE = Path(os.environ.get("BENCH_DIR", "/var/lib/selfhost-sandbox-bench"))
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


@contextlib.contextmanager
def place() -> Iterator[None]:
    """Begin with an empty place, and leave none behind."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)


@contextlib.contextmanager
def bench_project(engine: Engine, name: str, gigabytes: float, **layout: Any) -> Iterator[Project]:
    """Run a project of that size; all of it is removed at the end."""
    project = simple_project(PLACE / name / "project", redis=None, engine=engine, **layout)
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
    options = _here(host, name, options)
    source = f"ansible_collections.selfhost.stateful.plugins.modules.{name}"
    child = subprocess.Popen(
        [sys.executable, "-m", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **host.engine.env, "PYTHONPATH": str(tree.link())},
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode())
    child.stdin.close()
    return _answered(name, child, figures)


def _answered(name: str, child: subprocess.Popen[bytes], figures: Figures | None) -> dict[str, Any]:
    assert child.stdout is not None
    said = child.stdout.read()
    _pid, _status, used = os.wait4(child.pid, 0)
    if figures is not None:
        figures.peak_rss_mb = max(figures.peak_rss_mb, used.ru_maxrss / 1024)
    result: dict[str, Any] = json.loads(said)
    if result.get("failed"):
        raise SystemExit(f"{name}: {result['msg']}")
    return result


def _here(host: Project, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with where the bench keeps its operations and has its engine."""
    if name != "compose_exec_stream":
        options = {**options, "operations_dir": str(host.directory.parent / "state" / "operations")}
    if name != "operation_info":
        options["docker_host"] = host.engine.env["DOCKER_HOST"]
    return options


@contextlib.contextmanager
def as_sent(
    host: Project, name: str, *, figures: Figures | None = None, **options: Any
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Have Ansible send a module once, and hand out what runs that very file again: a task with nothing around it.

    The sending has run it, so that the libraries are compiled by then. ``figures`` take its peak memory.
    """
    folder = host.directory.parent / "sent"
    env = {
        # On a host the libraries are compiled, and what is sent never is.
        **stages.base_env(),
        **host.engine.env,
        "ANSIBLE_COLLECTIONS_PATH": str(tree.link()),
        "ANSIBLE_KEEP_REMOTE_FILES": "1",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_REMOTE_TEMP": str(folder),
    }
    ansible = Path(sys.executable).with_name("ansible")
    words = ("localhost", "-m", f"selfhost.stateful.{name}", "-a", json.dumps(_here(host, name, options)))
    subprocess.run([str(ansible), *words], env=env, check=True, stdout=subprocess.DEVNULL)
    (sent,) = folder.glob(f"*/AnsiballZ_{name}.py")

    def again() -> dict[str, Any]:
        child = subprocess.Popen([sys.executable, str(sent)], env=env, stdout=subprocess.PIPE)
        return _answered(name, child, figures)

    try:
        yield again
    finally:
        shutil.rmtree(folder)


def last_operation(project: Project) -> str:
    """Return the newest operation that was asked for, not the roll back of it."""
    known = module(project, "operation_info", project=project.name)["operations"]
    return str([entry for entry in known if not entry["reverts"]][-1]["id"])


def show(figures: Figures, ratios: Mapping[str, float], targets: Mapping[str, str], *, what: str = "") -> None:
    """Print the seconds of each way and what they are beside each other."""
    usual = f"Downtime in seconds, {GIGABYTES:g} GB (large: {LARGE:g} GB), pgbench running"
    print(f"\n{what or usual}, {ROUNDS} rounds")
    print(f"  {'way':<20}{'min':>9}{'median':>9}{'max':>9}")
    for way, gaps in figures.gaps.items():
        print(f"  {way:<20}{min(gaps):9.3f}{statistics.median(gaps):9.3f}{max(gaps):9.3f}")
    print("\nRatios (against what is done by hand: how many times shorter)")
    for name, value in ratios.items():
        print(f"  {name:<28}{value:9.2f}{f'   to reach: {targets[name]}' if name in targets else ''}")


def write(part: str, figures: Figures, ratios: Mapping[str, float], **more: Any) -> None:
    """Write the figures of a part to its file."""
    written = {
        "gigabytes": GIGABYTES,
        "large_gigabytes": LARGE,
        "rounds": ROUNDS,
        "downtime_seconds": {
            way: {"min": min(gaps), "median": statistics.median(gaps), "max": max(gaps)}
            for way, gaps in figures.gaps.items()
        },
        "ratios": dict(ratios),
        **more,
    }
    tree.BUILD.mkdir(exist_ok=True)
    (tree.BUILD / f"bench-{part}.json").write_text(json.dumps(written, indent=1) + "\n")
