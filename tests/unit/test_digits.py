"""The embedded digits are those of scikit-learn, each in one split."""

import numpy as np
from sklearn.datasets import load_digits

from dpt_ray.data.importing.digits import describe_digits, digit_numbers, read_digits


def test_the_splits_hold_the_digits_of_scikit_learn_once():
    wanted = load_digits()
    numbers = []
    for split in ("train", "test"):
        images = describe_digits(split)
        (recipe,) = images.recipes(2000)
        read = list(read_digits(images.reader_settings(), recipe))
        assert len(read) == len(digit_numbers(split))
        for number, image in zip(digit_numbers(split), read, strict=True):
            assert image.label == wanted.target[number]
            assert np.abs(image.data[0] * (16 / 255) - wanted.images[number]).max() < 0.5 * 16 / 255 + 1e-9
        numbers += digit_numbers(split)
    assert sorted(numbers) == list(range(len(wanted.target)))
