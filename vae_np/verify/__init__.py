"""The package's own verification: every gradient, every closed form, on every backend that is present.

`catalogue` lists what is checked, `closed_forms` has the exact answers, `against` the same gradients from automatic
differentiation, `files` the checks of other people's files; `runner` runs them and `vae-np verify` prints the table.
"""
