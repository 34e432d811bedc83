"""What users pass to a loaded network: every usual type gives the same result, and all else one line."""

import datetime
import decimal
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_runs import write_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import dpt_ray
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.errors import UserError
from dpt_ray.export.arguments import as_class_ids, as_url
from dpt_ray.export.image_arguments import as_images
from dpt_ray.pipeline.export_run import export_classifier, export_generator

IMAGES = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def kind(value: object) -> str:
    """A test's name for a value: the same in every process, as `repr` is not."""
    return type(value).__name__


FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=150)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    run, _ = write_run(tmp_path_factory.mktemp("results"))
    exports = tmp_path_factory.mktemp("exports")
    return export_generator(run, str(exports / "gen")), export_classifier(run, str(exports / "cls"))


@pytest.fixture(scope="module")
def generator(folders):
    return dpt_ray.load_generator(folders[0], "cpu")


@pytest.fixture(scope="module")
def classifier(folders):
    return dpt_ray.load_classifier(folders[1], "cpu")


def line(kind, call, *arguments, **options) -> str:
    with pytest.raises((UserError, TypeError)) as caught:
        call(*arguments, **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


class Place:
    """A path of another library."""

    def __init__(self, place):
        self.place = place

    def __fspath__(self):
        return self.place


def test_paths_of_every_kind_are_taken(folders, tmp_path, monkeypatch):
    folder = Path(folders[0])
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder.parent)
    wanted = dpt_ray.load_generator(str(folder), "cpu").sample(1)
    for place in (folder, "~/gen", Path("~/gen"), "gen", Path("gen"), f"{folder}/", Place(str(folder)),
                  Place(os.fsencode(folder)), f"file://{folder}", folder / "model.safetensors"):  # fmt: skip
        loaded = dpt_ray.load_generator(place, "cpu")
        assert place == folder / "model.safetensors" or torch.equal(loaded.sample(1), wanted), place
    assert dpt_ray.load_classifier(Path(folders[1]), device=torch.device("cpu")).predict(IMAGES).shape == (5,)


@pytest.mark.parametrize("load", [dpt_ray.load_generator, dpt_ray.load_classifier])
def test_what_is_no_path_is_one_line(load, tmp_path):
    assert line(TypeError, load, None) == "url must be text or a path, not None"
    assert line(TypeError, load, 5) == "url must be text or a path, not 5 (int)"
    assert line(TypeError, load, b"gen") == "url must be text or a path, not b'gen' (bytes)"
    assert line(TypeError, load, ["gen"]) == "url must be text or a path, not ['gen'] (list)"
    assert "url is empty" in line(UserError, load, "")
    assert "null character" in line(UserError, load, "a\0b")
    assert "pathlib has removed a slash" in line(UserError, load, Path("s3://bucket/gen"))
    assert "cannot be '~nobody-here/gen'" in line(UserError, load, "~nobody-here/gen")
    assert "no storage is known" in line(UserError, load, "nonsense://gen")
    assert "holds no exported" in line(UserError, load, tmp_path)
    assert "device must be text, a torch.device or the number of a GPU, not 1.5" in line(TypeError, load, tmp_path, 1.5)
    assert "not True (bool)" in line(TypeError, load, tmp_path, True)
    assert "the device 'meta' cannot be used here" in line(UserError, load, tmp_path, "meta")
    assert "the device '' cannot be used here" in line(UserError, load, tmp_path, "")


CLASS_TWO_ONE_TWO = [
    [2, 1, 2],
    (2, 1, 2),
    iter([2, 1, 2]),
    (number for number in (2, 1, 2)),
    ["cat", "bee", "cat"],
    [2, "bee", np.int16(2)],
    [2.0, 1.0, np.float32(2)],
    [torch.tensor(2), np.array(1), 2],
    np.array([2, 1, 2]),
    np.array([2, 1, 2], np.uint8),
    np.array([2.0, 1.0, 2.0]),
    np.array(["cat", "bee", "cat"]),
    np.array([2, "bee", 2], object),
    torch.tensor([2, 1, 2]),
    torch.tensor([2, 1, 2], dtype=torch.uint8),
    torch.tensor([[2.0], [1.0], [2.0]], requires_grad=True),
]


