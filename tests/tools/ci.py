# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the stages of CI: ``python -m tests.tools.ci [STAGE ...] [-- ARGUMENT ...]``.

Without names all of them run, as many at a time as there are processors, with their
output in build/ci/<stage>.log and, where one fails, on the terminal. What only reads
files is not run again on the same files (``make clean`` forgets that). The last line
counts in pytest's words: its tests, and one check for each stage without tests.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from tests.tools import stages, tree, unchanged
from tests.tools.stages import Stage

TAIL = 200
# Of what a test failed with, in the summary: its first characters.
WHY = 600


@dataclass(frozen=True)
class Outcome:
    """What became of a stage."""

    stage: Stage
    seconds: float
    passed: int
    failed: int
    skipped: int
    note: str = ""
    # The tests that failed, a line each.
    why: tuple[str, ...] = ()


class Processes:
    """The process groups that run now, so that an interrupted run leaves none behind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()

    def run(self, argv: Sequence[str], env: dict[str, str], log: Path | None, limit: float) -> int:
        """Run one command to its end, its output in ``log`` or, without, on the terminal."""
        with open(log or os.devnull, "ab") as output:
            out = output if log else None
            with subprocess.Popen(
                argv,
                cwd=tree.ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
            ) as process:
                with self._lock:
                    self._groups.add(process.pid)
                try:
                    return process.wait(timeout=limit)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    output.write(f"\nstill running after {limit:.0f} s: killed\n".encode())
                    return 124
                except BaseException:
                    # Interrupted: without this the end of the block would wait for it.
                    os.killpg(process.pid, signal.SIGTERM)
                    raise
                finally:
                    with self._lock:
                        self._groups.discard(process.pid)

    def stop(self) -> None:
        """End what runs."""
        with self._lock:
            for group in self._groups:
                # One that ended just now is as good as stopped.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGTERM)


def selection(names: Collection[str]) -> list[Stage]:
    """Return the stages to run: all, or those named and what they need."""
    known = {stage.name: stage for stage in stages.STAGES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no such stage: {', '.join(unknown)}; there are: {', '.join(known)}")
    if not names:
        return [stage for stage in stages.STAGES if not stage.on_request]
    wanted = set(names)
    while needed := {need for name in wanted for need in known[name].after} - wanted:
        wanted |= needed
    return [stage for stage in stages.STAGES if stage.name in wanted]


def engine_env() -> dict[str, str]:
    """Ask the sandbox which engine its users talk to."""
    done = subprocess.run(
        [stages.PYTHON, "-m", "tests.sandbox", "env"], cwd=tree.ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    words = (word for line in done.stdout.splitlines() for word in shlex.split(line, comments=True))
    return dict(word.split("=", 1) for word in words if "=" in word)


def run_stage(stage: Stage, processes: Processes, log: Path | None) -> Outcome:
    """Run a stage's commands until one fails; count its tests."""
    if stage.missing:
        return Outcome(stage, 0, 0, 0, 1, stage.missing)
    read = unchanged.digest_of(stage) if stage.reads else ""
    if log and read and unchanged.passed_before(stage, read):
        return Outcome(stage, 0, 1, 0, 0, "nothing that it reads has changed since it passed")
    began = time.monotonic()
    for earlier in stage.reports():
        earlier.unlink()
    plain = {"NO_COLOR": "1", "PY_COLORS": "0", "ANSIBLE_NOCOLOR": "1"} if log else {}
    env = {**stages.base_env(), **plain, **(engine_env() if "images" in stage.after else {}), **stage.env}
    code = 0
    for argv in stage.commands:
        code = processes.run(argv, env, log, stage.limit)
        if code:
            break
    seconds = time.monotonic() - began
    counted = [junit_counts(path) for path in stage.reports()]
    if counted:
        passed, failed, skipped = (sum(column) for column in zip(*counted, strict=True))
        # pytest can fail without a failed test: nothing collected, an error in its own set-up.
        note = f"exit code {code}" if code else ""
        why = tuple(line for path in stage.reports() for line in junit_failures(path))
        return Outcome(stage, seconds, passed, failed or int(code != 0), skipped, note, why)
    if read and not code:
        unchanged.remember(stage, read)
    return Outcome(stage, seconds, int(code == 0), int(code != 0), 0, f"exit code {code}" if code else "")


def junit_counts(path: Path) -> tuple[int, int, int]:
    """Return the passed, failed and skipped tests of a JUnit file."""
    suites = ET.parse(path).getroot().iter("testsuite")
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return max(total - failed - skipped, 0), failed, skipped


def junit_failures(path: Path) -> list[str]:
    """Return a line for each failed test of a JUnit file: its name and what it failed with."""
    return [
        f"{case.get('classname')}::{case.get('name')}: {' '.join((said.get('message') or '').split())[:WHY]}"
        for case in ET.parse(path).getroot().iter("testcase")
        for said in (*case.iter("failure"), *case.iter("error"))
    ]


