#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Keeps the contract of the docker-library postgres image: the same variables,
# the same first start, the same defaults for authentication.
set -Eeuo pipefail

say() { echo "sandbox-postgres: $*" >&2; }
die() { say "$*"; exit 1; }

# NAME or NAME_FILE, never both; $2 is the default.
from_env_or_file() {
	local name=$1 file_name=${1}_FILE default=${2:-} value
	if [ -n "${!name:-}" ] && [ -n "${!file_name:-}" ]; then
		die "both $name and $file_name are set; they exclude each other"
	fi
	value=${!name:-$default}
	[ -z "${!file_name:-}" ] || value=$(<"${!file_name}")
	export "$name=$value"
	unset "$file_name"
}

fresh() { [ ! -s "$PGDATA/PG_VERSION" ]; }

# From 18 the data lies in a folder named for its major. A mount made for an older
# image would be ignored and a new, empty cluster made beside it: refuse instead.
refuse_old_layout() {
	[ "$PG_MAJOR" -ge 18 ] && [ "$PGDATA" = "/var/lib/postgresql/$PG_MAJOR/docker" ] && fresh || return 0
	local found=() place
	for place in /var/lib/postgresql /var/lib/postgresql/data /var/lib/postgresql/*/docker; do
		[ ! -s "$place/PG_VERSION" ] || found+=("$place")
	done
	if [ ${#found[@]} -eq 0 ] && mountpoint -q /var/lib/postgresql/data; then
		found+=("/var/lib/postgresql/data (a mount that nothing would use)")
	fi
	[ ${#found[@]} -gt 0 ] || return 0
	die "in 18+, these images keep the data below /var/lib/postgresql/<major>/docker and expect one mount at" \
		"/var/lib/postgresql; found data or mounts of the older layout: ${found[*]}"
}

make_places() {
	# A tmpfs on /run hides the image's own folder.
	mkdir -p "$PGDATA" /var/run/postgresql
	chmod 00700 "$PGDATA" 2>/dev/null || :
	chmod 03775 /var/run/postgresql 2>/dev/null || :
	[ -z "${POSTGRES_INITDB_WALDIR:-}" ] || mkdir -p "$POSTGRES_INITDB_WALDIR"
	[ "$(id -u)" = 0 ] || return 0
	find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
	if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
		find "$POSTGRES_INITDB_WALDIR" \! -user postgres -exec chown postgres '{}' +
		chmod 700 "$POSTGRES_INITDB_WALDIR"
	fi
}

require_password() {
	if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
		die "the database is new and has no superuser password: set POSTGRES_PASSWORD" \
			"(or POSTGRES_HOST_AUTH_METHOD=trust, which lets everybody in without one)"
	fi
}

make_cluster() {
	local extra=()
	[ -z "${POSTGRES_INITDB_WALDIR:-}" ] || extra+=(--waldir "$POSTGRES_INITDB_WALDIR")
	# Word splitting of POSTGRES_INITDB_ARGS is part of the contract.
	eval "initdb --username=\"\$POSTGRES_USER\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") \
		\"\${extra[@]}\" ${POSTGRES_INITDB_ARGS:-}"
	local method=${POSTGRES_HOST_AUTH_METHOD:-}
	[ -n "$method" ] || method=$(postgres -C password_encryption "$@")
	printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

run_sql() {
	PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

run_init_files() {
	local file
	for file in /docker-entrypoint-initdb.d/*; do
		case $file in
		*.sh) if [ -x "$file" ]; then say "running $file"; "$file"; else say "sourcing $file"; . "$file"; fi ;;
		*.sql) say "running $file"; run_sql --dbname "$POSTGRES_DB" -f "$file" ;;
		*.sql.gz) say "running $file"; gunzip -c "$file" | run_sql --dbname "$POSTGRES_DB" ;;
		*.sql.xz) say "running $file"; xzcat "$file" | run_sql --dbname "$POSTGRES_DB" ;;
		*.sql.zst) say "running $file"; zstd -dc "$file" | run_sql --dbname "$POSTGRES_DB" ;;
		*) say "ignoring $file" ;;
		esac
	done
}

first_start() {
	[ "$1" != postgres ] || shift
	require_password
	# A folder that cannot be listed would look like one without files, after the cluster is made.
	ls /docker-entrypoint-initdb.d/ > /dev/null
	make_cluster "$@"
	# The server of the first start listens on its socket alone: nobody connects half-way.
	local options="-c listen_addresses='' -p ${PGPORT:-5432}"
	[ $# -eq 0 ] || options+=$(printf ' %q' "$@")
	PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -w -o "$options" start
	export PGPASSWORD=$POSTGRES_PASSWORD
	if [ "$POSTGRES_DB" != postgres ]; then
		run_sql --dbname postgres --set db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db";'
	fi
	run_init_files
	PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
	unset PGPASSWORD
	say "first start done; ready for start up"
}

main() {
	[ "${1:0:1}" != - ] || set -- postgres "$@"
	local arg
	for arg; do
		case $arg in -\? | --help | --describe-config | -V | --version) exec "$@" ;; esac
	done
	[ "$1" = postgres ] || exec "$@"
	from_env_or_file POSTGRES_PASSWORD
	from_env_or_file POSTGRES_USER postgres
	from_env_or_file POSTGRES_DB "$POSTGRES_USER"
	from_env_or_file POSTGRES_INITDB_ARGS
	make_places
	if [ "$(id -u)" = 0 ]; then
		exec setpriv --reuid postgres --regid postgres --init-groups "$BASH_SOURCE" "$@"
	fi
	if fresh; then
		refuse_old_layout
		shopt -s nullglob
		first_start "$@"
	else
		say "$PGDATA holds a database; its settings stay as they are"
	fi
	exec "$@"
}

main "$@"
