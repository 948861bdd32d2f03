import pytest

from kaggle_kit.errors import DataError, MissingFileError
from kaggle_kit.kernel.image import ImageList, load_image, parse_freeze


def test_the_list_of_the_package_says_what_it_is():
    image = load_image()
    assert image.python == "3.12"
    assert image.date
    assert image.partial
    assert image.provides("torch")
    assert image.version("PyYAML")
    assert not image.provides("ttach")


def test_a_freeze_replaces_it(tmp_path):
    path = tmp_path / "freeze.txt"
    path.write_text(
        "numpy==2.0.2\ntorch @ file:///x.whl\n# comment\nScikit_Learn==1.6.1+local ; python_version > '3'\n-e git+x\n"
    )
    image = load_image(path)
    assert image.packages == {"pip": None, "setuptools": None, "numpy": "2.0.2", "torch": None, "scikit-learn": "1.6.1"}
    assert not image.partial


@pytest.mark.parametrize(("content", "error"), [(None, MissingFileError), ("hello\n", DataError)])
def test_what_is_no_freeze_is_refused(tmp_path, content, error):
    path = tmp_path / "freeze.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match="pip freeze"):
        load_image(path)


def test_packages_with_the_same_content_stand_for_each_other():
    image = ImageList("", "", False, "3.12", parse_freeze("opencv-python==4.13.0.92"))
    assert image.provides("opencv-python-headless")
    assert image.version("opencv_python_headless") == "4.13.0.92"
    assert not image.provides("pillow")
