# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster goes from Postgres 13 to 17: by pg_upgrade, by our dump, and by ``pg_dumpall | psql`` by hand.

One run, the same data, interleaved rounds, the original kept by each way. By hand it is done in two ways: through the
engine's client, as the guides have it, and with both programs in one container, which is quicker.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator

from tests.bench.ground import (
    GIGABYTES,
    LARGE,
    ROUNDS,
    Figures,
    bench_project,
    gap,
    last_operation,
    load,
    module,
    show,
    write,
)
from tests.sandbox import _base as sandbox
from tests.sandbox import images
from tests.sandbox.engine import up
from tests.sandbox.projects import Project
from tests.sandbox.stores import Lost

OLD, NEW = "13", "17"
TARGETS = {
    "pg_upgrade_vs_dumpall": "≥ 8",
    "pg_upgrade_large_vs_small": "about 1",
    "dump_vs_dumpall": "≥ 1.3",
}


def measure(part: str) -> None:
    """Measure, print, write."""
    engine = up()
    images.ensure([f"postgres:{OLD}", f"postgres:{NEW}"])
    figures = Figures()
    layout = {"postgres": OLD, "bind_mounts": True}
    with (
        bench_project(engine, "small", GIGABYTES, **layout) as small,
        bench_project(engine, "large", LARGE, **layout) as large,
    ):
        for number in range(ROUNDS):
            print(f"Round {number + 1} of {ROUNDS}", flush=True)
            one_round(small, large, figures)
    report(part, figures)


def one_round(small: Project, large: Project, figures: Figures) -> None:
    """Take every way once. The project that is not measured is stopped: its server would take part."""
    large.compose("stop")
    changed_and_back(small, "pg_upgrade", "pg_upgrade", figures)
    # By hand the application is stopped first: nothing works beside either dump.
    changed_and_back(small, "dump", "dump", figures, loaded=False)
    by_hand_and_back(small, "dumpall", figures, through_the_client)
    by_hand_and_back(small, "dumpall_quick", figures, in_one_container)
    small.compose("stop")
    large.compose("start")
    large.wait_ready()
    changed_and_back(large, "pg_upgrade", "pg_upgrade_large", figures)
    small.compose("start")
    small.wait_ready()


def changed_and_back(project: Project, strategy: str, way: str, figures: Figures, *, loaded: bool = True) -> None:
    """Take a way, and go back to the original, without what the writer wrote since: it would be missed later."""
    with load(project) if loaded else contextlib.nullcontext():
        figures.add(way, gap(project, lambda: change(project, strategy, figures)))
    module(project, "operation", project=project.name, state="rolled_back", backup="none", discard_writes=True)
    # The roll back left the new cluster behind, and the change its backup.
    module(project, "operation", project=project.name, state="committed")
    module(project, "operation", id=last_operation(project), state="committed", remove_backups=True)
    project.wait_ready()
    project.sql("DROP TABLE IF EXISTS sandbox_probe")


def change(project: Project, strategy: str, figures: Figures) -> None:
    result = module(
        project,
        "postgresql_image",
        figures=figures,
        project_src=str(project.directory),
        service="db",
        image=images.ref(f"postgres:{NEW}"),
        strategy=strategy,
        max_downtime=0,
    )
    print(f"    of which inside the module: {result['downtime_seconds']:.3f} s", flush=True)


@contextlib.contextmanager
def beside(project: Project) -> Iterator[str]:
    """Run a new server beside the old one, so that the dump need not lie on the disk; all of it is removed."""
    name, data = f"{project.name}-by-hand", project.directory / f"postgres{NEW}"
    docker = project.engine.docker
    docker(
        "run", "-d", "--name", name, "--network", f"{project.name}_default", "-e", "POSTGRES_HOST_AUTH_METHOD=trust",
        "-v", f"{data}:/var/lib/postgresql/data", images.ref(f"postgres:{NEW}"),
    )  # fmt: skip
    try:
        wait_for(project, name)
        yield name
    finally:
        docker("rm", "-f", "-v", name, check=False)
        shutil.rmtree(data, ignore_errors=True)


