"""Signatures of webhooks, by the Standard Webhooks specification: a receiver knows us by a shared secret."""

import base64
import hashlib
import hmac


def webhook_signature(secret: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The header webhook-signature: HMAC-SHA256 over "ID.TIMESTAMP.BODY".

    >>> signature(b"secret of at least 24 characters", "msg_1", 1_700_000_000, b"{}")
    'v1,...='
    """
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def decode_secret(text: str) -> bytes:
    """The key itself: what stands behind `whsec_` is base64, everything else is taken as it is.

    Raises ValueError where that is no base64.

    >>> secret_bytes("whsec_c2VjcmV0"), secret_bytes("plain")
    (b'secret', b'plain')
    """
    encoded = text.removeprefix("whsec_")
    return text.encode() if encoded == text else base64.b64decode(encoded, validate=True)
