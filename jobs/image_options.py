"""What `publish` is told of an image model, completed with what its signature tells."""

import re
from dataclasses import astuple, dataclass

from jobs.conversion import ImageInput, Scaling
from models.errors import InvalidRequest
from models.preprocessing import Channels, Fit, Layout, Preprocessing, Resize
from models.signature import Signature


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """The options as they were typed; None where one was not."""

    image: str | None = None
    channels: Channels | None = None
    resize: Resize | None = None
    fit: Fit | None = None
    scale: float | None = None
    mean: str | None = None
    std: str | None = None
    layout: Layout | None = None


def image_input(options: ImageOptions, signature: Signature) -> ImageInput | None:
    """How images become the model's input, or None where no option says that it takes any.

    Raises InvalidRequest where an option contradicts the signature or something is still missing.
    """
    if all(option is None for option in astuple(options)):
        return None
    if len(signature.inputs) != 1 or len(signature.inputs[0].shape) != 4:
        inputs = "; ".join(map(str, signature.inputs))
        raise InvalidRequest(f"an image model has one input of four dimensions, this one has {inputs}")
    shape = signature.inputs[0].shape
    layout = _layout(options.layout, shape)
    height, width, depth = shape[1:] if layout == "nhwc" else (*shape[2:], shape[1])
    channels = _channels(options.channels, depth)
    count = 1 if channels == "gray" else 3
    height, width = _size(options.image, height, width)
    return ImageInput(
        Preprocessing(
            height=height,
            width=width,
            channels=channels,
            resize=options.resize or "bilinear",
            fit=options.fit or "stretch",
        ),
        Scaling(
            scale=1.0 if options.scale is None else options.scale,
            mean=_numbers("--mean", options.mean, 0.0, count),
            std=_numbers("--std", options.std, 1.0, count, zero_allowed=False),
            layout=layout,
        ),
    )


def looks_like_image(signature: Signature) -> bool:
    """Whether the only input could be images that were scaled by the client so far."""
    if len(signature.inputs) != 1 or len(signature.inputs[0].shape) != 4:
        return False
    _, first, _, last = signature.inputs[0].shape
    return signature.inputs[0].dtype != "uint8" and (last in (1, 3) or first in (1, 3))


def _layout(given: Layout | None, shape: tuple[int | None, ...]) -> Layout:
    if given is not None:
        return given
    could_be_nhwc, could_be_nchw = shape[3] in (1, 3, None), shape[1] in (1, 3)
    if could_be_nhwc and could_be_nchw and shape[3] is not None:
        raise InvalidRequest(f"the input's shape {_listed(shape)} may be nhwc or nchw: say which with --layout")
    if could_be_nchw:
        return "nchw"
    if could_be_nhwc:
        return "nhwc"
    raise InvalidRequest(f"the input's shape {_listed(shape)} has neither 1 nor 3 channels, so it takes no images")


def _channels(given: Channels | None, depth: int | None) -> Channels:
    told: Channels = given or ("gray" if depth == 1 else "rgb")
    if depth is not None and depth != (1 if told == "gray" else 3):
        raise InvalidRequest(f"--channels {told}: the model's input has {depth} channels")
    return told


def _size(given: str | None, height: int | None, width: int | None) -> tuple[int, int]:
    if given is None:
        if height is None or width is None:
            raise InvalidRequest("the model takes images of any size: say to which one with --image HEIGHTxWIDTH")
        return height, width
    found = re.fullmatch(r"(\d{1,4})[xX](\d{1,4})", given)
    if not found:
        raise InvalidRequest(f"--image {given!r}: expected HEIGHTxWIDTH, as in 224x224")
    told = int(found.group(1)), int(found.group(2))
    if (height or told[0], width or told[1]) != told:
        raise InvalidRequest(f"--image {given}: the model's input is {height} x {width}")
    return told


def _numbers(name: str, given: str | None, default: float, count: int, zero_allowed: bool = True) -> tuple[float, ...]:
    if given is None:
        return (default,)
    try:
        numbers = tuple(float(part) for part in given.split(","))
    except ValueError:
        raise InvalidRequest(f"{name} {given!r}: expected a number, or {count} of them separated by commas") from None
    if len(numbers) not in (1, count):
        raise InvalidRequest(f"{name} {given!r}: expected one number or {count}, got {len(numbers)}")
    if not zero_allowed and 0 in numbers:
        raise InvalidRequest(f"{name} {given!r}: 0 cannot be divided by")
    return numbers


def _listed(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"
