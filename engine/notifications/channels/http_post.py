"""A POST of a notice to a receiver: taken, or a NotDeliveredError that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from trimtab.engine.errors import NotDeliveredError, SettingsError
from trimtab.engine.net.outbound_http import OutboundHttp, parse_retry_after_s
from trimtab.engine.redaction import redact_text

RETRYABLE_STATUSES = frozenset({401, 403, 407, 408, 409, 425, 429})
"""Client errors that somebody may set right: a password that is exchanged, a rate that sinks."""
_MAX_DETAIL_LENGTH = 200


async def post_notification(receiver: OutboundHttp, body: bytes, headers: dict[str, str], now: int) -> None:
    """Send it once; returns when the receiver took it (2xx). `now` is int64 ns."""
    where = f"{receiver.name}: {receiver.endpoint.host_header}"
    with _translate_errors(receiver):
        answer = await receiver.post(body, headers)
    status = answer.status
    if 200 <= status < 300:
        return
    said = " ".join(answer.excerpt.split())[:_MAX_DETAIL_LENGTH]
    if 300 <= status < 400:
        raise NotDeliveredError(
            f"{where} redirects (HTTP {status}), which is not followed; write its final address into "
            f"{receiver.name}.url",
            "redirected",
            retry=False,
        )
    raise NotDeliveredError(
        f"{where} answers HTTP {status}: {said}" if said else f"{where} answers HTTP {status}",
        "busy" if status >= 500 or status == 429 else "refused",
        retry=status >= 500 or status in RETRYABLE_STATUSES,
        after_s=parse_retry_after_s(answer.retry_after, now),
    )


async def check_connection(receiver: OutboundHttp) -> None:
    """Connect, with TLS where it is https, and send nothing. Raises NotDeliveredError."""
    with _translate_errors(receiver):
        await receiver.check_connection()


@contextmanager
def _translate_errors(receiver: OutboundHttp) -> Iterator[None]:
    """What hinders a connection, as a NotDeliveredError."""
    where = f"{receiver.name}: {receiver.endpoint.host_header}"
    try:
        yield
    except SettingsError as error:
        raise NotDeliveredError(f"{receiver.name}: {redact_text(str(error))}", "not allowed") from error
    except TimeoutError as error:
        raise NotDeliveredError(
            f"{where} gave no whole answer within {receiver.settings.timeout:g} s; is it overloaded?",
            "timeout",
        ) from error
    except (httpx.HTTPError, OSError) as error:
        why = redact_text(str(error) or type(error).__name__)
        raise NotDeliveredError(f"{where} cannot be reached: {why}", "unreachable") from error
