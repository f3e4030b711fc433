"""Which nets each study trains, and which it compares. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from resnet_hub.errors import InvalidSetting
from resnet_hub.studies.members import Member

Pair = tuple[Member, Member]
"""Two members whose errors are compared: the first one's minus the second one's."""

_LAST_EPOCH = {"data.held_out": 0}  # all is trained on, the test steers nothing, the last counts
_BASIC = (20, 32, 44, 56, 110)


@dataclass(frozen=True)
class Study:
    """A question to several nets.

    Attributes:
        name: As the command line has it.
        title: Of its figure and its page.
        paper: Where the papers ask it.
        depths: Layers of the nets, unless others are asked for.
        known: Depths that it can be asked for.
        of_depth: The members of one depth.
        pairs: Which of all members are compared.
    """

    name: str
    title: str
    paper: str
    depths: tuple[int, ...]
    known: tuple[int, ...]
    of_depth: Callable[[int], Sequence[Member]]
    pairs: Callable[[Sequence[Member]], list[Pair]]

    def members(self, depths: Sequence[int]) -> list[Member]:
        """Return the members of some depths.

        Raises:
            InvalidSetting: A depth that the study does not know.
        """
        for depth in depths:
            if depth not in self.known:
                known = ", ".join(map(str, self.known))
                raise InvalidSetting(f"--depths: {self.name} has no nets of {depth}; has {known}")
        return [member for depth in depths for member in self.of_depth(depth)]


def plain(depth: int) -> Member:
    """Return the plain net of 1512.03385 §4.2."""
    return _he2015(f"cifar_plain{depth}", f"plain-{depth}", f"cifar10_plain{depth}", "plain nets")


def residual(depth: int, shortcut: str | None = None) -> Member:
    """Return the residual net of 1512.03385 §4.2, with a shortcut option of its §3.3 or its own."""
    net, recipe = f"cifar_resnet{depth}", f"cifar10_resnet{depth}"
    if shortcut is None:
        return _he2015(net, f"ResNet-{depth}", recipe, "residual nets")
    settings = {} if shortcut == "A" else {"net.shortcut": shortcut}
    twist = "" if shortcut == "A" else f"shortcut{shortcut}"
    label = f"ResNet-{depth}, option {shortcut}"
    return _he2015(net, label, recipe, f"ResNet-{depth}", twist=twist, **settings)


def unit(depth: int, form: str, *, data: str = "cifar10", batch_size: int | None = None) -> Member:
    """Return a net of one of the units of 1603.05027 Fig. 4.

    Args:
        depth: Layers; those of 164 and 1001 layers have bottlenecks.
        form: As ``net.form`` has it.
        data: As recipes' names have it: ``cifar10`` or ``cifar100``.
        batch_size: Images a step, if not the recipe's.
    """
    net = f"cifar_preact_resnet{depth}" if form == "preact" else f"cifar_resnet{depth}"
    own = {} if form in ("preact", "residual") else {"net.form": form}
    more = {} if batch_size is None else {"data.batch_size": batch_size}
    twists = list(own.values())  # a folder's name tells apart whatever else is one net
    twists += [data] if data != "cifar10" else []
    twists += [f"batch{batch_size}"] if batch_size is not None else []
    return _he2016(net, FORMS[form], depth, {**own, **more}, "-".join(twists), data)


FORMS: Mapping[str, str] = {
    "residual": "original",
    "bn_after_addition": "BN after addition",
    "relu_before_addition": "ReLU before addition",
    "relu_only_preact": "ReLU-only pre-activation",
    "preact": "full pre-activation",
}
"""The units of 1603.05027 Fig. 4 as its Table 2 calls them, by ``net.form``."""


def scaled(depth: int, shortcut: float, branch: float) -> Member:
    """Return a net whose shortcuts and branches are multiplied by constants; 1603.05027 §3.1."""
    own = {"net.shortcut_scale": shortcut, "net.residual_scale": branch}
    label = f"shortcut × {shortcut:g}, branch × {branch:g}"
    return _gated(depth, label, own, f"scale{shortcut:g}_{branch:g}")


def gated(depth: int, gate: str, bias: float) -> Member:
    """Return a net with gates, ``exclusive`` or ``shortcut_only``; 1603.05027 §3.1."""
    own = {"net.shortcut_gate": gate, "net.gate_bias": bias}
    label = f"{gate.replace('_', '-')} gate, bias {bias:g}".replace(" -", " −")
    return _gated(depth, label, own, f"{gate}_gate{bias:g}")


def projected(depth: int) -> Member:
    """Return a net with a 1×1 convolution on every shortcut; 1603.05027 §3.1."""
    return _gated(depth, "1×1 convolution on all shortcuts", {"net.shortcut": "C"}, "shortcutC")


def dropped(depth: int, rate: float = 0.5) -> Member:
    """Return a net with dropout on every shortcut; 1603.05027 §3.1."""
    own = {"net.shortcut_dropout": rate}
    return _gated(depth, f"dropout {rate:g} on shortcuts", own, f"dropout{rate:g}")


def _gated(depth: int, label: str, own: Mapping[str, Any], twist: str) -> Member:
    return _he2016(f"cifar_resnet{depth}", label, depth, own, twist, "cifar10")


def _he2015(
    net: str, label: str, recipe: str, panel: str, *, twist: str = "", **settings: Any
) -> Member:
    depth = int("".join(filter(str.isdigit, net)))
    return Member(net, label, recipe, {**_LAST_EPOCH, **settings}, twist, panel, depth)


def _he2016(
    net: str, label: str, depth: int, own: Mapping[str, Any], twist: str, data: str
) -> Member:
    # One recipe for every unit and gate of a depth, so that nothing else differs between them.
    recipe = f"{data}_preact{depth if depth in (164, 1001) else 110}"
    settings = {"net.name": net, **_LAST_EPOCH, **own}
    return Member(net, label, recipe, settings, twist, f"{depth} layers", depth)


def _degradation(depth: int) -> list[Member]:
    return [plain(depth), residual(depth)]


def _shortcuts(depth: int) -> list[Member]:
    return [residual(depth, option) for option in "ABC"]


def _units(depth: int) -> list[Member]:
    return [unit(depth, form) for form in FORMS]


def _gates(depth: int) -> list[Member]:
    return [
        unit(depth, "residual"),
        scaled(depth, 0, 1),
        scaled(depth, 0.5, 1),
        scaled(depth, 0.5, 0.5),
        *(gated(depth, "exclusive", bias) for bias in (0, -6, -7)),
        *(gated(depth, "shortcut_only", bias) for bias in (0, -6)),
        projected(depth),
        dropped(depth),
    ]


def _deepest_and_twins(members: Sequence[Member]) -> list[Pair]:
    """Pair each panel's deepest net with its shallowest, and panels' nets of one depth."""
    pairs, panels = [], {member.panel: member for member in members}
    for panel in panels:
        own = sorted((m for m in members if m.panel == panel), key=lambda member: member.depth)
        if len(own) > 1:
            pairs.append((own[-1], own[0]))
    twins = {m.depth: [n for n in members if n.depth == m.depth] for m in members}
    return pairs + [(one, other) for one, other in twins.values()]


def _with_the_first(members: Sequence[Member]) -> list[Pair]:
    """Pair each net with the first one of its panel."""
    firsts: dict[str, Member] = {}
    for member in members:
        firsts.setdefault(member.panel, member)
    return [(m, firsts[m.panel]) for m in members if m is not firsts[m.panel]]


def _with_the_one_before(members: Sequence[Member]) -> list[Pair]:
    ordered = sorted(members, key=lambda member: member.depth)
    return [(deeper, shallower) for shallower, deeper in pairwise(ordered)]


DESIGNS: Mapping[str, Study] = {
    study.name: study
    for study in (
        Study(
            "degradation",
            "Degradation: plain nets and residual nets of the same depths",
            "1512.03385 §4.2, Fig. 6",
            (20, 56),
            _BASIC,
            _degradation,
            _deepest_and_twins,
        ),
        Study(
            "shortcuts",
            "Shortcut options: zero padding (A), projection where shapes change (B) or always (C)",
            "1512.03385 §3.3; its Table 3 compares them on ImageNet",
            (56,),
            _BASIC,
            _shortcuts,
            _with_the_first,
        ),
        Study(
            "units",
            "Residual units: where normalisation and activation stand",
            "1603.05027 §4, Table 2",
            (110,),
            (*_BASIC, 164, 1001),
            _units,
            _with_the_first,
        ),
        Study(
            "gates",
            "What may stand on a shortcut: scales, gates, convolutions, dropout",
            "1603.05027 §3, Table 1",
            (110,),
            _BASIC,
            _gates,
            _with_the_first,
        ),
        Study(
            "depth",
            "Depth: residual nets from 20 layers to 1202",
            "1512.03385 §4.2, Table 6 and Fig. 6",
            (*_BASIC, 1202),
            (*_BASIC, 1202),
            lambda depth: [residual(depth)],
            _with_the_one_before,
        ),
    )
}
"""Every study of trained nets."""
