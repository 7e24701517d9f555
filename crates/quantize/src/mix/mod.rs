//! The mixes: which type each tensor of a model gets.
//!
//! A mix is a type for most matrices, and better ones for those that matter most:
//! the output, the values of attention, the last matrix of the feed-forward part.
//! The choices are llama.cpp's, so that a name means the same file everywhere; they
//! are made in [`choice`].

mod choice;

use std::str::FromStr;

use realm_gguf::TensorType;

pub(crate) use choice::{Model, choose, needs_imatrix};

use crate::Error;

/// A mix of tensor types, as the names of model files say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, missing_docs, reason = "the variants are the mixes' own names")]
pub enum Mix {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q1_0,
    Q2_0,
    Q2_K,
    Q2_K_S,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ2_M,
    IQ3_XXS,
    IQ3_XS,
    IQ3_S,
    IQ3_M,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4_MOE,
}

/// One row per mix: name, `general.file_type`, the type of most matrices.
///
/// Source: `llama_ftype` in llama.cpp `include/llama.h`.
const TABLE: &[(Mix, &str, u32, TensorType)] = &[
    (Mix::F32, "F32", 0, TensorType::F32),
    (Mix::F16, "F16", 1, TensorType::F16),
    (Mix::BF16, "BF16", 32, TensorType::BF16),
    (Mix::Q4_0, "Q4_0", 2, TensorType::Q4_0),
    (Mix::Q4_1, "Q4_1", 3, TensorType::Q4_1),
    (Mix::Q5_0, "Q5_0", 8, TensorType::Q5_0),
    (Mix::Q5_1, "Q5_1", 9, TensorType::Q5_1),
    (Mix::Q8_0, "Q8_0", 7, TensorType::Q8_0),
    (Mix::Q1_0, "Q1_0", 40, TensorType::Q1_0),
    (Mix::Q2_0, "Q2_0", 41, TensorType::Q2_0),
    (Mix::Q2_K, "Q2_K", 10, TensorType::Q2_K),
    (Mix::Q2_K_S, "Q2_K_S", 21, TensorType::Q2_K),
    (Mix::Q3_K_S, "Q3_K_S", 11, TensorType::Q3_K),
    (Mix::Q3_K_M, "Q3_K_M", 12, TensorType::Q3_K),
    (Mix::Q3_K_L, "Q3_K_L", 13, TensorType::Q3_K),
    (Mix::Q4_K_S, "Q4_K_S", 14, TensorType::Q4_K),
    (Mix::Q4_K_M, "Q4_K_M", 15, TensorType::Q4_K),
    (Mix::Q5_K_S, "Q5_K_S", 16, TensorType::Q5_K),
    (Mix::Q5_K_M, "Q5_K_M", 17, TensorType::Q5_K),
    (Mix::Q6_K, "Q6_K", 18, TensorType::Q6_K),
    (Mix::IQ1_S, "IQ1_S", 24, TensorType::IQ1_S),
    (Mix::IQ1_M, "IQ1_M", 31, TensorType::IQ1_M),
    (Mix::IQ2_XXS, "IQ2_XXS", 19, TensorType::IQ2_XXS),
    (Mix::IQ2_XS, "IQ2_XS", 20, TensorType::IQ2_XS),
    (Mix::IQ2_S, "IQ2_S", 28, TensorType::IQ2_XS),
    (Mix::IQ2_M, "IQ2_M", 29, TensorType::IQ2_S),
    (Mix::IQ3_XXS, "IQ3_XXS", 23, TensorType::IQ3_XXS),
    (Mix::IQ3_XS, "IQ3_XS", 22, TensorType::IQ3_S),
    (Mix::IQ3_S, "IQ3_S", 26, TensorType::IQ3_S),
    (Mix::IQ3_M, "IQ3_M", 27, TensorType::IQ3_S),
    (Mix::IQ4_NL, "IQ4_NL", 25, TensorType::IQ4_NL),
    (Mix::IQ4_XS, "IQ4_XS", 30, TensorType::IQ4_XS),
    (Mix::TQ1_0, "TQ1_0", 36, TensorType::TQ1_0),
    (Mix::TQ2_0, "TQ2_0", 37, TensorType::TQ2_0),
    (Mix::MXFP4_MOE, "MXFP4_MOE", 38, TensorType::MXFP4),
];

impl Mix {
    /// Every mix.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Mix, &'static str, u32, TensorType) {
        TABLE.iter().find(|row| row.0 == self).expect("every variant has a row in TABLE")
    }

    /// The name, such as `Q4_K_M`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The number of `general.file_type`.
    pub fn file_type(self) -> u32 {
        self.row().2
    }

    /// The type of most matrices.
    pub fn base(self) -> TensorType {
        self.row().3
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mix {
    type Err = Error;

    /// From a name in any case; `Q3_K`, `Q4_K` and `Q5_K` are their `_M` forms.
    fn from_str(name: &str) -> Result<Self, Error> {
        let upper = name.to_ascii_uppercase();
        let wanted = match &*upper {
            "Q3_K" | "Q4_K" | "Q5_K" => format!("{upper}_M"),
            _ => upper,
        };
        let found = Self::all().find(|mix| mix.name() == wanted);
        found.ok_or_else(|| Error::UnknownMix { name: name.into() })
    }
}
