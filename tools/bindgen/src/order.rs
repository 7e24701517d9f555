//! Puts a module's functions in an order in which they compress well.
//!
//! What compresses a download finds repetitions among the last 32 KiB alone. Functions
//! that have much in common, as instances of one generic function do, are put side by
//! side. Nothing else changes, but the numbers that they are called by.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use wasm_encoder::reencode::{self, Reencode, RoundtripReencoder};
use wasm_encoder::{CodeSection, FunctionSection, Module};
use wasmparser::{CodeSectionReader, FunctionSectionReader, Parser, Payload};

/// How many bytes have to be the same to count as something in common.
const RUN_BYTES: usize = 8;
/// Runs in more functions than this say little about any two.
const MOST_FUNCTIONS: usize = 60;
/// Functions before the next that it should have something in common with.
const LOOK_BACK: usize = 3;
/// What is added to the length of functions, so that tiny ones are not always the next.
const LENGTH_BIAS: usize = 20;

/// The same module with its functions in another order.
pub fn reorder(module: &[u8]) -> Result<Vec<u8>> {
    let (n_imported, bodies) = functions(module)?;
    let order = order(&bodies);
    let mut places = vec![0; order.len()];
    for (place, &i) in order.iter().enumerate() {
        places[i] = n_imported + place as u32;
    }
    let mut reordered = Module::new();
    Reorder { n_imported, order, places }
        .parse_core_module(&mut reordered, Parser::new(0), module)
        .map_err(|error| anyhow!("the module cannot be written anew: {error}"))?;
    Ok(reordered.finish())
}

/// How many functions are imported, and the code of the others.
fn functions(module: &[u8]) -> Result<(u32, Vec<&[u8]>)> {
    let (mut n_imported, mut bodies) = (0, Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    n_imported += u32::from(matches!(import?.ty, wasmparser::TypeRef::Func(_)));
                }
            }
            Payload::CodeSectionEntry(body) => bodies.push(&module[body.range()]),
            _ => {}
        }
    }
    Ok((n_imported, bodies))
}

/// Numbers of functions: each is followed by the one that has most in common with it and those
/// before it, or where there is none, by the first one left.
fn order(bodies: &[&[u8]]) -> Vec<usize> {
    let mut functions_of: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (i, body) in bodies.iter().enumerate() {
        for run in body.windows(RUN_BYTES) {
            let functions = functions_of.entry(run).or_default();
            if functions.last() != Some(&i) {
                functions.push(i);
            }
        }
    }
    functions_of.retain(|_, functions| (2..=MOST_FUNCTIONS).contains(&functions.len()));
    let mut runs = vec![Vec::new(); bodies.len()];
    for (run, functions) in &functions_of {
        functions.iter().for_each(|&i| runs[i].push(*run));
    }
    let mut order: Vec<usize> = Vec::with_capacity(bodies.len());
    let mut is_placed = vec![false; bodies.len()];
    let mut first_left = 0;
    while order.len() < bodies.len() {
        let mut n_common: HashMap<usize, usize> = HashMap::new();
        for &before in order.iter().rev().take(LOOK_BACK) {
            for &i in runs[before].iter().flat_map(|run| &functions_of[run]) {
                if !is_placed[i] {
                    *n_common.entry(i).or_default() += 1;
                }
            }
        }
        let share = |i: usize, n: usize| n * 1_000_000 / (runs[i].len() + LENGTH_BIAS);
        let next = n_common.into_iter().max_by_key(|&(i, n)| (share(i, n), usize::MAX - i));
        let next = next.map_or_else(
            || {
                while is_placed[first_left] {
                    first_left += 1;
                }
                first_left
            },
            |(i, _)| i,
        );
        is_placed[next] = true;
        order.push(next);
    }
    order
}

struct Reorder {
    n_imported: u32,
    /// The functions that are not imported, in their new order.
    order: Vec<usize>,
    /// Their new numbers by their old places.
    places: Vec<u32>,
}

impl Reencode for Reorder {
    type Error = <RoundtripReencoder as Reencode>::Error;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Self::Error>> {
        let place = function.checked_sub(self.n_imported);
        Ok(place.map_or(function, |place| self.places[place as usize]))
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let types = section.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.order.iter().for_each(|&i| {
            functions.function(types[i]);
        });
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let bodies = section.into_iter().collect::<Result<Vec<_>, _>>()?;
        for i in self.order.clone() {
            self.parse_function_body(code, bodies[i].clone())?;
        }
        Ok(())
    }
}
