//! A compiled template whose instructions report what they build.
//!
//! One instruction can double a text, and forty of them fill any memory; loops in
//! loops do not come to an end. So the compiled instructions are copied with calls
//! put in between that tell [`limits`] of each round and hand it each new value. The
//! calls also give an error where Python does and the engine does not: iterating
//! over none.

use std::collections::BTreeMap;

use minijinja::machinery::{self, CodeGenerator, Instruction, Instructions, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use self_cell::self_cell;

use super::blocks::Rewriter;
use super::{limits, operators};

const NAME: &str = "chat_template";
/// The longest templates in use have some 20 000 bytes.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Tokens between `{{` and `}}` or `{%` and `%}`; expressions nest at most as deep.
const MAX_TAG_TOKENS: usize = 2000;
/// `elif`s of a template, which nest as well.
const MAX_ELIFS: usize = 256;
/// What the engine may compute while it compiles: elements of repeated constants.
const MAX_CONSTANT: u64 = 1 << 24;

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
        let source = check_source(&source, &syntax)?;
        Program::try_new(Owner { source, environment }, |owner| {
            let tree = machinery::parse(&owner.source, NAME, syntax)?;
            let mut generator = CodeGenerator::new(NAME, &owner.source);
            generator.compile_stmt(&tree);
            let (instructions, _) = generator.finish();
            Ok(watched(&instructions, &owner.source))
        })
    }

    /// Runs the template.
    pub(super) fn render(&self, context: Value) -> Result<String, Error> {
        let no_blocks = BTreeMap::new();
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

/// Refuses sources on which the compiler itself would use too much stack or memory.
///
/// Gives back the source with its blocks rewritten.
fn check_source(source: &str, syntax: &SyntaxConfig) -> Result<String, Error> {
    let mut blocks = Rewriter::new(source);
    let too_large = |what: String| Err(Error::new(ErrorKind::SyntaxError, what));
    if source.len() > MAX_SOURCE_BYTES {
        let n = source.len();
        return too_large(format!("{n} bytes, more than the {MAX_SOURCE_BYTES} that are read"));
    }
    let mut n_elifs = 0;
    let mut tag = Tag::default();
    for token in machinery::tokenize(source, false, syntax.clone()) {
        let (token, span) = token?;
        blocks.token(&token, span, tag.is_block && tag.n_tokens == 1);
        match token {
            Token::VariableStart => tag = Tag::default(),
            Token::BlockStart => tag = Tag { is_block: true, ..Tag::default() },
            Token::Ident("elif") => n_elifs += 1,
            Token::Mul => tag.multiplies = true,
            Token::Int(value) => tag.factor = tag.factor.saturating_mul(value.max(1)),
            Token::Str(text) => tag.n_bytes += text.len() as u64,
            Token::String(text) => tag.n_bytes += text.len() as u64,
            _ => {}
        }
        tag.n_tokens += 1;
        let line = span.start_line;
        if tag.n_tokens > MAX_TAG_TOKENS {
            return too_large(format!("line {line}: more than {MAX_TAG_TOKENS} tokens in one tag"));
        }
        if n_elifs > MAX_ELIFS {
            return too_large(format!("line {line}: more than {MAX_ELIFS} elif"));
        }
        let size = (tag.n_bytes + tag.n_tokens as u64).saturating_mul(tag.factor);
        if tag.multiplies && size > MAX_CONSTANT {
            return too_large(format!("line {line}: a product of constants is too large"));
        }
    }
    Ok(blocks.finish())
}

/// What is known of the tag that is being read.
struct Tag {
    /// Between `{%` and `%}`.
    is_block: bool,
    n_tokens: usize,
    n_bytes: u64,
    /// The product of its integers.
    factor: u64,
    multiplies: bool,
}

impl Default for Tag {
    fn default() -> Self {
        Tag { is_block: false, n_tokens: 0, n_bytes: 0, factor: 1, multiplies: false }
    }
}

/// A copy of `instructions` with the calls put in.
fn watched<'s>(instructions: &Instructions<'s>, source: &'s str) -> Instructions<'s> {
    let all = || (0..).map_while(|i| instructions.get(i));
    // Where each instruction, with what is put before it, begins in the copy.
    let mut starts = vec![0u32];
    let mut begin = 0;
    for instruction in all() {
        begin += expand(instruction).len() as u32;
        starts.push(begin);
    }
    let mut copy = Instructions::new(NAME, source);
    for (i, instruction) in (0..).zip(all()) {
        for mut part in expand(instruction) {
            match &mut part {
                Instruction::Iterate(target)
                | Instruction::Jump(target)
                | Instruction::JumpIfFalse(target)
                | Instruction::JumpIfFalseOrPop(target)
                | Instruction::JumpIfTrueOrPop(target)
                | Instruction::BuildMacro(_, target, _) => *target = starts[*target as usize],
                _ => {}
            }
            match instructions.get_line(i) {
                Some(line) => copy.add_with_line(part, u16::try_from(line).unwrap_or(u16::MAX)),
                None => copy.add(part),
            };
        }
    }
    copy
}

/// What an instruction becomes.
fn expand<'s>(instruction: &Instruction<'s>) -> Vec<Instruction<'s>> {
    let call = |name| Instruction::CallFunction(name, Some(1));
    let same = instruction.clone();
    match instruction {
        Instruction::Add
        | Instruction::BuildMap(_)
        | Instruction::BuildList(_)
        | Instruction::BuildTuple(_)
        | Instruction::ApplyFilter(..)
        | Instruction::CallMethod(..)
        | Instruction::CallFunction(..)
        | Instruction::CallObject(_)
        | Instruction::EndCapture => vec![same, call(limits::BUILT)],
        Instruction::Mul => vec![Instruction::CallFunction(limits::MULTIPLY, Some(2))],
        Instruction::Rem => {
            vec![Instruction::CallFunction(operators::REMAINDER, Some(2)), call(limits::BUILT)]
        }
        Instruction::StringConcat => {
            vec![Instruction::CallFunction(operators::CONCAT, Some(2)), call(limits::BUILT)]
        }
        Instruction::Slice => {
            vec![Instruction::CallFunction(operators::SLICE, Some(4)), call(limits::BUILT)]
        }
        Instruction::SetAttr(_) => {
            vec![Instruction::Swap, call(limits::KEPT), Instruction::Swap, same]
        }
        Instruction::PushLoop(_) => vec![call(limits::ITERABLE), same],
        // In every loop and around every decision: a look at the clock.
        Instruction::StoreLocal(_) | Instruction::JumpIfFalse(_) => {
            vec![Instruction::CallFunction(limits::TICK, Some(0)), Instruction::DiscardTop, same]
        }
        // Written through the formatter, which counts.
        Instruction::EmitRaw(text) => {
            vec![Instruction::LoadConst(Value::from(*text)), Instruction::Emit]
        }
        _ => vec![same],
    }
}
