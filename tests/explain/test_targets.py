"""A target's number is the model's own, and names left open are filled in from what the model said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mdnet.errors import ConfigurationError
from mdnet.explain.targets import ClassTarget, ReportTarget, Scorer, SectionTarget, WordTarget


@pytest.fixture(scope="module")
def findings(small, pictures):
    return small(pictures)


@torch.no_grad()
def score(predictor, target, pictures) -> torch.Tensor:
    return Scorer(predictor.model, target)(predictor.pixel_values(pictures))


def test_a_class_s_number_is_its_logit_or_the_difference_of_two(small, pictures, findings):
    alone = score(small, ClassTarget("mitosis", "rare"), pictures)
    pair = score(small, ClassTarget("mitosis", "rare", "frequent"), pictures)
    for row, finding in enumerate(findings):
        logits = finding.aspects["mitosis"].logits
        assert float(alone[row]) == pytest.approx(logits["rare"], rel=1e-10)
        assert float(pair[row]) == pytest.approx(logits["rare"] - logits["frequent"], rel=1e-10)


def test_what_is_left_open_is_the_answer_against_the_reference_or_the_likeliest_other(findings):
    for finding in findings:
        for name in ("mitosis", "cell.type", "conclusion"):
            answer, space = finding.aspects[name], finding.label_space[name]
            found = ClassTarget(name).resolved(finding)
            assert (found.aspect, found.label) == (name, answer.label)
            if answer.label != space.reference:
                assert found.against == space.reference
            else:
                others = [c for c in space.classes if c != answer.label]
                assert found.against == max(others, key=lambda c: answer.logits[c])
        assert ClassTarget().resolved(finding).aspect == "conclusion"
        several = finding.aspects["findings"]
        likeliest = max(several.logits, key=lambda c: several.logits[c])
        assert ClassTarget("findings").resolved(finding) == ClassTarget("findings", likeliest)


def test_a_class_that_is_named_stays_alone_unless_another_is_named_too(findings):
    named = ClassTarget("mitosis", "rare")
    assert named.resolved(findings[0]) == named
    assert replace(named, against="absent").resolved(findings[0]) == ClassTarget("mitosis", "rare", "absent")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (ClassTarget("polarity"), "no aspect 'polarity'"),
        (ClassTarget("mitosis", "some"), "no class 'some'"),
        (ClassTarget("mitosis", "rare", "some"), "no class 'some'"),
    ],
)
def test_names_that_the_label_space_lacks_are_refused(findings, target, message):
    with pytest.raises(ConfigurationError, match=message):
        target.resolved(findings[0])


def test_a_word_s_number_is_the_log_probability_with_which_it_was_written(small, pictures, findings):
    for section in ("mitosis", "remarks"):
        written = findings[1].report.sections[section]
        assert len(written.words)
        for position in range(min(4, len(written.words))):
            target = WordTarget.of(findings[1], section, position)
            found = float(score(small, target, pictures)[1])
            assert found == pytest.approx(written.log_probabilities[position], rel=1e-9)


def test_a_section_s_number_is_the_sum_over_its_words_and_a_report_s_over_its_sections(small, pictures):
    texts = (("mitosis", ("figures", "are", "frequent")), ("remarks", ()), ("conclusion", ("high", "grade")))
    total = torch.zeros(3, dtype=torch.float64)
    for name, words in (texts[0], texts[2]):
        numbers = [score(small, WordTarget(name, words[: i + 1]), pictures) for i in range(len(words))]
        whole = score(small, SectionTarget(name, words), pictures)
        torch.testing.assert_close(whole, torch.stack(numbers).sum(dim=0))
        total += whole
    torch.testing.assert_close(score(small, ReportTarget(texts), pictures), total)


def test_a_section_and_a_report_are_taken_as_they_were_written(findings):
    for finding in findings:
        sections = finding.report.sections
        assert ReportTarget.of(finding).texts == {name: section.words for name, section in sections.items()}
        assert SectionTarget.of(finding, "remarks").words == sections["remarks"].words


def test_a_word_s_number_reaches_the_image_with_its_full_gradient(small, pictures):
    images = small.pixel_values(pictures[1:2])
    target = WordTarget("mitosis", ("figures", "are", "frequent"))
    step = 1e-6 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=images.dtype)
    images.requires_grad_(True)
    scorer = Scorer(small.model, target)
    (gradient,) = torch.autograd.grad(scorer(images).sum(), images)
    with torch.no_grad():
        change = float((scorer(images + step) - scorer(images - step)).sum() / 2)
    assert float((gradient * step).sum()) == pytest.approx(change, rel=1e-3)


def test_text_targets_refuse_what_the_model_cannot_write(small, pictures, findings):
    for target, message in (
        (WordTarget("polarity", ("the",)), "no section 'polarity'"),
        (SectionTarget("mitosis", ("zebra",)), "no word 'zebra'"),
        (SectionTarget("mitosis", ()), "no word to explain"),
        (ReportTarget(()), "no word to explain"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            score(small, target, pictures[:1])
    with pytest.raises(ConfigurationError, match=r"has \d+ words: there is no word 100 in it"):
        WordTarget.of(findings[0], "mitosis", 99)
    with pytest.raises(ConfigurationError, match="no section 'polarity'"):
        SectionTarget.of(findings[0], "polarity")


def test_a_model_without_sections_says_that_it_writes_no_report(make_predictor, pictures):
    with pytest.raises(ConfigurationError, match="writes no report"):
        score(make_predictor(sections=()), ReportTarget(()), pictures[:1])


def test_a_class_against_itself_is_refused_and_an_open_answer_never_meets_itself(small, findings):
    with pytest.raises(ConfigurationError, match="a class against itself is 0 everywhere"):
        ClassTarget("mitosis", "rare", "rare").weights(small.model)
    likeliest = max(findings[0].aspects["findings"].probabilities.items(), key=lambda entry: entry[1])[0]
    assert ClassTarget("findings", against=likeliest).resolved(findings[0]).against is None


def test_targets_say_in_words_what_they_explain():
    assert str(ClassTarget("mitosis", "rare", "absent")) == "mitosis: rare against absent"
    assert str(WordTarget("mitosis", ("figures", "are", "rare"))) == "mitosis: word 3, 'rare'"
    assert str(SectionTarget("mitosis", ("figures", "are", "rare", "."))) == "mitosis: Figures are rare."
    assert str(ReportTarget((("a", ("one", ".")), ("b", ()), ("c", ("two",))))) == "report: One. Two"
