#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Second generation: where there is a dump the target is emptied, and 01-restore.sh restores at the next start; else the
# migrations run on the data that is there.
set -o errexit -o nounset -o pipefail
. /ces-common.sh

from=$1 to=$2
if [ "$from" = "$to" ]; then
	echo "FROM and TO versions are the same; nothing to do"
	doguctl config --rm local_state
	exit 0
fi
trouble post-upgrade
chown -R 999:999 /var/lib/postgresql
if [ "$(doguctl config -d empty migration_backup_path)" != empty ]; then
	if [ -s /var/lib/postgresql/PG_VERSION ]; then
		# Where the first generation had it.
		find /var/lib/postgresql -mindepth 1 -maxdepth 1 ! -name backup ! -name data ! -name "$PG_MAJOR" -exec rm -rf {} +
	fi
	rm -rf "$PGDATA"
	install -d -o 999 -g 999 -m 700 "$(dirname "$PGDATA")" "$PGDATA"
	trouble emptied
elif [ -s "$PGDATA/PG_VERSION" ]; then
	install -d -o 999 -g 999 -m 3775 /run/postgresql
	with_temporary_server run_migrations
fi
doguctl config --rm local_state
