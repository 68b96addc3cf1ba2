# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An S3 endpoint on the loopback: moto's server, in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

from .._base import SandboxError, wait_for
from ..projects import free_ports

KEY_ID, SECRET, REGION = "sandbox-key", "sandbox-secret", "us-east-1"


def available() -> bool:
    """Tell whether moto and boto3 are installed."""
    return all(importlib.util.find_spec(name) for name in ("moto", "boto3"))


class Endpoint:
    """Buckets that live as long as the block does."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address that clients are given."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Endpoint:
        """Start the server and wait until it answers."""
        if not available():
            raise SandboxError("the S3 endpoint needs moto[server] and boto3: make venv")
        (self.port,) = free_ports(1)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(self._answers, "moto's server answers", timeout=60)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and forget all objects."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Any:
        """Return boto3's client for it."""
        import boto3  # it takes a third of a second, and most tests upload nothing

        return boto3.client(
            "s3", endpoint_url=self.url, region_name=REGION, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        self.client().create_bucket(Bucket=name)

    def objects(self, bucket: str) -> dict[str, int]:
        """Return the sizes of all objects by their keys."""
        listed = self.client().list_objects_v2(Bucket=bucket).get("Contents", [])
        return {each["Key"]: int(each["Size"]) for each in listed}

    def read(self, bucket: str, key: str) -> bytes:
        """Return an object's content."""
        return bytes(self.client().get_object(Bucket=bucket, Key=key)["Body"].read())

    @property
    def auth(self) -> tuple[str, ...]:
        """What ``postgres:backup-auth`` wants after the service's name."""
        return (KEY_ID, SECRET, REGION, "s3v4", self.url)

    def __enter__(self) -> Endpoint:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise SandboxError(f"moto's server ended with {self._process.returncode}")
        try:
            with urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
