# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An upload to S3 with Amazon's fourth signature, so that the program needs the standard library alone."""

from __future__ import annotations

import hashlib
import hmac
import time
import urllib.parse
import urllib.request

SCHEME = "AWS4-HMAC-SHA256"


def put(url: str, body: bytes, *, key_id: str, secret: str, region: str) -> urllib.request.Request:
    """Return the signed request that puts ``body`` at ``url``."""
    parts = urllib.parse.urlsplit(url)
    now = time.gmtime()
    stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    asked = f"PUT\n{urllib.parse.quote(parts.path)}\n\n{lines}\n{names}\n{digest}"
    scope = f"{day}/{region}/s3/aws4_request"
    signed = f"{SCHEME}\n{stamp}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, signed.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = f"{SCHEME} Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    headers["content-type"] = "application/gzip"
    return urllib.request.Request(url, data=body, headers=headers, method="PUT")
