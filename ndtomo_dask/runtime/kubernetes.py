"""Workers in pods of Kubernetes, by the Dask operator and dask-kubernetes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ndtomo_dask.errors import OptionError
from ndtomo_dask.runtime.libraries import imported

OPTIONS = ("manifest", "namespace", "workers", "adaptive")


@contextmanager
def start(given: Mapping[str, Any], _least_memory: int | None) -> Iterator[Any]:
    """Create the cluster that a manifest describes; it is deleted after the ``with`` block."""
    operator = imported("dask_kubernetes.operator", extra="kubernetes")
    if "workers" in given and "adaptive" in given:
        raise OptionError("workers and adaptive were both given. Leave one out.")
    described = read_manifest(given.get("manifest"))
    if "workers" in given:
        described["spec"]["worker"]["replicas"] = given["workers"]
    try:
        # A cluster that cannot be made is never closed, and says so: ask before whether one can.
        imported("kr8s", extra="kubernetes").api(namespace=given.get("namespace")).version()
        cluster = operator.KubeCluster(
            custom_cluster_spec=described, namespace=given.get("namespace"), quiet=True
        )
    except Exception as error:  # of any of the libraries below it
        raise OptionError(
            f"Kubernetes does not start the cluster: {_reason(error)}. See that "
            f"'kubectl get daskclusters' answers here."
        ) from error
    with cluster:
        if "adaptive" in given:
            cluster.adapt(**given["adaptive"])
        yield cluster


def read_manifest(path: str | None) -> dict[str, Any]:
    """Read a manifest of a DaskCluster."""
    if path is None:
        raise OptionError("cluster 'kubernetes' needs manifest, the file of a DaskCluster.")
    if not Path(path).is_file():
        raise OptionError(f"manifest {path} does not exist.")
    try:
        described = yaml.safe_load(Path(path).read_text())
        described["spec"]["worker"]["spec"]["containers"][0]
    except (yaml.YAMLError, KeyError, TypeError, IndexError) as error:
        raise OptionError(
            f"manifest {path} does not describe the workers of a DaskCluster."
        ) from error
    return dict(described)


def _reason(error: Exception) -> str:
    said = str(error).strip() or type(error).__name__
    return said.splitlines()[0].rstrip(".")
