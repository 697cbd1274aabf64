"""Steps from base model to model version.

The libraries below read these variables once, when they are first imported; importing any step of this package comes
before that.
"""

import logging
import os
import warnings

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads sleep: spinning ones starve their neighbours
os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # but not at once: a step waits thousands of times, for microseconds
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # by the time a step loads a model it is a directory
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")  # progress goes through the step's context
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# Nobody can act on these: bitsandbytes misses a kernel of a model hub, transformers renames an option that trl still
# calls by its old name, and peft looks for a base model by what is only its name.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", r".*gradient_checkpointing` is deprecated", FutureWarning)
warnings.filterwarnings("ignore", "Could not find a config file in", UserWarning)
