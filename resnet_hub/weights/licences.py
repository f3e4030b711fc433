"""Licences as SPDX names: what a person writes, checked before it enters a card."""

from resnet_hub.errors import InvalidSetting, did_you_mean


def canonical_licence(text: str) -> str:
    """Return an SPDX name or expression as SPDX writes it: ``mit`` is ``MIT``.

    Names of one's own are written ``LicenseRef-...``. A card that is read is not held to this: what
    its licence was called stays.

    Args:
        text: What a person wrote.

    Raises:
        InvalidSetting: It is none.
    """
    from packaging import licenses  # here, as a net that is only used needs torch alone

    try:
        return licenses.canonicalize_license_expression(text)
    except licenses.InvalidLicenseExpression as error:
        known = getattr(licenses, "LICENSES", {})
        named = {name.lower(): name for name in (entry["id"] for entry in known.values())}
        raise InvalidSetting(
            f"licence: {text!r} is no SPDX name or expression, such as MIT or LicenseRef-Own"
            f"{did_you_mean(text, named.values())}"
        ) from error
