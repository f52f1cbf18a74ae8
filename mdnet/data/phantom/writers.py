"""Five writers of reports on synthetic tissue, each with habits of their own.

A writer phrases every class of every section in one to three ways and keeps to the same style
throughout: the first is terse, the second describes ("there is", "the nuclei"), the third pairs two
observations, the fourth reasons ("consistent with"), the fifth speaks as "we". Every sentence has 5 to
16 words and states exactly one class; `statements` reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping

from mdnet.data.phantom.specification import CONCLUSION, INSUFFICIENT, SECTIONS, PhantomSpec, generator

__all__ = ["WRITERS", "write_report"]

Phrases = Mapping[str, Mapping[str, tuple[str, ...]]]  # section to class to phrasings

_TERSE: Phrases = {
    "pleomorphism": {
        "mild": ("Mild nuclear pleomorphism is present.", "Nuclear pleomorphism is mild overall."),
        "moderate": (
            "Moderate nuclear pleomorphism is present.",
            "Nuclear pleomorphism is moderate overall.",
        ),
        "severe": ("Severe nuclear pleomorphism is present.", "Nuclear pleomorphism is severe overall."),
        INSUFFICIENT: (
            "Nuclear pleomorphism cannot be assessed.",
            "Insufficient information on nuclear pleomorphism.",
        ),
    },
    "crowding": {
        "absent": ("No nuclear crowding is present.", "Nuclear crowding is absent overall."),
        "moderate": ("Moderate nuclear crowding is present.", "Nuclear crowding is moderate overall."),
        "severe": ("Severe nuclear crowding is present.", "Nuclear crowding is severe overall."),
        INSUFFICIENT: (
            "Nuclear crowding cannot be assessed.",
            "Insufficient information on nuclear crowding.",
        ),
    },
    "polarity": {
        "preserved": (
            "Polarity is preserved in the epithelium.",
            "Preserved polarity is present throughout.",
        ),
        "partially lost": (
            "Polarity is partially lost in the epithelium.",
            "Partial loss of polarity is present.",
        ),
        "lost": ("Polarity is completely lost in the epithelium.", "Complete loss of polarity is present."),
        INSUFFICIENT: (
            "Cellular polarity cannot be assessed.",
            "Insufficient information on cellular polarity.",
        ),
    },
    "mitosis": {
        "absent": ("Mitosis is absent in this tile.", "No mitotic figures are present."),
        "rare": ("Mitosis is rare in this tile.", "Rare mitotic figures are present."),
        "frequent": ("Mitosis is frequent in this tile.", "Frequent mitotic figures are present."),
        INSUFFICIENT: ("Mitotic figures cannot be assessed.", "Insufficient information on mitotic figures."),
    },
    "nucleoli": {
        "inconspicuous": (
            "Nucleoli are inconspicuous in this tile.",
            "Only inconspicuous nucleoli are present.",
        ),
        "prominent": ("Nucleoli are prominent in this tile.", "Many prominent nucleoli are present."),
        INSUFFICIENT: ("The nucleoli cannot be assessed.", "Insufficient information on the nucleoli."),
    },
    CONCLUSION: {
        "normal": ("The conclusion is normal urothelium.",),
        "low grade": ("The conclusion is low grade carcinoma.",),
        "high grade": ("The conclusion is high grade carcinoma.",),
        INSUFFICIENT: ("The conclusion is insufficient information.",),
    },
}

_DESCRIPTIVE: Phrases = {
    "pleomorphism": {
        "mild": (
            "The nuclei are uniform in size and shape.",
            "There is hardly any variation in nuclear size and shape.",
        ),
        "moderate": (
            "The nuclei vary moderately in size and shape.",
            "There is some variation in nuclear size and shape.",
        ),
        "severe": (
            "The nuclei vary widely in size and shape.",
            "There is striking variation in nuclear size and shape.",
        ),
        INSUFFICIENT: ("The size and shape of the nuclei cannot be judged here.",),
    },
    "crowding": {
        "absent": (
            "The nuclei are well spaced, with clear cytoplasm between them.",
            "There is ample space between the nuclei.",
        ),
        "moderate": (
            "The nuclei lie close together but rarely touch.",
            "There is little space between the nuclei.",
        ),
        "severe": ("The nuclei are packed and overlap one another.", "There is no space between the nuclei."),
        INSUFFICIENT: ("The space between the nuclei cannot be judged here.",),
    },
    "polarity": {
        "preserved": (
            "The nuclei stand upright on the basement membrane.",
            "There is an orderly arrangement above the basement membrane.",
        ),
        "partially lost": (
            "The nuclei lean to either side above the basement membrane.",
            "There is a partly disturbed arrangement above the basement membrane.",
        ),
        "lost": (
            "The nuclei point in every direction above the basement membrane.",
            "There is no orderly arrangement above the basement membrane.",
        ),
        INSUFFICIENT: ("The arrangement of the nuclei cannot be judged here.",),
    },
    "mitosis": {
        "absent": (
            "There are no dividing cells in the epithelium.",
            "The epithelium shows no mitotic activity.",
        ),
        "rare": (
            "There are one or two dividing cells in the epithelium.",
            "The epithelium shows low mitotic activity.",
        ),
        "frequent": (
            "There are numerous dividing cells in the epithelium.",
            "The epithelium shows high mitotic activity.",
        ),
        INSUFFICIENT: ("The number of dividing cells cannot be judged here.",),
    },
    "nucleoli": {
        "inconspicuous": (
            "There are no visible nucleoli inside the nuclei.",
            "The nuclei show even chromatin without a nucleolus.",
        ),
        "prominent": (
            "There are large nucleoli inside most nuclei.",
            "The nuclei show a dark round nucleolus.",
        ),
        INSUFFICIENT: ("The nucleoli inside the nuclei cannot be judged here.",),
    },
    CONCLUSION: {
        "normal": ("There is no neoplasm in this tile.",),
        "low grade": ("There is a low grade neoplasm in this tile.",),
        "high grade": ("There is a high grade neoplasm in this tile.",),
        INSUFFICIENT: ("There is insufficient information in this tile.",),
    },
}

_PAIRING: Phrases = {
    "pleomorphism": {
        "mild": ("Nuclear outlines are smooth, and pleomorphism is slight.",),
        "moderate": ("Nuclear outlines are somewhat uneven, and pleomorphism is intermediate.",),
        "severe": ("Nuclear outlines are bizarre, and pleomorphism is marked.",),
        INSUFFICIENT: ("Pleomorphism was not graded, as the tile shows insufficient information.",),
    },
    "crowding": {
        "absent": ("Nuclei are evenly spaced, and crowding is not seen.",),
        "moderate": ("Nuclei are moderately crowded, and overlaps are few.",),
        "severe": ("Nuclei are severely crowded, and overlaps are many.",),
        INSUFFICIENT: ("Crowding was not graded, as the tile shows insufficient information.",),
    },
    "polarity": {
        "preserved": ("Nuclear axes are perpendicular to the membrane, and polarity is kept.",),
        "partially lost": ("Nuclear axes are tilted to the membrane, and polarity is reduced.",),
        "lost": ("Nuclear axes are random to the membrane, and polarity is gone.",),
        INSUFFICIENT: ("Polarity was not graded, as the tile shows insufficient information.",),
    },
    "mitosis": {
        "absent": ("Mitotic figures are not seen at any level.",),
        "rare": ("Mitotic figures are scarce, and most levels have none.",),
        "frequent": ("Mitotic figures are common, and most levels have one.",),
        INSUFFICIENT: ("Mitoses were not counted, as the tile shows insufficient information.",),
    },
    "nucleoli": {
        "inconspicuous": ("Nucleoli are tiny, and few can be found.",),
        "prominent": ("Nucleoli are bold, and most can be found at once.",),
        INSUFFICIENT: ("Nucleoli were not graded, as the tile shows insufficient information.",),
    },
    CONCLUSION: {
        "normal": ("The findings are within normal limits.", "The findings are those of normal urothelium."),
        "low grade": ("The findings are those of a low grade lesion.",),
        "high grade": ("The findings are those of a high grade lesion.",),
        INSUFFICIENT: ("The findings are insufficient for a diagnosis.",),
    },
}

_REASONING: Phrases = {
    "pleomorphism": {
        "mild": ("Nuclear size hardly differs, consistent with mild pleomorphism.",),
        "moderate": ("Nuclear size differs up to twice, consistent with moderate pleomorphism.",),
        "severe": (
            "Giant and small nuclei lie side by side, consistent with severe pleomorphism.",
            "Nuclear size differs many times, consistent with severe pleomorphism.",
        ),
        INSUFFICIENT: ("Nuclear size is not readable, with insufficient information on pleomorphism.",),
    },
    "crowding": {
        "absent": ("Nuclear density is low, consistent with no crowding.",),
        "moderate": ("Nuclear density is raised, consistent with moderate crowding.",),
        "severe": ("Nuclear density is very high, consistent with severe crowding.",),
        INSUFFICIENT: ("Nuclear density is not readable, with insufficient information on crowding.",),
    },
    "polarity": {
        "preserved": ("The architecture is ordered, consistent with preserved polarity.",),
        "partially lost": (
            "The architecture is partly disordered, consistent with partial loss of polarity.",
        ),
        "lost": ("The architecture is fully disordered, consistent with complete loss of polarity.",),
        INSUFFICIENT: ("The architecture is not readable, with insufficient information on polarity.",),
    },
    "mitosis": {
        "absent": ("The mitotic count is zero, consistent with absent mitosis.",),
        "rare": ("The mitotic count is low, consistent with rare mitosis.",),
        "frequent": ("The mitotic count is high, consistent with frequent mitosis.",),
        INSUFFICIENT: ("The mitotic count is not readable, with insufficient information on mitosis.",),
    },
    "nucleoli": {
        "inconspicuous": ("The chromatin is even, consistent with inconspicuous nucleoli.",),
        "prominent": ("The chromatin is open with dark dots, consistent with prominent nucleoli.",),
        INSUFFICIENT: ("The chromatin is not readable, with insufficient information on nucleoli.",),
    },
    CONCLUSION: {
        "normal": ("Overall the features are consistent with normal urothelium.",),
        "low grade": ("Overall the features are consistent with low grade carcinoma.",),
        "high grade": ("Overall the features are consistent with high grade carcinoma.",),
        INSUFFICIENT: ("Overall the tile holds insufficient information for grading.",),
    },
}

_PLURAL: Phrases = {
    "pleomorphism": {
        "mild": ("We see only small differences between one nucleus and the next.",),
        "moderate": ("We see clear differences between one nucleus and the next.",),
        "severe": ("We see extreme differences between one nucleus and the next.",),
        INSUFFICIENT: ("We cannot tell how much the nuclei differ.",),
    },
    "crowding": {
        "absent": (
            "We see nuclei that stand well apart from their neighbors.",
            "We see no crowding of the nuclei.",
        ),
        "moderate": (
            "We see nuclei that come near their neighbors.",
            "We see moderate crowding of the nuclei.",
        ),
        "severe": (
            "We see nuclei that lie on top of their neighbors.",
            "We see severe crowding of the nuclei.",
        ),
        INSUFFICIENT: ("We cannot tell how crowded the nuclei are.",),
    },
    "polarity": {
        "preserved": ("We see nuclei that keep one common direction.",),
        "partially lost": ("We see nuclei that roughly follow one direction.",),
        "lost": ("We see nuclei that follow no direction at all.",),
        INSUFFICIENT: ("We cannot tell in which direction the nuclei lie.",),
    },
    "mitosis": {
        "absent": ("We see no dividing nuclei with clumped chromatin.",),
        "rare": ("We see one or two dividing nuclei with clumped chromatin.",),
        "frequent": ("We see many dividing nuclei with clumped chromatin.",),
        INSUFFICIENT: ("We cannot tell whether any nuclei are dividing.",),
    },
    "nucleoli": {
        "inconspicuous": ("We see nuclei that lack a visible nucleolus.",),
        "prominent": ("We see nuclei that carry a bold nucleolus.",),
        INSUFFICIENT: ("We cannot tell whether the nuclei have nucleoli.",),
    },
    CONCLUSION: {
        "normal": ("We conclude that this urothelium is normal.",),
        "low grade": ("We conclude that this tumor is low grade.",),
        "high grade": ("We conclude that this tumor is high grade.",),
        INSUFFICIENT: ("We conclude that this tile has insufficient information.",),
    },
}

WRITERS: tuple[Phrases, ...] = (_TERSE, _DESCRIPTIVE, _PAIRING, _REASONING, _PLURAL)


def write_report(spec: PhantomSpec) -> dict[str, tuple[str, ...]]:
    """Section to five texts, one a writer; writer i is the same in every section.

    A section without a label says that it cannot be assessed.
    """
    rng = generator(spec.seed, spec.index, 4)
    return {
        section: tuple(
            _choose(writer[section][spec.labels.get(section, INSUFFICIENT)], rng.random())
            for writer in WRITERS
        )
        for section in SECTIONS
    }


def _choose(phrasings: tuple[str, ...], number: float) -> str:
    return phrasings[int(number * len(phrasings))]
