"""What each phase of training is told: the parts of a config."""

from __future__ import annotations

import dataclasses
from typing import Literal

Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True, order=True)
class Exit:
    """An early exit: the trunk up to `tap`, then light stages at `width` times the channels.

    Tap 0 leaves after the stem: a static generator of reduced width, the baseline of `evaluate`.
    """

    tap: int
    width: float

    @property
    def name(self) -> str:
        """Stable name, also the key of its parameters: tap 1, width 1/4 is ``tap1_w25``."""
        return f"tap{self.tap}_w{round(100 * self.width)}"


@dataclasses.dataclass(frozen=True)
class Guides:
    """The guide bank (FIANCEE, section 3.2).

    Attributes:
        form: what a guide is. ``palette``: the colours of the picture's parts (OASIS: classes) in
            the nearest entries, painted. ``patch``: pictures of the nearest trunk cells, stitched
            and concatenated. ``image``: the nearest entry's whole picture, reduced, concatenated.
            ``own``: likewise of the frames that come with each input (a bank for each source, for
            families that have such: `StagedGenerator.own_frames`).
            ``random``: a palette of entries drawn without regard to the input (the control of the
            same bank). ``zeros``: zeros concatenated (the control of equal cost). ``learnt``: a
            palette that the branch computes from the family's vector (OASIS: z) itself (the control
            without a bank). ``none``: no guide.
        hidden: units beside the vector from which a learnt palette is computed; 0: linear.
        size: entries in the bank.
        population: how they are chosen among `population.CANDIDATES` times as many random ones:
            ``random`` takes the first, ``kmeans`` the medoids of clusters of keys, ``kcenter`` keys
            far from each other, ``balanced`` entries that show all parts alike.
        neighbours: nearest entries that a palette averages.
        join: a painted palette is added before the last activation, concatenated, or both: a branch
            that is only added to cannot see what it should correct.
        inject: concatenated guides enter at the branch's ``input`` or at ``every`` light stage.
        key: by what a cell is found (form ``patch``): its features in the ``trunk``, or these
            beside the family's ``vector`` (OASIS: z), or beside that vector's map to ``colours``.
        patch_stage: the stage after which a cell's features are its key (form ``patch``).
        cell: pixels along one side of the reduced picture kept for each cell (form ``patch``).
    """

    form: Literal["palette", "patch", "image", "own", "random", "zeros", "learnt", "none"] = (
        "palette"
    )
    size: int = 512
    population: Literal["random", "kmeans", "kcenter", "balanced"] = "random"
    neighbours: int = 8
    join: Literal["add", "concat", "both"] = "add"
    hidden: int = 32
    inject: Literal["input", "every"] = "input"
    key: Literal["trunk", "vector", "colours"] = "trunk"
    patch_stage: int = 1
    cell: int = 4


@dataclasses.dataclass(frozen=True)
class BackbonePhase:
    """Training of generator and discriminator (OASIS, section 4 and supplement).

    Attributes:
        steps: updates of G (and of D).
        step: ``published`` draws z anew and runs G again for D's update; ``fused`` shares one
            forward of G.
        lr_g: learning rate of the generator (Adam).
        lr_d: learning rate of the discriminator.
        beta1: Adam's first moment decay.
        beta2: Adam's second moment decay.
        init_gain: gain of the xavier-normal initialisation; published: 0.02. At 1 small networks
            get going within tens of steps instead of hundreds.
        ema_decay: decay of the averaged generator weights, which are the model.
        recollect: batches from which batch statistics of the averaged weights are taken.
        weight_decay: of the generator's and the discriminator's Adam (AdamW), times the rate.
        own_latent: weight of L1 + LPIPS to the real picture when z is the picture's own
            latent. Not part of OASIS; only for data that knows its latents (procedural).
        reconstruction: weight of L1 + LPIPS to the target, for a family whose inputs say all about
            it (a source and a driver).
        l1: weight of L1 in `own_latent` and `reconstruction`, where LPIPS has 1. More of it where
            pictures are small: LPIPS hardly sees what is smaller than its first step of 4 pixels.
        perceptual_net: the network of that LPIPS.
        precision: of the networks' computation. Parameters, their average, optimiser, statistics,
            spectral norm and losses are float32 in any case; so is the finished model.
        accumulate: micro-batches into which a batch is split, one after the other, for one update
            by their mean gradient. Batch norm and class weights are those of a micro-batch.
        remat: saves memory for time: what lies inside a stage of G or a block of D is computed
            again in the backward pass instead of being kept. On CPUs it only costs time: XLA
            computes it again so early there that the peak stays.
    """

    steps: int = 100_000
    batch_size: int = 32
    step: Literal["published", "fused"] = "published"
    lr_g: float = 1e-4
    lr_d: float = 4e-4
    schedule: Literal["constant", "cosine"] = "constant"
    beta1: float = 0.0
    beta2: float = 0.999
    init_gain: float = 0.02
    ema_decay: float = 0.9999
    recollect: int = 16
    weight_decay: float = 0.0
    own_latent: float = 0.0
    reconstruction: float = 0.0
    l1: float = 1.0
    perceptual_net: Literal["alex", "vgg"] = "alex"
    precision: Precision = "float32"
    accumulate: int = 1
    remat: bool = False


