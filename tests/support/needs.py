"""What a test does on a machine that lacks something it needs."""

import os

import pytest


def missing(what):
    """Skips the test for want of `what`; fails it where CI is set, where nobody looks at a skip.

    deploy/packages.txt lists all that the tests need of a machine, besides root and mount.
    """
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {what}")
