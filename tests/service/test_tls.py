from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings
from service.tls import check_tls


def test_certificate_with_its_key_is_taken(certificate: dict[str, Path]) -> None:
    check_tls(Settings(**certificate))


def test_certificate_and_key_may_be_one_file(certificate: dict[str, Path], tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificate["tls_key"].read_bytes() + certificate["tls_certificate"].read_bytes())
    check_tls(Settings(tls_certificate=both))


def test_tls_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^`tls_key` needs its certificate"):
        check_tls(Settings(tls_key=Path("key.pem")))


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_certificate_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    chain = tmp_path / "chain.pem"
    if content is not None:
        chain.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^`tls_certificate` and `tls_key` must be .* Received: .*chain.pem and no key: "
    ):
        check_tls(Settings(tls_certificate=chain))
