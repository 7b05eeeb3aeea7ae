from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from models.manifest import DType
from service.protocols.datatypes import DATATYPES, OF_DTYPE, Datatype, widen_bfloat16
from tests.service.v2_client import DATATYPES as V2_NAMES


def test_table_has_every_dtype_once() -> None:
    assert sorted(OF_DTYPE) == sorted(get_args(DType))
    for names in zip(*DATATYPES, strict=True):
        assert len(set(names)) == len(DATATYPES)


@pytest.mark.parametrize("item", DATATYPES)
def test_names_and_bytes_agree(item: Datatype) -> None:
    assert item.v2 == V2_NAMES[item.dtype]
    if item.wire is not None:
        assert item.wire == np.dtype(item.dtype).newbyteorder("<")


def test_bfloat16_is_float32_cut_off() -> None:
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x8000], np.uint16)
    assert widen_bfloat16(bits).tolist() == [1.0, -2.0, float("inf"), -0.0]


def test_widened_rows_keep_their_shape() -> None:
    assert widen_bfloat16(np.zeros((2, 3), np.uint16)).shape == (2, 3)
