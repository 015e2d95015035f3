"""What every test shares: a home of its own, and the way to real data where a machine has it."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

SHARED_DATA = Path(
    os.environ.get("MODELMILL_TEST_DATA", Path(__file__).resolve().parents[1].parent / "shared/data")
)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Call with a name to get a real data file or folder, or a skip that says what is absent."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"real data {name!r} is not on this machine (set MODELMILL_TEST_DATA to its folder)")
        return path

    return find


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A MODELMILL_HOME that belongs to this test alone."""
    path = tmp_path / "home"
    monkeypatch.setenv("MODELMILL_HOME", str(path))
    monkeypatch.delenv("MODELMILL_STORE", raising=False)
    return path


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server with a database of its own, for every test that runs a flow."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server on loopback with an empty bucket; gives the bucket's ``s3://`` address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        httpx.put(f"http://{host}:{port}/modelmill-test").raise_for_status()
        yield "s3://modelmill-test"
    server.stop()
