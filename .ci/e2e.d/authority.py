"""A certificate authority for one run, made with openssl."""

import subprocess

# What `openssl genpkey` takes.
P_256 = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA_2048 = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")


class Authority:
    """Issues server certificates; `certificate` is what clients trust."""

    def __init__(self, name, scratch):
        self._scratch = scratch
        self._name = name
        self.certificate = scratch.path("pki", name, "ca.pem")
        self._key = scratch.path("pki", name, "ca.key")
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self._key)
        _openssl(
            *(
                "req",
                "-x509",
                "-new",
                "-key",
                self._key,
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
                "-out",
                self.certificate,
            ),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def issue(self, *names, algorithm=P_256):
        """A certificate for DNS names and IPv4 addresses: (certificate file, key file)."""
        folder = self._scratch.path("pki", self._name, names[0].replace("*", "any"), "x").parent
        key, request, certificate = folder / "key.pem", folder / "request.pem", folder / "certificate.pem"
        _openssl("genpkey", *algorithm, "-out", key)
        _openssl("req", "-new", "-key", key, "-subj", "/CN=adit e2e", "-out", request)
        names = ",".join(("IP:" if name.replace(".", "").isdigit() else "DNS:") + name for name in names)
        extensions = folder / "extensions"
        extensions.write_text(
            f"subjectAltName={names}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", certificate),
        )
        return certificate, key


    def vouch(self, certificate, days=1):
        """The authority's word that one of its certificates is good: a file with an OCSP response."""
        folder = self._scratch.path("pki", self._name, "ocsp", "x").parent
        shown = _openssl("x509", "-in", certificate, "-noout", "-serial").stdout.decode()
        index, question, answer = folder / "index", folder / "question", folder / "answer.der"
        # One line of an authority's book: valid, until when, not revoked, which number, no file, whose.
        index.write_text(f"V\t491231235959Z\t\t{shown.strip().partition('=')[2]}\tunknown\t/CN=adit e2e\n")
        _openssl("ocsp", "-issuer", self.certificate, "-cert", certificate, "-no_nonce", "-reqout", question)
        signer = ("-CA", self.certificate, "-rsigner", self.certificate, "-rkey", self._key)
        _openssl("ocsp", "-index", index, *signer, "-ndays", days, "-reqin", question, "-respout", answer)
        return answer


def _openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
