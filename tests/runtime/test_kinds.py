"""The files of `cluster/`, one of each kind; and kinds whose programs or machines are not here."""

import importlib.util
from pathlib import Path

import pytest

from ndtomo_dask.errors import BackendError, OptionError
from ndtomo_dask.runtime import check_cluster, connect
from ndtomo_dask.runtime.cluster import KINDS, read_cluster_file
from ndtomo_dask.runtime.environment import remote_environment
from ndtomo_dask.runtime.kubernetes import read_manifest

FILES = Path(__file__).resolve().parents[2] / "cluster"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_file_that_names_all_its_options(kind):
    file = FILES / f"{kind}.yaml"
    content = read_cluster_file(file)
    assert content["kind"] == kind
    check_cluster(content, source=str(file))
    lines = [line.lstrip("# ") for line in file.read_text().splitlines()]
    named = {line.partition(":")[0] for line in lines}
    assert set(KINDS[kind].options) <= named


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_says_in_comments_is_valid_too(kind, tmp_path):
    text = (FILES / f"{kind}.yaml").read_text()
    for option in KINDS[kind].options:
        written = [line for line in text.splitlines() if line.startswith(f"# {option}: ")]
        for line in written:
            (tmp_path / "one.yaml").write_text(line.removeprefix("# "))
            content = read_cluster_file(tmp_path / "one.yaml")
            check_cluster({"kind": kind, **content}, source=line)
            assert content[option] is not None


@pytest.mark.skipif(
    importlib.util.find_spec("dask_cuda") is not None, reason="dask-cuda is installed"
)
def test_a_missing_library_is_named_with_its_extra():
    words = r"cluster 'cuda' needs dask-cuda, .* Run: pip install 'ndtomo-dask\[cuda\]'"
    with pytest.raises(BackendError, match=words):
        connect("cuda")


@pytest.mark.gpu
def test_each_gpu_gets_a_worker():
    pytest.importorskip("dask_cuda")
    with connect("cuda", workers=1) as client:
        assert client.submit(sum, [1, 2]).result() == 3


def test_kubernetes_that_does_not_answer_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        OptionError, match=r"Kubernetes does not start the cluster: .* answers"
    ) as no:
        connect(FILES / "kubernetes.yaml")
    assert "\n" not in str(no.value)


def test_manifests_are_refused_in_words(tmp_path):
    with pytest.raises(
        OptionError, match=r"'kubernetes' needs manifest, the file of a DaskCluster"
    ):
        connect("kubernetes")
    with pytest.raises(OptionError, match=r"workers and adaptive were both given"):
        connect("kubernetes", workers=2, adaptive={"maximum": 3})
    with pytest.raises(OptionError, match=r"manifest .*none\.yaml does not exist"):
        read_manifest(str(tmp_path / "none.yaml"))
    (tmp_path / "pod.yaml").write_text("kind: Pod\nspec: {}\n")
    with pytest.raises(OptionError, match=r"does not describe the workers of a DaskCluster"):
        read_manifest(str(tmp_path / "pod.yaml"))


def test_mpi_outside_an_mpi_job_says_how_to_start():
    pytest.importorskip("mpi4py")
    with pytest.raises(OptionError, match=r"three MPI processes or more.* mpirun -np 4"):
        connect("mpi")


def test_settings_for_other_programs_are_those_of_local_workers():
    variables = remote_environment(3)
    assert variables["NUMBA_NUM_THREADS"] == variables["OMP_NUM_THREADS"] == "3"
    assert variables["DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"] == "60s"
