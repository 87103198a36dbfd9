"""The Kubernetes manifests: known to the operator, one in what they say, and their commands work.

There is no Kubernetes here. The fields are held against the schemas that the operator and the
client of Kubernetes bring; the commands of the containers run as processes of this machine.
"""

import copy
import importlib.util
import urllib.request
from pathlib import Path

import pytest
import yaml
from distributed import Client
from distributed.system import MEMORY_LIMIT

from ndtomo_dask import cli
from tests.cluster.pods import MANIFESTS, environment_of, manifest, new_node, quantity
from tests.recipe_cases import hashes, write_recipe, write_scan
from tests.slurm.virtual_cluster import wait_until

NAMES = sorted(path.stem for path in MANIFESTS.glob("*.yaml"))
DEFINITIONS = "operator/deployment/helm/dask-kubernetes-operator/crds"
CORE = {"volume": "V1PersistentVolumeClaim", "files": "V1Pod", "run": "V1Job"}
PATIENCE = 120
"""Seconds until a process that does not get to its point is given up."""


def container(name):
    content = manifest(name)
    if name == "run":
        return content["spec"]["template"]["spec"]["containers"][0]
    return content["spec"]["containers"][0]


def pod(role):
    return manifest("cluster")["spec"][role]["spec"]


def every_pod():
    run = manifest("run")["spec"]["template"]["spec"]
    return {"worker": pod("worker"), "scheduler": pod("scheduler"), "run": run,
            "files": manifest("files")["spec"]}  # fmt: skip


def validator(name):
    """Schema of the operator's own definition, in which no field may be unknown."""
    jsonschema = pytest.importorskip("jsonschema")
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None:
        pytest.skip("dask-kubernetes is not installed: pip install 'ndtomo-dask[kubernetes]'")
    kind = manifest(name)["kind"].lower()
    path = Path(found.submodule_search_locations[0]) / DEFINITIONS / f"{kind}.yaml"
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    assert manifest(name)["apiVersion"] == f"kubernetes.dask.org/{version['name']}"
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {key: {} for key in ("apiVersion", "kind", "metadata")}
    return jsonschema.Draft202012Validator(schema)


