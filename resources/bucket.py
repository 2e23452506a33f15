"""Where a lake in object storage is, and its access keys: parsed from the settings and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

NAMES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
)
"""The environment variables of a lake in object storage; all S3 tools use them."""

DEFAULT_REGION = "us-east-1"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# DuckDB takes ? for parameters and * and [ for patterns; blanks and the like differ by store.
_PREFIX = re.compile(r"[A-Za-z0-9_=.-]+(/[A-Za-z0-9_=.-]+)*")


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A place in S3-compatible object storage.

    prefix: the beginning of all keys, without slashes at its ends; may be empty. endpoint: the
    store's address, None for AWS itself. The access keys are None if the machine's own role or
    profile is used; they are kept out of repr.
    """

    name: str
    prefix: str = ""
    region: str = DEFAULT_REGION
    endpoint: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the URL that LAKEBED_LAKE has for it."""
        return "/".join(part for part in (f"s3://{self.name}", self.prefix) if part)

    @property
    def path_style(self) -> bool:
        """Whether the bucket is named in the path of a request, not in its host."""
        host = (urlsplit(self.endpoint).hostname or "") if self.endpoint else "amazonaws.com"
        # A certificate of *.s3.amazonaws.com does not hold for a name with dots.
        return not host.endswith(("amazonaws.com", "amazonaws.com.cn")) or "." in self.name

    def environment(self) -> dict[str, str]:
        """Return how to get in as environment variables, for a child process."""
        pairs = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": self.session_token,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }
        return {name: value for name, value in pairs.items() if value}

    def redact(self, text: str) -> str:
        """Return the text without the access keys."""
        for secret in (self.secret_key, self.session_token, self.access_key):
            text = text.replace(secret, "***") if secret else text
        return text


def bucket_of(url: str, values: Mapping[str, str]) -> Bucket:
    """Return the bucket that a URL names.

    values: the variables of NAMES that are set. Raises ValueError, whose text repeats no possible
    secret.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3":
        raise ValueError(
            f"{parts.scheme}:// cannot be a lake. Expected a folder, or s3://bucket/prefix (for "
            "other S3-compatible stores set AWS_ENDPOINT_URL)"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "the URL may hold a bucket and a prefix alone, s3://bucket/prefix; keys are set as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the address as AWS_ENDPOINT_URL"
        )
    prefix = parts.path.strip("/")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(
            f"{parts.netloc!r} is not a bucket name. Expected 3 to 63 lower-case letters, digits, "
            "dots, hyphens"
        )
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ValueError(
            f"the prefix {prefix!r} must be of letters, digits, _ = . - and single slashes"
        )
    access, secret = values.get("AWS_ACCESS_KEY_ID"), values.get("AWS_SECRET_ACCESS_KEY")
    if bool(access) != bool(secret):
        missing = "AWS_SECRET_ACCESS_KEY" if access else "AWS_ACCESS_KEY_ID"
        raise ValueError(f"{missing} is not set; a key needs its secret, so set both or neither")
    return Bucket(
        name=parts.netloc,
        prefix=prefix,
        region=values.get("AWS_REGION") or values.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        endpoint=_endpoint(values.get("AWS_ENDPOINT_URL_S3") or values.get("AWS_ENDPOINT_URL")),
        access_key=access or None,
        secret_key=secret or None,
        session_token=(values.get("AWS_SESSION_TOKEN") or None) if access else None,
    )


def _endpoint(url: str | None) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        fits = bool(fits and not parts.path.strip("/") and not parts.query)
        _ = parts.port
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            "AWS_ENDPOINT_URL must be like https://host or http://host:9000, without a path, a "
            "user or a password"
        )
    return url.rstrip("/")
