"""Mutual TLS between services: each shows a certificate of one authority, and trusts no other.

What goes over a unix socket stays as it is: the folder that the socket is in says who may connect.
"""

import grpc

from hearth_runtime.settings import RuntimeSettings


def channel_credentials(settings: RuntimeSettings) -> grpc.ChannelCredentials | None:
    """How to reach another service by TCP; `None` where no TLS is set."""
    files = _files(settings)
    if files is None:
        return None
    authority, certificate, key = files
    return grpc.ssl_channel_credentials(authority, key, certificate)


def server_credentials(settings: RuntimeSettings) -> grpc.ServerCredentials | None:
    """How to be reached by TCP, by those alone who show a certificate; `None` where no TLS is set."""
    files = _files(settings)
    if files is None:
        return None
    authority, certificate, key = files
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


def _files(settings: RuntimeSettings) -> tuple[bytes, bytes, bytes] | None:
    """Authority, certificate and key as PEM."""
    if settings.tls_ca is None or settings.tls_certificate is None or settings.tls_key is None:
        return None
    return settings.tls_ca.read_bytes(), settings.tls_certificate.read_bytes(), settings.tls_key.read_bytes()
