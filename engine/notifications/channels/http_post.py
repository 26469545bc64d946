"""HTTP POST of a notification; every failure becomes a NotDeliveredError with advice."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from trimtab.engine.errors import NotDeliveredError, SettingsError
from trimtab.engine.net.outbound_http import OutboundHttp, parse_retry_after_s
from trimtab.engine.redaction import redact_text

RETRYABLE_STATUSES = frozenset({401, 403, 407, 408, 409, 425, 429})
"""Client errors that may be temporary: rotated credentials, rate limits."""
_MAX_DETAIL_LENGTH = 200


async def post_notification(receiver: OutboundHttp, body: bytes, headers: dict[str, str], now: int) -> None:
    """Send one POST at `now` (int64 ns); return if it is accepted (2xx). Raises NotDeliveredError."""
    where = f"{receiver.name}: {receiver.endpoint.host_header}"
    with _translate_errors(receiver):
        response = await receiver.post(body, headers)
    status = response.status
    if 200 <= status < 300:
        return
    detail = " ".join(response.excerpt.split())[:_MAX_DETAIL_LENGTH]
    if 300 <= status < 400:
        raise NotDeliveredError(
            f"{where} redirects (HTTP {status}), and redirects are not followed; set {receiver.name}.url to "
            "the final URL",
            "redirected",
            retry=False,
        )
    raise NotDeliveredError(
        f"{where} answers HTTP {status}: {detail}" if detail else f"{where} answers HTTP {status}",
        "busy" if status >= 500 or status == 429 else "refused",
        retry=status >= 500 or status in RETRYABLE_STATUSES,
        after_s=parse_retry_after_s(response.retry_after, now),
    )


async def check_connection(receiver: OutboundHttp) -> None:
    """Connect (with TLS for https) without sending anything. Raises NotDeliveredError."""
    with _translate_errors(receiver):
        await receiver.check_connection()


@contextmanager
def _translate_errors(receiver: OutboundHttp) -> Iterator[None]:
    """Convert connection errors into NotDeliveredError."""
    where = f"{receiver.name}: {receiver.endpoint.host_header}"
    try:
        yield
    except SettingsError as error:
        raise NotDeliveredError(f"{receiver.name}: {redact_text(str(error))}", "not allowed") from error
    except TimeoutError as error:
        raise NotDeliveredError(
            f"{where} sent no complete response within {receiver.settings.timeout:g} s; check its load",
            "timeout",
        ) from error
    except (httpx.HTTPError, OSError) as error:
        why = redact_text(str(error) or type(error).__name__)
        raise NotDeliveredError(f"{where} cannot be reached: {why}", "unreachable") from error
