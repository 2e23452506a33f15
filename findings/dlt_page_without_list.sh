#!/usr/bin/env bash
# dlt, rest_api source: a page that answers 200 without the list at data_selector counts as an empty
# page. A paginator that stops after an empty page takes it for the end: the rows of the pages behind
# it are missing, and nothing is raised.
#
# A guess: a page in which data_selector finds nothing is an error, as it is neither a list nor an
# empty one. The control, the same server with a proper second page, gives all four rows. Only the
# loopback interface is used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'dlt==1.31.0'
"$folder/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import dlt
from dlt.sources.rest_api import rest_api_resources

GOOD = {1: {"data": [{"id": 1}]}, 2: {"data": [{"id": 2}, {"id": 3}]}, 3: {"data": [{"id": 4}]}}


class Answer(BaseHTTPRequestHandler):
    broken = False

    def do_GET(self):
        page = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
        answer = GOOD.get(page, {"data": []})
        if self.broken and page == 2:
            answer = {"error": "busy"}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()


def ids():
    config = {
        "client": {"base_url": f"http://127.0.0.1:{server.server_port}"},
        "resources": [
            {
                "name": "rows",
                "endpoint": {
                    "path": "rows",
                    "data_selector": "data",
                    "paginator": {"type": "page_number", "base_page": 1, "total_path": None},
                },
            }
        ],
    }
    (resource,) = rest_api_resources(config)
    return [row["id"] for row in resource]


control = ids()
Answer.broken = True
try:
    found = ids()
except Exception as error:
    found = f"{type(error).__name__}: {error}"
print("dlt", dlt.__version__)
print("four rows on three pages:               ", control)
print('page 2 answers 200 {"error": "busy"}:   ', found, "(one would guess an error)")
assert control == [1, 2, 3, 4], control
assert found == [1], f"the behaviour has changed: {found}"
PYTHON
