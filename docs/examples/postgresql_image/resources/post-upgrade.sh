#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# post-upgrade.sh FROM TO, in the new container, which waits for it. It may be run again after it died anywhere.
set -o errexit -o nounset -o pipefail

from=$1 to=$2
if [ "$from" = "$to" ]; then
	rm -f "$IMAGE_VOLUME/upgrading"
	exit 0
fi
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi; }

# Of this upgrade, and of no earlier one.
dump=$IMAGE_VOLUME/dump-$to.sql
if [ -e "$dump" ]; then
	# The restore case. The old data is set aside, and removed by nobody but its admin; 01-restore.sh does the rest on
	# the cluster that the entrypoint makes at the next start.
	echo "$dump" >"$IMAGE_VOLUME/restoring.part"
	mv "$IMAGE_VOLUME/restoring.part" "$IMAGE_VOLUME/restoring"
	if [ -s "$PGDATA/PG_VERSION" ] && [ "$(<"$PGDATA/PG_VERSION")" != "$PG_MAJOR" ]; then
		if [ -e "$PGDATA.before-$to" ]; then
			echo "$PGDATA.before-$to is there already: move it to another place, and run this again" >&2
			exit 1
		fi
		mv "$PGDATA" "$PGDATA.before-$to"
	fi
elif [ -s "$PGDATA/PG_VERSION" ]; then
	# The regular case: the migrations run on the data that is there, on a server that nobody reaches.
	as_postgres pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" -l /tmp/post-upgrade.log start
	trap 'as_postgres pg_ctl -D "$PGDATA" -w -m fast stop' EXIT
	for migration in /docker-entrypoint-initdb.d/*.sh; do
		as_postgres "$migration"
	done
	# Before the state goes: startup.sh would start a second server on the same data.
	as_postgres pg_ctl -D "$PGDATA" -w -m fast stop
	trap - EXIT
fi
rm -f "$IMAGE_VOLUME/upgrading"
