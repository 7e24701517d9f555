use realm_ir::*;
use super::{Dispatch, Planner, refuse};
impl Planner<'_> {
    pub(super) fn embed(&mut self, _: &Embed) -> Result<Vec<Dispatch>> { Err(refuse("x".into())) }
    pub(super) fn linear(&mut self, _: &Linear) -> Result<Vec<Dispatch>> { Err(refuse("x".into())) }
}
