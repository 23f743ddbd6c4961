"""Tests of the study: each chapter's claims, figures, notes and notebook."""
