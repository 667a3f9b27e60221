"""What is shown to the model server, and what it has to show."""

from __future__ import annotations

from worker.security.files import Named, check_pem
from worker.security.tokens import TokenSource


def check_serving(*, tls: bool, ca_file: str, cert_file: str, key_file: str, server_name: str, token_file: str) -> None:
    """Raises ValueError for what cannot work, which gRPC would complain of at each connection at best, and for what would
    be ignored without TLS. An encrypted key cannot: gRPC takes no password."""
    if not (tls or ca_file):
        given = {
            "serving-cert-file": cert_file,
            "serving-key-file": key_file,
            "serving-server-name": server_name,
            "serving-token-file": token_file,
        }
        ignored = ", ".join(name for name, value in given.items() if value)
        if ignored:
            raise ValueError(f"{ignored} would be ignored without TLS: set serving-ca-file or serving-tls")
        return
    check_pem(
        authorities=Named("serving-ca-file", ca_file),
        certificate=Named("serving-cert-file", cert_file),
        key=Named("serving-key-file", key_file),
        password=Named("", ""),
    )
    if token_file:
        TokenSource("serving-token-file", file=token_file).check()
