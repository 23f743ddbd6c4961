"""Chapter 17: missing cells, against the linear-Gaussian model, and its figures, as the prose says.

Budget: about 12 s.
"""

from __future__ import annotations

from study import notebook
from study.prose import readable
from vae_np.study import Result
from vae_np.study import chapter17_missing_data_and_tables as chapter

NAME = "17-missing-data-and-tables"


def test_every_row_of_its_claim_holds_and_the_figure_is_made() -> None:
    # Not by `run_chapter`, which would forget what the notebook's test needs once more.
    result = Result(chapter.CLAIMS[34](0), chapter.figures(0), chapter.notes(0))
    readable(result)
    assert [claim for claim in result.claims if not claim.passed] == []
    assert {claim.id for claim in result.claims} == {34}
    assert len(result.claims) == 1 + 2 * len(chapter.SHARES) + 3
    assert set(result.figures) == {"17-imputation"}


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)
