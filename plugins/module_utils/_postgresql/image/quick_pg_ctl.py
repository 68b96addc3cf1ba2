# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pg_ctl that is back as soon as its server is: pg_upgrade starts and stops one five times, in the downtime.

pg_ctl itself looks ten times a second whether the server has started or ended, and both take less than that. It stays
the one that acts and that tells of a failure; it is only not waited for once the lock file says what it waits for.
"""

from __future__ import annotations

import os
import shlex

NAME = "pg_ctl"
PATIENT = "pg_ctl.patient"
"""The name beside it that pg_ctl itself has then."""

# By its last word pg_upgrade's call is told, whatever the order of the others. A server before 10 does not write down
# that it is ready: pg_ctl is waited for then, as it is where a lock file lies there from before.
SCRIPT = f"""#!/bin/sh
patient="${{0%/*}}/{PATIENT}" before= reached=
for word; do
  [ "$before" = -D ] && lock="$word/postmaster.pid"
  before=$word
done
ready() {{
  while read -r line || [ "$line" ]; do
    case $line in ready*) return 0 ;; esac
  done <"$lock"
  return 1
}} 2>/dev/null
gone() {{ ! [ -e "$lock" ]; }}
case $before in
  start) gone && reached=ready ;;
  stop) gone || reached=gone ;;
esac
[ "$reached" ] || exec "$patient" "$@"
"$patient" "$@" &
until "$reached"; do
  kill -0 $! 2>/dev/null || {{ wait $!; exit $?; }}
  sleep 0.01
done
kill $! 2>/dev/null
wait $!
exit 0
"""


def beside(programs: str, directory: str, script: str) -> str:
    """Return the line of a shell script that makes ``directory``, of links to ``programs``, with another pg_ctl.

    That is ``script``, which :func:`put` wrote.
    """
    there = shlex.quote(directory)
    return (
        f"mkdir {there} && ln -s {shlex.quote(programs)}/* {there}"
        f" && mv {there}/{NAME} {there}/{PATIENT} && ln -s {shlex.quote(script)} {there}/{NAME}"
    )


def put(path: str) -> None:
    """Write it to ``path``; it runs the :data:`PATIENT` one that lies beside the name by which it is called."""
    with open(path, "x", encoding="ascii") as script:
        script.write(SCRIPT)
    os.chmod(path, 0o755)
