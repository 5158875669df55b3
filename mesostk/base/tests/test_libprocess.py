"""The environment that libprocess would read."""

from __future__ import annotations

import pytest

from mesostk.base import libprocess


@pytest.mark.parametrize("name", ["LIBPROCESS_SSL_ENABLED", "SSL_ENABLED"])
@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_tls_that_would_not_be_there_is_refused(name: str, value: str) -> None:
    why = libprocess.refusal({"PATH": "/bin", name: value})
    assert why is not None
    assert why.startswith(f"{name}={value}: connections are not encrypted here; take it away")


@pytest.mark.parametrize("value", ["0", "false", ""])
def test_tls_that_is_off_is_fine(value: str) -> None:
    assert libprocess.refusal({"LIBPROCESS_SSL_ENABLED": value, "LIBPROCESS_IP": "1.2.3.4"}) is None