@pytest.mark.parametrize("labels", CLASS_TWO_ONE_TWO, ids=lambda labels: type(labels).__name__)
def test_classes_of_every_kind_are_taken(generator, labels):
    assert as_class_ids(labels, generator.classes) == [2, 1, 2]


ONE = [
    1,
    1.0,
    "bee",
    np.int64(1),
    np.uint8(1),
    np.float64(1),
    np.str_("bee"),
    np.array(1),
    torch.tensor(1),
    [1],
    range(1, 2),
]


@pytest.mark.parametrize("label", ONE, ids=repr)
def test_a_single_class_is_taken(generator, label):
    drawn = generator.sample(label)
    assert (drawn.shape, drawn.dtype) == ((1, 1, 8, 8), torch.uint8)
    assert torch.equal(drawn, generator.sample([1]))


@pytest.mark.parametrize("none", [[], (), range(0), iter(()), np.zeros(0), torch.zeros(0, 3)], ids=kind)
def test_no_class_is_no_image(generator, none):
    assert generator.sample(none).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([float("inf")], "there is no class inf; ids go from 0 to 2"),
        (float("nan"), "labels must be the id (0 to 2) or name of a class, or a list of them, not nan (float)"),
        (np.array([np.nan]), "there is no class nan; ids go from 0 to 2"),
        ([-1], "there is no class -1; ids go from 0 to 2"),
        (3, "there is no class 3; ids go from 0 to 2"),
        ([10**5000], "there is no class 2^16610 or so; ids go from 0 to 2"),
        ([1.5], "there is no class 1.5; ids go from 0 to 2"),
        ([True], "there is no class True (bool); ids go from 0 to 2"),
        (torch.tensor([True]), "there is no class True (bool); ids go from 0 to 2"),
        ([None], "there is no class None; ids go from 0 to 2"),
        ([[0, 1]], "there is no class [0, 1] (list); ids go from 0 to 2"),
        ("dog", "there is no class 'dog'; there are: ant, bee, cat"),
        ("", "there is no class ''; there are: ant, bee, cat"),
        (["1"], "there is no class '1'; there are: ant, bee, cat"),
        (np.array([1, 2], "datetime64[ns]"), "labels must be ids or names of classes, not array(['1970"),
        ([np.datetime64(1, "ns")], "there is no class np.datetime64"),
    ],
)
def test_a_class_that_does_not_exist_is_one_line(generator, labels, told):
    kind = TypeError if told.startswith("labels must") else UserError
    assert line(kind, generator.sample, labels).startswith(told)


@pytest.mark.parametrize(
    "labels",
    [None, True, {0: 1}, {0, 1}, b"\0\1", object(), 1j, torch.nn.Identity()],
    ids=kind,
)
def test_what_is_no_class_at_all_is_one_line(generator, labels):
    told = line(TypeError, generator.sample, labels)
    assert told.startswith("labels must be the id (0 to 2) or name of a class, or a list of them, not ")


def test_a_name_of_several_classes_needs_an_id():
    assert as_class_ids(["b", 2], ("a", "b", "a")) == [1, 2]
    assert (
        line(UserError, as_class_ids, "a", ("a", "b", "a"))
        == "2 classes are called 'a'; give an id; ids go from 0 to 2"
    )


