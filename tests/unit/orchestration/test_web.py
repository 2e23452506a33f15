"""Where the UI listens, and what is said of it."""

from __future__ import annotations

from lakebed.orchestration.up import Web


def test_the_ui_listens_on_this_machine_unless_told_otherwise() -> None:
    web = Web()
    assert web.command == ["dagster-webserver", "--host", "127.0.0.1", "--port", "3000"]
    assert (web.address, web.warning) == ("http://localhost:3000", None)


def test_an_address_that_others_reach_is_warned_of() -> None:
    web = Web(host="0.0.0.0", port=80)  # noqa: S104  (nothing listens here)
    assert web.warning is not None
    assert "http://0.0.0.0:80 can run anything" in web.warning
    assert "proxy" in web.warning
    read_only = Web(host="10.0.0.5", read_only=True)
    assert read_only.command[-1] == "--read-only"
    assert read_only.warning is not None
    assert "can see" in read_only.warning
