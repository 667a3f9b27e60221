"""Certificates made on the spot, by `openssl`."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Issued:
    """PEM files of a certificate and of its key."""

    certificate: Path
    key: Path

    def together(self) -> Path:
        """Both in one file, as Kafka's PEM key store wants them."""
        path = self.certificate.with_suffix(".both.pem")
        path.write_text(self.key.read_text() + self.certificate.read_text())
        return path


class Authority:
    """Signs certificates; its own is `certificate`. Its files are in a fresh folder of that name."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self.certificate = self._folder / "authority.pem"
        self._key = self._folder / "authority.key"
        _openssl(
            "req", "-x509", *_key_options(self._key), "-days", "2", "-subj", f"/CN={name}", "-out", self.certificate
        )

    def issue(
        self, name: str, *, names: str = "DNS:localhost,IP:127.0.0.1", password: str = "", expired: bool = False
    ) -> Issued:
        """A certificate of subject `name` that is valid for `names`. `password` encrypts its key."""
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, plain = self._folder / f"{name}.csr", self._folder / f"{name}.plain"
        _openssl("req", *_key_options(plain), "-subj", f"/CN={name}", "-out", request)
        extensions = self._folder / f"{name}.extensions"
        extensions.write_text(f"subjectAltName={names}\n")
        sign = ["x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-extfile", extensions]
        if expired:  # x509 cannot date back in OpenSSL 3.0; a negative number of days is what it takes
            _openssl(*sign, "-days", "-1", "-out", issued.certificate)
        else:
            _openssl(*sign, "-days", "2", "-out", issued.certificate)
        encrypt = ["-aes-256-cbc", "-passout", f"pass:{password}"] if password else []
        _openssl("pkey", "-in", plain, *encrypt, "-out", issued.key)
        return issued


def _key_options(path: Path) -> list[str | Path]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path]


def _openssl(*words: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is missing")
        pytest.skip("openssl is not installed")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
