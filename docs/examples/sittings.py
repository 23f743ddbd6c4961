"""Training in sittings: stop when validation no longer rises, go on, stop by a rule of one's own, save and go on."""

import tempfile

from vae_np import VAE, EarlyStopping, StopTraining
from vae_np.data import bars

x, _ = bars(4, 600, seed=0)
how = {"validation": 100, "batch_size": 50, "lr": 0.01}

# Early stopping, in two lines.
vae, stopping = VAE(16, hidden=(32,), latent=4, backend="numpy"), EarlyStopping(patience=5)
vae.fit(x, epochs=1000, on_metrics=stopping, **how)
print(f"stopped after epoch {vae.history.lines[-1]['epoch']}, best epoch {stopping.best['epoch']}")

# Steps, epochs and moments go on.
vae.fit(x, epochs=3, **how)
print(f"then epoch {vae.history.lines[-1]['epoch']}, step {vae.history.lines[-1]['step']}")


# A rule of one's own.
def stop(line):
    if line["split"] == "train" and line["kl"] > 3.0:
        raise StopTraining


other = VAE(16, hidden=(32,), latent=4, backend="numpy")
other.fit(x, epochs=1000, on_metrics=stop, **how)
print(f"KL {other.history.split('train')[-1]['kl']:.2f} nats after epoch {other.history.lines[-1]['epoch']}")

# Saved and loaded, a training goes on as if it had never stopped.
with tempfile.TemporaryDirectory() as folder:
    other.save(folder)
    again = VAE.load(folder, backend="numpy")
for model in (other, again):
    model.fit(x, epochs=2, **how)
print("the same parameters:", bool((other.parameters.flat == again.parameters.flat).all()))
