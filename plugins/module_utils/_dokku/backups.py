# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a service is backed up: by which login, when, and now."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._dokku import bucket, survey, words
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.bucket import Auth, Bucket, Kept
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.cli import DATA_LIMIT, Dokku
from ansible_collections.selfhost.stateful.plugins.module_utils._dokku.model import Schedule, Service
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

FILES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_SIGNATURE_VERSION", "ENDPOINT_URL")
"""Below ``backup`` in a service's directory, in the order in which ``backup-auth`` takes them."""


def auth_of(service: Service) -> Auth:
    """Return the login that a service has; it stays in memory."""
    return Auth(*(survey.read_file(service.root, f"backup/{name}") for name in FILES))


def authenticate(dokku: Dokku, service: Service, wanted: Auth) -> None:
    """Give a service another login. Its words are seen by who looks at the processes as long as the call lasts."""
    if service.authenticated:
        # A second login is refused as long as there is one.
        dokku.asked("postgres:backup-deauth", service.name)
    call = words.authenticate(service.name, wanted.words())
    answer = dokku.tried(*call)
    if auth_of(service) != wanted:
        raise dokku.failed(
            call,
            answer,
            secrets=(wanted.key_id, wanted.secret),
            state=f"the service {service.name} runs, and has no login for its backups",
        )


def deauthenticate(dokku: Dokku, service: Service) -> None:
    dokku.asked("postgres:backup-deauth", service.name)


def set_schedule(dokku: Dokku, service: Service, wanted: Schedule | None) -> None:
    """Have a service backed up as wanted, or not at all."""
    call = words.schedule(service.name, wanted) if wanted else ("postgres:backup-unschedule", service.name)
    answer = dokku.tried(*call)
    seen = survey.with_schedule(dokku, service)
    if seen.schedule != wanted or seen.schedule_unread:
        raise dokku.failed(call, answer, state=f"the service {service.name} runs, and is not backed up as it should be")


def back_up(dokku: Dokku, service: Service, place: Bucket, *, use_iam: bool) -> Kept:
    """Back a service up now, and read back what is in the bucket since."""
    before = set(place.objects(service.name))
    call = words.backup(service.name, place.name, use_iam=use_iam)
    answer = dokku.tried(*call, limit=DATA_LIMIT)
    came = {key: size for key, size in place.objects(service.name).items() if key not in before}
    if answer.rc != 0 or not came:
        raise dokku.failed(
            call,
            answer,
            state=f"the service {service.name} runs; the bucket {place.name} has"
            f" {'an incomplete backup' if came else 'no backup'} of now, and those before are as they were",
        )
    key = max(came)
    return place.read_back(key, came[key])


def place_of(service: Service, name: str, *, use_iam: bool) -> Bucket:
    """Reach a bucket as a service reaches it."""
    auth = Auth("", "") if use_iam else auth_of(service)
    if not use_iam and not auth:
        raise StatefulError(f"The service {service.name} has no login for its backups: give one, or use_iam.")
    return bucket.open_bucket(name, auth)
