"""Checks a receipt without the exchange, then fetches the proof that the record is in the audit ledger and checks that."""

import base64
import hashlib
import sys
import time
from pathlib import Path

import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from airut.v1 import ledger_pb2, ledger_pb2_grpc, query_pb2
from airut_channel import arguments, connect


def check(condition, fault):
    if not condition:
        raise ValueError(fault)


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(leaf):
    return sha256(b"\x00" + leaf)


def root_from_path(hashed, index, size, path):
    """The root that a path leads to (RFC 9162, section 2.1.3.2)."""
    check(0 <= index < size, "no such leaf")
    node, last = index, size - 1
    for beside in path:
        check(last > 0, "the path is too long")
        if node & 1 or node == last:
            hashed = sha256(b"\x01" + beside + hashed)
            while node & 1 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            hashed = sha256(b"\x01" + hashed + beside)
        node, last = node >> 1, last >> 1
    check(last == 0, "the path is too short")
    return hashed


def statement(receipt):
    """What was signed: six lines, each ended by a newline."""
    accepted = receipt.accept_time
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(accepted.seconds))
    return (
        "airut receipt v1\n"
        f"id {receipt.id}\n"
        f"recipient {receipt.recipient}\n"
        f"payload-sha256 {receipt.payload_sha256.hex()}\n"
        f"accept-time {moment}.{accepted.nanos // 1_000_000:03}Z\n"
        f"position {receipt.position}\n"
    ).encode()


def receipt_keys(path):
    """The exchange's receipt keys, as they were given to us: `key-id base64` a line."""
    lines = [line.split(" ") for line in path.read_text().splitlines() if line]
    return {key_id: Ed25519PublicKey.from_public_bytes(base64.b64decode(key)) for key_id, key in lines}


def check_receipt(response, keys):
    """Whether the exchange has signed that it gave exactly this answer to exactly this query."""
    receipt = response.receipt
    content = query_pb2.QueryBenefitsResponse()
    content.CopyFrom(response)
    content.ClearField("receipt")
    check(receipt.id == response.query_id, "the receipt is for another query")
    check(receipt.payload_sha256 == sha256(content.SerializeToString(deterministic=True)), "for another answer")
    check_signature(receipt, keys)


def check_signature(receipt, keys):
    """Whether the exchange has signed what the receipt says."""
    check(receipt.key_id in keys, "signed with a key that we were not given")
    leaf = leaf_hash(statement(receipt))
    root = root_from_path(leaf, receipt.batch_index, receipt.batch_size, receipt.batch_path)
    keys[receipt.key_id].verify(receipt.signature, b"airut receipt batch v1\n" + root)


def open_note(note, verifier_key):
    """Size and root of a signed checkpoint (c2sp.org/signed-note, c2sp.org/tlog-checkpoint)."""
    name, key_hash, encoded = verifier_key.strip().split("+", 2)
    key = base64.b64decode(encoded)
    check(key[0] == 1 and sha256(name.encode() + b"\n" + key)[:4].hex() == key_hash, "not a key of this form")
    text, signatures = note.split("\n\n")
    for line in signatures.splitlines():
        _dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature)
        if signer == name and signature[:4].hex() == key_hash:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], (text + "\n").encode())
            origin, size, root = text.split("\n")[:3]
            check(origin == name, "the checkpoint of another ledger")
            return int(size), base64.b64decode(root)
    raise ValueError("not signed with the ledger's key")


def fetch_proof(channel, position):
    """The proof for a record. The ledger signs within a second; until then the record is not found."""
    stub = ledger_pb2_grpc.LedgerServiceStub(channel)
    for _ in range(10):
        try:
            return stub.GetInclusionProof(ledger_pb2.GetInclusionProofRequest(position=position), timeout=5)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            time.sleep(0.5)
    raise ValueError("the ledger does not know the record")


def check_proof(proof, position, verifier_key):
    size, root = open_note(proof.checkpoint, verifier_key)
    check(proof.entry.position == position, "a proof for another record")
    reached = root_from_path(leaf_hash(proof.entry.leaf), proof.entry.index, size, proof.path)
    check(reached == root, "the proof does not lead to the signed root")
    return size


def main():
    parser = arguments(__doc__, partner="pirkanmaa")
    parser.add_argument("response", type=Path, help="as query.py --save has written it")
    options = parser.parse_args()
    response = query_pb2.QueryBenefitsResponse.FromString(options.response.read_bytes())
    receipt = response.receipt
    try:
        check_receipt(response, receipt_keys(options.data / "pki" / "receipt-keys.txt"))
        print(f"receipt: signed by {receipt.key_id}, for this answer")
        with connect(options) as channel:
            proof = fetch_proof(channel, receipt.position)
        size = check_proof(proof, receipt.position, (options.data / "ledger" / "ledger.vkey").read_text())
        print(f"ledger: {receipt.position} is entry {proof.entry.index} of {size}, under a signed checkpoint")
    except (InvalidSignature, ValueError) as fault:
        print(f"NOT VERIFIED: {fault or 'the signature does not match'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
