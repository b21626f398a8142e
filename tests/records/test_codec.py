import numpy as np
import pytest
from conftest import sealed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from augcache.errors import CorruptError, RecipeError
from augcache.records import codec

dtypes = st.sampled_from([bool, np.uint8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64])
arrays = st.one_of(
    hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)),
    st.text(max_size=20).filter(lambda text: "\0" not in text).map(np.array),
)
records = st.dictionaries(st.text(min_size=1, max_size=12), arrays, max_size=5)


@given(records, st.sampled_from([0, 1, 9]))
def test_a_record_comes_back_as_it_went_in(record, level):
    """Names, dtypes, shapes and bytes survive, at every compression level."""
    back = codec.decode(codec.encode(record, level=level))
    assert list(back) == list(record)
    for name, array in record.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape == back.shape(name) or array.dtype.kind == "U"
        assert back[name].tobytes() == array.tobytes()


@settings(max_examples=300)
@given(records, st.data())
def test_a_changed_byte_is_always_noticed(record, data):
    """No flipped, cut or added byte ever gives a record."""
    raw = bytearray(codec.encode(record))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(raw), bytes(raw[:position]), codec.encode(record) + b"\0"):
        with pytest.raises(CorruptError):
            codec.decode(damaged)


@settings(max_examples=500)
@given(st.binary(max_size=200), st.booleans())
def test_a_forged_record_gives_an_error_and_nothing_else(body, counted):
    """Bytes with a right checksum but a lying header end in CorruptError, never in a crash or a huge buffer."""
    body = bytes([body[0] % 4]) + body[1:] if counted and body else body
    try:
        record = codec.decode(sealed(body))
        for name in record:
            assert record[name].nbytes <= 1 << 24
    except CorruptError:
        pass


def test_a_bomb_is_refused_before_it_is_unpacked():
    """A small frame that claims two gigabytes makes no buffer."""
    import struct

    import zstandard

    payload = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    body = bytes([1, 1]) + b"x" + struct.pack("<BBBI", 2, codec.ZSTD, 1, len(payload)) + struct.pack("<I", 1 << 31)
    with pytest.raises(CorruptError, match="the most is"):
        codec.decode(sealed(body + payload))["x"]


def test_one_array_is_decoded_without_the_others():
    """Asking for the palette leaves the index map alone."""
    record = codec.decode(codec.encode({"labels": np.zeros((64, 64), np.uint8), "palette": np.ones((3, 3), np.uint8)}))
    assert record["palette"].sum() == 9
    assert list(record._arrays) == ["palette"]


@pytest.mark.parametrize("array", [np.array([object()]), np.zeros(2, "U3"), np.zeros(2, "M8[s]"), np.zeros(2, complex)])
def test_what_a_store_cannot_hold_is_refused(array):
    """Objects, text arrays, dates and complex numbers are a clear error when written, not when read."""
    with pytest.raises(RecipeError, match="array 'x'"):
        codec.encode({"x": array})
