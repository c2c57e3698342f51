"""Parameter groups for a network: what each tensor is taken for, and that each matrix is a parameter of its own."""

from __future__ import annotations

import copy
import io
import logging
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from precond import optim
from precond.core import BadInputError, Kind, Method, Need, Route, Scope
from precond.math.tensors.stacks import Stack
from precond.optim import Optimizer, estimate_memory, groups_for
from precond.optim.roles import decide
from precond.optim.rules import ENTRIES, MATRICES
from precond.recipes.first_order import adamw
from precond.recipes.matrix import soap
from precond.recipes.orthogonal import muon
from precond.recipes.psgd import psgd_lra
from precond.recipes.registry import all_recipes

TRAINERS = {name: recipe for name, recipe in all_recipes().items() if Kind.TRAINING in recipe.runs_on}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.RMSNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.c_fc, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.c_attn(self.ln_1(x)).chunk(3, -1)
        x = x + self.c_proj(nn.functional.scaled_dot_product_attention(q, k, v))
        return x + self.down(torch.relu(self.c_fc(self.ln_2(x))))


class Language(nn.Module):
    """A GPT whose context is as long as its hidden layers are wide, so that shapes alone mislead."""

    def __init__(self, tied: bool = False, width: int = 8) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(20, width), nn.Embedding(4 * width, width)
        self.h = nn.ModuleList(Block(width) for _ in range(2))
        self.unrelated_name = nn.Linear(width, 20, bias=False)
        if tied:
            self.unrelated_name.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        return self.unrelated_name(x)


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 4)
        self.up, self.down = nn.Parameter(torch.randn(4, 6, 5)), nn.Parameter(torch.randn(4, 5, 6))


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.zeros(1, 5, 8))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.patches = nn.Conv2d(3, 8, 2, stride=2)
        self.depthwise, self.grouped = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 12, 3, groups=4)
        self.up = nn.ConvTranspose2d(8, 4, 2)
        self.bn, self.gn = nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
        self.classifier = nn.Linear(8, 10)


