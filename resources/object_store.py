"""An S3-compatible store: objects that are written once, whole and checked, or not at all.

Requests time out and are retried a bounded number of times, with longer and longer waits. If they
still fail, a LakeFileError names the object and says what to do.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from lakebed.errors import LakebedError
from lakebed.resources.bucket import Bucket
from lakebed.resources.durable import sha256_digest
from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.retries import retrying

SINGLE_PUT_BYTES = 64 << 20
"""Larger files go up in parts."""
PART_BYTES = 16 << 20
READ_BYTES = 1 << 20
PARTS_AT_ONCE = 4
MOST_PARTS = 10_000
ATTEMPTS = 5
CONNECT_SECONDS = 5
READ_SECONDS = 30

WRITER = "lakebed-writer"
"""The metadata that says which writer made an object."""

_TAKEN = ("PreconditionFailed", "412")
_RACED = ("ConditionalRequestConflict", "409")
_ABSENT = ("404", "NoSuchKey", "NotFound")
_WHAT_TO_DO = {
    "NoSuchBucket": "the bucket does not exist; create it, or correct LAKEBED_LAKE",
    "AccessDenied": "access is denied; check the keys and the bucket's policy",
    "403": "access is denied; check the keys and the bucket's policy",
    "InvalidAccessKeyId": "the store does not know the key; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret does not match the key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the session's token has expired; get a new one",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION",
    "301": "the bucket is in another region; set AWS_REGION",
}


class Keys(NamedTuple):
    """The access keys of a store; the token may be empty."""

    access: str
    secret: str
    token: str


@dataclass(frozen=True)
class Object:
    """The store's metadata of an object.

    sha256: as S3 writes it, None if the store has none. writer: as given when it was written.
    """

    size: int
    sha256: str | None
    writer: str | None


class ObjectStore:
    """One bucket of a store."""

    def __init__(self, bucket: Bucket) -> None:
        """Remember the bucket; open nothing."""
        self.bucket = bucket

    @cached_property
    def _session(self) -> Any:
        return botocore.session.Session()

    @cached_property
    def _client(self) -> Any:
        return self._session.create_client(
            "s3",
            region_name=self.bucket.region,
            endpoint_url=self.bucket.endpoint,
            aws_access_key_id=self.bucket.access_key,
            aws_secret_access_key=self.bucket.secret_key,
            aws_session_token=self.bucket.session_token,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                max_pool_connections=PARTS_AT_ONCE,
                s3={"addressing_style": "path" if self.bucket.path_style else "virtual"},
                # Requests carry checksums explicitly: many stores do not support trailing ones.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def keys(self) -> Keys | None:
        """Return the access keys of the machine's role or profile, if any."""
        with self._explained(""):
            found = self._session.get_credentials()
            if found is None:
                return None
            frozen = found.get_frozen_credentials()
            return Keys(frozen.access_key, frozen.secret_key, frozen.token or "")

    def url(self, key: str) -> str:
        """Return the address of an object."""
        return f"s3://{self.bucket.name}/{key}"

    def find(self, key: str) -> Object | None:
        """Return what the store has under a key. Raises LakeFileError."""
        with self._explained(key):
            try:
                head = self._client.head_object(
                    Bucket=self.bucket.name, Key=key, ChecksumMode="ENABLED"
                )
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
            # For an object in parts it is a checksum of their checksums, a hyphen and their number.
            checksum = head.get("ChecksumSHA256", "").partition("-")[0]
            return Object(head["ContentLength"], checksum or None, head["Metadata"].get(WRITER))

    def create(self, key: str, file: Path, writer: str) -> bool:
        """Upload a file if no object has its key; return whether it was uploaded.

        writer: identifies this attempt, so that a retry after a lost answer recognizes its own
        object. Raises LakeFileError; no part of the file is left then.
        """

        def write() -> str | None:
            with self._explained(key):
                return self._write(key, file, writer, if_none_match="*")

        try:
            checksum = retrying(ATTEMPTS, _RacedError)(write)
        except _RacedError as error:
            raise LakeFileError(
                f"{self.url(key)}: other processes write it repeatedly; try again later"
            ) from error
        except _TakenError:
            there = self.find(key)
            if there is None or there.writer != writer:
                return False
            checksum = None
        self._check(key, file.stat().st_size, checksum)
        return True

    def replace(self, key: str, file: Path) -> None:
        """Upload a file under a key, replacing any object. Raises LakeFileError."""
        with self._explained(key):
            checksum = self._write(key, file, "")
        self._check(key, file.stat().st_size, checksum)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """Return a small object and its etag, None if it does not exist. Raises LakeFileError."""
        with self._explained(key):
            try:
                answer = self._client.get_object(Bucket=self.bucket.name, Key=key)
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
            with closing(answer["Body"]) as body:
                return body.read(), answer["ETag"]

    def put(self, key: str, data: bytes, etag: str | None) -> bool:
        """Replace the object that has the etag; None: create it.

        Returns whether the object still had that etag. Raises LakeFileError.
        """
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        try:
            with self._explained(key):
                self._client.put_object(Bucket=self.bucket.name, Key=key, Body=data, **condition)
        except (_TakenError, _RacedError):
            # Of a request that was sent twice the first one may have done it.
            found = self.get(key)
            return found is not None and found[0] == data
        return True

    def read(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of an object. Raises FileNotFoundError, LakeFileError."""
        with self._explained(key):
            try:
                answer = self._client.get_object(Bucket=self.bucket.name, Key=key)
            except ClientError as error:
                if _code(error) in _ABSENT:
                    raise FileNotFoundError(self.url(key)) from None
                raise
            with closing(answer["Body"]) as body:
                yield from body.iter_chunks(READ_BYTES)

    def listing(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        """Yield key, size and time of each object below a prefix. Raises LakeFileError."""
        for found in self._pages("list_objects_v2", "Contents", prefix):
            yield found["Key"], found["Size"], found["LastModified"].astimezone(UTC)

    def uploads(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield key and beginning of each upload in parts that is not completed."""
        for found in self._pages("list_multipart_uploads", "Uploads", prefix):
            yield found["Key"], found["Initiated"].astimezone(UTC)

    def remove(self, key: str) -> None:
        """Remove an object; it may be gone already. Raises LakeFileError."""
        with self._explained(key):
            self._client.delete_object(Bucket=self.bucket.name, Key=key)

    def remove_own(self, key: str, writer: str) -> None:
        """Remove an object if this writer made it. Raises LakeFileError."""
        there = self.find(key)
        if there is not None and there.writer == writer:
            self.remove(key)

    def abort_uploads(self, key: str) -> None:
        """Abort the uploads of an object that are not completed. Raises LakeFileError."""
        for found in self._pages("list_multipart_uploads", "Uploads", key):
            if found["Key"] == key:
                with self._explained(key):
                    self._client.abort_multipart_upload(
                        Bucket=self.bucket.name, Key=key, UploadId=found["UploadId"]
                    )

    def _pages(self, request: str, part: str, prefix: str) -> Iterator[dict[str, Any]]:
        with self._explained(prefix):
            pages = self._client.get_paginator(request)
            for page in pages.paginate(Bucket=self.bucket.name, Prefix=prefix):
                yield from page.get(part, ())

    def refuses_to_overwrite(self, key: str) -> bool:
        """Ask the store to make an empty object that is there already; say whether it refused."""
        with self._explained(key):
            for _ in range(2):
                try:
                    self._client.put_object(
                        Bucket=self.bucket.name, Key=key, Body=b"", IfNoneMatch="*"
                    )
                except ClientError as error:
                    if _code(error) in _TAKEN:
                        return True
                    if _code(error) not in _RACED:
                        raise
            return False

    def _write(self, key: str, file: Path, writer: str, if_none_match: str = "") -> str:
        """Write an object; return its checksum as S3 has it."""
        condition = {"IfNoneMatch": if_none_match} if if_none_match else {}
        if file.stat().st_size > SINGLE_PUT_BYTES:
            return self._write_parts(key, file, writer, condition)
        checksum = _text(sha256_digest(file))
        with file.open("rb") as body:
            self._client.put_object(
                Bucket=self.bucket.name,
                Key=key,
                Body=body,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=checksum,
                Metadata={WRITER: writer},
                **condition,
            )
        return checksum

    def _write_parts(self, key: str, file: Path, writer: str, condition: dict[str, str]) -> str:
        where = {"Bucket": self.bucket.name, "Key": key}
        upload = {
            **where,
            "UploadId": self._client.create_multipart_upload(
                **where, ChecksumAlgorithm="SHA256", Metadata={WRITER: writer}
            )["UploadId"],
        }
        size = file.stat().st_size
        step = max(PART_BYTES, -(-size // MOST_PARTS))

        def send(number: int) -> tuple[dict[str, Any], bytes]:
            with file.open("rb") as stream:
                stream.seek(number * step)
                data = stream.read(step)
            digest = hashlib.sha256(data).digest()
            part = {"PartNumber": number + 1, "ChecksumSHA256": _text(digest)}
            answer = self._client.upload_part(
                **upload, **part, ChecksumAlgorithm="SHA256", Body=data
            )
            return {"ETag": answer["ETag"], **part}, digest

        try:
            parts, digests = _all_sent(send, -(-size // step))
            self._client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, **condition
            )
        except BaseException:
            # If the store is out of reach, its lifecycle rule removes the parts.
            with suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(**upload)
            raise
        return _text(hashlib.sha256(b"".join(digests)).digest())

    def _check(self, key: str, size: int, checksum: str | None) -> None:
        """Hold what the store says that it has against what was sent."""
        found = self.find(key)
        if found is None or found.size != size:
            what = f"{size} bytes were written, {found.size if found else 'nothing'} is there"
        elif None not in (checksum, found.sha256) and checksum != found.sha256:
            what = "the checksums differ"
        else:
            return
        raise LakeFileError(
            f"{self.url(key)}: the store does not hold the bytes that were written ({what}). Run "
            "it again, and check the store"
        )

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Say what is wrong with the store, and no more of its answer than the code."""
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise LakeFileError(
                f"{self.url(key)}: no access keys are set; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            ) from error
        except ClientError as error:
            code = _code(error)
            if code in _TAKEN:
                raise _TakenError from None
            if code in _RACED:
                raise _RacedError from None
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            what = _WHAT_TO_DO.get(code) or (
                f"the store failed ({code}), {ATTEMPTS} times in a row; run it again when it works"
                if status >= 500 or status == 429
                else f"the store refuses it ({code})"
            )
            raise LakeFileError(f"{self.url(key)}: {what}") from None
        except BotoCoreError as error:
            raise LakeFileError(
                f"{self.url(key)}: the store did not answer ({type(error).__name__}), {ATTEMPTS} "
                "times in a row; check AWS_ENDPOINT_URL and the network, then run it again"
            ) from None


class _TakenError(LakebedError):
    """An object has the key already."""


class _RacedError(LakebedError):
    """Another request for the key was under way."""


def _all_sent(send: Any, count: int) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Send all parts, some in parallel; all requests have ended when this raises."""
    with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="lakebed_part") as pool:
        futures = [pool.submit(send, number) for number in range(count)]
        try:
            sent = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [part for part, _ in sent], [digest for _, digest in sent]


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
