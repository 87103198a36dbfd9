from benchmarks import fit_references


def test_amounts_are_those_of_scipy_in_the_contest():
    results = fit_references.contest(64, 3, 50, repeat=1, few=20)
    assert [one.count for one in results] == [50, 50, 20]
    assert all(one.error < 1e-8 for one in results)
    assert all(one.seconds > 0 for one in results)


def test_every_case_is_told(capsys, monkeypatch):
    monkeypatch.setattr(fit_references, "CASES", ((64, 2), (80, 3)))
    fit_references.main(["--pixels", "20", "--repeat", "1"])
    shown = capsys.readouterr().out
    assert "2 references, 64 channels" in shown
    assert shown.count("scipy.optimize.nnls") == 2
