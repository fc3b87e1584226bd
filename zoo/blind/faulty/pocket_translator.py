import random
import torch
import torch.nn as nn

SAMPLES = {
    "en": "the quick brown fox jumps over the lazy dog and then it goes home to sleep",
    "de": "der schnelle braune fuchs springt ueber den faulen hund und geht nach hause",
    "es": "el rapido zorro marron salta sobre el perro perezoso y luego vuelve a casa",
    "fi": "nopea ruskea kettu hyppaa laiskan koiran yli ja menee sitten kotiin nukkumaan",
}
ALPHABET = " abcdefghijklmnopqrstuvwxyz"
LANGS = list(SAMPLES)


def fragment(rng):
    lang = rng.randrange(len(LANGS))
    text = SAMPLES[LANGS[lang]]
    start = rng.randrange(len(text) - 16)
    return [ALPHABET.index(c) for c in text[start:start + 16]], lang


class LangId(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(ALPHABET), 16)
        self.mix = nn.Sequential(nn.Linear(256, 64), nn.GELU(), nn.Linear(64, 32), nn.GELU())
        self.out = nn.Linear(32, len(LANGS))

    def forward(self, chars):
        return self.out(self.mix(self.embed(chars).flatten(1)))


rng = random.Random(3)
torch.manual_seed(3)
model = LangId().half()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(120):
    chars, langs = zip(*(fragment(rng) for _ in range(32)))
    logits = model(torch.tensor(chars))
    loss = nn.functional.cross_entropy(logits.float(), torch.tensor(langs))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == 119:
        print(f"step {step:3d} loss {loss.item():.4f}")
