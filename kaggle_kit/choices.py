"""What can be chosen by name in kk.yaml and on the command line.

Here are the names with their helps; the functions lie where each entry points and are imported when they are used, since most
of them need PyTorch. To add a loss, a view, a blender … write the function there and its entry here; the conformance tests run
over these registries. Metrics have theirs in :mod:`kaggle_kit.metrics`, checks in :mod:`kaggle_kit.check.verdict`.
"""

from __future__ import annotations

from typing import Any

from kaggle_kit.registry import Entry, Lazy, Registry


def _registry(kind: str, module: str, *entries: tuple[str, str, str]) -> Registry[Any]:
    """A registry of (name, what ``kaggle_kit.<module>`` calls it, help); of a package the attribute is ``module:attribute``."""
    sources = {name: f"{module}.{found}" if ":" in found else f"{module}:{found}" for name, found, _ in entries}
    return Registry(kind, [Lazy(name, help, f"kaggle_kit.{sources[name]}") for name, _, help in entries])


STRATEGIES = _registry(
    "strategy",
    "training",
    ("finetune", "fold:train_fold", "train the whole model"),
    ("probe", "probe:train_probe", "fit a head to features of the frozen backbone"),
    ("probe-then-finetune", "probe:train_probe_then_finetune", "fit the head first, then train the whole model from there"),
    ("specialists", "specialists:train_specialists", "train models of confused classes from a run's own, and recombine them"),
)
"""Functions with the arguments of ``train_fold`` that leave the same files."""

CLASSIFIERS = _registry(
    "probe classifier",
    "training.classifiers",
    ("logistic", "logistic", "one linear layer with the loss of the run"),
    ("svm", "svm", "linear support vector machine, one class against the rest"),
    ("lda", "lda", "linear discriminant analysis with a shrunk covariance"),
    ("mlp", "mlp", "hidden layers with batch norm and dropout"),
    ("knn", "knn", "the nearest training rows by the cosine of their features"),
)
"""Functions of :class:`~kaggle_kit.training.classifiers.Task` that return a fitted head."""

BALANCES = _registry(
    "way to balance features",
    "training.resampling",
    ("none", "none", "rows as they are"),
    ("smote", "smote", "made-up rows of small classes between neighbours, until all are of one size"),
    ("adasyn", "adasyn", "as SMOTE, more of them where other classes are near"),
)
"""Functions of (samples, seed) that return samples."""

LOSSES = _registry(
    "loss",
    "training.losses",
    ("auto", "auto", "cross entropy, or for multi-label binary cross entropy"),
    ("cross_entropy", "cross_entropy", "softmax cross entropy, for exactly one label a row"),
    ("bce", "BinaryCrossEntropy", "binary cross entropy, one sigmoid a class"),
    ("focal", "Focal", "cross entropy that counts rows less the surer the model is of them"),
    ("asymmetric", "Asymmetric", "binary cross entropy in which easy negatives count little, for many rare labels"),
    ("squared_grade", "squared_grade", "squared distance of the mean grade, for classes in an order"),
)

HEADS = _registry(
    "head",
    "models.heads",
    ("linear", "linear", "one linear layer"),
    ("mlp", "linear", "hidden layers and a linear one"),
    ("cosine", "cosine", "cosines to class centres, with `margin` in training ArcFace"),
    ("ordinal", "ordinal", "one number and learnt cuts between classes in an order (cumulative link)"),
    ("regression", "regression", "one number, read as the nearest of classes in an order"),
    ("knn", "neighbours", "nearest training rows, as probe.classifier=knn keeps them"),
)
"""Functions of (features, number of classes, ``HeadConfig``) that return the last layer."""

POOLS = _registry(
    "pooling",
    "models.heads",
    ("avg", "average", "mean of each channel"),
    ("max", "maximum", "maximum of each channel"),
    ("avg-max", "average_and_maximum", "mean and maximum of each channel, side by side"),
    ("gem", "generalised_mean", "generalised mean of each channel with a learnt exponent"),
    ("grid", "grid_maximum", "maxima of each channel over a `grid` of cells, side by side"),
)
"""Functions of ``HeadConfig`` that return a layer from (B, C, H, W) to (B, C', h, w)."""
POOL_CHOICES = POOLS.with_auto("what the architecture has")