class Conv1D(nn.Module):
    """A linear layer whose weight is [in, out], as some libraries have it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 12)), nn.Parameter(torch.zeros(12))


def roles_of(model: nn.Module, **settings: object) -> dict[str, tuple[str, Stack | None]]:
    return {d.name: (d.role, d.stack) for d in decide(model, **settings)}


def test_a_language_model() -> None:
    roles = roles_of(Language())
    assert roles["wte.weight"][0] == roles["wpe.weight"][0] == "embedding"
    assert roles["unrelated_name.weight"][0] == "lm_head"
    for block in ("h.0", "h.1"):
        assert roles[f"{block}.ln_1.weight"][0] == roles[f"{block}.ln_2.weight"][0] == "norm"
        assert roles[f"{block}.c_attn.weight"] == ("fused", Stack(0, 3))
        assert roles[f"{block}.c_attn.bias"][0] == "bias"
        for name in ("c_proj", "c_fc", "down"):
            assert roles[f"{block}.{name}.weight"] == ("hidden", Stack())


def test_a_tied_embedding_is_listed_once() -> None:
    decisions = {d.name: d for d in decide(Language(tied=True))}
    assert "unrelated_name.weight" not in decisions
    assert decisions["wte.weight"].role == "embedding"
    assert "output layer" in decisions["wte.weight"].why


def test_experts_vision_recurrence_and_attention() -> None:
    roles = roles_of(Mixture())
    assert roles["up"] == roles["down"] == ("expert", Stack(0, 4))
    assert roles["router.weight"][0] == "hidden"
    roles = roles_of(Vision())
    assert {roles[name][0] for name in ("cls_token", "pos_embed")} <= {"embedding", "vector"}
    assert roles["relative_position_bias_table"][0] == "bias"
    assert roles["patches.weight"] == ("convolution", Stack())
    assert roles["depthwise.weight"][0] == "depthwise"
    assert roles["grouped.weight"] == ("convolution", Stack(0, 4))
    assert roles["up.weight"] == ("convolution", Stack())
    assert roles["bn.weight"][0] == roles["gn.bias"][0] == "norm"
    assert roles["classifier.weight"][0] == "lm_head"
    assert roles_of(nn.LSTM(4, 3))["weight_ih_l0"] == ("fused", Stack(0, 4))
    assert roles_of(nn.GRU(4, 3))["weight_hh_l0"] == ("fused", Stack(0, 3))
    attention = roles_of(nn.MultiheadAttention(8, 2))
    assert attention["in_proj_weight"] == ("fused", Stack(0, 3))
    assert attention["out_proj.weight"][0] == "hidden"
    assert roles_of(nn.MultiheadAttention(8, 2, kdim=4, vdim=4))["q_proj_weight"][0] == "hidden"


def test_the_last_layer_is_an_output_layer_unless_its_width_is_taken_up_again() -> None:
    classifier = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    assert roles_of(classifier)["2.weight"][0] == "lm_head"
    encoder = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6))
    assert roles_of(encoder)["3.weight"][0] == "hidden"
    assert roles_of(nn.Linear(4, 3))["weight"][0] == "hidden"
    convolutional = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10))
    assert roles_of(convolutional)["3.weight"][0] == "lm_head"
    recurrent = nn.ModuleDict({"table": nn.Embedding(20, 4), "cell": nn.GRU(4, 6), "out": nn.Linear(6, 20)})
    assert roles_of(recurrent)["out.weight"][0] == "lm_head"


def test_layers_of_published_models() -> None:
    """Gate and up in one; projections that alternate by heads; decays of state spaces; adapters."""
    roles = roles_of(nn.ModuleDict({"gate_up_proj": nn.Linear(4, 16), "down_proj": nn.Linear(8, 4)}))
    assert roles["gate_up_proj.weight"] == ("fused", Stack(0, 2))
    whole = nn.ModuleDict({"query_key_value": nn.Linear(4, 12), "dense": nn.Linear(12, 4)})
    assert roles_of(whole)["query_key_value.weight"] == ("hidden", Stack())
    assert "by heads" in next(d.why for d in decide(whole) if d.name == "query_key_value.weight")
    mamba = nn.ModuleDict({"x_proj": nn.Linear(8, 6)})
    mamba.register_parameter("A_log", nn.Parameter(torch.zeros(8, 4)))
    assert roles_of(mamba)["A_log"][0] == "vector"
    adapter = nn.ModuleDict({"base": nn.Linear(8, 8), "lora_A": nn.Linear(8, 2), "lora_B": nn.Linear(2, 8)})
    adapter["base"].requires_grad_(False)
    assert roles_of(adapter)["base.weight"][0] == "frozen"
    assert roles_of(adapter)["lora_A.weight"] == roles_of(adapter)["lora_B.weight"] == ("hidden", Stack())


def test_fused_projections_are_cut_where_that_makes_squares_or_as_told() -> None:
    model = nn.ModuleDict({"qkv": nn.Linear(8, 12), "c_attn": Conv1D(), "kv": nn.Linear(8, 10)})
    assert roles_of(model)["qkv.weight"] == ("hidden", Stack())
    assert roles_of(model)["c_attn.weight"] == ("fused", Stack(1, 3))
    assert roles_of(model, fused={"kv.*": 2})["kv.weight"] == ("fused", Stack(0, 2))
    assert "kept whole" in next(d.why for d in decide(model) if d.name == "qkv.weight")
    with pytest.raises(BadInputError, match="cannot be cut into 3"):
        decide(model, fused={"kv.*": 3})


def test_learned_inputs_are_embeddings_and_layers_are_not() -> None:
    model = nn.Module()
    for name, shape in {"register_tokens": (1, 4, 8), "query_tokens": (1, 9, 8), "soft_prompt": (5, 8)}.items():
        model.register_parameter(name, nn.Parameter(torch.zeros(shape)))
    assert {role for role, _ in roles_of(model).values()} == {"embedding"}
    model = nn.ModuleDict({"prompt_encoder": Conv1D(), "tokens_to_keys": nn.Linear(8, 8)})
    assert roles_of(model)["prompt_encoder.weight"] == roles_of(model)["tokens_to_keys.weight"] == ("hidden", Stack())


def test_one_can_overrule() -> None:
    roles = roles_of(Language(), roles={"h.0.*fc*": "embedding", "wpe*": "hidden"})
    assert roles["h.0.c_fc.weight"] == ("embedding", None)
    assert roles["wpe.weight"] == ("hidden", Stack())
    with pytest.raises(BadInputError, match="lm_head"):
        decide(Language(), roles={"wte*": "head"})


def test_parametrized_layers_are_known_by_the_layer() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 3))
    optim.weight_conditioning(model[0])
    nn.utils.parametrizations.weight_norm(model[2])
    roles = roles_of(model)
    assert roles["0.parametrizations.weight.original"] == ("convolution", Stack())
    assert roles["2.parametrizations.weight.original0"][0] == "vector"  # the lengths of the rows
    assert roles["2.parametrizations.weight.original1"][0] == "hidden"


class FlatParameter(nn.Parameter):
    pass


def _flat(kind: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4))
    if kind == "attribute":
        model[0].bias._is_flat_param = True
    elif kind == "type":
        model.shard = FlatParameter(torch.zeros(20))
    elif kind == "name":
        model.register_parameter("_flat_param", nn.Parameter(torch.zeros(20)))
    elif kind == "matrix with one axis":
        model[0].weight = nn.Parameter(torch.zeros(16))
    elif kind == "zero 3":
        model[0].weight.ds_id = 0
    elif kind == "wrapper":
        model = type("FullyShardedDataParallel", (nn.Sequential,), {})(nn.Linear(4, 4))
    return model


@pytest.mark.parametrize("kind", ["attribute", "type", "name", "matrix with one axis", "zero 3", "wrapper"])
def test_flat_shards_are_refused_with_the_remedy(kind: str) -> None:
    with pytest.raises(BadInputError, match="fully_shard"):
        groups_for(_flat(kind))


def test_other_refusals() -> None:
    with pytest.raises(BadInputError, match="one batch"):
        groups_for(nn.LazyLinear(3))
    with pytest.raises(BadInputError, match="nothing to train"):
        groups_for(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(BadInputError, match="Module, not list"):
        groups_for(list(nn.Linear(2, 2).parameters()))
    with pytest.raises(BadInputError, match="is called 'weigth'"):
        groups_for(nn.Linear(2, 2), roles={"weigth": "hidden"})
    with pytest.raises(BadInputError, match=r"is called 'qkv\.\*'"):
        groups_for(nn.Linear(2, 2), fused={"qkv.*": 2})
    with pytest.raises(BadInputError, match="fallback"):
        groups_for(nn.Linear(2, 2), fallback="adamw")
    with pytest.raises(BadInputError, match="unknown role 'heads'"):
        optim.SOAP([{"params": [nn.Parameter(torch.zeros(2))], "role": "heads"}])
    with pytest.raises(BadInputError, match="NoneType"):
        Optimizer(nn.Linear(2, 2).parameters())


def test_it_prints_why_and_logs_it(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    model = Language()
    model.wpe.weight.requires_grad_(False)
    with caplog.at_level(logging.INFO, "precond"):
        groups = groups_for(model)
    printed = capsys.readouterr().out
    assert printed.strip() == str(groups) == groups.explain()
    assert str(groups) in caplog.text
    for words in (
        "h.*.c_attn.weight (2 of them)",
        "3 matrices 8x8",
        "query, key and value",
        "the vocabulary",
        "frozen",
    ):
        assert words in printed
    groups_for(model, verbose=False)
    assert not capsys.readouterr().out
    known = {id(p) for group in groups for _, p in group["params"]}
    assert known == {id(p) for p in model.parameters() if p.requires_grad}


def test_a_star_stands_for_several_layers_only() -> None:
    table = str(groups_for(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 2)), verbose=False))
    assert "0.weight  " in table
    assert "*.bias (2 of them)" in table


def test_rates_and_decay_of_the_groups() -> None:
    groups = groups_for(Language(), soap(), fallback=adamw(), lr=1e-2, fallback_lr=1e-3, verbose=False)
    for group in groups:
        assert group["lr"] == (1e-2 if group["role"] in ("hidden", "fused") else 1e-3)
        assert ("weight_decay" in group) == (group["role"] in ("norm", "bias"))
    optimizer = Optimizer(groups, weight_decay=0.1)
    decays = {group["role"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {"hidden": 0.1, "fused": 0.1, "embedding": 0.1, "lm_head": 0.1, "norm": 0.0, "bias": 0.0}


def methods_of(optimizer: Optimizer) -> dict[str, str]:
    """Return the innermost preconditioner that each role follows."""
    found = {}
    for group, rule in zip(optimizer.param_groups, optimizer._rules, strict=True):
        method = rule.method_for("", group["params"][0])
        part = method.preconditioner
        found[group["role"]] = type(
            getattr(part, "inner", part) if type(part).__name__ == "PerMatrix" else part
        ).__name__
    return found


def test_who_follows_what() -> None:
    by_route = methods_of(optim.Muon(groups_for(Language(), verbose=False)))
    assert by_route == {
        "hidden": "Polar", "fused": "Polar", "embedding": "Diagonal", "lm_head": "Diagonal", "norm": "Diagonal",
        "bias": "Diagonal",
    }  # fmt: skip
    assert methods_of(Optimizer(groups_for(Language(), muon(), verbose=False))) == by_route
    by_form = methods_of(optim.SOAP(groups_for(Language(), verbose=False)))
    assert by_form == {role: part.replace("Polar", "Rotate") for role, part in by_route.items()}
    told = methods_of(Optimizer(groups_for(Language(), adamw(), fallback=soap(), verbose=False)))
    assert told["hidden"] == "Diagonal"
    assert told["embedding"] == "Rotate"  # as it was said
    assert methods_of(optim.Muon(groups_for(Vision(), verbose=False)))["depthwise"] == "Diagonal"


@pytest.mark.parametrize("name", TRAINERS)
def test_every_recipe_trains_with_groups_and_resumes(name: str) -> None:
    def make() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(0)
        model = Language()
        return model, Optimizer(groups_for(model, TRAINERS[name].build(), verbose=False), lr=1e-3, weight_decay=0.1)

    def train(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
        for step in steps:
            tokens = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(step))

            def closure(tokens: Tensor = tokens) -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten())
                loss.backward()
                return loss

            optimizer.step(closure)

    model, optimizer = make()
    before = copy.deepcopy(model)
    train(model, optimizer, range(4))
    buffer = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), buffer)
    train(model, optimizer, range(4, 7))
    moved = []
    for param, other in zip(model.parameters(), before.parameters(), strict=True):
        assert bool(param.isfinite().all())
        moved.append(not torch.equal(param, other))
    assert any(moved) if "sparse" in name else all(moved)  # a sparse gradient leaves most entries alone
    again, resumed = make()
    buffer.seek(0)
    weights, state = torch.load(buffer, weights_only=True)
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    train(again, resumed, range(4, 7))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("method", [soap(), muon(), adamw(), psgd_lra()], ids=["soap", "muon", "adamw", "psgd-lra"])
def test_memory_of_groups_is_exact(method: Method | Route) -> None:
    model = Language()
    optimizer = Optimizer(groups_for(model, verbose=False), method)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    groups = groups_for(model, verbose=False)
    assert estimate_memory(groups, method) == optimizer.state_bytes()
    assert estimate_memory(groups_for(model, method, verbose=False)) == optimizer.state_bytes()


def scope_of(built: Method | Route) -> Scope | None:
    return built.preconditioner.scope if isinstance(built, Method) else None


STACKED = {"experts": ((3, 4, 5), Stack(0, 3)), "qkv": ((12, 4), Stack(0, 3)), "across": ((4, 12), Stack(1, 3)),
           "kernel": ((6, 2, 2, 2), Stack())}  # fmt: skip


@pytest.mark.parametrize("case", STACKED)
@pytest.mark.parametrize("name", TRAINERS)
def test_each_matrix_is_treated_as_a_parameter_of_its_own(name: str, case: str) -> None:
    """The same trajectory as with one parameter per matrix, for every method."""
    shape, stack = STACKED[case]
    built = TRAINERS[name].build()
    if Need.PROBE in getattr(built, "needs", Need.NOTHING) or scope_of(built) is Scope.GLOBAL:
        pytest.skip("draws random numbers by shape, or sees one vector")
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
    whole = nn.Parameter(start[0].clone())
    parts = [nn.Parameter(part.clone()) for part in stack.take_apart(start)]
    group = {"params": [("w", whole)], "role": "hidden", "stack": (stack.axis, stack.count)}
    one = Optimizer([group], built, lr=1e-2, weight_decay=0.1)
    many = Optimizer([(f"w{i}", part) for i, part in enumerate(parts)], built, lr=1e-2, weight_decay=0.1)
    for _ in range(6):
        gradient = torch.randn(1, *shape, generator=generator, dtype=torch.float64) * 3
        whole.grad = gradient[0]
        for part, own in zip(parts, stack.take_apart(gradient), strict=True):
            part.grad = own.clone()
        for optimizer in (one, many):
            optimizer.step(lambda: torch.tensor(2.0, dtype=torch.float64))
    together = stack.put_together(torch.stack([part.detach() for part in parts]), shape)[0]
    assert not torch.equal(whole.detach(), start[0])
    torch.testing.assert_close(whole.detach(), together, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("shape", "stack"), STACKED.values(), ids=STACKED)
def test_stacks_are_put_together_as_they_were(shape: tuple[int, ...], stack: Stack) -> None:
    v = torch.randn(2, *shape)
    apart = stack.take_apart(v)
    assert apart.shape == (2 * stack.count, *stack.matrix(shape))
    assert torch.equal(stack.put_together(apart, shape), v)
    assert not Stack(0, 5).fits(shape)


def test_copies_of_an_optimizer_with_groups_go_on() -> None:
    model = Language()
    optimizer = optim.SOAP(groups_for(model, verbose=False))
    for _ in range(2):
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        optimizer.step()
    model, optimizer = copy.deepcopy((model, optimizer))
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert all(bool(param.isfinite().all()) for param in model.parameters())


def test_a_route_of_ones_own_is_asked_about_the_role() -> None:
    route = Route(((optim.Matrices(exclude=("fused",)), soap()),), adamw())
    found = methods_of(Optimizer(groups_for(Language(), route, verbose=False)))
    assert (found["hidden"], found["fused"]) == ("Rotate", "Diagonal")


def test_the_page_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "groups.md").read_text()
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/groups.md", "exec"), {})
    printed = capsys.readouterr().out
    for line in shown.splitlines():
        if line and line != "..." and not line.startswith("-"):
            assert any(line.split() == other.split() for other in printed.splitlines()), line
    for role in (*MATRICES, *ENTRIES):
        assert f"`{role}`" in page
