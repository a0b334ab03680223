"""The control plane's certificates: everything on loopback is TLS, verified both ways.

They satisfy RFC 5280 as Python 3.13 checks it (key usage, subject and authority key identifiers). Private keys are
readable by their owner only. A folder that already holds a full set is used as it is.
"""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from belay_dev.clock import utcnow

VALIDITY = timedelta(days=3650)
CLOCK_SKEW = timedelta(hours=1)
CLUSTER_IP = "10.0.0.1"
SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local")  # fmt: skip
SERVER_ADDRESSES = ("127.0.0.1", "::1", CLUSTER_IP)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and of its private key."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Pki:
    """Where each certificate and key is."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def service_account_key(self) -> Path:
        """Signs service account tokens."""
        return self.folder / "service-account.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.folder / "service-account.pub"

    def pair(self, name: str) -> Pair:
        return Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    @property
    def server(self) -> Pair:
        """Shown by the API server, the controller manager and etcd."""
        return self.pair("server")

    @property
    def etcd_client(self) -> Pair:
        """The API server's, towards etcd."""
        return self.pair("etcd-client")

    @property
    def admin(self) -> Pair:
        """In the group system:masters."""
        return self.pair("admin")

    @property
    def controller_manager(self) -> Pair:
        return self.pair("controller-manager")


class Authority:
    """A certificate authority; its key is never written, so nothing more can be issued later."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._ski = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = _builder(self._name, self._name, self._key.public_key(), _key_usage(ca=True))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.cert = builder.add_extension(self._ski, critical=False).sign(self._key, hashes.SHA256())

    def issue(self, pair: Pair, name: str, *, group: str | None = None, server: bool = False) -> None:
        """Issue a client certificate, or one for a server (that may also be a client, as etcd is to itself)."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])
        builder = _builder(_name(name, group), self._name, public, _key_usage(ca=False))
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._ski), critical=False)
        )
        if server:
            builder = builder.add_extension(_server_names(), critical=False)
        _write(pair.cert, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        _write(pair.key, _pem(key))


def ensure(folder: Path) -> Pki:
    """Make a full set of certificates in a folder, unless it holds one."""
    pki = Pki(folder)
    if pki.ca.exists():  # written last
        return pki
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority("belay-dev")
    authority.issue(pki.server, "kube-apiserver", server=True)
    authority.issue(pki.etcd_client, "kube-apiserver-etcd-client")
    authority.issue(pki.admin, "belay-admin", group="system:masters")
    authority.issue(pki.controller_manager, "system:kube-controller-manager")
    signer = ec.generate_private_key(ec.SECP256R1())
    _write(pki.service_account_key, _pem(signer))
    _write(pki.service_account_public_key, signer.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))  # fmt: skip
    _write(pki.ca, authority.cert.public_bytes(serialization.Encoding.PEM))
    return pki


def _name(common: str, group: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if group:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, usage: x509.KeyUsage
) -> x509.CertificateBuilder:
    now = utcnow()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
        .add_extension(usage, critical=True)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _server_names() -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in SERVER_NAMES]
    return x509.SubjectAlternativeName(names + [x509.IPAddress(ip_address(a)) for a in SERVER_ADDRESSES])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
