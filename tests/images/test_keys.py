import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from augcache import content_key
from augcache.errors import SourceError

arrays = hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.float32]), hnp.array_shapes(max_dims=3, max_side=6))


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(arrays, arrays)
def test_keys_tell_apart_what_differs_in_dtype_shape_or_bytes(a, b):
    """Two arrays have one key exactly when dtype, shape and bytes are equal."""
    assert (content_key(a) == content_key(b)) == same(a, b)


@given(arrays)
def test_memory_order_does_not_matter(array):
    """A Fortran-ordered or strided array has the key of its C-ordered copy."""
    doubled = np.repeat(array, 2, axis=0)[::2]
    assert content_key(np.asfortranarray(array)) == content_key(array) == content_key(doubled)


def test_key_is_stable():
    """The key of an image never changes between releases: stores depend on it."""
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert content_key(image).hex() == "d3be5b33a6cc22f1c87a7bdee5aca1a0"


def test_objects_are_refused():
    """An array of Python objects has no bytes to hash."""
    with pytest.raises(SourceError, match="dtype object"):
        content_key(np.array([object()]))
