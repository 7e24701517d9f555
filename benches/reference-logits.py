#!/usr/bin/env python3
"""Runs llama.cpp on GGUF files and keeps what it computes, for tests to compare with.

Usage, after `npm --prefix benches ci` (see README.md there):

    cargo run -p realm-testkit --example write_families -- FOLDER
    python3 benches/reference-logits.py [--layers] FOLDER OUTPUT [NAME...]

FOLDER has `tokens.json` (token ids) and NAME.gguf files; OUTPUT gets NAME.f32: logits
`[tokens, vocabulary]`, of encoders hidden states `[tokens, width]`, raw little-endian
float32. With `--layers` also NAME.layers.f32: the hidden state behind every layer,
`[layers, tokens, width]`, which `crates/cpu/examples/layers.rs` compares with. Without names
every file is run. A file that llama.cpp refuses is named with the
last line of its log, and the exit status is 1.

llama.cpp v0.5.0 (commit de3ff815) as packaged in npm `@node-llama-cpp/linux-x64` 3.22.1.
One thread, one batch, flash attention off, keys and values in float32, weights not
repacked. The structures below are those of that release's `include/llama.h`.
"""

import ctypes
import json
import os
import subprocess
import sys
from array import array
from pathlib import Path

LIBRARIES = (
    Path(__file__).resolve().parent / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
)
# Every file has a context of this many positions; llama.cpp rounds up to it anyway.
CONTEXT_LENGTH = 256

pointer, int32, uint32, boolean = (
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_uint32,
    ctypes.c_bool,
)


class ModelParams(ctypes.Structure):
    """`llama_model_params`"""

    _fields_ = [
        ("devices", pointer),
        ("tensor_buft_overrides", pointer),
        ("n_gpu_layers", int32),
        ("split_mode", int32),
        ("load_mode", int32),
        ("lazy_mode", int32),
        ("main_gpu", int32),
        ("tensor_split", pointer),
        ("progress_callback", pointer),
        ("progress_callback_user_data", pointer),
        ("kv_overrides", pointer),
        ("vocab_only", boolean),
        ("check_tensors", boolean),
        ("use_extra_bufts", boolean),
        ("no_host", boolean),
        ("no_alloc", boolean),
        ("load_mtp", boolean),
    ]


class ContextParams(ctypes.Structure):
    """`llama_context_params`"""

    _fields_ = [
        ("n_ctx", uint32),
        ("n_batch", uint32),
        ("n_ubatch", uint32),
        ("n_seq_max", uint32),
        ("n_rs_seq", uint32),
        ("n_outputs_max", uint32),
        ("n_outputs_max_per_seq", uint32),
        ("n_threads", int32),
        ("n_threads_batch", int32),
        ("ctx_type", int32),
        ("rope_scaling_type", int32),
        ("pooling_type", int32),
        ("attention_type", int32),
        ("flash_attn_type", int32),
        ("rope_freq_base", ctypes.c_float),
        ("rope_freq_scale", ctypes.c_float),
        ("yarn_ext_factor", ctypes.c_float),
        ("yarn_attn_factor", ctypes.c_float),
        ("yarn_beta_fast", ctypes.c_float),
        ("yarn_beta_slow", ctypes.c_float),
        ("yarn_orig_ctx", uint32),
        ("defrag_thold", ctypes.c_float),
        ("cb_eval", pointer),
        ("cb_eval_user_data", pointer),
        ("type_k", int32),
        ("type_v", int32),
        ("abort_callback", pointer),
        ("abort_callback_data", pointer),
        ("embeddings", boolean),
        ("offload_kqv", boolean),
        ("no_perf", boolean),
        ("op_offload", boolean),
        ("swa_full", boolean),
        ("kv_unified", boolean),
        ("samplers", pointer),
        ("n_samplers", ctypes.c_size_t),
        ("ctx_other", pointer),
    ]


