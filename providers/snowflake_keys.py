"""RSA key pairs with which an account proves who it is, and what its administrator must run for one.

Source: Snowflake documentation, "Authenticating Snowflake REST APIs with Snowflake"; its Python connector.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

LEAST_BITS = 2048
FIRST, SECOND = "private_key", "private_key_2"  # the names of the two secrets that hold one
COLUMNS = {FIRST: "RSA_PUBLIC_KEY", SECOND: "RSA_PUBLIC_KEY_2"}
UNQUOTED = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
NO_ROLE = "YOUR_ROLE"  # where the profile names none


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of SQL, and what it is for."""

    says: str
    sql: str


def load(pem: str, passphrase: str = "") -> RSAPrivateKey:
    """A private key in PKCS#8, encrypted PKCS#8 or PKCS#1. Raises ValueError with a sentence."""
    text = pem.strip().replace("\\n", "\n").encode()
    if b"BEGIN PUBLIC KEY" in text or text.startswith(b"ssh-"):
        raise ValueError("This is a public key. The private one is needed; it begins with BEGIN PRIVATE KEY.")
    encrypted = b"ENCRYPTED" in text
    if encrypted and not passphrase:
        raise ValueError("The private key is encrypted: its passphrase is needed.")
    try:
        key = serialization.load_pem_private_key(text, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = "with this passphrase" if encrypted else "It must be PEM, as the file rsa_key.p8 holds it"
        raise ValueError(f"The private key cannot be read{' ' if encrypted else '. '}{what}.") from error
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("The private key is not an RSA key. Snowflake accepts RSA alone.")
    if key.key_size < LEAST_BITS:
        raise ValueError(f"The private key has {key.key_size} bits; at least {LEAST_BITS} are needed.")
    return key


def new_pair() -> tuple[str, str]:
    """A fresh key: the private half as PKCS#8 PEM, the public half as one line of base64."""
    key = generate_private_key(public_exponent=65537, key_size=LEAST_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), public_line(key)


def public_line(key: RSAPrivateKey) -> str:
    """The public half as ALTER USER takes it."""
    return base64.b64encode(_public_der(key)).decode("ascii")


def fingerprint(key: RSAPrivateKey) -> str:
    """What DESCRIBE USER shows as RSA_PUBLIC_KEY_FP: SHA-256 of the public half, in standard base64."""
    digest = hashlib.sha256(_public_der(key)).digest()
    return f"SHA256:{base64.b64encode(digest).decode('ascii')}"


def _public_der(key: RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def statements(user: str, role: str, slot: str, line: str) -> tuple[Statement, ...]:
    # A signed token names the user in capitals, whatever the case it was typed in.
    who, which = quoted(user.upper()), quoted(as_stored(role)) if role else NO_ROLE
    grant = f"GRANT DATABASE ROLE SNOWFLAKE.CORTEX_USER TO ROLE {which};"
    made = [
        Statement("Register the key with the user", f"ALTER USER {who} SET {COLUMNS[slot]}='{line}';"),
        Statement("Let the user's default role use the models", grant),
    ]
    if role:
        both = f"GRANT ROLE {which} TO USER {who};\nALTER USER {who} SET DEFAULT_ROLE = {which};"
        made.append(Statement("Give the user this role, and make it the default one", both))
    return tuple(made)


def as_stored(name: str) -> str:
    """Snowflake stores plain names in capitals; others only exist as they were quoted."""
    return name.upper() if UNQUOTED.fullmatch(name) else name


def quoted(name: str) -> str:
    """An SQL identifier, safe whatever it holds."""
    return '"' + name.replace('"', '""') + '"'
