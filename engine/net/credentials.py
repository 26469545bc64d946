"""Credentials of outbound requests: headers from settings and the files they name."""

import base64
from pathlib import Path

from pydantic import SecretStr

from trimtab.engine.redaction import redact_text
from trimtab.engine.settings import Credentialed


class Credentials:
    """The Authorization header and configured headers. Files are read again when they change; repr is safe.

    settings : section with basic_auth, bearer_token or headers
    name     : name of the section for messages, such as "writer"
    """

    def __init__(self, settings: Credentialed, name: str) -> None:
        self._settings = settings
        self._name = name
        self._files: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def __repr__(self) -> str:
        return f"Credentials({self._name}, hidden)"

    def headers(self) -> dict[str, str]:
        """Return the headers. Blocks on file reads; raises OSError with advice if a file cannot be read."""
        s = self._settings
        headers = {name: value.get_secret_value() for name, value in s.headers.items()}
        headers |= {
            name: self._read_file(path, f"headers_file.{name}") for name, path in s.headers_file.items()
        }
        if s.basic_auth is not None:
            basic = s.basic_auth
            secret = self._secret(basic.password, basic.password_file, "basic_auth.password_file")
            pair = base64.b64encode(f"{basic.username}:{secret}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        elif s.bearer_token is not None or s.bearer_token_file is not None:
            token = self._secret(s.bearer_token, s.bearer_token_file, "bearer_token_file")
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _secret(self, value: SecretStr | None, file: Path | None, name: str) -> str:
        if file is not None:
            return self._read_file(file, name)
        return value.get_secret_value() if value is not None else ""

    def _read_file(self, file: Path, name: str) -> str:
        path = file.expanduser()
        try:
            status = path.stat()
            version = (status.st_mtime_ns, status.st_ino, status.st_size)
            if path not in self._files or self._files[path][0] != version:
                self._files[path] = (version, path.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise OSError(
                f"{self._name}.{name}: cannot read {path}: {redact_text(str(error))}; it must be a text file "
                "that this user can read"
            ) from error
        return self._files[path][1]
