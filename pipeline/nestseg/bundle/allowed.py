"""What the configs of a bundle may name, as data. Everything else is refused.

A name is judged by the longest entry that it starts with, whether that allows or refuses it; a name
that no entry covers is refused. Names are judged twice, as written and by the module where the
object is defined, so that a re-export does not help.
"""

from __future__ import annotations

BRANCHES = frozenset({
    # Packages and classes, with all that is below them.
    "ignite.engine",
    "ignite.handlers",
    "ignite.metrics",
    "monai.apps.deepedit",
    "monai.apps.deepgrow",
    "monai.apps.detection",
    "monai.apps.generation",
    "monai.apps.nuclick",
    "monai.apps.pathology",
    "monai.apps.reconstruction",
    "monai.apps.vista3d",
    "monai.data",
    "monai.engines",
    "monai.handlers",
    "monai.inferers",
    "monai.losses",
    "monai.metrics",
    "monai.networks",
    "monai.optimizers",
    "monai.transforms",
    "monai.utils",
    "monai.visualize",
    "nestseg.engines",
    "nestseg.inferers",
    "nestseg.losses",
    "nestseg.metrics",
    "nestseg.networks",
    "nestseg_prep.cohort",
    "nestseg_prep.selection",
    "nestseg_prep.transforms",
    "numpy.fft",
    "numpy.linalg",
    "numpy.random",
    "torch.amp",
    "torch.backends",
    "torch.cuda",
    "torch.fft",
    "torch.linalg",
    "torch.nn",
    "torch.optim",
    "torch.utils.data",
})  # fmt: skip
"""Prefixes below which names are allowed."""

MEMBERS_OF = frozenset({"numpy", "math", "operator"})
"""Modules whose own functions and classes are allowed, but none of their submodules."""

NAMES = frozenset(
    {
        "collections.OrderedDict",
        "copy.copy",
        "copy.deepcopy",
        "functools.partial",
        "functools.reduce",
        "glob.glob",
        "itertools.chain",
        "itertools.product",
        "itertools.repeat",
        "json.dumps",
        "os.environ",
        "os.environ.get",
        "os.getenv",
        "os.path.abspath",
        "os.path.basename",
        "os.path.dirname",
        "os.path.exists",
        "os.path.expanduser",
        "os.path.isdir",
        "os.path.isfile",
        "os.path.join",
        "os.path.normpath",
        "os.path.relpath",
        "os.path.splitext",
        "os.sep",
        "pathlib.Path",
        "pathlib.PurePath",
        "random.choice",
        "random.seed",
        "random.shuffle",
    }
    | {f"torch.{name}" for name in (
        "Generator", "Size", "Tensor", "abs", "all", "any", "arange", "argmax", "as_tensor", "bmm",
        "cat", "ceil", "chunk", "clamp", "clone", "compile", "cumsum", "device", "div", "einsum",
        "empty", "exp", "eye", "flatten", "flip", "floor", "from_numpy", "full", "full_like",
        "inference_mode", "initial_seed", "is_tensor", "isfinite", "isnan", "linspace", "log",
        "logical_and", "logical_not", "logical_or", "manual_seed", "matmul", "max", "maximum",
        "mean", "median", "min", "minimum", "mul", "nan_to_num", "no_grad", "norm", "numel", "ones",
        "ones_like", "permute", "pow", "quantile", "rand", "rand_like", "randint", "randn",
        "randn_like", "randperm", "relu", "reshape", "round", "seed", "set_default_dtype",
        "set_float32_matmul_precision", "set_grad_enabled", "set_num_threads", "sigmoid", "softmax",
        "sort", "split", "sqrt", "squeeze", "stack", "std", "sub", "sum", "tensor", "topk",
        "transpose", "triu", "unbind", "unique", "unsqueeze", "use_deterministic_algorithms", "var",
        "where", "zeros", "zeros_like",
    )}
    | {f"torch.distributed.{name}" for name in (
        "all_reduce", "barrier", "broadcast", "destroy_process_group", "get_rank",
        "get_world_size", "init_process_group", "is_available", "is_gloo_available",
        "is_initialized", "is_nccl_available", "is_torchelastic_launched",
    )}
)  # fmt: skip
"""Single names. Constants of torch (data types, memory formats) need no entry."""

