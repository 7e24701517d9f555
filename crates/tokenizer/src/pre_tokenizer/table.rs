//! How models split text: `tokenizer.ggml.pre` to stages and flags.
//!
//! The patterns are those of the families' own `tokenizer.json` as llama.cpp v0.5.0
//! reads them, the names those of `llama_vocab::impl::load` in its
//! `src/llama-vocab.cpp`.

use super::words::{Case, Contraction, Letters, Newlines, Numbers, Space, Words};
use super::{NUMBER, SPACE, Set, Stage};
use crate::unicode::Class;

/// How the models of one `tokenizer.ggml.pre` are tokenized.
pub(crate) struct PreTokenizer {
    names: &'static [&'static str],
    pub(crate) stages: &'static [Stage],
    /// A word that is a token is that token, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Whether a beginning-of-sequence token is added when the file is silent.
    pub(crate) add_bos: bool,
    pub(crate) alphabet: Alphabet,
}

/// How texts are spelled in the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// GPT-2's: one printable character per byte.
    Bytes,
    /// UTF-8, a space as `▁`, bytes without a token as `<0x0A>`.
    SpaceMark,
    /// UTF-8 as it is.
    Plain,
    /// Bytes as Python's `repr` writes them.
    Escaped,
}

const DEFAULT: PreTokenizer = PreTokenizer {
    names: &[],
    stages: &[],
    ignore_merges: false,
    add_bos: false,
    alphabet: Alphabet::Bytes,
};

/// The row for a name.
pub(crate) fn find(name: &str) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|row| row.names.contains(&name))
}

/// Every name that [`find`] knows.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PRE_TOKENIZERS.iter().flat_map(|row| row.names).copied()
}

const LETTERS: Set = Set::of(Class::LETTER);
const LETTERS_AND_MARKS: Set = Set::of(Class::LETTER.or(Class::MARK));
const ONE_SPACE: Set = Set::ranges(&[(' ', ' ')]);
const ASCII_DIGITS: Set = Set::ranges(&[('0', '9')]);
const NEWLINES: &[(char, char)] = &[('\n', '\n'), ('\r', '\r')];
/// `[^\r\n\p{L}\p{N}]`
const NO_WORD: Set = Set::of(Class::LETTER.or(Class::NUMBER)).and(NEWLINES).negated();
/// `[^\s\p{L}\p{N}]`
const OTHER: Set = Set::of(Class::SPACE.or(Class::LETTER).or(Class::NUMBER)).negated();
/// `[\p{P}\p{S}]`
const PUNCTUATION_OR_SYMBOL: Set = Set::of(Class::PUNCTUATION.or(Class::SYMBOL));

const GPT2_WORDS: Words = Words {
    contraction: Contraction::Lower,
    lead: ONE_SPACE,
    letters: Letters::Run(LETTERS),
    numbers: Numbers::Spaced,
    ascii_punctuation_leads: false,
    punctuation: OTHER,
    tail: &[],
    max_tail: 0,
    newlines: Newlines::None,
    space: Space::Run,
};

const LLAMA3_WORDS: Words = Words {
    contraction: Contraction::AnyCase,
    lead: NO_WORD,
    numbers: Numbers::UpTo(3),
    tail: &['\r', '\n'],
    max_tail: usize::MAX,
    newlines: Newlines::Run,
    ..GPT2_WORDS
};

const QWEN2_WORDS: Words = Words { numbers: Numbers::UpTo(1), ..LLAMA3_WORDS };

const GPT4O_WORDS: Words = Words {
    contraction: Contraction::None,
    letters: Letters::Cased {
        case: Case::Ignored(Class::LETTER.or(Class::MARK)),
        contraction: true,
        without_han: false,
    },
    tail: &['\r', '\n', '/'],
    ..LLAMA3_WORDS
};

/// [`GPT4O_WORDS`] as llama.cpp has them for most families.
const GPT4O_ASCII_WORDS: Words = Words {
    letters: Letters::Cased {
        case: Case::Ascii(Class::LETTER),
        contraction: true,
        without_han: false,
    },
    ..GPT4O_WORDS
};

