"""Signed, expiring addresses of large files, as a CDN in front of a bucket gives them out."""

import hmac
import secrets
import time
from collections.abc import Mapping
from urllib.parse import quote, urlencode

BUCKET = "65f0c0ffee5eed5ca1ab1e00"
"""The folder of all files; on the Hub a number of the repository's own."""


class UrlSigner:
    """Signs addresses that are good for `lifetime_s` seconds at most, and knows its own signatures."""

    def __init__(self, *, lifetime_s: float) -> None:
        self._lifetime_s = lifetime_s
        self._secret = secrets.token_bytes(16)

    def signed(self, origin: str, sha256: str, *, file_name: str) -> str:
        """Where this origin gives the file out, without asking who wants it."""
        expires = time.time() + self._lifetime_s
        # Whole seconds, as the real ones are, unless the whole life is shorter than one.
        expiry = str(int(expires)) if self._lifetime_s >= 1 else str(expires)
        query = {
            "X-Amz-Expires": "3600",
            "response-content-disposition": f"inline; filename*=UTF-8''{quote(file_name)}; filename=\"{file_name}\";",
            "x-id": "GetObject",
            "Expires": expiry,
            "Signature": self._signature(sha256, expiry),
        }
        return f"{origin}/xet-bridge-us/{BUCKET}/{sha256}?{urlencode(query)}"

    def is_valid(self, sha256: str, query: Mapping[str, str]) -> bool:
        """Whether the address was signed here for this file, and its time is not over."""
        expiry = query.get("Expires", "")
        is_ours = hmac.compare_digest(self._signature(sha256, expiry), query.get("Signature", ""))
        return is_ours and float(expiry) > time.time()

    def expire(self) -> None:
        """Let the time of all addresses signed so far be over."""
        self._secret = secrets.token_bytes(16)

    def _signature(self, sha256: str, expiry: str) -> str:
        return hmac.new(self._secret, f"{sha256}:{expiry}".encode(), "sha256").hexdigest()
