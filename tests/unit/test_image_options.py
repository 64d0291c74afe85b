import pytest

from jobs.conversion import Scaling
from jobs.image_options import ImageOptions, image_input, looks_like_image
from models.errors import InvalidRequest
from models.preprocessing import Preprocessing
from models.signature import Signature, TensorSpec


def takes(*shape: int | None, dtype: str = "float32") -> Signature:
    return Signature(inputs=(TensorSpec(name="x", dtype=dtype, shape=shape),), outputs=())


NHWC = takes(None, 224, 192, 3)


def test_no_option_means_tensors() -> None:
    assert image_input(ImageOptions(), NHWC) is None
    assert looks_like_image(NHWC)
    assert not looks_like_image(takes(None, 224, 192, 3, dtype="uint8"))
    assert not looks_like_image(takes(None, 16))


def test_what_the_signature_tells_is_not_asked() -> None:
    nhwc = image_input(ImageOptions(scale=0.5), NHWC)
    nchw = image_input(ImageOptions(scale=0.5), takes(1, 1, 28, 20))
    assert nhwc is not None
    assert nchw is not None
    assert nhwc.preprocessing == Preprocessing(height=224, width=192)
    assert nhwc.scaling == Scaling(scale=0.5)
    assert nchw.preprocessing == Preprocessing(height=28, width=20, channels="gray")
    assert nchw.scaling == Scaling(scale=0.5, layout="nchw")


def test_every_option_counts() -> None:
    options = ImageOptions("32x64", "bgr", "bicubic", "crop", 2.0, "1,2,3", "4", "nhwc")
    image = image_input(options, takes(None, None, None, 3))
    assert image is not None
    assert image.preprocessing == Preprocessing(height=32, width=64, channels="bgr", resize="bicubic", fit="crop")
    assert image.scaling == Scaling(scale=2.0, mean=(1, 2, 3), std=(4,))


@pytest.mark.parametrize(
    ("options", "signature", "message"),
    [
        pytest.param(ImageOptions("224x224"), NHWC, "--image 224x224: the model's input is 224 x 192", id="size"),
        pytest.param(ImageOptions("big"), NHWC, "--image 'big': expected HEIGHTxWIDTH", id="not a size"),
        pytest.param(ImageOptions(channels="gray"), NHWC, "--channels gray: the model's input has 3", id="channels"),
        pytest.param(ImageOptions(mean="1,2"), NHWC, "--mean '1,2': expected one number or 3, got 2", id="two means"),
        pytest.param(ImageOptions(std="0"), NHWC, "--std '0': 0 cannot be divided by", id="division by zero"),
        pytest.param(ImageOptions(std="a"), NHWC, "--std 'a': expected a number", id="no number"),
        pytest.param(ImageOptions(scale=1), takes(None, None, None, 3), "say to which one with --image", id="any size"),
        pytest.param(ImageOptions(scale=1), takes(None, 16), "one input of four dimensions", id="not an image"),
        pytest.param(ImageOptions(scale=1), takes(None, 8, 8, 7), "neither 1 nor 3 channels", id="no channels"),
        pytest.param(ImageOptions(scale=1), takes(None, 3, 8, 3), "may be nhwc or nchw", id="ambiguous"),
    ],
)
def test_contradictions_are_refused(options: ImageOptions, signature: Signature, message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        image_input(options, signature)
    assert message in raised.value.message
