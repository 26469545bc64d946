"""Base classes and types of settings sections: durations, sizes, credentials, TLS."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from trimtab.pipelines.io.durations import parse_duration_s

_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def seconds(value: object) -> object:
    """Convert a duration such as 15s, 5m, 14d to seconds; numbers are returned unchanged.

    >>> seconds("14d")
    1209600.0
    """
    return parse_duration_s(value) if isinstance(value, str) else value


def size_bytes(value: object) -> object:
    """Convert a size such as 512MB or 4GiB to bytes (powers of 1024); numbers are returned unchanged.

    >>> size_bytes("1.5GB"), size_bytes(100)
    (1610612736, 100)
    """
    if not isinstance(value, str):
        return value
    text = value.strip().upper()
    digits = text.rstrip("KMGTIB")
    unit = text[len(digits) :].replace("IB", "B").removesuffix("B")
    try:
        return round(float(digits) * _SIZE_UNITS[unit])
    except (KeyError, ValueError):
        raise ValueError(f"{value!r} is not a size; write 512MB, 4GB or a number of bytes") from None


Size = Annotated[int, BeforeValidator(size_bytes), Field(gt=0)]

Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0)]


class Section(BaseModel):
    """Base class of a frozen settings section; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BasicAuth(Section):
    """HTTP basic authentication."""

    username: str
    password: SecretStr | None = None
    password_file: Path | None = None


class Tls(Section):
    """TLS of an outbound connection: custom CA and client certificate."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure_skip_verify: bool = False

    @model_validator(mode="after")
    def _validate_certificate(self) -> Self:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file is set without cert_file; set cert_file to the client certificate")
        return self


class Credentialed(Section):
    """A server that may require basic authentication, a bearer token, or custom headers."""

    basic_auth: BasicAuth | None = None
    bearer_token: SecretStr | None = None
    bearer_token_file: Path | None = None
    headers: dict[str, SecretStr] = {}
    headers_file: dict[str, Path] = {}
    """Header name -> file that contains its value."""

    @model_validator(mode="after")
    def _validate_authentication(self) -> Self:
        token = self.bearer_token is not None or self.bearer_token_file is not None
        if token and self.basic_auth is not None:
            raise ValueError("basic_auth and a bearer_token are both set; keep one")
        twice = {name.lower() for name in self.headers} & {name.lower() for name in self.headers_file}
        if twice:
            raise ValueError(f"{min(twice)} is in headers and in headers_file; keep one")
        return self
