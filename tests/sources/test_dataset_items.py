"""Where image and label of an item are found."""

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from types import MappingProxyType

import pytest

from augcache.errors import SourceError
from augcache.sources.dataset_items import image_key, label_key, replaced, value_at

Pair = namedtuple("Pair", "image label")


@pytest.mark.parametrize("form", [dict, OrderedDict, UserDict, MappingProxyType, lambda items: defaultdict(int, items)])
@pytest.mark.parametrize("name", ["image", "img", "pixel_values"])
def test_the_image_of_a_mapping_is_found_by_its_usual_names(form, name):
    """One of the usual names is enough; what stands beside it does not matter."""
    item = form({"label": 3, name: "pixels"})
    assert (image_key(item), label_key(item)) == (name, "label")
    other = replaced(item, image_key(item), "view")
    assert dict(other) == {"label": 3, name: "view"}
    assert list(other) == ["label", name]
    assert item[name] == "pixels"
    assert type(other) is (dict if isinstance(item, MappingProxyType) else type(item))


def test_a_named_key_wins():
    """`image_key=` and `label_key=` decide where several names or none would do."""
    item = {"image": 0, "img": 1, "photo": 2, "coarse": 3}
    assert (image_key(item, "photo"), label_key(item, "coarse")) == ("photo", "coarse")
    assert image_key({7: 1, "image": 0}, 7) == 7


@pytest.mark.parametrize(
    ("item", "wanted", "message"),
    [
        ({"photo": 1, "label": 2}, None, "without 'image', 'img' or 'pixel_values'.*it has: 'photo', 'label'"),
        ({"image": 1, "img": 2}, None, "with 'image' and 'img': say which with image_key=.*it has: 'image', 'img'"),
        ({"image": 1}, "photo", "without 'photo', which image_key= names; it has: 'image'"),
        ({}, None, "no keys"),
        ({"a\nb": 1}, None, r"'a\\nb'"),
        ((1, 2), "image", "image_key='image' is for items that are dicts; this one is a tuple"),
    ],
)
def test_what_cannot_be_known_is_refused_in_one_line(item, wanted, message):
    """The error lists the keys; nothing is guessed."""
    with pytest.raises(SourceError, match=message) as caught:
        image_key(item, wanted)
    assert "\n" not in str(caught.value)


def test_a_label_may_be_missing_but_not_doubtful():
    """No label is None; a label that is named and not there is an error, and so are two."""
    assert label_key({"image": 1}) is None
    assert (label_key((1,)), label_key((1, 2)), label_key("pixels")) == (None, 1, None)
    for item, wanted in (({"image": 1}, "label"), ({"label": 1, "target": 2}, None)):
        with pytest.raises(SourceError, match="label_key="):
            label_key(item, wanted)


@pytest.mark.parametrize("item", [(1, 2, 3), [1, 2, 3], Pair(1, 2)])
def test_tuples_and_lists_start_with_the_image(item):
    """The first element is the image and the second the label; a replaced one keeps the type and the rest."""
    assert (image_key(item), value_at(item, 0), label_key(item)) == (0, 1, 1)
    assert (
        replaced(item, 0, 9) == type(item)._make([9, *item[1:]])
        if isinstance(item, Pair)
        else type(item)([9, *item[1:]])
    )
    assert list(replaced(item, 1, 9)) == [item[0], 9, *item[2:]]
    assert type(replaced(item, 1, 9)) is type(item)


def test_anything_else_is_the_image():
    """An item that is neither tuple nor mapping is the image itself."""
    assert image_key("pixels") is None
    assert value_at("pixels", None) == "pixels"
    assert replaced("pixels", None, "view") == "view"
