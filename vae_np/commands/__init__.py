"""The commands of `vae-np`, one file each: what they compute, say and write. `vae_np.cli` gives them their options."""
