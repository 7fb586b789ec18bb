"""Certificates of visitors, also those that nobody must accept."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


class VisitorAuthority:
    """Issues what visitors show; `certificate` is what the server has to trust."""

    def __init__(self, name, scratch):
        self._folder = scratch.path("pki", name, "x").parent
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(name)
        builder = self._builder(self._subject, self._key, 0, 2)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = self._write("ca", builder.sign(self._key, hashes.SHA256()))

    def issue(self, name, first_day=0, days=2, usage=ExtendedKeyUsageOID.CLIENT_AUTH):
        """(certificate file, key file) of a certificate that is valid for some days, of which today is the first."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key, first_day, days)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = self._write(name, builder.sign(self._key, hashes.SHA256()))
        key_file = self._folder / f"{name}.key"
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        key_file.write_bytes(key.private_bytes(*form))
        return certificate, key_file

    def _builder(self, subject, key, first_day, days):
        begin = datetime.datetime.now(datetime.UTC) + first_day * DAY - datetime.timedelta(minutes=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._subject)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(begin).not_valid_after(begin + days * DAY)

    def _write(self, name, certificate):
        file = self._folder / f"{name}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return file


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