def test_numbers_of_every_kind_are_taken(generator):
    wanted = generator.sample([0, 1], seed=3, steps=2, first=1, guidance_scale=0.5, batch=1)
    for kind in (float, np.int64, np.uint8, np.float32, np.array, torch.tensor):
        given = {"seed": kind(3), "steps": kind(2), "first": kind(1), "batch": kind(1)}
        assert torch.equal(generator.sample([0, 1], guidance_scale=0.5, **given), wanted)
    for half in (np.float64(0.5), np.float16(0.5), np.array(0.5), torch.tensor(0.5)):
        drawn = generator.sample([0, 1], seed=3, steps=2, first=1, guidance_scale=half, batch=1)
        assert torch.equal(drawn, wanted)
    assert generator.sample([0, 1], steps=1, batch=10**18).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (UserError, {"batch": 1.5}, "batch must be a whole number, not 1.5"),
        (UserError, {"batch": 0}, "batch must be at least 1, not 0"),
        (UserError, {"batch": float("nan")}, "batch must be a whole number, not nan"),
        (TypeError, {"batch": None}, "batch must be a whole number, not None"),
        (TypeError, {"batch": True}, "batch must be a whole number, not True (bool)"),
        (TypeError, {"batch": "2"}, "batch must be a whole number, not '2' (str)"),
        (TypeError, {"batch": [2]}, "batch must be a whole number, not [2] (list)"),
        (UserError, {"first": -1}, "first must not be negative: -1"),
        (UserError, {"first": 2**70}, "first must be at most 9223372036854775807, not 2^71 or so"),
        (UserError, {"seed": 0.5}, "seed must be a whole number, not 0.5"),
        (TypeError, {"seed": "1"}, "seed must be a whole number, not '1' (str)"),
        (UserError, {"seed": 10**5000}, "seed must be at most 9223372036854775807, not 2^16610 or so"),
        (UserError, {"steps": 10**9}, "steps must be at most 10000, not 1000000000"),
        (UserError, {"steps": 0}, "steps = 0 is not allowed: input should be greater than or equal to 1"),
        (UserError, {"guidance_scale": float("inf")}, "guidance_scale = inf is not allowed: input should be a finite"),
        (UserError, {"guidance_scale": -0.5}, "guidance_scale = -0.5 is not allowed: "),
        (UserError, {"guidance_scale": 10**400}, "guidance_scale is too large: 2^1329 or so"),
        (TypeError, {"guidance_scale": "0.4"}, "guidance_scale must be a number, not '0.4' (str)"),
        (TypeError, {"guidance_scale": True}, "guidance_scale must be a number, not True (bool)"),
        (TypeError, {"guidance_scale": np.array([0.4])}, "guidance_scale must be a number, not array([0.4]) (ndarray)"),
        (TypeError, {"sampler": 3}, "sampler must be the name of a sampler, not 3 (int)"),
        (UserError, {"sampler": "magic"}, "sampler = 'magic' is not allowed: input should be 'euler'"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_one_line(generator, kind, given, told):
    for labels in ([0], []):  # checked whatever is drawn
        assert line(kind, generator.sample, labels, **given).startswith(told)


def test_guidance_that_drives_images_out_of_range_says_so(generator):
    told = line(UserError, generator.sample, 0, guidance_scale=1e308)
    assert "NaN or infinite pixels" in told
    assert "lower the guidance scale (1e+308)" in told


def test_images_of_every_kind_are_taken(classifier):
    wanted = classifier.probabilities(IMAGES)
    pixels = IMAGES.numpy()
    frozen = pixels.copy()
    frozen.flags.writeable = False
    pillow = [Image.fromarray(image[0]) for image in pixels]
    arrays = [pixels, frozen, pixels[:, 0], pixels.transpose(0, 2, 3, 1), IMAGES.permute(0, 2, 3, 1)]
    lists = [list(IMAGES), list(pixels), tuple(pixels[:, 0]), iter(IMAGES), pillow, iter(pillow), list(IMAGES[:, None])]
    mixed = [IMAGES[0], pixels[1], pixels[2, 0], pillow[3], pillow[4].convert("RGB")]
    for images in (*arrays, pixels[::-1][::-1], *lists, mixed):
        torch.testing.assert_close(classifier.probabilities(images), wanted)
    for single in (
        IMAGES[0],
        pixels[0],
        pixels[0, 0],
        pixels[:1],
        pillow[0],
        [pillow[0]],
        pixels[0].transpose(1, 2, 0),
    ):
        torch.testing.assert_close(classifier.probabilities(single), wanted[:1])
        assert classifier.predict(single).tolist() == [wanted[0].argmax()]
    assert (
        torch.equal(classifier.predict(np.zeros((2, 1, 8, 8), np.uint8), batch=np.int8(1)).shape, torch.Size([2]))
        if False
        else True
    )
    assert classifier.predict(np.zeros((2, 1, 8, 8), np.uint8), batch=np.int8(1)).shape == (2,)
    for none in ([], (), iter(()), IMAGES[:0], pixels[:0]):
        assert classifier.probabilities(none).shape == (0, 3)
        assert classifier.predict(none).shape == (0,)


def test_images_of_pillow_are_brought_to_the_form_as_files_are(classifier, tmp_path):
    random = np.random.default_rng(0)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"):
        values = random.integers(0, 256, (20, 30, 4), np.uint8)
        base = Image.fromarray(values[..., :3])
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 250) if mode == "I;16" else base.convert(mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray(values[..., 3]))
        suffix = "tiff" if mode in ("CMYK", "YCbCr") else "png"
        image.save(tmp_path / f"a.{suffix}")
        read = classifier.read(tmp_path / f"a.{suffix}")
        assert (as_images(image, ImageForm(8, 1)).int() - read.int()).abs().max() <= 1, mode


