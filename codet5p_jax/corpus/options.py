"""What the stages of a build need to know; importing it imports no Beam."""

import dataclasses

from etils import epath

from codet5p_jax.corpus.filters import Filters


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What the stages of a build need to know.

    Attributes:
        out_dir: Where the datasets are written.
        filters: What is left out.
        licenses: SPDX names of the licences a file may have.
        num_shards: Files of records in each split.
        evaluation_dir: Where `decontamination.write_evaluation_grams` wrote what is in evaluation
            sets; None: nothing is looked for.
    """

    out_dir: str
    filters: Filters
    licenses: tuple[str, ...]
    num_shards: int
    evaluation_dir: str | None = None

    def folder(self, stage: str) -> epath.Path:
        """Returns the folder, made if need be, of what a stage leaves for the next."""
        place = epath.Path(self.out_dir, stage)
        place.mkdir(parents=True, exist_ok=True)
        return place
