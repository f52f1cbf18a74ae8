"""A page of HTML for every finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mdnet.data.study import Study
from mdnet.files import file_name
from mdnet.inference.bulk.answering import AnsweredBatch

__all__ = ["PageNames", "write_pages"]


class PageNames:
    """Names of pages: an image's own without its ending, with its folders where two images share that.

    Args:
        images: All that will have a page in the folder.
    """

    def __init__(self, images: Iterable[Path]) -> None:
        self._stems = Counter(image.stem for image in images)

    def of(self, image: Path) -> str:
        if self._stems[image.stem] <= 1:
            return image.stem
        return "_".join(image.with_suffix("").parts).strip("/_.") + image.suffix.replace(".", "_")


def write_pages(answers: Iterable[AnsweredBatch], studies: Iterable[Study], folder: Path) -> Iterator[Path]:
    """Writes the pages one by one; that of a study of a data set is named by its id.

    Args:
        answers: With maps.
        studies: All that there are, by whose names the pages' are chosen.
        folder: Where to write.
    """
    names = PageNames(Path(study.id) for study in studies)
    for batch in answers:
        for identifier, finding in batch.findings:
            is_image = identifier == finding.source
            name = names.of(Path(identifier)) if is_image else file_name(identifier)
            yield finding.save_html(folder / f"{name}.html")
