"""The gate-rescaled backward pass: what g^p changes and what it must leave alone (Sun et al. 2025)."""

from __future__ import annotations

import pytest
import torch

from moe_analysis.adapters import REGISTRY, MoeLora, MoeLoraConfig, Routing
from moe_analysis.adapters.rescale import RescaledMixture, down_factors, up_factors, up_mixture

from . import cases

N, E, R, IN, OUT = 7, 4, 3, 6, 5


def leaves(kept: int = E) -> dict[str, torch.Tensor]:
    """x, gates with the `kept` largest of each token, and the factors, all float64 leaves."""
    draw = torch.Generator().manual_seed(5)
    shapes = {"x": (N, IN), "A": (E, R, IN), "B": (E, OUT, R)}
    values = {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}
    probabilities = torch.randn(N, E, generator=draw, dtype=torch.float64).softmax(-1)
    chosen = probabilities.topk(kept, dim=-1)
    values["gates"] = torch.zeros_like(probabilities).scatter(-1, chosen.indices, chosen.values)
    return {name: value.requires_grad_() for name, value in values.items()}


def mixture(x: torch.Tensor, gates: torch.Tensor, A: torch.Tensor, B: torch.Tensor, power: float = 1.0) -> torch.Tensor:
    """Σ_e g_e B_e A_e x."""
    hidden = (x @ down_factors(A).T).unflatten(-1, (R, E))
    return up_mixture(hidden, gates, up_factors(B), power)


