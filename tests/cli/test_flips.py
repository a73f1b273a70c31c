"""A run's own files with one bit flipped: no command takes them for what was written."""

from pathlib import Path

from tests import flips


def test_no_flipped_bit_of_a_run_goes_unnoticed(small_run: Path) -> None:
    counted = flips.run_outcomes(small_run, flips.PAIR, 100)
    assert counted["SILENT"] == 0
    assert counted["refused"] > 100
    assert counted["verify says so"] > 80
