# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bucket that backups go to, as whoever has to restore from it sees it: objects, sizes, and what they hold."""

from __future__ import annotations

import contextlib
import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import archive
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

ENCRYPTED = ".gpg"
PIECE = 1 << 20
CONNECTING, READING = 20.0, 300.0


@dataclass(frozen=True)
class Auth:
    """A login for a bucket, in the order in which the plugin takes it."""

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    region: str = ""
    signature_version: str = ""
    endpoint_url: str = ""

    def words(self) -> tuple[str, ...]:
        return (self.key_id, self.secret, self.region, self.signature_version, self.endpoint_url)

    def __bool__(self) -> bool:
        return bool(self.key_id)


@dataclass(frozen=True)
class Kept:
    """A backup in a bucket. ``dump_bytes`` is the dump's own size as it was read back; 0 where it is encrypted."""

    bucket: str
    key: str
    size_bytes: int
    dump_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__dataclass_fields__}


class Bucket:
    """One bucket, reached with a login, or with what the host itself is allowed to."""

    def __init__(self, name: str, auth: Auth, client: Any) -> None:
        self.name = name
        self._auth = auth
        self._client = client

    def objects(self, service: str) -> dict[str, int]:
        """Return the sizes of a service's backups by their keys."""
        found: dict[str, int] = {}
        with self._told("listed"):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix_of(service)
            ):
                found.update({each["Key"]: int(each["Size"]) for each in page.get("Contents", ())})
        return {key: size for key, size in found.items() if is_backup(key, service)}

    def read_back(self, key: str, size: int) -> Kept:
        """Read a backup to its end; raises where it is empty, or holds no dump with all that this announces."""
        if size == 0:
            raise self._useless(key, "is empty")
        if key.endswith(ENCRYPTED):
            return Kept(self.name, key, size, 0)
        try:
            with (
                self._told("read"),
                contextlib.closing(self._client.get_object(Bucket=self.name, Key=key)["Body"]) as body,
            ):
                dump = dump_bytes(body)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise self._useless(key, f"cannot be read to its end ({error})") from error
        except archive.Broken as error:
            raise self._useless(key, f"holds a dump that {error}") from error
        if dump == 0:
            raise self._useless(key, "holds no dump of pg_dump's")
        return Kept(self.name, key, size, dump)

    def _useless(self, key: str, what: str) -> StatefulError:
        return StatefulError(
            f"The backup {key} in the bucket {self.name} {what}, and the plugin called it a success.",
            state="the service runs, and this backup is of no use; those before it are as they were",
            next_command="df -h /tmp",
        )

    @contextlib.contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        import botocore.exceptions

        try:
            yield
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise StatefulError(
                f"The bucket {self.name} could not be {verb}: {error}.",
                state="the service runs; whether a backup is in the bucket is not known",
            ) from error


def open_bucket(name: str, auth: Auth) -> Bucket:
    """Reach a bucket, by any endpoint and signature version; without a login as the host itself."""
    import botocore.config
    import botocore.session

    config = botocore.config.Config(
        signature_version=auth.signature_version or None,
        connect_timeout=CONNECTING,
        read_timeout=READING,
        # Names of buckets are no host names at an endpoint of one's own.
        s3={"addressing_style": "path"} if auth.endpoint_url else {},
    )
    client = botocore.session.Session().create_client(
        "s3",
        region_name=auth.region or "us-east-1",
        endpoint_url=auth.endpoint_url or None,
        aws_access_key_id=auth.key_id or None,
        aws_secret_access_key=auth.secret or None,
        config=config,
    )
    return Bucket(name, auth, client)


def prefix_of(service: str) -> str:
    return f"postgres-{service}-"


def is_backup(key: str, service: str) -> bool:
    """Tell a service's backups from those of one whose name begins alike: a moment follows the name."""
    rest = key[len(prefix_of(service)) :]
    return rest[:4].isdigit() and rest[4:5] == "-" and ".tgz" in rest


def dump_bytes(stream: Any) -> int:
    """Return the size of the dump in an archive that is read to its end; 0 where it holds none.

    Raises :class:`archive.Broken` where not all of a dump is in it: tar makes a whole archive of half a file.
    """
    found = 0
    # tarfile itself reads a stream without a look at the check sum at its end.
    with gzip.GzipFile(fileobj=stream) as content:
        with tarfile.open(fileobj=content, mode="r|", bufsize=PIECE) as members:
            for member in members:
                file = members.extractfile(member) if member.isfile() else None
                if file is not None:
                    with contextlib.suppress(archive.NoArchive):
                        found = archive.read_to_end(file).size_bytes
        while content.read(PIECE):
            pass
    return found