def ready(waiting: Sequence[Stage], running: Collection[Stage], done: Collection[str]) -> Stage | None:
    """Return the next stage that may start beside those that run."""
    unfinished = {stage.name for stage in (*waiting, *running)}
    return next(
        (stage for stage in waiting if set(stage.after) <= set(done) and not unfinished.intersection(stage.follows)),
        None,
    )


def run_all(chosen: Sequence[Stage], processes: Processes) -> list[Outcome]:
    """Run the stages, each when what it needs has passed, on all processors."""
    # A terminated run ends like an interrupted one, and takes its processes along.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    waiting = list(chosen)
    outcomes: dict[str, Outcome] = {}
    running: dict[Future[Outcome], Stage] = {}
    slots = max(os.cpu_count() or 1, 2)
    # Logs of an earlier run would be taken for this one's.
    stages.CI.mkdir(parents=True, exist_ok=True)
    for stage in chosen:
        (stages.CI / f"{stage.name}.log").unlink(missing_ok=True)
    with ThreadPoolExecutor(slots) as pool:
        try:
            while waiting or running:
                passed = {name for name, outcome in outcomes.items() if not outcome.failed}
                for stage in [each for each in waiting if any(_failed(outcomes, need) for need in each.after)]:
                    waiting.remove(stage)
                    outcomes[stage.name] = Outcome(stage, 0, 0, 1, 0, f"not run: needs {', '.join(stage.after)}")
                while len(running) < slots and (stage_now := ready(waiting, running.values(), passed)):
                    waiting.remove(stage_now)
                    log = stages.CI / f"{stage_now.name}.log"
                    running[pool.submit(run_stage, stage_now, processes, log)] = stage_now
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    stage = running.pop(future)
                    outcomes[stage.name] = future.result()
                    report(outcomes[stage.name])
        except BaseException:
            processes.stop()
            raise
    return [outcomes[stage.name] for stage in chosen]


def _failed(outcomes: dict[str, Outcome], name: str) -> bool:
    return name in outcomes and bool(outcomes[name].failed)


def report(outcome: Outcome) -> None:
    """Print a line for a stage that passed, the end of its log for one that failed."""
    word = "FAILED" if outcome.failed else "passed" if outcome.passed else "skipped"
    print(f"{outcome.stage.name:14}{word:8}{outcome.seconds:7.1f} s", flush=True)
    log = stages.CI / f"{outcome.stage.name}.log"
    if outcome.failed and log.exists():
        lines = log.read_text(errors="replace").splitlines()
        cut = f"[... {len(lines) - TAIL} lines above, see {log.relative_to(tree.ROOT)}]" if len(lines) > TAIL else ""
        print("\n".join([f"---- {outcome.stage.name}: {outcome.note}", cut, *lines[-TAIL:], "----"]), flush=True)


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the table of the stages, what failed and, last, one line in pytest's words.

    What failed stands at the end too, because the end is what is kept of a long run's output.
    """
    rows = [f"{'stage':14}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}"]
    rows += [
        f"{each.stage.name:14}{each.passed:8}{each.failed:8}{each.skipped:8}{each.seconds:9.1f}  {each.note}".rstrip()
        for each in outcomes
    ]
    counts = {word: sum(getattr(each, word) for each in outcomes) for word in ("failed", "passed", "skipped")}
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no tests ran"
    failures = [f"FAILED {each.stage.name} {line}" for each in outcomes for line in each.why]
    return "\n".join(["", *rows, "", *failures, f"=== {words} in {seconds:.2f}s ==="])


def main(argv: Sequence[str]) -> int:
    """Run what is named; one stage alone writes to the terminal as it goes."""
    at = list(argv).index("--") if "--" in argv else len(argv)
    names, extra = argv[:at], argv[at + 1 :]
    tree.link()
    chosen = selection(names)
    if len(names) == 1:
        return run_one(names[0], chosen, extra)
    return run_and_report(chosen)


def run_and_report(chosen: Sequence[Stage]) -> int:
    """Run the stages and print the table; return 1 when one failed."""
    began = time.monotonic()
    outcomes = run_all(chosen, Processes())
    print(summary(outcomes, time.monotonic() - began))
    return int(any(outcome.failed for outcome in outcomes))


def run_one(name: str, chosen: Sequence[Stage], extra: Sequence[str]) -> int:
    """Run what a stage needs, then the stage itself with ``extra`` arguments and its output on the terminal."""
    processes = Processes()
    stages.CI.mkdir(parents=True, exist_ok=True)
    if any(outcome.failed for outcome in run_all([stage for stage in chosen if stage.name != name], processes)):
        return 1
    stage = next(stage for stage in chosen if stage.name == name)
    if extra and stage.commands:
        stage = replace(stage, commands=(*stage.commands[:-1], (*stage.commands[-1], *extra)))
    try:
        outcome = run_stage(stage, processes, None)
    except BaseException:
        processes.stop()
        raise
    if outcome.note:
        print(f"{name}: {outcome.note}", file=sys.stderr)
    return int(outcome.failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
