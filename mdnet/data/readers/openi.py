"""Indiana University chest X-rays as Open-i publishes them: a report a XML file, and PNG images.

    ecgen-radiology/7.xml (also under NLMCXR_reports/)
        <eCitation> <uId id="CXR7"/>
          <MedlineCitation><Article><Abstract>
            <AbstractText Label="FINDINGS">...</AbstractText> (COMPARISON, INDICATION, IMPRESSION)
          <MeSH><major>Pulmonary Atelectasis/base</major> <automatic>...</automatic></MeSH>
          <parentImage id="CXR7_IM-2263-1001"><caption>...</caption></parentImage>
    images/, NLMCXR_png/ or beside  CXR7_IM-2263-1001.png

The problems are the heads of the major MeSH terms; automatic ones were found by machine in the same text
and are not used. Which view an image shows stands nowhere but, at times, in its caption: one that
speaks of a lateral view only goes behind the others, which keep the order of the file. What becomes of
names, labels and sections stands in `mdnet.data.readers.indiana_studies`.

A file with a document type is refused: the published ones have none, and it is what entities that grow
without bound (CVE-2013-0340) need. Expat from 2.4.1 on, which Python 3.11 has, bounds them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from mdnet.data.readers.collector import Collector, short
from mdnet.data.readers.indiana_studies import Examination, read_examinations
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.study import StudySet

__all__ = ["matches", "read"]

_FOLDERS = ("ecgen-radiology", "NLMCXR_reports/ecgen-radiology", "reports/ecgen-radiology")
_LATERAL = re.compile(r"\b(?:lateral|lat)\b", re.IGNORECASE)
_FRONTAL = re.compile(r"\b(?:frontal|pa|ap|views|two)\b", re.IGNORECASE)


def matches(root: Path) -> bool:
    """Whether the folder holds `ecgen-radiology` with a XML file."""
    return next(_files(root), None) is not None


def read(root: Path, options: ReaderOptions) -> StudySet:
    """The studies of `root`; each file that cannot be used is a fault."""
    collector = Collector(root, "openi", partial=True)
    collector.load_dataset_file()
    files = sorted(_files(root), key=lambda file: (len(file.stem), file.stem))
    examinations: dict[str, Examination] = {}
    for file in files:
        citation = _citation(file, collector)
        if citation is None:
            continue
        each = _examination(citation, file, collector)
        first = examinations.setdefault(each.number, each)
        if first is not each:
            problem = f"report {each.number!r} stands twice, first in {first.source}"
            collector.error(file, problem, "keep one file a report")
    return read_examinations(list(examinations.values()), collector, files[0].parent)


def _files(root: Path) -> Iterator[Path]:
    for folder in (root / name for name in _FOLDERS):
        if folder.is_dir():
            yield from folder.glob("*.xml")
            return


class _PlainTree(ElementTree.TreeBuilder):
    """Builds the tree of a file without document type."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type")


def _citation(file: Path, collector: Collector) -> ElementTree.Element | None:
    """The root element, or None after noting the error."""
    mend = "fetch the file again, or take it out"
    try:
        parser = ElementTree.XMLParser(target=_PlainTree())
        parser.feed(file.read_bytes())
        citation: ElementTree.Element = parser.close()
    except OSError as error:
        collector.error(file, f"cannot be read ({error.strerror})", "check path and permissions")
    except ElementTree.ParseError as error:
        collector.error(f"{file}:{error.position[0]}", f"broken XML ({error})", mend)
    except (ValueError, LookupError) as error:  # a document type; an encoding that Python does not know
        collector.error(file, f"no plain XML ({error})", mend)
    else:
        if citation.tag == "eCitation":
            return citation
        collector.error(file, f"its element is {short(citation.tag)}, not eCitation", mend)
    return None


def _examination(citation: ElementTree.Element, file: Path, collector: Collector) -> Examination:
    identifier = citation.find("uId")
    number = "" if identifier is None else identifier.get("id", "").strip().removeprefix("CXR")
    sections: dict[str, str] = {}
    for element in citation.iterfind(".//AbstractText"):
        name = element.get("Label", "").strip().lower()
        if not name:
            collector.warning(file, "a text without label", "label it FINDINGS or IMPRESSION; it is not read")
            continue
        sections[name] = f"{sections.get(name, '')} {_text(element)}".strip()
    images: list[tuple[bool, int, str]] = []  # whether it is lateral, place in the file, name
    for element in citation.iterfind(".//parentImage"):
        name = element.get("id", "").strip()
        if name:
            caption = element.find("caption")
            images.append((_is_lateral("" if caption is None else _text(caption)), len(images), name))
        else:
            collector.error(file, "an image without id", "fetch the file again")
    terms = [_text(element) for element in citation.iterfind(".//MeSH/major")]
    problems = dict.fromkeys(term.partition("/")[0].strip() for term in terms)
    return Examination(
        number or file.stem,
        tuple(name for _, _, name in sorted(images)),
        sections,
        tuple(filter(None, problems)),
        str(file),
    )


def _text(element: ElementTree.Element) -> str:
    return "".join(element.itertext()).strip()


def _is_lateral(caption: str) -> bool:
    """Whether a caption speaks of a lateral view and of no other."""
    return bool(_LATERAL.search(caption)) and not _FRONTAL.search(caption)
