"""The listener and its senders with certificates, made here by an authority of their own."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

pytest.importorskip("pynetdicom", reason="needs the extra `pacs`")

from nestseg.pacs.addresses import Node, Web, is_plain, parse
from nestseg.pacs.incoming import STORED, Incoming
from nestseg.pacs.receive import Listener, listening
from nestseg.pacs.send import dicom_files, send, web_client
from nestseg.pacs.tls import Tls
from nestseg_prep import phantom
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom

from .conftest import association, forgets, push


class Authority:
    """Signs certificates for 127.0.0.1 into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = self._write("ca", self._signed(self._name, self._key, authority=True))

    def issue(self, name: str, passphrase: bytes | None = None) -> Tls:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._signed(subject, key, authority=False)
        cipher = (
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption()
        )
        private = self.folder / f"{name}.key"
        private.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
        )
        return Tls(self._write(name, signed), private, self.ca)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([host]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture
def ward(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ward")


def client(tls: Tls) -> tuple[ssl.SSLContext, str]:
    return tls.for_sending(), "127.0.0.1"


@forgets
def test_with_authorities_only_senders_that_they_signed_get_in(
    ward: Authority, tmp_path: Path, incoming: Incoming
) -> None:
    ours, theirs = ward.issue("listener"), ward.issue("scanner")
    forged = Authority(tmp_path, "stranger").issue("scanner")
    series = Phantom(slices=2).datasets()
    with listening(Listener("NESTSEG", "127.0.0.1", 0, tls=ours), incoming) as port:
        assert push(port, series, tls_args=client(theirs)) == [STORED] * 2
        for tls in (Tls(ca=ward.ca), Tls(forged.certificate, forged.key, ward.ca)):
            with association(port, tls_args=client(tls)) as made:
                assert not made.is_established
        with association(port, tls_args=client(forged)) as made:  # nor do we trust them
            assert not made.is_established
        with association(port) as made:  # without TLS
            assert not made.is_established
        assert push(port, series, tls_args=client(theirs)) == [STORED] * 2


def test_without_authorities_a_sender_needs_no_certificate(
    ward: Authority, incoming: Incoming
) -> None:
    ours = ward.issue("listener")
    tls = Tls(ours.certificate, ours.key)
    with listening(Listener("NESTSEG", "127.0.0.1", 0, ["SCANNER"], tls), incoming) as port:
        large = Phantom(slices=2, rows=300, columns=300).datasets()  # many TLS records
        assert push(port, large, tls_args=client(Tls(ca=ward.ca))) == [STORED] * 2
        with association(port, calling="OTHER", tls_args=client(Tls(ca=ward.ca))) as made:
            assert made.is_rejected


def test_200_that_never_shake_hands_keep_no_sender_out(ward: Authority, incoming: Incoming) -> None:
    tls = ward.issue("listener")
    with listening(Listener("NESTSEG", "127.0.0.1", 0, tls=tls), incoming) as port:
        wires = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(200)]
        try:
            series = Phantom(slices=1).datasets()
            assert push(port, series, tls_args=client(ward.issue("scanner"))) == [STORED]
        finally:
            for wire in wires:
                wire.close()


@forgets
def test_results_are_sent_with_tls(ward: Authority, incoming: Incoming, tmp_path: Path) -> None:
    phantom.write(Phantom(slices=2).datasets(), tmp_path / "results")
    files = dicom_files([tmp_path / "results"])
    tls = ward.issue("sender")
    with listening(
        Listener("NESTSEG", "127.0.0.1", 0, tls=ward.issue("listener")), incoming
    ) as port:
        address = parse(f"dicoms://NESTSEG@127.0.0.1:{port}", tls)
        assert [one.error for one in send(files, address)] == ["", ""]
        with pytest.raises(InputError, match="does not answer; check certificates"):
            send(files, Node("NESTSEG", "127.0.0.1", port, Tls()))


def test_addresses_say_whether_they_are_encrypted(ward: Authority) -> None:
    tls = ward.issue("sender")
    assert is_plain(parse("dicom://PACS@10.0.0.7:104", tls))
    assert not is_plain(parse("dicoms://PACS@10.0.0.7:2762", tls))
    web = parse("https://pacs.example/dicom-web", tls)
    assert isinstance(web, Web)
    pytest.importorskip("dicomweb_client", reason="needs the extra `pacs`")
    session = web_client(web)._session
    assert session.verify == str(ward.ca)
    assert session.cert == (str(tls.certificate), str(tls.key))


def test_files_that_cannot_be_used_are_named_in_one_line(ward: Authority, tmp_path: Path) -> None:
    one, other, locked = ward.issue("one"), ward.issue("other"), ward.issue("locked", b"secret")
    wrong = [
        (lambda: Tls(one.certificate), "--key"),
        (lambda: Tls(ca=ward.ca).for_listening(), "--ca needs TLS"),
        (Tls(one.certificate, other.key).for_listening, "belong together"),
        (Tls(locked.certificate, locked.key).for_listening, "passphrase"),
        (Tls(tmp_path / "none.pem", one.key).for_listening, "No such file"),
        (Tls(ca=one.key).for_sending, "authorities"),
    ]
    for attempt, says in wrong:
        with pytest.raises(InputError, match=says) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_certificate_is_as_good_as_a_list_of_senders(ward: Authority) -> None:
    tls = ward.issue("listener")
    assert not Listener("NESTSEG", "0.0.0.0", 11112, tls=tls).is_plain  # noqa: S104
    with pytest.raises(InputError, match="--ca"):
        Listener("NESTSEG", "0.0.0.0", 11112, tls=Tls(tls.certificate, tls.key))  # noqa: S104