def closed(schema):
    """Refuse fields that a schema does not name: Kubernetes would drop them, or warn."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(part) for key, part in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made["additionalProperties"] = False
    if made.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    return made


@pytest.mark.parametrize("name", ["cluster", "autoscaler"])
def test_the_operator_knows_every_field(name):
    assert [str(error.message) for error in validator(name).iter_errors(manifest(name))] == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec["worker"]["spec"].update(terminationGracePeriod=60),
        lambda spec: spec["worker"].update(replicas="four"),
        lambda spec: spec["worker"]["spec"]["containers"][0].pop("name"),
        lambda spec: spec["scheduler"].pop("service"),
    ],
)
def test_a_field_that_is_misspelt_or_missing_would_be_seen(spoil):
    spoilt = copy.deepcopy(manifest("cluster"))
    spoil(spoilt["spec"])
    assert list(validator("cluster").iter_errors(spoilt))


@pytest.mark.parametrize("name", CORE)
def test_kubernetes_knows_every_field(name):
    models = pytest.importorskip("kubernetes.client.models")
    assert unknown_fields(models, CORE[name], manifest(name)) == []


def test_a_misspelt_field_of_a_job_would_be_seen():
    models = pytest.importorskip("kubernetes.client.models")
    spoilt = manifest("run")
    spoilt["spec"]["template"]["spec"]["restartPolice"] = "Never"
    assert unknown_fields(models, "V1Job", spoilt) == ["V1PodSpec.restartPolice"]


def unknown_fields(models, kind, content):
    """Names in ``content`` that the model of Kubernetes does not have, at any depth."""
    if kind.startswith("list["):
        inner = kind.removeprefix("list[").removesuffix("]")
        return [name for part in content for name in unknown_fields(models, inner, part)]
    model = getattr(models, kind, None)
    if model is None:
        return []
    types = {model.attribute_map[word]: typed for word, typed in model.openapi_types.items()}
    found = [f"{kind}.{name}" for name in content if name not in types]
    for name in content.keys() & types.keys():
        found += unknown_fields(models, types[name], content[name])
    return found


def test_all_pods_are_of_one_image_and_none_is_root():
    containers = [each["containers"][0] for each in every_pod().values()]
    assert {each["image"] for each in containers} == {"ndtomo-dask"}
    for each in every_pod().values():
        assert each["securityContext"]["runAsNonRoot"]
        assert not each["containers"][0]["securityContext"]["allowPrivilegeEscalation"]


def test_every_mount_is_of_a_volume_and_every_volume_is_claimed():
    claim = manifest("volume")["metadata"]["name"]
    for each in every_pod().values():
        volumes = {volume["name"]: volume for volume in each.get("volumes", [])}
        mounts = each["containers"][0].get("volumeMounts", [])
        assert {mount["name"] for mount in mounts} == set(volumes)
        if "data" in volumes:
            assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim


def test_the_names_of_the_cluster_agree():
    cluster = manifest("cluster")
    name, service = cluster["metadata"]["name"], cluster["spec"]["scheduler"]["service"]
    (port,) = [each["port"] for each in service["ports"] if each["name"] == "tcp-comm"]
    assert service["selector"]["dask.org/cluster-name"] == name
    assert manifest("autoscaler")["spec"]["cluster"] == name
    assert f"tcp://{name}-scheduler:{port}" in container("run")["args"]


def test_a_worker_is_asked_for_what_it_may_use():
    resources = pod("worker")["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]  # so it is not evicted before its limit
    scratch = pod("worker")["volumes"][1]["emptyDir"]["sizeLimit"]
    assert quantity(scratch) >= quantity(resources["limits"]["memory"])


@pytest.mark.slow
def test_the_commands_of_the_pods_make_the_bits_of_a_local_run(tmp_path):
    node = new_node(tmp_path)
    scan = write_scan(tmp_path / "data" / "scan.nxs")
    recipe = write_recipe(tmp_path / "data" / "recipe.yaml", scan, tmp_path / "data" / "out.zarr")
    worker = pod("worker")["containers"][0]
    memory = int(quantity(worker["resources"]["limits"]["memory"]))
    with (
        node.running(pod("scheduler")["containers"][0]),
        node.running(worker, DASK_SCHEDULER_ADDRESS=node.scheduler, DASK_WORKER_NAME="first"),
        node.running(worker, DASK_SCHEDULER_ADDRESS=node.scheduler, DASK_WORKER_NAME="second"),
    ):
        with Client(node.scheduler, timeout=PATIENCE) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            threads = client.run(os_environment, "NUMBA_NUM_THREADS").values()
        assert {each["name"] for each in workers} == {"first", "second"}
        assert {each["nthreads"] for each in workers} == {1}
        assert {each["memory_limit"] for each in workers} == {min(memory, MEMORY_LIMIT)}
        assert {str(each["local_directory"]).startswith(str(tmp_path)) for each in workers} == {
            True
        }
        assert set(threads) == {environment_of(worker)["THREADS"]}
        assert probed(node, pod("scheduler")["containers"][0]) == 200
        with node.running(container("run")) as run:
            wait_until(lambda: run.poll() is not None, "the run ends", PATIENCE)
    assert run.returncode == 0, (tmp_path / "log").read_text()
    local = tmp_path / "local.yaml"
    local.write_text(f"{{kind: local, workers: 1, threads: 1, memory: {memory}B}}")
    there = ["--output", str(tmp_path / "local.zarr"), "--cluster", str(local)]
    assert cli.main(["run", str(recipe), *there]) == 0
    assert hashes(tmp_path / "data" / "out.zarr") == hashes(tmp_path / "local.zarr")


def os_environment(name):
    import os

    return os.environ[name]


def probed(node, scheduler):
    """Answer to what Kubernetes asks before it sends anyone to a scheduler."""
    path = scheduler["readinessProbe"]["httpGet"]["path"]
    with urllib.request.urlopen(f"http://127.0.0.1:{node.dashboard_port}{path}") as answer:
        return answer.status
