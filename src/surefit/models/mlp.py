"""A multilayer perceptron in PyTorch (an extra), on imputed, scaled numbers and one-hot columns."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

from surefit.models.costs import Size, number
from surefit.models.family import Family, Fitted, Params, Rows, Setting, needed, weights


def fit(params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    """AdamW on shuffled batches, one thread, until the loss on `stop` stops falling."""
    torch = needed("torch", "model.family = mlp", extra="torch")
    needed("safetensors", "model.family = mlp", extra="torch")
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        torch.set_num_threads(1)  # sums depend on how many threads share them
        try:
            return _train(torch, params, train, stop, setting)
        finally:
            torch.set_num_threads(threads)


def _train(torch: Any, params: Params, train: Rows, stop: Rows | None, setting: Setting) -> Fitted:
    shape = {"n_in": int(train.X.shape[1]), "hidden": int(params["hidden"]),
             "layers": int(params["layers"]), "n_out": setting.n_classes or 1,
             "dropout": float(params["dropout"]), "centre": 0.0, "scale": 1.0}  # fmt: skip
    if not setting.n_classes:
        shape |= {"centre": float(train.y.mean()), "scale": float(train.y.std()) or 1.0,
                  "low": float(train.y.min()), "high": float(train.y.max())}  # fmt: skip
    net = network(shape)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=float(params["lr"]), weight_decay=float(params["weight_decay"])
    )
    parts = [_tensors(torch, part, params, shape, setting) for part in (train, stop) if part]
    best: tuple[float, int, Any] = (np.inf, 0, None)
    curve = []
    for step in range(1, (setting.rounds or int(params["epochs"])) + 1):
        net.train()
        _epoch(torch, net, optimizer, parts[0], int(params["batch"]), setting)
        if setting.rounds is not None or stop is None:
            continue
        net.eval()
        losses = [_loss(torch, net, part, setting) for part in parts]
        curve.append((step, losses[0] * shape["scale"] ** 2, losses[1] * shape["scale"] ** 2))
        if losses[1] < best[0]:
            best = (losses[1], step, copy.deepcopy(net.state_dict()))
        elif step - best[1] >= int(params["patience"]):
            break
    if best[2] is not None:
        net.load_state_dict(best[2])
    rounds = best[1] or setting.rounds or int(params["epochs"])
    return Fitted(estimator=(net.eval(), shape), curve=tuple(curve), rounds=rounds)


def _tensors(
    torch: Any, rows: Rows, params: Params, shape: dict[str, Any], setting: Setting
) -> Any:
    y = torch.from_numpy(rows.y)
    if not setting.n_classes:
        y = ((y - shape["centre"]) / shape["scale"]).float()
    weight = weights(params, rows, setting.n_classes)
    weight = np.ones(len(rows.y)) if weight is None else weight / weight.mean()
    return matrix(rows.X), y, torch.from_numpy(weight).float()


def _epoch(torch: Any, net: Any, optimizer: Any, part: Any, batch: int, setting: Setting) -> None:
    order = torch.randperm(len(part[1]))
    for chosen in order.split(min(batch, len(order))):
        optimizer.zero_grad()
        losses(torch, net(part[0][chosen]), part[1][chosen], setting, part[2][chosen]).backward()
        optimizer.step()


def losses(torch: Any, out: Any, y: Any, setting: Setting, weight: Any) -> Any:
    """Weighted cross-entropy, or squared error."""
    if setting.n_classes:
        each = torch.nn.functional.cross_entropy(out, y, reduction="none")
    else:
        each = (out[:, 0] - y) ** 2
    return (each * weight).sum() / weight.sum()


def _loss(torch: Any, net: Any, part: Any, setting: Setting) -> float:
    with torch.no_grad():
        return float(losses(torch, net(part[0]), part[1], setting, part[2]))


def matrix(X: Any) -> Any:
    """A float32 tensor of a dense or sparse matrix, smoothly within 3 standard deviations.

    A network goes on in straight lines beyond what it learned from: one strange cell would make a
    strange answer. x / sqrt(1 + (x/3)²): Holzmüller, Grinsztajn, Steinwart 2024, "Better by
    Default".
    """
    import torch

    dense = np.nan_to_num(X.toarray() if hasattr(X, "toarray") else np.asarray(X))
    return torch.from_numpy((3 * (dense / np.hypot(3, dense))).astype("float32"))


def network(shape: dict[str, Any]) -> Any:
    """Layers of linear, SiLU and dropout."""
    import torch

    width, parts = shape["n_in"], []
    for _ in range(shape["layers"]):
        parts += [torch.nn.Linear(width, shape["hidden"]), torch.nn.SiLU(),
                  torch.nn.Dropout(shape["dropout"])]  # fmt: skip
        width = shape["hidden"]
    return torch.nn.Sequential(*parts, torch.nn.Linear(width, shape["n_out"]))


def network_output(estimator: Any, X: Any, n_classes: int) -> np.ndarray:
    """Probabilities (n, K), or values (n,) when `n_classes` is 0; by one thread.

    Values lie within those that were learned from.
    """
    import torch

    net, shape = estimator
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            out = net(matrix(X)).double()
    finally:
        torch.set_num_threads(threads)
    if n_classes:
        return np.asarray(torch.softmax(out, dim=1).numpy())
    values = out[:, 0].numpy() * shape["scale"] + shape["centre"]
    return np.asarray(np.clip(values, shape["low"], shape["high"]))


def save(estimator: Any, folder: Path) -> None:
    """Write the weights as safetensors and the shape as JSON."""
    from safetensors.torch import save_file

    net, shape = estimator
    save_file(net.state_dict(), str(folder / "network.safetensors"))
    (folder / "network.json").write_text(json.dumps(shape), "utf-8")


def load_estimator(folder: Path, n_classes: int) -> Any:
    """The saved network as a function of X."""
    from safetensors.torch import load_file

    shape = json.loads((folder / "network.json").read_text("utf-8"))
    net = network(shape)
    net.load_state_dict(load_file(str(folder / "network.safetensors")))
    return lambda X: network_output((net.eval(), shape), X, n_classes)


def _cost(size: Size, params: Params) -> float:
    net = (1 + number(params, "layers", 2) * number(params, "hidden", 128) / 256) / 2
    epochs = number(params, "epochs", 100) / 100  # the most; about half of them are taken
    return 0.5 + 6e-4 * size.rows * epochs * net


_DEFAULTS = {
    "lr": 1e-3, "weight_decay": 1e-4, "dropout": 0.1, "layers": 2, "hidden": 128, "batch": 128,
    "epochs": 100, "patience": 10,
}  # fmt: skip

# Space: TabArena's for its PyTorch network (Apache-2.0; figures only), layers 1–5 and hidden 8–256.
FAMILY = Family(
    name="mlp",
    encoding="onehot",
    iterative=True,
    steps="epochs",
    defaults=lambda task: dict(_DEFAULTS),
    known=lambda task: {*_DEFAULTS, "class_weight"},
    space=lambda task: {
        "lr": "log 0.0001..0.03",
        "weight_decay": "log 1e-12..0.1",
        "dropout": "0..0.4",
        "layers": "int 1..5",
        "hidden": "int log 8..256",
    },
    starts=lambda task: (
        {"lr": 1e-3, "weight_decay": 1e-4, "dropout": 0.1, "layers": 2, "hidden": 128},
        {"lr": 3e-3, "weight_decay": 1e-3, "dropout": 0.2, "layers": 3, "hidden": 256},
    ),
    fit=fit,
    predict=network_output,
    save=save,
    load=load_estimator,
    helpers=(matrix, network, network_output),
    cost=_cost,
    requires=("torch", "safetensors"),
)
