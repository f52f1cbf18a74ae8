"""Left and right in reports: found in many languages, and not where the words mean something else."""

from pathlib import Path

import pytest

from mdnet.data.sides import find_sides, words_of_side
from mdnet.data.study import Study


@pytest.mark.parametrize(
    "text",
    [
        "There is a left pleural effusion.",
        "RIGHT LOWER LOBE consolidation",
        "left-sided chest tube; leftward shift",
        "mass in the left upper lobe",
        "Verschattung links basal",
        "der linke Oberlappen",
        "rechtsseitiger Erguss",
        "épanchement pleural gauche",
        "le poumon droit",
        "derrame pleural izquierdo",
        "pulmón derecho",
        "pulmão esquerdo",
        "polmone destro",
        "справа определяется тень",
        "в левом лёгком",
        "右肺下叶",
        "左眼底",
        "左下肺野に浸潤影",
        "좌측 흉수",
        "OD: clear lens",
        "Fundus O.S. normal",
        "Opacity in RUL.",
        "Rt. lung is clear",
    ],
)
def test_sides_are_found(text):
    assert words_of_side(text)


@pytest.mark.parametrize(
    "text",
    [
        "Everything is all right.",
        "It was done right away",
        "the drain was left in place",
        "a leftover suture",
        "bright and upright, fright",  # no words of their own
        "Mitosis is frequent; nuclei are crowded.",
        "直径约5mm左右",
        "cervical os",
        "od 2 mm",
        "the T1 lesion",
        "",
    ],
)
def test_other_meanings_do_not_count(text):
    assert words_of_side(text) == []


def test_studies_are_counted_and_the_commonest_words_named():
    def study(number, text, **labels):
        return Study(str(number), (Path("a.png"),), labels=labels, report={"findings": (text, "Nothing.")})

    studies = [study(0, "Left lung and left heart."), study(1, "On the right."), study(2, "Clear.")]
    found = find_sides(studies)
    assert found
    assert (found.studies, found.among, found.words) == (2, 3, ("left", "right"))
    assert str(found) == "2 of 3 studies speak of sides (left, right)"
    assert not find_sides(studies[2:])
    assert str(find_sides(studies[2:])) == "none of 1 studies speaks of a side"


@pytest.mark.parametrize(
    "labels", [{"effusion": "left"}, {"effusion": ("both", "right base")}, {"left lung": "clear"}]
)
def test_labels_speak_of_sides_too(labels):
    assert find_sides([Study("a", (Path("a.png"),), labels=labels)])
