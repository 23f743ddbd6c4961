"""`python -m tests.study_mistakes [CLAIM ...]`: run the campaign for these claims, record it, and write both pages.

Without a claim only the pages are written; `all` stands for every claim, which takes some minutes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from study_mistakes import pages, record
from study_mistakes.planting import COMPUTE

if __name__ == "__main__":
    named = sys.argv[1:]
    if named:
        record.campaign(COMPUTE if named == ["all"] else [int(text) for text in named])
        for claim, statement in record.unturned(record.read()):
            print(f"NOT TURNED  {claim:>2} {statement}")
    pages.write()
