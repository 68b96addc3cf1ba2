# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one seam to the APIs: a request, its answer, and what becomes of it on the way.

What only asks is sent again where that may help. What changes something is sent once; where its
answer is lost, :class:`BrokenOff` is raised, and the caller reads back whether it happened.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

ACCEPT = "application/vnd.heroku+json; version=3"
AGENT = "selfhost.stateful"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
TURNED_AWAY = 429
"""The rate limit: such a request was not looked at."""
OUT_OF_ORDER = 500
"""From here on Heroku itself is in trouble: a question may be answered later, a change may have been made, or not."""
PARTIAL = 206
LONGEST_PAUSE = 60.0
FEW_REQUESTS = 50
"""Where fewer are left before the rate limit, whoever polls does it less often."""
WORDS = 400
ASKED, TURNED = "only asked", "was turned away, and changed nothing"


class Refused(StatefulError):
    """The API answered, and the answer is no; ``status`` and ``error_id`` are its own."""

    def __init__(self, msg: str, *, status: int, error_id: str = "", **facts: Any) -> None:
        super().__init__(msg, **facts)
        self.status = status
        self.error_id = error_id


class Unreachable(StatefulError):
    """No answer, for as long as was waited."""


class BrokenOff(StatefulError):
    """A change was sent and its answer is lost: it may have been made, or not."""


