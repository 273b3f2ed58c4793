"""Files mutated at random end in one line; benchmarks/bad_configurations.py has hundreds by the command."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import SMALL

from benchmarks.bad_configurations import BASES, LIMIT, by_hand, escaped, from_schema, refusal, write_data
from kswgd_hpc import memory
from kswgd_hpc.config import parse
from kswgd_hpc.errors import ConfigurationError
from kswgd_hpc.sizes import sizes

HAND = list(by_hand())
SCHEMA = [mutation for base in BASES for mutation in from_schema(base)]
# through the public command
SPOKEN = ["a Python object", "field: duration: 20.0 -> duration: 1.0e+15"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A directory with the data that the configurations refer to, as the current one."""
    made, before = tmp_path_factory.mktemp("mutations"), os.getcwd()
    write_data(made)
    os.chdir(made)
    yield made
    os.chdir(before)


@pytest.mark.parametrize("base", BASES)
def test_what_is_mutated_is_a_good_configuration(base, directory):
    (directory / "config.yaml").write_text(BASES[base])
    assert refusal(directory / "config.yaml") is None


@pytest.mark.parametrize("mutation", HAND, ids=lambda m: m.what[:60])
def test_a_bad_file_is_refused_in_one_line(mutation, directory):
    (directory / "config.yaml").write_bytes(mutation.content)
    said = refusal(directory / "config.yaml")
    assert said
    assert "\n" not in said


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/no/such/file"])
def test_what_is_no_file_of_a_sensible_size_is_refused_in_one_line(path):
    said = refusal(path)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said


@given(st.sampled_from(SCHEMA))
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_mutation_of_any_key_of_the_schema_is_refused_in_one_line(directory, mutation):
    (directory / "config.yaml").write_bytes(mutation.content)
    said = refusal(directory / "config.yaml")
    assert said, mutation.what
    assert "\n" not in said


@given(st.binary(max_size=200))
@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_bytes_are_refused_in_one_line(directory, content):
    (directory / "config.yaml").write_bytes(content)
    said = refusal(directory / "config.yaml")
    assert said
    assert "\n" not in said


@pytest.mark.parametrize("what", SPOKEN)
@pytest.mark.parametrize("ranks", [1, 3])
def test_the_command_ends_in_one_line_and_status_two(what, ranks, directory):
    mutation = next(m for m in [*HAND, *SCHEMA] if m.what == what)
    (directory / "config.yaml").write_bytes(mutation.content)
    problem, seconds = escaped(directory, ranks)
    assert not problem
    assert seconds < 10 * LIMIT  # no hang; the limit itself is timed in benchmarks


def test_a_run_is_refused_that_the_memory_of_a_node_cannot_hold():
    config = parse(SMALL.replace("particles: 1000", "particles: 100000000"))
    needed = sum(memory.per_rank(config, sizes(config), 4).values())
    memory.check(config, ranks=4, on_node=2, available=2.1 * needed)
    with pytest.raises(ConfigurationError, match=r"are particles: use fewer kswgd\.particles"):
        memory.check(config, ranks=4, on_node=2, available=1.9 * needed)


def test_more_ranks_share_out_what_grows_with_the_ensemble():
    config = parse(SMALL.replace("trajectories: 100\n", "trajectories: 65536\n"))
    one, many = (memory.per_rank(config, sizes(config), ranks) for ranks in (1, 64))
    assert one["records"] == pytest.approx(64 * many["records"])
    assert one["matrices"] == many["matrices"]
