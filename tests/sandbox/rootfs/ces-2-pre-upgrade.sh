#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Second generation, run in the old container: of a major upgrade, or of data that lies where the first had it, a dump of
# everything into a directory of its own.
set -o errexit -o nounset -o pipefail
as_postgres() { setpriv --reuid=999 --regid=999 --clear-groups "$@"; }
trouble() { [ ! -f "/ces/trouble/$DOGU/$1" ] || . "/ces/trouble/$DOGU/$1"; }
less_than() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]; }

from=$1 to=$2 directory=/var/lib/postgresql/backup
dump() {
	local file
	file=$directory/full_backup_$(date +%F).sql
	install -d -o 999 -g 999 "$directory"
	if [ -f "$directory/backup.lock" ]; then
		echo "$directory/backup.lock is there already: a migration runs, or was broken off" >&2
		exit 1
	fi
	touch "$directory/backup.lock"
	as_postgres pg_dumpall -U "$(doguctl config user)" --clean --if-exists -f "$file"
	trouble dumped
	doguctl config migration_backup_path "$file"
	rm "$directory/backup.lock"
}

if [ "$from" = "$to" ]; then
	echo "FROM and TO versions are the same; nothing to do"
	exit 0
fi
trouble pre-upgrade
if [ "${to%%.*}" -gt "${from%%.*}" ] || less_than "${from%%-*}" 15.18; then
	dump
fi
doguctl config local_state upgrading