@dataclass(frozen=True)
class Reply:
    """An answer of the API, whatever its status; ``status`` 0: there was none, and ``text`` says why."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Http:
    """Requests with one key. ``patience``: seconds for which a question is asked again."""

    def __init__(
        self,
        key: str,
        *,
        timeout: float = 30.0,
        patience: float = 180.0,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = key
        self._timeout = timeout
        self._patience = patience
        self._pause = pause
        self._clock = clock
        self._remaining: dict[str, int] = {}

    @property
    def is_scarce(self) -> bool:
        """Whether the rate limit of one of the APIs is near, as far as their answers said."""
        return any(each < FEW_REQUESTS for each in self._remaining.values())

    def ask(self, method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Send what changes nothing, again where that may help; return the answer's JSON, a list with all its ranges.

        https://devcenter.heroku.com/articles/platform-api-reference#ranges
        """
        given = dict(headers or {})
        found, following = self._asked(method, url, body, given)
        known: set[str] = set()
        while following:
            if following in known:
                raise _no_answer(f"{method} {_shown(url)}", f"it repeats the range {following}", safe=True)
            known.add(following)
            more, following = self._asked(method, url, body, {**given, "Range": following})
            found = [*found, *more]
        return found

    def tell(self, method: str, url: str, body: Any = None) -> Any:
        """Send a change once; raises :class:`BrokenOff` where nobody knows whether it was made.

        The rate limit alone is waited for: what it turns away was not looked at.
        """
        reply = self._until_answered(method, url, body, {}, lambda status: status == TURNED_AWAY)
        return _understood(method, url, reply, safe=False)

    def _asked(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> tuple[Any, str]:
        """Return an answer's JSON, and the range that comes next; empty where this was all."""
        reply = self._until_answered(method, url, body, headers, _may_pass)
        following = reply.headers.get("next-range", "") if reply.status == PARTIAL else ""
        return _understood(method, url, reply, safe=True), following

    def _until_answered(
        self, method: str, url: str, body: Any, headers: Mapping[str, str], again: Callable[[int], bool]
    ) -> Reply:
        until, pause = self._clock() + self._patience, 0.5
        while True:
            reply = self._send(method, url, body, headers)
            left = until - self._clock()
            if left <= 0 or not again(reply.status):
                return reply
            self._pause(min(_retry_after(reply, pause), left))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _send(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> Reply:
        reply = self._exchange(method, url, body, headers)
        remaining = reply.headers.get("ratelimit-remaining", "")
        if remaining.isdigit():
            self._remaining[urlsplit(url).netloc] = int(remaining)
        return reply

    def _exchange(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> Reply:
        sent = {"Accept": ACCEPT, "Authorization": f"Bearer {self._key}", "Content-Type": "application/json", **headers}
        try:
            with open_url(
                url,
                data=None if body is None else json.dumps(body),
                headers=sent,
                method=method,
                timeout=self._timeout,
                http_agent=AGENT,
                use_netrc=False,
                # The key goes to the host that was named, and to no other.
                follow_redirects="none",
            ) as response:
                return Reply(response.status, response.read().decode(errors="replace"), _lower(response.headers))
        except HTTPError as error:
            try:
                text = error.read().decode(errors="replace")
            except (OSError, http.client.HTTPException):
                text = ""
            return Reply(error.code, text, _lower(error.headers or {}))
        except (URLError, OSError, http.client.HTTPException, UrlsConnectionError) as error:
            # ansible's own errors are no OSError: among them the one for a certificate.
            return Reply(0, str(getattr(error, "reason", error)) or type(error).__name__, {})


def _may_pass(status: int) -> bool:
    """Tell whether asking again may help: there was no answer, the rate limit turned it away, or Heroku has trouble."""
    return status in (0, TURNED_AWAY) or status >= OUT_OF_ORDER


def _understood(method: str, url: str, reply: Reply, *, safe: bool) -> Any:
    place = f"{method} {_shown(url)}"
    if reply.ok:
        try:
            return json.loads(reply.text) if reply.text.strip() else {}
        except ValueError:
            raise _no_answer(place, "its answer is no JSON", safe) from None
    if reply.status == 0:
        raise _no_answer(place, reply.text, safe)
    if not _may_pass(reply.status):
        raise _refused(place, reply)
    if reply.status == TURNED_AWAY or safe:
        often = f"it answered {reply.status} all the time {_words(reply)}".strip()
        raise _no_answer(place, often, True, ASKED if safe else TURNED)
    raise _no_answer(place, f"{reply.status} {_words(reply)}".strip(), safe)


def checked_url(option: str, url: str) -> str:
    """Return the address without its last slash; raises where the key would travel in clear."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise InvalidInput(f"{option} is no address: {url!r}.")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise InvalidInput(f"{option} has to begin with https://: the key would be readable on its way to {url}.")
    if parts.username or parts.password:
        raise InvalidInput(f"{option} must not hold a user or a password: the key goes into api_key.")
    return url.rstrip("/")


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _retry_after(reply: Reply, otherwise: float) -> float:
    said = reply.headers.get("retry-after", "")
    return min(float(said), LONGEST_PAUSE) if said.isdigit() else otherwise


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}{parts.path}"


def _error(reply: Reply) -> tuple[str, str]:
    """Return ``id`` and ``message`` of an error, as the API writes it; empty where it says nothing."""
    try:
        said = json.loads(reply.text)
    except ValueError:
        return "", ""
    if not isinstance(said, dict):
        return "", ""
    return str(said.get("id") or ""), str(said.get("message") or said.get("error") or "")[:WORDS]


def _words(reply: Reply) -> str:
    message = _error(reply)[1]
    return f"({message})" if message else ""


def _no_answer(place: str, why: str, safe: bool, what: str = ASKED) -> StatefulError:
    if safe:
        return Unreachable(
            f"Heroku gave no usable answer to {place}: {why}.",
            state=f"as Heroku has it; this request {what}",
            next_command="look at https://status.heroku.com, then run the same task again",
        )
    return BrokenOff(
        f"The answer of Heroku to {place} was lost: {why}.",
        state="it is not known whether Heroku carried it out",
        next_command="run the same task again: it looks first",
    )


def _refused(place: str, reply: Reply) -> Refused:
    error_id, message = _error(reply)
    said = f"Heroku refused {place} with {reply.status}" + (f": {message}" if message else ", and gave no reason")
    why = ""
    if reply.status == 401:
        why = " The key is wrong, was revoked, or has expired: set another in api_key or HEROKU_API_KEY."
    elif reply.status == 403:
        why = " The key is valid, but may not do this."
    elif reply.status == 404:
        why = " Heroku knows nothing by that name, or the key may not see it."
    return Refused(
        said.rstrip(".") + "." + why,
        status=reply.status,
        error_id=error_id,
        state="as Heroku has it; this request changed nothing",
    )
