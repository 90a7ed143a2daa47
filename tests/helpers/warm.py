"""What a forked copy of this process need not import again; to be imported before the fork."""

import matplotlib

matplotlib.use("Agg")

import fontTools.subset  # noqa: F401
import h5py  # noqa: F401
import imageio.v3  # noqa: F401
import matplotlib.backends.backend_pdf
import matplotlib.backends.backend_svg
import matplotlib.pyplot
import mujoco  # noqa: F401
import pyarrow.dataset
import pyarrow.parquet  # noqa: F401
import scipy.stats  # noqa: F401
import seaborn  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch
import torch._dynamo

import benchbench.cell.train
import benchbench.cli.main
import benchbench.launch.debug
import benchbench.launch.run
import benchbench.report.page  # noqa: F401

torch.set_num_threads(1)
