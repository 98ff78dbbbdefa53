"""Reads networks, parameters and batches as JSON on stdin, and prints PyTorch's loss and gradients as JSON.

Parameters go through Module.load_state_dict(strict=True), so their names and shapes are tested too. Losses are sums over
samples: cross-entropy, or the mean over a sample's targets. Everything is computed in float64 from float32 inputs.
"""
import json
import sys
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
ACTIVATION = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
answers = []
for case in json.load(sys.stdin):
    widths, layers = case["widths"], []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), ACTIVATION[case["activation"]]()]
    net = nn.Sequential(*layers[:-1])
    net.load_state_dict({p["name"]: torch.tensor(p["data"]).reshape(p["shape"]) for p in case["params"]}, strict=True)
    x = torch.tensor(case["x"]).reshape(-1, widths[0])
    z = net(x)
    if case["class"]:
        loss = nn.CrossEntropyLoss()(z, torch.tensor(case["class"])) * len(x)
        out = torch.softmax(z, 1)
    else:
        loss = nn.MSELoss()(z, torch.tensor(case["y"]).reshape(z.shape)) * len(x)
        out = z
    loss.backward()
    answers.append({
        "loss": loss.item(),
        "out": out.flatten().tolist(),
        "grad": {name: p.grad.flatten().tolist() for name, p in net.named_parameters()},
        "bound": {name: (1 / net[int(name.split(".")[0])].in_features) ** 0.5 for name, p in net.named_parameters()},
    })
json.dump({"torch": torch.__version__, "answers": answers}, sys.stdout)
