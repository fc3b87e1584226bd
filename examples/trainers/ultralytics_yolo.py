"""YOLOv8 from scratch with Ultralytics, on squares drawn on noise: AdamW, its own warm-up, accumulation and clip."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

os.environ.setdefault("YOLO_OFFLINE", "true")  # nothing is downloaded


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Indices of boxes that overlap no better one by more than the threshold, best first."""
    order, area, kept = scores.argsort(descending=True, stable=True), (boxes[:, 2:] - boxes[:, :2]).prod(1), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low, high = torch.maximum(boxes[best, :2], boxes[order, :2]), torch.minimum(boxes[best, 2:], boxes[order, 2:])
        both = (high - low).clamp(min=0).prod(1)
        order = order[both <= iou_threshold * (area[best] + area[order] - both)]
    return torch.stack(kept) if kept else order


def provide_nms() -> None:
    """Where torchvision's compiled operators do not fit this torch, the one that validation needs is this one."""
    compiled = next(Path(importlib.util.find_spec("torchvision").origin).parent.glob("_C*"))
    try:
        torch.ops.load_library(compiled)
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        torchvision.ops.nms = nms


def draw(folder: Path, images: int) -> Path:
    """Pictures of 64 by 64 with two squares each, red or blue, and their labels; where they are described."""
    numbers = np.random.default_rng(0)
    for part, count in (("train", images), ("val", 4)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for i in range(count):
            picture, lines = numbers.integers(0, 60, (64, 64, 3), dtype=np.uint8), []
            for colour in numbers.integers(0, 2, 2):
                side = numbers.integers(16, 32)
                x, y = numbers.integers(0, 64 - side, 2)
                picture[y : y + side, x : x + side] = ((40, 40, 230), (230, 40, 40))[colour]
                centre = (x + side / 2) / 64, (y + side / 2) / 64
                lines.append(f"{colour} {centre[0]} {centre[1]} {side / 64} {side / 64}")
            Image.fromarray(picture).save(folder / "images" / part / f"{i}.png")
            (folder / "labels" / part / f"{i}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [blue, red]\n")
    return folder / "data.yaml"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--optimizer", default="AdamW")
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()

    provide_nms()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["YOLO_CONFIG_DIR"] = folder
        from ultralytics import YOLO

        model = YOLO("yolov8n.yaml")
        model.train(
            data=str(draw(Path(folder) / "squares", 32)),
            epochs=options.epochs,
            optimizer=options.optimizer,
            lr0=options.lr,
            imgsz=64,
            batch=4,
            nbs=8,
            amp=False,
            plots=False,
            workers=0,
            device="cpu",
            project=folder,
            val=False,
        )
    weights = b"".join(p.detach().numpy().tobytes() for p in model.trainer.model.parameters())
    print(f"weights {hashlib.sha256(weights).hexdigest()[:12]}")


if __name__ == "__main__":
    main()
