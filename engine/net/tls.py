"""TLS contexts for outbound connections: custom CA, client certificate."""

import ssl

from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Tls


def tls_context(tls: Tls, name: str) -> ssl.SSLContext:
    """Return the SSL context for a TLS section.

    name : name of the section for messages, such as "writer.tls"

    Raises SettingsError if a file cannot be read or the key does not match the certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file.expanduser()) if tls.ca_file else None)
        if tls.cert_file is not None:
            key = str(tls.key_file.expanduser()) if tls.key_file else None
            context.load_cert_chain(str(tls.cert_file.expanduser()), key)
    except OSError as error:  # ssl.SSLError is a subclass
        raise SettingsError(
            f"{name}: {error or type(error).__name__}; ca_file, cert_file and key_file must be matching PEM "
            "files that this user can read"
        ) from error
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
