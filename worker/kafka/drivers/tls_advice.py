"""What to do about a refused handshake, where both clients can tell that it is this one."""

from __future__ import annotations

OUR_CERTIFICATE = (
    "the brokers want another certificate of ours. Set kafka-ssl-certfile and kafka-ssl-keyfile to one they trust"
)
UNKNOWN_AUTHORITY = "the brokers do not know who signed the certificate in kafka-ssl-certfile. Use one they trust"
NO_TLS = "what listens there speaks no TLS. Check kafka-security-protocol and the port"
