"""A model adapted to other labels, sections and words keeps exactly what has a namesake."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from mdnet.data.study import Aspect, LabelSpace
from mdnet.data.text import ReportTokenizer
from mdnet.errors import ConfigurationError
from mdnet.inference.predictor import Predictor
from mdnet.models.calibration import Calibration
from mdnet.models.configuration import ATTENTION_NAMES
from mdnet.models.mdnet import MDNet
from mdnet.models.transfer import HeadTransfer, VocabularyTransfer, adapt

OTHER_SPACE = LabelSpace(
    (
        Aspect("conclusion", ("high grade", "normal", "uncertain"), reference="normal"),
        Aspect("cell.type", ("plain", "odd")),  # the same classes in another order
        Aspect("findings", ("oedema", "effusion", "nodule")),  # single-label now
        Aspect("stroma", ("thin", "thick")),
    ),
    diagnosis="conclusion",
)
OTHER_SECTIONS = ("conclusion", "stroma", "mitosis")
OTHER_TEXTS = ("this is a high grade tumor with thick stroma .", "mitotic figures are seen .")


@pytest.fixture(scope="module")
def other_tokenizer() -> ReportTokenizer:
    return ReportTokenizer.build(OTHER_TEXTS, OTHER_SECTIONS)


@pytest.fixture
def adapt_to_other(other_tokenizer):
    """Adapts to all that is other."""

    def make(model: MDNet, **options: Any):
        return adapt(
            model,
            label_space=OTHER_SPACE,
            sections=OTHER_SECTIONS,
            tokenizer=other_tokenizer,
            options=options,
        )

    return make


def rebuilt_in_another_order(tokenizer: ReportTokenizer) -> ReportTokenizer:
    """The same words and sections under other numbers."""
    words = [tokenizer.words([number])[0] for number in range(len(tokenizer)) if tokenizer.words([number])]
    repeated = (" ".join([word] * count) for count, word in enumerate(words[1:], start=1))  # no <unk>
    return ReportTokenizer.build(repeated, tokenizer.sections[::-1])


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@pytest.mark.parametrize("order", ["same", "another"])
@torch.no_grad()
def test_with_the_same_labels_and_words_it_answers_as_the_original(
    build_model, draw_batch, let_sections_end, attention, order
):
    model = build_model(attention=attention, maximum_words=8)
    images = draw_batch(3).pixel_values
    let_sections_end(model, images)
    tokenizer = model.tokenizer if order == "same" else rebuilt_in_another_order(model.tokenizer)
    assert set(tokenizer.fast.get_vocab()) == set(model.tokenizer.fast.get_vocab())
    adapted, record = adapt(
        model, label_space=model.config.space, sections=model.config.sections, tokenizer=tokenizer
    )
    ours, theirs = adapted(images).logits, model(images).logits
    assert all(torch.equal(ours[aspect], theirs[aspect]) for aspect in theirs)
    reports = []
    for each in (adapted, model):
        predictor = Predictor(each, name="m", device="cpu")
        pictures = (images.movedim(1, 3) * 50 + 128).clamp(0, 255).byte().numpy()
        each.float()
        reports.append([finding.report.text for finding in predictor(list(pictures))])
        each.double()
    assert reports[0] == reports[1]
    assert len(set(reports[0])) > 1
    assert record.vocabulary.kept == record.vocabulary.words
    assert {str(head) for head in record.heads} == {f"aspect {a!r}: head kept" for a in theirs}
    assert adapted.config.section_aspects == model.config.section_aspects


def test_class_weights_are_kept_by_the_names_of_aspect_and_class(build_model, adapt_to_other):
    model = build_model()
    adapted, record = adapt_to_other(model)
    for aspect, row, namesake in [
        ("conclusion", 0, 2),
        ("conclusion", 1, 0),
        ("cell.type", 0, 1),
        ("cell.type", 1, 0),
    ]:
        assert torch.equal(adapted.heads[aspect].weight[row], model.heads[aspect].weight[namesake])
        assert torch.equal(adapted.heads[aspect].bias[row], model.heads[aspect].bias[namesake])
    for aspect, rows in [("conclusion", [2]), ("findings", [0, 1, 2]), ("stroma", [0, 1])]:
        head = adapted.heads[aspect]
        assert not head.bias[rows].any()
        assert 0 < head.weight[rows].abs().max() < 0.1  # as in a new model: deviation 0.01
    assert record.heads == (
        HeadTransfer("conclusion", ("high grade", "normal"), ("uncertain",), ("low grade", "insufficient")),
        HeadTransfer("cell.type", ("plain", "odd")),
        HeadTransfer(
            "findings", (), ("oedema", "effusion", "nodule"), ("oedema", "effusion", "nodule")
        ),  # softmax is not sigmoid
        HeadTransfer("stroma", (), ("thin", "thick")),
        HeadTransfer("mitosis", (), (), ("absent", "rare", "frequent")),
    )


def test_words_and_begin_tokens_are_kept_by_name_and_the_lstm_whole(
    build_model, adapt_to_other, other_tokenizer
):
    model = build_model()
    adapted, record = adapt_to_other(model)
    before, after = model.tokenizer.fast.get_vocab(), other_tokenizer.fast.get_vocab()
    shared = before.keys() & after.keys()
    assert {"<pad>", "<unk>", "<end>", "<begin:mitosis>", "<begin:conclusion>", "tumor"} <= shared
    for token, number in after.items():
        for ours, theirs in (
            (adapted.report.embedding.weight, model.report.embedding.weight),
            (adapted.report.output.weight, model.report.output.weight),
            (adapted.report.output.bias, model.report.output.bias),
        ):
            kept = token in shared and torch.equal(ours[number], theirs[before[token]])
            assert kept == (token in shared), token
    for name in ("lstm", "attention"):
        ours, theirs = (getattr(each.report, name).state_dict() for each in (adapted, model))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert record.sections == {
        "conclusion": "kept",
        "stroma": "new",
        "mitosis": "kept",
        "remarks": "dropped",
        "findings": "dropped",
    }
    # new are: with thick stroma
    assert record.vocabulary == VocabularyTransfer(words=14, kept=11, dropped=11)


def test_the_image_module_is_kept_with_its_statistics_and_shares_no_memory(build_model, adapt_to_other):
    model = build_model(block="bottleneck")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    adapted, _ = adapt_to_other(model)
    ours = adapted.image.state_dict()
    assert all(torch.equal(ours[key], tensor) for key, tensor in model.image.state_dict().items())
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter.zero_()
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_an_adapted_model_takes_a_training_step_and_is_saved_and_loaded(
    build_model, draw_batch, adapt_to_other, tmp_path
):
    adapted, _ = adapt_to_other(build_model(dtype=torch.float32))
    images = draw_batch(4).pixel_values.float()
    labels = {aspect.name: torch.arange(4) % len(aspect.classes) for aspect in OTHER_SPACE.aspects}
    tokens = torch.randint(6, len(adapted.tokenizer), (4, 3, 5))
    optimizer = torch.optim.SGD(adapted.train().parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = adapted(images, labels, tokens).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in adapted.parameters())
    adapted.eval().save_pretrained(tmp_path)
    loaded = MDNet.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(images).logits["stroma"], adapted(images).logits["stroma"])
    assert loaded.config.space == OTHER_SPACE


def test_a_report_or_heads_that_the_original_lacks_begin_anew_and_are_said(
    build_model, adapt_to_other, other_tokenizer
):
    _, record = adapt_to_other(build_model(sections=(), tokenizer=None))
    assert (record.report, record.vocabulary, record.attention) == ("new", None, None)
    assert "report LSTM: new" in record.lines()
    unlabelled = build_model(label_space=LabelSpace())
    adapted, record = adapt_to_other(unlabelled)
    assert [str(head) for head in record.heads][:2] == [
        "aspect 'conclusion': new head",
        "aspect 'cell.type': new head",
    ]
    assert adapted.config.attention == "additive"  # as the original had it, for want of labels
    assert record.attention == "kept"
    assert adapted.config.section_aspects["mitosis"] == "conclusion"  # the diagnosis guides what is no aspect


def test_what_is_no_longer_wanted_is_dropped_and_said(build_model, tokenizer):
    model = build_model()
    adapted, record = adapt(model, label_space=model.config.space, sections=(), tokenizer=None)
    assert adapted.report is None
    assert record.report == "dropped"
    adapted, record = adapt(
        model, label_space=LabelSpace(), sections=model.config.sections, tokenizer=tokenizer
    )
    assert adapted.heads is None
    assert (adapted.config.attention, record.attention) == ("additive", "new")
    assert "attention: new, of another kind" in record.lines()


def test_calibration_is_dropped_and_preprocessing_kept(build_model, adapt_to_other):
    model = build_model()
    model.calibration = Calibration(dict.fromkeys(model.config.space.names, 2.0))
    adapted, record = adapt_to_other(model)
    assert adapted.calibration is None
    assert adapted.preprocessing == model.preprocessing
    assert record.calibration == "dropped"


def test_every_part_is_said_in_one_line(build_model, adapt_to_other, caplog):
    with caplog.at_level(logging.INFO, logger="mdnet"):
        _, record = adapt_to_other(build_model())
    assert caplog.messages == record.lines()
    assert record.lines() == [
        "aspect 'conclusion': kept high grade, normal; new uncertain; dropped low grade, insufficient",
        "aspect 'cell.type': head kept",
        "aspect 'findings': head replaced",
        "aspect 'stroma': new head",
        "aspect 'mitosis': head dropped",
        "report LSTM: kept",
        "sections: kept conclusion, mitosis; new stroma; dropped remarks, findings",
        "vocabulary: 11 of 14 words kept, 11 dropped",
    ]


def test_a_guide_that_somebody_chose_stays_and_others_follow_the_new_aspects(build_model, tokenizer):
    sections = ("mitosis", "remarks", "findings", "conclusion")
    space = LabelSpace(
        (Aspect("remarks", ("none", "some")), Aspect("mitosis", ("absent", "rare"))), diagnosis="mitosis"
    )
    plain, _ = adapt(build_model(), label_space=space, sections=sections, tokenizer=tokenizer)
    assert plain.config.section_aspects == {
        "mitosis": "mitosis",
        "remarks": "remarks",  # an aspect of its own now
        "findings": "mitosis",
        "conclusion": "mitosis",
    }
    chosen = build_model(section_aspects={"remarks": "mitosis", "conclusion": None, "findings": "cell.type"})
    kept, _ = adapt(chosen, label_space=space, sections=sections, tokenizer=tokenizer)
    assert kept.config.section_aspects == {
        "mitosis": "mitosis",
        "remarks": "mitosis",
        "findings": "mitosis",  # the aspect that was chosen is gone
        "conclusion": None,
    }


def test_what_changes_no_shape_may_differ(build_model, adapt_to_other):
    adapted, _ = adapt_to_other(
        build_model(),
        dropout=0.3,
        maximum_words=7,
        views=2,
        widths=[4, 6, 8],
        section_aspects={"stroma": "stroma"},
    )
    assert (adapted.report.dropout.p, adapted.config.maximum_words, adapted.views) == (0.3, 7, 2)


@pytest.mark.parametrize(
    ("original", "options", "message"),
    [
        ({}, {"hidden_size": 8}, "hidden_size is 8, that of the weights 7: weights keep their architecture"),
        ({}, {"attention": "additive"}, "leave attention out, or the weights"),
        (
            {},
            {"image_size": 64},
            r"image_size is 64.*may differ: dropout, maximum_words, section_aspects, views",
        ),
        ({}, {"width": 3}, "unknown model option width"),
        ({"attention": "mdnet"}, {"views": 2}, "attention 'mdnet' has weights for the positions of 1"),
    ],
)
def test_what_would_change_the_architecture_is_named(build_model, adapt_to_other, original, options, message):
    with pytest.raises(ConfigurationError, match=message):
        adapt_to_other(build_model(**original), **options)