const DEEPSEEK3_WORDS: Words = Words {
    contraction: Contraction::None,
    lead: Set::of(Class::LETTER.or(Class::PUNCTUATION).or(Class::SYMBOL)).and(NEWLINES).negated(),
    letters: Letters::Run(LETTERS_AND_MARKS),
    numbers: Numbers::None,
    ascii_punctuation_leads: true,
    punctuation: PUNCTUATION_OR_SYMBOL,
    ..LLAMA3_WORDS
};

const GPT2: Stage = Stage::Words(GPT2_WORDS);
const QWEN2: Stage = Stage::Words(QWEN2_WORDS);

/// `of+`, each run a piece.
const fn runs(of: Set) -> Stage {
    up_to(usize::MAX, of)
}

/// `of{1,max}`
const fn up_to(max: usize, of: Set) -> Stage {
    Stage::Runs { lead: Set::NONE, of, min: 1, max }
}

/// `lead?of+`
const fn led_runs(lead: Set, of: Set) -> Stage {
    Stage::Runs { lead, of, min: 1, max: usize::MAX }
}

/// `[0-9][0-9][0-9]`
const ASCII_TRIPLE: Stage = Stage::Runs { lead: Set::NONE, of: ASCII_DIGITS, min: 3, max: 3 };

/// `[一-龥぀-ゟ゠-ヿ]+`
const CJK: Stage = runs(Set::ranges(&[('\u{3040}', '\u{30ff}'), ('一', '龥')]));

/// `[一-龥ࠀ-一가-퟿]+`
///
/// The white space in the middle range is none of it, as in llama.cpp.
const DEEPSEEK_CJK: Stage = runs(Set::ranges(&[
    ('\u{800}', '\u{167f}'),
    ('\u{1681}', '\u{1fff}'),
    ('\u{200b}', '\u{2027}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2030}', '\u{205e}'),
    ('\u{2060}', '\u{2fff}'),
    ('\u{3001}', '龥'),
    ('가', '\u{d7ff}'),
]));

/// ` ?[^(\s|.,!?…。，、।۔،)]+`
const BLOOM: Stage = led_runs(
    ONE_SPACE,
    Set::of(Class::SPACE)
        .and(&[
            ('!', '!'),
            ('(', ')'),
            (',', ','),
            ('.', '.'),
            ('?', '?'),
            ('|', '|'),
            ('،', '،'),
            ('۔', '۔'),
            ('।', '।'),
            ('…', '…'),
            ('、', '、'),
            ('。', '。'),
            ('，', '，'),
        ])
        .negated(),
);

const FALCON_PUNCTUATION: &[(char, char)] =
    &[('$', '$'), ('+', '+'), ('<', '>'), ('^', '^'), ('|', '|'), ('~', '~')];

