"""An authority that signs certificates for the servers of a test."""

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hearth_runtime.settings import RuntimeSettings


@dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def made(cls, folder: Path) -> "Authority":
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(folder, key, _certificate("authority", key, "authority", key, is_authority=True))
        made.file.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
        return made

    @property
    def file(self) -> Path:
        """Its own certificate, PEM."""
        return self.folder / "ca.pem"

    def settings(self, name: str, **others: object) -> RuntimeSettings:
        """Those of a process that `name` names in DNS."""
        return RuntimeSettings.model_validate(
            {**self.files(name), "rpc_timeout_seconds": 1, "grace_seconds": 1, **others}
        )

    def server_context(self, name: str) -> ssl.SSLContext:
        """For a server that `name` names in DNS."""
        files = self.files(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files["tls_certificate"], files["tls_key"])
        return context

    def files(self, name: str) -> dict[str, Path]:
        """The files (PEM) of a process that `name` names in DNS, as its settings call them."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, "authority", self.key)
        paths = {"tls_ca": self.file}
        for what, text in (
            ("tls_certificate", certificate.public_bytes(serialization.Encoding.PEM)),
            (
                "tls_key",
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
            ),
        ):
            paths[what] = self.folder / f"{name}.{what}.pem"
            paths[what].write_bytes(text)
        return paths


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (name, issuer)]
    return (
        x509.CertificateBuilder()
        .subject_name(named[0])
        .issuer_name(named[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
