//! Stop strings over streamed text.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Most bytes of all stop strings of a request: they take some 24 times as much to look for.
const MAX_STOP_BYTES: usize = 64 << 10;

/// The strings that end an answer, made ready to be looked for. Making them takes time and memory
/// in proportion to their length, a copy takes none.
#[derive(Clone, Debug)]
pub struct StopStrings(Arc<Automaton>);

impl StopStrings {
    /// Stops at any of `stops`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when one is empty, or they have more than 64 KiB together.
    pub fn new(stops: &[String]) -> Result<Self> {
        if let Some(i) = stops.iter().position(String::is_empty) {
            return Err(Error::invalid(format!("stop[{i}] is empty")));
        }
        let n_bytes = stops.iter().fold(0usize, |sum, stop| sum.saturating_add(stop.len()));
        if n_bytes > MAX_STOP_BYTES {
            return Err(Error::invalid(format!(
                "stop has {n_bytes} bytes in {} strings, expected at most {MAX_STOP_BYTES} together",
                stops.len()
            )));
        }
        Ok(StopStrings(Arc::new(Automaton::new(stops))))
    }
}

impl Default for StopStrings {
    /// Stops at nothing.
    fn default() -> Self {
        StopStrings(Arc::new(Automaton::new(&[])))
    }
}

/// All beginnings of stop strings, as a tree, and where to go on from each when the next byte
/// does not belong to it (Aho and Corasick, "Efficient string matching", 1975). A byte of text
/// costs the same however many stop strings there are and however long they are, on average over
/// the text.
#[derive(Debug)]
struct Automaton {
    /// By length, so that those that extend the same one lie together. The first is empty.
    nodes: Vec<Node>,
}

/// The beginning of a stop string.
#[derive(Debug)]
struct Node {
    /// Its last byte.
    byte: u8,
    /// Those that are longer by one byte, by that byte.
    longer: Range<u32>,
    /// The longest other beginning that it ends with.
    fallback: u32,
    /// Its bytes.
    n_bytes: u32,
    /// Bytes of the longest stop string that it ends with; 0 for none.
    n_stop_bytes: u32,
}

impl Automaton {
    fn new(stops: &[String]) -> Self {
        let mut stops: Vec<&[u8]> = stops.iter().map(String::as_bytes).collect();
        stops.sort_unstable();
        stops.dedup();
        let empty = Node { byte: 0, longer: 0..0, fallback: 0, n_bytes: 0, n_stop_bytes: 0 };
        let mut automaton = Automaton { nodes: vec![empty] };
        // The stop strings that begin with each node.
        let mut beginning = vec![Range { start: 0, end: stops.len() }];
        let mut at = 0;
        while at < automaton.nodes.len() {
            let Node { fallback, n_bytes, .. } = automaton.nodes[at];
            let mut range = beginning[at].clone();
            let mut n_stop_bytes = automaton.nodes[fallback as usize].n_stop_bytes;
            let depth = n_bytes as usize;
            // One that goes no further is the first of them.
            if stops.get(range.start).is_some_and(|stop| stop.len() == depth) && !range.is_empty() {
                n_stop_bytes = n_bytes;
                range.start += 1;
            }
            let first = automaton.nodes.len() as u32;
            for same in stops[range.clone()].chunk_by(|a, b| a[depth] == b[depth]) {
                let byte = same[0][depth];
                let fallback = if at == 0 { 0 } else { automaton.step(fallback, byte) };
                let (n_bytes, longer) = (n_bytes + 1, 0..0);
                automaton.nodes.push(Node { byte, longer, fallback, n_bytes, n_stop_bytes: 0 });
                beginning.push(range.start..range.start + same.len());
                range.start += same.len();
            }
            let end = automaton.nodes.len() as u32;
            let node = &mut automaton.nodes[at];
            (node.longer, node.n_stop_bytes) = (first..end, n_stop_bytes);
            at += 1;
        }
        automaton
    }

    /// The longest beginning that a text ends with, which ended with `at` before `byte`.
    fn step(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            let node = &self.nodes[at as usize];
            let longer = &self.nodes[node.longer.start as usize..node.longer.end as usize];
            match longer.binary_search_by_key(&byte, |node| node.byte) {
                Ok(place) => return node.longer.start + place as u32,
                Err(_) if at == 0 => return 0,
                Err(_) => at = node.fallback,
            }
        }
    }
}

/// What became of a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// No stop string yet; this much can no longer become part of one.
    Not(String),
    /// A stop string is complete: the text before it, and the string.
    By(String, String),
}

/// Looks for stop strings in text that comes in pieces, and holds back what may
/// be the beginning of one. What is found does not depend on how the text was
/// cut: the stop string that is complete first wins, the longest of those that
/// end at the same place.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: StopStrings,
    /// The node that the text ends with.
    at: u32,
    /// The text of that node.
    held: String,
}

