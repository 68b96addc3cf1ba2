#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pre-upgrade.sh FROM TO, in the old container, while its server runs and nobody else writes.
set -o errexit -o nounset -o pipefail

from=$1 to=$2
if [ "$from" = "$to" ]; then
	exit 0
fi
if [ "${from%%.*}" != "${to%%.*}" ]; then
	# Named once it is whole: half of a dump is never taken for one. It holds passwords, and is the server's alone.
	umask 077
	dump=$IMAGE_VOLUME/dump-$to.sql
	pg_dumpall -U "${POSTGRES_USER:-postgres}" --clean --if-exists -f "$dump.part"
	tail -n 5 "$dump.part" | grep -q '^-- PostgreSQL database cluster dump complete'
	[ "$(id -u)" != 0 ] || chown postgres:postgres "$dump.part"
	sync "$dump.part"
	mv "$dump.part" "$dump"
	umask 022
fi
echo "$to" >"$IMAGE_VOLUME/upgrading"
