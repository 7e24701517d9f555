//! Which model family splits how: `tokenizer.ggml.pre` to stages and flags.
//!
//! The patterns are those of the families' own `tokenizer.json`, the names those
//! of `llama_vocab::impl::load` in llama.cpp `src/llama-vocab.cpp`.

use super::words::{Contraction, Letters, Newlines, Numbers, Space, Words};
use super::{NUMBER, SPACE, Set, Stage};
use crate::unicode::Class;

/// How the models of one `tokenizer.ggml.pre` are tokenized.
pub(crate) struct Family {
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
}

const DEFAULT: Family = Family {
    names: &[],
    stages: &[],
    ignore_merges: false,
    add_bos: false,
    alphabet: Alphabet::Bytes,
};

/// The row for a name.
pub(crate) fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.names.contains(&name))
}

/// Every name [`family`] knows.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.names).copied()
}

const LETTERS: Set = Set::of(Class::LETTER);
const LETTERS_AND_MARKS: Set = Set::of(Class::LETTER.or(Class::MARK));
const ONE_SPACE: Set = Set::ranges(&[(' ', ' ')]);
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
    letters: Letters::Cased { contraction: true, without_han: false },
    tail: &['\r', '\n', '/'],
    ..LLAMA3_WORDS
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
const ASCII_TRIPLE: Stage =
    Stage::Runs { lead: Set::NONE, of: Set::ranges(&[('0', '9')]), min: 3, max: 3 };

/// `[一-龥぀-ゟ゠-ヿ]+`
const CJK: Stage = runs(Set::ranges(&[('一', '龥'), ('\u{3040}', '\u{30ff}')]));

/// `[一-龥ࠀ-一가-퟿]+`
const DEEPSEEK_CJK: Stage =
    runs(Set::ranges(&[('一', '龥'), ('ࠀ', '一'), ('가', '\u{d7ff}')]));

/// ` ?[^(\s|.,!?…。，、।۔،)]+`
const BLOOM: Stage = led_runs(
    ONE_SPACE,
    Set::of(Class::SPACE)
        .and(&[
            ('(', ')'),
            ('|', '|'),
            ('.', '.'),
            (',', ','),
            ('!', '!'),
            ('?', '?'),
            ('…', '…'),
            ('。', '。'),
            ('，', '，'),
            ('、', '、'),
            ('।', '।'),
            ('۔', '۔'),
            ('،', '،'),
        ])
        .negated(),
);

const FALCON_PUNCTUATION: &[(char, char)] =
    &[('$', '$'), ('+', '+'), ('<', '>'), ('^', '^'), ('~', '~'), ('|', '|')];

/// The letters DeepSeek LLM lists one by one: cased scripts.
const DEEPSEEK_LETTERS: Set = Set::ranges(&[
    ('A', 'Z'),
    ('a', 'z'),
    ('µ', 'µ'),
    ('À', 'Ö'),
    ('Ø', 'ö'),
    ('ø', 'ƺ'),
    ('Ƽ', 'ƿ'),
    ('Ǆ', 'ʓ'),
    ('ʕ', 'ʯ'),
    ('Ͱ', 'ͳ'),
    ('Ͷ', 'ͷ'),
    ('ͻ', 'ͽ'),
    ('Ϳ', 'Ϳ'),
    ('Ά', 'Ά'),
    ('Έ', 'Ί'),
    ('Ό', 'Ό'),
    ('Ύ', 'Ρ'),
    ('Σ', 'ϵ'),
    ('Ϸ', 'ҁ'),
    ('Ҋ', 'ԯ'),
    ('Ա', 'Ֆ'),
    ('Ⴀ', 'Ⴥ'),
    ('Ꭰ', 'Ᏽ'),
    ('ᏸ', 'ᏽ'),
    ('Ა', 'Ჺ'),
    ('Ჽ', 'Ჿ'),
    ('ᴀ', 'ᴫ'),
    ('ᵫ', 'ᵷ'),
    ('ᵹ', 'ᶚ'),
    ('Ḁ', 'ἕ'),
    ('Ἐ', 'Ἕ'),
    ('ἠ', 'ὅ'),
    ('Ὀ', 'Ὅ'),
    ('ὐ', 'ὗ'),
    ('Ὑ', 'Ὑ'),
    ('Ὓ', 'Ὓ'),
    ('Ὕ', 'Ὕ'),
    ('Ὗ', 'ώ'),
    ('ᾀ', 'ᾴ'),
    ('ᾶ', 'ᾼ'),
    ('\u{1fbe}', '\u{1fbe}'),
    ('ῂ', 'ῄ'),
    ('ῆ', 'ῌ'),
    ('ῐ', 'ΐ'),
    ('ῖ', 'Ί'),
    ('ῠ', 'Ῥ'),
    ('ῲ', 'ῴ'),
    ('ῶ', 'ῼ'),
    ('ℂ', 'ℂ'),
    ('ℇ', 'ℇ'),
    ('ℊ', 'ℓ'),
    ('ℕ', 'ℕ'),
    ('ℙ', 'ℝ'),
    ('ℤ', 'ℤ'),
    ('\u{2126}', '\u{2126}'),
    ('ℨ', 'ℨ'),
    ('\u{212a}', 'ℭ'),
    ('ℯ', 'ℴ'),
    ('ℹ', 'ℹ'),
    ('ℼ', 'ℿ'),
    ('ⅅ', 'ⅉ'),
    ('ⅎ', 'ⅎ'),
    ('Ↄ', 'ↄ'),
    ('Ⰰ', 'ⱻ'),
    ('Ȿ', 'ⳤ'),
    ('Ⳬ', 'ⳮ'),
    ('Ⳳ', 'ⳳ'),
    ('Ꙁ', 'ꙭ'),
    ('Ꚁ', 'ꚛ'),
    ('Ꜣ', 'ꝯ'),
    ('ꝱ', 'ꞇ'),
    ('Ꞌ', 'ꞎ'),
    ('ꭰ', 'ꮿ'),
    ('ﬀ', 'ﬆ'),
    ('ﬓ', 'ﬗ'),
    ('Ａ', 'Ｚ'),
    ('ａ', 'ｚ'),
    ('𐐀', '𐑏'),
    ('𐒰', '𐓓'),
    ('𐓘', '𐓻'),
    ('𐲀', '𐲲'),
    ('𐳀', '𐳲'),
    ('𑢠', '𑣟'),
    ('𞤀', '𞥃'),
]);

