"""The programs do on a device that is not the CPU what they do on the CPU: shown without a GPU."""

import pytest

FILES = [f"tools/test_{name}.py" for name in ("test_cls", "test_partseg", "train_imgcls", "train_imgseg", "visualize")]
SOME = "figures or repeat or interrupted or all_that_one_needs or windows or pyramid or attention_of or of_classes"


@pytest.mark.slow
def test_programs_on_an_emulated_device(on_emulated_device):
    assert on_emulated_device(*FILES, "-k", SOME) >= 12
