# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``postgres:backup*``: a dump as an object in a bucket, and when."""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import sigv4
from .ground import Host
from .service import Service, existing
from .services import dump_command
from .words import Fail, plain, raw_error

AUTH = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_SIGNATURE_VERSION", "ENDPOINT_URL")


def _service(host: Host, args: list[str]) -> Service:
    return existing(host, args[0] if args else "")


def _auth(host: Host, args: list[str]) -> None:
    service = _service(host, args)
    for value, what in zip((*args[1:3], "", "")[:2], ("access key id", "secret access key"), strict=True):
        if not value:
            raise Fail(f"Please specify an aws {what}")
    directory = service.root / "backup"
    if directory.exists():
        raise Fail(f"mkdir: cannot create directory '{directory}': File exists", marked=False)
    directory.mkdir()
    for name, value in zip(AUTH, args[1:], strict=False):
        if value:
            service.write(f"backup/{name}", value)


def _deauth(host: Host, args: list[str]) -> None:
    directory = _service(host, args).root / "backup"
    for path in directory.glob("*"):
        path.unlink()
    if directory.exists():
        directory.rmdir()


def _backup(host: Host, args: list[str]) -> None:
    service = _service(host, args)
    if len(args) < 2:
        raise Fail("Please specify an aws bucket for the backup")
    use_iam = args[2:3] in (["--use-iam"], ["-u"])
    if args[2:] and not use_iam:
        raise Fail("Provide AWS credentials or use the --use-iam flag")
    if not use_iam:
        for name in AUTH[:2]:
            if not (service.root / "backup" / name).exists():
                raise Fail(f"Missing {name} file")
    if service.status == "missing":
        raise Fail("Service container does not exist")
    if not service.running:
        raise Fail("Service container is not running")
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime())
    with tempfile.TemporaryDirectory(prefix="dokku-backup-") as folder:
        dump = Path(folder, "export")
        with dump.open("wb") as handle:
            code = host.docker.pass_on(*dump_command(service), stdout=handle)
        if code:
            raise Fail("", code, marked=False)
        if host.fault("backup-torn", service.name):
            os.truncate(dump, dump.stat().st_size - 100)
        archive = Path(folder, "backup.tgz")
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(dump, "backup/export")
        empty = host.fault("backup-empty", service.name)
        _upload(service, args[1], f"postgres-{service.name}-{stamp}.tgz", b"" if empty else archive.read_bytes())
    plain(f"{stamp}: The backup for postgres-{service.name} finished successfully.")


def _upload(service: Service, bucket: str, key: str, body: bytes) -> None:
    values = {name: service.read(f"backup/{name}") for name in AUTH}
    region = values["AWS_DEFAULT_REGION"] or "us-east-1"
    endpoint = values["ENDPOINT_URL"] or f"https://s3.{region}.amazonaws.com"
    request = sigv4.put(
        f"{endpoint.rstrip('/')}/{bucket}/{key}", body,
        key_id=values["AWS_ACCESS_KEY_ID"], secret=values["AWS_SECRET_ACCESS_KEY"], region=region,
    )  # fmt: skip
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60):
            return
    except urllib.error.HTTPError as exc:
        words = exc.read().decode(errors="replace").strip()
        raw_error(f"upload failed: - to s3://{bucket}/{key} An error occurred: {exc.code} {words}")
    except OSError as exc:
        raw_error(f"upload failed: - to s3://{bucket}/{key} Could not connect to the endpoint URL: {exc}")
    plain("Backup of backup/ has failed. Please investigate the issue.")
    raise Fail("", marked=False)


def _schedule(host: Host, args: list[str]) -> None:
    service = _service(host, args)
    if len(args) < 3:
        raise Fail("Please specify a schedule and an aws bucket for the backup")
    schedule, bucket, *flag = args[1:]
    if flag and flag[0] not in ("--use-iam", "-u"):
        raise Fail("Invalid flag provided, only '--use-iam' allowed")
    path = host.cron_file(service.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    last = flag[0] if flag else ""
    path.write_text(f"{schedule} dokku {host.settings.program} postgres:backup {service.name} {bucket} {last}\n")
    path.chmod(0o644)


def _schedule_cat(host: Host, args: list[str]) -> None:
    service = _service(host, args)
    path = host.cron_file(service.name)
    if not path.exists():
        raise Fail(f"There is no scheduled backup for {service.name}.")
    plain(path.read_text().removesuffix("\n"))


def _unschedule(host: Host, args: list[str]) -> None:
    host.cron_file(_service(host, args).name).unlink(missing_ok=True)


def _set_encryption(host: Host, args: list[str]) -> None:
    _service(host, args)
    raise Fail("The sandbox's dokku encrypts no backups")


COMMANDS = {
    "postgres:backup": _backup, "postgres:backup-auth": _auth, "postgres:backup-deauth": _deauth,
    "postgres:backup-schedule": _schedule, "postgres:backup-schedule-cat": _schedule_cat,
    "postgres:backup-unschedule": _unschedule, "postgres:backup-set-encryption": _set_encryption,
}  # fmt: skip