def gradients(power: float, kept: int = E, direction: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    given = leaves(kept)
    y = mixture(given["x"], given["gates"], given["A"], given["B"], power)
    (y * (weights() if direction is None else direction)).sum().backward()
    return {"y": y.detach(), **{name: value.grad for name, value in given.items()}}


def weights() -> torch.Tensor:
    return torch.linspace(-1, 1, N * OUT, dtype=torch.float64).view(N, OUT)


def by_hand(power: float, kept: int = E) -> dict[str, torch.Tensor]:
    """The rule written token by token and expert by expert: dE_e = g^p dy for chosen experts, dg_e = E_e · dy."""
    given = {name: value.detach() for name, value in leaves(kept).items()}
    x, gates, A, B, dy = given["x"], given["gates"], given["A"], given["B"], weights()
    grads = {name: torch.zeros_like(value) for name, value in given.items()}
    for n in range(N):
        for e in range(E):
            hidden = A[e] @ x[n]
            grads["gates"][n, e] = (B[e] @ hidden) @ dy[n]
            if gates[n, e] == 0:
                continue
            pulled = gates[n, e] ** power * dy[n]
            grads["B"][e] += torch.outer(pulled, hidden)
            grads["A"][e] += torch.outer(B[e].T @ pulled, x[n])
            grads["x"][n] += A[e].T @ (B[e].T @ pulled)
    return grads


def assert_close(ours: dict, expected: dict, names=("x", "gates", "A", "B")) -> None:
    for name in names:
        assert torch.allclose(ours[name], expected[name], rtol=1e-12, atol=1e-13), name


@pytest.mark.parametrize("kept", [1, 2, E])
@pytest.mark.parametrize("power", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_every_gradient_is_the_rule_written_by_hand(power, kept):
    assert_close(gradients(power, kept), by_hand(power, kept))


def test_the_custom_function_at_power_one_is_ordinary_autograd():
    given = leaves(2)
    hidden = (given["x"] @ given["A"].transpose(0, 1).flatten(0, 1).T).view(N, R, E)
    up = given["B"].permute(2, 0, 1).flatten(0, 1)
    (RescaledMixture.apply(hidden, given["gates"], up, 1.0) * weights()).sum().backward()
    assert_close({name: value.grad for name, value in given.items()}, gradients(1.0, 2))


def test_the_custom_function_at_power_one_passes_gradcheck():
    draw = torch.Generator().manual_seed(6)
    inputs = [
        torch.rand(*shape, generator=draw, dtype=torch.float64, requires_grad=True)
        for shape in ((3, 2, 4), (3, 4), (8, 3))
    ]
    assert torch.autograd.gradcheck(lambda *values: RescaledMixture.apply(*values, 1.0), inputs)


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_the_forward_value_and_the_gates_gradient_do_not_depend_on_the_power(power):
    plain, rescaled = gradients(1.0, 2), gradients(power, 2)
    assert torch.equal(plain["y"], rescaled["y"])
    assert_close(rescaled, plain, ["gates"])


def test_the_authors_form_with_detached_roots_gives_the_gradients_of_power_one_half():
    """weighted = √g_const · E + (g − √g_const) · E_const, as the paper's code states it."""
    given = leaves()
    outputs = torch.einsum("eor,eri,ni->neo", given["B"], given["A"], given["x"])
    gates = given["gates"].unsqueeze(-1)
    root = gates.detach().sqrt()
    (((root * outputs + (gates - root) * outputs.detach()).sum(1)) * weights()).sum().backward()
    assert_close(gradients(0.5), {name: value.grad for name, value in given.items()})


def test_power_zero_leaves_experts_that_were_not_chosen_at_zero_gradient():
    given = leaves()
    gates = given["gates"].detach().clone()
    gates[:, 2] = 0
    mixture(given["x"], gates, given["A"], given["B"], 0.0).sum().backward()
    for name in ("A", "B"):
        assert not given[name].grad[2].any()
        assert given[name].grad[[0, 1, 3]].flatten(1).any(-1).all()


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_a_gate_shared_by_all_tokens_scales_its_experts_gradient_by_the_power(power):
    shared = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    scaled = []
    for exponent in (1.0, power):
        given = leaves()
        mixture(given["x"], shared.expand(N, E), given["A"], given["B"], exponent).sum().backward()
        scaled.append(given["A"].grad)
    ratio = (shared ** (power - 1)).view(E, 1, 1)
    assert torch.allclose(scaled[1], scaled[0] * ratio, rtol=1e-10)


def layer_gradients(power: float, top_k: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(2)
    layer = MoeLora(IN, OUT, MoeLoraConfig(r=R, num_experts=E, top_k=top_k, gate_backward_power=power)).double()
    layer.B.data.normal_()
    x = torch.randn(2, 3, IN, dtype=torch.float64, requires_grad=True)
    y = layer(x)[0]
    y.square().sum().backward()
    return y.detach(), {"x": x.grad, **{name: parameter.grad for name, parameter in layer.named_parameters()}}


def test_a_single_top_expert_makes_both_backward_rules_equal_bit_for_bit():
    (y, plain), (same, rescaled) = layer_gradients(1.0, 1), layer_gradients(0.5, 1)
    assert torch.equal(y, same)
    assert all(torch.equal(plain[name], rescaled[name]) for name in plain)


def test_two_experts_make_the_rules_differ_in_the_experts_and_agree_in_the_router():
    (y, plain), (same, rescaled) = layer_gradients(1.0, 2), layer_gradients(0.5, 2)
    assert torch.equal(y, same)
    assert torch.allclose(plain["router.weight"], rescaled["router.weight"], rtol=1e-10)
    assert not torch.allclose(plain["A"], rescaled["A"]) and not torch.allclose(plain["x"], rescaled["x"])


GATED = [
    ("moelora", {"r": 2, "num_experts": 5, "top_k": 2}),
    ("moelora", {"r": 1, "num_experts": 4, "top_k": 1, "gate": "switch"}),
    ("moelora", {"r": 2, "num_experts": 4, "top_k": 2, "gate": "noisy_topk"}),
    ("sira", {"r": 2, "num_experts": 5, "top_k": 3}),
    ("hydralora", {"r": 3}),
    (
        "momor",
        {"r": [2, 1], "num_experts": [4, 3], "top_k": [1, 2], "gate": ["switch", "softmax"], "alpha": [4.0, None]},
    ),
]
CHOOSERS = {"momor": "_choose"}  # what makes the gates; `_gate` elsewhere


def constant_gates(choose, power: float):
    """A gate that chooses as `choose` does, and gives constants: the chosen gates to a power."""

    def chosen(*given):
        found = choose(*given)
        gates = found.gates if isinstance(found, Routing) else found[0]
        kept = torch.where(gates > 0, gates.detach() ** power, 0.0)
        return Routing(kept) if isinstance(found, Routing) else (kept, None)

    return chosen


@pytest.mark.parametrize("fused", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("power", [0.5, 0.0])
@pytest.mark.parametrize("case", GATED, ids=cases.case_id)
def test_gradients_of_every_gate_are_those_of_constant_gates_to_the_power(case, power, fused, monkeypatch):
    """The experts' are; the router's are the plain ones; x has the router's part of these and the experts' of those."""
    name, options = case
    layer, x = cases.build(name, {**options, "dropout": 0.3}).train(), cases.example().requires_grad_()
    base = torch.nn.Linear(cases.IN, cases.OUT, dtype=torch.float64).requires_grad_(False)
    leaves, direction = {"x": x, **dict(layer.named_parameters())}, torch.randn(x.shape[:-1] + (cases.OUT,)).double()

    def found(power: float) -> dict[str, torch.Tensor]:
        layer.config.gate_backward_power = power
        torch.manual_seed(4)  # of dropout and of noisy top-k
        y = layer(x, None, base)[0] if fused else layer(x)[0] + base(x)
        values = torch.autograd.grad((y * direction).sum(), list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, values, strict=True))

    def held(power: float) -> dict[str, torch.Tensor]:
        with monkeypatch.context() as patch:
            chooser = CHOOSERS.get(name, "_gate")
            patch.setattr(type(layer), chooser, constant_gates(getattr(type(layer), chooser), power))
            return found(1.0)

    rescaled, plain, experts = found(power), found(1.0), held(power)
    factors = [key for key in leaves if key.partition(".")[0] in ("A", "B")]
    expected = plain | {key: experts[key] for key in factors} | {"x": plain["x"] + experts["x"] - held(1.0)["x"]}
    assert_close(rescaled, expected, list(leaves))
    assert not any(torch.allclose(rescaled[key], plain[key]) for key in ("x", *factors))


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_backward_power_is_taken_where_gates_can_be_rescaled_and_refused_by_name_elsewhere(name):
    config_class = REGISTRY[name].config_class
    if config_class.rescales_gates:
        config_class(gate_backward_power=0.5).check()
    else:
        with pytest.raises(ValueError, match=rf"gate_backward_power = 0.5 has no meaning for {config_class.__name__}"):
            config_class(gate_backward_power=0.5).check()
    with pytest.raises(ValueError, match=r"gate_backward_power = 1.5 must be in \[0, 1\]"):
        config_class(gate_backward_power=1.5).check()
