"""Licences as people write them."""

import pytest

from resnet_hub.errors import InvalidSetting, printable
from resnet_hub.weights.licences import canonical_licence
from resnet_hub.weights.provenance import Provenance


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("MIT", "MIT"),
        ("bsd-3-clause", "BSD-3-Clause"),
        ("apache-2.0 or mit", "Apache-2.0 OR MIT"),
        (
            "gpl-2.0-or-later with classpath-exception-2.0",
            "GPL-2.0-or-later WITH Classpath-exception-2.0",
        ),
        ("GPL-2.0+", "GPL-2.0+"),
        ("LicenseRef-my-own", "LicenseRef-my-own"),
    ],
)
def test_what_spdx_knows_is_written_as_it_does_and_a_card_takes_it(written: str, meant: str):
    found = canonical_licence(written)
    assert found == meant
    assert Provenance(licence=found).licence == found
    assert canonical_licence(found) == found


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("not a licence", ""),
        ("", ""),
        ("()", ""),
        ("MIT AND", ""),
        ("MIT\nlicense: other", ""),
        ("LicenseRef-a_b", ""),
        ("Apache 2.0", "; did you mean 'Apache-2.0'?"),
        ("BSD-3-Claus", "; did you mean 'BSD-3-Clause'?"),
    ],
)
def test_what_it_does_not_know_is_refused_in_one_line(written: str, hint: str):
    with pytest.raises(InvalidSetting) as caught:
        canonical_licence(written)
    words = f"licence: {written!r} is no SPDX name or expression, such as MIT or LicenseRef-Own"
    assert str(caught.value).startswith(printable(words + hint))
