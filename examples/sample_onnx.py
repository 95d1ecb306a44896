"""Samples of an exported run by NumPy and onnxruntime alone: python sample_onnx.py digits.onnx 16 label=3

digits.onnx.json holds the solver: what each call is scaled by, and how its answers are added up. `noise` may be
given: (calls + 1, count, *shape), first the start, then what each step adds.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def sample(model, count, seed=0, noise=None, **conditions):
    about = json.loads(Path(f"{model}.json").read_text())
    calls, steps, units, batch = about["calls"], about["steps"], about["units"], (count, *about["shape"])
    network = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    if noise is None:
        noise = np.random.default_rng(seed).standard_normal((len(steps["R"]) + 1, *batch))
    rows = [{entry["name"]: conditions.get(entry["name"], entry["null"]) for entry in about["inputs"]}]
    rows.append({entry["name"]: entry["away"] for entry in about["inputs"]})  # what guidance goes away from
    for row in rows:
        for entry in about["inputs"]:
            value = np.asarray(row[entry["name"]], entry["dtype"])
            row[entry["name"]] = np.array(np.broadcast_to(value, (count, *entry["shape"])))
    x, inputs, answers = noise[0] * about["start"], [], []
    for i, scale in enumerate(calls["scale"]):
        feed = {"x": np.float32(x * calls["c_in"][i])}
        feed |= {key: np.full(count, calls[key][i], np.float32) for key in ("c_noise", "aim") if key in calls}
        answer = network.run(None, feed | rows[0])[0].astype(float)
        if scale != 1:
            away = network.run(None, feed | rows[1])[0]
            answer = away + scale * (answer - away)
        inputs.append(x)
        answers.append(answer)
        x = sum(steps["X"][i][j] * inputs[j] + steps["F"][i][j] * answers[j] for j in range(i + 1))
        x = x + steps["R"][i] * noise[i + 1]
    channel = (len(units["scale"]) if len(units["scale"]) > 1 else 1, *[1] * (x.ndim - 2))
    x = x * np.reshape(units["scale"], channel) + np.reshape(units["offset"], channel)
    if units["low"] is not None:  # whole numbers, and columns of vectors, stay within what the data had
        wide = (-1, *[1] * (x.ndim - 2))
        x = np.where(np.reshape(units["round"], wide), np.rint(x), x)
        x = np.clip(x, np.reshape(units["low"], wide), np.reshape(units["high"], wide))
    return x.astype(units["dtype"]).transpose(units["transpose"]).reshape(count, *units["shape"])


if __name__ == "__main__":
    model, count, *named = sys.argv[1:]
    made = sample(model, int(count), **{name: float(value) for name, value in (word.split("=") for word in named)})
    out = Path(model).with_suffix(".npz")
    np.savez(out, samples=made)
    print(f"Written: {out}")
