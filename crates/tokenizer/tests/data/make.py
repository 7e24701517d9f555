"""Makes unigram.gguf and rwkv.gguf with sentencepiece 0.2: python make.py OUT_FOLDER

The Unigram model is trained here, on texts made here, with a normalisation table
of a few rules, so that the file stays small.
"""

import io
import random
import struct
import sys
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
U8 = 0
SCALARS = {U8: "<B", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}


def encoded(kind, value):
    if kind == STRING:
        data = value if isinstance(value, bytes) else value.encode()
        return struct.pack("<Q", len(data)) + data
    return struct.pack(SCALARS[kind], value)


def write_gguf(path, entries):
    out = io.BytesIO()
    out.write(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(entries)))
    for key, kind, value in entries:
        out.write(encoded(STRING, key))
        if isinstance(kind, tuple):
            item = kind[0]
            out.write(struct.pack("<IIQ", ARRAY, item, len(value)))
            for each in value:
                out.write(encoded(item, each))
        else:
            out.write(struct.pack("<I", kind) + encoded(kind, value))
    path.write_bytes(out.getvalue())


def rules():
    """Full-width letters, ligatures, composed accents and odd spaces."""
    table = {0x3000: " ", 0xA0: " ", 0x9: " ", 0xA: " ", 0x200B: "", 0xFB01: "fi", 0xFDFA: "صلى الله"}
    table |= {0xFF01 + i: chr(0x21 + i) for i in range(94)}
    lines = [(f"{code:X}", " ".join(f"{ord(c):X}" for c in text)) for code, text in table.items()]
    for base, mark, composed in [("e", 0x301, "é"), ("u", 0x308, "ü"), ("n", 0x303, "ñ")]:
        lines.append((f"{ord(base):X} {mark:X}", f"{ord(composed):X}"))
    return "".join(f"{source}\t{target}\n" for source, target in lines)


def texts():
    random.seed(7)
    syllables = "ba be ka ko lu ma me na no pa ra ri sa se ta to un é ü ñ th ing er".split()
    words = ["".join(random.choices(syllables, k=random.randint(1, 4))) for _ in range(400)]
    words += ["the", "a", "of", "and", "to", "hello", "world", "語", "日本語", "1", "23", "(", ")", ".",
              "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "wave", "cat", "snow"]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    for _ in range(3000):
        yield " ".join(random.choices(words, weights, k=12))


def unigram(folder, name, extra):
    rule_file = folder / "rules.tsv"
    rule_file.write_text(rules())
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts(), model_writer=model, model_type="unigram", vocab_size=800,
        hard_vocab_limit=False,
        normalization_rule_tsv=str(rule_file), pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        user_defined_symbols=["<extra_0>", "[x]"], num_threads=1, **extra,
    )
    rule_file.unlink()
    parsed = proto.ModelProto.FromString(model.getvalue())
    pieces = parsed.pieces
    charsmap = parsed.normalizer_spec.precompiled_charsmap
    write_gguf(folder / f"{name}.gguf", [
        ("general.architecture", STRING, "t5"),
        ("tokenizer.ggml.model", STRING, "t5"),
        ("tokenizer.ggml.pre", STRING, "default"),
        ("tokenizer.ggml.tokens", (STRING,), [piece.piece for piece in pieces]),
        ("tokenizer.ggml.scores", (F32,), [piece.score for piece in pieces]),
        ("tokenizer.ggml.token_type", (I32,), [piece.type for piece in pieces]),
        ("tokenizer.ggml.add_space_prefix", BOOL, parsed.normalizer_spec.add_dummy_prefix),
        ("tokenizer.ggml.remove_extra_whitespaces", BOOL,
         parsed.normalizer_spec.remove_extra_whitespaces),
        ("tokenizer.ggml.precompiled_charsmap", (U8,), list(charsmap)),
        ("tokenizer.ggml.padding_token_id", U32, 0),
        ("tokenizer.ggml.eos_token_id", U32, 1),
        ("tokenizer.ggml.unknown_token_id", U32, 2),
    ])


def rwkv(folder):
    """Spelled as the converter does: Python's repr of each byte string."""
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [text.encode() for text in
               ["\n\n", "the", " the", "ing", " a", "日", "本", "日本", "'s", "\\n", "é", "abc", "abcde"]]
    tokens += [b"\xe6\x97", b"\xf0\x9f\xa6"]
    spelled = ["<s>"] + [repr(token)[2:-1] for token in tokens]
    write_gguf(folder / "rwkv.gguf", [
        ("general.architecture", STRING, "rwkv7"),
        ("tokenizer.ggml.model", STRING, "rwkv"),
        ("tokenizer.ggml.tokens", (STRING,), spelled),
        ("tokenizer.ggml.token_type", (I32,), [CONTROL] + [NORMAL] * len(tokens)),
        ("tokenizer.ggml.bos_token_id", U32, 0),
        ("tokenizer.ggml.eos_token_id", U32, 0),
    ])


if __name__ == "__main__":
    out = Path(sys.argv[1])
    unigram(out, "unigram", {})
    unigram(out, "unigram-spaces",
            {"add_dummy_prefix": False, "remove_extra_whitespaces": False, "byte_fallback": True})
    rwkv(out)
