# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo from its first line to its table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import report, setup
from .actor import Actor
from .place import Place
from .play import play

RECREATIONS = (("down",), ("up", "-d"), ("up", "-d", "--force-recreate"))


def say(text: str = "") -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def tell(*, rows: int, keys: int, server: bool) -> int:
    """Run the demo; return 0 when everything is as it claims."""
    say("Setting up an engine and images of Postgres, Redis and Mastodon. The first time takes some minutes.")
    engine = setup.engine()
    place, reason = setup.place_for(engine, server=server)
    if reason:
        say(f"The demo runs {place.text}: {reason}.")
    actor = Actor(place.actor)
    try:
        outcome = _move(actor, place, rows=rows, keys=keys)
    finally:
        actor.close()
    setup.RESULT.write_text(json.dumps(report.as_json(outcome), indent=2) + "\n")
    say(f"\n{report.table(outcome)}\n")
    wrong = report.failures(outcome)
    for sentence in wrong:
        say(f"NOT AS CLAIMED: {sentence}")
    say(_where_to_look(place, outcome))
    return 1 if wrong else 0


def _move(actor: Actor, place: Place, *, rows: int, keys: int) -> report.Outcome:
    laid = actor("lay_out", rows, keys)
    say(f"\nA Mastodon as its admin left it, in {laid['directory']}: {rows:,} rows, {keys:,} keys, and no mount for")
    say("either store. Their data is in anonymous volumes, which a `down` and a prune would lose.")
    say("From now on a writer adds rows and keys all the time and notes each one that was acknowledged.\n")
    actor("write")
    before, mounts_before = actor("count"), actor("mounts")
    played = play(place, _variables(laid), setup.FOLDER, say)
    written = actor("stop_writing")
    say("\nThe data has moved. Now the containers are removed and made anew, twice, with the plain compose commands:")
    for words in RECREATIONS:
        say(f"  $ docker compose {' '.join(words)}")
        actor("compose", *words)
    after, mounts_after, missing = actor("count"), actor("mounts"), actor("missing")
    return report.Outcome(
        before=before, after=after, mounts_before=mounts_before, mounts_after=mounts_after, written=written,
        acknowledged_missing=missing, storage=played.storage, project_dir=laid["directory"],
    )  # fmt: skip


def _variables(laid: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a host in the usual layout need not say."""
    return {
        "mastodon_storage_project_src": laid["directory"],
        "mastodon_storage_operations_dir": laid["operations_dir"],
        "mastodon_storage_state_dir": laid["state_dir"],
        "mastodon_storage_docker_host": laid["docker_host"],
    }


def _where_to_look(place: Place, outcome: report.Outcome) -> str:
    words = [*place.look, "docker", "compose", "--project-directory", outcome.project_dir, "ps"]
    return (
        f"The project still runs. Look around:\n  {' '.join(words)}\n"
        f"The numbers are in build/demo.json, Ansible's own words in build/demo/ansible.log. "
        "`make demo-clean` removes everything."
    )
