import os
import threading

import pytest

from ndtomo_dask.kernels.threads import on_one_thread, run_threaded, thread_count


def test_what_the_batch_system_granted_decides(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert thread_count() == 5


@pytest.mark.parametrize("granted", ["", "0", "-2", "many"])
def test_without_a_grant_the_cores_of_the_process_decide(monkeypatch, granted):
    monkeypatch.setenv("OMP_NUM_THREADS", granted)
    assert thread_count() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("threads", ["1", "4"])
def test_each_piece_runs_once(monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    done = []
    run_threaded(done.append, range(20))
    assert sorted(done) == list(range(20))


def test_pieces_run_at_the_same_time(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    barrier = threading.Barrier(2, timeout=30)  # broken unless two pieces wait together
    run_threaded(lambda _: barrier.wait(), range(2))


@pytest.mark.parametrize("threads", ["1", "4"])
def test_the_error_of_a_piece_is_raised(monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)

    def fail_at_three(piece):
        if piece == 3:
            raise ValueError("piece 3 failed")

    with pytest.raises(ValueError, match="piece 3 failed"):
        run_threaded(fail_at_three, range(5))


def test_pieces_of_a_piece_stay_on_its_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    seen = []
    with on_one_thread():
        run_threaded(lambda _: seen.append(threading.get_ident()), range(20))
    assert set(seen) == {threading.get_ident()}
    test_pieces_run_at_the_same_time(monkeypatch)
