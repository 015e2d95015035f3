"""The files for one server and for a cluster, checked against the schemas of those who read them."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSION = "1.32"
"""Of Kubernetes, whose schemas are meant."""
PREFECT = "3.8.8"


def documents(path: Path) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return documents(DEPLOY / "compose.yaml")[0]


def constraint(name: str) -> str:
    """The version of a package that the constraints pin."""
    found = re.search(rf"(?mi)^{re.escape(name)}==(.+)$", (ROOT / "constraints.txt").read_text())
    assert found, f"{name} is not in constraints.txt"
    return found[1].strip()


# Compose ----------------------------------------------------------------------------------------------------


def test_compose_keeps_to_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def composed(*profile: str, environment: Path) -> "subprocess.CompletedProcess[str]":
    """What Docker Compose makes of the file; reading needs no engine."""
    program = Path(sys.executable).with_name("docker-compose")
    files = ["--env-file", environment, "--file", DEPLOY / "compose.yaml"]
    return subprocess.run(
        [program, *files, *profile, "config", "--format", "json"],
        env={"PATH": os.environ["PATH"]},  # a variable that happens to be set here stands in for none
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("profile", [(), ("--profile", "gpu")])
def test_docker_compose_reads_the_file_with_the_example_settings(
    profile: tuple[str, ...], compose: dict[str, Any]
) -> None:
    done = composed(*profile, environment=DEPLOY / "compose.env.example")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing left to warn of, such as a variable without a value
    expected = {n for n, s in compose["services"].items() if profile or not s.get("profiles")}
    made = json.loads(done.stdout)["services"]
    assert set(made) == expected
    assert ("gpu-worker" in made) == bool(profile)
    for service in made.values():
        if (build := service.get("build")) is not None:
            assert (Path(build["context"]) / build["dockerfile"]).exists()


def test_docker_compose_starts_nothing_without_passwords(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("")
    done = composed(environment=tmp_path / ".env")
    assert done.returncode != 0
    assert "set it in deploy/.env" in done.stderr


def test_every_image_is_pinned(compose: dict[str, Any]) -> None:
    images = {service["image"] for service in compose["services"].values()}
    for path in KUBERNETES.glob("*.yaml"):
        images |= set(re.findall(r"(?m)^\s+image: (\S+:\S+)$", path.read_text()))
    for image in images:
        tag = image.rpartition(":")[2]
        assert re.search(r"\d+\.\d+|\d{4}-\d{2}-\d{2}", tag), f"{image} names no version"
        assert "latest" not in tag


def test_all_of_prefect_is_one_version(compose: dict[str, Any]) -> None:
    assert constraint("prefect") == PREFECT
    tags = {s["image"] for s in compose["services"].values() if s["image"].startswith("prefecthq/")}
    assert tags == {f"prefecthq/prefect:{PREFECT}-python3.11"}
    server = documents(KUBERNETES / "values-server.yaml")[0]["global"]["prefect"]["image"]["prefectTag"]
    assert server == f"{PREFECT}-python3.11"
    for name in ("values-worker", "values-worker-gpu"):
        tag = documents(KUBERNETES / f"{name}.yaml")[0]["worker"]["image"]["prefectTag"]
        assert tag == f"{PREFECT}-python3.11-kubernetes"


def test_what_a_service_waits_for_exists_and_says_when_it_is_ready(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}, which is not there"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], (
                    f"{name} waits for {other}, which has no health check"
                )
            else:
                assert services[other]["restart"] == "no", f"{other} is to end, and would be started again"


def test_only_loopback_is_published(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_password_is_written_down(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    given = set(re.findall(r"^([A-Z_0-9]+)=", (DEPLOY / "compose.env.example").read_text(), re.M))
    asked = set(re.findall(r"\$\{([A-Z_0-9]+)", text))
    assert asked <= given, f"compose.env.example lacks {asked - given}"
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name:
                assert str(value).startswith("${"), name


def test_mlflow_answers_to_the_name_that_workers_use(compose: dict[str, Any]) -> None:
    services = compose["services"]
    hosts = next(a for a in services["mlflow"]["command"] if a.startswith("--allowed-hosts="))
    address = services["worker"]["environment"]["MLFLOW_TRACKING_URI"]
    assert address.removeprefix("http://") in hosts.partition("=")[2].split(",")
    assert "--workers=1" in services["mlflow"]["command"]
    assert services["worker"]["environment"]["MODELMILL_STORE"].startswith("s3://modelmill/")


# Image ------------------------------------------------------------------------------------------------------


def test_the_image_runs_as_nobody_special_and_takes_only_the_sources() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    users = re.findall(r"(?m)^USER (\S+)", text)
    assert users == ["1001:1001"]
    assert text.index("USER ") < text.index("ENTRYPOINT")
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", text)
    for name in (name for line in copied for name in line.split()):
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, f".dockerignore keeps {name} from the builder"
    assert set(re.findall(r"(?m)^ARG (\w+)", text)) == {"PYTHON_IMAGE", "DEVICE", "TORCH_INDEX"}


def test_the_image_has_what_a_cluster_needs() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {re.split(r"[<>=]", item)[0] for item in extras["cluster"]}
    assert {"boto3", "psycopg2-binary", "prefect-redis", "prefect-kubernetes"} <= wanted
    for name in sorted(wanted):
        constraint(name)


# Kubernetes -------------------------------------------------------------------------------------------------

MANIFESTS = ["namespace.yaml", "postgres.yaml", "redis.yaml", "mlflow.yaml"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_keep_to_the_schemas_of_kubernetes(name: str) -> None:
    for manifest in documents(KUBERNETES / name):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_kustomize_puts_them_together() -> None:
    kubectl = shutil.which("kubectl")
    listed = documents(KUBERNETES / "kustomization.yaml")[0]["resources"]
    assert sorted(listed) == sorted(MANIFESTS)
    if kubectl is None:
        pytest.skip("kubectl is not on this machine")
    done = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [m for m in yaml.safe_load_all(done.stdout) if m]
    for manifest in made:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "modelmill"


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return list(manifest["spec"]["template"]["spec"]["containers"])


@pytest.mark.parametrize("name", MANIFESTS[1:])
def test_no_container_runs_as_root_or_without_bounds(name: str) -> None:
    for manifest in documents(KUBERNETES / name):
        if manifest["kind"] not in ("Deployment", "StatefulSet"):
            continue
        assert manifest["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in containers(manifest):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert "memory" in container["resources"]["limits"]
            assert "readinessProbe" in container


def test_secrets_are_referred_to_and_explained() -> None:
    text = "".join(path.read_text() for path in KUBERNETES.iterdir())
    names = set(re.findall(r"(?:secretKeyRef|secretRef):\s+name: (\S+)", text))
    names |= set(re.findall(r"existingSecret: (\S+)", text))
    names |= set(re.findall(r'"secretRef": \{\s+"name": "([^"]+)"', text))
    readme = (DEPLOY / "README.md").read_text()
    for name in sorted(names):
        assert f"create secret generic {name} " in readme, f"README.md does not say how {name} is made"


@pytest.fixture(params=["cpu", "gpu"])
def template(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(json.loads((KUBERNETES / f"job-template-{request.param}.json").read_text()))


def placeholders(value: Any) -> set[str]:
    return set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(value)))


def fill(value: Any, defaults: dict[str, Any]) -> Any:
    """What the worker makes of a template: a lone placeholder becomes its value, others become text."""
    if isinstance(value, dict):
        return {key: fill(inner, defaults) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, defaults) for inner in value]
    if isinstance(value, str) and (whole := re.fullmatch(r"\{\{ (\w+) \}\}", value)):
        return copy.deepcopy(defaults[whole[1]])
    return (
        re.sub(r"\{\{ (\w+) \}\}", lambda m: str(defaults[m[1]]), value) if isinstance(value, str) else value
    )


def test_every_variable_of_a_job_template_is_used_and_reads_well(template: dict[str, Any]) -> None:
    variables = template["variables"]["properties"]
    assert placeholders(template["job_configuration"]) == set(variables)
    for name, schema in variables.items():
        assert schema["title"], name
        assert schema["description"].endswith("."), name


def test_a_filled_template_is_a_job_that_kubernetes_takes(template: dict[str, Any]) -> None:
    defaults = {name: s.get("default") for name, s in template["variables"]["properties"].items()}
    defaults |= {
        "name": "run",
        "command": ["prefect", "flow-run", "execute"],
        "env": [{"name": "A", "value": "1"}],
    }
    job = fill(template["job_configuration"]["job_manifest"], defaults)
    kubernetes_validate.validate(job, VERSION, strict=True)
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["terminationGracePeriodSeconds"] >= 90  # a run saves its work when it is asked to end
    (container,) = pod["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "/data" in mounted
    if gpus := container["resources"]["limits"].get("nvidia.com/gpu"):
        assert gpus == 8
        assert "/dev/shm" in mounted  # processes that train together share memory


def test_a_job_template_is_one_that_prefect_takes(template: dict[str, Any]) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate

    WorkPoolCreate(name="modelmill", type="kubernetes", base_job_template=template)


def test_each_worker_has_its_own_pool_and_finds_the_server() -> None:
    pools = []
    for name in ("values-worker", "values-worker-gpu"):
        worker = documents(KUBERNETES / f"{name}.yaml")[0]["worker"]
        pools.append(worker["config"]["workPool"])
        assert worker["selfHostedServerApiConfig"]["apiUrl"].endswith(":4200/api")
        assert worker["config"]["type"] == "kubernetes"
    assert pools == ["modelmill", "modelmill-gpu"]


# README -----------------------------------------------------------------------------------------------------


def test_the_readme_names_only_files_that_exist() -> None:
    text = (DEPLOY / "README.md").read_text()
    for name in re.findall(r"deploy/[\w./-]+\.(?:yaml|json|md|example|service)", text):
        assert (ROOT / name).exists(), name
    charts = set(re.findall(r"--version (\S+)", text))
    assert charts == {"2026.8.18172642"}


def test_the_automation_in_the_file_is_the_one_in_the_code() -> None:
    from prefect.events.schemas.automations import AutomationCore

    from flows import automations

    written = (DEPLOY / "automations/silent-runs.yaml").read_text()
    assert written == automations.as_yaml(), (
        "python -m flows.automations --yaml > deploy/automations/silent-runs.yaml"
    )
    assert AutomationCore.model_validate(yaml.safe_load(written)) == automations.zombies()


def test_the_unit_gives_runs_the_time_that_the_stack_gives_them() -> None:
    from flows.stack import RUN_GRACE_S, SERVER_GRACE_S

    unit = (DEPLOY / "modelmill.service").read_text()
    found = re.search(r"TimeoutStopSec=(\d+)", unit)
    assert found
    assert int(found[1]) >= RUN_GRACE_S + 2 * SERVER_GRACE_S


def test_databases_are_named_with_their_drivers() -> None:
    """SQLAlchemy takes psycopg 3 where none is named, which nothing here installs."""
    for path in (DEPLOY / "README.md", DEPLOY / "compose.yaml"):
        assert not re.search(r"postgresql://", path.read_text()), path
