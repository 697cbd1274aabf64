"""The plane's decisions, for every combination of what is wanted and what is seen."""

from hypothesis import given
from hypothesis import strategies as st

from serving.plane.reconcile import Plan, Revision, Route, Service, Wanted, plan, read, route

SERVICE = Service("default", "chat")
REVISIONS = [Revision(SERVICE, name, "0") for name in "abcde"]
A, B, C = REVISIONS[:3]


def wanting(stable: Revision, **canaries: int) -> Wanted:
    named = {revision: canaries[revision.name] for revision in REVISIONS if revision.name in canaries}
    weights = {stable: 100 - sum(named.values()), **named}
    return Wanted(stable, weights, {revision: {} for revision in weights})


def step(wanted: Wanted, running: set[Revision], ready: set[Revision], current: Route | None) -> Plan:
    return plan({SERVICE: wanted}, running, ready, {SERVICE: current} if current else {})


@st.composite
def wants(draw: st.DrawFn) -> Wanted:
    stable, *canaries = draw(st.permutations(REVISIONS))
    names = [revision.name for revision in canaries[: draw(st.integers(0, 2))]]
    return wanting(stable, **{name: draw(st.integers(0, 50)) for name in names})


def subsets(of: list[Revision]) -> st.SearchStrategy[set[Revision]]:
    return st.sets(st.sampled_from(of))


@given(wants(), subsets(REVISIONS), st.one_of(st.none(), wants()))
def test_traffic_is_whole_and_never_goes_to_a_newcomer_that_is_not_ready(
    wanted: Wanted, ready: set[Revision], before: Wanted | None
) -> None:
    current = Route(before.stable, before.weights) if before else None
    split = route(wanted, current, ready)
    if split is None:
        assert current is None and wanted.stable not in ready
        return
    assert sum(split.weights.values()) == 100
    serving = {revision for revision, weight in (current.weights.items() if current else ()) if weight}
    for revision, weight in split.weights.items():
        # The last resort is the revision that was stable until now, which may have had a weight of 0.
        assert not weight or revision in ready | serving or (current and revision == current.stable)


@given(wants(), st.one_of(st.none(), wants()))
def test_what_is_wanted_is_reached_once_everything_is_ready_and_then_stays(
    wanted: Wanted, before: Wanted | None
) -> None:
    current = Route(before.stable, before.weights) if before else None
    running = set(wanted.weights) | set(before.weights if before else ())
    reached = step(wanted, running, set(wanted.weights), current)
    assert reached.routes[SERVICE].weights == wanted.weights
    assert reached.retire == running - set(wanted.weights)
    settled = step(wanted, set(wanted.weights), set(wanted.weights), reached.routes[SERVICE])
    assert settled == Plan({}, reached.routes, frozenset())


def test_the_first_revision_gets_nothing_until_it_is_ready() -> None:
    assert step(wanting(A), set(), set(), None) == Plan({A: {}}, {}, frozenset())
    assert step(wanting(A), {A}, {A}, None).routes == {SERVICE: Route(A, {A: 100})}


def test_a_canary_gets_its_share_only_when_it_is_ready() -> None:
    stable = Route(A, {A: 100})
    waiting = step(wanting(A, b=10), {A, B}, {A}, stable)
    assert waiting.routes[SERVICE].weights == {A: 100}
    assert step(wanting(A, b=10), {A, B}, {A, B}, stable).routes[SERVICE].weights == {A: 90, B: 10}


def test_weight_zero_waits_for_nobody() -> None:
    crashed = step(wanting(A, b=0), {A, B}, set(), Route(A, {A: 90, B: 10}))
    assert crashed.routes[SERVICE].weights == {A: 100, B: 0}


def test_a_replaced_stable_serves_and_runs_until_its_successor_is_ready() -> None:
    waiting = step(wanting(C), {A, B, C}, {A, B}, Route(A, {A: 90, B: 10}))
    assert waiting.routes[SERVICE].weights == {A: 100}
    assert waiting.retire == {B}
    assert step(wanting(C), {A, C}, {A, C}, waiting.routes[SERVICE]).retire == {A}


def test_another_model_under_the_same_name_is_another_revision() -> None:
    def service(uri: str) -> dict:
        predictor = {"name": "a", "model": {"modelFormat": {"name": "huggingface"}, "storageUri": uri}}
        return {"metadata": {"namespace": "default", "name": "chat"}, "spec": {"predictor": predictor}}

    one, two = read(service("file:///one")).stable, read(service("file:///two")).stable
    assert one.name == two.name and one != two
    assert read(service("file:///one")).stable == one