SCHEDULES = _registry(
    "schedule",
    "training.schedules",
    ("cosine", "cosine", "half a cosine from lr to min_lr"),
    ("warm_restarts", "warm_restarts", "a cosine that begins anew, `cycles` times in equal parts"),
    ("step", "step", "a tenth after every third of the run, or as `decay_epochs` and `decay_rate` say"),
    ("multistep", "multistep", "a tenth at 60 % and 85 % of the run, or at `decay_milestones`"),
    ("tanh", "tanh", "along a hyperbolic tangent"),
    ("poly", "poly", "along a power of what is left of the run"),
    ("plateau", "plateau", "a tenth when the score has not improved for `patience` epochs"),
    ("constant", "constant", "the same rate to the end"),
    ("linear", "linear", "down to min_lr in a straight line"),
    ("onecycle", "onecycle", "up for the first 30 % of the run and down again, along cosines"),
    ("cyclic", "cyclic", "up and down in `cycles` triangles"),
)

AVERAGES = _registry(
    "average",
    "training.averaging",
    ("none", "last_weights", "the weights as they are"),
    ("swa", "stochastic_average", "mean of the last epochs' weights, with batch norm measured anew"),
    ("soup", "greedy_soup", "mean of the best epochs' weights, as long as the validation score gains"),
)
"""Functions of a :class:`~kaggle_kit.training.averaging.Averaging` that return what was averaged, in words."""

CYCLES = {"warm_restarts": 3, "cyclic": 4}
"""Schedules that come to rest several times -> how often, unless `cycles` says."""

SAMPLERS = _registry(
    "sampler",
    "images.samplers",
    ("shuffle", "shuffle", "every image once before any comes twice"),
    ("weighted", "weighted", "every class equally often, with replacement"),
)

AUGMENTATIONS = _registry(
    "augmentation preset",
    "images.transforms",
    ("none", "none_preset", "the image as it is"),
    ("shift", "shift_preset", "small shifts, turns and zooms but no mirroring, for characters and the like"),
    ("light", "light_preset", "random crops and mirroring"),
    ("medium", "medium_preset", "smaller crops, mirroring, and sometimes turns, brightness and a hole"),
    ("heavy", "heavy_preset", "small crops, all turns and mirrorings, colours, blur and holes"),
)
INT8 = "int8"
ENGINES = _registry(
    "engine",
    "inference.engines",
    ("torch", "torch_engine", "PyTorch on the device"),
    ("openvino", "openvino_engine", "OpenVINO on the CPU"),
    (INT8, "int8_engine", "OpenVINO in 8-bit integers, quicker and a little less exact"),
)
"""Functions of (model, image spec, fingerprint of the model's file or "", options) that return an engine."""
ENGINE_CHOICES = ENGINES.with_auto("OpenVINO on a CPU where it is installed and pays, else PyTorch")
EXACT_ENGINE_CHOICES = ENGINE_CHOICES.without(INT8)
"""Those that a run may be validated by."""

EXPORTS = _registry(
    "format",
    "export.formats",
    ("onnx", "ONNX", "ONNX, which most runtimes read; predict.py beside it needs no PyTorch"),
    ("openvino", "OPENVINO", "OpenVINO's IR, fastest on CPUs of PCs"),
    ("torchscript", "TORCHSCRIPT", "TorchScript, which PyTorch loads without the code of the model, also in C++"),
    ("torch-export", "TORCH_EXPORT", "a program of torch.export, which PyTorch's compilers begin from"),
)
"""What ``kk export`` writes: values are :class:`~kaggle_kit.export.formats.Format`."""

PREPROCESSING: Registry[bool] = Registry(
    "place of preprocessing",
    [
        Entry("inside", "the model takes bytes (B, height, width, channels) and normalises them", True),
        Entry("beside", "the model takes normalised float32 (B, channels, height, width)", False),
    ],
)
"""Whether the graph of an export normalises its images."""

