#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# First generation: makes a fresh cluster where there is none, and serves.
set -o errexit -o nounset -o pipefail
. /ces-common.sh

wait_while_upgrading
install -d -o 999 -g 999 -m 3775 /run/postgresql
trouble startup
chown -R 999:999 "$PGDATA"
chmod 700 "$PGDATA"
if [ -z "$(ls -A "$PGDATA")" ]; then
	initialise
	as_postgres pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" -l /tmp/temporary.log start
	run_migrations
	as_postgres pg_ctl -D "$PGDATA" -w -m fast stop
fi
doguctl state ready
exec setpriv --reuid=999 --regid=999 --clear-groups postgres
