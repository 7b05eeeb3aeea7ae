"""HTTPS: whether the certificate and the key of the settings can be used, before anything is started with them."""

from __future__ import annotations

import ssl

from service.settings import Settings


def check_tls(settings: Settings) -> None:
    """Refuses a key without its certificate, and a pair that cannot be used.

    Raises:
        ValueError: it is one of these.
    """
    chain, key = settings.tls_certificate, settings.tls_key
    if chain is None:
        if key is not None:
            raise ValueError("`tls_key` needs its certificate. Received: none. Name it with --tls-certificate.")
        return
    try:
        # An empty password, for else one that is asked for would be read from the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password="")
    except OSError as error:
        raise ValueError(
            "`tls_certificate` and `tls_key` must be a certificate chain and its private key, PEM and without a "
            f"password. Received: {chain} and {key or 'no key'}: {error.strerror or error}."
        ) from error


def scheme(settings: Settings) -> str:
    """`https` where there is a certificate."""
    return "https" if settings.tls_certificate else "http"
