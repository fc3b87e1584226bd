"""A small GPT-2 that learns to count, with the Hugging Face Trainer: AdamW, warm-up, accumulation, the trainer's clip."""

from __future__ import annotations

import argparse
import hashlib
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    options = parser.parse_args()

    set_seed(0)
    starts, steps = torch.randint(0, 32, (256, 1)), torch.randint(1, 4, (256, 1))
    rows = (starts + steps * torch.arange(16)) % 32
    config = GPT2Config(vocab_size=32, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            train_dataset=[{"input_ids": row, "labels": row} for row in rows],
            args=TrainingArguments(
                output_dir=folder,
                max_steps=64,
                per_device_train_batch_size=8,
                gradient_accumulation_steps=2,
                learning_rate=options.lr,
                warmup_steps=8,
                max_grad_norm=options.clip,
                use_cpu=True,
                dataloader_pin_memory=False,
                disable_tqdm=True,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
            ),
        )
        trainer.train()
    weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    print(f"{trainer.state.global_step} steps, weights {hashlib.sha256(weights).hexdigest()[:12]}")


if __name__ == "__main__":
    main()
