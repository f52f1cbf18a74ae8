"""The whole method of MDNet in one file, for reading beside the paper.

Plain PyTorch, none of the library's helpers; one kind of block (two 3x3), one attention (the default),
single-label aspects, one image a study, no dropout. Parameters have the library's names, so
`load_state_dict` takes the weights of an `mdnet.MDNet`; the tests hold both to the same numbers,
gradients and words.

References:
    [1] Zhang et al., "MDNet: A Semantically and Visually Interpretable Medical Image Diagnosis
        Network", CVPR 2017, arXiv 1707.02485.
    [2] He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027.
Formulas, numbered as in docs/method.md:
    (1) residual block          y_{l+1} = y_l + F_l(y_l)                                        [1, 2]
    (2) ensemble connection     y_{l+1} = F_l(y_l) (x) y_l, (x) = concatenation                 [1]
    (3) decoupled class output  p^c = b^c + sum_m mean_ij(w_m^c . y_m)                          [1]
    (4) language                log p(x|I) = sum_t log p(x_t | I, x_{0:t-1}), from an LSTM      [1]
    (5) attention               z_t = a_t C(I)^T, a_t = softmax(s_t c), c = (w^c - w^r)^T C(I)  after [1]:
        r is the aspect's reference class, and s_t >= 0 replaces W_att tanh(W_h h_{t-1} + .)
    (6) gradient of theta_D     (1 - beta) dL_M/dtheta_D + beta eta dL_L/dtheta_D               [1]

Shapes: B studies; D = D_1 + ... + D_M channels of C(I), those of block m at H_m x W_m; K classes of
an aspect; S sections; T words; V words of the vocabulary, E wide; H width of the LSTM; P positions
of the coarsest grid, H_M x W_M.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Heads", "ImageModule", "ReferenceMDNet", "ReportLSTM", "joint_loss", "scale_gradient", "write"]

MISSING = -100  # a label that is not there
PAD, UNKNOWN, END = 0, 1, 2  # tokens that are no words
State = tuple[Tensor, Tensor]  # h and cell of the LSTM, (B, S, H) each


class Residual(nn.Module):
    """Of the image module D, the F_l of (1) and (2): pre-activation BN-ReLU-conv, twice [2]."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.ReLU(),
            nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, y: Tensor) -> Tensor:
        return self.layers(y)


class Stage(nn.Module):
    """The F_l of an ensemble connection (the first stage has none), then residual blocks."""

    def __init__(self, channels_in: int, channels: int, depth: int, stride: int) -> None:
        super().__init__()
        opening = [Residual(channels_in, channels, stride)] if channels_in else []
        self.opening = nn.ModuleList(opening)
        self.residual = nn.ModuleList(Residual(channels, channels) for _ in range(depth - len(opening)))

    def forward(self, y: Tensor) -> Tensor:
        for function in self.opening:
            y = function(y)  # F_l of (2), (B, D_1 + ... + D_{m-1}, h, w) -> (B, D_m, H_m, W_m)
        for function in self.residual:
            y = y + function(y)  # (1), (B, D_m, H_m, W_m)
        return y


class ImageModule(nn.Module):
    """C(I): M groups of channels; a group that is there is never mixed again."""

    def __init__(self, channels: int, stem_stride: int, *, stages: list[tuple[int, int, int]]) -> None:
        super().__init__()
        widths = [width for width, _, _ in stages]  # a stage is (width, depth, stride)
        self.stem = nn.Conv2d(channels, widths[0], 3, stride=stem_stride, padding=1, bias=False)
        self.stages = nn.ModuleList(Stage(sum(widths[:m]), *stage) for m, stage in enumerate(stages))
        self.activations = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(w), nn.ReLU()) for w in widths)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        groups: list[Tensor] = []
        for stage in self.stages:
            y = concatenate(groups) if groups else self.stem(pixels)  # (B, D_1 + ... + D_{m-1}, h, w)
            groups.append(stage(y))  # (B, D_m, H_m, W_m)
        # Each group's BN-ReLU at its own resolution: what follows is linear, so evidence is exact there.
        return [activation(y) for activation, y in zip(self.activations, groups, strict=True)]


