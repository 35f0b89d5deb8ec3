"""The short part of the fault matrix; `make test-faults` runs all of it (docs/reliability.md)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.case import Workshop
from tests.faults.scenario import Scenario, Verdict
from tests.faults.scenarios import all_scenarios
from tests.starts import Zygote

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SEED, JOBS = 0, 3  # many scenarios only wait
SCENARIOS = all_scenarios(SEED)
QUICK = {f"{scenario.kind}, {scenario.name}": scenario for scenario in SCENARIOS if scenario.is_quick}


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, zygote: Zygote
) -> Iterator[dict[str, Future[Verdict]]]:
    """Those of the selected tests, by name, at work at the same time."""
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = [each["name"] for each in parameters if str(each.get("name")) in QUICK]
    workshop = Workshop(tmp_path_factory.mktemp("faults"), zygote, SEED)
    threads = ThreadPoolExecutor(JOBS)
    yield {name: threads.submit(workshop.judge, QUICK[name]) for name in wanted}
    threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_by(name: str, verdicts: dict[str, Future[Verdict]]) -> None:
    verdict = verdicts[name].result()
    assert verdict.passed, "\n".join(verdict.problems)
    assert (verdict.lost, verdict.repeated, verdict.reordered) == (0, 0, 0)


def test_the_matrix_is_as_large_as_the_documentation_says() -> None:
    assert len({scenario.kind for scenario in SCENARIOS}) >= 24
    assert sum(scenario.injections for scenario in SCENARIOS) >= 300
    assert len({(scenario.kind, scenario.name) for scenario in SCENARIOS}) == len(SCENARIOS)


def test_a_seed_says_where_faults_strike() -> None:
    assert faults(SCENARIOS) == faults(all_scenarios(SEED)) != faults(all_scenarios(SEED + 1))


def faults(scenarios: list[Scenario]) -> list[str]:
    return [start.failpoints for scenario in scenarios for start in scenario.starts]
