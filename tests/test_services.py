"""What the stack's services are started with, and who can see it."""

import stat
from pathlib import Path

import pytest

from flows.services import services
from flows.stack_options import StackOptions

PASSWORD = "pa55word"


def test_a_databases_password_is_in_no_list_of_processes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"postgresql://mill:{PASSWORD}@db/mlflow"
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", address)
    started = {service.name: service for service in services(StackOptions(), "a mark")}
    assert not any(PASSWORD in " ".join(service.command) for service in started.values())
    assert started["mlflow"].environment["MLFLOW_BACKEND_STORE_URI"] == address


def test_the_stacks_options_with_a_webhooks_address_are_for_their_owner_alone(home: Path) -> None:
    file = StackOptions(webhook="https://chat.example/hooks/secret").save()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_links_to_runs_go_to_prefects_present_pages_as_browsers_reach_them(home: Path) -> None:
    started = services(StackOptions(host="0.0.0.0", public_host="mill.example"), "a mark")
    assert {s.environment["PREFECT_UI_URL"] for s in started} == {"http://mill.example:4200/v2"}
    elsewhere = services(StackOptions(external_prefect="https://prefect.example/api"), "a mark")
    assert not any("PREFECT_UI_URL" in service.environment for service in elsewhere)


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI"])
def test_a_databases_path_is_meant_from_where_the_stack_starts(
    variable: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "sqlite:///.modelmill/mlflow/mlflow.db")
    [mlflow] = [service for service in services(StackOptions(), "a mark") if service.name == "mlflow"]
    found = mlflow.environment["MLFLOW_BACKEND_STORE_URI"]
    assert found == f"sqlite:///{tmp_path}/.modelmill/mlflow/mlflow.db"