class Batch(ctypes.Structure):
    """`llama_batch`"""

    _fields_ = [
        ("n_tokens", int32),
        ("token", ctypes.POINTER(int32)),
        ("embd", pointer),
        ("pos", ctypes.POINTER(int32)),
        ("n_seq_id", ctypes.POINTER(int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


EvalCallback = ctypes.CFUNCTYPE(boolean, pointer, boolean, pointer)

GGML_TYPE_F32 = 0
POOLING_NONE = 0
FLASH_ATTENTION_DISABLED = 0


def load_library():
    for name in ["libggml-base.so", "libggml.v0.5.0.so", "libllama.v0.5.0.so"]:
        library = ctypes.CDLL(str(LIBRARIES / name), mode=ctypes.RTLD_GLOBAL)
        if name == "libggml.v0.5.0.so":
            library.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
            library.ggml_backend_load_all_from_path(str(LIBRARIES).encode())
    for name, result, arguments in [
        ("llama_model_default_params", ModelParams, []),
        ("llama_context_default_params", ContextParams, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, ModelParams]),
        ("llama_init_from_model", pointer, [pointer, ContextParams]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", int32, [pointer]),
        ("llama_model_n_embd", int32, [pointer]),
        ("llama_batch_init", Batch, [int32, int32, int32]),
        ("llama_decode", int32, [pointer, Batch]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, int32]),
        ("llama_get_embeddings_ith", ctypes.POINTER(ctypes.c_float), [pointer, int32]),
        ("ggml_get_name", ctypes.c_char_p, [pointer]),
        ("ggml_nbytes", ctypes.c_size_t, [pointer]),
        ("ggml_backend_tensor_get", None, [pointer, pointer, ctypes.c_size_t, ctypes.c_size_t]),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.llama_backend_init()
    return library


def architecture(path):
    """`general.architecture`, which these files have first."""
    header = path.read_bytes()[24:256]
    key = header.index(b"general.architecture") + len(b"general.architecture")
    length = int.from_bytes(header[key + 4 : key + 12], "little")
    return header[key + 12 : key + 12 + length].decode()


def keep_layers(library, layers):
    """A callback that puts what each layer leaves (`l_out-N` in llama.cpp's graphs) into `layers`."""

    def evaluate(tensor, is_question, _):
        name = library.ggml_get_name(tensor).decode()
        if not name.startswith("l_out-"):
            return not is_question
        if not is_question:
            values = ctypes.create_string_buffer(library.ggml_nbytes(tensor))
            library.ggml_backend_tensor_get(tensor, values, 0, len(values))
            layers[int(name.removeprefix("l_out-"))] = values.raw
        return True

    return EvalCallback(evaluate)


def run(path, tokens, layers):
    """What the last step computes for every token, row after row; `layers` gets what comes before."""
    library = load_library()
    model_params = library.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model_params.use_extra_bufts = False
    model = library.llama_model_load_from_file(str(path).encode(), model_params)
    if not model:
        raise SystemExit("not loaded")
    name = architecture(path)
    is_encoder = "bert" in name or name.endswith(("-embed", "-embedding"))
    params = library.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT_LENGTH
    params.n_outputs_max_per_seq = CONTEXT_LENGTH
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type = FLASH_ATTENTION_DISABLED
    params.type_k = params.type_v = GGML_TYPE_F32
    params.embeddings = is_encoder
    if layers is not None:
        callback = keep_layers(library, layers)
        params.cb_eval = ctypes.cast(callback, pointer)
    if is_encoder:
        params.pooling_type = POOLING_NONE
    context = library.llama_init_from_model(model, params)
    if not context:
        raise SystemExit("no context")
    batch = library.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for row, token in enumerate(tokens):
        batch.token[row], batch.pos[row] = token, row
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
        batch.logits[row] = 1
    status = library.llama_decode(context, batch)
    if status != 0:
        raise SystemExit(f"llama_decode gave {status}")
    if is_encoder:
        width, read = library.llama_model_n_embd(model), library.llama_get_embeddings_ith
    else:
        vocabulary = library.llama_model_get_vocab(model)
        width, read = library.llama_vocab_n_tokens(vocabulary), library.llama_get_logits_ith
    values = array("f")
    for row in range(len(tokens)):
        values.extend(read(context, row)[:width])
    return values


def run_here(path, output, with_layers):
    tokens = json.loads((path.parent / "tokens.json").read_text())
    layers = {} if with_layers else None
    output.write_bytes(run(path, tokens, layers).tobytes())
    if with_layers:
        if sorted(layers) != list(range(len(layers))) or not layers:
            raise SystemExit(f"error: llama.cpp names no l_out of some layers, only of {sorted(layers)}")
        output.with_suffix(".layers.f32").write_bytes(b"".join(layers[n] for n in sorted(layers)))
    # Nothing is freed: the process ends here.
    os._exit(0)


def main():
    with_layers = "--layers" in sys.argv
    folder, output, *names = [argument for argument in sys.argv[1:] if argument != "--layers"]
    folder, output = Path(folder), Path(output)
    if output.suffix == ".f32":
        return run_here(folder, output, with_layers)
    output.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.gguf" for name in names] or sorted(folder.glob("*.gguf"))
    n_refused = 0
    for path in paths:
        # A file that llama.cpp does not like may end the process.
        arguments = [sys.executable, __file__, path, output / f"{path.stem}.f32"]
        arguments += ["--layers"] * with_layers
        result = subprocess.run(arguments, capture_output=True, text=True)
        if result.returncode != 0:
            n_refused += 1
            log = [line for line in result.stderr.splitlines() if "error" in line or "ASSERT" in line]
            print(f"{path.stem}: {' / '.join(log) or result.stderr[-400:]}")
    print(f"{len(paths) - n_refused} of {len(paths)} files run")
    return int(n_refused > 0)


if __name__ == "__main__":
    sys.exit(main())