def concatenate(groups: list[Tensor]) -> Tensor:
    """(x) of (2): the groups side by side, on the grid of the last; pooled, not convolved."""
    rows, columns = groups[-1].shape[-2:]
    return torch.cat([F.adaptive_avg_pool2d(y, (rows, columns)) for y in groups], dim=1)  # (B, sum D, h, w)


def to_grid(blocks: list[Tensor]) -> Tensor:
    """C(I) on the coarsest grid, position by position."""
    return concatenate(blocks).flatten(2).transpose(1, 2)  # (B, P, D)


class Head(nn.Module):
    """Of the classification module M, one aspect: class weights w^c, the blocks' side by side, and b^c."""

    def __init__(self, classes: int, widths: list[int], reference: int) -> None:
        super().__init__()
        self.widths, self.reference = widths, reference
        self.weight = nn.Parameter(0.01 * torch.randn(classes, sum(widths)))  # (K, D)
        self.bias = nn.Parameter(torch.zeros(classes))  # (K,)

    def evidence(self, blocks: list[Tensor]) -> list[Tensor]:
        """What each position of each block adds to each logit, block by block."""
        weights = self.weight.split(self.widths, dim=1)  # w_m^c, (K, D_m) each
        pairs = zip(weights, blocks, strict=True)
        return [torch.einsum("kd,bdhw->bkhw", w, y) / y[0, 0].numel() for w, y in pairs]  # (B, K, H_m, W_m)

    def shares(self, blocks: list[Tensor]) -> Tensor:
        sums = [maps.sum(dim=(2, 3)) for maps in self.evidence(blocks)]  # (B, K) each
        return torch.stack(sums, dim=1)  # (B, M, K)

    def forward(self, blocks: list[Tensor]) -> Tensor:
        return self.shares(blocks).sum(dim=1) + self.bias  # (3), (B, K)

    def contrast(self, chosen: Tensor) -> Tensor:
        """w^c - w^r, `chosen` (B,) a class a study; for r itself the mean of the others. No gradient (6)."""
        table = (self.weight - self.weight[self.reference]).detach()  # (K, D)
        table[self.reference] = table.sum(dim=0) / (len(table) - 1)  # (D,); this row was 0
        return table[chosen]  # (B, D)


