"""What is generated is current."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def generator(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lifecycle_page_is_generated_from_the_table_as_it_is():
    made = generator("make_lifecycle").page()
    assert (DOCS / "lifecycle.md").read_text(encoding="utf-8") == made, "run: python docs/make_lifecycle.py"


def test_the_profile_page_lists_the_keys_as_they_are():
    made = generator("make_profiles").page()
    assert (DOCS / "profiles.md").read_text(encoding="utf-8") == made, "run: python docs/make_profiles.py"
