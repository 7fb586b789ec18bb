"""A TLS client whose first message has a key share that no quantum computer breaks: what browsers send today."""

from OpenSSL import SSL

# X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem): its number in the list of groups, and the bytes of its key share.
GROUP = b"\x11\xec"
KEY_SHARE_BYTES = 1216
# Makes the first message longer than 2 KiB, and so longer than a packet.
PROTOCOLS = [b"http/1.1", *(b"a-protocol-that-makes-the-message-longer/%d" % number for number in range(20))]


class Client:
    """Talks TLS 1.3 over a connected socket; the peer must have a certificate of `place.ca_file`."""

    def __init__(self, place, connection):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.load_verify_locations(str(place.ca_file))
        context.set_verify(SSL.VERIFY_PEER)
        context.set_alpn_protos(PROTOCOLS)
        self._tls = SSL.Connection(context, None)
        self._tls.set_tlsext_host_name(place.host.encode())
        self._tls.set_connect_state()
        self._connection = connection

    def hello(self):
        """The first message, not yet sent."""
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            pass
        return self._tls.bio_read(1 << 16)

    def ask(self, request):
        """Goes on after the first message, sends a request, and gives what comes back up to the end."""
        self._step(self._tls.do_handshake)
        self._step(lambda: self._tls.send(request))
        answer = b""
        while True:
            try:
                answer += self._step(lambda: self._tls.recv(1 << 14))
            except SSL.ZeroReturnError:
                return answer

    def _step(self, step):
        while True:
            try:
                result = step()
            except SSL.WantReadError:
                self._flush()
                self._tls.bio_write(self._connection.recv(1 << 16))
            else:
                self._flush()
                return result

    def _flush(self):
        try:
            self._connection.sendall(self._tls.bio_read(1 << 16))
        except SSL.WantReadError:
            # Nothing to send.
            pass