def through_the_client(project: Project, new: str) -> None:
    """Pipe as the guides have it: each server's own programs, one pipe of the shell between them."""
    client = project.engine.client
    script = f"""
        {client} exec {project.container("postgres")} pg_dumpall -U postgres |
        {client} exec -i {new} psql -q -U postgres -d postgres >/dev/null 2>&1
    """
    sandbox.run(["sh", "-c", script], env=project.engine.env)


def in_one_container(project: Project, new: str) -> None:
    """Pipe as somebody does who knows that the engine's client is slow: both programs beside the new server."""
    script = "pg_dumpall -h db -U postgres | psql -q -U postgres -d postgres >/dev/null 2>&1"
    project.engine.docker("exec", new, "sh", "-c", script)


def by_hand_and_back(project: Project, way: str, figures: Figures, pipe: Callable[[Project, str], None]) -> None:
    """Do it by hand, until the application can write again, and go back to the old server.

    The application is stopped first, or what it writes would be missing; from then on it is down. Whoever is careful
    has the new server ready before. What the rows alone took, before the service changed over, is told beside it.
    """
    file = project.directory / "docker-compose.yml"
    text = file.read_text()
    new_text = text.replace(f"postgres:{OLD}", f"postgres:{NEW}").replace("./postgres:", f"./postgres{NEW}:")
    with beside(project) as new:
        wanted = project.count_all_rows()
        began = time.monotonic()
        pipe(project, new)
        figures.add(f"{way}_rows", time.monotonic() - began)
        project.engine.docker("stop", "-t", "600", new)
        try:
            file.write_text(new_text)
            project.compose("up", "-d", "db")
            first_write(project)
            figures.add(way, time.monotonic() - began)
            found = project.count_all_rows()
        finally:
            file.write_text(text)
            project.compose("up", "-d", "db")
            project.wait_ready()
    # The write that showed that it can be written.
    wanted["pgbench_history"] += 1
    if new_text == text or found != wanted:
        raise SystemExit(f"by hand, {found} came along of {wanted}")


def first_write(project: Project) -> None:
    """Return when a write is acknowledged, as the application would find it."""

    def writes() -> bool:
        try:
            project.sql("INSERT INTO pgbench_history (tid) VALUES (0)")
        except (Lost, sandbox.SandboxError):
            return False
        return True

    sandbox.wait_for(writes, f"{project.name} takes a write", every=0.005)


def wait_for(project: Project, container: str) -> None:
    """Wait until a new server answers by the network, which it does once its first start is over."""

    def answers() -> bool:
        asked = ("exec", container, "pg_isready", "-h", container, "-U", "postgres")
        return "accepting" in project.engine.docker(*asked, check=False)

    sandbox.wait_for(answers, f"{container} answers", every=0.1)


def report(part: str, figures: Figures) -> None:
    upgrade = figures.median("pg_upgrade")
    found = {
        "pg_upgrade_vs_dumpall": figures.median("dumpall") / upgrade,
        "pg_upgrade_large_vs_small": figures.median("pg_upgrade_large") / upgrade,
        "dump_vs_dumpall": figures.median("dumpall") / figures.median("dump"),
        "pg_upgrade_vs_dumpall_quick": figures.median("dumpall_quick") / upgrade,
        "dump_vs_dumpall_quick": figures.median("dumpall_quick") / figures.median("dump"),
    }
    rounded = {name: round(value, 2) for name, value in found.items()}
    show(figures, rounded, TARGETS)
    print(f"\n  pg_upgrade {upgrade:.2f} s (to reach: ≤ 3)")
    print(f"  peak memory of the module's processes {figures.peak_rss_mb:.0f} MB")
    write(
        part,
        figures,
        rounded,
        pg_upgrade_downtime_s=round(upgrade, 3),
        peak_rss_mb=round(figures.peak_rss_mb, 1),
    )
