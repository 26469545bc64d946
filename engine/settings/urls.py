"""Validation of server URLs in settings."""

from urllib.parse import urlsplit


def check_http_url(url: str, write: str = "http://host:9093", secrets: str = "basic_auth") -> str:
    """Return the URL unchanged. Raises ValueError if it is not http(s) or contains a user or password.

    write   : example URL for the error message
    secrets : settings for user and password, for the error message
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"it is not an http or https URL; write {write}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"it contains a user or password; move them to {secrets}")
    return url
