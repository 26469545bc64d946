"""URLs of servers, as settings give them."""

from urllib.parse import urlsplit


def check_http_url(given: str, write: str = "http://host:9093", secrets: str = "basic_auth") -> str:
    """The URL of a server, as it was given. Raises ValueError for another scheme, or a password in it.

    write   : what the error proposes;  secrets : where user and password belong
    """
    try:
        parts = urlsplit(given)
        known = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"it is no http or https URL; write {write}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"it holds a user or password; put them into {secrets}")
    return given