@dataclasses.dataclass(frozen=True)
class BranchesPhase:
    """Training of the light branches against the frozen backbone's pictures (FIANCEE, 3.1).

    Attributes:
        l1: weight of the mean absolute difference.
        lpips: weight of LPIPS.
        lpips_net: its network.
        lpips_vgg: weight of LPIPS-vgg of every fourth picture of a batch, beside that of
            `lpips_net` = ``alex``, whose first convolution steps by four pixels: FD sees the
            texture between. 0 switches it off.
        adversarial: weight of the OASIS adversarial loss; its discriminator starts from the
            backbone's. 0 switches it off.
        inherit: branches begin with what they can take from the backbone
            (`StagedGenerator.inherited`; OASIS: those of ``class`` blocks), not at random.
        running_statistics: branches are normalised in training by the statistics that they
            inherited, as they are when used, not by each batch's own. Needs `inherit`.
        exits_per_step: random exits trained in one step; 0 trains all.
        compose: share of the inputs that are made of two (`StagedGenerator.composed`; OASIS: left
            of one map, right of another). Not with `adversarial`, which needs their photos.
        router: a trained model with the same exits (a workdir, or the name of a model in the box).
            Training goes on from its branches, whose steps are part of `steps`, with a schedule of
            its own; each exit learns most from the inputs that its predictor sends there
            (`training.focus`).
        focus: how much, from 0 (all inputs alike) to 1. `adversarial` stays as it is.
        focus_sees: what of an input says which exit it is for: ``both`` grid and vector, or its
            ``vector`` (OASIS: z) alone, which is of one distribution everywhere, as label maps of a
            new place are not.
        measure: unseen inputs on which the finished exits are measured, to drop dominated ones.
        precision: of the networks' computation, the frozen backbone's included; parameters,
            optimiser, statistics and losses are float32 in any case. Exits are measured in float32.
    """

    steps: int = 20_000
    batch_size: int = 32
    lr: float = 2e-3
    lr_d: float = 4e-4
    schedule: Literal["constant", "cosine"] = "cosine"
    l1: float = 2.0
    lpips: float = 1.0
    lpips_net: Literal["alex", "vgg"] = "vgg"
    lpips_vgg: float = 0.0
    adversarial: float = 0.0
    inherit: bool = True
    running_statistics: bool = False
    exits_per_step: int = 0
    compose: float = 0.0
    router: str = ""
    focus: float = 1.0
    focus_sees: Literal["both", "vector"] = "both"
    measure: int = 256
    precision: Precision = "float32"


@dataclasses.dataclass(frozen=True)
class PredictorPhase:
    """The predictor and its training (FIANCEE, section 3.3).

    Attributes:
        inputs: inputs on which every exit's LPIPS-alex to the backbone is measured first.
        compose: share of them that are made of two, as in the phase ``branches``.
        of_train: share of them that come from the split ``train``, on whose inputs the branches
            were trained: more of them where the split ``predictor`` is small.
        channels: channels of its convolutions; 0: it sees class shares of the whole alone.
        hidden: width of its fully connected layers; 0: none, so that it is linear in what is
            pooled, which is better where there are few label maps.
        weight_decay: of AdamW, times the learning rate. Without a real one it soon overfits.
        sees: the family's view of the input, or one part of it: the ``grid`` (OASIS: class shares)
            or the ``vector`` (OASIS: z).
        squares: the vector's squares are seen beside it: difficulty often grows both ways.
        cells: weight of the squared errors cell by cell of the view's grid, in units of the mean,
            beside those of the whole; 0: only the whole is measured. A predictor with cells has two
            convolutions of `channels`, and no `hidden` units.
        pool: with `cells`, so many of them each way are joined to one before the predictor looks,
            which makes it cheaper by the square of that.
        members: so many predictors are trained and their geometric mean is taken.
        holdout: share of the measured inputs that is kept to report its error.
    """

    inputs: int = 10_000
    compose: float = 0.0
    of_train: float = 0.0
    steps: int = 4_000
    batch_size: int = 128
    lr: float = 1e-3
    channels: int = 32
    hidden: int = 64
    weight_decay: float = 1.0
    sees: Literal["both", "grid", "vector"] = "both"
    squares: bool = False
    cells: float = 0.0
    pool: int = 1
    members: int = 1
    holdout: float = 0.1


@dataclasses.dataclass(frozen=True)
class CalibrationPhase:
    """Measuring what a quality guarantee rests on (docs/guarantee.md).

    Attributes:
        latents: z's drawn for every input; 16 or more.
        inputs: inputs of the split to take at most, drawn at random; 0 takes all.
        block: frames of a film that count as one input. More than 1 where neighbouring files of the
            split (names that differ only in the numbers at their end) show nearly the same: they
            are not independent, and a promise that took them so would not hold.
    """

    latents: int = 16
    inputs: int = 0
    block: int = 1


@dataclasses.dataclass(frozen=True)
class Logging:
    """How often training speaks, draws and saves, in steps.

    Attributes:
        keep: the last so many checkpoints of each phase stay.
        keep_every: so do those of its multiples for good, to be compared later (the losses of a GAN
            do not say which is best); 0 keeps none. Also a multiple of `checkpoint_every`.
        roll_backs: how often a phase may go back to its last checkpoint when a value is not finite,
            and go on with the data and the random numbers that come after it; 0 stops.
    """

    every: int = 50
    preview_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    keep_every: int = 0
    roll_backs: int = 0