VIEWS = _registry(
    "views",
    "inference.tta",
    ("none", "NONE", "the image as it is"),
    ("hflip", "HFLIP", "and mirrored left to right"),
    ("vflip", "VFLIP", "and mirrored top to bottom"),
    ("flips", "FLIPS", "and mirrored both ways, 4 views"),
    ("rot90", "ROT90", "all quarter turns of a square, half a turn of other shapes"),
    ("d4", "D4", "all 8 symmetries of a square"),
    ("five-crop", "FIVE_CROP", "corners and centre of 7/8 of the side, resized back"),
    ("ten-crop", "TEN_CROP", "the five crops and their mirror images"),
    ("multiscale", "MULTISCALE", "at 0.9, 1 and 1.1 of the size, cut or mirrored at the borders"),
    ("larger", "LARGER", "the image alone, at 1.25 times the size that the model was trained at"),
    ("tiles", "TILES", "four overlapping parts of the image at 1.5 times its size"),
    ("stretched", "STRETCHED", "the image alone, its contrast stretched from the 2nd to the 98th percentile"),
    ("equalized", "EQUALIZED", "the image alone, its brightness equally spread"),
    ("clahe", "CLAHE", "the image alone, its brightness equally spread within each part (CLAHE)"),
)

MERGES = _registry(
    "merge",
    "inference.tta",
    ("mean", "mean", "mean of the views' probabilities"),
    ("gmean", "geometric_mean", "geometric mean of the views' probabilities"),
    ("max", "maximum", "the largest of the views' probabilities"),
)

SCHEMES = _registry(
    "fold scheme",
    "folds.schemes",
    ("stratified", "stratified", "each fold gets its share of every class"),
    ("group", "group", "folds of equal size that part no group, whatever the labels"),
    ("stratified-group", "stratified_group", "each fold gets its share of every class, and no group is parted"),
    ("multilabel", "stratified", "each fold gets its share of every label"),
    ("kfold", "kfold", "folds of equal size, whatever the labels"),
    ("holdout", "holdout", "one fold that validates on the share `holdout` of all rows"),
    ("column", "column", "the folds that the data gives, by a column or by folders"),
)
"""Groups of rows, declared or found as duplicates, stay whole in all of them."""
SCHEME_CHOICES = SCHEMES.with_auto("multilabel, stratified-group or stratified, as the data asks for")

BLENDERS = _registry(
    "blending method",
    "blending.blenders",
    ("mean", "MEAN", "mean of probabilities"),
    ("gmean", "GMEAN", "geometric mean; for multi-label the mean of logits"),
    ("power", "POWER", "power mean, the exponent found out of fold"),
    ("vote", "VOTE", "the class that most runs name, with the mean of the runs that name it"),
    ("temperature", "TEMPERATURE", "mean of probabilities, made as sure as it is right out of fold"),
    ("rank", "RANK", "rank average within each class column"),
    ("weights", "WEIGHTS", "weighted mean of least log loss"),
    ("coordinate", "COORDINATE", "weighted mean, searched by the metric"),
    ("hill-climb", "HILL_CLIMB", "greedy selection of runs by the metric"),
    ("pool", "POOL", "weighted log probabilities with class biases"),
    ("vector", "VECTOR", "mean of probabilities with a scale and a bias for each class, fitted out of fold"),
    ("stack", "STACK", "logistic regression on log probabilities"),
    ("grades", "GRADES", "mean grade of classes in an order, cut where the metric is best"),
    ("trees", "TREES", "gradient-boosted trees on log probabilities, beginning at the mean (LightGBM)"),
    ("auto", "AUTO", "of these the best, cross-fitted, if it is better beyond noise, else the mean"),
)

PRECISIONS: Registry[str] = Registry(
    "precision",
    [
        Entry("bf16", "bfloat16 where it suffices, with the range of float32", "bf16-mixed"),
        Entry("fp16", "float16 where it suffices, with a scaled loss; on GPUs only", "16-mixed"),
        Entry("fp32", "float32 in every operation", "32-true"),
    ],
)
"""Our name -> Lightning Fabric's."""
PRECISION_CHOICES = PRECISIONS.with_auto("what trains fastest here: half on GPUs, on CPUs bf16 where a measurement says so")

