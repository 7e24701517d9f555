//! Blocks of a template that is alone.
//!
//! A `block` is what another template can replace, and `generation` marks what a model is trained
//! to write. Where there is no other template and no training, both are no more than a `with`.
//! A template that asks for its blocks by name, as in `self.title()`, gets macros instead.

use minijinja::machinery::{Span, Token};

/// What the macro of a block is called, before the block's name.
const PREFIX: &str = "block_";

/// Rewrites a source while its tokens are read.
pub(super) struct Rewriter<'s> {
    source: &'s str,
    rewritten: String,
    /// Bytes of the source that were copied, or replaced.
    n_copied: usize,
    /// Whether the template asks for blocks by their names.
    has_names: bool,
    /// Names of the blocks that have begun.
    open: Vec<&'s str>,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Anywhere,
    /// Behind `block`, which begins at a byte.
    Block(usize),
    /// Behind a point.
    Attribute,
    /// Behind `self`, which begins at a byte.
    Name(usize),
    /// In a tag that was replaced.
    Replaced,
}

impl<'s> Rewriter<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Rewriter {
            source,
            rewritten: String::with_capacity(source.len()),
            n_copied: 0,
            has_names: source.contains("self."),
            open: Vec::new(),
            place: Place::Anywhere,
        }
    }

    /// Takes a token; `begins_tag` says whether it is the first one between `{%` and `%}`.
    pub(super) fn token(&mut self, token: &Token<'s>, span: Span, begins_tag: bool) {
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        match (token, self.place) {
            (Token::Ident("block"), _) if begins_tag => self.place = Place::Block(start),
            (Token::Ident(name), Place::Block(start)) => self.begin(start, name),
            (Token::Ident("endblock"), _) if begins_tag => self.end(start),
            (Token::Ident("generation"), _) if begins_tag => self.replace_tag(start, "with"),
            (Token::Ident("endgeneration"), _) if begins_tag => self.replace_tag(start, "endwith"),
            (Token::BlockEnd, Place::Replaced) => {
                self.n_copied = start;
                self.place = Place::Anywhere;
            }
            (_, Place::Replaced) => {}
            (Token::Ident("self"), Place::Anywhere) if self.has_names => {
                self.place = Place::Name(start)
            }
            (Token::Dot, Place::Name(start)) => {
                self.replace(start, PREFIX);
                self.n_copied = end;
                self.place = Place::Anywhere;
            }
            (Token::Dot, _) => self.place = Place::Attribute,
            _ => self.place = Place::Anywhere,
        }
    }

    /// The source with everything replaced.
    pub(super) fn finish(mut self) -> String {
        self.rewritten += &self.source[self.n_copied..];
        self.rewritten
    }

    fn begin(&mut self, start: usize, name: &'s str) {
        if self.has_names {
            self.open.push(name);
            self.replace_tag(start, &format!("macro {PREFIX}{name}()"));
        } else {
            self.replace_tag(start, "with");
        }
    }

    fn end(&mut self, start: usize) {
        match self.open.pop() {
            // The condition is there for the white space: what is behind the tag is behind a tag.
            Some(name) => self.replace_tag(
                start,
                &format!("endmacro %}}{{{{ {PREFIX}{name}() }}}}{{% if true %}}{{% endif "),
            ),
            None => self.replace_tag(start, "endwith"),
        }
    }

    fn replace_tag(&mut self, start: usize, text: &str) {
        self.replace(start, text);
        self.place = Place::Replaced;
    }

    fn replace(&mut self, start: usize, text: &str) {
        self.rewritten += &self.source[self.n_copied..start];
        self.rewritten += text;
    }
}
