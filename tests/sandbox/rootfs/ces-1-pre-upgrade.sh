#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# First generation, run in the old container: of a major upgrade, a dump of everything into PGDATA itself.
set -o errexit -o nounset -o pipefail
as_postgres() { setpriv --reuid=999 --regid=999 --clear-groups "$@"; }
trouble() { [ ! -f "/ces/trouble/$DOGU/$1" ] || . "/ces/trouble/$DOGU/$1"; }

from=$1 to=$2
if [ "$from" = "$to" ]; then
	echo "FROM and TO versions are the same; nothing to do"
	exit 0
fi
trouble pre-upgrade
if [ "${to%%.*}" -gt "${from%%.*}" ]; then
	echo "dumping all databases"
	as_postgres pg_dumpall -U "$(doguctl config user)" -f "$PGDATA/postgresqlFullBackup.dump"
	trouble dumped
fi
doguctl config local_state upgrading
