"""The contract of the zoo: what every model does, a user's own (`own_*.py`) as well.

Each test is a clause. `member` stands for every name of `mdnet.list_models()`, `writer` for those that write
reports; both are as published but narrow, and every number in them is random (float64).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from contract_members import LIMIT, MEMBERS, WRITERS, close, narrow_options, outputs_of, registered_own
from torch import Tensor, nn

from mdnet.data.loading import StudyDataset, make_loader
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.study import Aspect, LabelSpace
from mdnet.data.text import ReportTokenizer
from mdnet.explain.faithfulness.randomisation import cascade
from mdnet.explain.gradient_flow import gradient_flow
from mdnet.explain.registry import explain, get_method, list_methods
from mdnet.explain.targets import ClassTarget, ReportTarget, SectionTarget, WordTarget
from mdnet.inference.decoded import Decoded
from mdnet.inference.decoding import decode
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.likelihood import EncodedImage, report_log_likelihoods
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet
from mdnet.models.objective import classification_loss, language_loss, loss_counts
from mdnet.models.outputs import MDNetOutput
from mdnet.models.registry import create_model
from mdnet.models.summary import summarise_model
from mdnet.models.transfer import adapt
from mdnet.training.configuration import TrainingConfig
from mdnet.training.trainer import Trainer


@pytest.fixture(scope="module", autouse=True)
def own_members() -> Iterator[None]:
    with registered_own():
        yield


@pytest.fixture(scope="module")
def narrow(build_model, draw_batch, let_sections_end) -> Callable[..., MDNet]:
    """Makes a member with few channels and small images, once; not to be changed."""

    @cache
    def make(name: str, *, views: int = 1) -> MDNet:
        model = build_model(name, views=views, **narrow_options(name))
        if model.report is not None and views == 1:
            let_sections_end(model, draw_batch(4, size=(model.config.image_size,) * 2).pixel_values)
        return model

    return make


@pytest.fixture(params=MEMBERS)
def member(request, narrow) -> MDNet:
    return narrow(request.param)


@pytest.fixture(params=WRITERS)
def writer(request, narrow) -> MDNet:
    return narrow(request.param)


@pytest.fixture
def batch_for(draw_batch) -> Callable[..., tuple[Tensor, dict[str, Tensor], Tensor | None]]:
    """Draws images, labels and words as a model takes them."""

    def draw(model: MDNet, studies: int = 2) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        side = model.config.image_size
        images, labels, tokens = draw_batch(studies, size=(side, side * model.views))
        return images, labels, tokens if model.report is not None else None

    return draw


@pytest.fixture
def pictures() -> Callable[[MDNet], list[np.ndarray]]:
    """Two images as people have them."""
    random = np.random.default_rng(0)
    return lambda model: list(random.integers(0, 256, (2, *[model.config.image_size] * 2, 3), dtype=np.uint8))


# What it is


@pytest.mark.parametrize("name", MEMBERS)
def test_its_docstring_says_how_large_it_is(name):
    summary = summarise_model(name)
    found = re.search(r"bout ([\d.]+) million parameters", summary.description)
    assert found, "say it: about ... million parameters"
    assert summary.parameters == pytest.approx(float(found[1]) * 1e6, rel=0.1)
    assert summary.paper


def test_its_output_is_typed_and_of_the_documented_shapes(member, batch_for):
    config, (images, labels, tokens) = member.config, batch_for(member)
    output = member(images, labels, tokens)
    assert isinstance(output, MDNetOutput)
    assert output.loss.shape == ()
    assert [block.shape for block in output.features.blocks] == [
        (2, width, size, size) for width, size in zip(config.block_widths, config.block_sizes, strict=True)
    ]
    assert output.features.grid.shape == (2, config.positions, sum(config.block_widths))
    for aspect in config.space.aspects:
        assert output.logits[aspect.name].shape == (2, len(aspect.classes))
        assert output.block_logits[aspect.name].shape == (2, len(config.block_names), len(aspect.classes))
    if member.report is None:
        assert config.sections == []
        assert output.losses.keys() == {"classification"}
        assert output.report_logits is output.attention is output.log_likelihood is None
    else:
        assert {"classification", "language"} <= output.losses.keys()
        assert output.report_logits.shape == (2, 4, tokens.shape[2], config.vocabulary_size)
        assert output.attention.shape == (2, 4, tokens.shape[2], config.positions)
        assert output.log_likelihood.shape == (2, 4)


# What it computes


@torch.no_grad()
def test_evidence_and_bias_give_the_logits(member, batch_for):
    output = member(batch_for(member)[0])
    evidence = member.evidence(output.features)
    for name, logits in output.logits.items():
        sums = torch.stack([maps.sum(dim=(2, 3)) for maps in evidence[name]], dim=1)  # (B, M, classes)
        close(sums, output.block_logits[name])
        close(sums.sum(dim=1) + member.heads[name].bias, logits)


@torch.no_grad()
def test_attention_of_every_word_sums_to_one(writer, batch_for):
    attention = writer(*batch_for(writer)).attention
    assert (attention >= 0).all()
    close(attention.sum(dim=-1), torch.ones(attention.shape[:-1], dtype=torch.float64))


@torch.no_grad()
def test_a_study_is_told_alike_alone_and_among_others(member, batch_for):
    images, labels, tokens = batch_for(member, 3)
    together = outputs_of(member(images, labels, tokens))
    own = {name: label[1:2] for name, label in labels.items()}
    alone = outputs_of(member(images[1:2], own, None if tokens is None else tokens[1:2]))
    for name, values in alone.items():
        close(values, together[name][1:2])


@torch.no_grad()
def test_a_word_depends_on_what_its_section_said_before_and_on_no_other_section(writer, batch_for):
    images, labels, tokens = batch_for(writer)
    tokens[:, 1, 3] = writer.tokenizer.id_of("frequent")
    before = writer(images, labels, tokens).report_logits
    tokens[:, 1, 3] = writer.tokenizer.id_of("tumor")
    after = writer(images, labels, tokens).report_logits
    others = [0, 2, 3]
    close(after[:, others], before[:, others])
    close(after[:, 1, :4], before[:, 1, :4])
    assert not torch.allclose(after[:, 1, 4], before[:, 1, 4])


@torch.no_grad()
@pytest.mark.parametrize("name", MEMBERS)
def test_a_view_that_is_not_there_takes_no_part(name, narrow, batch_for):
    model = narrow(name, views=2)
    images, labels, tokens = batch_for(model)
    side = model.config.image_size
    images[:, :, :, side:] = torch.nan
    present = torch.tensor([[True, False]] * 2)
    found = model(images, labels, tokens, present=present)
    close(found.features.pooled(), model.with_views(1).encode(images[..., :side]).pooled())
    if model.report is not None:
        of_second = found.attention.unflatten(-1, (found.features.rows, -1)).tensor_split(2, dim=-1)[1]
        assert not of_second.any()
    if model.config.attention == "mdnet":  # its weights are of all views' positions
        assert all(values.isfinite().all() for values in outputs_of(found).values())
        return
    expected = model.with_views(1)(images[..., :side], labels, tokens)
    for what, values in outputs_of(expected).items():
        if what != "attention":
            close(outputs_of(found)[what], values)
    close(found.loss, expected.loss)


# How it learns


def unscaled_losses(
    model: MDNet, images: Tensor, labels: dict[str, Tensor], tokens: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """L_M and L_L of a pass in which no gradient is scaled."""
    features, config = model.encode(images), model.config
    logits, _ = model.heads(features)
    counts = loss_counts(labels, tokens, config.space, config.pad_id)
    classification = classification_loss(logits, labels, config.space)
    classification = classification + sum(model.heads.auxiliary_losses(features, labels, counts).values())
    if tokens is None:
        return classification, None
    prepared = model.prepare(features, model.guides(logits, labels))
    begin = torch.tensor(config.begin_ids)[None, :, None].expand(len(tokens), -1, 1)
    written = model.report(torch.cat([begin, tokens[:, :, :-1]], dim=2), features.grid, prepared)
    language, _ = language_loss(written.logits, tokens, config.pad_id)
    further = model.report.auxiliary_losses(prepared, written, tokens, counts)
    return classification, language + sum(further.values())


def gradients_of(loss: Tensor | None, model: nn.Module) -> list[Tensor]:
    """By parameter; 0 where the loss does not reach."""
    parameters = list(model.parameters())
    if loss is None:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def test_one_backward_pass_gives_every_part_its_gradient(member, batch_for):
    """Formula 6: theta_D gets (1 - beta) dL_M + beta eta dL_L, theta_M and theta_L their own in full."""
    images, labels, tokens = batch_for(member)
    beta, eta = 0.3, 0.7
    joint = gradients_of(member(images, labels, tokens, beta=beta, eta=eta).loss, member)
    by_labels, by_words = (
        gradients_of(loss, member) for loss in unscaled_losses(member, images, labels, tokens)
    )
    of_labels, of_words = (1 - beta, beta * eta) if member.report is not None else (1.0, 0.0)
    for (name, _), gradient, first, second in zip(
        member.named_parameters(), joint, by_labels, by_words, strict=True
    ):
        if name.startswith("image."):
            expected = of_labels * first + of_words * second
        elif name.startswith("heads."):
            assert not second.any(), name
            expected = first
        else:
            assert not first.any(), name
            expected = second
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_step_of_training_lowers_the_loss(name, phantom_data, tmp_path):
    studies, options = phantom_data.split("train")[:6], narrow_options(name)
    texts = [text for study in studies for written in study.report.values() for text in written]
    what: dict[str, Any] = {
        "label_space": phantom_data.label_space,
        "sections": phantom_data.sections,
        "tokenizer": ReportTokenizer.build(texts, phantom_data.sections),
        "preprocessing": Preprocessing(options["image_size"], "RGB", (0.7,) * 3, (0.2,) * 3),
    }
    torch.manual_seed(0)
    model = create_model(name, **what, **options)
    what |= {"sections": model.config.sections, "tokenizer": model.tokenizer}
    dataset = StudyDataset(studies, **what)
    config = TrainingConfig(data=".", out=str(tmp_path), batch_size=6, warmup=0.0, learning_rate=1e-4)
    trainer = Trainer(model, dataset, config, validate=lambda model: {})
    trainer.bare.train()
    (batch,) = make_loader(dataset, batch_size=6)
    losses = []
    for step in (0, 1):
        torch.manual_seed(0)  # whatever a member tosses coins for, they fall alike
        losses.append(sum(trainer.step([batch], step).losses.values()))
    assert losses[1] < losses[0]


@pytest.mark.parametrize("name", MEMBERS)
def test_every_loss_flows_to_the_layers_it_is_of(name, narrow, batch_for):
    model = copy.deepcopy(narrow(name)).train()  # heads that learn from reports read them then alone
    torch.manual_seed(0)
    output = model(*batch_for(model), beta=0.5, eta=1.0)
    flow = gradient_flow(model, output, beta=0.5, eta=1.0)
    assert flow.losses.keys() == output.losses.keys()
    for loss in flow.losses:
        assert any(layer.gradient_norm[loss] for layer in flow.layers), loss
    unreached = [layer.layer for layer in flow.layers if not any(layer.gradient_norm.values())]
    assert unreached == []


# How it writes


@torch.no_grad()
def written_by(model: MDNet, images: Tensor, **options: Any) -> tuple[Decoded, Tensor]:
    """What is written, and which sections are (B, S)."""
    output = model(images)
    prepared = model.prepare(output.features, model.guides(output.logits))
    decoded = decode(model, output.features, prepared, DecodingConfig(**options), maximum_words=LIMIT)
    told = torch.ones(decoded.tokens.shape[:2], dtype=torch.bool)
    return decoded, told if prepared.closed is None else ~prepared.closed


def test_one_beam_writes_what_greedy_decoding_does_to_the_bit(writer, batch_for):
    images = batch_for(writer, 3)[0]
    greedy, _ = written_by(writer, images)
    beam, _ = written_by(writer, images, method="beam", beams=1)
    words = greedy.tokens.shape[2]  # greedy decoding looks now and then whether all is over
    assert torch.equal(greedy.tokens, nn.functional.pad(beam.tokens, (0, words - beam.tokens.shape[2])))
    there = beam.tokens != writer.config.pad_id
    pairs = zip(greedy[1:3], beam[1:3], strict=True)  # log probabilities, attention
    assert all(torch.equal(one[:, :, : there.shape[2]][there], other[there]) for one, other in pairs)


@pytest.mark.parametrize("options", [{}, {"method": "beam", "beams": 3}, {"method": "sample", "seed": 1}])
@torch.no_grad()
def test_what_it_writes_is_as_likely_as_when_it_is_taught(writer, batch_for, options):
    images = batch_for(writer, 3)[0]
    decoded, told = written_by(writer, images, **options)
    taught = writer(images, None, decoded.tokens)
    log_p = taught.report_logits.log_softmax(dim=-1).gather(-1, decoded.tokens[..., None]).squeeze(-1)
    there = (decoded.tokens != writer.config.pad_id) & told[..., None]
    assert there.any()
    close(decoded.log_probabilities[there], log_p[there])
    close(decoded.attention[there], taught.attention[there])


@torch.no_grad()
def test_the_likelihood_of_a_text_is_that_of_the_forward_pass(writer, batch_for):
    images = batch_for(writer)[0]
    report = {"mitosis": "mitotic figures are frequent .", "remarks": "there is a nodule ."}
    ids = [[*writer.tokenizer.encode(text), writer.config.end_id] for text in report.values()]
    tokens = torch.full((1, 4, 6), writer.config.pad_id)
    for section, words in enumerate(ids):
        tokens[0, section, : len(words)] = torch.tensor(words)
    encoded, expected = [], []
    for image in images[:, None]:
        output = writer(image)
        encoded.append(EncodedImage(output.features, writer.guides(output.logits)))
        expected.append(float(writer(image, None, tokens).log_likelihood.sum()))
    found = report_log_likelihoods(writer, encoded, [report])
    np.testing.assert_allclose(found, [expected], rtol=1e-10)


# How it is kept, and taken elsewhere


@pytest.mark.parametrize("name", MEMBERS)
@torch.no_grad()
def test_a_folder_gives_it_back_to_the_bit(name, narrow, batch_for, tmp_path):
    model = copy.deepcopy(narrow(name)).float()
    images, labels, tokens = batch_for(model)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == name
    loaded = MDNet.from_pretrained(tmp_path).eval()
    expected = outputs_of(model(images.float(), labels, tokens))
    for what, values in outputs_of(loaded(images.float(), labels, tokens)).items():
        assert torch.equal(values, expected[what]), what


OTHER_SPACE = LabelSpace(
    (
        Aspect("conclusion", ("high grade", "normal", "uncertain"), reference="normal"),
        Aspect("stroma", ("thin", "thick")),
    ),
    diagnosis="conclusion",
)


@torch.no_grad()
def test_it_is_adapted_to_other_labels_sections_and_words(member, batch_for):
    images = batch_for(member)[0]
    sections = ("stroma", "conclusion")
    tokenizer = ReportTokenizer.build(["this is a tumor with thick stroma ."], sections)
    other, _ = adapt(member, label_space=OTHER_SPACE, sections=sections, tokenizer=tokenizer)
    output = other(images)
    assert output.logits["stroma"].shape == (2, 2)
    kept = member(images).logits["conclusion"]
    if member.config.architecture != "bottleneck":  # its conclusion was told from aspects that are gone
        close(output.logits["conclusion"][:, :2], kept[:, [2, 0]])  # high grade, normal
    if member.report is not None:
        assert other.config.sections == list(sections)
        assert written_by(other, images)[0].tokens.shape[:2] == (2, 2)


@torch.no_grad()
def test_adapted_to_what_it_knows_it_answers_as_before(member, batch_for):
    images, labels, tokens = batch_for(member)
    same, _ = adapt(
        member, label_space=member.config.space, sections=member.config.sections, tokenizer=member.tokenizer
    )
    expected = outputs_of(member(images, labels, tokens))
    for what, values in outputs_of(same(images, labels, tokens)).items():
        assert torch.equal(values, expected[what]), what


# What a user gets


@pytest.mark.parametrize("name", MEMBERS)
def test_a_predictor_gives_a_finding_as_json_and_as_a_page(name, narrow, pictures, tmp_path):
    model = copy.deepcopy(narrow(name)).float()
    finding = Predictor(model, name=name, device="cpu")(pictures(model))[0]
    for aspect in finding.aspects.values():
        for label, logit in aspect.logits.items():
            assert finding.evidence(aspect.name, label).total == pytest.approx(logit, rel=1e-3, abs=1e-3)
    assert list(finding.report.sections) == model.config.sections
    for section in finding.report.sections.values():
        np.testing.assert_allclose(section.attention.sum(axis=(1, 2)), 1.0, rtol=1e-12)
        assert (section.guided_by is not None) == model.report.guided
    record = json.loads(json.dumps(finding.to_dict()))
    assert list(record["sections"]) == model.config.sections
    page = tmp_path / "finding.html"
    finding.save_html(page)
    assert finding.diagnosis.label in page.read_text(encoding="utf-8")


TEXT = ("mitotic", "figures", "are", "frequent", ".")
TARGETS: dict[type, Any] = {
    ClassTarget: ClassTarget("mitosis", "rare", "absent"),
    WordTarget: WordTarget("mitosis", TEXT[:4]),
    SectionTarget: SectionTarget("mitosis", TEXT),
    ReportTarget: ReportTarget((("mitosis", TEXT), ("remarks", ("high", "grade")))),
}


@pytest.mark.parametrize("method", [name for name in list_methods() if get_method(name).by_design])
@pytest.mark.parametrize("name", MEMBERS)
def test_maps_by_design_are_drawn_and_add_up(name, method, narrow, pictures):
    model = narrow(name)
    predictor = Predictor(copy.deepcopy(model).float(), name=name, device="cpu")
    for kind in get_method(method).targets:
        if kind is not ClassTarget and model.report is None:
            continue
        for found in explain(predictor, pictures(model), method=method, target=TARGETS[kind]):
            assert np.isfinite(found.map).all()
            if found.offset is not None:
                scale = max(1.0, float(np.abs(found.map).sum()))
                assert found.residual == pytest.approx(0.0, abs=1e-4 * scale)
            else:
                assert found.map.sum() == pytest.approx(1.0, rel=1e-5)  # attention


def test_nothing_learned_is_left_when_all_its_parts_are_drawn_anew(member):
    before = member.state_dict()
    *_, (part, randomised) = cascade(member)
    assert part == "stem"
    after = randomised.state_dict()
    kept = [name for name, tensor in after.items() if torch.equal(tensor, before[name])]
    assert [name for name in kept if "num_batches_tracked" not in name] == []
