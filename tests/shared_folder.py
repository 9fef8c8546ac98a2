"""The folder `shared` beside the repository: conformance kit, trained models. A clone elsewhere has
none, and tests that use it skip by name.
"""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"
KIT = SHARED / "conformance"
