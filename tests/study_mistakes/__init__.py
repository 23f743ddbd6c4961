"""Mistakes planted in what the rows of `vae-np study` speak of: what each turns to "does not hold".

`python -m tests.study_mistakes` runs the whole campaign (some minutes), records which rows each mistake turned, and
writes docs/derivation/claims.md from it.
"""
