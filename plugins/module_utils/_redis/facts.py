# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be known of a Redis server before its data is moved. Changes nothing."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.commands import logs_of
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import Blocker, shell
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.counts import Counts, parse_keyspace
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.session import (
    ErrorReply,
    Reply,
    Session,
    ask,
    checked,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._redis.startup import Startup

SETTINGS = (
    "dir",
    "dbfilename",
    "appendonly",
    "appenddirname",
    "appendfilename",
    "save",
    "shutdown-on-sigterm",
    "rdbchecksum",
)
DEFAULT_DIR = "/data"


@dataclass(frozen=True)
class RedisFacts:
    """A server at one moment. ``save`` holds its save points as CONFIG GET words them; None: CONFIG is out of reach."""

    server: str
    version: tuple[int, ...]
    version_text: str
    run_id: str
    process_id: int
    dir: str
    dbfilename: str
    appendonly: bool
    appenddirname: str
    appendfilename: str
    save: str | None
    shutdown_on_sigterm: str
    config_refusal: str
    databases: Counts
    role: str
    replicas: int
    loading: bool
    bgsave_in_progress: bool
    aof_rewrite_in_progress: bool
    last_save: int
    last_bgsave_ok: bool
    last_aof_write_ok: bool
    changes_since_save: int
    expired_keys: int
    evicted_keys: int
    commands_processed: int
    used_memory: int
    cluster: bool
    modules: tuple[str, ...] = ()
    startup: Startup = field(default_factory=Startup, repr=False)

    @property
    def multipart_aof(self) -> bool:
        """Whether the AOF is a directory with a manifest (7.0 and later) and not one file."""
        return self.version >= (7,) and self.server != "keydb"

    @property
    def starts_with_aof(self) -> bool:
        """Whether the next start reads the AOF: by the command line or file, where they say, else as it runs now."""
        given = self.startup.last("appendonly")
        if given is not None:
            return given.lower() == "yes"
        # Nothing said: the default, no, unless a file that we did not read says otherwise.
        return self.appendonly if self.startup.config_file and not self.startup.directives else False

    def blockers(self, container: str, client: Sequence[str] = ("redis-cli",)) -> list[Blocker]:
        """Return each reason not to move this server's data now. ``client``: the program in ``container`` that asks."""
        asking = ("docker", "exec", container, *client)
        log = logs_of(container)
        found = []

        def add(sentence: str, command: str = "") -> None:
            found.append(Blocker(f"{container}: {sentence}", command))

        if self.role != "master":
            add(
                "Redis is a replica: move the data of its master instead, or detach it (REPLICAOF NO ONE).",
                shell(*asking, "INFO", "replication"),
            )
        if self.cluster:
            add("Redis runs as a node of a cluster, which is not supported: leave it out of mounts.")
        if self.loading:
            add(
                "Redis is still loading its data: try again when it answers PING.",
                shell(*asking, "INFO", "persistence"),
            )
        if self.appendonly and not self.last_aof_write_ok:
            add("Redis could not write its append-only file last time (aof_last_write_status): see its log.", log)
        if not self.appendonly and not self.last_bgsave_ok:
            add("Redis could not save last time (rdb_last_bgsave_status): it would refuse to stop. See its log.", log)
        if self.starts_with_aof and not self.appendonly:
            add(
                "Redis is started with appendonly yes but it was switched off at run time: "
                "its next start would load the old append-only file. Run CONFIG SET appendonly yes first.",
                shell(*asking, "CONFIG", "SET", "appendonly", "yes"),
            )
        for name, now in (("dir", self.dir), ("dbfilename", self.dbfilename)):
            given = self.startup.last(name)
            if given and given not in (".", "./") and posixpath.normpath(given) != posixpath.normpath(now):
                add(
                    f"Redis is started with {name} {given} but uses {now} now: it would start without its data. Set it"
                    " back, or start Redis with what it uses.",
                    shell(*asking, "CONFIG", "GET", name),
                )
        return found


def observe_redis(session: Session) -> RedisFacts:
    """Ask a running server for its facts, in one exec."""
    requests = [("INFO",), ("MODULE", "LIST"), *(("CONFIG", "GET", name) for name in SETTINGS)]
    info, modules, *settings = ask(session, *requests)
    text = str(checked(session, info, requests[0]))
    return facts_from(text, modules, dict(zip(SETTINGS, settings)), session.startup)


def facts_from(info: str, modules: Reply, settings: Mapping[str, Reply], startup: Startup) -> RedisFacts:
    """Put facts together from the replies; pure."""
    said = parse_info(info)
    config = {name: reply[1] for name, reply in settings.items() if isinstance(reply, tuple) and len(reply) == 2}
    refusal = next((reply.text for reply in settings.values() if isinstance(reply, ErrorReply)), "")

    def setting(name: str, default: str) -> str:
        value = config.get(name, startup.last(name))
        return str(value) if value is not None else default

    server = _server_name(said, startup)
    version_text = said.get("valkey_version") or said.get("redis_version", "")
    return RedisFacts(
        server=server,
        version=version_tuple(version_text),
        version_text=version_text,
        run_id=said.get("run_id", ""),
        process_id=int(said.get("process_id", 0)),
        dir=setting("dir", DEFAULT_DIR),
        dbfilename=setting("dbfilename", "dump.rdb"),
        appendonly=said.get("aof_enabled") == "1",
        appenddirname=setting("appenddirname", "appendonlydir"),
        appendfilename=setting("appendfilename", "appendonly.aof"),
        save=str(config["save"] or "") if "save" in config else None,
        shutdown_on_sigterm=setting("shutdown-on-sigterm", "default"),
        config_refusal=refusal,
        databases=parse_keyspace(info),
        role=said.get("role", "master"),
        replicas=int(said.get("connected_slaves", 0)),
        loading=said.get("loading", "0") != "0" or said.get("async_loading", "0") != "0",
        bgsave_in_progress=said.get("rdb_bgsave_in_progress", "0") != "0",
        aof_rewrite_in_progress="1" in (said.get("aof_rewrite_in_progress"), said.get("aof_rewrite_scheduled")),
        last_save=int(said.get("rdb_last_save_time", 0)),
        last_bgsave_ok=said.get("rdb_last_bgsave_status", "ok") == "ok",
        last_aof_write_ok=said.get("aof_last_write_status", "ok") == "ok",
        changes_since_save=int(said.get("rdb_changes_since_last_save", 0)),
        expired_keys=int(said.get("expired_keys", 0)),
        evicted_keys=int(said.get("evicted_keys", 0)),
        commands_processed=int(said.get("total_commands_processed", 0)),
        used_memory=int(said.get("used_memory", 0)),
        cluster=said.get("cluster_enabled", "0") == "1",
        modules=_module_paths(modules),
        startup=startup,
    )


def parse_info(text: str) -> dict[str, str]:
    """Return the fields of INFO."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: value.strip() for name, _colon, value in pairs}


def version_tuple(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _server_name(said: Mapping[str, str], startup: Startup) -> str:
    return said.get("server_name") or ("valkey" if "valkey_version" in said else startup.family)


def _module_paths(reply: Reply) -> tuple[str, ...]:
    # Built-in modules have an empty path; before 7.0 no path is told at all.
    if not isinstance(reply, tuple):
        return ()
    return tuple(str(value) for name, value in zip(reply, reply[1:]) if name == "path" and value)
