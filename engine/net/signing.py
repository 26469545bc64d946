"""Webhook signatures according to the Standard Webhooks specification."""

import base64
import hashlib
import hmac


def webhook_signature(secret: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the webhook-signature header: HMAC-SHA256 over "ID.TIMESTAMP.BODY".

    >>> webhook_signature(b"secret of at least 24 characters", "msg_1", 1_700_000_000, b"{}")
    'v1,...='
    """
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def decode_secret(text: str) -> bytes:
    """Return the key bytes of a secret: base64 after the prefix `whsec_`, otherwise the UTF-8 text.

    Raises ValueError for invalid base64.

    >>> decode_secret("whsec_c2VjcmV0"), decode_secret("plain")
    (b'secret', b'plain')
    """
    encoded = text.removeprefix("whsec_")
    return text.encode() if encoded == text else base64.b64decode(encoded, validate=True)