/// The letters DeepSeek LLM lists one by one: cased scripts.
const DEEPSEEK_LETTERS: Set = Set::ranges(&[
    ('A', 'Z'),
    ('a', 'z'),
    ('\u{b5}', '\u{b5}'),
    ('\u{c0}', '\u{d6}'),
    ('\u{d8}', '\u{f6}'),
    ('\u{f8}', '\u{1ba}'),
    ('\u{1bc}', '\u{1bf}'),
    ('\u{1c4}', '\u{293}'),
    ('\u{295}', '\u{2af}'),
    ('\u{370}', '\u{373}'),
    ('\u{376}', '\u{377}'),
    ('\u{37b}', '\u{37d}'),
    ('\u{37f}', '\u{37f}'),
    ('\u{386}', '\u{386}'),
    ('\u{388}', '\u{38a}'),
    ('\u{38c}', '\u{38c}'),
    ('\u{38e}', '\u{3a1}'),
    ('\u{3a3}', '\u{3f5}'),
    ('\u{3f7}', '\u{481}'),
    ('\u{48a}', '\u{52f}'),
    ('\u{531}', '\u{556}'),
    ('\u{10a0}', '\u{10c5}'),
    ('\u{13a0}', '\u{13f5}'),
    ('\u{13f8}', '\u{13fd}'),
    ('\u{1c90}', '\u{1cba}'),
    ('\u{1cbd}', '\u{1cbf}'),
    ('\u{1d00}', '\u{1d2b}'),
    ('\u{1d6b}', '\u{1d77}'),
    ('\u{1d79}', '\u{1d9a}'),
    ('\u{1e00}', '\u{1f15}'),
    ('\u{1f18}', '\u{1f1d}'),
    ('\u{1f20}', '\u{1f45}'),
    ('\u{1f48}', '\u{1f4d}'),
    ('\u{1f50}', '\u{1f57}'),
    ('\u{1f59}', '\u{1f59}'),
    ('\u{1f5b}', '\u{1f5b}'),
    ('\u{1f5d}', '\u{1f5d}'),
    ('\u{1f5f}', '\u{1f7d}'),
    ('\u{1f80}', '\u{1fb4}'),
    ('\u{1fb6}', '\u{1fbc}'),
    ('\u{1fbe}', '\u{1fbe}'),
    ('\u{1fc2}', '\u{1fc4}'),
    ('\u{1fc6}', '\u{1fcc}'),
    ('\u{1fd0}', '\u{1fd3}'),
    ('\u{1fd6}', '\u{1fdb}'),
    ('\u{1fe0}', '\u{1fec}'),
    ('\u{1ff2}', '\u{1ff4}'),
    ('\u{1ff6}', '\u{1ffc}'),
    ('\u{2102}', '\u{2102}'),
    ('\u{2107}', '\u{2107}'),
    ('\u{210a}', '\u{2113}'),
    ('\u{2115}', '\u{2115}'),
    ('\u{2119}', '\u{211d}'),
    ('\u{2124}', '\u{2124}'),
    ('\u{2126}', '\u{2126}'),
    ('\u{2128}', '\u{2128}'),
    ('\u{212a}', '\u{212d}'),
    ('\u{212f}', '\u{2134}'),
    ('\u{2139}', '\u{2139}'),
    ('\u{213c}', '\u{213f}'),
    ('\u{2145}', '\u{2149}'),
    ('\u{214e}', '\u{214e}'),
    ('\u{2183}', '\u{2184}'),
    ('\u{2c00}', '\u{2c7b}'),
    ('\u{2c7e}', '\u{2ce4}'),
    ('\u{2ceb}', '\u{2cee}'),
    ('\u{2cf2}', '\u{2cf3}'),
    ('\u{a640}', '\u{a66d}'),
    ('\u{a680}', '\u{a69b}'),
    ('\u{a722}', '\u{a76f}'),
    ('\u{a771}', '\u{a787}'),
    ('\u{a78b}', '\u{a78e}'),
    ('\u{ab70}', '\u{abbf}'),
    ('\u{fb00}', '\u{fb06}'),
    ('\u{fb13}', '\u{fb17}'),
    ('\u{ff21}', '\u{ff3a}'),
    ('\u{ff41}', '\u{ff5a}'),
    ('\u{10400}', '\u{1044f}'),
    ('\u{104b0}', '\u{104d3}'),
    ('\u{104d8}', '\u{104fb}'),
    ('\u{10c80}', '\u{10cb2}'),
    ('\u{10cc0}', '\u{10cf2}'),
    ('\u{118a0}', '\u{118df}'),
    ('\u{1e900}', '\u{1e943}'),
]);

