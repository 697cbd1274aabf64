"""The report of a rollout: what was observed, from the requests themselves."""

from pipelines.rehearse import Change, Rehearsal, Window, describe, report_rehearsal
from serving.traffic import Sample


def rehearsal() -> Rehearsal:
    canary = [Sample(n / 10, 0.1 + n / 100, "new" if n % 10 == 0 else "old", ok=True) for n in range(20)]
    lost = Sample(2.0, 0.5, "old", ok=False)
    promoted = [Sample(3 + n / 10, 0.2, "new", ok=True) for n in range(5)]
    windows = [Window("canary at 10 %", 10, [*canary, lost]), Window("promoted", 100, promoted)]
    return Rehearsal("old", "new", [Change("promotion", 2.5, 2.75)], windows, [*canary, lost, *promoted])


def test_shares_and_latencies_count_answered_requests_only() -> None:
    seen = rehearsal()
    stable, canary = describe(seen.windows[0], seen)
    assert (stable["revision"], stable["wanted %"], stable["observed %"], stable["requests"]) == ("old", 90, 90.0, 18)
    assert (canary["revision"], canary["wanted %"], canary["observed %"], canary["requests"]) == ("new", 10, 10.0, 2)
    assert canary["p50 s"] == 0.15
    assert seen.failed == 1


def test_a_revision_without_answers_has_no_latency() -> None:
    seen = rehearsal()
    stable, canary = describe(seen.windows[1], seen)
    assert (stable["observed %"], stable["p50 s"]) == (0.0, "")
    assert canary["observed %"] == 100.0
    assert Window("nobody asked", 10, []).share("new") == 0


def test_the_report_says_who_took_over_and_what_failed() -> None:
    page = report_rehearsal(rehearsal()).html()
    assert "new took over from old: 100 % of the requests, 1 failed on the way" in page
    assert "<svg" in page
    assert page == report_rehearsal(rehearsal()).html()
