#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# First generation: the only dump leaves the volume for /tmp while all of PGDATA is deleted; it is restored right here, in
# a server that everybody can reach, and errors in it are passed over. Without a dump the migrations run on the data that
# is there.
set -o errexit -o nounset -o pipefail
. /ces-common.sh

from=$1 to=$2
if [ "$from" = "$to" ]; then
	echo "FROM and TO versions are the same; nothing to do"
	doguctl config --rm local_state
	exit 0
fi
trouble post-upgrade
install -d -o 999 -g 999 -m 3775 /run/postgresql
if [ -e "$PGDATA/postgresqlFullBackup.dump" ]; then
	mv "$PGDATA/postgresqlFullBackup.dump" /tmp/
	find "$PGDATA" -mindepth 1 -delete
	trouble emptied
	initialise
	serve_meanwhile
	trouble restoring
	psql -q -U postgres -f /tmp/postgresqlFullBackup.dump postgres || :
	rm /tmp/postgresqlFullBackup.dump
else
	serve_meanwhile
fi
run_migrations
kill -INT "$server"
wait "$server" || :
doguctl config --rm local_state
