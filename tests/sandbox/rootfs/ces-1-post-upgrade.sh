#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# First generation: what has a dump is restored by startup.sh; else the migrations run on the data that is there.
set -o errexit -o nounset -o pipefail
. /ces-common.sh

from=$1 to=$2
if [ "$from" = "$to" ]; then
	echo "FROM and TO versions are the same; nothing to do"
	doguctl config --rm local_state
	exit 0
fi
trouble post-upgrade
if [ ! -e "$PGDATA/postgresqlFullBackup.dump" ] && [ -s "$PGDATA/PG_VERSION" ]; then
	with_temporary_server run_migrations
fi
doguctl config --rm local_state
