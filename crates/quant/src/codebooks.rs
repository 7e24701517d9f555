//! The codebooks of the IQ formats, for whoever writes their blocks.
//!
//! The numbers are those of the formats' own descriptions: magnitudes, and for IQ1
//! values with 16 added.

pub use crate::iq1_s::grid::GRID as IQ1;
pub use crate::iq2_s::grid::GRID as IQ2_S;
pub use crate::iq2_xs::grid::GRID as IQ2_XS;
pub use crate::iq2_xxs::grid::GRID as IQ2_XXS;
pub use crate::iq3_s::grid::GRID as IQ3_S;
pub use crate::iq3_xxs::grid::GRID as IQ3_XXS;