def test_images_of_pillow_are_turned_as_files_are(classifier, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        rows = as_images(turned, ImageForm(8, 1))
    assert torch.equal(rows, classifier.read([tmp_path / "turned.png"]))
    assert torch.equal(rows[0, 0], torch.from_numpy(np.rot90(np.asarray(image), -1).copy()))


@pytest.mark.parametrize(
    ("kind", "images", "told"),
    [
        (UserError, IMAGES.float(), "images must be uint8 (N, 1, 8, 8), not float32 (5, 1, 8, 8); classifier.read"),
        (UserError, np.zeros((2, 1, 8, 8)), "images must be uint8 (N, 1, 8, 8), not float64 (2, 1, 8, 8)"),
        (UserError, np.zeros((2, 1, 8, 8), bool), "images must be uint8 (N, 1, 8, 8), not bool (2, 1, 8, 8)"),
        (UserError, np.zeros((2, 1, 9, 8), np.uint8), "not uint8 (2, 1, 9, 8): height 9, not 8; "),
        (UserError, np.zeros((2, 1, 9, 7), np.uint8), "not uint8 (2, 1, 9, 7): height 9, not 8, width 7, not 8; "),
        (UserError, np.zeros((2, 3, 8, 8), np.uint8), "not uint8 (2, 3, 8, 8): channels 3, not 1; "),
        (UserError, np.zeros((2, 8, 8, 3), np.uint8), "not uint8 (2, 8, 8, 3): channels 3, not 1; "),
        (UserError, np.zeros((9, 9), np.uint8), "not uint8 (9, 9): height 9, not 8, width 9, not 8; "),
        (UserError, np.zeros(8, np.uint8), "not uint8 (8,): 1 dimension; "),
        (UserError, np.zeros((1, 1, 1, 8, 8), np.uint8), "not uint8 (1, 1, 1, 8, 8): 5 dimensions; "),
        (UserError, [IMAGES], "images[0] must be one image, not 5; give one array, or a list of single images"),
        (UserError, [IMAGES[0], np.zeros((4, 4), np.uint8)], "images[1] must be uint8 (N, 1, 8, 8), not uint8 (4, 4)"),
        (UserError, Image.new("F", (8, 8)), "the image has floating-point pixels"),
        (UserError, Image.new("L", (0, 3)), "the image has no pixels (0x3)"),
        (TypeError, None, "images must be an array, an image of Pillow, or a list of them, not None"),
        (TypeError, 3, "images must be an array, an image of Pillow, or a list of them, not 3 (int)"),
        (TypeError, "a.png", "images must be arrays or images, not 'a.png' (str); classifier.read(files) reads files"),
        (TypeError, Path("a.png"), "images must be arrays or images, not PosixPath('a.png'); classifier.read(files)"),
        (TypeError, ["a.png"], "images[0] must be an array or an image of Pillow, not 'a.png' (str)"),
        (TypeError, [[0, 1], [2, 3]], "images[0] must be an array or an image of Pillow, not [0, 1] (list)"),
        (TypeError, {0: IMAGES[0]}, "images must be an array, an image of Pillow, or a list of them, not {0: "),
        (TypeError, IMAGES.to_sparse(), "images must be an ordinary array, not "),
        (TypeError, IMAGES.to("meta"), "images has no values"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_one_line(classifier, kind, images, told):
    assert told in line(kind, classifier.predict, images)


def test_colour_where_grey_is_taken_and_grey_where_colour_is():
    colour = ImageForm(8, 3)
    assert ": greyscale, where colour is taken" in line(UserError, as_images, np.zeros((8, 8), np.uint8), colour)
    assert ": channels 1, not 3" in line(UserError, as_images, np.zeros((2, 1, 8, 8), np.uint8), colour)
    assert ": channels 4, not 3" in line(UserError, as_images, np.zeros((8, 8, 4), np.uint8), colour)
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert torch.equal(as_images(grey, colour)[0], torch.arange(64, dtype=torch.uint8).view(8, 8).repeat(3, 1, 1))
    pixels = torch.arange(192, dtype=torch.uint8).view(8, 8, 3)
    for images in (pixels, pixels.permute(2, 0, 1), pixels.numpy(), Image.fromarray(pixels.numpy())):
        assert torch.equal(as_images(images, colour)[0], pixels.permute(2, 0, 1))


def test_damaged_and_closed_images_are_one_line(classifier):
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(content, "PNG")
    cut = Image.open(io.BytesIO(content.getvalue()[:800]))
    assert "the image cannot be decoded" in line(UserError, classifier.predict, cut)
    closed = Image.open(io.BytesIO(content.getvalue()))
    closed.close()
    assert "images[1] cannot be decoded" in line(UserError, classifier.predict, [IMAGES[0], closed])


def test_files_of_every_kind_are_read(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(IMAGES[0, 0].numpy()).save("a.png")
    Image.fromarray(IMAGES[1, 0].numpy()).save("b.png")
    for files in ("a.png", Path("a.png"), ["a.png"], (Path("a.png"),), str(tmp_path / "a.png"), Place("a.png")):
        assert torch.equal(classifier.read(files), IMAGES[:1])
    assert torch.equal(classifier.read(sorted(tmp_path.glob("*.png"))), IMAGES[:2])
    assert torch.equal(classifier.read(tmp_path / name for name in ("a.png", "b.png")), IMAGES[:2])
    assert torch.equal(classifier.read(np.array(["a.png", "b.png"])), IMAGES[:2])
    assert classifier.read([]).shape == (0, 1, 8, 8)


def test_files_that_cannot_be_read_are_one_line(classifier, tmp_path):
    assert line(UserError, classifier.read, str(tmp_path / "no.png")).endswith("no.png: does not exist")
    assert "cannot be read (Is a directory)" in line(UserError, classifier.read, [tmp_path])
    (tmp_path / "text.png").write_text("hello")
    assert "text.png: is not a readable image" in line(UserError, classifier.read, tmp_path / "text.png")
    assert line(TypeError, classifier.read, None) == "urls must be a path, or a list of them, not None"
    assert line(TypeError, classifier.read, [tmp_path, 3]) == "urls[1] must be text or a path, not 3 (int)"
    assert line(TypeError, classifier.read, b"a.png").startswith("urls must be a path, or a list of them, not b'a.png'")


class Strange:
    """An object whose methods all raise."""

    def __repr__(self):
        raise RuntimeError("no")

    __iter__ = __index__ = __float__ = __int__ = __len__ = __fspath__ = __array__ = __bool__ = __repr__


def anything():
    numbers = st.integers() | st.floats() | st.booleans() | st.complex_numbers() | st.decimals() | st.fractions()
    others = st.none() | st.text(max_size=8) | st.binary(max_size=8) | st.dates() | st.just(Ellipsis)
    arrays = [np.array(3), np.zeros((2, 8, 8), np.uint8), np.zeros((0, 3)), np.array([[1, 2]]), np.array(["ant"])]
    arrays += [np.array([b"ant"]), np.array([1j]), np.array([None]), np.zeros(2, "i4,f4"), np.timedelta64(3, "s")]
    arrays += [np.ma.masked_array([0, 1], [True, False]), np.datetime64("NaT"), np.float16(1), np.bool_(True)]
    tensors = [torch.zeros(2), torch.tensor(1), torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.eye(3).to_sparse()]
    tensors += [torch.zeros(3, device="meta"), torch.tensor(1j), torch.tensor([], dtype=torch.bool)]
    objects = [int, len, datetime.timedelta(1), decimal.Decimal("NaN"), torch.nn.Linear(1, 1), Image.new("L", (3, 3))]
    objects += [Path("x"), Place("y"), Place(3), slice(2), np.int8, "ant", "bee", 0, 1, 2]
    fixed = st.sampled_from(range(len([*arrays, *tensors, *objects]))).map([*arrays, *tensors, *objects].__getitem__)
    scalars = numbers | others | fixed | st.builds(Strange)
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=2), inner, max_size=2)
            | st.frozensets(st.integers(), max_size=2)
            | st.lists(inner, max_size=2).map(iter)
        ),
        max_leaves=4,
    )


def taken_or_told(call, *arguments, **options) -> None:
    try:
        call(*arguments, **options)
    except (UserError, TypeError) as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error)  # noqa: PT017


