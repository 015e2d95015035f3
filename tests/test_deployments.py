"""The deployments on a real Prefect server, and the form that people fill in."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import ConfigDict, create_model

from flows import automations, deployments
from flows.deployments import deploy
from flows.specs import Spec, pipeline_specs
from flows.stack_options import POOL, StackOptions

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def client(prefect_api: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made


@pytest.fixture(scope="module")
def specs() -> Iterator[list[Spec]]:
    """The small flow's deployments, importable as the worker would import them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "data"))
        import stack_flows

        yield stack_flows.specs(StackOptions())
    sys.modules.pop("stack_flows", None)


RENEW = "deploy/prefect.yaml is older than the code: python -m flows.deployments --yaml > deploy/prefect.yaml"


def _shape(value: Any) -> Any:
    """A configuration's keys, without the values that a preset may change."""
    return {key: _shape(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def schedule(client: SyncPrefectClient) -> Any:
    (only,) = client.read_deployment_by_name("mini/nightly").schedules
    return only


def test_made_twice_they_are_there_once(client: SyncPrefectClient, specs: list[Spec]) -> None:
    for _ in range(2):
        assert deploy(client, specs, StackOptions()) == ["mini/on-demand", "mini/nightly"]
    nightly = client.read_deployment_by_name("mini/nightly")
    assert nightly.entrypoint == "stack_flows.mini"
    assert nightly.work_pool_name == POOL
    assert nightly.concurrency_options is not None
    assert nightly.concurrency_options.collision_strategy == ConcurrencyLimitStrategy.CANCEL_NEW
    assert nightly.global_concurrency_limit is not None
    assert nightly.global_concurrency_limit.limit == 1
    assert nightly.enforce_parameter_schema
    assert nightly.parameters["config"]["train"] == {"seconds": 0.1, "kind": "muon"}
    assert client.read_deployment_by_name("mini/on-demand").schedules == []


def test_the_nightly_run_is_off_until_it_is_asked_for(client: SyncPrefectClient, specs: list[Spec]) -> None:
    deploy(client, specs, StackOptions())
    assert not schedule(client).active
    deploy(client, specs, StackOptions(nightly="on", cron="30 4 * * 1", time_zone="Asia/Shanghai"))
    made = schedule(client)
    assert (made.active, made.schedule.cron, made.schedule.timezone) == (True, "30 4 * * 1", "Asia/Shanghai")
    deploy(client, specs, StackOptions())  # a plain start changes nothing
    made = schedule(client)
    assert (made.active, made.schedule.cron, made.schedule.timezone) == (True, "30 4 * * 1", "Asia/Shanghai")
    deploy(client, specs, StackOptions(time_zone="UTC"))  # only what was asked for
    made = schedule(client)
    assert (made.active, made.schedule.cron, made.schedule.timezone) == (True, "30 4 * * 1", "UTC")
    deploy(client, specs, StackOptions(nightly="off"))
    assert not schedule(client).active


def test_what_a_person_changed_is_kept_while_it_fits(client: SyncPrefectClient, specs: list[Spec]) -> None:
    deploy(client, specs, StackOptions())
    found = client.read_deployment_by_name("mini/on-demand")
    mine = json.loads(json.dumps(found.parameters))
    mine["config"]["train"]["seconds"] = 7.0
    body = {"parameters": mine, "work_pool_name": POOL}
    client.request("PATCH", "/deployments/{id}", path_params={"id": found.id}, json=body)
    deploy(client, specs, StackOptions())
    kept = client.read_deployment_by_name("mini/on-demand").parameters
    assert kept["config"]["train"]["seconds"] == 7.0

    mine["config"]["train"] = {"no_longer": "a field"}
    body |= {"parameters": mine, "enforce_parameter_schema": False}
    client.request("PATCH", "/deployments/{id}", path_params={"id": found.id}, json=body)
    deploy(client, specs, StackOptions())
    assert client.read_deployment_by_name("mini/on-demand").parameters == specs[0].parameters


def test_what_the_form_no_longer_has_is_not_kept() -> None:
    spec = pipeline_specs(StackOptions())[0]
    mine = json.loads(json.dumps(spec.parameters))
    mine["config"]["train"]["steps"] = 7
    found = SimpleNamespace(parameters=json.loads(json.dumps(mine)), version="of the parameters as made")
    found.parameters["config"]["clean"]["score"]["model"]["digest"] = ""
    assert deployments._kept_parameters(found, spec) == mine  # type: ignore[arg-type]


def test_new_defaults_reach_a_deployment_that_nobody_touched(
    client: SyncPrefectClient, specs: list[Spec]
) -> None:
    from dataclasses import replace

    deploy(client, specs, StackOptions())
    parameters = json.loads(json.dumps(specs[1].parameters))
    parameters["config"]["name"] = "another"
    deploy(client, [replace(specs[1], parameters=parameters)], StackOptions())
    assert client.read_deployment_by_name("mini/nightly").parameters["config"]["name"] == "another"


def test_the_working_folder_is_kept_off_the_import_path(client: SyncPrefectClient, specs: list[Spec]) -> None:
    deploy(client, specs, StackOptions(directory="/somewhere"))
    variables = client.read_deployment_by_name("mini/on-demand").job_variables
    assert variables["working_dir"] == "/somewhere"
    assert variables["command"].endswith("-m prefect.engine")


def test_automations_are_made_once_and_stay_off_where_a_person_turned_them_off(
    client: SyncPrefectClient,
) -> None:
    assert automations.make(client) == [automations.ZOMBIES]
    (first,) = client.read_automations_by_name(automations.ZOMBIES)
    client.pause_automation(first.id)
    names = automations.make(client, "http://127.0.0.1:9/hook")
    assert names == [automations.ZOMBIES, automations.TROUBLE, automations.MODELS]
    (again,) = client.read_automations_by_name(automations.ZOMBIES)
    assert (again.id, again.enabled) == (first.id, False)
    automations.make(client, "http://127.0.0.1:9/other")
    assert len(client.read_automations_by_name(automations.TROUBLE)) == 1


def test_the_file_for_prefect_deploy_says_the_same_as_the_code() -> None:
    written = (ROOT / "deploy/prefect.yaml").read_text(encoding="utf-8")
    specs = pipeline_specs(StackOptions())
    found, made = yaml.safe_load(written), yaml.safe_load(deployments.as_yaml(specs))
    assert [spec.entrypoint for spec in specs][:2] == ["flows.pipeline.pipeline"] * 2
    for spec, entry, fresh in zip(specs, found["deployments"], made["deployments"], strict=True):
        parameters, current = entry.pop("parameters"), fresh.pop("parameters")
        taken = spec.flow.validate_parameters(parameters)["config"]
        assert taken.model_dump(mode="json") == parameters["config"], RENEW
        assert _shape(parameters) == _shape(current), RENEW
    assert found == made, RENEW


def test_the_parameters_are_whole_and_the_flow_takes_them() -> None:
    for spec in pipeline_specs(StackOptions()):
        taken = spec.flow.validate_parameters(spec.parameters)["config"]
        assert taken.model_dump(mode="json") == spec.parameters["config"]


UNLIMITED = 2**30
"""A bound of this size is there for safety, and nobody types numbers near it."""
Schema = dict[str, Any]


def schema_of(spec: Spec) -> Schema:
    """The schema from which the Prefect pages make a deployment's run form."""
    return dict(json.loads(json.dumps(deployments.form(spec))))


@pytest.fixture(scope="module")
def forms() -> list[Schema]:
    """The schema of every deployment's form, those of one flow once."""
    specs = {spec.entrypoint: spec for spec in pipeline_specs(StackOptions())}
    return [schema_of(spec) for spec in specs.values()]


def fields(form: Schema) -> Iterator[tuple[str, Schema]]:
    """Every field, named with its model; a nested model's words stand in for the field's own."""
    for name, definition in form["definitions"].items():
        for field, node in definition.get("properties", {}).items():
            nested = form["definitions"].get(node.get("$ref", "").rpartition("/")[2], {})
            yield f"{name}.{field}", {**nested, **node}


def test_every_field_of_a_form_has_a_title_and_says_what_it_is(forms: list[Schema]) -> None:
    found = [field for form in forms for field in fields(form)]
    assert len(found) > 200
    assert [name for name, node in found if not node.get("title") or not node.get("description")] == []
    assert [name for name, node in found if not node["description"].rstrip().endswith((".", "?"))] == []


def test_no_form_has_a_field_whose_value_is_replaced(forms: list[Schema]) -> None:
    assert [name for form in forms for name, _ in fields(form) if name.endswith(".digest")] == []
    assert '"digest"' not in json.dumps([spec.parameters for spec in pipeline_specs(StackOptions())])


def test_quick_run_opens_a_form_only_where_a_champion_would_change() -> None:
    """The pages open the form first where a parameter is required."""
    asking = [spec.full_name for spec in pipeline_specs(StackOptions()) if schema_of(spec)["required"]]
    assert asking == ["promote/by-hand", "roll-back/by-hand"]


def without_control(form: Schema, node: Schema, path: str) -> Iterator[str]:
    """Where below a node the form would show raw JSON: mappings, choices between types, untyped values."""
    if reference := node.get("$ref", ""):
        node = form["definitions"][reference.rpartition("/")[2]]
    if {"anyOf", "oneOf", "allOf", "patternProperties", "prefixItems"} & node.keys():
        yield f"{path}: a choice between types"
    elif node.get("type") == "object":
        if node.get("additionalProperties") is not False or not node.get("properties"):
            yield f"{path}: a free mapping"
        for name, inner in node.get("properties", {}).items():
            yield from without_control(form, inner, f"{path}.{name}")
    elif node.get("type") == "array":
        yield from without_control(form, node.get("items", {}), f"{path}[]")
    elif node.get("type") not in ("string", "integer", "number", "boolean"):
        yield f"{path}: no type"


def test_no_field_of_a_form_is_raw_json(forms: list[Schema]) -> None:
    found = [
        line
        for form in forms
        for name, node in form["properties"].items()
        for line in without_control(form, node, name)
    ]
    assert found == []


@pytest.mark.parametrize(
    "annotation", ["dict[str, float]", "int | str", "list[int | str]", "Any", "list[dict[str, int]]"]
)
def test_what_a_form_has_no_control_for_is_found(annotation: str) -> None:
    model = create_model(
        "Odd", __config__=ConfigDict(extra="forbid"), value=(eval(annotation, {"Any": Any}), ...)
    )
    found = list(without_control({"definitions": {}}, model.model_json_schema(), "config"))
    assert len(found) == 1
    assert found[0].startswith("config.value")


def test_bounds_are_said_in_words(forms: list[Schema]) -> None:
    """The form shows descriptions, not bounds: whoever types a number must be able to read its limits."""
    silent = []
    for name, node in (field for form in forms for field in fields(form)):
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            bound = node.get(key)
            if bound is None or bound >= UNLIMITED:
                continue
            spellings = {str(bound), f"{bound:,}", f"{bound:g}", f"{bound:.0f}"}
            if not any(spelling in node["description"] for spelling in spellings):
                silent.append(f"{name}: {key} {bound} is not in {node['description']!r}")
    assert silent == []


def test_the_command_line_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    deployments.main(["--yaml"])
    assert yaml.safe_load(capsys.readouterr().out)["name"] == "modelmill"


@pytest.mark.parametrize("make", [deployments.main, automations.main])
def test_nothing_is_made_on_a_server_of_the_moment(make: Any) -> None:
    with (
        temporary_settings({PREFECT_API_URL: None}),
        pytest.raises(SystemExit, match="PREFECT_API_URL names"),
    ):
        make([])


def test_a_configuration_that_is_none_is_refused_in_a_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^preset 'smal' is unknown; .* did you mean small"):
        deployments.main(["--preset", "smal"])
