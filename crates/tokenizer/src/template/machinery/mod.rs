//! A compiled template whose instructions report what they do.
//!
//! One instruction can double a text, and forty of them fill any memory; loops in
//! loops do not come to an end; comparing two long texts takes as long as a thousand
//! rounds. So the compiled instructions are copied with calls put in between ([`watch`])
//! that tell [`limits`](super::limits) of each round, each search and each new value.
//!
//! This folder alone touches `minijinja::machinery`, which may change with any release.

mod blocks;
mod source;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use minijinja::machinery::{self, CodeGenerator, Instruction, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error};
use self_cell::self_cell;

use super::limits;

const NAME: &str = "chat_template";

struct Owner {
    source: String,
    environment: Environment<'static>,
}

type Compiled<'source> = Instructions<'source>;

self_cell!(
    /// A template with the source its instructions borrow from.
    pub(super) struct Program {
        owner: Owner,
        #[covariant]
        dependent: Compiled,
    }
);

impl Program {
    /// Compiles `source`, to run in `environment`.
    pub(super) fn compile(source: &str, environment: Environment<'static>) -> Result<Self, Error> {
        // As jinja2 reads them.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        let source = source::check(&source, &syntax)?;
        Program::try_new(Owner { source, environment }, |owner| {
            let tree = machinery::parse(&owner.source, NAME, syntax)?;
            let mut generator = CodeGenerator::new(NAME, &owner.source);
            generator.compile_stmt(&tree);
            let (instructions, _) = generator.finish();
            Ok(watch::watched(&instructions, &owner.source))
        })
    }

    /// Whether it looks up a variable of this name somewhere.
    pub(super) fn reads(&self, name: &str) -> bool {
        let mut instructions = (0..).map_while(|i| self.borrow_dependent().get(i));
        instructions.any(|next| matches!(next, Instruction::Lookup(found) if *found == name))
    }

    /// Runs the template for at most `time`. `variables` are what it sees.
    pub(super) fn render<'v>(
        &self,
        variables: impl Iterator<Item = (&'v str, Value)>,
        time: Duration,
    ) -> Result<String, Error> {
        let no_blocks = BTreeMap::new();
        let context = Value::from_pairs(variables.chain([limits::time(time)]));
        self.with_dependent(|owner, instructions| {
            let mut text = String::new();
            let mut out = machinery::make_string_output(&mut text);
            machinery::eval(
                &owner.environment,
                instructions,
                context,
                &no_blocks,
                &mut out,
                AutoEscape::None,
            )?;
            drop(out);
            Ok(text)
        })
    }
}
