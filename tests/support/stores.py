"""A local S3 server for the tests, which can be made to fail, to lie and to forget."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import botocore.session
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

SECRET = "secret-of-the-bucket"  # noqa: S105
BUCKET = "a-lake"

Answer = Callable[[Request, Callable[[], Response]], Response]
"""Answers a request in the store's place; what it is given lets the store answer."""


class Store:
    """An S3 server, and what it was asked as "METHOD key". fault: answers in its place."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.fault: Answer | None = None
        self.asked: list[str] = []
        self.url = ""

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        request = Request(environ)
        key = request.path.removeprefix(f"/{BUCKET}/").lstrip("/")
        self.asked.append(f"{request.method} {key}")

        def answer() -> Response:
            return Response.from_app(self._moto, environ)

        return (self.fault(request, answer) if self.fault else answer())(environ, start)

    @property
    def client(self) -> Any:
        return botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="tester",
            aws_secret_access_key=SECRET,
        )

    def empty(self) -> None:
        """Make the bucket as if nothing had been."""
        self.fault = None
        with urlopen(UrlRequest(f"{self.url}/moto-api/reset", method="POST")):
            self.client.create_bucket(Bucket=BUCKET)
        self.asked.clear()

    def objects(self) -> dict[str, bytes]:
        """Return what is in the bucket, but for the probe and the file of the owner."""
        client = self.client
        return {
            item["Key"]: client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
            for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", ())
            if not item["Key"].endswith(("/.lakebed", "/lakebed-owner.json"))
        }

    def pending_uploads(self) -> list[str]:
        """Return the keys of the uploads in parts that are not completed."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET)
        return [upload["Key"] for upload in found.get("Uploads", ())]

    def environment(self, prefix: str = "deep/lake") -> dict[str, str]:
        """Return what makes this store the lake."""
        return {
            "LAKEBED_LAKE": f"s3://{BUCKET}/{prefix}",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def fail(self, method: str, times: int, what: Answer, ending: str = "") -> list[str]:
        """Have the next requests of a method, for keys that end so, answered in another way.

        Returns the list of those that were.
        """
        hit: list[str] = []

        def fault(request: Request, answer: Callable[[], Response]) -> Response:
            if request.method != method or not request.path.endswith(ending) or len(hit) >= times:
                return answer()
            hit.append(request.path)
            return what(request, answer)

        self.fault = fault
        return hit


def refused(code: str, status: int) -> Answer:
    """Answer as S3 does when something is wrong, and do nothing."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
    return lambda request, answer: Response(body, status, content_type="application/xml")


def answer_lost(request: Request, answer: Callable[[], Response]) -> Response:
    """Do what is asked, and let nobody know."""
    answer()
    return Response("", 503)


def damages(request: Request, answer: Callable[[], Response]) -> Response:
    """Keep something else than what is sent, of the same length."""
    data = bytearray(request.get_data())
    data[len(data) // 3] ^= 0xFF
    request.environ["wsgi.input"] = io.BytesIO(data)
    return answer()


def overwrites(request: Request, answer: Callable[[], Response]) -> Response:
    """Do as a store that knows no conditions."""
    request.environ.pop("HTTP_IF_NONE_MATCH", None)
    return answer()


def slow(seconds: float) -> Answer:
    """Answer too late."""

    def late(request: Request, answer: Callable[[], Response]) -> Response:
        time.sleep(seconds)
        return Response("", 503)

    return late


@contextmanager
def running_store() -> Iterator[Store]:
    """Run a store with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = Store()
    server = make_server("127.0.0.1", 0, store, threaded=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