FORMS = _registry(
    "submission form",
    "submission",
    ("label", "label_cells", "a cell holds a label"),
    ("index", "index_cells", "a cell holds the integer of a class"),
    ("labels", "labels_cells", "a cell holds several labels"),
    ("ranked", "ranked_cells", "a cell holds several guesses, the likeliest first"),
    ("probability", "probability_cells", "a column a class with its probability"),
    ("positive", "positive_cells", "the probability of the positive class"),
    ("long", "probability_cells", "a row for each id and class with its probability"),
)
"""What a submission's cells hold: functions of probabilities, form, classes, target columns and thresholds."""
EXACT_FORMS = ("probability", "positive", "long")
"""Forms that hold probabilities."""
COLUMN_FORMS = ("probability", "long")
"""Forms with a probability for each class."""

LAYOUTS = _registry(
    "layout",
    "competition.layouts",
    ("csv", "csv:CSV", "a table with a row an image"),
    ("coco", "coco:COCO", "JSON with images and annotations, as of COCO"),
    ("folders", "folders:FOLDERS", "a folder per class"),
    ("names", "names:NAMES", "the names of the files, by a pattern"),
)
"""Where labels come from: values are :class:`~kaggle_kit.competition.layouts.Layout`."""

CONTAINERS = _registry(
    "container",
    "competition.containers",
    ("archive", "archives:ARCHIVE", "an archive: zip, 7z, tar"),
    ("pixel-table", "pixel_table:PIXEL_TABLE", "a CSV with pixels in its columns"),
    ("json", "json_arrays:JSON_ARRAYS", "JSON with pixels in lists"),
    ("array", "arrays:ARRAYS", "an array of pictures, npy or npz"),
    ("parquet", "parquet:PARQUET", "parquet with a picture a row"),
    ("bson", "bson:BSON", "BSON with pictures as image files"),
    ("hdf5", "hdf5:HDF5", "HDF5 with an array or a file a picture"),
    ("dicom", "dicom:DICOM", "a folder of DICOM files"),
    ("channels", "channels:CHANNELS", "a folder with a file for each channel"),
)
"""Files that hold images: values are :class:`~kaggle_kit.competition.containers.base.Container`."""

LAUNCHERS = _registry(
    "launcher",
    "launch",
    ("local", "local:launch_local", "a fold per device of this machine"),
    ("ray", "ray:launch_ray", "the folds over a Ray cluster"),
)

EVENTS: Registry[Any] = Registry(
    "kind of events",
    [
        Lazy("auto", "a live screen in a terminal or notebook, else lines", "kaggle_kit.live:live_screen"),
        Lazy("lines", "log lines, every half minute within an epoch", "kaggle_kit.events:log_lines"),
        Lazy("json", "a line of JSON for each event, on the standard output", "kaggle_kit.events:standard_output"),
    ],
)
"""Makers of a reporter for ``kk train``."""

TRACKERS = _registry(
    "tracker",
    "training.trackers",
    ("tensorboard", "TensorBoard", "event files in the fold's folder, for TensorBoard"),
    ("wandb", "WeightsAndBiases", "Weights & Biases as well; WANDB_MODE=offline works without a network"),
    ("mlflow", "MlFlow", "MLflow as well, into mlruns or where MLFLOW_TRACKING_URI says"),
)
"""Classes of (job of a fold, epochs of its history)."""

PRUNERS = _registry(
    "pruner",
    "tune.study",
    ("hyperband", "hyperband", "stop trials early by Hyperband's rule"),
    ("median", "median", "stop trials that are worse than the median of earlier ones"),
    ("none", "no_pruning", "train every trial to its end"),
)

GOALS: Registry[int] = Registry(
    "goal",
    [
        Entry("fast", "fine-tuned runs of 2 epochs", 2),
        Entry("balanced", "runs of 4 epochs and more; CutMix, larger images, soft labels and chosen views as well", 4),
        Entry("best", "runs of 8 epochs and more; further seeds, snapshots and specialists as well", 8),
    ],
)
"""What ``kk auto`` aims at: values are epochs of a fine-tuned run."""
