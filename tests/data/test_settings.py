"""Settings of augmentation that cannot be followed are refused in one line."""

from typing import Any

import pytest

from resnet_hub.data.settings import DataSettings
from resnet_hub.errors import InvalidSetting


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"repeats": 0}, "data.repeats: 0 is not at least 1"),
        ({"sampling": "balanced", "repeats": 2}, "data.sampling: balanced repeats images of small"),
        ({"lighting": -0.1}, "data.lighting: -0.1 is no standard deviation"),
        ({"lighting": float("nan")}, "data.lighting: nan"),
        ({"policy": "randaugment", "policy_magnitude": 31}, "31 is not 0 to 30, which randaugment"),
        ({"policy": "randaugment_increasing", "policy_magnitude": 11}, "11 is not 0 to 10"),
        ({"policy": "randaugment", "policy_magnitude": -1}, "data.policy_magnitude: -1 is not"),
        ({"policy": "randaugment", "policy_std": 0.5}, "data.policy_std: is for randaugment_incr"),
        ({"policy_std": 0.5}, "data.policy is none"),
        ({"policy": "randaugment_increasing", "policy_std": -1.0}, "data.policy_std: -1.0 is no"),
        ({"policy_ops": 0}, "data.policy_ops: 0 is not at least 1"),
        ({"erase": 1.5}, "data.erase: 1.5 is no probability"),
        ({"erase_area": (0.3, 0.2)}, "data.erase_area: 0.3 to 0.2 are not bounds of a share"),
        ({"erase_area": (0.0, 0.2)}, "data.erase_area: 0 to 0.2"),
        ({"erase_area": (0.1, 1.2)}, "data.erase_area: 0.1 to 1.2"),
        ({"erase_aspect": (0.0, 3.0)}, "data.erase_aspect: 0 to 3 are not bounds of a ratio"),
        ({"erase_aspect": (3.0, 1.0)}, "data.erase_aspect: 3 to 1"),
        ({"sizes": ((0, 128), (4, 160)), "size": 160}, "data.sizes: takes the place of data.size"),
        ({"sizes": ()}, "data.sizes: "),
        ({"sizes": ((4, 128), (4, 160))}, r"data.sizes: \[4, 4\] are not rising epochs"),
        ({"sizes": ((4, 128), (2, 160))}, r"data.sizes: \[4, 2\] are not rising epochs"),
        ({"sizes": ((-1, 128),)}, r"data.sizes: \[-1\] are not rising epochs"),
        ({"sizes": ((0, 0),)}, "data.sizes: 0 is no side of an image"),
    ],
)
def test_impossible_augmentation_is_refused_in_one_line(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidSetting, match=reason) as error:
        DataSettings(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "channels", "reason"),
    [
        ({"policy": "trivial"}, 2, "data.policy: trivial is for 1 or 3 channels; these images"),
        ({"lighting": 0.1}, 1, "data.lighting: is for 3 channels"),
    ],
)
def test_images_of_other_channels_are_refused_in_one_line(
    settings: dict[str, Any], channels: int, reason: str
) -> None:
    DataSettings(**settings).check_channels(3)
    with pytest.raises(InvalidSetting, match=reason) as error:
        DataSettings(**settings).check_channels(channels)
    assert "\n" not in str(error.value)