@FEW
@given(labels=anything() | st.lists(st.sampled_from([0, 1, 2, "ant", 1.0, np.int8(2)]), max_size=3))
def test_whatever_is_given_as_labels_is_drawn_or_told(generator, labels):
    taken_or_told(generator.sample, labels, steps=1)


@FEW
@given(
    given=st.dictionaries(
        st.sampled_from(["guidance_scale", "seed", "sampler", "first", "batch"]), anything(), min_size=1, max_size=2
    )
)
def test_whatever_is_given_as_a_setting_is_taken_or_told(generator, given):
    taken_or_told(generator.sample, [0, 2], steps=1, **given)


@MANY
@given(steps=anything())
def test_whatever_is_given_as_steps_is_taken_or_told(generator, steps):
    taken_or_told(generator.sample, [], steps=steps)


@MANY
@given(images=anything(), batch=st.just(2) | anything())
def test_whatever_is_given_as_images_is_classified_or_told(classifier, images, batch):
    taken_or_told(classifier.predict, images, batch)


@MANY
@given(urls=anything())
def test_whatever_is_given_as_files_is_read_or_told(classifier, urls):
    taken_or_told(classifier.read, urls)


@MANY
@given(url=anything() | st.text(max_size=4).map(lambda text: f"{text}://{text}"), device=st.just("cpu") | anything())
def test_whatever_is_given_as_a_place_is_loaded_or_told(folders, url, device):
    taken_or_told(as_url, url, "url")
    for load, folder in zip((dpt_ray.load_generator, dpt_ray.load_classifier), folders, strict=True):
        taken_or_told(load, url if device == "cpu" else folder, device)


def test_an_object_that_raises_at_every_touch_is_told_by_its_type(generator, classifier):
    assert line(TypeError, generator.sample, 0, seed=Strange()).count("Strange") == 1
    assert line(UserError, generator.sample, [Strange()]).count("Strange") == 1
    assert line(TypeError, classifier.predict, [Strange()]).count("Strange") == 1
