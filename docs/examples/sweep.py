"""A sweep over latent sizes by several processes: mpiexec -n 8 python docs/examples/sweep.py

Each model has a group of ranks of its own, and the ranks of a group share its training. With 8 ranks there are 8 models
at once; with 2 each trains four, one after the other. The figures are the same.
"""

from mpi4py import MPI

from vae_np import VAE
from vae_np.data import bars

SIZES = (1, 2, 3, 4, 5, 6, 8, 10)

world = MPI.COMM_WORLD
# As many groups as there are models, or ranks if these are fewer.
groups = min(len(SIZES), world.size)
number = world.rank * groups // world.size
group = world.Split(number)
x, _ = bars(4, 600, seed=0)

found = {}
for latent in SIZES[number::groups]:
    vae = VAE(16, hidden=(32,), latent=latent, backend="numpy")
    vae.fit(x, epochs=20, batch_size=50, lr=0.01, gradient_blocks=2, communicator=group)
    found[latent] = float(vae.elbo(x).elbo.mean())

gathered = world.gather(found if group.rank == 0 else {})
if world.rank == 0:
    merged = {latent: elbo for part in gathered for latent, elbo in part.items()}
    for latent in SIZES:
        print(f"latent {latent:>2}  ELBO {merged[latent]:.2f}")
