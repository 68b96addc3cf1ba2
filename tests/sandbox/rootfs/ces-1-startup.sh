#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# First generation: the only dump leaves the volume for /tmp while all of PGDATA is deleted, and errors in it are passed
# over.
set -o errexit -o nounset -o pipefail
. /ces-common.sh

initialise() {
	doguctl state installing
	as_postgres initdb -D "$PGDATA" -U postgres -A trust --no-sync >/dev/null
	echo "host all all all password" >>"$PGDATA/pg_hba.conf"
	doguctl config user postgres
	doguctl config -e password "$(doguctl random)"
}

wait_while_upgrading
install -d -o 999 -g 999 -m 3775 /run/postgresql
chown -R 999:999 "$PGDATA"
chmod 700 "$PGDATA"
if [ -z "$(ls -A "$PGDATA")" ]; then
	initialise
	as_postgres pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" -l /tmp/temporary.log start
	run_migrations
	as_postgres pg_ctl -D "$PGDATA" -w -m fast stop
elif [ -e "$PGDATA/postgresqlFullBackup.dump" ]; then
	mv "$PGDATA/postgresqlFullBackup.dump" /tmp/
	find "$PGDATA" -mindepth 1 -delete
	trouble emptied
	initialise
	as_postgres pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" -l /tmp/temporary.log start
	trouble restoring
	psql -q -U postgres -f /tmp/postgresqlFullBackup.dump postgres
	rm /tmp/postgresqlFullBackup.dump
	run_migrations
	as_postgres pg_ctl -D "$PGDATA" -w -m fast stop
fi
doguctl state ready
exec setpriv --reuid=999 --regid=999 --clear-groups postgres
