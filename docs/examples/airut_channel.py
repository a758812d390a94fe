"""What the examples share: the options, and a connection with a client certificate."""

import argparse
from pathlib import Path

import grpc


def arguments(description, partner):
    """The options that every example has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", default="127.0.0.1:7443", help="the exchange")
    parser.add_argument("--data", type=Path, default="airut-data", help="the data directory of `airut dev`")
    parser.add_argument("--as", dest="partner", default=partner, help="whose certificate to use")
    return parser


def connect(options):
    """A connection over mutual TLS. It is made by the first call, and made again when it is lost."""
    pki = options.data / "pki"
    credentials = grpc.ssl_channel_credentials(
        root_certificates=(pki / "ca.crt").read_bytes(),
        private_key=(pki / f"{options.partner}.key").read_bytes(),
        certificate_chain=(pki / f"{options.partner}.crt").read_bytes(),
    )
    keepalive = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000)]
    return grpc.secure_channel(options.server, credentials, options=keepalive)