impl StopMatcher {
    pub(crate) fn new(stops: StopStrings) -> Self {
        StopMatcher { stops, at: 0, held: String::new() }
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> Stopped {
        let automaton = &self.stops.0;
        let n_held = self.held.len();
        self.held.push_str(text);
        for (i, byte) in text.bytes().enumerate() {
            self.at = automaton.step(self.at, byte);
            let n_stop_bytes = automaton.nodes[self.at as usize].n_stop_bytes as usize;
            if n_stop_bytes > 0 {
                self.at = 0;
                let mut before = std::mem::take(&mut self.held);
                before.truncate(n_held + i + 1);
                let stop = before.split_off(before.len() - n_stop_bytes);
                return Stopped::By(before, stop);
            }
        }
        Stopped::Not(self.release())
    }

    /// Takes the next piece of text, in which a stop string that is complete ends nothing.
    pub(crate) fn pass_over(&mut self, text: &str) -> String {
        self.held.push_str(text);
        self.at = text.bytes().fold(self.at, |at, byte| self.stops.0.step(at, byte));
        self.release()
    }

    /// What can no longer become part of a stop string.
    fn release(&mut self) -> String {
        let n_beginning = self.stops.0.nodes[self.at as usize].n_bytes as usize;
        let n_safe = self.held.len() - n_beginning;
        self.held.drain(..n_safe).collect()
    }

    /// The text that is held back, when no more will come.
    pub(crate) fn finish(&mut self) -> String {
        self.at = 0;
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use realm_ir::Coded;

    use super::*;
    use crate::code::ErrorCode;

    fn matcher(stops: &[&str]) -> StopMatcher {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        StopMatcher::new(StopStrings::new(&stops).unwrap())
    }

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut matcher = matcher(stops);
        let mut text = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                Stopped::Not(safe) => text.push_str(&safe),
                Stopped::By(before, stop) => return (text + &before, Some(stop)),
            }
        }
        (text + &matcher.finish(), None)
    }

    #[test]
    fn what_may_become_a_stop_string_is_held_back_until_it_cannot() {
        let mut matcher = matcher(&["END"]);
        assert_eq!(matcher.push("one E"), Stopped::Not("one ".into()));
        assert_eq!(matcher.push("N"), Stopped::Not(String::new()));
        assert_eq!(matcher.push("emy"), Stopped::Not("ENemy".into()));
        assert_eq!(matcher.push("E"), Stopped::Not(String::new()));
        assert_eq!(matcher.finish(), "E");
    }

    #[test]
    fn a_stop_string_that_is_passed_over_ends_nothing_and_may_be_the_beginning_of_one_that_does() {
        let mut matcher = matcher(&["END", "DING"]);
        assert_eq!(matcher.pass_over("the END"), "the ");
        assert_eq!(matcher.push("IN"), Stopped::Not("EN".into()), "the D may begin the other one");
        assert_eq!(matcher.push("G"), Stopped::By(String::new(), "DING".into()));
    }

    #[test]
    fn the_first_complete_stop_string_wins_and_the_longest_of_equals() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]), ("xa".into(), Some("bc".into())));
        assert_eq!(run(&["c", "abc"], &["xabc"]), ("x".into(), Some("abc".into())));
    }

    #[test]
    fn a_stop_string_may_begin_in_a_false_start_of_itself() {
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some("aab".into())));
    }

    #[test]
    fn a_beginning_goes_on_as_the_longest_other_one_that_it_ends_with() {
        let stops = ["abab!", "bab?", "b."];
        assert_eq!(run(&stops, &["a", "bab", "?"]), ("a".into(), Some("bab?".into())));
        assert_eq!(run(&stops, &["abab."]), ("aba".into(), Some("b.".into())));
        assert_eq!(run(&stops, &["ababab!"]), ("ab".into(), Some("abab!".into())));
    }

    #[test]
    fn no_more_is_kept_of_stop_strings_than_their_bytes() {
        let stops: Vec<String> = (0..10_000).map(|i| format!("{i:06}")).collect();
        let automaton = Automaton::new(&stops);
        // The digits in front are those of all.
        assert_eq!(automaton.nodes.len(), 1 + 2 + 10 + 100 + 1_000 + 10_000);
    }

    #[test]
    fn stop_strings_of_more_than_64_kib_are_refused_and_so_is_an_empty_one() {
        let refused = |stops: &[String]| {
            let error = StopStrings::new(stops).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument);
            error.to_string()
        };
        StopStrings::new(&["a".repeat(64 << 10)]).unwrap();
        let message = refused(&["a".repeat(64 << 10), "b".into()]);
        assert!(message.contains("65537 bytes in 2 strings"), "{message}");
        assert!(refused(&["a".into(), String::new()]).contains("stop[1] is empty"));
    }

    /// First end of any stop string in the whole text, by looking at every prefix.
    fn naive(stops: &[&str], text: &str) -> (String, Option<String>) {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let ending = stops.iter().filter(|stop| text[..end].ends_with(**stop));
            if let Some(stop) = ending.max_by_key(|stop| stop.len()) {
                return (text[..end - stop.len()].into(), Some(stop.to_string()));
            }
        }
        (text.into(), None)
    }

    proptest! {
        #[test]
        fn the_answer_does_not_depend_on_how_the_text_is_cut(
            pieces in proptest::collection::vec("[aé€🐶]{0,4}", 0..16),
            stops in proptest::collection::vec("[aé€🐶]{1,6}", 0..6),
        ) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stops, &pieces), naive(&stops, &pieces.concat()));
        }
    }
}
