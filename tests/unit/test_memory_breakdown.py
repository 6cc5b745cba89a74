"""What llama.cpp says it takes, read from its log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.memory.breakdown import Taken, read_breakdowns

MIB = 1024**2
LOG = """\
0.00.009.047 I common_params_fit_impl: getting device memory data for initial parameters:
0.01.291.870 I common_memory_breakdown_print: | memory breakdown [MiB]      | total    free     self   model   context   compute    unaccounted |
0.01.291.884 I common_memory_breakdown_print: |   - CUDA0 (RTX 4060 (Ti) 16) | 15800 = 15800 + (13998 = 11314 +    1314 +    1370) +      -13998 |
0.01.291.884 I common_memory_breakdown_print: |   - Host                    |                  49595 = 49123 +       0 +     472                |
0.01.291.884 I common_memory_breakdown_print: |   - CPU_REPACK              |                     58 =    58 +       0 +       0                |
0.01.400.000 I common_fit_params: successfully fit params to free device memory
"""


def test_the_devices_and_everything_else_in_ram() -> None:
    (found,) = read_breakdowns(LOG.splitlines())
    assert found == {
        "CUDA0": Taken(11314 * MIB, 1314 * MIB, 1370 * MIB),
        "RAM": Taken((49123 + 58) * MIB, 0, 472 * MIB),
    }


def test_every_table_of_a_log() -> None:
    assert len(read_breakdowns((LOG + LOG).splitlines())) == 2


def test_a_log_without_a_table() -> None:
    assert read_breakdowns(["0.00.1 I srv init: running without SSL"]) == ()


@given(st.lists(st.sampled_from(LOG.splitlines()).map(lambda line: line[:150]) | st.text()))
def test_no_log_breaks_it(lines: list[str]) -> None:
    read_breakdowns(lines)