const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["default"],
        stages: &[
            runs(Set::of(Class::PUNCTUATION).and(FALCON_PUNCTUATION)),
            GPT2,
            runs(NUMBER),
            ASCII_TRIPLE,
        ],
        ..DEFAULT
    },
    PreTokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "roberta-bpe",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        stages: &[GPT2],
        ..DEFAULT
    },
    PreTokenizer {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        stages: &[Stage::Words(LLAMA3_WORDS)],
        ignore_merges: true,
        add_bos: true,
        ..DEFAULT
    },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        stages: &[Stage::Words(LLAMA3_WORDS)],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["jais-2"],
        stages: &[Stage::Words(Words { space: Space::PowersOfTwo, ..LLAMA3_WORDS })],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["minicpm5"],
        stages: &[
            up_to(3, NUMBER),
            Stage::Words(Words { numbers: Numbers::UpTo(usize::MAX), ..LLAMA3_WORDS }),
        ],
        ignore_merges: true,
        ..DEFAULT
    },
    PreTokenizer {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        stages: &[QWEN2],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["qwen35"],
        stages: &[Stage::Words(Words {
            letters: Letters::Run(LETTERS_AND_MARKS),
            punctuation: Set::of(Class::SPACE.or(Class::LETTER).or(Class::MARK).or(Class::NUMBER))
                .negated(),
            ..QWEN2_WORDS
        })],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["ufakzeka"],
        stages: &[Stage::Words(Words { contraction: Contraction::None, ..QWEN2_WORDS })],
        ..DEFAULT
    },
    PreTokenizer { names: &["laguna"], stages: &[Stage::Lines, QWEN2], ..DEFAULT },
    PreTokenizer {
        names: &["seed-coder"],
        stages: &[Stage::Words(Words { tail: &[], max_tail: 0, ..QWEN2_WORDS })],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["exaone-moe"],
        stages: &[Stage::Words(Words {
            letters: Letters::Spaced,
            tail: &['\r', '\n', '/'],
            max_tail: 1,
            ..QWEN2_WORDS
        })],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        stages: &[Stage::Words(GPT4O_ASCII_WORDS)],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["granite-embed-multi-97m"],
        stages: &[Stage::Words(Words {
            letters: Letters::Cased {
                case: Case::Ascii(Class::LETTER.or(Class::MARK)),
                contraction: true,
                without_han: false,
            },
            ..GPT4O_WORDS
        })],
        ignore_merges: true,
        ..DEFAULT
    },
    PreTokenizer {
        names: &["tiny_aya", "cohere2moe"],
        stages: &[Stage::GroupsOfThree(NUMBER), Stage::Words(GPT4O_WORDS)],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["tekken"],
        stages: &[Stage::Words(Words {
            letters: Letters::Cased {
                case: Case::Ascii(Class::LETTER),
                contraction: false,
                without_han: false,
            },
            numbers: Numbers::UpTo(1),
            ..GPT4O_WORDS
        })],
        ignore_merges: true,
        add_bos: true,
        ..DEFAULT
    },
    PreTokenizer {
        names: &["youtu"],
        stages: &[
            runs(Set::ranges(&[('ㄱ', 'ㆎ'), ('가', '힣')])),
            runs(Set::ranges(&[
                ('—', '—'),
                ('‘', '’'),
                ('“', '”'),
                ('…', '…'),
                ('、', '\u{303f}'),
                ('\u{fe30}', '\u{fe4f}'),
                ('！', '！'),
                ('，', '，'),
                ('：', '；'),
            ])),
            runs(Set::ranges(&[('ㄅ', 'ㄯ')])),
            CJK,
            Stage::Words(Words { numbers: Numbers::UpTo(1), ..GPT4O_WORDS }),
        ],
        ignore_merges: true,
        ..DEFAULT
    },
    PreTokenizer {
        names: &["kimi-k2"],
        stages: &[Stage::Words(Words {
            letters: Letters::Cased {
                case: Case::Ignored(Class::LETTER),
                contraction: true,
                without_han: true,
            },
            tail: &['\r', '\n'],
            ..GPT4O_WORDS
        })],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["deepseek-llm"],
        stages: &[
            up_to(1, Set::ranges(NEWLINES)),
            led_runs(SPACE, DEEPSEEK_LETTERS),
            led_runs(
                SPACE,
                Set::ranges(&[
                    ('!', '/'),
                    (':', '~'),
                    ('‘', '‟'),
                    ('\u{3001}', '。'),
                    ('！', '／'),
                    ('：', '～'),
                ]),
            ),
            Stage::TrailingSpace,
            DEEPSEEK_CJK,
            runs(NUMBER),
        ],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        stages: &[
            up_to(1, Set::ranges(NEWLINES)),
            led_runs(SPACE, LETTERS),
            led_runs(SPACE, Set::of(Class::PUNCTUATION)),
            DEEPSEEK_CJK,
            up_to(1, NUMBER),
        ],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        stages: &[up_to(3, NUMBER), CJK, Stage::Words(DEEPSEEK3_WORDS)],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["spark2_5"],
        stages: &[
            up_to(3, NUMBER),
            CJK,
            Stage::Words(Words {
                tail: &[],
                max_tail: 0,
                newlines: Newlines::Single,
                ..DEEPSEEK3_WORDS
            }),
            up_to(1, NUMBER),
        ],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["afmoe"],
        stages: &[
            Stage::GroupsOfThree(NUMBER),
            runs(Set::ranges(&[
                ('เ', '\u{e7f}'),
                ('\u{e80}', '\u{eff}'),
                ('က', '\u{109f}'),
                ('ᄀ', 'ᇿ'),
                ('ក', '\u{17ff}'),
                ('⼀', '\u{2fdf}'),
                ('\u{3040}', '\u{30ff}'),
                ('㐀', '\u{4dbf}'),
                ('一', '\u{9fff}'),
                ('ꧠ', '\u{a9ff}'),
                ('ꩠ', 'ꩿ'),
                ('가', '\u{d7af}'),
                ('\u{f900}', '\u{faff}'),
                ('･', 'ﾟ'),
            ])),
            Stage::Words(DEEPSEEK3_WORDS),
        ],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["falcon"],
        stages: &[
            runs(Set::of(Class::PUNCTUATION).and(&[
                ('$', '$'),
                ('+', '+'),
                ('<', '>'),
                ('^', '^'),
                ('`', '`'),
                ('|', '|'),
                ('~', '~'),
            ])),
            GPT2,
            ASCII_TRIPLE,
        ],
        ..DEFAULT
    },
    PreTokenizer {
        names: &[
            "starcoder",
            "refact",
            "command-r",
            "smollm",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        stages: &[up_to(1, NUMBER), GPT2],
        ..DEFAULT
    },
    PreTokenizer { names: &["poro-chat", "bloom", "gpt3-finnish"], stages: &[BLOOM], ..DEFAULT },
    PreTokenizer { names: &["viking"], stages: &[BLOOM, up_to(1, NUMBER)], ..DEFAULT },
    PreTokenizer {
        names: &["superbpe"],
        stages: &[runs(NUMBER), Stage::GroupsOfThree(ASCII_DIGITS)],
        ..DEFAULT
    },
    PreTokenizer {
        names: &["chameleon"],
        stages: &[
            Stage::Literals(&["\t", "\n", "    ", "  "]),
            up_to(1, NUMBER),
            up_to(
                1,
                Set::of(Class::PUNCTUATION).and(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
            ),
            GPT2,
        ],
        add_bos: true,
        ..DEFAULT
    },
    PreTokenizer {
        names: &["gemma4", "granite-embed-multi-311m"],
        stages: &[Stage::Lines],
        add_bos: true,
        alphabet: Alphabet::SpaceMark,
        ..DEFAULT
    },
    PreTokenizer {
        names: &["sarvam-moe"],
        stages: &[Stage::Lines],
        alphabet: Alphabet::SpaceMark,
        ..DEFAULT
    },
    PreTokenizer {
        names: &["whitespace"],
        stages: &[runs(Set::of(Class::SPACE).negated())],
        alphabet: Alphabet::Plain,
        ..DEFAULT
    },
];
