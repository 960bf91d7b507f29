"""PyTorch checkpoints, read without PyTorch: zip files, the stream before torch 1.6, and distributed checkpoints.

Each is a pickle that says which tensors there are, and storages that hold their bytes. The pickle is run on a closed
machine of our own, which builds plain data and nothing else: no module is imported and nothing in it is ever called.
"""
