"""Constrained decoding writes the best text that states the predicted class; findings tell what they hold."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import torch

from mdnet.data.phantom import LABEL_SPACE
from mdnet.data.statements import PhantomReader, PhraseReader
from mdnet.errors import ConfigurationError
from mdnet.inference.constraints import SectionStatements
from mdnet.inference.decoding import decode
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.predictor import Predictor
from mdnet.inference.report_finding import OtherText, ReportFinding, SectionFinding

PHRASES = {
    "mitosis": {"absent": [("no",)], "rare": [("seen",)], "frequent": [("frequent",)]},
    "conclusion": {"normal": [("small",)], "high grade": [("high", "grade")]},
    "findings": {"oedema": [("oedema",)], "nodule": [("nodule",)]},
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_pretrained("mdnet_tiny/phantom", device="cpu")


@pytest.fixture
def reader(space) -> PhraseReader:
    return PhraseReader(space, PHRASES)


def hypotheses(tokenizer, texts: list[str], *, sections: int = 4) -> torch.Tensor:
    """(1, S, N, T): the same texts for every section."""
    ids = [[*tokenizer.encode(text), tokenizer.end_id] for text in texts]
    length = max(map(len, ids))
    rows = [[*each, *[tokenizer.pad_id] * (length - len(each))] for each in ids]
    return torch.tensor(rows)[None, None].expand(1, sections, -1, -1)


def test_a_text_agrees_if_it_states_the_predicted_class_and_nothing_else(build_model, tokenizer, reader):
    statements = SectionStatements(build_model(), reader)
    # "remarks" is guided by the diagnosis, and so read for it
    assert statements.aspects == {
        "mitosis": "mitosis",
        "remarks": "conclusion",
        "findings": "findings",
        "conclusion": "conclusion",
    }
    texts = [
        "frequent",
        "there is oedema , and a nodule",
        "frequent high grade , seen",
        "high grade",
        "oedema . no nodule",
        "the tumor",
    ]
    answers = {"mitosis": "frequent", "findings": ("nodule", "oedema"), "conclusion": "high grade"}
    agrees = statements.agreement([answers])(hypotheses(tokenizer, texts))[0].int().tolist()
    assert agrees == [
        [1, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
    ]


def test_a_section_that_is_not_read_agrees_with_everything(build_model, tokenizer, space):
    reader = PhraseReader(space, {"mitosis": PHRASES["mitosis"]})
    statements = SectionStatements(build_model(), reader)
    assert list(statements.aspects) == ["mitosis"]
    agrees = statements.agreement([{"mitosis": "rare"}])(hypotheses(tokenizer, ["frequent", "seen"]))
    assert agrees[0].int().tolist() == [[0, 1], [1, 1], [1, 1], [1, 1]]


def test_what_cannot_be_read_is_one_line(build_model, space, draw_batch):
    model = build_model()
    with pytest.raises(ConfigurationError, match="nothing says how: give the phrases"):
        SectionStatements(model, None)
    with pytest.raises(ConfigurationError, match="knows findings, and no section"):
        SectionStatements(
            build_model(section_aspects=dict.fromkeys(["mitosis", "remarks", "findings"], "mitosis")),
            PhraseReader(space, {"findings": PHRASES["findings"]}),
        )
    output = model(draw_batch(1).pixel_values)
    config = DecodingConfig(method="beam", beams=2, constrained=True)
    with pytest.raises(ConfigurationError, match="give an agreement"):
        decode(model, output.features, model.prepare(output.features, {}), config)
    images = [np.zeros((32, 32, 3), np.uint8)]
    with pytest.raises(ConfigurationError, match="nothing says how"):
        Predictor(model.float(), device="cpu")(images, decoding=config)


@pytest.mark.parametrize("options", [{"method": "beam"}, {"method": "sample", "seed": 1}])
@torch.no_grad()
def test_the_best_that_agrees_is_written_and_else_the_best(build_model, draw_batch, options):
    model, images = build_model(), draw_batch(3).pixel_values
    output = model(images)
    prepared = model.prepare(output.features, model.guides(output.logits))
    plain = decode(
        model,
        output.features,
        prepared,
        DecodingConfig(beams=4, best=4, **options),
        maximum_words=8,
    )
    ranked = torch.cat([plain.tokens[:, :, None], plain.others.tokens], dim=2)
    wanted = torch.randint(5, (3, 4), generator=torch.Generator().manual_seed(0))  # 4: no text is good
    wanted[0] = torch.tensor([0, 2, 3, 4])
    good = (torch.arange(4) >= wanted[..., None]) & (wanted[..., None] < 4)  # and all that are worse
    constrained = decode(
        model,
        output.features,
        prepared,
        DecodingConfig(beams=4, best=3, constrained=True, **options),
        maximum_words=8,
        agreement=lambda tokens: good if torch.equal(tokens, ranked) else None,
    )
    assert torch.equal(constrained.agrees, wanted < 4)
    for study, section in product(range(3), range(4)):
        place = int(wanted[study, section]) % 4
        order = [place, *[other for other in range(4) if other != place]]
        assert torch.equal(constrained.tokens[study, section], ranked[study, section, place])
        assert torch.equal(constrained.others.tokens[study, section], ranked[study, section, order[1:3]])
    forced = model(images, None, constrained.tokens)
    written = constrained.tokens != model.config.pad_id
    torch.testing.assert_close(constrained.attention[written], forced.attention[written])


def test_sections_of_the_shipped_model_state_their_class_where_they_say_so(predictor):
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(6)]
    config = DecodingConfig(method="sample", beams=2, best=2, constrained=True, temperature=2.0, seed=0)
    reader, told = PhantomReader(), set()
    for finding in predictor(images, decoding=config):
        due = reader.due({name: aspect.label for name, aspect in finding.aspects.items()})
        for name, section in finding.report.sections.items():
            texts = [section.text, *(other.text for other in section.others)]
            agree = [reader.read({name: text})[name] == {due[name]} for text in texts]
            assert section.agrees is agree[0]
            assert section.agrees is any(agree)
            told.add(section.agrees)
    assert told == {True, False}
    assert predictor.model.config.space == LABEL_SPACE


def test_a_finding_tells_confidence_alternatives_and_others(predictor):
    image = np.full((128, 128, 3), 200, np.uint8)
    plain = predictor(image)
    section = plain.report.sections["mitosis"]
    total = section.log_probabilities.sum() + section.end_log_probability
    assert section.log_likelihood == pytest.approx(total)
    assert section.confidence == pytest.approx(np.exp(total / (len(section.words) + 1)))
    assert plain.to_dict()["confidence"]["report"] == plain.report.confidence
    assert not {"others", "alternatives", "agrees"} & set(plain.to_dict())

    config = DecodingConfig(method="beam", beams=4, best=3, alternatives=5)
    asked = predictor(image, decoding=config)
    again = Predictor(predictor.model, device="cpu", decoding=config)(image)
    for name, section in asked.report.sections.items():
        assert len(section.others) == 2
        assert again.report.sections[name].others == section.others
        probabilities = np.exp(section.log_probabilities)
        assert len(section.alternatives) == len(section.words)
        for word, p, likeliest in zip(section.words, probabilities, section.alternatives, strict=True):
            assert len(likeliest) == 5
            assert sorted((q for _, q in likeliest), reverse=True) == [q for _, q in likeliest]
            own = dict(likeliest).get(word)
            assert own == pytest.approx(p, rel=1e-4) if own is not None else p <= likeliest[-1][1]
    written = json.loads(json.dumps(asked.to_dict()))
    assert written["others"]["mitosis"][0]["text"] == asked.report.sections["mitosis"].others[0].text
    assert len(written["alternatives"]["mitosis"]) == len(asked.report.sections["mitosis"].words)


def test_draws_do_not_depend_on_the_batch_size(predictor):
    images = [np.full((128, 128, 3), value, np.uint8) for value in (60, 120, 180)]
    config = DecodingConfig(method="sample", seed=4)
    texts = {}
    for size in (1, 2, 3):
        small = Predictor(predictor.model, device="cpu", batch_size=size, decoding=config)
        texts[size] = [finding.report.text for finding in small.stream(images)]
    assert texts[1] == texts[2] == texts[3]


def test_other_reports_are_the_likeliest_of_all_that_the_texts_make():
    random = np.random.default_rng(3)
    sections, choices = {}, []
    for name in "abc":
        log_p = -random.random(4)
        others = tuple(OtherText(f"{name}{i}", float(log_p[i]), i + 1) for i in range(1, 4))
        sections[name] = SectionFinding(
            name, f"{name}0", ("x",), np.ones((1, 1, 1)), np.zeros(1), log_p[:1], others=others
        )
        choices.append([(f"{name}{i}", float(log_p[i]), i + 1 if i else 1) for i in range(4)])
    report = ReportFinding(sections)
    everything = [
        (" ".join(text for text, _, _ in combination), sum(p for _, p, _ in combination))
        for combination in product(*choices)
    ]
    expected = sorted((each for each in everything if each[0] != report.text), key=lambda each: -each[1])
    found = report.others(10)
    assert [other.text for other in found] == [text for text, _ in expected[:10]]
    assert [other.log_likelihood for other in found] == pytest.approx([p for _, p in expected[:10]])
    assert len(report.others(1000)) == 63
    assert ReportFinding({}).confidence is None
