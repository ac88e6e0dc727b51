"""Button mode's two hashes in another language, as a foreign client would do.

    python3 button.py DEVICE CLIENT EXPORTER CLIENT-NONCE DEVICE-NONCE

takes hexadecimal and prints the commitment and the six digits.
"""
import hashlib
import struct
import sys


def digest(domain, *fields):
    h = hashlib.sha256(domain + b"\0")
    for field in fields:
        h.update(struct.pack(">H", len(field)) + field)
    return h.digest()


device, client, exporter, client_nonce, device_nonce = map(bytes.fromhex, sys.argv[1:])
commitment = digest(b"keyhole/1 pair button commit", device, client, exporter, client_nonce)
check = digest(b"keyhole/1 pair button check", device, client, exporter, client_nonce, device_nonce)
print(commitment.hex(), "%06d" % (int.from_bytes(check[:8], "big") % 1_000_000))
