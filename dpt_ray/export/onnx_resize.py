"""The first part of a classifier's ONNX graph: resize and crop, as `data/images/crop.py` does it.

Images are halved while their short side is at least twice the size, then resized bicubically with antialiasing, and
cropped to the centre. An image that has the size already is unchanged.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

_RESIZED = "resized_images"

_GRAPH = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
resize (uint8[batch, {channels}, height, width] {images}) => (uint8[batch, {channels}, {size}, {size}] {resized}) {{
    size = Constant <value = int64[1] {{{size}}}> ()
    twice = Constant <value = int64[1] {{{twice}}}> ()
    two = Constant <value = int64[1] {{2}}> ()
    axes = Constant <value = int64[2] {{2, 3}}> ()
    most = Constant <value = int64 {{64}}> ()
    low = Constant <value = float {{0}}> ()
    high = Constant <value = float {{255}}> ()
    zero = Constant <value = int64 {{0}}> ()
    one = Constant <value = int64 {{1}}> ()
    couple = Constant <value = int64 {{2}}> ()
    half = Constant <value = float {{0.5}}> ()
    exact_half = Constant <value = double {{0.5}}> ()
    minus_half = Constant <value = double {{-0.5}}> ()
    first = Constant <value = int64[1] {{0}}> ()
    numbers = Cast <to = 1> ({images})
    first_sides = Shape <start = 2, end = 4> (numbers)
    first_short = ReduceMin <keepdims = 1> (first_sides)
    first_long = GreaterOrEqual (first_short, twice)
    is_long = Squeeze (first_long)
    halved = Loop (most, is_long, numbers) <body = halve (int64 n, bool c, float[b, d, h, w] x) =>
        (bool again, float[b, d, i, j] y) {{
            {weights_w}
            across = MatMul (x, weights_w)
            {round_across}
            turned = Transpose <perm = [0, 1, 3, 2]> (rounded_across)
            {weights_h}
            down = MatMul (turned, weights_h)
            {round_down}
            y = Transpose <perm = [0, 1, 3, 2]> (rounded_down)
            sides = Shape <start = 2, end = 4> (y)
            short = ReduceMin <keepdims = 1> (sides)
            long = GreaterOrEqual (short, twice)
            again = Squeeze (long)
        }}>
    sides_left = Shape <start = 2, end = 4> (halved)
    short_left = ReduceMin <keepdims = 1> (sides_left)
    exact_sides = Cast <to = 11> (sides_left)
    exact_short = Cast <to = 11> (short_left)
    exact_size = Cast <to = 11> (size)
    scale = Div (exact_size, exact_short)
    scaled = Mul (exact_sides, scale)
    rounded = Round (scaled)
    new_sides = Cast <to = 7> (rounded)
    others = Shape <start = 0, end = 2> (halved)
    old_height, old_width = Split <axis = 0, num_outputs = 2> (sides_left)
    new_height, new_width = Split <axis = 0, num_outputs = 2> (new_sides)
    wide_shape = Concat <axis = 0> (others, old_height, new_width)
    wide = Resize <{cubic}> (halved, , , wide_shape)
    wide_levels = Round (wide)
    wide_clipped = Clip (wide_levels, low, high)
    new_shape = Concat <axis = 0> (others, new_height, new_width)
    interpolated = Resize <{cubic}> (wide_clipped, , , new_shape)
    spare = Sub (new_sides, size)
    start = Div (spare, two)
    end = Add (start, size)
    cropped = Slice (interpolated, start, end, axes)
    levels = Round (cropped)
    clipped = Clip (levels, low, high)
    {resized} = Cast <to = 2> (clipped)
}}
"""


_WEIGHTS = """
            all_{a} = Shape <start = {axis}, end = {end}> (x)
            n_{a} = Squeeze (all_{a})
            m_{a} = Div (n_{a}, couple)
            exact_n_{a} = Cast <to = 11> (n_{a})
            exact_m_{a} = Cast <to = 11> (m_{a})
            scale_{a} = Div (exact_n_{a}, exact_m_{a})
            new_{a} = Range (zero, m_{a}, one)
            exact_new_{a} = Cast <to = 11> (new_{a})
            new_half_{a} = Add (exact_new_{a}, exact_half)
            centre_row_{a} = Mul (new_half_{a}, scale_{a})
            centres_{a} = Unsqueeze (centre_row_{a}, first)
            old_{a} = Range (zero, n_{a}, one)
            exact_old_{a} = Cast <to = 11> (old_{a})
            last_{a} = Constant <value = int64[1] {{1}}> ()
            pixels_{a} = Unsqueeze (exact_old_{a}, last_{a})
            left_{a} = Sub (pixels_{a}, centres_{a})
            offset_{a} = Add (left_{a}, exact_half)
            inverse_{a} = Reciprocal (scale_{a})
            distance_{a} = Mul (offset_{a}, inverse_{a})
            above_{a} = Greater (distance_{a}, minus_half)
            below_{a} = LessOrEqual (distance_{a}, exact_half)
            support_{a} = Mul (scale_{a}, exact_half)
            early_{a} = Sub (centres_{a}, support_{a})
            early_half_{a} = Add (early_{a}, exact_half)
            begin_{a} = Floor (early_half_{a})
            late_{a} = Add (centres_{a}, support_{a})
            late_half_{a} = Add (late_{a}, exact_half)
            end_{a} = Floor (late_half_{a})
            begun_{a} = GreaterOrEqual (pixels_{a}, begin_{a})
            open_{a} = Less (pixels_{a}, end_{a})
            in_box_{a} = And (above_{a}, below_{a})
            in_window_{a} = And (begun_{a}, open_{a})
            inside_{a} = And (in_box_{a}, in_window_{a})
            counted_{a} = Cast <to = 1> (inside_{a})
            counts_{a} = ReduceSum <keepdims = 1> (counted_{a}, first)
            weights_{a} = Div (counted_{a}, counts_{a})
"""
"""Pillow's box filter for a side: (old pixels, new pixels); a pixel counts where its centre lies in the box.
Pillow's order of operations and its window of whole pixels decide where a centre lies on the edge."""

_ROUND = """
            raised_{a} = Add ({a}, half)
            rounded_{a} = Floor (raised_{a})
"""


_CUBIC = (
    'mode = "cubic", cubic_coeff_a = -0.5, antialias = 1, exclude_outside = 1, '
    'coordinate_transformation_mode = "half_pixel"'
)
"""Torch resizes across, rounds to 8 bits, and then down."""


def with_resize(model: "ModelProto", images: str, size: int, channels: int) -> "ModelProto":
    """Return a graph that takes images of any size.

    Args:
        model: takes uint8 (N, C, size, size).
        images: name of its input, which the result keeps.
        size: height and width in pixels of the images that it takes.
        channels: C.
    """
    import onnx

    text = _GRAPH.format(
        ir_version=model.ir_version,
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        channels=channels,
        size=size,
        twice=2 * size,
        images=images,
        resized=_RESIZED,
        cubic=_CUBIC,
        weights_w=_WEIGHTS.format(a="w", axis=3, end=4),
        weights_h=_WEIGHTS.format(a="h", axis=2, end=3),
        round_across=_ROUND.format(a="across"),
        round_down=_ROUND.format(a="down"),
    )
    resize = onnx.parser.parse_model(text)
    resize = onnx.compose.add_prefix(resize, "resize/", rename_inputs=False, rename_outputs=False)
    return onnx.compose.merge_models(resize, model, [(_RESIZED, images)])
