"""Models of our modelling files, loaded as users of an export load them.

These tests need torch and transformers alone: `make test-hf` runs them in environments without our
package, one per version of transformers.
"""

import os
import tempfile

# Before transformers is imported: the code of exports is cached apart from the user's.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="codet5p_modules_")

import pytest

from tests.huggingface.model_folders import randomize, write_folder


@pytest.fixture(scope="session")
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    return torch


@pytest.fixture(scope="session")
def transformers(torch):
    return pytest.importorskip("transformers")


@pytest.fixture
def folder_of(tmp_path):
    """Returns a folder with config.json and our modelling files, without weights."""

    return lambda contents: write_folder(tmp_path / "model", contents)


@pytest.fixture
def random_model(transformers, folder_of):
    """Returns a model of `contents` of a config.json, all of its weights random."""

    def make(contents, *, folder=None):
        folder = folder or folder_of(contents)
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
        model = transformers.AutoModel.from_config(config, trust_remote_code=True).float().eval()
        randomize(model)
        return model

    return make
