# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster of 15 on Debian, and images that it may go to."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    CandidateImage,
    Collation,
    Extension,
    Inventory,
    Library,
    Setting,
    Subject,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.model import Cluster, Database

CONFIG = "/var/lib/postgresql/data/postgresql.conf"
DATABASES = tuple(
    Database(name, "postgres", 8 << 20, "UTF8", "en_US.utf8", "en_US.utf8", "c", "", name != "template0", template)
    for name, template in (("app", False), ("postgres", False), ("template0", True), ("template1", True))
)
CLUSTER = Cluster(
    server_version_num=150004,
    major="15",
    system_identifier=7,
    superuser="boss",
    in_recovery=False,
    data_directory="/var/lib/postgresql/data",
    config_file=CONFIG,
    hba_file="/var/lib/postgresql/data/pg_hba.conf",
    ident_file="/var/lib/postgresql/data/pg_ident.conf",
    port=5432,
    unix_socket_directories=("/var/run/postgresql",),
    wal_level="replica",
    max_wal_senders=10,
    free_wal_senders=10,
    max_connections=100,
    data_checksums=False,
    wal_segment_bytes=16 << 20,
    archive_mode="off",
    shared_preload_libraries="",
    synchronous_standby_names="",
    password_encryption="scram-sha-256",
    databases=DATABASES,
    tablespaces=(),
    slots=(),
    prepared_transactions=0,
    unlogged_tables=0,
    relations=1100,
    database_bytes=2 << 30,
    wal_bytes=64 << 20,
)
IMAGE = CandidateImage(
    reference="postgres:15",
    id="sha256:" + "15" * 32,
    major="15",
    version="15.4",
    server_version_num=150004,
    libc="glibc",
    libc_version="2.36",
    user=(999, 999),
    data_directory="/var/lib/postgresql/data",
    volumes=("/var/lib/postgresql/data",),
    bin_directory="/usr/lib/postgresql/15/bin",
    share_directory="/usr/share/postgresql/15",
    library_directory="/usr/lib/postgresql/15/lib",
    extensions={"plpgsql": "1.0", "hstore": "1.8"},
    updates={"plpgsql": ("1.0",), "hstore": ("1.4", "1.8")},
    libraries=("auto_explain", "hstore", "plpgsql"),
    locales=("c", "c.utf8", "en_us.utf8", "posix"),
    parameters=("lc_messages", "old_snapshot_threshold", "ssl_ecdh_curve", "work_mem"),
    loader="/lib64/ld-linux-x86-64.so.2",
    icu="72",
)
NEWER = replace(IMAGE, id="sha256:" + "16" * 32, reference="postgres:15.8", version="15.8", server_version_num=150008)
UPGRADED = replace(
    IMAGE,
    reference="postgres:17",
    id="sha256:" + "17" * 32,
    major="17",
    version="17.2",
    server_version_num=170002,
    parameters=("lc_messages", "ssl_ecdh_curve", "transaction_timeout", "work_mem"),
)
DOWNGRADED = replace(
    IMAGE, reference="postgres:13", id="sha256:" + "13" * 32, major="13", version="13.16", server_version_num=130016
)
ALPINE = replace(NEWER, reference="postgres:15-alpine", libc="musl", libc_version="1.2.5", user=(70, 70), locales=())
INVENTORY = Inventory(
    extensions=(Extension("app", "plpgsql", "1.0"), Extension("app", "hstore", "1.8")),
    settings=(Setting("work_mem", "8192", "configuration file", f"{CONFIG}:7"),),
    collations=(Collation("app", "default", "c", "2.36", "2.36", "en_US.utf8"),),
    text_indexes=3,
    auth_methods=("trust", "scram-sha-256"),
    md5_roles=(),
    password_encryption="scram-sha-256",
    text_index_bytes=100 << 20,
    libraries=(Library("app", "hstore", "hstore"),),
)
SUBJECT = Subject(CLUSTER, INVENTORY, IMAGE)
