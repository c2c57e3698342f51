"""``stdlib-lm``: a small GPT that learns to write Python from the standard library's own source text."""

from __future__ import annotations

import functools
import hashlib
import platform
import sysconfig
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from precond.core import BadInputError, Budget, Metric
from precond.problems.base import Training, TrainingInstance
from precond.problems.gpt import GPT, SYMBOLS
from precond.problems.readers.contents import fail, read_bytes, stem
from precond.problems.registry import problem

_CAP = 8_000_000
_LEAST = 1_000_000
_HELD_OUT = 0.1
_WINDOWS = 128
_STEP_SEEDS = 10_000_019
_LEFT_OUT = {
    "__pycache__", "dist-packages", "encodings", "idle_test", "lib2to3", "pydoc_data", "site-packages", "test", "tests",
}  # fmt: skip


def recognises(path: Path, head: bytes) -> bool:
    """Whether a file looks like prose or code: mostly letters, no control characters (so that tables are not taken)."""
    printed = [byte for byte in head if byte > 32]
    letters = sum(chr(byte).isalpha() or byte > 127 for byte in printed)
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return letters > len(printed) / 2 and b"\0" not in head and control <= 0.001 * len(head)


@problem(
    purpose="Train a small byte-level GPT on the text of Python's own standard library, or on any text file.",
    example="stdlib-lm, stdlib-lm:book.txt.gz",
    recognises=recognises,
    general=True,
)
def stdlib_lm(
    path: str | Path | None = None,
    *,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    context: int = 64,
    batch: int = 16,
) -> Training:
    """Return the problem of predicting the next byte of a text with a small GPT.

    Without a path: the ``.py`` files of the running Python's standard library, without tests and tables, in the order
    of the hashes of their names, up to 8 MB; the last files, a tenth of the bytes, are held out. With one: that text,
    its last tenth held out. The seed decides the initial weights and the batches; the held-out windows are fixed.

    Args:
        path: A text file, gzipped or not, in any encoding.
        width: Width of the model, a multiple of ``heads``.
        depth: Number of blocks.
        heads: Attention heads in a block.
        context: Bytes in a training window.
        batch: Windows in a batch.

    Returns:
        The problem; its metric is the mean cross entropy on the held-out text, in nats per byte. Its target is that of
        a table of byte pairs counted on the training text: to meet it, a model must have learned more than pairs.
    """
    for option, value in {"width": width, "depth": depth, "heads": heads, "context": context, "batch": batch}.items():
        if value < 1:
            raise BadInputError(f"stdlib-lm: {option}={value} must be at least 1")
    if width % heads:
        raise BadInputError(f"stdlib-lm: width={width} is not a multiple of heads={heads}; write width={heads * 16}")
    if path is None:
        train, held_out = standard_library()
        name, source = "stdlib-lm", f"the source text of Python {platform.python_version()}'s standard library"
    else:
        train, held_out = _text(Path(path), context)
        name, source = f"stdlib-lm:{stem(path)}", Path(path).name
    model = functools.partial(GPT, width, depth, heads, context)
    return Training(
        name=name,
        description=f"Predict the next byte of {source}: {len(train)} bytes for training, {len(held_out)} held out; a "
        f"GPT of width {width}, depth {depth}, {batch} windows of {context} bytes in a batch",
        metric=Metric("validation loss", "nats per byte"),
        target=round(pair_loss(train, held_out), 3),
        horizon=Budget(steps=300),
        build=functools.partial(_build, model, train, held_out, context, batch),
    )


@functools.lru_cache(maxsize=1)
def standard_library() -> tuple[bytes, bytes]:
    """Return the training and held-out text of the running Python's standard library; whole files in each."""
    root = Path(sysconfig.get_paths()["stdlib"])
    names = [file.relative_to(root).as_posix() for file in root.rglob("*.py")]
    names = [name for name in names if not _LEFT_OUT & set(Path(name).parts)]
    names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
    texts: list[bytes] = []
    size = 0
    for name in names:
        text = (root / name).read_bytes()
        if size + len(text) > _CAP:
            break
        texts.append(text)
        size += len(text)
    if size < _LEAST:
        raise BadInputError(f"{root}: holds {size} bytes of Python source; name a text: stdlib-lm:book.txt")
    held_out: list[bytes] = []
    while sum(map(len, held_out)) < _HELD_OUT * size:
        held_out.append(texts.pop())
    return b"\n".join(texts), b"\n".join(held_out)


def pair_loss(train: bytes, held_out: bytes) -> float:
    """Return the cross entropy on one text of the pairs of bytes counted in another (plus one each), in nats."""
    seen, asked = (np.frombuffer(text, np.uint8).astype(np.int64) for text in (train, held_out))
    counts = 1 + np.bincount(seen[:-1] * SYMBOLS + seen[1:], minlength=SYMBOLS**2).reshape(SYMBOLS, SYMBOLS)
    log_probability = np.log(counts / counts.sum(axis=1, keepdims=True))
    return float(-log_probability[asked[:-1], asked[1:]].mean())


def _text(path: Path, context: int) -> tuple[bytes, bytes]:
    content = read_bytes(path)
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        fail(path, "binary data (a zero byte)", "give a text file", line)
    held_out = int(_HELD_OUT * len(content))
    least = int((context + 2) / _HELD_OUT)
    if held_out < context + 2:
        fail(path, f"too short ({len(content)} bytes)", f"give at least {least} bytes, or a smaller context")
    return content[:-held_out], content[-held_out:]


def _symbols(text: bytes, device: torch.device) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device, torch.long)


def _build(
    make_model: functools.partial[GPT],
    train: bytes,
    held_out: bytes,
    context: int,
    batch: int,
    seed: int,
    device: torch.device,
) -> TrainingInstance:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model().to(device)
    text, rest = _symbols(train, device), _symbols(held_out, device)
    within = torch.arange(context + 1, device=device)
    last = len(rest) - context - 1
    starts = torch.linspace(0, last, min(_WINDOWS, last + 1)).long().to(device)
    windows = rest[starts[:, None] + within]

    def mean_loss(chosen: Tensor) -> Tensor:
        logits = model(chosen[:, :-1])
        return functional.cross_entropy(logits.reshape(-1, SYMBOLS), chosen[:, 1:].reshape(-1))

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed((seed + 1) * _STEP_SEEDS + step)
        offsets = torch.randint(len(text) - context, (batch, 1), generator=generator).to(device)
        return mean_loss(text[offsets + within])

    def evaluate() -> float:
        with torch.no_grad():
            return sum(float(mean_loss(part)) * len(part) for part in windows.split(32)) / len(windows)

    return TrainingInstance(model, loss, evaluate)