const FAMILIES: &[Family] = &[
    Family {
        names: &["default"],
        stages: &[
            runs(Set::of(Class::PUNCTUATION).and(FALCON_PUNCTUATION)),
            GPT2,
            runs(NUMBER),
            ASCII_TRIPLE,
        ],
        ..DEFAULT
    },
    Family {
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
    Family {
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
    Family {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        stages: &[Stage::Words(LLAMA3_WORDS)],
        ..DEFAULT
    },
    Family {
        names: &["jais-2"],
        stages: &[Stage::Words(Words { space: Space::PowersOfTwo, ..LLAMA3_WORDS })],
        ..DEFAULT
    },
    Family {
        names: &["minicpm5"],
        stages: &[
            up_to(3, NUMBER),
            Stage::Words(Words { numbers: Numbers::UpTo(usize::MAX), ..LLAMA3_WORDS }),
        ],
        ignore_merges: true,
        ..DEFAULT
    },
    Family {
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
    Family {
        names: &["qwen35"],
        stages: &[Stage::Words(Words {
            letters: Letters::Run(LETTERS_AND_MARKS),
            punctuation: Set::of(
                Class::SPACE.or(Class::LETTER).or(Class::MARK).or(Class::NUMBER),
            )
            .negated(),
            ..QWEN2_WORDS
        })],
        ..DEFAULT
    },
    Family {
        names: &["ufakzeka"],
        stages: &[Stage::Words(Words { contraction: Contraction::None, ..QWEN2_WORDS })],
        ..DEFAULT
    },
    Family { names: &["laguna"], stages: &[Stage::Lines, QWEN2], ..DEFAULT },
    Family {
        names: &["seed-coder"],
        stages: &[Stage::Words(Words { tail: &[], max_tail: 0, ..QWEN2_WORDS })],
        ..DEFAULT
    },
    Family {
        names: &["exaone-moe"],
        stages: &[Stage::Words(Words {
            letters: Letters::Spaced,
            tail: &['\r', '\n', '/'],
            max_tail: 1,
            ..QWEN2_WORDS
        })],
        ..DEFAULT
    },
    Family {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        stages: &[Stage::Words(GPT4O_WORDS)],
        ..DEFAULT
    },
    Family {
        names: &["granite-embed-multi-97m"],
        stages: &[Stage::Words(GPT4O_WORDS)],
        ignore_merges: true,
        ..DEFAULT
    },
    Family {
        names: &["tiny_aya", "cohere2moe"],
        stages: &[Stage::GroupsOfThree { whole: true }, Stage::Words(GPT4O_WORDS)],
        ..DEFAULT
    },
    Family {
        names: &["tekken"],
        stages: &[Stage::Words(Words {
            letters: Letters::Cased { contraction: false, without_han: false },
            numbers: Numbers::UpTo(1),
            ..GPT4O_WORDS
        })],
        ignore_merges: true,
        add_bos: true,
        ..DEFAULT
    },
    Family {
        names: &["youtu"],
        stages: &[
            runs(Set::ranges(&[('가', '힣'), ('ㄱ', 'ㆎ')])),
            runs(Set::ranges(&[
                ('！', '！'),
                ('…', '…'),
                ('“', '”'),
                ('‘', '’'),
                ('—', '—'),
                ('：', '；'),
                ('，', '，'),
                ('、', '\u{303f}'),
                ('\u{fe30}', '\u{fe4f}'),
            ])),
            runs(Set::ranges(&[('ㄅ', 'ㄯ')])),
            CJK,
            Stage::Words(Words { numbers: Numbers::UpTo(1), ..GPT4O_WORDS }),
        ],
        ignore_merges: true,
        ..DEFAULT
    },
    Family {
        names: &["kimi-k2"],
        stages: &[Stage::Words(Words {
            letters: Letters::Cased { contraction: true, without_han: true },
            tail: &['\r', '\n'],
            ..GPT4O_WORDS
        })],
        ..DEFAULT
    },
    Family {
        names: &["deepseek-llm"],
        stages: &[
            up_to(1, Set::ranges(NEWLINES)),
            led_runs(SPACE, DEEPSEEK_LETTERS),
            led_runs(
                SPACE,
                Set::ranges(&[
                    ('!', '/'),
                    (':', '~'),
                    ('！', '／'),
                    ('：', '～'),
                    ('‘', '‟'),
                    ('\u{3000}', '。'),
                ]),
            ),
            Stage::TrailingSpace,
            DEEPSEEK_CJK,
            runs(NUMBER),
        ],
        ..DEFAULT
    },
    Family {
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
    Family {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        stages: &[up_to(3, NUMBER), CJK, Stage::Words(DEEPSEEK3_WORDS)],
        ..DEFAULT
    },
    Family {
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
    Family {
        names: &["afmoe"],
        stages: &[
            Stage::GroupsOfThree { whole: false },
            runs(Set::ranges(&[
                ('一', '\u{9fff}'),
                ('㐀', '\u{4dbf}'),
                ('豈', '\u{faff}'),
                ('\u{3040}', '\u{30ff}'),
                ('･', 'ﾟ'),
                ('⼀', '\u{2fdf}'),
                ('เ', '\u{e7f}'),
                ('\u{e80}', '\u{eff}'),
                ('ក', '\u{17ff}'),
                ('က', '\u{109f}'),
                ('ꩠ', 'ꩿ'),
                ('ꧠ', '\u{a9ff}'),
                ('가', '\u{d7af}'),
                ('ᄀ', 'ᇿ'),
            ])),
            Stage::Words(DEEPSEEK3_WORDS),
        ],
        ..DEFAULT
    },
    Family {
        names: &["falcon"],
        stages: &[
            runs(Set::of(Class::PUNCTUATION).and(&[
                ('$', '$'),
                ('+', '+'),
                ('<', '>'),
                ('^', '^'),
                ('~', '~'),
                ('|', '|'),
                ('`', '`'),
            ])),
            GPT2,
            ASCII_TRIPLE,
        ],
        ..DEFAULT
    },
    Family {
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
    Family { names: &["poro-chat", "bloom", "gpt3-finnish"], stages: &[BLOOM], ..DEFAULT },
    Family { names: &["viking"], stages: &[BLOOM, up_to(1, NUMBER)], ..DEFAULT },
    Family {
        names: &["superbpe"],
        stages: &[runs(NUMBER), Stage::GroupsOfThree { whole: false }],
        ..DEFAULT
    },
    Family {
        names: &["chameleon"],
        stages: &[
            Stage::Literals(&["\t", "\n", "    ", "  "]),
            up_to(1, NUMBER),
            up_to(
                1,
                Set::of(Class::PUNCTUATION)
                    .and(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
            ),
            GPT2,
        ],
        add_bos: true,
        ..DEFAULT
    },
    Family {
        names: &["gemma4", "granite-embed-multi-311m"],
        stages: &[Stage::Lines],
        add_bos: true,
        alphabet: Alphabet::SpaceMark,
        ..DEFAULT
    },
    Family {
        names: &["sarvam-moe"],
        stages: &[Stage::Lines],
        alphabet: Alphabet::SpaceMark,
        ..DEFAULT
    },
    Family {
        names: &["whitespace"],
        stages: &[runs(Set::of(Class::SPACE).negated())],
        alphabet: Alphabet::Plain,
        ..DEFAULT
    },
];
