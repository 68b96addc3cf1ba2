# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An app of dokku's goes to another major version: ``dokku_postgres_image`` beside the commands that are typed by hand.

Downtime is the longest time in which visitors do not see the app, at an address that dokku's page hides. By hand are
``maintenance:on``, ``backup``, ``clone``, ``link``, ``promote`` and ``maintenance:off``, the six of thirteen that fall
into it. BENCH_DOKKU_GB sets the size.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from tests.bench.ground import PLACE, ROUNDS, Figures, show, write
from tests.sandbox import images
from tests.sandbox._base import IMAGE_PREFIX
from tests.sandbox.dokku import endpoint, installation
from tests.sandbox.dokku.front import fetch
from tests.sandbox.dokku.installation import Installation
from tests.sandbox.dokku.service import Service
from tests.sandbox.engine import up
from tests.support import module_run

GIGABYTES = float(os.environ.get("BENCH_DOKKU_GB", "1"))
ROW = 8192
TARGETS = {"physical": "≥ 4", "dump": "≥ 1.3"}
WAYS = ("by hand", *TARGETS)
BUCKET = "bench"
EVERY = 0.02


def measure(part: str) -> None:
    """Measure, print, write."""
    figures = Figures()
    engine = up()
    images.ensure(["postgres:15", "postgres:17"], engine)
    with endpoint.Endpoint() as s3:
        s3.make_bucket(BUCKET)
        for number in range(ROUNDS):
            for way in reversed(WAYS) if number % 2 else WAYS:
                with installation.make(PLACE / f"dokku-{number}-{WAYS.index(way)}", engine=engine) as dokku:
                    app, old = prepared(dokku, s3)
                    os.sync()
                    gap = by_hand(dokku, app, old) if way == WAYS[0] else by_module(dokku, app, old, way)
                    figures.add(way, gap)
                engine.remove_kept_images(dokku.name(""))
    ratios = {way: round(figures.median("by hand") / figures.median(way), 2) for way in TARGETS}
    show(figures, ratios, TARGETS, what=f"Seconds in which visitors do not see the app, {GIGABYTES:g} GB")
    write(part, figures, ratios, dokku_gigabytes=GIGABYTES)


def prepared(dokku: Installation, s3: endpoint.Endpoint) -> tuple[str, Service]:
    """Make an app with so much data, whose service has a login for its backups."""
    app, old = dokku.create_linked("app", "-I", "15", rows=1)
    payload = f"(SELECT string_agg(md5((g * 1000 + c)::text), '') FROM generate_series(1, {ROW // 32}) c)"
    rows = int(GIGABYTES * 1e9 / ROW)
    dokku.sql(
        old,
        "CREATE TABLE bulk (id int PRIMARY KEY, payload text); ALTER TABLE bulk ALTER payload SET STORAGE EXTERNAL;"
        f"INSERT INTO bulk SELECT g, {payload} FROM generate_series(1, {rows}) g; CHECKPOINT",
    )
    dokku.dokku("postgres:backup-auth", old.name, *s3.auth)
    return app, old


def by_hand(dokku: Installation, app: str, old: Service) -> float:
    new = dokku.service(dokku.name("new"))
    with unseen(dokku, app) as gaps:
        dokku.dokku("maintenance:enable", app, check=False)
        dokku.dokku("postgres:backup", old.name, BUCKET, timeout=3600)
        dokku.dokku("postgres:clone", old.name, new.name, "-I", "17", timeout=3600)
        dokku.dokku("postgres:link", new.name, app)
        dokku.dokku("postgres:promote", new.name, app)
        dokku.dokku("maintenance:disable", app)
    # The worker went on behind the page, and what it wrote meanwhile is not there: that is not counted here.
    assert dokku.count(new, "bulk") == dokku.count(old, "bulk")
    return max(gaps)


def by_module(dokku: Installation, app: str, old: Service, strategy: str) -> float:
    new = dokku.service(dokku.name("new"))
    with unseen(dokku, app) as gaps:
        process = module_run.start(
            "dokku_postgres_image",
            {
                "app": app, "image": f"{IMAGE_PREFIX}/postgres", "version": "17", "name": new.name, "bucket": BUCKET,
                "strategy": strategy, "dokku_program": [str(dokku.program)], "docker_host": dokku.engine.host,
                "operations_dir": str(PLACE / "operations"), "ready_timeout": 600,
            },
        )  # fmt: skip
        answer = module_run.answer_of(process, timeout=7200)
    if answer.get("operation_state") != "done":
        raise SystemExit(str(answer.get("msg")))
    if dokku.missing(app, new):
        raise SystemExit("acknowledged rows are missing")
    assert dokku.count(new, "bulk") == int(GIGABYTES * 1e9 / ROW)
    return max(gaps)


@contextlib.contextmanager
def unseen(dokku: Installation, app: str) -> Iterator[list[float]]:
    """Ask for the app all the time, as a visitor, and note in how many seconds it was not seen."""
    url, gaps, over = f"{dokku.front(app)}/health", [0.0], threading.Event()

    def ask() -> None:
        seen = time.monotonic()
        while not over.is_set():
            if fetch(url)[0] == 200:
                now = time.monotonic()
                gaps.append(now - seen)
                seen = now
            time.sleep(EVERY)
        gaps.append(time.monotonic() - seen)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        time.sleep(1)
        yield gaps
        time.sleep(1)
    finally:
        over.set()
        asking.join()