REFUSED = {
    # Prefix → why, below what the lists above allow.
    "ignite.handlers.clearml_logger": "it sends to a server",
    "ignite.handlers.mlflow_logger": "it sends to a server",
    "ignite.handlers.neptune_logger": "it sends to a server",
    "ignite.handlers.polyaxon_logger": "it sends to a server",
    "ignite.handlers.visdom_logger": "it sends to a server",
    "ignite.handlers.wandb_logger": "it sends to a server",
    "monai.data.dataset.LMDBDataset": "it reads pickles",
    "monai.data.torchscript_utils": "it loads compiled code",
    "monai.handlers.clearml_handlers": "it sends to a server",
    "monai.handlers.mlflow_handler": "it sends to a server",
    "monai.networks.trt_compiler": "it loads compiled code",
    "monai.utils.jupyter_utils": "it starts threads and sends",
    "monai.utils.misc.run_cmd": "it starts a program",
    "monai.utils.module": "it imports by name",
    "monai.utils.state_cacher": "it writes and reads pickles",
    "numpy.fromregex": "it opens files",
    "numpy.genfromtxt": "it opens files and addresses",
    "numpy.loadtxt": "it opens files and addresses",
    "numpy.savetxt": "it writes files",
    "operator.attrgetter": "it reaches attributes by name",
    "operator.methodcaller": "it calls methods by name",
    "torch.cuda.memory.CUDAPluggableAllocator": "it loads a library",
    "torch.utils.data.datapipes": "it opens files and addresses",
}
"""Prefixes refused although a shorter one is allowed."""

ONLY_AS_TARGET = frozenset(
    {"monai.transforms.io", "monai.inferers.inferer.PatchInferer", "monai.data.image_reader"}
)
"""They import a class named by a string: written as ``_target_``, that string can be read."""

CLASS_ARGUMENTS = frozenset({"reader", "writer", "merger_cls"})
"""Arguments whose text is imported and called by MONAI."""

SAFE_ARGUMENTS = {"allow_pickle": False, "weights_only": True}
"""Arguments that may have this value only."""

NEVER = frozenset({
    "builtins", "cpp_extension", "ctypes", "format", "format_map", "hub", "importlib",
    "inspect", "jit", "load", "load_inline", "load_library", "load_module", "loads", "marshal",
    "memmap", "mro", "multiprocessing", "open", "os", "pickle", "popen", "pty", "runpy", "save",
    "savez", "savez_compressed", "serialization", "shelve", "shutil", "socket", "subprocess",
    "sys", "system", "tofile", "fromfile", "dump", "dumps", "chmod", "hardlink_to",
    "symlink_to", "rename", "rmdir", "touch", "unlink", "write", "write_bytes", "write_text",
    "writelines", "to_csv", "to_pickle", "read_pickle", "urlopen", "urlretrieve",
    "download_url", "download_and_extract", "extractall", "import_module",
    "meta_path", "collect_env", "model_zoo", "rpc", "spawn", "start_processes", "addHandler",
    "removeHandler", "basicConfig", "f_globals", "f_locals", "f_builtins", "f_back", "f_code",
})  # fmt: skip
"""Attributes that nothing in an expression may have, whatever it is."""

NEVER_PREFIXES = ("_", "gi_", "cr_", "ag_", "tb_", "co_", "func_")
"""Beginnings of attributes that lead from an object to the interpreter."""

BUILTINS = frozenset({
    "False", "None", "True", "abs", "all", "any", "bool", "bytes", "callable", "dict", "divmod",
    "enumerate", "filter", "float", "frozenset", "hash", "int", "isinstance", "issubclass",
    "iter", "len", "list", "map", "max", "min", "next", "pow", "print", "range", "repr",
    "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "zip", "Exception",
    "KeyError", "RuntimeError", "TypeError", "ValueError",
})  # fmt: skip
"""Python's own functions that an expression may use."""

SWITCHES = {
    "backends.cudnn": {"benchmark", "deterministic", "enabled", "allow_tf32"},
    "backends.cuda.matmul": {"allow_tf32"},
}
"""What ``setattr(torch.…, name, value)`` may set: the zoo's bundles do."""

GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
"""What MONAI defines for every expression."""

LOGGING_CLASSES = frozenset({
    "StreamHandler", "FileHandler", "NullHandler", "logging.StreamHandler", "logging.FileHandler",
    "logging.NullHandler", "logging.handlers.RotatingFileHandler",
    "logging.handlers.TimedRotatingFileHandler",
})  # fmt: skip
"""Handlers of ``logging.conf``; MONAI refuses the standard library's short forms of the last."""
