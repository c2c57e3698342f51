"""``digits``: images of handwritten digits, by a small perceptron."""

from __future__ import annotations

import functools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from precond.core import Budget, Metric, require
from precond.problems.base import Training
from precond.problems.readers.contents import fail
from precond.problems.readers.idx import looks_like_idx, read_idx
from precond.problems.registry import problem
from precond.problems.supervised import supervised

_METRIC = Metric("validation loss", "nats")
_FILES = {
    "train images": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
    "train labels": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
    "test images": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte", "test-images-idx3-ubyte"),
    "test labels": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte", "test-labels-idx1-ubyte"),
}
_REMEDY = "give a folder with " + ", ".join(names[0] for names in _FILES.values()) + " (each may end in .gz)"


def perceptron(pixels: int, classes: int, width: int) -> nn.Module:
    """Return a perceptron with two hidden layers; GELU, so that second derivatives exist."""
    layers = [
        ("input", nn.Linear(pixels, width)), ("gelu1", nn.GELU()), ("hidden", nn.Linear(width, width)),
        ("gelu2", nn.GELU()), ("head", nn.Linear(width, classes)),
    ]  # fmt: skip
    return nn.Sequential(OrderedDict[str, nn.Module](layers))


def recognises(path: Path, head: bytes) -> bool:
    """Whether ``path`` is an idx file or a folder that holds one."""
    if path.is_dir():
        return any(_locate(path, names) is not None for names in _FILES.values())
    return looks_like_idx(head)


@problem(
    purpose="Classify handwritten digits: scikit-learn's 8x8 images, or MNIST-style idx files from a folder.",
    example="digits, digits:FOLDER-WITH-IDX-FILES",
    recognises=recognises,
)
def digits(path: str | Path | None = None, *, width: int = 64, batch: int = 64) -> Training:
    """Return the problem of classifying handwritten digits with a perceptron of two hidden layers.

    Without a path: scikit-learn's 1797 images of 8x8 pixels (E. Alpaydin, C. Kaynak, "Optical Recognition of
    Handwritten Digits", UCI), 1437 for training and 360 held out by a fixed permutation. With one: the training and
    test images of a folder of MNIST-style idx files. Pixels are centred and scaled by the training images' mean and
    standard deviation.

    Args:
        path: Folder with idx files, gzipped or not (or one file of it).
        width: Width of the hidden layers.
        batch: Images in a batch.

    Returns:
        The problem; its metric is the mean cross entropy on the held-out images, in nats.
    """
    if path is None:
        return _bundled(width, batch)
    return _folder(Path(path), width, batch)


def _bundled(width: int, batch: int) -> Training:
    data = require("sklearn.datasets").load_digits()
    images, labels = np.asarray(data.images), np.asarray(data.target)
    order = np.random.default_rng(0).permutation(len(images))
    train, held_out = order[:1437], order[1437:]
    return _classify(
        "digits",
        (images[train], labels[train]),
        (images[held_out], labels[held_out]),
        width=width,
        batch=batch,
        target=0.06,
        horizon=Budget(steps=300),
        source="scikit-learn's 8x8 handwritten digits",
    )


def _folder(path: Path, width: int, batch: int) -> Training:
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        fail(path, "no such folder", _REMEDY)
    files: dict[str, Path] = {}
    for what, names in _FILES.items():
        file = _locate(folder, names)
        if file is None:
            fail(folder, f"holds no {what}", _REMEDY)
        files[what] = file
    train = _pair(files["train images"], files["train labels"])
    test = _pair(files["test images"], files["test labels"])
    if train[0].shape[1:] != test[0].shape[1:]:
        fail(files["test images"], f"images of {test[0].shape[1:]}, not {train[0].shape[1:]}", "give one data set")
    return _classify(
        f"digits:{folder.resolve().name}",
        train,
        test,
        width=width,
        batch=batch,
        target=0.12,
        horizon=Budget(steps=1500),
        source=f"images of {folder.resolve().name}",
    )


def _locate(folder: Path, names: tuple[str, ...]) -> Path | None:
    candidates = (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((file for file in candidates if file.is_file()), None)


def _pair(images_file: Path, labels_file: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return images ``[samples, height, width]`` and labels ``[samples]`` of two idx files that fit together."""
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim < 2:
        fail(images_file, f"{images.ndim} dimension, images need at least 2", "give the image file here")
    if labels.ndim != 1:
        fail(labels_file, f"{labels.ndim} dimensions, labels have 1", "give the label file here")
    if len(images) != len(labels):
        fail(labels_file, f"{len(labels)} labels for {len(images)} images", "give the two files of one data set")
    if len(images) == 0:
        fail(images_file, "no images", "give a file with data")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        fail(labels_file, "labels are not whole numbers from 0", "number the classes 0, 1, ...")
    return images, labels


def _classify(
    name: str,
    train: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    validation: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    *,
    width: int,
    batch: int,
    target: float,
    horizon: Budget,
    source: str,
) -> Training:
    classes = int(max(train[1].max(), validation[1].max())) + 1
    mean, scale = float(train[0].mean()), float(train[0].std()) or 1.0

    def tensors(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        flat = (images.reshape(len(images), -1).astype(np.float32) - mean) / scale
        return torch.from_numpy(flat.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))

    pixels = int(np.prod(train[0].shape[1:]))
    return supervised(
        name,
        functools.partial(perceptron, pixels, classes, width),
        tensors(*train),
        tensors(*validation),
        batch=batch,
        metric=_METRIC,
        target=target,
        horizon=horizon,
        description=f"Classify {source} into {classes} classes: {len(train[0])} for training, {len(validation[0])} "
        f"held out; a perceptron {pixels}-{width}-{width}-{classes}, batches of {batch}",
    )
