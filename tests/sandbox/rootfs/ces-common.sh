#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What the scripts of a dogu share. `trouble WORD` is where a test gets in their way.
as_postgres() { setpriv --reuid=999 --regid=999 --clear-groups "$@"; }
trouble() { [ ! -f "/ces/trouble/$DOGU/$1" ] || . "/ces/trouble/$DOGU/$1"; }

wait_while_upgrading() {
	# Without a limit: whoever sets the key has to remove it.
	while [ "$(doguctl config --default ready local_state)" = upgrading ]; do sleep 0.1; done
}
run_migrations() {
	local script
	for script in /docker-entrypoint-initdb.d/*.sh; do
		echo "running $script"
		trouble "migration-$(basename "$script")"
		as_postgres "$script"
	done
}
with_temporary_server() {
	as_postgres pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" -l /tmp/temporary.log start
	"$@"
	as_postgres pg_ctl -D "$PGDATA" -w -m fast stop
}
initialise() {
	doguctl state installing
	as_postgres initdb -D "$PGDATA" -U postgres -A trust --no-sync >/dev/null
	echo "host all all all password" >>"$PGDATA/pg_hba.conf"
	doguctl config user postgres
	doguctl config -e password "$(doguctl random)"
}
serve_meanwhile() {
	# Waits for a server that may never come.
	setpriv --reuid=999 --regid=999 --clear-groups postgres -D "$PGDATA" -c "listen_addresses=*" >/tmp/meanwhile.log 2>&1 &
	server=$!
	while ! pg_isready -q; do sleep 0.1; done
}