class Heads(nn.Module):
    """All aspects, each as (classes, reference class)."""

    def __init__(self, aspects: list[tuple[int, int]], widths: list[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(classes, widths, reference) for classes, reference in aspects)

    def forward(self, blocks: list[Tensor]) -> list[Tensor]:
        return [head(blocks) for head in self.heads]  # (B, K) each

    def contrasts(self, chosen: list[Tensor]) -> list[Tensor]:
        return [head.contrast(k) for head, k in zip(self.heads, chosen, strict=True)]  # type: ignore[operator]


class ReportLSTM(nn.Module):
    """Language module L: one LSTM; its first input, a section's begin token, says which section it writes."""

    def __init__(self, vocabulary: int, embedding: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)  # E
        self.attention = nn.ModuleDict({"sharpness": nn.Linear(hidden, 1)})
        self.lstm = nn.LSTMCell(embedding + channels, hidden)
        self.output = nn.Linear(hidden, vocabulary)  # G_h

    def start(self, studies: int, sections: int) -> State:
        zeros = self.output.weight.new_zeros(studies, sections, self.lstm.hidden_size)  # (B, S, H)
        return zeros, zeros

    def step(self, word: Tensor, state: State, grid: Tensor, c: Tensor) -> tuple[Tensor, Tensor, State]:
        """From x_{t-1} (B, S) to log p(x_t), a_t and the new state, all sections at once."""
        h, cell = state  # (B, S, H) each
        sharpness = F.softplus(self.attention["sharpness"](h))  # s_t, (B, S, 1)
        attention = (sharpness * c).softmax(dim=-1)  # (5), (B, S, P)
        z = attention @ grid  # (5), (B, S, D)
        x = torch.cat([self.embedding(word), z], dim=-1)  # (B, S, E + D)
        h, cell = self.lstm(x.flatten(0, 1), (h.flatten(0, 1), cell.flatten(0, 1)))  # (B S, H) each
        h, cell = h.view(*word.shape, -1), cell.view(*word.shape, -1)  # (B, S, H) each
        return self.output(h).log_softmax(dim=-1), attention, (h, cell)  # (4), (B, S, V)


class ReferenceMDNet(nn.Module):
    """D, M and L together; `sections` are (begin token, number of the aspect whose evidence guides it)."""

    def __init__(
        self, image: ImageModule, heads: Heads, report: ReportLSTM, sections: list[tuple[int, int]]
    ) -> None:
        super().__init__()
        self.image, self.heads, self.report, self.sections = image, heads, report, sections

    def begin(self, studies: int) -> tuple[Tensor, State]:
        begin_tokens = torch.tensor([token for token, _ in self.sections]).expand(studies, -1)  # x_0, (B, S)
        return begin_tokens, self.report.start(studies, len(self.sections))

    def guide(self, grid: Tensor, classes: list[Tensor]) -> Tensor:
        """The c of (5): evidence of each section's class at each position."""
        contrasts = self.heads.contrasts(classes)  # (B, D) each
        weights = torch.stack([contrasts[aspect] for _, aspect in self.sections], dim=1)  # (B, S, D)
        return weights @ grid.transpose(1, 2)  # (B, S, P)

    def read(self, tokens: Tensor, grid: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced log p(x_t | I, x_{0:t-1}) of `tokens` (B, S, T), and where each word looked."""
        word, state = self.begin(len(tokens))
        log_p, attention = [], []
        for t in range(tokens.shape[2]):
            predicted, a, state = self.report.step(word, state, grid, c)  # (B, S, V), (B, S, P)
            word = tokens[:, :, t]  # the true word, whatever was predicted, (B, S)
            log_p.append(predicted.gather(2, word[:, :, None])[:, :, 0])  # (B, S)
            attention.append(a)
        return torch.stack(log_p, dim=2), torch.stack(attention, dim=2)  # (B, S, T), (B, S, T, P)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The value of `x`; on the way back its gradient is multiplied by `factor`."""
    return x.detach() + factor * (x - x.detach())


def joint_loss(
    model: ReferenceMDNet, pixels: Tensor, labels: Tensor, tokens: Tensor, beta: float, eta: float
) -> Tensor:
    """L_M + L_L; its backward pass gives theta_D (6), and theta_M and theta_L their own full gradients.

    `labels` is (B, aspects), `MISSING` where there is none; `tokens` (B, S, T): words, `END`, then `PAD`.
    """
    blocks = model.image(pixels)  # (B, D_m, H_m, W_m) each
    logits = model.heads([scale_gradient(y, 1 - beta) for y in blocks])  # (B, K) each
    pairs = list(zip(logits, labels.T, strict=True))  # (B, K) and (B,) each
    costs = [F.cross_entropy(p, k, ignore_index=MISSING, reduction="sum") for p, k in pairs]
    known = (labels != MISSING).sum().clamp_min(1)
    classification = torch.stack(costs).sum() / known  # L_M, a mean over labels

    grid = scale_gradient(to_grid(blocks), beta * eta)  # (B, P, D)
    classes = [torch.where(k == MISSING, p.argmax(dim=1), k) for p, k in pairs]  # the true ones, (B,) each
    log_p, _ = model.read(tokens, grid, model.guide(grid, classes))  # (B, S, T)
    words = tokens != PAD  # (B, S, T)
    language = -log_p[words].sum() / words.sum().clamp_min(1)  # L_L, a mean over words
    return classification + language


@torch.no_grad()
def write(model: ReferenceMDNet, pixels: Tensor, longest: int) -> list[list[list[int]]]:
    """Greedily: word numbers by study and section, the end token left out."""
    blocks = model.image(pixels)  # (B, D_m, H_m, W_m) each
    grid = to_grid(blocks)  # (B, P, D)
    classes = [p.argmax(dim=1) for p in model.heads(blocks)]  # the predicted ones, (B,) each
    c = model.guide(grid, classes)  # (B, S, P)
    word, state = model.begin(len(grid))
    never = [PAD, UNKNOWN, *(token for token, _ in model.sections)]
    words = []
    for _ in range(longest):
        log_p, _, state = model.report.step(word, state, grid, c)  # (B, S, V)
        log_p[:, :, never] = -torch.inf
        word = log_p.argmax(dim=-1)  # (B, S)
        words.append(word)
    ids = torch.stack(words, dim=2).tolist()  # (B, S, longest)
    return [[row[: row.index(END)] if END in row else row for row in study] for study in ids]
